package versions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/crossdock/crossdock/protocol/release"
)

// marker tells a program that it was chosen: it runs, and chooses nothing. It holds who
// launched it: the way, its version and its path.
const marker = "CROSSDOCK_AGENT_LAUNCHED"

// Ways in which a chosen version takes the place of the installed program.
const (
	wayExec  = "exec"  // it becomes the process
	wayChild = "child" // it is a child, and the installed program waits
)

// codeRestart is the exit code with which a child asks that the choice is made anew.
const codeRestart = 75

// A start can fail for a reason that passes: no memory, no process or file handle left, the
// program not closed yet by who has written it. It is tried again for a while, shorter than the
// watchdog of a unit waits, which this process does not answer.
const (
	startPause    = 50 * time.Millisecond
	maxStartPause = 2 * time.Second
	startPatience = 30 * time.Second
)

// Launcher is the installed program as it chooses which version runs.
type Launcher struct {
	Store    *Store
	Version  string // of this program
	Attempts int    // starts of a version on trial
	Log      *slog.Logger
	Doubt    error // what is wrong in the configuration: the keys may not be those that are meant
	Child    bool  // a chosen version is a child of this process; where exec does not exist it always is

	asked    bool            // only what a start would run is asked: nothing is noted
	patience time.Duration   // with a start that fails; 0: startPatience
	putOff   map[string]bool // versions that cannot be started now
}

// Start says as what this process runs.
type Start struct {
	Version   string // as which it was chosen; its own for the installed program
	Installed string // version of the installed program
	launcher  string // path of the installed program; empty: this is it
	way       string
}

// ExitError is how a child has ended that is not started again here.
type ExitError struct{ Code int }

func (e *ExitError) Error() string {
	return fmt.Sprintf("the chosen version has ended with exit code %d", e.Code)
}

// Launch chooses. It returns when this process is the one to run. Where a chosen version is a
// child it returns when that has ended: nil, false after an orderly end.
func (l *Launcher) Launch(ctx context.Context) (start Start, ours bool, err error) {
	if text, ok := os.LookupEnv(marker); ok {
		if err := os.Unsetenv(marker); err != nil { // programs that this one starts are no versions of it
			return Start{}, false, err
		}
		s, err := launched(text)
		if err == nil && release.Compare(s.Version, l.Version) != 0 {
			err = l.misnamed(ctx, s)
		}
		return s, err == nil, err
	}
	l.putOff = map[string]bool{}
	for ctx.Err() == nil {
		version := l.next()
		if version == installed {
			return Start{Version: l.Version, Installed: l.Version}, true, nil
		}
		again, err := l.run(ctx, version)
		switch {
		case !again:
			return Start{}, false, err
		case err != nil: // what is not noted would come again, for ever
			l.Log.Error("the choice of version cannot be written; the installed program runs", "err", err)
			return Start{Version: l.Version, Installed: l.Version}, true, nil
		}
	}
	return Start{}, false, nil
}

func launched(text string) (Start, error) {
	parts := strings.SplitN(text, " ", 4)
	if len(parts) != 4 {
		return Start{}, fmt.Errorf("the environment variable %s is for the agent's own use; unset it", marker)
	}
	return Start{way: parts[0], Version: parts[1], Installed: parts[2], launcher: parts[3]}, nil
}

// misnamed gives this program up, which was released as another version than it is: that would
// be so at every start, and status is to say it.
func (l *Launcher) misnamed(ctx context.Context, s Start) error {
	why := fmt.Sprintf("the program that was released as version %s says that it is %s", s.Version, l.Version)
	if err := l.giveUp(s.Version, why); err != nil { // then its starts are counted
		return fmt.Errorf("%s; and that cannot be noted: %w", why, err)
	}
	_, err := l.Ended(ctx, s, ErrRestart)
	return err
}

