package systemtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// office is where policy is changed all the time, by several people at once who get into
// each other's way: their proposals are made from one base, and one of them is in force
// first.
type office struct {
	w      *world
	people []colleague
	bundle map[string]string // in force but for a note, whatever is approved here
}

// colleague is somebody with a token.
type colleague struct{ name, token string }

// The people of an office: two who only write, one who does both, one who only approves.
const (
	writer = iota
	otherWriter
	both
	approver
)

// unhurriedDesk is how long a desk waits between two turns, or more where the clerk does:
// few enough operations in a round for a search through them.
const unhurriedDesk = 200 * time.Millisecond

// newOffice hires the people.
func newOffice(w *world) *office {
	o := &office{w: w}
	var sites []string
	for _, s := range w.sites {
		sites = append(sites, s.name)
	}
	o.bundle = w.bundle(sites)
	for _, p := range [][]string{writer: {"ann", "author"}, otherWriter: {"eve", "author"}, both: {"bob", "author", "approver"}, approver: {"zoe", "approver"}} {
		o.people = append(o.people, colleague{p[0], w.plane.hire(p[0], p[1:]...)})
	}
	return o
}

// desk is one of several at which an office works.
type desk struct {
	*office
	r    *rand.Rand
	name string
	made []offer // so far; most are overtaken
}

// offer is a proposal that was answered.
type offer struct {
	number, base uint64
	digest       string
}

// open notes what is in force and has some desks work from there on, until the function that
// it gives ends them.
func (o *office) open(round int, seeds *rand.Rand, desks int) (end func()) {
	o.w.awaitPolicy(history.Begin)
	stop, between := make(chan struct{}), max(unhurriedDesk, 4*o.w.unhurried)
	var all sync.WaitGroup
	for n := range desks {
		d := &desk{office: o, r: rand.New(rand.NewPCG(seeds.Uint64(), 5)), name: fmt.Sprintf("%d-%d", round, n)}
		all.Go(func() {
			for i := 0; ; i++ {
				d.turn(i)
				select {
				case <-stop:
					return
				case <-time.After(between/2 + time.Duration(d.r.Int64N(int64(between)))):
				}
			}
		})
	}
	end = sync.OnceFunc(func() { close(stop); all.Wait() })
	o.w.t.Cleanup(end)
	return end
}

// nodes are those that a call goes to: mostly one by chance, now and then all of them, one
// after the other.
func (d *desk) nodes() []doors {
	all := slices.Clone(d.w.plane.nodes()) // the others look at them too
	d.r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if len(all) > 1 && d.r.IntN(4) > 0 {
		return all[:1]
	}
	return all
}

// turn is one thing that somebody does.
func (d *desk) turn(i int) {
	d.read()
	if d.r.IntN(4) == 0 {
		d.personnel(i)
		return
	}
	author := d.people[[]int{writer, otherWriter, both}[d.r.IntN(3)]]
	made := d.propose(author, i)
	if made.number == 0 {
		return
	}
	if d.made = append(d.made, made); d.r.IntN(3) == 0 { // nobody may do that
		d.approve(author, made)
	}
	second := d.people[approver]
	if author != d.people[both] && d.r.IntN(2) == 0 {
		second = d.people[both]
	}
	d.approve(second, made)
	d.read()
	if d.r.IntN(4) == 0 {
		d.approve(d.people[approver], d.made[d.r.IntN(len(d.made))])
	}
}

// read asks one node which revision is in force.
func (d *desk) read() {
	nodes := d.nodes()
	d.w.readPolicy(history.Read, nodes[:min(1, len(nodes))])
}

// readPolicy asks which revision is in force.
func (w *world) readPolicy(verb history.Verb, nodes []doors) history.Outcome {
	return w.operate(history.Operation{Verb: verb, Object: history.Policy}, request{w.plane.token, http.MethodGet, "/revisions/active", nil, nodes},
		func(o *history.Operation, answer []byte) error {
			var r struct{ Number uint64 }
			err := json.Unmarshal(answer, &r)
			o.Revision = r.Number
			return err
		})
}

// awaitPolicy asks until a node has a current answer, while nothing else is under way.
func (w *world) awaitPolicy(verb history.Verb) {
	w.t.Helper()
	until(w.t, "a node tells what is in force", func() string {
		return map[bool]string{false: "none does"}[w.readPolicy(verb, w.plane.nodes()) == history.Done]
	})
}

// propose offers the policy with another note.
func (d *desk) propose(author colleague, turn int) (made offer) {
	bundle := maps.Clone(d.bundle)
	bundle["note.yaml"] = fmt.Sprintf("apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: desk, labels: {turn: '%s-%d'}}\nspec: {owner: it, region: eu}\n", d.name, turn)
	d.w.operate(history.Operation{Verb: history.Propose, Object: history.Policy, By: author.name},
		request{author.token, http.MethodPost, "/revisions", map[string]any{"bundle": bundle, "note": d.name}, d.nodes()},
		func(o *history.Operation, answer []byte) error {
			var r struct {
				Number, Base uint64
				Digest       string
			}
			err := json.Unmarshal(answer, &r)
			o.Revision, o.Base = r.Number, r.Base
			made = offer{r.Number, r.Base, r.Digest}
			return err
		})
	return made
}

func (d *desk) approve(by colleague, o offer) {
	d.w.operate(history.Operation{Verb: history.Approve, Object: history.Policy, By: by.name, Revision: o.number, Base: o.base},
		request{by.token, http.MethodPost, fmt.Sprintf("/revisions/%d/approve", o.number), map[string]any{"digest": o.digest}, d.nodes()}, nil)
}

// personnel makes somebody and ends their access, at nodes by chance.
func (d *desk) personnel(turn int) {
	name := fmt.Sprintf("guest-%s-%d", d.name, turn)
	d.w.create(name, d.nodes())
	d.w.operate(history.Operation{Verb: history.Disable, Object: name, By: "admin"},
		request{d.w.plane.token, http.MethodPost, "/principals/" + name + "/disable", nil, d.nodes()}, nil)
	if nodes := d.nodes(); len(nodes) > 0 {
		d.w.lookUp([]string{name}, nodes[:1])
	}
}
