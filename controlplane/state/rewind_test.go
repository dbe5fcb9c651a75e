package state

import (
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// send pushes the events first to last of one lane and gives the relay's answer.
func (f *fixture) send(from, to string, first, last uint64) model.LaneAnswer {
	f.Helper()
	a, _ := f.Agent(from)
	text := cut(f, from, a.Epoch, []block.Lane{{Agent: to, First: first}}, plain(int(last-first+1), 60)...)
	return answerFor(f, f.must(&model.Push{At: f.now, Agent: from, Epoch: a.Epoch, Blocks: [][]byte{text}}), to)
}

func (f *fixture) lane(source, to string, epoch uint64) model.Lane {
	f.Helper()
	for _, l := range f.InboundLanes(to) {
		if l.Source == source && l.Epoch == epoch {
			return l
		}
	}
	f.Fatalf("no lane from %s to %s in epoch %d", source, to, epoch)
	return model.Lane{}
}

// parts shows an agent's mail: who sent what, and what is a gap.
func (f *fixture) parts(agent string) (list []string) {
	f.Helper()
	for _, m := range f.Mail(agent, 0, 1<<30) {
		list = append(list, part(f, agent, m))
	}
	return list
}

func part(f *fixture, agent string, m model.Mail) string {
	if m.Damaged != "" {
		return "damaged"
	}
	if m.Gap != nil {
		return name("gap "+m.Gap.Source, m.Gap.Epoch, m.Gap.First, m.Gap.Last)
	}
	e, err := block.ParseEnvelope(m.Block)
	if err != nil {
		f.Fatal(err)
	}
	l, _ := e.Lane(agent)
	return name(e.Origin.Agent, e.Origin.Epoch, l.First, e.Last(l.First))
}

func name(of string, epoch, first, last uint64) string {
	return strings.Join([]string{of, string(rune('0' + epoch)), string(rune('0' + first)), string(rune('0' + last))}, " ")
}

func TestAcknowledgedAndSettled(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na", "ho")
	f.send("eu", "ho", 1, 2)
	f.send("na", "ho", 1, 3)
	f.send("eu", "ho", 3, 5)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 2, Node: "n1", Settled: []model.Lane{{Source: "eu", Epoch: 1, Settled: 1}, {Source: "xx", Epoch: 1, Settled: 9}}})
	f.must(&model.Ack{At: f.now, Agent: "ho", Settled: []model.Lane{{Source: "eu", Epoch: 1}}}) // never down
	want := []model.Lane{{Source: "eu", Epoch: 1, Destination: "ho", Highwater: 5, Acked: 2, Settled: 1}, {Source: "na", Epoch: 1, Destination: "ho", Highwater: 3, Acked: 3}}
	if got := f.InboundLanes("ho"); !slices.Equal(got, want) {
		t.Errorf("lanes %+v, want %+v", got, want)
	}
	if got := f.Lanes("eu", 1); !slices.Equal(got, want[:1]) {
		t.Errorf("lanes of eu %+v", got)
	}
	if a, _ := f.Agent("ho"); a.Node != "n1" {
		t.Errorf("served by %q", a.Node)
	}
	if got := f.InboundLanes("h"); got != nil {
		t.Errorf("lanes of another name %+v", got)
	}
}