// next decides what runs now, and notes a start of a trial before it is made.
func (l *Launcher) next() (version string) {
	st, err := l.Store.State()
	if err != nil {
		l.Log.Error("the choice of version cannot be read; the installed program runs", "err", err)
		return installed
	}
	if st.Installed == "" {
		return installed // nothing was ever chosen
	}
	if st.Installed != l.Version {
		l.Log.Warn("another version was installed since the choice was made: the installed program runs", "installed", l.Version, "then", st.Installed, "chosen", st.Current)
		l.note(State{Format: stateForm, Installed: l.Version, Current: installed, Failed: st.Failed})
		return installed
	}
	if st.Trial != nil {
		if version, ok := l.try(&st); ok {
			return version
		}
	}
	for st.Current != installed && !l.putOff[st.Current] {
		err := l.Store.Check(st.Current)
		if err == nil {
			return st.Current
		}
		if !l.proven(err) {
			l.Log.Error("the chosen version cannot be verified now; the installed program runs, and the choice stands", "version", st.Current, "err", err)
			return installed
		}
		l.Log.Error("the chosen version is not what was verified; the one before it runs", "version", st.Current, "err", err)
		st.back(fmt.Sprintf("not what was verified any more: %v", err), time.Now())
		l.note(st)
	}
	if l.putOff[st.Current] && l.standsIn(st.Previous) {
		return st.Previous
	}
	return installed
}

// standsIn says whether the version before can run while the current one cannot be started.
func (l *Launcher) standsIn(previous string) bool {
	if previous == "" || previous == installed || l.putOff[previous] {
		return false
	}
	err := l.Store.Check(previous)
	if err != nil {
		l.Log.Error("the version before cannot be verified; the installed program runs", "version", previous, "err", err)
	}
	return err == nil
}

// proven says that a version is not what was verified, whenever it is looked at. A disk that
// does not answer, no file handle left, or keys that are missing say nothing about it, and
// what is noted because of them would outlast them.
func (l *Launcher) proven(err error) bool {
	var disk *fs.PathError
	switch {
	case errors.Is(err, release.ErrNoKeys):
		return false
	case errors.Is(err, release.ErrUnknownKey):
		return l.Doubt == nil
	case errors.Is(err, fs.ErrNotExist):
		return true
	}
	return !errors.As(err, &disk)
}

// try counts a start of the version on trial, or gives the trial up.
func (l *Launcher) try(st *State) (version string, ok bool) {
	version = st.Trial.Version
	if l.putOff[version] {
		return "", false
	}
	why := ""
	if st.Trial.Starts >= l.Attempts {
		why = fmt.Sprintf("started %d times, and ended before it had shown that it works", st.Trial.Starts)
		if st.Trial.Why == "" { // a panic, or a signal: the process had no time to note it
			why += "; what it wrote last stands in the service's log at the site"
		}
	} else if version != st.Installed {
		if err := l.Store.Check(version); err != nil {
			if !l.proven(err) {
				l.Log.Error("the version on trial cannot be verified now; what was chosen before it runs, and the trial stands", "version", version, "err", err)
				return "", false
			}
			why = fmt.Sprintf("not what was verified any more: %v", err)
		}
	}
	if why == "" {
		st.Trial.Starts++
		st.Trial.Settled = false
		if l.note(*st) {
			l.Store.hook(StepCounted)
			if version == st.Installed {
				version = installed
			}
			return version, true
		}
		return "", false // a start that is not counted could be made for ever
	}
	l.Log.Error("a version is given up and the one before it runs", "version", version, "why", why)
	l.Store.hook(StepFailing)
	st.abandon(why, time.Now())
	l.note(*st)
	l.Store.hook(StepReturned)
	return "", false
}

func (l *Launcher) note(st State) bool {
	if l.asked {
		return true
	}
	if err := l.Store.write(st); err != nil {
		l.Log.Error("the choice of version cannot be written", "err", err)
		return false
	}
	return true
}

