package state

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/serial"
)

// testRange makes numbers of three digits behind a lead.
func testRange(name, lead string, first, last uint64, sites ...string) model.NumberRange {
	return model.NumberRange{Name: name, Span: serial.Span{Form: serial.Form{Lead: lead, Digits: 3, Check: serial.CheckNone}, First: first, Last: last}, Sites: sites, Block: 10, Low: 5}
}

// propose offers a revision of all sites with these ranges.
func (f *fixture) proposal(ranges ...model.NumberRange) *model.Propose {
	text := fmt.Sprint(len(f.log), ranges)
	return &model.Propose{Asked: f.by("root"), Bundle: []byte(text), Digest: hashOf(text), Sites: []string{"eu", "ho", "na"}, Ranges: ranges}
}

func (f *fixture) approve(r *model.Revision, canary ...string) {
	f.Helper()
	f.must(&model.Approve{Asked: f.by("root"), Number: r.ID.Number, Digest: r.Digest, Canary: canary})
}

// govern puts ranges in force.
func (f *fixture) govern(ranges ...model.NumberRange) {
	f.Helper()
	f.approve(f.must(f.proposal(ranges...)).(*model.Revision))
}

func request(n int) (id [16]byte) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)+1)
	return id
}

func (f *fixture) leaseOf(agent, name string, n int, highest uint64) *model.LeaseNumbers {
	a, _ := f.Agent(agent)
	return &model.LeaseNumbers{At: f.now, Agent: agent, Epoch: a.Epoch, Range: name, Request: request(n), Highest: highest}
}

func (f *fixture) lease(agent, name string, n int) model.NumberBlock {
	f.Helper()
	return *f.must(f.leaseOf(agent, name, n, 0)).(*model.NumberBlock)
}

// speak opens a session of an agent that holds serials of "a" up to highest.
func (f *fixture) speak(agent string, highest uint64) {
	f.Helper()
	a, _ := f.Agent(agent)
	f.must(&model.Greet{At: f.now, Agent: agent, Epoch: a.Epoch, Session: a.Session + 1, Nonce: request(len(f.log)), Told: true,
		Numbers: []model.NumberMark{{Range: "a", Highest: highest}}})
}

func rangesFixture(t testing.TB) *fixture {
	f := openMachine(t)
	f.begin(model.ApprovalsSingle, model.Limits{})
	f.join("eu", "na")
	return f
}

