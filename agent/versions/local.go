package versions

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

// Report is what is held here, for people.
type Report struct {
	Installed string    `json:"installed"`         // version of the package or bundle
	Running   string    `json:"running,omitempty"` // empty: the agent does not run
	Current   string    `json:"current"`           // what a start runs
	Previous  string    `json:"previous,omitempty"`
	Trial     *Trial    `json:"trial,omitempty"`
	Held      []Held    `json:"held"`
	Failed    []Failure `json:"failed,omitempty"`
	Status    *Status   `json:"status,omitempty"`
}

// Held is a version beside the installed one.
type Held struct {
	Version string `json:"version"`
	Fault   string `json:"fault,omitempty"` // why it would not be started
}

// Report lists what is held, beside an installed program of a version, which makes so many starts
// of a trial. Every version is verified, as its start would.
func (s *Store) Report(installedVersion string, attempts int) (Report, error) {
	st, err := s.State()
	if err != nil { // the installed program runs then
		return Report{Installed: installedVersion, Current: installedVersion}, err
	}
	if st.Installed != installedVersion { // the next start finds that too
		st = State{Installed: installedVersion, Current: installed, Failed: st.Failed}
	}
	r := Report{Installed: installedVersion, Current: s.starts(installedVersion, attempts), Previous: st.named(st.Previous), Trial: st.Trial, Failed: st.Failed, Held: []Held{}}
	list, err := s.List()
	for _, version := range list {
		h := Held{Version: version}
		if err := s.Check(version); errors.Is(err, fs.ErrNotExist) && !s.has(version) {
			continue // it was just removed
		} else if err != nil {
			h.Fault = err.Error()
		}
		r.Held = append(r.Held, h)
	}
	return r, err
}

// has says whether a version's directory is there, whatever stands in it.
func (s *Store) has(version string) bool {
	return s.within(func(root *os.Root) error {
		_, err := root.Stat(version)
		return err
	}) == nil
}

// starts is the version that a start of the installed program would run now. The launcher says it.
func (s *Store) starts(installedVersion string, attempts int) string {
	l := &Launcher{Store: NewStore(s.dir, s.keys, nil), Version: installedVersion, Attempts: attempts, Log: slog.New(slog.DiscardHandler), asked: true}
	if version := l.next(); version != installed {
		return version
	}
	return installedVersion
}

// Report lists what is held, and how far what is wanted is.
func (m *Manager) Report() (Report, error) {
	installedVersion := m.file.version(m.cfg.Start.Installed)
	r, err := m.store.Report(installedVersion, m.cfg.Attempts) // it reads every program, which the lock does not wait for
	said := m.Status()
	r.Running, r.Status = m.cfg.Start.Version, &said
	return r, err
}

// Upgrade takes a release that a person has brought to the site, as Send writes it, and has it
// take over. It gives the version.
func (m *Manager) Upgrade(in io.Reader) (version string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.busy(); err != nil {
		return "", err
	}
	r, file, err := m.receive(in)
	if busy := m.busy(); busy != nil { // since it began
		return "", errors.Join(busy, m.discard(file))
	}
	if err == nil && file != "" {
		err = m.store.place(r, file)
	}
	if err != nil {
		m.say(r.version, Failed, err.Error())
		return "", errors.Join(err, m.discard(file))
	}
	if release.Compare(r.version, m.cfg.Start.Version) == 0 {
		return "", conflict("version %s runs already", r.version)
	}
	if !m.take(r.version, handStage()) {
		return "", fmt.Errorf("version %s is held and could not be chosen: %s", r.version, m.said.Why)
	}
	nudge(m.wake)
	return r.version, nil
}

