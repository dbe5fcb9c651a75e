package systemtest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// killWorld has both ends of the way as processes that can be killed, with a system at
// each end, and one that takes batches.
func killWorld(t *testing.T) *world {
	w := newWorld(t, nil, []string{"eu", "hq"}, func(h *history.History) []*system {
		crm := newSystem(t, h, "crm", "hq")
		crm.batch = 4
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "wms", "eu"), crm}
	})
	for _, s := range w.sites {
		s.startChild("", 0)
	}
	for _, s := range w.sites {
		s.awaitReady()
	}
	return w
}

// trade has shops at both sites sell without end, several keys side by side. The function
// it gives ends that: what was offered is still brought home.
func (w *world) trade(keys int) (stop func()) {
	w.t.Helper()
	return w.tradeAt(keys, slices.Collect(maps.Keys(w.shops))...)
}

// tradeAt has only some shops sell.
func (w *world) tradeAt(keys int, sites ...string) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	home, give := context.WithCancel(context.Background())
	var all sync.WaitGroup
	w.trades++
	trade := w.trades // what was offered before would be known, and go no further
	for _, name := range sites {
		s := w.shops[name]
		for k := range keys {
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					if err := s.sell(home, newOrder(fmt.Sprintf("%s-%d-%d-%d", name, trade, k, i), fmt.Sprint("k", k), i, "")); err != nil {
						w.t.Error(err)
						return
					}
					if w.pace > 0 {
						time.Sleep(w.pace)
					}
				}
			})
		}
	}
	return sync.OnceFunc(func() {
		cancel()
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		if !comes(done) {
			w.t.Error("orders are not accepted any more")
		}
		give()
		<-done
	})
}

// more waits until as many further orders were accepted.
func (w *world) more(n int) {
	w.t.Helper()
	want := accepted(w.h) + n
	until(w.t, "orders are accepted", func() string {
		if got := accepted(w.h); got < want {
			return fmt.Sprintf("%d, want %d", got, want)
		}
		return ""
	})
}

// explained is how many repeats some crashes allow: what was under way to each system.
func (w *world) explained(crashes int) (n int) {
	for _, y := range w.systems {
		n += crashes * concurrency * max(y.batch, 1)
	}
	return n
}

func TestKillAtRandomMomentsLosesNothing(t *testing.T) {
	kills := count(t, "CROSSDOCK_KILLS", 20)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	w := killWorld(t)
	w.systemNamed("crm").set(func(a attempt) reply {
		switch {
		case strings.HasSuffix(a.id, "3") && a.number == 1:
			return reply{status: http.StatusServiceUnavailable}
		case strings.HasSuffix(a.id, "7") && a.company > 0: // it is judged alone, and taken
			return reply{status: http.StatusUnprocessableEntity}
		}
		return reply{}
	})
	stop := w.trade(6)
	defer stop()
	for range kills {
		w.more(1 + r.IntN(60))
		s := w.sites[[]string{"eu", "hq"}[r.IntN(2)]]
		<-time.After(time.Duration(r.IntN(30)) * time.Millisecond) // any moment, not only after an answer
		s.child.kill(t)
		s.startChild("", 0)
	}
	w.more(50)
	stop()
	w.settle(w.explained(kills))
	if n := accepted(w.h); n < 50 {
		t.Errorf("only %d orders", n)
	}
	together := w.systemNamed("crm").seen(func(a attempt) bool { return a.company > 0 })
	t.Logf("%d attempts in batches of more than one", len(together))
	if len(together) == 0 {
		t.Error("nothing went in a batch; the test proves nothing of them")
	}
}

func TestKillAtEachStepLosesNothing(t *testing.T) {
	w := killWorld(t)
	stop := w.trade(4)
	defer stop()
	kills := 0
	for _, step := range []string{"before-commit", "after-commit", "after-send"} {
		for _, name := range []string{"eu", "hq"} {
			for _, at := range []int64{1, 2 + rand.Int64N(30)} {
				s := w.sites[name]
				s.child.kill(t)
				s.startChild(step, at)
				if !comes(s.child.ended) {
					t.Fatalf("%s came %d times at %s: never", step, at, name)
				}
				if s.child.cmd.ProcessState.Success() {
					t.Fatalf("the agent at %s ended in order, not at %s", name, step)
				}
				kills += 2
				s.startChild("", 0)
				w.more(10)
			}
		}
	}
	stop()
	w.settle(w.explained(kills))
}
