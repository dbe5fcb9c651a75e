package versions

import (
	"fmt"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

// startAgain is for how long this process runs before it gives its place once more to a version
// that was chosen and could not be started instead of it: each try is an end of all that goes on
// here. It doubles with each try that comes to nothing, up to a day.
const (
	startAgain    = 10 * time.Minute
	maxStartAgain = 24 * time.Hour
)

// Again counts how often a place was given to a version that could not be started then.
type Again struct {
	Version string `json:"version"`
	Tries   int    `json:"tries"`
}

// pause is how long a process runs before it gives its place to a version once more.
func (a Again) pause(version string) time.Duration {
	pause := startAgain
	for tries := a.tried(version); tries > 0 && pause < maxStartAgain; tries-- {
		pause *= 2
	}
	return min(pause, maxStartAgain)
}

func (a Again) tried(version string) int {
	if a.Version != version {
		return 0
	}
	return a.Tries
}

// putOff is the version that was chosen, and the stage of that, where another one runs instead;
// empty: none is.
func (m *Manager) putOff() (version, stage string) {
	st, runs := &m.state, m.cfg.Start.Version
	if m.trial || m.restart || st.Installed == "" || st.Installed != m.cfg.Start.Installed {
		return "", ""
	}
	version, stage = st.named(st.Current), st.Stage
	if t := st.Trial; t != nil {
		version, stage = t.Version, t.Stage
	}
	if release.Compare(version, runs) == 0 {
		return "", ""
	}
	return version, stage
}

func (m *Manager) putOffWhy(version string) string {
	return fmt.Sprintf("it was chosen, and could not be started for a reason that may pass; the log says which. "+
		"It is tried again at the next start, or %v after this one", m.state.Again.pause(version))
}

// callOff takes back the choice of a version that could not be started yet, where the control
// plane does not want it any more. What a person has chosen stays.
func (m *Manager) callOff(o Offer) {
	t := m.state.Trial
	if m.trial || m.restart || t == nil || chosenByHand(t.Stage) || t.Stage == o.Stage && release.Compare(t.Version, o.Version) == 0 {
		return
	}
	st := m.state
	st.Trial, st.Again = nil, Again{}
	if err := m.store.write(st); err != nil {
		m.cfg.Log.Error("a version that is not wanted any more, and could not be started yet, stays chosen: that cannot be written", "version", t.Version, "err", err)
		return
	}
	m.cfg.Log.Info("a version that could not be started yet is not wanted any more", "version", t.Version, "stage", t.Stage)
	m.state = st
}

// retry gives the place of this process to what was put off, after a while and in order.
func (m *Manager) retry(version, stage string) (restart, waits bool) {
	say := func(why string) (restart, waits bool) {
		if m.wanted != nil || m.said.State == Current || m.said.State == Verified { // what has failed stays to be seen
			m.sayIn(version, stage, Verified, why)
		}
		return false, true
	}
	if time.Since(m.began) < m.state.Again.pause(version) {
		return say(m.putOffWhy(version))
	}
	if err := m.cfg.Ready(); err != nil {
		return say(fmt.Sprintf("waits until this agent works as it is: %v", err))
	}
	st := m.state
	st.Again = Again{version, st.Again.tried(version) + 1}
	if err := m.store.write(st); err != nil { // what is not counted would come at the same pace for ever
		return say(fmt.Sprintf("the choice cannot be written: %v", err))
	}
	m.state, m.restart = st, true
	return true, true
}

// started notes that the version that was tried again runs.
func (m *Manager) started() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Again.tried(m.cfg.Start.Version) == 0 {
		return
	}
	st := m.state
	st.Again = Again{}
	if err := m.store.write(st); err != nil {
		m.cfg.Log.Warn("that a version was started cannot be written", "version", m.cfg.Start.Version, "err", err)
		return
	}
	m.state = st
}
