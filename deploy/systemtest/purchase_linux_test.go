package systemtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// buyers are two agents that can be killed, one with plugins that a test has chosen, and one
// where the events of its purchases go to.
type buyers struct {
	t        *testing.T
	eu       *site
	provider *provider
	papers   *papers
	asked    []string // references
	crashes  int      // of agents
}

func newBuyers(t *testing.T, plugins func(provider string) []plugin) *buyers {
	t.Helper()
	p := startPlane(t, nil)
	b := &buyers{t: t, provider: newProvider(t)}
	b.papers = newPapers(t, "papers", "hq", b.provider.deeds)
	bundle := policyFor([]string{"eu", "hq"}, nil)
	bundle["policy.yaml"] += strings.TrimPrefix(b.papers.document(), "---\n")
	p.approve(callsBundle(t, bundle, "papers", plugins(b.provider.url)...))
	b.eu = newSite(t, p, "eu")
	b.eu.usePlugins()
	newSite(t, p, "hq").start()
	b.eu.startChild("", 0)
	b.eu.awaitReady()
	return b
}

func courierAt(provider string) []plugin {
	return []plugin{{name: "courier", kind: "carrier", program: "courier", sites: "eu", settings: fmt.Sprintf("provider: %q", provider), more: "  callTimeout: 10s\n"}}
}

// buy insists on a label.
func (b *buyers) buy(reference string) carrier.Shipped {
	b.t.Helper()
	b.asked = append(b.asked, reference)
	out := b.eu.ship("courier", reference)
	b.provider.deeds.Add(history.Purchase{Deed: history.Told, Site: "eu", Reference: reference, Number: out.Shipment})
	return out
}

// diesAt has the agent die at its next steps of these names, one life after the other; a
// purchase is asked for in each.
func (b *buyers) diesAt(reference string, steps ...string) {
	b.t.Helper()
	for _, step := range steps {
		b.eu.child.kill(b.t)
		b.crashes++
		b.eu.startChild(step, 1)
		gone := b.eu.child.ended
		until(b.t, "the agent comes to "+step, func() string {
			select {
			case <-gone:
				return ""
			default:
			}
			if b.eu.notReady() == "" && b.eu.pluginNamed("courier").State == "running" {
				a, err := b.eu.call("carriers/courier/ship", reference, parcelOf(reference, ""))
				return fmt.Sprintf("%d %s, %v", a.status, a.body, err)
			}
			return "it is not ready"
		})
		b.crashes++
		b.eu.startChild("", 0)
		b.eu.awaitReady()
	}
}

// killPlugin ends the courier as a crash does.
func (b *buyers) killPlugin() {
	pid := b.eu.pluginNamed("courier").PID
	if pid == 0 {
		b.t.Error("there is no courier to kill")
		return
	}
	kill, _ := holdProcess(b.t, pid)
	kill()
}

// settle asks for everything again, looks for it, and judges.
func (b *buyers) settle() {
	b.t.Helper()
	b.eu.awaitPlugins("running")
	for _, reference := range b.asked {
		again := b.eu.ship("courier", reference)
		b.provider.deeds.Add(history.Purchase{Deed: history.Again, Site: "eu", Reference: reference, Number: again.Shipment})
		var found carrier.Shipped
		b.eu.insist("carriers/courier/get-by-reference", "", fmt.Sprintf(`{"reference":%q}`, reference), &found)
		b.provider.deeds.Add(history.Purchase{Deed: history.Found, Site: "eu", Reference: reference, Number: found.Shipment})
	}
	b.eu.awaitStatus("owes nothing", func(st agent.Status) string {
		if c := st.Calls; c.Queued+c.Unknown+c.Begun+c.Leaving > 0 {
			return fmt.Sprintf("%+v", c)
		}
		return ""
	})
	for _, reference := range b.asked {
		b.papers.await(b.t, "shipment.label-created.v1", reference)
	}
	for _, f := range history.CheckPurchases(b.provider.deeds.List(), b.crashes*concurrency) {
		b.t.Error(f)
	}
}

// TestKillsWhileALabelIsBought kills the agent at each step of a purchase and of finding out
// what came of it, and the carrier's plugin before and after its provider has sold: there is
// one label and one charge, and one event tells of it.
func TestKillsWhileALabelIsBought(t *testing.T) {
	b := newBuyers(t, courierAt)
	b.eu.awaitPlugins("running")
	for i, steps := range [][]string{{"call.begin"}, {"call.begun"}, {"call.made"}, {"call.outcome"}, {"call.recorded"}, {"call.event"}, {"call.left"},
		{"call.begun", "call.look"}, {"call.made", "call.looked"}, {"call.made", "call.outcome", "call.event"}} {
		reference := fmt.Sprint("eu-", i, "-", strings.Join(steps, "-"))
		b.diesAt(reference, steps...)
		b.eu.awaitPlugins("running")
		b.buy(reference)
	}
	for _, done := range []bool{false, true} {
		for _, agentToo := range []bool{false, true} {
			reference := fmt.Sprint("eu-plugin-", done, "-", agentToo)
			killed := false
			b.provider.set(func(what, _ string, now bool) conduct { // one call is made at a time
				if what != "ship" || now != done || killed {
					return fair
				}
				killed = true
				b.killPlugin()
				return torn
			})
			a, err := b.eu.call("carriers/courier/ship", reference, parcelOf(reference, ""))
			if err != nil || !killed || a.status == http.StatusOK && len(b.provider.sold(reference)) != 1 {
				t.Fatalf("%s: %d %s, %v; killed %v", reference, a.status, a.body, err, killed)
			}
			b.provider.set(nil)
			if agentToo {
				b.eu.child.kill(t)
				b.crashes++
				b.eu.startChild("", 0)
				b.eu.awaitReady()
			}
			b.buy(reference)
		}
	}
	b.settle()
}

