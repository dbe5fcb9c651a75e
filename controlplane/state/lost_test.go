package state

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/serial"
)

// wide makes numbers of nine digits, 20 an hour.
func wide(name, lead string, sites ...string) model.NumberRange {
	r := testRange(name, lead, 1, 1_000_000, sites...)
	r.Span.Form.Digits, r.Hourly = 9, 20
	return r
}

// restore begins another life from what the log was at a time.
func (f *fixture) restore(backup []Entry, from time.Time) {
	f.Helper()
	f.Close()
	f.dir, f.Machine = f.TempDir(), nil
	f.reopen()
	f.log = append([]Entry(nil), backup...)
	if _, err := f.Apply(f.log); err != nil {
		f.Fatal(err)
	}
	f.anew(from)
}

func (f *fixture) anew(from time.Time) {
	f.Helper()
	f.must(&model.Rebuild{At: f.now, Incarnation: fmt.Sprint("life at ", len(f.log)), Rebuilt: model.Rebuilt{Node: "n1", From: from, At: f.now}})
}

func (f *fixture) kinds() map[string]int {
	out := map[string]int{}
	for _, e := range f.Exceptions(1000) {
		out[e.Kind]++
	}
	return out
}

// A range leases so many numbers an hour and no more, whoever asks and however the clocks of
// the nodes differ a little.
func TestLimitOfAnHour(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu", "na"))
	f.now = f.now.Truncate(time.Hour).Add(2 * time.Hour)
	f.lease("eu", "a", 1)
	c := f.leaseOf("na", "a", 2, 0)
	c.Want = 3
	f.must(c)
	if got := f.lease("na", "a", 3); got.Count() != 7 {
		t.Errorf("what was left of the hour: %v", got)
	}
	for _, shift := range []time.Duration{0, 59 * time.Minute, -time.Hour} { // also by a node whose clock is behind
		c := f.leaseOf("eu", "a", 4, 0)
		c.At = c.At.Add(shift)
		if err := f.refused(model.Conflict, c); !strings.Contains(err.Text, "20 numbers") {
			t.Error(err)
		}
	}
	f.now = f.now.Add(time.Hour)
	if got := f.lease("eu", "a", 4); got != (model.NumberBlock{First: 21, Last: 30}) {
		t.Errorf("in the next hour: %v", got)
	}
	ahead := f.leaseOf("eu", "a", 5, 0)
	ahead.At = ahead.At.Add(1000 * time.Hour)
	f.must(ahead)
	f.now = f.now.Add(2 * time.Hour)
	f.lease("eu", "a", 6) // a clock that was far ahead holds nothing up
	if got := f.Ranges()[0].Hourly; got != 20 {
		t.Errorf("%d an hour", got)
	}
}

// The limit is fixed when the range comes into force first.
func TestLimitIsFixed(t *testing.T) {
	f := rangesFixture(t)
	silent := wide("a", "1", "eu")
	silent.Hourly = 0
	f.govern(silent)
	f.refused(model.Conflict, f.proposal(wide("a", "1", "eu")))
	silent.Block = 100
	f.govern(silent)
	if got := f.Ranges()[0]; got.Hourly != 10*hourlyBlocks || got.Block != 100 {
		t.Errorf("%+v", got)
	}
	silent.Hourly = 10 * hourlyBlocks
	f.govern(silent)
	silent.Hourly = maxHourly + 1
	f.refused(model.Invalid, f.proposal(silent))
}