func TestBehind(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na", "ho")
	f.send("eu", "ho", 1, 3)
	f.send("na", "ho", 1, 2)
	f.send("eu", "ho", 4, 6)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 3, Settled: []model.Lane{{Source: "eu", Epoch: 1, Settled: 4}}})
	f.send("eu", "ho", 7, 7)
	f.send("na", "ho", 3, 4)
	holds := func(eu, na uint64) *model.Behind {
		return &model.Behind{At: f.now, Agent: "ho", Epoch: 1, Inbound: []model.Lane{{Source: "eu", Epoch: 1, Highwater: eu}, {Source: "na", Epoch: 1, Highwater: na}}}
	}
	if got := f.must(holds(6, 9)).(*model.BehindResult); len(got.Sources) != 0 || f.exceptions("behind") != 0 {
		t.Fatalf("an agent that is not behind: %+v", got)
	}
	for i := range 3 { // repeats change nothing more
		got := f.must(holds(2, 2)).(*model.BehindResult)
		if i == 0 != slices.Equal(got.Sources, []string{"eu"}) {
			t.Fatalf("behind, time %d: %+v", i, got)
		}
	}
	f.wantExceptions("behind", 1)
	if got, want := f.parts("ho"), []string{"na 1 3 4", "gap eu 1 3 4"}; !slices.Equal(got, want) {
		t.Errorf("mail %q, want %q", got, want)
	}
	if l := f.lane("eu", "ho", 1); l.Highwater != 4 || l.Acked != 2 || l.Settled != 4 {
		t.Errorf("lane %+v", l)
	}
	if l := f.lane("na", "ho", 1); l.Highwater != 4 || l.Acked != 2 {
		t.Errorf("the other lane %+v", l)
	}
	if a := f.send("eu", "ho", 8, 8); a.Highwater != 4 {
		t.Errorf("what comes too early: %+v", a)
	}
	if a := f.send("eu", "ho", 5, 8); a.Highwater != 8 {
		t.Errorf("what is sent again: %+v", a)
	}
	last := f.Mail("ho", 0, 1<<20)[2].Position
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: last})
	if l := f.lane("eu", "ho", 1); l.Acked != 8 || f.Mailbox("ho").Bytes != 0 || f.Mailbox("ho").Events != 0 || f.Relay().Bytes != 0 {
		t.Errorf("in the end: %+v, box %+v, relay %+v", l, f.Mailbox("ho"), f.Relay())
	}
	// On a fresh disk it reports nothing at all.
	f.join("ho")
	got := f.must(&model.Behind{At: f.now, Agent: "ho"}).(*model.BehindResult)
	if !slices.Equal(got.Sources, []string{"eu", "na"}) || !slices.Equal(f.parts("ho"), []string{"gap eu 1 1 4"}) {
		t.Errorf("sources %v, mail %q", got.Sources, f.parts("ho"))
	}
}

func TestBehindTellsTheSourcesGateway(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 3)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 1})
	out := f.apply(&model.Behind{At: f.now, Agent: "ho"})
	if !slices.Contains(out.Topics, "rewound/eu") {
		t.Errorf("topics %q", out.Topics)
	}
}

// A lane of an epoch that is over cannot be sent again: what waits of it stays, behind a
// gap for what is lost.
func TestBehindOfAFencedLane(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 4)
	f.send("eu", "ho", 5, 6)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 1, Settled: []model.Lane{{Source: "eu", Epoch: 1, Settled: 2}}})
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)})
	relay := f.Relay()
	got := f.must(&model.Behind{At: f.now, Agent: "ho", Inbound: []model.Lane{{Source: "eu", Epoch: 1, Highwater: 1}}}).(*model.BehindResult)
	if len(got.Sources) != 0 {
		t.Errorf("sources %v", got.Sources)
	}
	if parts, want := f.parts("ho"), []string{"gap eu 1 2 4", "eu 1 5 6"}; !slices.Equal(parts, want) {
		t.Errorf("mail %q, want %q", parts, want)
	}
	if f.Relay() != relay || f.Mailbox("ho").Events != 2 {
		t.Errorf("relay %+v, before %+v, box %+v", f.Relay(), relay, f.Mailbox("ho"))
	}
	if l := f.lane("eu", "ho", 1); l.Highwater != 6 || l.Acked != 1 {
		t.Errorf("lane %+v", l)
	}
	list := f.Exceptions(10)
	if !slices.ContainsFunc(list, func(e model.Exception) bool { return e.Kind == "behind" && strings.Contains(e.Text, "2 events") }) {
		t.Errorf("nobody says that 2 events may be lost: %+v", list)
	}
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: f.Mailbox("ho").Next - 1})
	if f.Relay().Blocks != 0 || f.Mailbox("ho").Bytes != 0 {
		t.Errorf("relay %+v, box %+v", f.Relay(), f.Mailbox("ho"))
	}
}

