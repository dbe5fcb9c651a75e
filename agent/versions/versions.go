// Package versions owns which program runs here: the versions that are held beside the
// installed one, which of them was chosen, and the trial that a new one has to pass.
//
// It refuses to know how releases travel, what the agent does, and how its health is found.
// Its invariant: whatever ends a process at whatever moment, the installed program finds
// something to run that was verified or was installed; a version that does not pass its trial
// is left for the one before it, and is not tried again in the same stage.
package versions

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/release"
)

// Limits.
const (
	maxFailures = 32      // versions that are remembered as not to be tried again
	maxState    = 1 << 20 // bytes of the state file
	maxWhy      = 500     // bytes of why something failed
)

// installed stands for the program of the package or bundle; it is no version.
const installed = "installed"

const (
	stateFile  = "state.json"
	stateForm  = 1
	newVersion = ".new-"   // begins the name of a version's directory that is not whole yet
	fetched    = ".part-"  // begins the name of a file that is being fetched
	handed     = ".handed" // file of a program that a person at the site sends
	byHand     = "by hand" // stage of what a person at the site has asked for
)

// ConflictError is why something cannot be done as things are.
type ConflictError struct{ Why string }

func (c *ConflictError) Error() string { return c.Why }

func conflict(format string, args ...any) error {
	return &ConflictError{fmt.Sprintf(format, args...)}
}

// ErrRestart ends the agent in order so that another version takes its place.
var ErrRestart = errors.New("another version takes the place of this one")

// Steps at which hooks are called, for crash tests: between any two of them a process may end.
const (
	StepFetched  = "fetched"  // the file is whole, and not in its place
	StepPlaced   = "placed"   // the version is held, and not chosen
	StepChosen   = "chosen"   // the next start is a trial
	StepCounted  = "counted"  // a start of the trial is counted, and not made
	StepPassing  = "passing"  // the trial is passed, and that is not noted
	StepPassed   = "passed"   // it is noted, and older versions are still there
	StepFailing  = "failing"  // the trial has failed, and that is not noted
	StepReturned = "returned" // it is noted, and the version before does not run yet
)

// Steps lists them all.
func Steps() []string {
	return []string{StepFetched, StepPlaced, StepChosen, StepCounted, StepPassing, StepPassed, StepFailing, StepReturned}
}

// State is what is kept on disk about the choice. The zero State runs the installed program.
type State struct {
	Format    int    `json:"format"`
	Installed string `json:"installed"`          // version of the installed program when the choice was made
	Current   string `json:"current"`            // a version held here, or "installed"
	Stage     string `json:"stage,omitempty"`    // in which Current was chosen
	Standing  string `json:"standing,omitempty"` // stage that the control plane wanted when a person chose Current
	Previous  string `json:"previous,omitempty"` // what a rollback goes back to; empty: nothing
	// PreviousStage is that in which Previous was chosen: it counts again after a rollback.
	PreviousStage string    `json:"previousStage,omitempty"`
	Trial         *Trial    `json:"trial,omitempty"`
	Failed        []Failure `json:"failed,omitempty"`
	Outcome       Outcome   `json:"outcome"`
	Again         Again     `json:"again,omitzero"` // what is chosen and could not be started
}

// Trial is a version that has not shown yet that it works here.
type Trial struct {
	Version string `json:"version"`
	Stage   string `json:"stage"`
	// Standing is the stage that the control plane wanted when a person chose the version.
	Standing string    `json:"standing,omitempty"`
	Starts   int       `json:"starts"`
	Settled  bool      `json:"settled,omitempty"` // the last start has shown that it works, and is not among Starts any more
	Since    time.Time `json:"since"`
	// Silent is for how long nodes have taken connections and given no answer.
	Silent time.Duration `json:"silent,omitempty"`
	Why    string        `json:"why,omitempty"` // what ended its last start
}

// Failure is a version that is not tried again in a stage.
type Failure struct {
	Version string    `json:"version"`
	Stage   string    `json:"stage"`
	Why     string    `json:"why"`
	At      time.Time `json:"at"`
}

// What came of the last version that was wanted, as status says it.
const (
	Current    = "current"
	Fetching   = "fetching"
	Verified   = "verified"
	OnTrial    = "trial"
	Failed     = "failed"
	RolledBack = "rolled-back"
	Newer      = "newer" // what runs is newer, and stays
	Off        = "off"   // releases come by hand only
)

// Outcome is how the last trial ended.
type Outcome struct {
	State   string    `json:"state,omitempty"` // current or rolled-back; empty: there was none
	Version string    `json:"version,omitempty"`
	Stage   string    `json:"stage,omitempty"`
	Why     string    `json:"why,omitempty"`
	At      time.Time `json:"at,omitzero"`

	Withdrawn bool `json:"withdrawn,omitempty"` // the control plane has taken the release back, and knows that
}

// failed tells whether a version is not to be tried in a stage, and why.
func (s *State) failed(version, stage string) (Failure, bool) {
	for _, f := range s.Failed {
		if f.Stage == stage && release.Compare(f.Version, version) == 0 {
			return f, true
		}
	}
	return Failure{}, false
}

