package journal_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

// A reader that is woken must find what it was woken for: a log that shows an append
// before the journal does would leave it asleep beside the event.
func TestWaitAgreesWithNext(t *testing.T) {
	reached, release := make(chan struct{}), make(chan struct{})
	s := started(t, options{journal: journal.Config{Hook: func(step string) {
		if step == "after-commit" {
			close(reached)
			<-release
		}
	}}})
	go func() { _, _ = s.Submit(context.Background(), []journal.Admitted{admitted("1", "k", data(1), "ham")}) }()
	<-reached
	early, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Wait(early, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait gave %v while Next is %d", err, s.Next())
	}
	close(release)
	if err := s.Wait(t.Context(), 1); err != nil || s.Next() != 2 {
		t.Errorf("%v, next %d", err, s.Next())
	}
}

// Mail of an older epoch whose acknowledgement was lost comes again behind mail of the
// newer one; it must not stand in the way of all mail.
func TestRepeatOfAnOlderEpochIsADuplicate(t *testing.T) {
	s := started(t, options{})
	old := inbound(t, "nyc", 4, 1, 2)
	for _, text := range [][]byte{old, inbound(t, "nyc", 5, 1, 3)} {
		if _, err := s.Receive(t.Context(), text, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Receive(t.Context(), old, time.Now()); err != nil || !got.Duplicate {
		t.Errorf("%+v %v, want a duplicate", got, err)
	}
	if _, err := s.Receive(t.Context(), inbound(t, "nyc", 4, 3, 1), time.Now()); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("new events of an older epoch: %v", err)
	}
	if got := len(history(t, s)); got != 5 {
		t.Errorf("%d events, want 5", got)
	}
}

// A name that no mark can hold must not reach the log, whose refusal ends the process.
func TestSourceWithAnEndlessName(t *testing.T) {
	s := started(t, options{})
	long := strings.Repeat("x", 1500)
	if _, err := s.Receive(t.Context(), inbound(t, long, 1, 1, 1), time.Now()); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("block: %v", err)
	}
	if _, err := s.ReceiveGap(t.Context(), long, 1, 1, 1, "lost"); !errors.Is(err, journal.ErrInvalid) {
		t.Errorf("gap: %v", err)
	}
	submit(t, s, admitted("1", "k", data(1), "ham")) // it goes on
}

// After damage to the newest file its marks are not believed; its records still tell how
// far the lanes to this agent came, however far back they lie.
func TestLanesFromADamagedFile(t *testing.T) {
	o := options{queue: queue.Config{Dir: t.TempDir()}, journal: journal.Config{Window: 8}}
	s := start(t, o)
	if _, err := s.Receive(t.Context(), inbound(t, "nyc", 1, 1, 3), time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		submit(t, s, admitted(fmt.Sprint(i), "k", data(i), "ham"))
	}
	s.stop()
	files, err := filepath.Glob(filepath.Join(o.queue.Dir, "*.log"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	text[os.Getpagesize()+40] ^= 1 // in the second meta page
	if err := os.WriteFile(files[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	s = started(t, o)
	if got, err := s.log.Inspect(); err != nil || got.Files[0].Error == "" {
		t.Errorf("the damaged file is shown as sound: %+v %v", got.Files, err)
	}
	if got := s.Highwaters(); len(got) != 1 || got[0].Highwater != 3 {
		t.Errorf("high-waters %v, want 3", got)
	}
	if got, err := s.Receive(t.Context(), inbound(t, "nyc", 1, 1, 3), time.Now()); err != nil || !got.Duplicate {
		t.Errorf("mail that came before: %+v %v", got, err)
	}
}