func TestLeasesAreNeverTheSame(t *testing.T) {
	f := rangesFixture(t)
	f.refused(model.NotFound, f.leaseOf("eu", "a", 1, 0)) // no policy
	f.govern(testRange("a", "1", 1, 35, "eu", "na"), testRange("b", "2", 1, 9, "na"))
	if got := f.lease("eu", "a", 1); got != (model.NumberBlock{First: 1, Last: 10}) {
		t.Errorf("first %v", got)
	}
	if got := f.lease("na", "a", 1); got != (model.NumberBlock{First: 11, Last: 20}) {
		t.Errorf("another agent with the same request got %v", got)
	}
	if got := f.lease("eu", "a", 1); got != (model.NumberBlock{First: 1, Last: 10}) {
		t.Errorf("a repeat got %v", got)
	}
	few := f.leaseOf("eu", "a", 2, 0)
	few.Want, few.Have = 3, 4
	if got := f.must(few).(*model.NumberBlock); *got != (model.NumberBlock{First: 21, Last: 23}) {
		t.Errorf("three got %v", got)
	}
	f.refused(model.NotFound, f.leaseOf("eu", "b", 1, 0)) // not for this site
	f.refused(model.NotFound, f.leaseOf("eu", "c", 1, 0))
	f.refused(model.Forbidden, &model.LeaseNumbers{Agent: "eu", Epoch: 9, Range: "a", Request: request(1)})
	f.refused(model.Forbidden, &model.LeaseNumbers{Agent: "nobody", Epoch: 1, Range: "a", Request: request(1)})
	f.refused(model.Invalid, &model.LeaseNumbers{Agent: "eu", Epoch: 1, Range: "a"})
	f.refused(model.Invalid, f.leaseOf("eu", "a", 3, 1<<63))
	f.lease("na", "a", 3)
	if got := f.lease("na", "a", 4); got != (model.NumberBlock{First: 34, Last: 35}) {
		t.Errorf("the rest is %v", got)
	}
	if err := f.refused(model.TooLarge, f.leaseOf("na", "a", 5, 0)); !strings.Contains(err.Text, "35") {
		t.Error(err)
	}
	f.refused(model.TooLarge, f.leaseOf("na", "a", 5, 0))
	if list := f.Exceptions(10); len(list) != 1 || list[0].Kind != "range-used-up" {
		t.Errorf("exceptions %+v", list)
	}
	f.govern(testRange("a", "1", 1, 99, "eu", "na"), testRange("b", "2", 1, 9, "na")) // it grows
	if got := f.lease("na", "a", 5); got != (model.NumberBlock{First: 36, Last: 45}) {
		t.Errorf("behind the former end: %v", got)
	}
	got := f.Ranges()
	if len(got) != 2 || got[0].Next != 46 || !got[0].InForce || len(got[0].Leases) != 2 || len(got[1].Leases) != 0 {
		t.Fatalf("ranges %+v", got)
	}
	eu := got[0].Leases[0]
	if eu.Agent != "eu" || eu.Leased != 13 || !slices.Equal(eu.Blocks, []model.NumberBlock{{First: 1, Last: 10}, {First: 21, Last: 23}}) {
		t.Errorf("lease of eu: %+v", eu)
	}
	leases := 0
	for _, e := range f.Audit(0, model.MaxPage) {
		if e.Action == "numbers.lease" {
			leases++
		}
	}
	if leases != 6 {
		t.Errorf("%d leases in the record, want 6", leases)
	}
	f.reopen()
	if got := f.lease("eu", "a", 9); got.First != 46 {
		t.Errorf("after a restart %v", got)
	}
}

// Blocks that an agent has used up are no longer shown, and what is shown stays bounded.
func TestUsedBlocksGo(t *testing.T) {
	f := rangesFixture(t)
	f.govern(testRange("a", "1", 1, 999, "eu"))
	for i := range maxBlocksKept + 9 {
		c := f.leaseOf("eu", "a", i, 0)
		c.Want, c.Have = 1, uint64(i)
		f.must(c)
	}
	if got := f.Ranges()[0].Leases[0]; len(got.Blocks) != maxBlocksKept || got.Leased != maxBlocksKept+9 {
		t.Errorf("%d blocks of %d numbers", len(got.Blocks), got.Leased)
	}
	c := f.leaseOf("eu", "a", 999, 0)
	c.Have = 2
	f.must(c)
	if got := f.Ranges()[0].Leases[0].Blocks; len(got) != 3 {
		t.Errorf("with two left: %v", got)
	}
}

// A new epoch means that the lost data, or another copy, may have given what was leased.
func TestNewEpochForfeitsLeases(t *testing.T) {
	f := rangesFixture(t)
	f.govern(testRange("a", "1", 1, 999, "eu"))
	f.lease("eu", "a", 1)
	old := f.leaseOf("eu", "a", 1, 0)
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: [16]byte{7}})
	f.refused(model.Forbidden, old)
	if got := f.lease("eu", "a", 1); got.First != 11 {
		t.Errorf("the same request in a new epoch got %v", got)
	}
	if got := f.Ranges()[0].Leases[0]; got.Epoch != 2 || got.Forfeited != 10 || got.Leased != 20 || len(got.Blocks) != 1 {
		t.Errorf("%+v", got)
	}
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	if got := f.Ranges()[0].Leases[0]; got.Forfeited != 20 || len(got.Blocks) != 0 {
		t.Errorf("after it was revoked %+v", got)
	}
}

