// Package sdnotify owns what a program tells the service manager of its machine while it runs:
// that it is ready, lives, reads its configuration again, or stops.
//
// It refuses to know what the program does; the command hands in what is to be told. It stands
// here because both programs are services, and neither may import the other. Its invariant:
// READY and WATCHDOG are said only of what was shown to be so.
package sdnotify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	statusEvery = 10 * time.Second // how often the line is looked at where no watchdog asks for more
	startMargin = time.Minute      // by which a start that goes on is prolonged
	maxLine     = 300              // bytes of a line
)

// Program is what the service manager is told of.
type Program struct {
	Ready  <-chan struct{}                 // closed once it does its work
	Alive  func(ctx context.Context) error // nil if its main loops have answered
	Line   func() string                   // one line on how it is
	Logger *slog.Logger
}

// Attend tells the service manager how a program is: that it is ready, a line on how it is,
// that it lives as long as its main loops answer, and from the end of ctx on that it stops.
// end is called when the program has ended. Without a manager it does nothing.
func Attend(ctx context.Context, p Program) (end func()) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return func() {}
	}
	a := &attendant{Program: p, every: statusEvery}
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		p.Logger.Warn("the service manager's watchdog cannot be understood, and is not answered", "err", err)
	}
	if limit > 0 {
		// A question begins each third, and is given up a third later: an answer comes in time.
		a.watched, a.every = true, min(limit/3, statusEvery)
	}
	ended := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { a.run(ctx, ended) })
	return func() {
		close(ended)
		group.Wait()
	}
}

// attendant is the one goroutine that speaks to the manager.
type attendant struct {
	Program
	every   time.Duration
	watched bool
	silent  bool // the last question was not answered
	told    string
}

func (a *attendant) run(ctx context.Context, ended <-chan struct{}) {
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	ready := a.Ready
	for {
		select {
		case <-ended:
			if ctx.Err() != nil { // it was quick
				a.stop(ticker.C, ended)
			}
			return
		case <-ctx.Done():
			a.stop(ticker.C, ended)
			return
		case <-ready:
			ready = nil
			a.say(daemon.SdNotifyReady + "\n" + a.status())
			a.look(ctx, daemon.SdNotifyWatchdog)
		case <-ticker.C:
			if ready != nil {
				// What it does first may take long, such as reading a large store.
				a.look(ctx, fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startMargin.Microseconds()))
				continue
			}
			a.look(ctx, daemon.SdNotifyWatchdog)
		}
	}
}

// look asks the program whether it lives, and says so if it does.
func (a *attendant) look(ctx context.Context, lives string) {
	asked, cancel := context.WithTimeout(ctx, a.every)
	defer cancel()
	err := a.Alive(asked)
	switch {
	case ctx.Err() != nil: // its loops end now, and need not answer any more
	case err != nil:
		if !a.silent {
			a.Logger.Error("the main loops do not answer; the service manager is not told that this lives until they do", "err", err)
		}
		a.silent = true
		a.tell("does not answer: " + err.Error())
	default:
		a.silent = false
		if a.watched || lives != daemon.SdNotifyWatchdog {
			a.say(lives) // before the line, which may wait for what the loops do not
		}
		if line := a.Line(); ctx.Err() == nil { // else what it says is of its end
			a.tell(line)
		}
	}
}

// stop says that the end has begun. How long an ordered end may take is the manager's own
// limit, so the watchdog does not cut it short.
func (a *attendant) stop(tick <-chan time.Time, ended <-chan struct{}) {
	a.say(daemon.SdNotifyStopping + "\nSTATUS=stopping")
	for {
		select {
		case <-ended:
			return
		case <-tick:
			if a.watched {
				a.say(daemon.SdNotifyWatchdog)
			}
		}
	}
}

// tell sends the line if it is another one.
func (a *attendant) tell(line string) {
	if line = oneLine(line); line != a.told {
		a.told = line
		a.say("STATUS=" + line)
	}
}

func (a *attendant) status() string {
	a.told = oneLine(a.Line())
	return "STATUS=" + a.told
}

func (a *attendant) say(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.Logger.Warn("the service manager cannot be told", "state", state, "err", err)
	}
}

func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "")
	}
	return text
}

// Reload tells the service manager that the configuration is read again while do works, and
// that all is ready again however that ended: what was in force before goes on.
func Reload(do func() error) error {
	_, told := daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
	err := do()
	if told == nil {
		_, told = daemon.SdNotify(false, daemon.SdNotifyReady)
	}
	if told != nil {
		told = fmt.Errorf("tell the service manager of a reload: %w", told)
	}
	return errors.Join(err, told)
}
