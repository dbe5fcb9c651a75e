package systemtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// stuck makes a behaviour for one key until it has been tried a few times; all other keys
// are taken.
func stuck(key string, tries int, how reply) func(attempt) reply {
	return func(a attempt) reply {
		if a.key == key && a.number <= tries {
			return how
		}
		return reply{}
	}
}

const bad = "k0" // the key that meets trouble

func TestTroubleAtADestinationStopsItsOwnKeyOnly(t *testing.T) {
	const keys, each = 4, 4
	never := 1 << 30
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		var out []*system
		for _, name := range []string{"hanging", "failing", "throttling", "refusing", "deaf", "steady"} {
			out = append(out, newSystem(t, h, name, "hq"))
		}
		out[0].timeout = "2s" // long enough for the keys that are well, however busy the machine is
		return out
	})
	by := map[string]*system{}
	for _, y := range w.systems {
		by[y.name] = y
	}
	by["hanging"].set(stuck(bad, never, reply{hang: true}))
	by["failing"].set(stuck(bad, never, reply{status: http.StatusBadGateway, body: "upstream is away"}))
	by["throttling"].set(stuck(bad, 1, reply{status: http.StatusTooManyRequests, header: map[string]string{"Retry-After": "1"}}))
	by["refusing"].set(func(a attempt) reply {
		if a.id == "o-0-1" {
			return reply{status: http.StatusUnprocessableEntity, body: `{"error":"customer 42 is unknown"}`}
		}
		return reply{}
	})
	by["deaf"].set(stuck(bad, 1, reply{silence: true})) // it has taken it, and nobody knows
	for _, s := range w.sites {
		s.start()
	}
	w.shops["eu"].sellAll(t, "o", keys, each)

	// Whatever happens to the bad key, the others and the other systems go on.
	w.awaitTaken("steady", keys*each)
	w.awaitTaken("throttling", keys*each)
	w.awaitTaken("deaf", keys*each)
	w.awaitTaken("hanging", (keys-1)*each)
	w.awaitTaken("failing", (keys-1)*each)
	w.awaitTaken("refusing", (keys-1)*each+1)
	for _, name := range []string{"hanging", "failing"} {
		until(t, name+" is tried again and again", func() string {
			tries := by[name].seen(ofKey(bad))
			for _, a := range tries {
				if a.id != "o-0-0" {
					t.Fatalf("%s got %s before the one ahead of it was taken", name, a.id)
				}
			}
			if len(tries) < 3 {
				return fmt.Sprintf("%d attempts", len(tries))
			}
			return ""
		})
	}
	w.checkRetryAfter(by["throttling"])
	w.checkDeadLetter(each)

	by["hanging"].set(nil)
	by["failing"].set(nil)
	w.awaitTaken("hanging", keys*each)
	w.awaitTaken("failing", keys*each)
	by["refusing"].set(nil)
	w.replayDeadLetter(by["refusing"])
	w.awaitTaken("refusing", keys*each)
	// The deaf one took each order of the bad key twice: the answer to the first was lost.
	w.settle(each)
}

// checkRetryAfter: what a system asks for is kept to.
func (w *world) checkRetryAfter(y *system) {
	w.t.Helper()
	tries := map[string][]time.Time{}
	for _, a := range y.seen(ofKey(bad)) {
		tries[a.id] = append(tries[a.id], a.at)
	}
	for id, at := range tries {
		if len(at) != 2 || at[1].Sub(at[0]) < time.Second {
			w.t.Errorf("%s was tried at %v; it was asked to wait a second", id, at)
		}
	}
}

// checkDeadLetter: what was refused stands where a person sees it, with the answer.
func (w *world) checkDeadLetter(each int) {
	w.t.Helper()
	var letter deadLetter
	until(w.t, "the dead letter shows at the control plane with what waits behind it", func() string {
		letters := w.plane.deadLetters("system=refusing")
		if len(letters) != 1 {
			return fmt.Sprintf("%d dead letters", len(letters))
		}
		if letter = letters[0]; letter.Waiting != each-2 {
			return fmt.Sprintf("%d wait behind it, want %d", letter.Waiting, each-2)
		}
		return ""
	})
	if letter.Status != http.StatusUnprocessableEntity || !strings.Contains(letter.Answer, "customer 42 is unknown") ||
		letter.EventID != "o-0-1" || letter.State != "open" || letter.Attempts != 1 || letter.Key != bad || letter.Cause == "" {
		w.t.Errorf("dead letter = %+v", letter)
	}
	if all := w.plane.deadLetters("state=open"); len(all) != 1 {
		w.t.Errorf("dead letters = %+v", all)
	}
	for _, a := range w.systemNamed("refusing").seen(ofKey(bad)) {
		if a.id > "o-0-1" {
			w.t.Errorf("%s went past the dead letter of its key", a.id)
		}
	}
}

func (w *world) systemNamed(name string) *system {
	for _, y := range w.systems {
		if y.name == name {
			return y
		}
	}
	w.t.Fatalf("no system %s", name)
	return nil
}

// replayDeadLetter: the same delivery under the same idempotency key, then what waited.
func (w *world) replayDeadLetter(y *system) {
	w.t.Helper()
	before := y.seen(func(a attempt) bool { return a.id == "o-0-1" })
	w.plane.replay(w.plane.deadLetters("system=refusing")[0].ID)
	until(w.t, "the dead letter is delivered", func() string {
		if l := w.plane.deadLetters("system=refusing"); len(l) != 1 || l[0].State != "delivered" {
			return fmt.Sprintf("%+v", l)
		}
		return ""
	})
	after := y.seen(func(a attempt) bool { return a.id == "o-0-1" })
	if len(before) != 1 || len(after) != 2 || after[0].idempotency != after[1].idempotency {
		w.t.Errorf("attempts = %+v", after)
	}
}

// TestSystemThatIsDownHoldsNothingElse: a system that is gone altogether, over a restart
// of its agent.
func TestSystemThatIsDownHoldsNothingElse(t *testing.T) {
	w := newWorld(t, nil, []string{"hq"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "crm", "hq")}
	})
	erp := w.systemNamed("erp")
	erp.set(func(attempt) reply { return reply{status: http.StatusServiceUnavailable} })
	w.sites["hq"].cfg.Tuning.ParkAfter = 100 * time.Millisecond
	w.sites["hq"].start()
	w.shops["hq"].sellAll(t, "o", 4, 5)
	w.awaitTaken("crm", 20)
	w.sites["hq"].awaitStatus("parks what waits for long", func(s agent.Status) string {
		for _, y := range s.Systems {
			if y.System == "erp" && y.Parked == 20 {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Systems)
	})
	w.sites["hq"].stop()
	w.sites["hq"].start()
	if n := taken(w.h, "erp"); n != 0 {
		t.Errorf("erp is down and has taken %d", n)
	}
	erp.set(nil)
	w.settle(0)
}
