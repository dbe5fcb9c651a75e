package transport

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// ErrInjected is the failure of a call that a fault was chosen for.
var ErrInjected = errors.New("memory transport: injected fault")

const defaultMaxDelay = 20 * time.Millisecond

// Faults says what a memory link does to unary calls, each with a probability. What
// happens to the n-th call depends on the seed and n alone.
type Faults struct {
	Seed       uint64
	Drop       float64       // the call never arrives
	LoseAnswer float64       // the call is done, its caller does not learn it
	Duplicate  float64       // the call is done twice
	Delay      float64       // the call waits until another one has been done, so that they change order
	MaxDelay   time.Duration // or until this has passed; 0: 20 ms
}

type injector struct {
	faults Faults

	mu   sync.Mutex // guards what follows
	rnd  *rand.Rand
	done chan struct{} // closed and replaced when a call has been done
}

type plan struct {
	drop, lose, twice, delay bool
	wait                     time.Duration
}

func newInjector(f Faults) *injector {
	if f.MaxDelay == 0 {
		f.MaxDelay = defaultMaxDelay
	}
	return &injector{faults: f, rnd: rand.New(rand.NewPCG(f.Seed, 1)), done: make(chan struct{})}
}

// next draws the fate of a call. It draws the same number of times for each, so that one
// probability does not change what the others do.
func (i *injector) next() (plan, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	f := &i.faults
	p := plan{
		drop:  i.rnd.Float64() < f.Drop,
		lose:  i.rnd.Float64() < f.LoseAnswer,
		twice: i.rnd.Float64() < f.Duplicate,
		delay: i.rnd.Float64() < f.Delay,
	}
	p.wait = time.Duration(i.rnd.Float64() * float64(f.MaxDelay))
	return p, i.done
}

func (i *injector) call(ctx context.Context, do func() (*http.Response, error)) (*http.Response, error) {
	p, another := i.next()
	if p.delay {
		timer := time.NewTimer(p.wait)
		defer timer.Stop()
		select {
		case <-another:
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if p.drop {
		return nil, ErrInjected
	}
	resp, err := do()
	i.mu.Lock()
	close(i.done)
	i.done = make(chan struct{})
	i.mu.Unlock()
	if err == nil && p.twice {
		if again, err := do(); err == nil {
			again.Body.Close() // a buffer
		}
	}
	if err == nil && p.lose {
		resp.Body.Close()
		return nil, ErrInjected
	}
	return resp, err
}
