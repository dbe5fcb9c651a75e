package journal_test

import (
	"context"
	"errors"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

// The loop answers also when the journal is full, and not while a commit hangs or after its end.
func TestAlive(t *testing.T) {
	hangs, goes := make(chan struct{}), make(chan struct{})
	s := start(t, options{queue: queue.Config{Dir: t.TempDir()}, journal: journal.Config{Hook: func(step string) {
		if step == "before-commit" {
			close(hangs)
			<-goes
		}
	}}})
	if err := s.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() {
		_, err := s.Submit(t.Context(), []journal.Admitted{admitted("1", "k", data(1), "ham")})
		taken <- err
	}()
	<-hangs
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := make(chan error, 1)
	go func() { asked <- s.Alive(ctx) }()
	gaveUp := errors.New("gave up")
	cancel(gaveUp)
	if err := <-asked; !errors.Is(err, gaveUp) {
		t.Errorf("while a commit hangs: %v", err)
	}
	close(goes)
	if err := errors.Join(<-taken, s.Alive(t.Context())); err != nil {
		t.Error(err)
	}
	s.stop()
	if err := s.Alive(t.Context()); !errors.Is(err, journal.ErrStopped) {
		t.Errorf("after the end: %v", err)
	}

	full := started(t, options{wrap: func(l journal.Log) journal.Log { return &fullLog{l} }})
	if err := full.Alive(t.Context()); err != nil {
		t.Errorf("when it is full: %v", err)
	}
}

// fullLog is as full as can be.
type fullLog struct{ journal.Log }

func (*fullLog) Level() float64 { return 1.1 }