// In the life that is lost anybody may have leased: an agent that was revoked in the backup and
// enrolled again, a site that the backup does not know, a new machine, one whose older copy
// speaks first. The range goes on behind all that, and waits for nobody.
func TestRestoreGoesOnBehindWhatCanHaveBeenLeased(t *testing.T) {
	f := rangesFixture(t)
	f.now = f.now.Truncate(time.Hour).Add(59 * time.Minute)
	f.govern(wide("a", "1", "eu", "na"))
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "na"})
	f.lease("eu", "a", 1)
	backup, from := f.log[:len(f.log):len(f.log)], f.now

	f.join("na", "ho")
	f.govern(wide("a", "1", "eu", "na", "ho"))
	given := map[uint64]bool{}
	highest, request := uint64(0), 100
	for range 5 * 3600 / 60 { // five hours, each to its limit
		f.now = f.now.Add(time.Minute)
		for _, agent := range []string{"eu", "na", "ho"} {
			request++
			if r := f.do(f.leaseOf(agent, "a", request, 0)); r.Err == nil {
				b := r.Value.(*model.NumberBlock)
				highest = b.Last
				for n := b.First; n <= b.Last; n++ {
					given[n] = true
				}
			}
		}
	}
	if len(given) < 100 {
		t.Fatalf("only %d numbers were given", len(given))
	}
	f.restore(backup, from)
	got := f.Ranges()[0]
	if got.Held != "" || got.Next <= highest || got.Next > 11+9*20 || got.Sure != 11 {
		t.Errorf("leased up to %d, goes on as %+v", highest, got)
	}
	f.join("na") // a new machine
	f.speak("eu", 10)
	f.speak("na", 0)
	for i, agent := range []string{"eu", "na"} {
		if b := f.lease(agent, "a", i); given[b.First] || given[b.Last] {
			t.Errorf("%s got %v again", agent, b)
		}
	}
	if n := f.kinds(); n["ranges-skipped"] != 1 || n["ranges-held"] != 0 {
		t.Errorf("told %v", n)
	}
	f.refused(model.Invalid, &model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: got.Next}) // some are leased behind it
}

// What was passed over can be taken back by an operator, down to what is known as leased.
func TestPassedOverNumbersAreTakenBack(t *testing.T) {
	f := rangesFixture(t)
	r := testRange("a", "1", 1, 60, "eu")
	r.Hourly = 20
	f.govern(r)
	f.lease("eu", "a", 1)
	f.anew(f.now)
	err := f.refused(model.TooLarge, f.leaseOf("eu", "a", 2, 10))
	if list := f.Exceptions(100); !strings.Contains(err.Text, "60") || !strings.Contains(fmt.Sprint(list), "crossdock ranges release a --next 11") {
		t.Errorf("%v, %+v", err, list)
	}
	f.refused(model.Invalid, &model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 10})
	f.refused(model.Invalid, &model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 62})
	f.principal("ann", model.Viewer)
	f.refused(model.Forbidden, &model.ReleaseRange{Asked: f.by("ann"), Range: "a", Next: 11})
	f.refused(model.NotFound, &model.ReleaseRange{Asked: f.by("root"), Range: "b", Next: 11})
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 11})
	if got := f.lease("eu", "a", 2); got.First != 11 {
		t.Errorf("%v", got)
	}
}

// Where the limit cannot tell what was leased, the range is held until an operator has spoken.
func TestWhatCannotBeKnownIsHeld(t *testing.T) {
	for name, lose := range map[string]func(f *fixture){
		"backup of an unknown time":  func(f *fixture) { f.anew(time.Time{}) },
		"backup of long ago":         func(f *fixture) { f.anew(f.now.Add(-maxLost - time.Minute)) },
		"backup of tomorrow":         func(f *fixture) { f.anew(f.now.Add(24 * time.Hour)) },
		"another copy that is alive": func(f *fixture) { f.must(&model.RaiseGeneration{At: f.now, Above: 3, Agent: "na"}) },
	} {
		t.Run(name, func(t *testing.T) {
			f := rangesFixture(t)
			f.govern(wide("a", "1", "eu"), wide("b", "2", "eu"))
			f.lease("eu", "a", 1)
			lose(f)
			if err := f.refused(model.Conflict, f.leaseOf("eu", "a", 2, 10)); !strings.Contains(err.Text, "crossdock ranges release a") {
				t.Error(err)
			}
			if n := f.kinds(); n["ranges-held"] != 1 || f.Ranges()[1].Held == "" {
				t.Errorf("told %v", n)
			}
			f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 90})
			if got := f.lease("eu", "a", 2); got.First != 90 {
				t.Errorf("%v", got)
			}
			f.refused(model.Conflict, f.leaseOf("eu", "b", 3, 0))
		})
	}
}

// A month is bridged by the limit; a clock that differs a little is no reason to hold.
func TestWhatIsBridged(t *testing.T) {
	for _, lost := range []time.Duration{maxLost, -maxSkew} {
		f := rangesFixture(t)
		f.govern(wide("a", "1", "eu"))
		f.anew(f.now.Add(-lost))
		if got := f.lease("eu", "a", 2); got.First < 20*uint64(max(lost/time.Hour, 0))+1 {
			t.Errorf("%v: %v", lost, got)
		}
	}
}