// taken says whether what runs here has to go because the control plane has taken its release
// back, or why it stays.
func (m *Manager) taken(withdrawn []string) (goes bool, stays *passedOver) {
	st := &m.state
	isGone := func(version string) bool { // a build may say v1.1.0 of itself
		return slices.ContainsFunc(withdrawn, func(gone string) bool { return release.Compare(gone, version) == 0 })
	}
	if version, stage := m.putOff(); version != "" && st.Trial == nil { // the next start would run it
		return m.cfg.Enabled && st.Current != installed && !chosenByHand(stage) && isGone(version), nil
	}
	switch runs := m.cfg.Start.Version; {
	case !isGone(runs):
		return false, nil
	case !m.cfg.Enabled:
		return false, &passedOver{Off, "it was withdrawn, and stays: upgrades.enabled is false in this agent's configuration"}
	case st.Current == installed || release.Compare(st.Current, runs) != 0:
		return false, &passedOver{Newer, "it was withdrawn, and stays: it is the installed program here; its package brings another"}
	case chosenByHand(st.Stage):
		return false, &passedOver{Newer, "it was withdrawn, and stays: a person at this site has chosen it"}
	}
	return true, nil
}

// leave goes back from what was withdrawn as a rollback does; where nothing is held that ran
// before it, to the installed program.
func (m *Manager) leave() (restart, waits bool) {
	runs := m.cfg.Start.Version
	err := m.change(func(st *State) {
		st.back("it was withdrawn at the control plane, and no other is wanted here", time.Now())
		st.Outcome.Withdrawn = true
	})
	if errors.Is(err, ErrRestart) {
		return true, false
	}
	m.say(runs, Current, fmt.Sprintf("it was withdrawn, and that this agent goes back cannot be written: %v", err))
	return false, true
}

// discard removes what was received; empty: nothing was.
func (m *Manager) discard(file string) error {
	if file == "" {
		return nil
	}
	return m.store.removed(file)
}

// busy says why no release can be taken by hand now.
func (m *Manager) busy() error {
	switch {
	case m.trial || m.restart:
		return conflict("version %s is on trial; wait for its end, or end it with crossdock-agent rollback", m.said.Wanted)
	case m.receiving:
		return conflict("another release is being received; wait for its end")
	}
	return nil
}

// receive reads what is sent. It is called with the lock and gives it up meanwhile: who sends
// may take long, and everybody asks for the status.
func (m *Manager) receive(in io.Reader) (r signed, file string, err error) {
	m.receiving = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.receiving = false
	}()
	return m.store.receive(in)
}

func chosenByHand(stage string) bool { return strings.HasPrefix(stage, byHand) }

// handStage is another one each time: what a person asks for again is tried again.
func handStage() string { return byHand + " " + time.Now().UTC().Format(time.RFC3339Nano) }

// Stopped works on the files of an agent that does not run.
type Stopped struct {
	Store     *Store
	Data      string // the data directory; what is written here is to be its user's
	Installed string // version of the installed program
}

// Upgrade has a release take over at the next start.
func (s Stopped) Upgrade(from string) (version string, err error) {
	if version, err = s.Store.Add(from); err != nil {
		return "", err
	}
	st, err := s.Store.State()
	if err != nil {
		return "", err
	}
	if st.Installed == s.Installed && st.Trial == nil && release.Compare(version, st.named(st.Current)) == 0 ||
		st.Installed != s.Installed && release.Compare(version, s.Installed) == 0 {
		return "", conflict("version %s is chosen already", version)
	}
	st.choose(version, handStage(), s.Installed, time.Now())
	return version, s.write(st)
}

// Rollback has the version before run at the next start. It gives that version.
func (s Stopped) Rollback(why string) (version string, err error) {
	st, err := s.Store.State()
	if err != nil {
		return "", err
	}
	if st.Installed != s.Installed { // no choice counts any more
		st = State{Format: stateForm, Installed: s.Installed, Current: installed, Failed: st.Failed}
	}
	if st.Trial != nil {
		st.abandon(why, time.Now())
	} else if err := st.canGoBack(); err != nil {
		return "", err
	} else {
		st.back(why, time.Now())
	}
	return st.named(st.Current), s.write(st)
}

func (s Stopped) write(st State) error {
	if err := s.Store.write(st); err != nil {
		return err
	}
	return s.Store.own(s.Data)
}
