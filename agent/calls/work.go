package calls

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/agent/shrink"
	"github.com/crossdock/crossdock/plugins/sdk"
)

// tries is how often something was tried that still waits, and when it is tried again.
type tries struct {
	plugin string
	count  int
	next   time.Time
}

// watch has a call tried again after a pause, which doubles.
func (s *Service) watch(call *record) { s.watchFor(call, 0) }

func (s *Service) watchFor(call *record, atLeast time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tries[call.ID]
	if t == nil {
		t = &tries{plugin: call.Plugin}
		s.tries[call.ID] = t
	}
	pause := s.cfg.PauseMax
	if t.count < 20 {
		pause = min(pause, s.cfg.PauseMin<<t.count)
	}
	t.count++
	t.next = s.cfg.Now().Add(max(pause, atLeast))
	nudge(s.look)
}

// settled forgets how often a call was tried, and what was told of it.
func (s *Service) settled(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tries, id)
	for _, kind := range []string{alarmUnknown, alarmWaits, alarmLate} {
		delete(s.told, kind+id)
	}
}

// due says whether it is time to try a call again.
func (s *Service) due(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tries[id]
	return t == nil || !s.cfg.Now().Before(t.next)
}

// retryAfter is when it is worth to ask for a call again.
func (s *Service) retryAfter(id string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tries[id]; t != nil {
		return max(t.next.Sub(s.cfg.Now()), time.Second)
	}
	return time.Second
}