// run starts a chosen version, and says whether to choose again.
func (l *Launcher) run(ctx context.Context, version string) (again bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	way := wayExec
	if l.Child || !canExec {
		way = wayChild
	}
	l.Log.Info("starting the chosen version", "version", version, "program", l.Store.Program(version))
	env := append(os.Environ(), marker+"="+strings.Join([]string{way, version, l.Version, self}, " "))
	code, err := l.begin(ctx, version, func() (int, error) {
		if way == wayExec {
			return 0, replace(l.Store.Program(version), os.Args, env) // returns where it did not work
		}
		return child(ctx, l.Store.Program(version), os.Args[1:], env)
	})
	switch {
	case err != nil && ofTheFile(err):
		l.putOff[version] = true // also where it only stands in for another: nothing is noted then
		return true, l.giveUp(version, fmt.Sprintf("cannot be started: %v", err))
	case err != nil:
		return true, l.wait(version, err)
	case code == codeRestart: // what was put off has its turn again: that may be why
		clear(l.putOff)
		return true, nil
	case code == 0 || ctx.Err() != nil:
		return false, nil
	}
	if st, err := l.Store.State(); err == nil && st.Trial != nil && st.Trial.Version == version {
		return true, nil
	}
	return false, &ExitError{code}
}

// begin starts a version, and again where that fails for a reason that passes.
func (l *Launcher) begin(ctx context.Context, version string, start func() (int, error)) (code int, err error) {
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(startPause), backoff.WithMaxInterval(maxStartPause),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(cmp.Or(l.patience, startPatience)))
	err = backoff.RetryNotify(func() (err error) {
		if code, err = start(); err != nil && ofTheFile(err) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(pause, ctx), func(err error, next time.Duration) {
		l.Log.Warn("the chosen version cannot be started now; trying again", "version", version, "in", next, "err", err)
	})
	return code, err
}

// ofTheFile says that a start has failed because of the program, and would whenever it is tried.
// What else keeps a process from being made says nothing about the version.
func ofTheFile(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, exec.ErrNotFound) ||
		slices.ContainsFunc(fileFaults, func(fault error) bool { return errors.Is(err, fault) })
}

// wait leaves a version that cannot be started now to the next start. The one that was made
// for a trial is not counted: it was none.
func (l *Launcher) wait(version string, why error) error {
	l.putOff[version] = true
	l.Log.Error("the chosen version cannot be started now; what ran before it runs, or the installed program, and the choice stands",
		"version", version, "err", why)
	st, err := l.Store.State()
	if err != nil || st.Trial == nil || st.Trial.Version != version {
		return err
	}
	st.Trial.Starts--
	return l.Store.write(st)
}

// giveUp leaves a version for the one before it.
func (l *Launcher) giveUp(version, why string) error {
	st, err := l.Store.State()
	if err != nil {
		return err
	}
	l.Log.Error("the chosen version is given up and the one before it runs", "version", version, "why", why)
	switch {
	case st.Trial != nil && st.Trial.Version == version:
		st.abandon(why, time.Now())
	case st.Current == version:
		st.back(why, time.Now())
	}
	return l.Store.write(st)
}

// Ended is called when the agent has ended in this process. again says that Launch is to be
// called again; where the process can be replaced it is, and Ended does not return.
func (l *Launcher) Ended(ctx context.Context, s Start, ended error) (again bool, err error) {
	if errors.Is(ended, ErrRestart) {
		switch {
		case s.launcher == "":
			return true, nil
		case s.way == wayChild:
			return false, &ExitError{codeRestart}
		}
		return false, replace(s.launcher, os.Args, os.Environ())
	}
	st, err := l.Store.State()
	if err != nil || st.Trial == nil || st.Trial.Starts == 0 && !st.Trial.Settled || release.Compare(st.Trial.Version, s.Version) != 0 {
		return false, ended
	}
	if st.Trial.Settled { // the end counts, for what it was
		st.Trial.Settled = false
		st.Trial.Starts++
	}
	if ended == nil && ctx.Err() != nil {
		st.Trial.Starts-- // it was told to end: that says nothing about it
	} else if ended != nil {
		st.Trial.Why = clipped(ended.Error())
	}
	return false, errors.Join(ended, l.Store.write(st))
}