// TestLostAnswersBuyNothingTwice has the provider break off before and after it has sold, and
// the line end under the plugin while it is asked what came of it.
func TestLostAnswersBuyNothingTwice(t *testing.T) {
	b := newBuyers(t, courierAt)
	b.eu.awaitPlugins("running")
	for i, how := range [][]string{{"ship:false"}, {"ship:true"}, {"ship:true", "find:false"}, {"ship:true", "find:true"}, {"ship:false", "find:true"}} {
		left := slices.Clone(how)
		b.provider.set(func(what, _ string, done bool) conduct { // one call is made at a time
			if len(left) > 0 && left[0] == fmt.Sprint(what, ":", done) {
				left = left[1:]
				return torn
			}
			return fair
		})
		b.buy(fmt.Sprint("eu-lost-", i))
		b.provider.set(nil)
		if len(left) > 0 {
			t.Errorf("%v did not happen", left)
		}
	}
	b.settle()
}

// TestPluginThatDoesHarm has one plugin crash, hang, stand still, eat memory, flood its outputs
// and answer with what is no answer, and another that never serves. Its own calls fail with a
// class; the carrier beside it and the agent go on, and it comes back.
func TestPluginThatDoesHarm(t *testing.T) {
	book := newZoneBook(t)
	b := newBuyers(t, func(provider string) []plugin {
		out := courierAt(provider)
		out[0].more = "  callTimeout: 2s\n  memory: 128MB\n"
		return append(out, plugin{name: "babble", kind: "carrier", program: "babble", sites: "eu", settings: "a: b"},
			plugin{name: "zone", kind: "carrier", program: "carrier-zone", sites: "eu", settings: fmt.Sprintf("tables: %s, state: %s", book.tables, book.state)})
	})
	began := b.eu.child.cmd.Process.Pid
	b.eu.awaitPlugins("running", "courier", "zone")
	zone := b.eu.pluginNamed("zone").PID
	for _, harm := range []struct {
		order string
		ends  bool // the plugin's process
	}{{"huge", false}, {"hang", false}, {"flood", false}, {"crash", true}, {"panic", true}, {"eat", true}, {"freeze", true}} {
		before := b.eu.pluginNamed("courier")
		failed := make(chan callAnswer, 1)
		go func() {
			a, err := b.eu.call("carriers/courier/rate", "", parcelOf("", harm.order))
			if err != nil {
				t.Error(err)
			}
			failed <- a
		}()
		for range 3 {
			b.eu.mustCall("carriers/zone/rate", "", parcelOf("", ""), http.StatusOK, nil)
		}
		a := <-failed
		if class := a.problem().Failure.Class; harm.order != "flood" && (a.status < 500 || class == "") || harm.order == "flood" && a.status != http.StatusOK {
			t.Errorf("%s is answered with %d %s", harm.order, a.status, a.body)
		}
		if harm.ends {
			until(t, "the courier ends of "+harm.order+" and comes back", func() string {
				s := b.eu.pluginNamed("courier")
				if s.State == "deactivated" { // which is right when it happens so often
					b.eu.activatePlugin("courier")
				}
				if s.PID == before.PID || s.State != "running" {
					return fmt.Sprintf("%+v", s)
				}
				return ""
			})
		}
		b.eu.insist("carriers/courier/rate", "", parcelOf("", ""), &carrier.Rates{})
		if now := b.eu.pluginNamed("courier"); !harm.ends && now.PID != before.PID {
			t.Errorf("%s: the courier was started anew: %+v", harm.order, now)
		}
	}
	var mixed carrier.Shipped
	b.eu.insist("carriers/courier/ship", "eu-mixed", parcelOf("eu-mixed", "mix"), &mixed)
	if sold := b.provider.sold("eu-mixed"); len(sold) != 1 || mixed.Reference != "eu-mixed" || mixed.Shipment != sold[0] {
		t.Errorf("what was answered with the label of another is %+v, sold was %q", mixed, sold)
	}
	until(t, "what never serves is given up", func() string {
		if s := b.eu.pluginNamed("babble"); s.State != "deactivated" {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
	if now := b.eu.pluginNamed("zone"); now.PID != zone || now.Crashes > 0 || !b.eu.child.running() || b.eu.child.cmd.Process.Pid != began {
		t.Errorf("the carrier beside it is %+v", now)
	}
	if lines := strings.Count(read(t, b.eu.log+".child"), "flood"); lines == 0 || lines > 6000 { // of 60,000
		t.Errorf("%d lines of its flood stand in the agent's log", lines)
	}
}
