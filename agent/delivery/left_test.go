package delivery

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// What a stopped engine leaves is counted as what it had to do, and no file is changed.
func TestLeft(t *testing.T) {
	b := newBench(t, newRules([]string{"erp", "crm"}))
	if left, err := LeftIn(b.cfg.Path, here, b.journal, nil); err != nil || left != (Left{}) {
		t.Fatalf("before anything: %+v %v", left, err)
	}
	b.journal.append(makeItem("a", "k1", to("erp", "crm")...), makeItem("b", "k2", to("erp")...), makeItem("c", "k2", to("erp")...))
	if left, err := LeftIn(b.cfg.Path, here, b.journal, nil); err != nil || left != (Left{Pending: 4}) {
		t.Fatalf("before it has run: %+v %v", left, err)
	}
	// The first of k2 is refused for good, so the second is parked behind it; crm is away.
	b.target.play(func(ctx context.Context, d Delivery) (Answer, error) {
		switch {
		case d.System == "crm":
			return Answer{}, &Failure{Class: Unavailable, Err: errors.New("away")}
		case d.Event.ID == "b":
			return Answer{}, &Failure{Class: Rejected, Status: http.StatusUnprocessableEntity, Err: errors.New("no")}
		}
		return Answer{}, nil
	})
	b.run(t)
	await(t, "one is delivered, one dead, one parked", func() bool {
		for _, s := range b.Status() {
			if s.System == "erp" {
				return s.Delivered == 1 && s.DeadLetters == 1 && s.Parked == 1
			}
		}
		return false
	})
	b.stop()
	want := Left{Pending: 1, Parked: 1, DeadLetters: 1}
	for range 2 {
		if left, err := LeftIn(b.cfg.Path, here, b.journal, nil); err != nil || left != want {
			t.Errorf("left %+v %v, want %+v", left, err, want)
		}
	}
	// Later events wait too.
	b.journal.append(makeItem("d", "k3", to("erp")...))
	if left, err := LeftIn(b.cfg.Path, here, b.journal, nil); err != nil || left.Pending != 2 {
		t.Errorf("left %+v %v, want 2 pending", left, err)
	}
	broken := errors.New("page 7 calls itself 9")
	if _, err := LeftIn(b.cfg.Path, here, b.journal, func(string) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("of a damaged file: %v", err)
	}
}

// A file that an engine holds cannot be counted, and is not waited for.
func TestLeftOfARunningEngine(t *testing.T) {
	b := newBench(t, newRules([]string{"erp"}), func(c *Config) { c.ParkAfter = time.Hour })
	b.run(t)
	if _, err := LeftIn(b.cfg.Path, here, b.journal, nil); err == nil {
		t.Error("counted under a running engine")
	}
	if _, err := LeftIn(filepath.Join(t.TempDir(), "none.db"), here, b.journal, nil); err != nil {
		t.Error(err)
	}
}
