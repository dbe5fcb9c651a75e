package delivery

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/protocol/policy"
)

// Defaults of policy, for documents that were compiled without them.
const (
	defaultConcurrency = 8
	defaultBatch       = 1
	defaultTimeout     = 10 * time.Second
	defaultFailures    = 5
	defaultPause       = 10 * time.Second
	defaultInitial     = time.Second
	defaultMax         = 5 * time.Minute
	defaultAttempts    = 30
)

func withLimitDefaults(l policy.Limits) policy.Limits {
	if l.Concurrency <= 0 {
		l.Concurrency = defaultConcurrency
	}
	if l.Batch <= 0 {
		l.Batch = defaultBatch
	}
	if l.Timeout <= 0 {
		l.Timeout = defaultTimeout
	}
	if l.Breaker.Failures <= 0 {
		l.Breaker.Failures = defaultFailures
	}
	if l.Breaker.Pause <= 0 {
		l.Breaker.Pause = defaultPause
	}
	return l
}

func withRetryDefaults(r policy.Retry) policy.Retry {
	if r.Initial <= 0 {
		r.Initial = defaultInitial
	}
	if r.Max <= 0 {
		r.Max = defaultMax
	}
	r.Max = max(r.Max, r.Initial)
	if r.Attempts <= 0 {
		r.Attempts = defaultAttempts
	}
	return r
}

// newBackOff is the series of pauses of one delivery, advanced past the failures that a
// stored copy remembers.
func newBackOff(r policy.Retry, failures int) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(r.Initial), backoff.WithMaxInterval(r.Max),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	for range min(failures, 32) {
		b.NextBackOff()
	}
	return b
}

// gate decides when one system may be called at all: rate, breaker, and the pauses that
// the system asks for. Trouble of the whole system stops here, so that it does not use up
// the attempts of single deliveries.
type gate struct {
	limits    policy.Limits
	limiter   *rate.Limiter
	breaker   *gobreaker.TwoStepCircuitBreaker[struct{}]
	opened    time.Time
	throttled int       // throttled attempts in a row
	paused    time.Time // until then the system asked for peace
	wrong     Class     // Misconfigured or NoDriver as last seen; empty: neither
	trip      bool      // the next failure opens the breaker
}

func newGate(l policy.Limits) *gate {
	g := &gate{}
	g.configure(l)
	return g
}

// configure takes new limits; a breaker whose settings stay keeps its state.
func (g *gate) configure(l policy.Limits) {
	l = withLimitDefaults(l)
	if g.breaker == nil || g.limits.Breaker != l.Breaker {
		g.breaker = g.newBreaker(l.Breaker)
	}
	limit := rate.Inf
	if l.Rate > 0 {
		limit = rate.Limit(l.Rate)
	}
	if g.limiter == nil || g.limiter.Limit() != limit {
		g.limiter = rate.NewLimiter(limit, max(1, int(min(l.Rate, 1e6)/10))) // a tenth of a second at once
	}
	g.limits = l
}

func (g *gate) newBreaker(b policy.Breaker) *gobreaker.TwoStepCircuitBreaker[struct{}] {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1, // a single delivery probes
		Timeout:     b.Pause,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return g.trip || c.ConsecutiveFailures >= uint32(b.Failures)
		},
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				g.opened = time.Now()
			}
		},
		IsExcluded: func(err error) bool { return errors.Is(err, ErrNotSent) },
	})
}

// reset forgets the past: the policy changed, and what was wrong may be repaired.
func (g *gate) reset() {
	g.breaker = g.newBreaker(g.limits.Breaker)
	g.wrong, g.throttled, g.paused = "", 0, time.Time{}
}

// throttling reports whether the system refuses everybody for now, not one delivery.
func (g *gate) throttling() bool { return g.throttled >= g.limits.Breaker.Failures }

// healthy reports whether a failure says something about the delivery that failed.
func (g *gate) healthy() bool {
	return g.breaker.State() == gobreaker.StateClosed && !g.throttling()
}

// reading reports whether it is worth reading more from the journal.
func (g *gate) reading(now time.Time) bool {
	return g.breaker.State() != gobreaker.StateOpen && !g.paused.After(now)
}

// pass asks for one attempt. Without leave it says when to ask again; zero means after the
// next result.
func (g *gate) pass(now time.Time) (done func(error), again time.Time) {
	if g.paused.After(now) {
		return nil, g.paused
	}
	if g.breaker.State() == gobreaker.StateOpen {
		// A moment later than the breaker's own clock, which must have passed the end.
		return nil, g.opened.Add(g.limits.Breaker.Pause + time.Millisecond)
	}
	slotAt := g.limiter.ReserveN(now, 1)
	if wait := slotAt.DelayFrom(now); wait > 0 {
		slotAt.CancelAt(now)
		return nil, now.Add(wait)
	}
	done, err := g.breaker.Allow()
	if err != nil {
		slotAt.CancelAt(now)
		return nil, time.Time{}
	}
	return done, time.Time{}
}

// another asks whether one more delivery may go with those that were given leave. A system
// that is probed gets one alone.
func (g *gate) another(now time.Time) bool {
	return g.breaker.State() == gobreaker.StateClosed && g.limiter.AllowN(now, 1)
}

// report tells the gate how an attempt ended, once for all that went with it. pause is how
// long its deliveries themselves wait.
func (g *gate) report(done func(error), res *result, pause time.Duration, now time.Time) {
	if res.fault != "" || res.void {
		done(ErrNotSent)
		return
	}
	f := res.failure
	if f == nil || f.Class == Rejected {
		g.throttled, g.wrong = 0, ""
		done(nil)
		return
	}
	switch f.Class {
	case Throttled:
		g.throttled++
		if g.throttling() && now.Add(pause).After(g.paused) {
			g.paused = now.Add(pause)
		}
		done(nil) // it answered, so it is there
		return
	case Misconfigured, NoDriver:
		g.wrong, g.trip = f.Class, true
	default:
		g.wrong = ""
	}
	done(f)
	g.trip = false
}