// Run finds out what is unknown and does what waits, until ctx ends. ErrDisk: the process has
// to end too.
func (s *Service) Run(ctx context.Context) error {
	var leaving sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	leaving.Go(func() { s.runLeaving(ctx) })
	defer leaving.Wait()
	defer cancel()
	defer s.stop()
	look := time.NewTicker(s.cfg.LookEvery)
	defer look.Stop()
	for {
		next := s.assign()
		var soon <-chan time.Time
		if !next.IsZero() {
			soon = time.After(max(next.Sub(s.cfg.Now()), time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.store.ended:
			return fmt.Errorf("calls: %w", s.store.why())
		case <-s.look:
		case <-soon:
		case <-look.C:
			s.tell()
			s.trim()
			s.shrink(shrink.AtWork)
			if err := s.store.alive(s.cfg.Now()); err != nil {
				s.log.Warn("it cannot be noted that the journal of calls is in use", "err", err)
			}
			s.measure()
		}
	}
}

// assign starts a worker for each plugin that something is due for, so that one that hangs
// holds up no other, and says when the next thing is.
func (s *Service) assign() (next time.Time) {
	waiting := s.store.waiting()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return next
	}
	now, ready, open := s.cfg.Now(), map[string]bool{}, map[string]bool{}
	heads := map[string]uint64{}
	for _, r := range waiting {
		open[r.ID] = true
		if head, has := heads[r.Plugin]; r.State == Queued && (!has || r.Turn < head) {
			heads[r.Plugin] = r.Turn
		}
	}
	for _, r := range waiting {
		if r.State == Queued && r.Turn != heads[r.Plugin] {
			continue // the one before it comes first
		}
		if t := s.tries[r.ID]; t != nil && now.Before(t.next) {
			if next.IsZero() || t.next.Before(next) {
				next = t.next
			}
			continue
		}
		ready[r.Plugin] = true
	}
	for id := range s.tries {
		if !open[id] {
			delete(s.tries, id)
		}
	}
	for plugin := range ready {
		if s.workers[plugin] {
			continue
		}
		s.workers[plugin] = true
		s.working.Go(func() {
			progress := s.work(plugin)
			s.mu.Lock()
			delete(s.workers, plugin)
			s.mu.Unlock()
			if progress {
				nudge(s.look)
			}
		})
	}
	return next
}

// work does what is due for a plugin, and says whether anything was done.
func (s *Service) work(plugin string) (progress bool) {
	waiting := s.store.waiting()
	var queue []record
	stuck := false // the carrier does not say; those that come behind have their turn next time
	for _, r := range waiting {
		switch {
		case r.Plugin != plugin || s.life.Err() != nil:
		case r.State == Queued:
			queue = append(queue, r)
		case s.due(r.ID) && !stuck:
			done := s.withClaim(r, s.recover)
			stuck = !done && !s.due(r.ID)
			progress = progress || done || stuck
		}
	}
	slices.SortFunc(queue, func(a, b record) int { return int(int64(a.Turn) - int64(b.Turn)) })
	for _, r := range queue {
		if s.life.Err() != nil || !s.due(r.ID) || !s.withClaim(r, s.tryQueued) {
			return progress // those behind it wait for it
		}
		progress = true
	}
	return progress
}

// withClaim does something about a call that nobody else is busy with, as it stands now.
func (s *Service) withClaim(r record, do func(call *record, a *asked) bool) bool {
	op, err := find(r.Kind, r.Operation)
	if err != nil {
		s.giveUp(&r, err)
		return false
	}
	release, busy := s.claims.try(r.names(op))
	if busy != nil {
		return false
	}
	defer release()
	call, err := s.store.read(r.ID)
	if err != nil || call == nil || !call.State.open() {
		if err != nil {
			s.giveUp(&r, err)
		}
		return false
	}
	what, err := op.reread(call.Body)
	if err != nil {
		s.giveUp(&r, err)
		return false
	}
	return do(call, &asked{op: op, what: what, hash: call.Hash, reference: call.Reference,
		Request: Request{System: call.System, Kind: call.Kind, Plugin: call.Plugin, Operation: call.Operation, Key: call.Key, Body: call.Body}})
}

// giveUp leaves alone for a while what cannot even be read; people are told in time.
func (s *Service) giveUp(r *record, err error) {
	s.log.Error("a call that waits cannot be gone on with", "call", r.ID, "err", err)
	s.watchFor(r, s.cfg.PauseMax)
}

// recover finds out about a call that was begun.
func (s *Service) recover(call *record, a *asked) bool {
	s.advance(call, a)
	return call.State != Unknown && call.State != Begun
}

// tryQueued tries what waits for the line. It says false if it still does.
func (s *Service) tryQueued(call *record, a *asked) bool {
	call.Attempts++
	answer, err := s.ask(call.Kind, call.Plugin, a.op, a.what)
	s.cfg.Hook("call.made")
	class := classOf(err)
	switch {
	case err == nil:
		s.finish(call, a, Done, answer, nil)
	case s.life.Err() != nil: // the agent stops: that is nobody's failure
	case class == sdk.Unavailable, class == sdk.Throttled, class == sdk.UnknownOutcome && failureOf(err).Fault == sdk.FaultNetwork:
		// A line that breaks within a call is as little the call's fault as one that is cut.
		s.watchFor(call, min(time.Duration(failureOf(err).RetryAfter), maxRetryAfter))
	case class == sdk.Auth || doubtful(class):
		s.strike(call, a, failureOf(err))
	default:
		s.finish(call, a, Failed, nil, failureOf(err))
		s.tellFailed(call)
	}
	return call.State != Queued
}

// strike counts a failure that is not the line's, so that one call does not hold up all that
// come behind it.
func (s *Service) strike(call *record, a *asked, failure *sdk.Error) {
	call.Strikes++
	call.Failure = failure
	if call.Strikes >= maxStrikes {
		s.finish(call, a, Retry, nil, failure)
		s.tellFailed(call)
		return
	}
	if err := s.store.save(call, false); err != nil {
		s.log.Error("that a waiting call failed cannot be written down", "call", call.ID, "err", err)
	}
	s.watch(call)
}

// The kinds of exceptions.
const (
	alarmUnknown = "call-unknown"
	alarmWaits   = "call-waits"
	alarmLate    = "call-late"
	alarmFailed  = "call-failed"
	alarmDamaged = "call-damaged"
	alarmCut     = "calls-cut"
)

func (r *record) describe() string {
	return fmt.Sprintf("%s %s of %q (call %s of system %s)", r.Plugin, r.Operation, r.Reference, r.ID, r.System)
}

// tell tells people of what has waited for too long, once for each call.
func (s *Service) tell() {
	now := s.cfg.Now()
	for _, r := range s.store.waiting() {
		kind, text := "", ""
		switch age := now.Sub(r.Began); {
		case r.State != Queued && age >= s.cfg.UnknownAfter:
			kind, text = alarmUnknown, fmt.Sprintf("%s may have been done: for %s nobody could say. It is not repeated before that is known. Look at the carrier's own list",
				r.describe(), age.Round(time.Second))
		case r.State == Queued && !now.Before(r.Deadline):
			kind, text = alarmLate, fmt.Sprintf("%s was to be done by %s and still waits. It goes on being tried; arrange it with the carrier or the authority by hand if it cannot wait",
				r.describe(), r.Deadline.Format(time.RFC3339))
		case r.State == Queued && now.Sub(r.Asked) >= time.Duration(float64(r.Deadline.Sub(r.Asked))*s.cfg.AlarmAt):
			kind, text = alarmWaits, fmt.Sprintf("%s waits for the line since %s and has to be done by %s",
				r.describe(), r.Began.Format(time.RFC3339), r.Deadline.Format(time.RFC3339))
		default:
			continue
		}
		if r.Failure != nil {
			text += ": " + r.Failure.Error()
		}
		s.mu.Lock()
		before := s.told[kind+r.ID]
		s.told[kind+r.ID] = true
		s.mu.Unlock()
		if !before {
			s.log.Error(text)
			s.cfg.Alarm(kind, r.ID, text)
		}
	}
}

// tellFailed tells people of what was accepted and then failed: nobody waits for its answer.
func (s *Service) tellFailed(call *record) {
	if call.State.open() {
		return // that could not be written down: it comes up again
	}
	text := fmt.Sprintf("%s was accepted while the line was cut, and now fails: %v", call.describe(), call.Failure)
	s.log.Error(text)
	s.cfg.Alarm(alarmFailed, call.ID, text)
}
