package systemtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// marketPace is between two labels that a shop buys: a few in a second, so that they take
// nothing from what else is looked at.
const marketPace = 500 * time.Millisecond

// market is where the shops of a world buy labels, and what was seen of that.
type market struct {
	x        *trouble
	provider *provider
	papers   *papers
	opened   int
	told     atomic.Int64 // labels that were bought

	mu    sync.Mutex // guards asked
	asked []bought   // that were answered for, and not yet looked at again
}

// bought is a label that a shop was answered for.
type bought struct {
	site      *site
	reference string
}

// newMarket puts a carrier at each site in force. The agents do not run yet.
func newMarket(x *trouble) *market {
	x.t.Helper()
	m := &market{x: x, provider: newProvider(x.t)}
	m.papers = newPapers(x.t, "papers", "hq", m.provider.deeds)
	x.extend = func(bundle map[string]string) map[string]string {
		bundle["policy.yaml"] += strings.TrimPrefix(m.papers.document(), "---\n")
		return callsBundle(x.t, bundle, "papers", plugin{name: "courier", kind: "carrier", program: "courier", sites: strings.Join(siteNames, ", "),
			settings: fmt.Sprintf("provider: %q", m.provider.url), more: "  callTimeout: 5s\n"})
	}
	x.plane.approve(x.bundle(siteNames))
	for _, name := range siteNames {
		x.sites[name].usePlugins()
	}
	return m
}

// open has the shop of each site buy labels until the function that it gives ends that: what
// was asked for is still bought, and no call is left open.
func (m *market) open() (end func()) {
	m.opened++
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, name := range siteNames {
		s := m.x.sites[name]
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if !m.buy(s, fmt.Sprintf("%s-%d-%d", s.name, m.opened, i)) {
					return
				}
				select {
				case <-ctx.Done():
				case <-time.After(marketPace):
				}
			}
		})
	}
	end = sync.OnceFunc(func() { cancel(); all.Wait() })
	m.x.t.Cleanup(end)
	return end
}

// buy insists on a label, under the same key.
func (m *market) buy(s *site, reference string) bool {
	last := "nobody answered"
	for deadline := time.Now().Add(2 * patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var out carrier.Shipped
		status, err := s.tryCall("carriers/courier/ship", reference, parcelOf(reference, ""), &out)
		if err == nil {
			m.provider.deeds.Add(history.Purchase{Deed: history.Told, Site: s.name, Reference: reference, Number: out.Shipment})
			m.mu.Lock()
			m.asked = append(m.asked, bought{s, reference})
			m.mu.Unlock()
			m.told.Add(1)
			return true
		}
		if last = err.Error(); status/100 == 4 && status != http.StatusTooManyRequests {
			break
		}
	}
	m.x.t.Errorf("%s cannot be bought: %s", reference, last)
	return false
}

// more waits until as many further labels were bought.
func (m *market) more(n int64) {
	m.x.t.Helper()
	want := m.told.Load() + n
	until(m.x.t, "labels are bought", func() string {
		if got := m.told.Load(); got < want {
			return fmt.Sprintf("%d, want %d", got, want)
		}
		return ""
	})
}

// settle looks again at what was bought in this round, and waits until no call is open.
func (m *market) settle() {
	m.x.t.Helper()
	m.mu.Lock()
	asked := m.asked
	m.asked = nil
	m.mu.Unlock()
	for _, b := range asked {
		again := b.site.ship("courier", b.reference)
		m.provider.deeds.Add(history.Purchase{Deed: history.Again, Site: b.site.name, Reference: b.reference, Number: again.Shipment})
		var found carrier.Shipped
		b.site.insist("carriers/courier/get-by-reference", "", fmt.Sprintf(`{"reference":%q}`, b.reference), &found)
		m.provider.deeds.Add(history.Purchase{Deed: history.Found, Site: b.site.name, Reference: b.reference, Number: found.Shipment})
	}
	for _, name := range siteNames {
		m.x.sites[name].awaitStatus("no call is open", func(st agent.Status) string {
			if c := st.Calls; c.Queued+c.Unknown+c.Begun+c.Leaving+len(c.Unpublished) > 0 {
				return fmt.Sprintf("%+v", c)
			}
			return ""
		})
	}
}

// judge is called when every event has been delivered.
func (m *market) judge() {
	m.x.t.Helper()
	deeds := m.provider.deeds.List()
	for i, f := range history.CheckPurchases(deeds, m.x.crashes*concurrency) {
		m.x.broken[string(f.Property)]++
		if i < 10 {
			m.x.t.Error(f)
		}
	}
	m.x.t.Logf("%d labels so far", m.told.Load())
}