// refuse notes that a version is not to be tried again in a stage.
func (s *State) refuse(version, stage, why string, at time.Time) {
	why = clipped(why)
	s.Failed = slices.DeleteFunc(s.Failed, func(f Failure) bool { return f.Version == version && f.Stage == stage })
	s.Failed = append(s.Failed, Failure{Version: version, Stage: stage, Why: why, At: at})
	if over := len(s.Failed) - maxFailures; over > 0 {
		s.Failed = slices.Delete(s.Failed, 0, over)
	}
	s.Outcome = Outcome{State: RolledBack, Version: version, Stage: stage, Why: why, At: at}
}

// choose puts a version on trial at the next start of the installed program.
func (s *State) choose(version, stage, installedVersion string, at time.Time) {
	if s.Installed != installedVersion { // what was chosen before was chosen beside another program
		s.Current, s.Stage, s.Standing, s.Previous, s.PreviousStage = installed, "", "", "", ""
	}
	s.Installed = installedVersion
	begun := s.Trial // which could not be started, and is chosen again
	s.Trial = &Trial{Version: version, Stage: stage, Since: at}
	if begun != nil && begun.Version == version && begun.Stage == stage {
		*s.Trial = *begun
	} else {
		s.Again = Again{}
	}
	if chosenByHand(stage) {
		s.Trial.Standing = s.Stage
		if chosenByHand(s.Stage) {
			s.Trial.Standing = s.Standing
		}
	}
}

// abandon ends the trial: what ran before it runs on.
func (s *State) abandon(why string, at time.Time) {
	if s.Trial.Why != "" && s.Trial.Why != why {
		why += ": " + s.Trial.Why
	}
	s.refuse(s.Trial.Version, s.Trial.Stage, why, at)
	s.Trial = nil
}

// pass ends the trial: the version is the one that runs.
func (s *State) pass(at time.Time) {
	t := s.Trial
	if release.Compare(s.named(s.Current), t.Version) != 0 { // else the one before it stays that
		s.Previous, s.PreviousStage = s.Current, s.Stage
	}
	s.Current, s.Stage, s.Standing, s.Trial = t.Version, t.Stage, t.Standing, nil
	if t.Version == s.Installed {
		s.Current = installed
	}
	s.Outcome = Outcome{State: Current, Version: t.Version, Stage: t.Stage, At: at}
}

// back leaves the current version for the one before it.
func (s *State) back(why string, at time.Time) {
	s.refuse(s.named(s.Current), s.Stage, why, at)
	s.Current, s.Stage, s.Standing, s.Previous, s.PreviousStage = s.Previous, s.PreviousStage, "", "", ""
	if s.Current == "" {
		s.Current = installed
	}
}

// offered takes in the stage in which the control plane wants a version, where a person has
// chosen Current or Current is that version. over says that what a person has chosen stays:
// a stage that stood already when he chose, or is the first to be heard of since, knows
// nothing of it.
func (s *State) offered(version, stage string) (over, changed bool) {
	if s.Installed == "" {
		return false, false // nothing was ever chosen here
	}
	switch c := release.Compare(version, s.named(s.Current)); {
	case c == 0:
		changed = s.Stage != stage
		s.Stage, s.Standing = stage, ""
	case c < 0 && chosenByHand(s.Stage):
		if s.Standing == "" {
			s.Standing, changed = stage, true
		}
		over = s.Standing == stage
	}
	return over, changed
}

// named gives the version of what stands in Current or Previous.
func (s *State) named(version string) string {
	if version == installed {
		return s.Installed
	}
	return version
}

func clipped(text string) string {
	if len(text) > maxWhy {
		return text[:maxWhy] + "..."
	}
	return text
}

// Store is the directory of versions: <dir>/VERSION/crossdock-agent with the signed manifest
// that it was verified by, and the state beside them.
type Store struct {
	dir  string
	keys release.Keys
	hook func(step string)
}

// NewStore makes nothing yet. hook may be nil.
func NewStore(dir string, keys release.Keys, hook func(step string)) *Store {
	if hook == nil {
		hook = func(string) {}
	}
	return &Store{dir: filepath.Clean(dir), keys: keys, hook: hook}
}

// In is a store of another directory, by the same keys.
func (s *Store) In(dir string) *Store { return NewStore(dir, s.keys, s.hook) }

// State reads the state. One that is not there is that of an agent that was never upgraded.
func (s *Store) State() (State, error) {
	fresh := State{Format: stateForm, Current: installed}
	path := filepath.Join(s.dir, stateFile)
	var text []byte
	err := s.within(func(root *os.Root) (err error) {
		text, err = readLimited(root, stateFile, maxState)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fresh, nil
	} else if err != nil {
		return fresh, err
	}
	st := fresh
	if err := json.Unmarshal(text, &st); err != nil {
		return fresh, fmt.Errorf("%s: %w", path, err)
	}
	if st.Format != stateForm {
		return fresh, fmt.Errorf("%s has format %d, only %d is known to this version", path, st.Format, stateForm)
	}
	for _, v := range []string{st.Current, st.Previous} { // they become names of directories
		if v != "" && v != installed && !release.ValidVersion(v) {
			return fresh, fmt.Errorf("%s: %q is no version", path, v)
		}
	}
	if st.Trial != nil && st.Trial.Version != st.Installed && !release.ValidVersion(st.Trial.Version) {
		return fresh, fmt.Errorf("%s: %q is no version", path, st.Trial.Version)
	}
	return st, nil
}

func (s *Store) write(st State) error {
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		return err
	}
	return s.making(func(root *os.Root) error {
		return atomicfile.WriteIn(root, stateFile, append(text, '\n'), 0o600)
	})
}