// A range that a restored state does not know may have been leased before.
func TestNewRangeBehindARestoreIsHeld(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"))
	f.anew(f.now)
	f.govern(wide("a", "1", "eu"), wide("b", "2", "eu"), wide("c", "3", "eu"))
	f.lease("eu", "a", 1)
	f.refused(model.Conflict, f.leaseOf("eu", "b", 1, 0))
	if n := f.kinds(); n["ranges-held"] != 1 {
		t.Errorf("told %v", n)
	}
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "b", Next: 1})
	f.govern(wide("a", "1", "eu"), wide("b", "2", "eu"))
	if got := f.lease("eu", "b", 1); got.First != 1 {
		t.Errorf("%v", got)
	}
}

// A range of a state that an earlier version wrote had no limit.
func TestRangeWithoutALimitIsHeld(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"))
	err := f.db.Update(func(btx *bolt.Tx) error {
		row := parse[rangeRow](tableRanges, []byte("a"), btx.Bucket(tableRanges).Get([]byte("a")))
		row.Range.Hourly = 0
		text, err := appendRow([]byte("a"), row)
		if err != nil {
			return err
		}
		return btx.Bucket(tableRanges).Put([]byte("a"), text)
	})
	if err != nil {
		t.Fatal(err)
	}
	f.anew(f.now)
	if err := f.refused(model.Conflict, f.leaseOf("eu", "a", 1, 0)); !strings.Contains(err.Text, "crossdock ranges release a") || f.kinds()["ranges-held"] != 1 {
		t.Errorf("%v, told %v", err, f.kinds())
	}
}

// The word of an agent moves no range. A serial that it can hold and that was never leased
// here holds the range; one that it cannot hold does nothing.
func TestAgentsThatAreAhead(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"), wide("b", "2", "eu"), wide("c", "3", "na"))
	f.lease("eu", "a", 1)
	form := wide("a", "1").Span.Form
	other := form
	other.Lead = "7"
	greet := func(marks ...model.NumberMark) {
		t.Helper()
		a, _ := f.Agent("eu")
		f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: a.Epoch, Session: a.Session + 1, Nonce: request(len(f.log)), Told: true, Numbers: marks})
	}
	held := func() (names string) {
		for _, r := range f.Ranges() {
			if r.Held != "" {
				names += r.Name
			}
		}
		return names
	}
	greet(model.NumberMark{Range: "a", Highest: 10, Form: form}, model.NumberMark{Range: "b", Highest: serial.Most(9) + 1}, model.NumberMark{Range: "b", Highest: maxMark},
		model.NumberMark{Range: "b", Highest: 9, Form: other}, model.NumberMark{Range: "c", Highest: 9}, model.NumberMark{Range: "nobody's", Highest: 9})
	if got := held(); got != "" || len(f.Exceptions(9)) != 0 {
		t.Errorf("held %q, told %v", got, f.kinds())
	}
	greet(model.NumberMark{Range: "a", Highest: 11, Form: form}, model.NumberMark{Range: "b", Highest: 1}, model.NumberMark{Range: "c", Highest: 9})
	if got := held(); got != "ab" || f.kinds()["ranges-held"] != 1 || f.Ranges()[0].Next != 11 {
		t.Errorf("held %q, told %v, %+v", got, f.kinds(), f.Ranges()[0])
	}
	f.refused(model.Conflict, f.leaseOf("eu", "a", 2, 11))
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 12})
	if got := f.lease("eu", "a", 2); got.First != 12 {
		t.Errorf("%v", got)
	}
	// An operator's word that was too low, too.
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "b", Next: 1})
	f.refused(model.Conflict, f.leaseOf("eu", "b", 3, 5))
	if got := held(); got != "b" || f.kinds()["ranges-held"] != 2 {
		t.Errorf("held %q, told %v", got, f.kinds())
	}
}