// mend waits until the couriers run again; one that was given up is activated, as people do.
func (m *market) mend() {
	m.x.t.Helper()
	for _, name := range siteNames {
		s := m.x.sites[name]
		until(m.x.t, "the courier runs at "+name, func() string {
			p := s.pluginNamed("courier")
			if p.State == "deactivated" {
				s.activatePlugin("courier")
			}
			if p.State != "running" {
				return fmt.Sprintf("%+v", p)
			}
			return ""
		})
	}
}

// signalCourier sends a signal to the courier of a site. One that does not run has no number.
func (s *site) signalCourier(signal unix.Signal) (pid int, err error) {
	p := s.pluginNamed("courier")
	if p.PID == 0 || p.State != "running" {
		return 0, fmt.Errorf("the courier of %s is %s", s.name, p.State)
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	// Now the number stays its own; it may have been another's before.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return 0, err
	}
	var parent int
	if _, err := fmt.Sscanf(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " %1s %d", new(string), &parent); err != nil {
		return 0, err
	}
	if agent := s.child.cmd.Process.Pid; parent != agent {
		return 0, fmt.Errorf("process %d is of %d, not of the agent %d", p.PID, parent, agent)
	}
	return p.PID, unix.PidfdSendSignal(fd, signal, nil, 0)
}

// pluginFaults are those of the programs beside the agents.
var pluginFaults = []fault{
	{name: "kill-plugin", do: func(x *trouble) {
		for range 1 + x.r.IntN(3) {
			x.hitCourier(x.anySite(), unix.SIGKILL)
			x.c.did[didKillPlugin]++
			x.wait(0, time.Second)
		}
		x.market.mend()
	}},
	{name: "hang-plugin", do: func(x *trouble) {
		s := x.anySite()
		pid := x.hitCourier(s, unix.SIGSTOP)
		x.c.did[didHangPlugin]++
		if x.chance(70) { // else the agent ends it
			x.wait(200*time.Millisecond, 6*time.Second)
			if again, err := s.signalCourier(unix.SIGCONT); err == nil && again != pid {
				x.t.Errorf("the courier of %s was started anew while it hung for moments", s.name)
			}
		} else {
			until(x.t, "the agent ends a courier that hangs", func() string {
				if p := s.pluginNamed("courier"); p.PID == pid || p.State != "running" && p.State != "deactivated" {
					return fmt.Sprintf("%+v", p)
				}
				return ""
			})
		}
		x.market.mend()
	}},
	{name: "crash-in-purchase", do: (*trouble).crashInPurchase},
}

// hitCourier waits until the courier runs, and sends it a signal.
func (x *trouble) hitCourier(s *site, signal unix.Signal) (pid int) {
	x.t.Helper()
	until(x.t, "the courier of "+s.name+" can be hit", func() (missing string) {
		var err error
		if pid, err = s.signalCourier(signal); err != nil {
			if s.pluginNamed("courier").State == "deactivated" {
				s.activatePlugin("courier")
			}
			return err.Error()
		}
		return ""
	})
	return pid
}

// crashInPurchase has the plugin or the agent die in the middle of a purchase: at a step of
// the call, or while the provider sells.
func (x *trouble) crashInPurchase() {
	if x.chance(50) {
		steps := []string{"call.begin", "call.begun", "call.made", "call.outcome", "call.recorded", "call.event", "call.left"}
		x.killAgentAt(x.anySite(), steps[x.r.IntN(len(steps))], 1+x.r.Int64N(4))
		x.c.did[didCrashBuying]++
		return
	}
	r, want := x.seeded(), 1+x.r.IntN(2)
	var mu sync.Mutex // guards r and did
	did := 0
	x.market.provider.set(func(what, reference string, done bool) conduct {
		mu.Lock()
		defer mu.Unlock()
		if did >= want || what != "ship" || !crashes(r, done) {
			return fair
		}
		name, _, _ := strings.Cut(reference, "-")
		if _, err := x.sites[name].signalCourier(unix.SIGKILL); err != nil {
			return fair
		}
		did++
		return []conduct{fair, torn}[r.IntN(2)]
	})
	defer x.market.provider.set(nil)
	until(x.t, "a courier is killed while it buys", func() string {
		mu.Lock()
		defer mu.Unlock()
		if did < want {
			return fmt.Sprintf("%d of %d", did, want)
		}
		return ""
	})
	x.c.did[didKillPlugin] += want
	x.c.did[didCrashBuying] += want
	x.market.mend()
}

// crashes decides: as often before the provider has sold as after it.
func crashes(r *rand.Rand, done bool) bool { return r.IntN(2) == 0 || done && r.IntN(2) == 0 }
