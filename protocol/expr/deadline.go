package expr

import (
	"context"
	"time"
)

// deadline is a context that ends when an evaluation has run too long. The machine asks
// for Done before each of its steps; that is when the clock is looked at, once in a while.
// So it costs no timer, which would take longer to set than most evaluations take. It is
// for one goroutine.
type deadline struct {
	context.Context
	until  time.Time
	steps  int
	passed bool
}

// lookEvery is how many steps go by between two looks at the clock.
const lookEvery = 16

func (d *deadline) Done() <-chan struct{} {
	if d.steps++; d.steps%lookEvery == 0 && !d.passed {
		d.passed = !time.Now().Before(d.until)
	}
	if d.passed {
		return closed
	}
	return d.Context.Done()
}

func (d *deadline) Err() error {
	if d.passed {
		return context.DeadlineExceeded
	}
	return d.Context.Err()
}

func (d *deadline) Deadline() (time.Time, bool) {
	if at, ok := d.Context.Deadline(); ok && at.Before(d.until) {
		return at, true
	}
	return d.until, true
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