// flip turns a bit of a stored block.
func flip(f *fixture, id uint64, at int) {
	f.Helper()
	err := f.db.Update(func(b *bolt.Tx) error {
		text := slices.Clone(b.Bucket(tableBlocks).Get(key(id)))
		text[(at+len(text))%len(text)] ^= 1
		return b.Bucket(tableBlocks).Put(key(id), text)
	})
	if err != nil {
		f.Fatal(err)
	}
}

func TestDamagedMail(t *testing.T) {
	for at, where := range map[int]string{20: "header", -1: "payload"} {
		t.Run(where, func(t *testing.T) {
			f := openMachine(t)
			f.fatal = func(err error) { t.Fatalf("the process would end: %v", err) }
			f.begin(model.ApprovalsDual, model.Limits{})
			f.join("eu", "na", "ho")
			f.send("eu", "ho", 1, 2)
			f.send("eu", "ho", 3, 4)
			f.send("na", "ho", 1, 1)
			f.send("eu", "ho", 5, 5)
			flip(f, 2, at)
			mail := f.Mail("ho", 0, 1<<20)
			if len(mail) != 4 || mail[1].Damaged == "" || mail[1].Block != nil || mail[0].Damaged != "" || mail[2].Block == nil {
				t.Fatalf("mail %+v", mail)
			}
			for range 2 {
				f.must(&model.LoseMail{At: f.now, Agent: "ho", Position: mail[1].Position, Node: "n2", Why: mail[1].Damaged})
			}
			f.wantExceptions("lost-mail", 1)
			if got, want := f.parts("ho"), []string{"eu 1 1 2", "na 1 1 1"}; !slices.Equal(got, want) {
				t.Errorf("mail %q, want %q", got, want)
			}
			if a := f.send("eu", "ho", 3, 5); a.Highwater != 5 {
				t.Errorf("sent again: %+v", a)
			}
			f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: f.Mailbox("ho").Next - 1})
			if f.Relay().Bytes != 0 || f.Mailbox("ho").Bytes != 0 || f.lane("eu", "ho", 1).Acked != 5 {
				t.Errorf("relay %+v, box %+v", f.Relay(), f.Mailbox("ho"))
			}
		})
	}
}

func TestDamagedMailOfAFencedLane(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.refused(model.NotFound, &model.LoseMail{At: f.now, Agent: "xx", Position: 1})
	f.send("eu", "ho", 1, 2)
	f.send("eu", "ho", 3, 4)
	f.send("eu", "ho", 5, 5)
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)})
	flip(f, 2, -1)
	f.must(&model.LoseMail{At: f.now, Agent: "ho", Position: 2, Node: "n2", Why: "crc"})
	if got, want := f.parts("ho"), []string{"eu 1 1 2", "gap eu 1 3 4", "eu 1 5 5"}; !slices.Equal(got, want) {
		t.Errorf("mail %q, want %q", got, want)
	}
	if r := f.Relay(); r.Blocks != 2 || f.Mailbox("ho").Events != 3 {
		t.Errorf("relay %+v, box %+v", r, f.Mailbox("ho"))
	}
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: f.Mailbox("ho").Next - 1})
	if f.Relay().Bytes != 0 || f.Mailbox("ho").Bytes != 0 || f.lane("eu", "ho", 1).Acked != 5 {
		t.Errorf("relay %+v, box %+v", f.Relay(), f.Mailbox("ho"))
	}
}