// numbersReport is a status with what an agent has of range a.
func (f *fixture) numbersReport(agent string, used, highest uint64) {
	f.Helper()
	text, err := json.Marshal(model.AgentStatus{Numbers: []model.AgentNumbers{{Range: "a", Used: used, Highest: highest}}})
	if err != nil {
		f.Fatal(err)
	}
	a, _ := f.Agent(agent)
	f.must(&model.Ack{At: f.now, Agent: agent, Epoch: a.Epoch, Status: text})
}

// An operator is told when agents have said that they hold more.
func TestReleaseBelowWhatIsReported(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"))
	f.anew(time.Time{})
	f.numbersReport("eu", 3, 40)
	f.numbersReport("na", 3, 90) // which takes from no range
	if err := f.refused(model.Conflict, &model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 40}); !strings.Contains(err.Text, "agent eu") {
		t.Error(err)
	}
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 41})
	f.numbersReport("eu", 3, serial.Most(9)) // it lies
	f.refused(model.Conflict, &model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 50})
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	f.must(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 50})
}

// An image of an agent that is put back while its session was open has used fewer numbers than
// it said before: it gets no session, and with a new epoch none of the numbers that it holds.
func TestImageThatUsedFewerNumbers(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"))
	f.lease("eu", "a", 1)
	session := uint64(0)
	greet := func(marks ...model.NumberMark) bool {
		t.Helper()
		session++
		a, _ := f.Agent("eu")
		return f.must(&model.Greet{At: f.now, Agent: "eu", Epoch: a.Epoch, Session: session, Nonce: request(len(f.log)), Told: true, Numbers: marks}).(*model.GreetResult).Stale
	}
	if greet() {
		t.Error("before anything was said")
	}
	f.numbersReport("eu", 5, 10)
	for _, c := range []struct {
		mark  model.NumberMark
		stale bool
	}{
		{model.NumberMark{Range: "a", Highest: 10, Used: 5, Counted: true}, false},
		{model.NumberMark{Range: "a", Highest: 10, Used: 9, Counted: true}, false},
		{model.NumberMark{Range: "a", Highest: 10}, false}, // of a version that does not say
		{model.NumberMark{Range: "a", Highest: 10, Used: 4, Counted: true}, true},
		{model.NumberMark{Range: "b", Highest: 10, Used: 9, Counted: true}, true},
	} {
		if got := greet(c.mark); got != c.stale {
			t.Errorf("%+v is stale: %v", c.mark, got)
		}
	}
	if !greet() {
		t.Error("one that knows of no numbers")
	}
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: [16]byte{7}})
	if greet(model.NumberMark{Range: "a", Highest: 10, Used: 4, Counted: true}) {
		t.Error("in its new epoch")
	}
	if n := f.kinds(); n["numbers-forfeited"] != 1 {
		t.Errorf("told %v", n)
	}
}

// A request that would be refused, and change nothing, need not be asked.
func TestMayLease(t *testing.T) {
	f := rangesFixture(t)
	f.govern(wide("a", "1", "eu"), testRange("s", "5", 1, 9, "eu"))
	may := func(c *model.LeaseNumbers, want model.Code) {
		t.Helper()
		entries := len(f.log)
		got := f.MayLease(c)
		if want == "" && got != nil || want != "" && (got == nil || got.Code != want) || len(f.log) != entries {
			t.Errorf("%s of %s: %v, want %q", c.Range, c.Agent, got, want)
		}
	}
	may(f.leaseOf("eu", "a", 1, 0), "")
	may(f.leaseOf("na", "a", 1, 0), model.NotFound)
	may(&model.LeaseNumbers{At: f.now, Agent: "nobody", Range: "a"}, "") // which the state refuses
	f.lease("eu", "a", 1)
	f.lease("eu", "a", 2)
	may(f.leaseOf("eu", "a", 3, 0), model.Conflict) // the hour is full
	may(f.leaseOf("eu", "a", 2, 0), "")             // a repeat
	may(f.leaseOf("eu", "a", 3, 21), "")            // it holds the range
	f.refused(model.Conflict, f.leaseOf("eu", "a", 3, 21))
	may(f.leaseOf("eu", "a", 3, 21), model.Conflict)
	f.lease("eu", "s", 1)
	may(f.leaseOf("eu", "s", 2, 0), "") // people are to be told once
	f.refused(model.TooLarge, f.leaseOf("eu", "s", 2, 0))
	may(f.leaseOf("eu", "s", 2, 0), model.TooLarge)
}