// Numbers that were given stay so, whatever later revisions say, even if the range is gone.
func TestRangesNeverComeAgain(t *testing.T) {
	f := rangesFixture(t)
	f.govern(testRange("a", "1", 100, 200, "eu"))
	f.lease("eu", "a", 1)
	for name, ranges := range map[string][]model.NumberRange{
		"another form":     {testRange("a", "2", 100, 200, "eu")},
		"an earlier begin": {testRange("a", "1", 50, 200, "eu")},
		"a later begin":    {testRange("a", "1", 101, 200, "eu")},
		"an earlier end":   {testRange("a", "1", 100, 108, "eu")},
		"another name":     {testRange("b", "1", 150, 300, "eu")},
		"beside it":        {testRange("a", "1", 100, 200, "eu"), testRange("b", "", 1, 999, "eu"), testRange("c", "9", 1, 9, "eu")},
	} {
		want := model.Conflict
		if name == "beside it" { // another length: no crossing
			f.must(f.proposal(ranges...))
			continue
		}
		if r := f.do(f.proposal(ranges...)); r.Err == nil || r.Err.Code != want {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	f.refused(model.Invalid, f.proposal(testRange("x", "7", 1, 20, "eu"), testRange("y", "7", 20, 30, "eu")))
	f.refused(model.Invalid, f.proposal(testRange("x", "7", 1, 20, "nowhere")))
	f.refused(model.Invalid, f.proposal(testRange("x", "7", 0, 20, "eu")))
	f.govern() // gone
	f.refused(model.NotFound, f.leaseOf("eu", "a", 2, 0))
	f.refused(model.Conflict, f.proposal(testRange("b", "1", 150, 300, "eu")))
	if got := f.Ranges(); len(got) != 1 || got[0].InForce {
		t.Errorf("%+v", got)
	}
	f.govern(testRange("a", "1", 100, 200, "eu"))
	if got := f.lease("eu", "a", 3); got.First != 110 {
		t.Errorf("the range again: %v", got)
	}
}

// What canary sites were given counts, also when the revision is taken back.
func TestCanaryRangesCount(t *testing.T) {
	f := rangesFixture(t)
	f.govern(testRange("a", "1", 1, 99, "na"))
	waiting := f.must(f.proposal(testRange("b", "3", 1, 50, "na"))).(*model.Revision)
	r := f.must(f.proposal(testRange("a", "1", 1, 99, "na", "eu"), testRange("c", "3", 1, 99, "eu"))).(*model.Revision)
	f.approve(r, "eu")
	if got := f.lease("eu", "c", 1); got.First != 1 {
		t.Errorf("%v", got)
	}
	f.refused(model.NotFound, f.leaseOf("na", "c", 1, 0))
	if got := f.lease("na", "a", 1); got.First != 1 {
		t.Errorf("%v", got)
	}
	again := f.must(&model.Withdraw{Asked: f.by("root"), Number: r.ID.Number}).(*model.Revision)
	if len(again.Ranges) != 1 {
		t.Errorf("in force again: %+v", again)
	}
	f.refused(model.NotFound, f.leaseOf("eu", "c", 2, 0))
	if got := f.lease("na", "a", 2); got.First != 11 {
		t.Errorf("%v", got)
	}
	f.refused(model.Conflict, &model.Approve{Asked: f.by("root"), Number: waiting.ID.Number, Digest: waiting.Digest})
	f.refused(model.Conflict, f.proposal(testRange("b", "3", 1, 50, "na")))
}

// world is a control plane with its backups, and agents that hold what they were given.
type world struct {
	*fixture
	rnd    *rand.Rand
	backup []Entry // the log up to then
	saved  time.Time
	lives  int
	newest uint64 // generation that agents have seen
	lower  int    // times that an operator took back what was passed over
	full   int    // times that the limit of an hour was met
	asked  int
	given  map[uint64]string // every serial that any agent ever got, and how
	agents map[string]*holder
}

type holder struct {
	highest uint64
	pending int // request whose answer it may have missed; 0: none
}

// step does one thing that may happen.
func (w *world) step(i int) {
	names := []string{"eu", "na", "ho"}
	name := names[w.rnd.IntN(len(names))]
	h := w.agents[name]
	switch w.rnd.IntN(12) {
	case 0:
		w.backup, w.saved = slices.Clone(w.log), w.now
	case 1:
		if w.rnd.IntN(3) == 0 {
			w.restore()
		}
	case 2:
		a, _ := w.Agent(name)
		w.do(&model.NewEpoch{At: w.now, Agent: name, Epoch: a.Epoch, Nonce: request(i)})
		// The data that was put back knows less; what it lost may have been given.
		h.highest, h.pending = h.highest/2, 0
	case 3, 4, 5:
		w.speak(name, h.highest)
	case 6:
		w.now = w.now.Add(time.Duration(w.rnd.IntN(100)) * time.Minute)
		if r := w.Ranges()[0]; r.Sure < r.Next && w.rnd.IntN(3) == 0 {
			w.vouch(r)
		}
	default:
		w.take(i, name, h)
	}
}

// vouch is an operator who knows of everything that was ever given, as she has to.
func (w *world) vouch(r model.RangeStatus) {
	next := r.Sure
	for n := range w.given {
		next = max(next, n+1)
	}
	w.must(&model.ReleaseRange{Asked: w.by("root"), Range: r.Name, Next: next})
	w.lower++
}

func (w *world) take(i int, name string, h *holder) {
	again := h.pending
	if again == 0 {
		w.asked++
		again = w.asked
	}
	c := w.leaseOf(name, "a", again, h.highest)
	c.Want = uint64(1 + w.rnd.IntN(10))
	r := w.do(c)
	if r.Err != nil {
		if !strings.Contains(r.Err.Text, "hourly") {
			w.Fatal(r.Err)
		}
		w.full++
		return
	}
	if h.pending = 0; w.rnd.IntN(4) == 0 {
		h.pending = again // the answer is lost
		return
	}
	b := r.Value.(*model.NumberBlock)
	how := fmt.Sprintf("step %d to %s", i, name)
	for n := b.First; n <= b.Last; n++ {
		if before, twice := w.given[n]; twice {
			w.Fatalf("serial %d is given in %s, and was in %s", n, how, before)
		}
		w.given[n] = how
	}
	h.highest = max(h.highest, b.Last)
}

// restore begins another life from the backup.
func (w *world) restore() {
	w.Close()
	w.dir, w.Machine = w.TempDir(), nil
	w.reopen()
	w.log = slices.Clone(w.backup)
	if _, err := w.Apply(w.log); err != nil {
		w.Fatal(err)
	}
	w.lives++
	w.must(&model.Rebuild{At: w.now, Incarnation: fmt.Sprint("life ", w.lives), Rebuilt: model.Rebuilt{Node: "n1", From: w.saved, At: w.now}})
	// Agents tell of lives that this one does not come from; then a person has to speak.
	if cluster, _ := w.Cluster(); cluster.Generation <= w.newest {
		w.must(&model.RaiseGeneration{At: w.now, Above: w.newest, Agent: "eu"})
		w.vouch(w.Ranges()[0])
	}
	cluster, _ := w.Cluster()
	w.newest = cluster.Generation
	for name, h := range w.agents { // epochs that were granted in the life that was lost are the agents' still
		a, _ := w.Agent(name)
		if w.rnd.IntN(2) == 0 {
			w.do(&model.Greet{At: w.now, Agent: name, Epoch: a.Epoch + 1, Session: a.Session + 1, Nonce: request(1), Told: true,
				Numbers: []model.NumberMark{{Range: "a", Highest: h.highest}}})
		}
	}
}

// Leases, lost answers, restores of the control plane and of agents in any order: no serial
// comes twice.
func TestNoSerialIsLeasedTwice(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &world{fixture: rangesFixture(t), rnd: rand.New(rand.NewPCG(seed, 35)), given: map[uint64]string{}, agents: map[string]*holder{}}
			w.join("ho")
			r := testRange("a", "1", 1, 1_000_000, "eu", "na", "ho")
			r.Span.Form.Digits, r.Hourly = 9, 30
			w.govern(r)
			for _, name := range []string{"eu", "na", "ho"} {
				w.agents[name] = &holder{}
			}
			w.backup, w.saved = slices.Clone(w.log), w.now
			for i := range 600 {
				w.step(i)
			}
			if len(w.given) < 200 || w.lives < 3 || w.lower == 0 || w.full == 0 {
				t.Errorf("%d serials were given in %d lives, %d times some were taken back, %d times the hour was full: the test has lost its point", len(w.given), w.lives+1, w.lower, w.full)
			}
		})
	}
}