// The lane of a new epoch begins with a gap over what the old one has brought: that is no
// loss, but what lies beyond is.
func TestGapAtTheBeginningOfAnEpoch(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 5)
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 1, Nonce: nonce(1)})
	gap := func(epoch, last uint64) {
		f.must(&model.Push{At: f.now, Agent: "eu", Epoch: epoch, Gaps: []model.Gap{{Destination: "ho", First: 1, Last: last, Cause: "epoch"}}})
	}
	gap(2, 5)
	f.wantExceptions("gap", 0)
	if a := f.send("eu", "ho", 6, 6); a.Highwater != 6 {
		t.Errorf("numbers do not go on: %+v", a)
	}
	f.must(&model.NewEpoch{At: f.now, Agent: "eu", Epoch: 2, Nonce: nonce(2)})
	gap(3, 9)
	f.wantExceptions("gap", 1)
	if e := f.Exceptions(1)[0]; !strings.Contains(e.Text, "7 to 9") {
		t.Errorf("it says %q", e.Text)
	}
	if got, want := f.parts("ho"), []string{"eu 1 1 5", "gap eu 2 1 5", "eu 2 6 6", "gap eu 3 1 9"}; !slices.Equal(got, want) {
		t.Errorf("mail %q, want %q", got, want)
	}
}

func TestForget(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na", "ho", "la")
	f.report("ho", letterFact(t, model.DeadLetter{ID: "ho/1/erp", System: "erp", State: "open"}))
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: "ho/1/erp", Replay: true})
	f.send("eu", "ho", 1, 2)
	f.send("na", "ho", 1, 3)
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: 1})
	f.send("eu", "ho", 3, 4)
	f.refused(model.Conflict, &model.ForgetAgent{Asked: f.by("root"), Agent: "ho"})
	f.refused(model.NotFound, &model.ForgetAgent{Asked: f.by("root"), Agent: "xx"})
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "ho"})
	if a := f.send("eu", "ho", 5, 5); a.Refused == "" || a.Highwater != 4 {
		t.Fatalf("a revoked destination answers %+v", a)
	}
	f.must(&model.ForgetAgent{Asked: f.by("root"), Agent: "ho"})
	f.refused(model.Conflict, &model.ForgetAgent{Asked: f.by("root"), Agent: "ho"})
	if box := f.Mailbox("ho"); box.First != box.Next {
		t.Errorf("nothing waits, and the mailbox is %+v", box)
	}
	if f.Relay().Bytes != 0 || f.Mailbox("ho").Bytes != 0 || f.rows(tableMail) != 0 || len(f.Commands("ho")) != 0 {
		t.Errorf("relay %+v, box %+v, commands %v", f.Relay(), f.Mailbox("ho"), f.Commands("ho"))
	}
	if l, _ := f.DeadLetter("ho/1/erp"); l.State != model.DeadLetterOpen {
		t.Errorf("its dead letter is %s", l.State)
	}
	// Its sources go on, for it and for the others.
	text := cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: 5}, {Agent: "la", First: 1}}, plain(2, 50)...)
	value := f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
	if ho, la := answerFor(t, value, "ho"), answerFor(t, value, "la"); ho.Highwater != 6 || ho.Refused != "" || la.Highwater != 2 {
		t.Errorf("answers %+v, %+v", ho, la)
	}
	if f.Relay().Blocks != 1 || f.rows(tableMail) != 1 {
		t.Errorf("it is kept: relay %+v", f.Relay())
	}
	f.must(&model.ResolveException{Asked: f.by("root"), Exception: "ho/forgotten/eu/1"})
	f.send("eu", "ho", 7, 7)
	f.wantExceptions("forgotten", 2)
	for _, e := range f.Exceptions(10) {
		if e.ID == "ho/forgotten/eu/1" && (!strings.HasPrefix(e.Text, "5 events") || e.Resolved.IsZero()) {
			t.Errorf("it says %q, resolved %v", e.Text, e.Resolved)
		}
		if e.ID == "ho/forgotten/eu/1" && !strings.Contains(e.Text, "2 that ho had confirmed") {
			t.Errorf("nobody says what it may not have delivered: %q", e.Text)
		}
		if e.ID == "ho/forgotten/na/1" && (!strings.HasPrefix(e.Text, "3 events") || strings.Contains(e.Text, "confirmed")) {
			t.Errorf("it says %q", e.Text)
		}
	}
	// Enrolled again it begins behind what was given up.
	f.now = f.now.Add(time.Minute)
	f.join("ho")
	f.send("eu", "ho", 8, 9)
	f.must(&model.Behind{At: f.now, Agent: "ho", Epoch: 2})
	if a := f.send("eu", "ho", 8, 9); a.Highwater != 9 {
		t.Errorf("after the rewind: %+v", a)
	}
	f.wantParts("ho", "gap eu 1 1 7", "gap na 1 1 3", "eu 1 8 9")
	if cause := f.Mail("ho", 0, 1<<20)[0].Gap.Cause; !strings.Contains(cause, "forgotten") {
		t.Errorf("what was given up counts as %q", cause)
	}
}

