package journal_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// aFact is what the agent tells the control plane, with data of some bytes.
func aFact(id string, bytes int) journal.Admitted {
	return journal.Admitted{Event: &event.Event{ID: id, Source: "/agents/ham", Type: "crossdock.fact.v1", DataContentType: event.JSONType,
		Data: []byte(`"` + strings.Repeat("x", bytes) + `"`)}, Targets: []block.Target{{Agent: block.Control}}}
}

// What facts take is known until the control plane has taken them, after a restart too; events
// of the business do not count.
func TestFactBytes(t *testing.T) {
	o := options{}
	o.queue.Dir = t.TempDir()
	s := start(t, o)
	submit(t, s, aFact("f1", 1000), inner("i1", "muc"), aFact("f2", 3000))
	all, last := s.FactBytes(0), s.Highest(block.Control)
	if last != 2 || all < 4000 || all > 5000 {
		t.Fatalf("%d facts take %d bytes", last, all)
	}
	s.stop()
	s = start(t, o)
	if again := s.FactBytes(0); again < 4000 || again > all+100 {
		t.Errorf("after a restart %d bytes, before %d", again, all)
	}
	if one := s.FactBytes(1); one < 3000 || one > 3500 {
		t.Errorf("of the second alone %d bytes", one)
	}
	if none := s.FactBytes(2); none != 0 {
		t.Errorf("with all taken %d bytes", none)
	}
	submit(t, s, aFact("f3", 500))
	if n := s.FactBytes(2); n < 500 || n > 1000 {
		t.Errorf("of a new one %d bytes", n)
	}
	if own := s.Stats().Own; own < 500 || own != s.Stats().Bytes {
		t.Errorf("%d of %d bytes are this site's own", own, s.Stats().Bytes)
	}
	s.stop()
}

// A journal that is gone takes nothing and answers no repeat: what came first is lost too.
func TestGoneAnswersNoRepeat(t *testing.T) {
	var gone atomic.Bool
	o := options{}
	o.queue.Dir = t.TempDir()
	o.journal.Admit = func(journal.Kind) error {
		if gone.Load() {
			return fmt.Errorf("%w: removed", journal.ErrGone)
		}
		return nil
	}
	s := start(t, o)
	submit(t, s, inner("i1", "muc"))
	gone.Store(true)
	for _, id := range []string{"i1", "i2"} {
		if receipts, err := s.Submit(t.Context(), []journal.Admitted{inner(id, "muc")}); !errors.Is(err, journal.ErrGone) || errors.Is(err, journal.ErrFull) {
			t.Errorf("%s: %v, %v", id, receipts, err)
		}
	}
	gone.Store(false)
	submit(t, s, inner("i2", "muc"))
	s.stop()
}

// Who is to be refused is asked, and its words are given on.
func TestAdmitDecides(t *testing.T) {
	o := options{}
	o.queue.Dir = t.TempDir()
	o.journal.Admit = func(kind journal.Kind) error {
		if kind == journal.Business {
			return &journal.FullError{Level: 0.5, Limit: 0.9, Why: "others fill the disk"}
		}
		return nil
	}
	s := start(t, o)
	_, err := s.Submit(t.Context(), []journal.Admitted{inner("i1", "muc")})
	var full *journal.FullError
	if !errors.As(err, &full) || !errors.Is(err, journal.ErrFull) || !strings.Contains(err.Error(), "others fill the disk") {
		t.Errorf("%v", err)
	}
	submit(t, s, aFact("f1", 10))
	if n := s.Stats().Full; n != 1 {
		t.Errorf("%d refusals are counted", n)
	}
	s.stop()
}