// A mailbox that a rewind has emptied takes one piece in any case, like one that was read.
func TestRewoundMailboxIsEmpty(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{MailboxBytes: 10})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 2)
	f.must(&model.LoseMail{At: f.now, Agent: "ho", Position: 1, Why: "crc"})
	if a := f.send("eu", "ho", 1, 2); a.Full || a.Highwater != 2 {
		t.Errorf("it answers %+v", a)
	}
}

func TestSnapshotIsChecked(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.principal("ann", model.Viewer)
	f.report("ho", letterFact(t, model.DeadLetter{ID: "ho/1/erp", System: "erp", State: "open"}))
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: "ho/1/erp", Replay: true})
	f.send("eu", "ho", 1, 2)
	check := func() error {
		s, err := f.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		return s.Check()
	}
	if err := check(); err != nil {
		t.Fatalf("what is whole: %v", err)
	}
	flip(f, 1, -1)
	if err := check(); err == nil || !strings.Contains(err.Error(), "block 1") {
		t.Errorf("a damaged block: %v", err)
	}
	flip(f, 1, -1)
	err := f.db.Update(func(b *bolt.Tx) error {
		row := slices.Clone(b.Bucket(tableAgents).Get([]byte("eu")))
		row[len(row)-1] ^= 1
		return b.Bucket(tableAgents).Put([]byte("eu"), row)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), `agents, row "eu"`) {
		t.Errorf("a damaged row: %v", err)
	}
}

// goneBack has eu send five events to ho in three pieces, of which the second is damaged.
func goneBack(t *testing.T) *fixture {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.send("eu", "ho", 1, 2)
	f.send("eu", "ho", 3, 3)
	f.send("eu", "ho", 4, 5)
	f.must(&model.LoseMail{At: f.now, Agent: "ho", Position: 2, Node: "n1", Why: "crc"})
	if l := f.lane("eu", "ho", 1); l.Highwater != 2 {
		t.Fatalf("lane %+v", l)
	}
	return f
}

func (f *fixture) gap(from, to string, first, last uint64) model.LaneAnswer {
	f.Helper()
	a, _ := f.Agent(from)
	gap := model.Gap{Destination: to, First: first, Last: last, Cause: "not held"}
	return answerFor(f, f.must(&model.Push{At: f.now, Agent: from, Epoch: a.Epoch, Gaps: []model.Gap{gap}}), to)
}

func (f *fixture) wantParts(agent string, want ...string) {
	f.Helper()
	if got := f.parts(agent); !slices.Equal(got, want) {
		f.Errorf("mail %q, want %q", got, want)
	}
}

// end acknowledges all that waits, and nothing is left of it.
func (f *fixture) end(agent string) {
	f.Helper()
	f.must(&model.Ack{At: f.now, Agent: agent, Mailbox: f.Mailbox(agent).Next - 1})
	if r := f.Relay(); r.Blocks != 0 || r.Bytes != 0 || f.rows(tableSpare) != 0 || f.Mailbox(agent).Bytes != 0 {
		f.Errorf("relay %+v, %d pieces aside, box %+v", r, f.rows(tableSpare), f.Mailbox(agent))
	}
}

// What a source does not hold any more is lost as far as it was damaged, and no further.
func TestWhatIsWholeStandsInForItsSource(t *testing.T) {
	for name, test := range map[string]struct {
		push func(f *fixture) model.LaneAnswer
		want []string
		gaps int
	}{
		"all is sent again": {func(f *fixture) model.LaneAnswer { return f.send("eu", "ho", 3, 5) }, []string{"eu 1 1 2", "eu 1 3 5"}, 0},
		"nothing is held":   {func(f *fixture) model.LaneAnswer { return f.gap("eu", "ho", 3, 5) }, []string{"eu 1 1 2", "gap eu 1 3 3", "eu 1 4 5"}, 1},
		"nor what came later": {func(f *fixture) model.LaneAnswer { return f.gap("eu", "ho", 3, 6) },
			[]string{"eu 1 1 2", "gap eu 1 3 3", "eu 1 4 5", "gap eu 1 6 6"}, 2},
		"the gap ends within a piece": {func(f *fixture) model.LaneAnswer {
			if a := f.gap("eu", "ho", 3, 4); a.Highwater != 5 {
				f.Errorf("answer %+v", a)
			}
			return f.send("eu", "ho", 6, 6)
		}, []string{"eu 1 1 2", "gap eu 1 3 3", "eu 1 4 5", "eu 1 6 6"}, 1},
		"sent again up to within a piece": {func(f *fixture) model.LaneAnswer {
			f.send("eu", "ho", 3, 4)
			return f.gap("eu", "ho", 5, 5)
		}, []string{"eu 1 1 2", "eu 1 3 4", "eu 1 4 5"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := goneBack(t)
			if a := test.push(f); a.Highwater < 5 {
				t.Errorf("answer %+v", a)
			}
			f.wantParts("ho", test.want...)
			f.wantExceptions("gap", test.gaps)
			f.end("ho")
		})
	}
}

// A source that can send nothing more leaves what the relay has, and people are told of the
// rest.
func TestSourceEndsBeforeItSendsAgain(t *testing.T) {
	for name, end := range map[string]model.Command{
		"revoked":       &model.Revoke{Agent: "eu"},
		"another epoch": &model.NewEpoch{Agent: "eu", Epoch: 1, Nonce: nonce(1)},
	} {
		t.Run(name, func(t *testing.T) {
			f := goneBack(t)
			switch c := end.(type) {
			case *model.Revoke:
				c.Asked = f.by("root")
			case *model.NewEpoch:
				c.At = f.now
			}
			f.must(end)
			f.wantParts("ho", "eu 1 1 2", "gap eu 1 3 3", "eu 1 4 5")
			f.wantExceptions("gap", 1)
			if l := f.lane("eu", "ho", 1); l.Highwater != 5 {
				t.Errorf("lane %+v", l)
			}
			f.end("ho")
		})
	}
	t.Run("enrolled again", func(t *testing.T) {
		f := goneBack(t)
		f.join("eu")
		f.wantParts("ho", "eu 1 1 2", "gap eu 1 3 3", "eu 1 4 5")
		f.end("ho")
	})
}

// What is kept for a destination goes with it; its source sends it again, and then it counts.
func TestForgottenDestinationKeepsNothingAside(t *testing.T) {
	f := goneBack(t)
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "ho"})
	f.must(&model.ForgetAgent{Asked: f.by("root"), Agent: "ho"})
	if r := f.Relay(); r.Blocks != 0 || f.rows(tableSpare) != 0 {
		t.Errorf("relay %+v, %d pieces aside", r, f.rows(tableSpare))
	}
	f.send("eu", "ho", 3, 5)
	for _, e := range f.Exceptions(10) {
		if e.Kind == "forgotten" && !strings.HasPrefix(e.Text, "5 events") {
			t.Errorf("it says %q", e.Text)
		}
	}
	f.wantExceptions("forgotten", 1)
}
