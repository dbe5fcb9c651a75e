package state

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// shadowMail is one piece of mail as the model of the relay expects it.
type shadowMail struct {
	position uint64
	first    uint64
	last     uint64
	block    int // of the model; 0 for a gap
	size     int64
}

// shadow is the relay as a few slices.
type shadow struct {
	high  map[string]uint64 // "source>destination"
	boxes map[string][]shadowMail
	next  map[string]uint64
	size  map[int]int64 // blocks by number
	limit int64
	total int64
}

func (s *shadow) bytes(box string) (sum int64) {
	for _, m := range s.boxes[box] {
		sum += m.size + mailOverhead
	}
	return sum
}

func (s *shadow) relay() (sum int64, blocks uint64) {
	held := map[int]bool{}
	for _, box := range s.boxes {
		for _, m := range box {
			if m.block != 0 && !held[m.block] {
				held[m.block] = true
				sum += s.size[m.block]
			}
		}
	}
	return sum, uint64(len(held))
}

func (s *shadow) offer(source, to string, first, last uint64, size int64) bool {
	if first != s.high[source+">"+to]+1 {
		return false
	}
	relay, _ := s.relay()
	if len(s.boxes[to]) > 0 && (s.bytes(to)+size+mailOverhead > s.limit || relay+size > s.total) {
		return false
	}
	s.high[source+">"+to] = last
	return true
}

func (s *shadow) deliver(to string, m shadowMail) {
	s.next[to]++
	m.position = s.next[to]
	s.boxes[to] = append(s.boxes[to], m)
}

// push does to the model what a push should do to the machine.
func (s *shadow) push(source string, to []block.Lane, count uint64, size int64) {
	number := len(s.size) + 1
	s.size[number] = size
	var takers []block.Lane
	for _, l := range to {
		if s.offer(source, l.Agent, l.First, l.First+count-1, size) {
			takers = append(takers, l)
		}
	}
	for _, l := range takers {
		s.deliver(l.Agent, shadowMail{first: l.First, last: l.First + count - 1, block: number, size: size})
	}
}

func (s *shadow) ack(to string, upTo uint64) {
	if upTo > s.next[to] {
		return
	}
	s.boxes[to] = slices.DeleteFunc(s.boxes[to], func(m shadowMail) bool { return m.position <= upTo })
}

var (
	testSources = []string{"eu", "na"}
	testBoxes   = []string{"ho", "la", "eu"}
)

// The relay against the model: pushes that come early, late, twice, for several
// destinations at once, with gaps, while acknowledgements come in any order.
func TestRelayAgainstModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		f := openMachine(t)
		defer f.Close()
		f.begin(model.ApprovalsDual, model.Limits{MailboxBytes: 6000, RelayBytes: 9000})
		f.join("eu", "na", "ho", "la")
		s := &shadow{high: map[string]uint64{}, boxes: map[string][]shadowMail{}, next: map[string]uint64{}, size: map[int]int64{}, limit: 6000, total: 9000}
		var last func()
		r.Repeat(map[string]func(*rapid.T){
			"": func(r *rapid.T) { compare(r, f, s) },
			"push": func(r *rapid.T) {
				source, count, size := rapid.SampledFrom(testSources).Draw(r, "source"), rapid.IntRange(1, 4).Draw(r, "count"), rapid.IntRange(10, 400).Draw(r, "size")
				var to []block.Lane
				for _, box := range testBoxes {
					if !rapid.Bool().Draw(r, "to "+box) {
						continue
					}
					// Mostly what is next in line, else what came before or is yet to come.
					offset := rapid.SampledFrom([]int{1, 1, 1, 1, 0, -1, 2, 5}).Draw(r, "offset")
					first := int64(s.high[source+">"+box]) + int64(offset)
					to = append(to, block.Lane{Agent: box, First: uint64(max(first, 1))})
				}
				if len(to) == 0 {
					return
				}
				text := cut(r0(f), source, 1, to, plain(count, size)...)
				last = func() {
					f.must(&model.Push{At: f.now, Agent: source, Epoch: 1, Blocks: [][]byte{text}})
					s.push(source, to, uint64(count), int64(len(text)))
				}
				last()
			},
			"again": func(*rapid.T) { // the answer was lost
				if last != nil {
					last()
				}
			},
			"gap": func(r *rapid.T) {
				source, box := rapid.SampledFrom(testSources).Draw(r, "source"), rapid.SampledFrom(testBoxes).Draw(r, "box")
				first := s.high[source+">"+box] + uint64(rapid.IntRange(0, 2).Draw(r, "offset"))
				if first == 0 {
					return
				}
				end := first + uint64(rapid.IntRange(0, 3).Draw(r, "length"))
				f.must(&model.Push{At: f.now, Agent: source, Epoch: 1, Gaps: []model.Gap{{Destination: box, First: first, Last: end, Cause: "test"}}})
				if s.offer(source, box, first, end, 4) {
					s.deliver(box, shadowMail{first: first, last: end, size: 4})
				}
			},
			"ack": func(r *rapid.T) {
				box := rapid.SampledFrom(testBoxes).Draw(r, "box")
				upTo := uint64(rapid.IntRange(0, int(s.next[box])+2).Draw(r, "up to"))
				f.must(&model.Ack{At: f.now, Agent: box, Mailbox: upTo})
				s.ack(box, upTo)
			},
		})
		for _, box := range testBoxes {
			f.must(&model.Ack{At: f.now, Agent: box, Mailbox: s.next[box]})
		}
		if got := f.Relay(); got.Blocks != 0 || got.Bytes != 0 || f.rows(tableBlocks) != 0 || f.rows(tableBlockRefs) != 0 || f.rows(tableMail) != 0 {
			r.Fatalf("all is acknowledged, but the relay holds %+v, %d blocks, %d mail", got, f.rows(tableBlocks), f.rows(tableMail))
		}
	})
}

func r0(f *fixture) testing.TB { return f.TB }

func compare(r *rapid.T, f *fixture, s *shadow) {
	for _, source := range testSources {
		got := map[string]uint64{}
		for _, l := range f.Lanes(source, 1) {
			got[l.Destination] = l.Highwater
		}
		for _, box := range testBoxes {
			if got[box] != s.high[source+">"+box] {
				r.Fatalf("lane %s to %s: high-water %d, want %d", source, box, got[box], s.high[source+">"+box])
			}
		}
	}
	for _, box := range testBoxes {
		mail := f.Mail(box, 0, 1<<30)
		want := s.boxes[box]
		if len(mail) != len(want) {
			r.Fatalf("mailbox %s holds %d pieces, want %d", box, len(mail), len(want))
		}
		for i, m := range mail {
			first, last := lanePart(r, box, m)
			if m.Position != want[i].position || first != want[i].first || last != want[i].last {
				r.Fatalf("mailbox %s: position %d has %d to %d, want position %d with %d to %d", box, m.Position, first, last, want[i].position, want[i].first, want[i].last)
			}
		}
		if got := f.Mailbox(box); got.Bytes != s.bytes(box) {
			r.Fatalf("mailbox %s counts %d bytes, want %d", box, got.Bytes, s.bytes(box))
		}
	}
	size, blocks := s.relay()
	if got := f.Relay(); got.Bytes != size || got.Blocks != blocks || f.rows(tableBlocks) != int(blocks) {
		r.Fatalf("relay holds %+v in %d rows, want %d bytes in %d blocks", got, f.rows(tableBlocks), size, blocks)
	}
}

func lanePart(r *rapid.T, box string, m model.Mail) (first, last uint64) {
	if m.Gap != nil {
		return m.Gap.First, m.Gap.Last
	}
	e, err := block.ParseEnvelope(m.Block)
	if err != nil {
		r.Fatal(err)
	}
	lane, _ := e.Lane(box)
	return lane.First, e.Last(lane.First)
}

func answerFor(t testing.TB, value any, destination string) model.LaneAnswer {
	t.Helper()
	for _, l := range value.(*model.PushResult).Lanes {
		if l.Destination == destination {
			return l
		}
	}
	t.Fatalf("no answer for %s in %+v", destination, value)
	return model.LaneAnswer{}
}

func TestFullMailboxHoldsBackItsOwnLaneOnly(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{MailboxBytes: 4000})
	f.join("eu", "ho", "la")
	next := map[string]uint64{"ho": 1, "la": 1}
	full := false
	for range 20 {
		text := cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: next["ho"]}, {Agent: "la", First: next["la"]}}, plain(2, 300)...)
		value := f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
		ho, la := answerFor(t, value, "ho"), answerFor(t, value, "la")
		if la.Full || la.Highwater != next["la"]+1 {
			t.Fatalf("the lane to la was held back: %+v", la)
		}
		next["ho"], next["la"] = ho.Highwater+1, la.Highwater+1
		full = full || ho.Full
		f.must(&model.Ack{At: f.now, Agent: "la", Mailbox: f.Mailbox("la").Next - 1})
	}
	box := f.Mailbox("ho")
	if !full || box.Bytes > 4000 || box.Events == 0 {
		t.Fatalf("full %t, mailbox %+v", full, box)
	}
	f.must(&model.Ack{At: f.now, Agent: "ho", Mailbox: box.Next - 1})
	text := cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: next["ho"]}}, plain(1, 300)...)
	if a := answerFor(t, f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}}), "ho"); a.Full || a.Highwater != next["ho"] {
		t.Errorf("the emptied mailbox answers %+v", a)
	}
}

func TestMailOfTheAbsentDoesNotStopThePresent(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{RelayBytes: 1000})
	f.join("eu", "ho", "la")
	for i := range uint64(5) {
		f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: i + 1}}, plain(1, 400)...)}})
	}
	if held := f.Relay().Bytes; held > 1000 || held < 400 {
		t.Fatalf("relay holds %d bytes", held)
	}
	for i := range uint64(5) {
		value := f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, []block.Lane{{Agent: "la", First: i + 1}}, plain(1, 800)...)}})
		if a := answerFor(t, value, "la"); a.Full || a.Highwater != i+1 {
			t.Fatalf("push %d to the agent that is there: %+v", i, a)
		}
		f.must(&model.Ack{At: f.now, Agent: "la", Mailbox: f.Mailbox("la").Next - 1})
	}
}

func TestPushIsRefused(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho", "gone")
	f.activate("eu", "ho", "later")
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "gone"})
	to := func(dest string) []block.Lane { return []block.Lane{{Agent: dest, First: 1}} }
	good := cut(t, "eu", 1, to("ho"), plain(1, 50)...)
	broken := slices.Clone(good)
	broken[len(broken)-1] ^= 1
	tests := []struct {
		name string
		push model.Push
		code model.Code
	}{
		{"unknown agent", model.Push{Agent: "xx", Epoch: 1, Blocks: [][]byte{good}}, model.Forbidden},
		{"revoked agent", model.Push{Agent: "gone", Epoch: 1}, model.Forbidden},
		{"older epoch", model.Push{Agent: "eu", Epoch: 0, Blocks: [][]byte{good}}, model.Forbidden},
		{"epoch not granted", model.Push{Agent: "eu", Epoch: 2, Blocks: [][]byte{good}}, model.Forbidden},
		{"damaged behind a good one", model.Push{Agent: "eu", Epoch: 1, Blocks: [][]byte{good, broken}}, model.Invalid},
		{"no block", model.Push{Agent: "eu", Epoch: 1, Blocks: [][]byte{nil}}, model.Invalid},
		{"of another agent", model.Push{Agent: "ho", Epoch: 1, Blocks: [][]byte{good}}, model.Invalid},
		{"of another epoch", model.Push{Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 2, to("ho"), plain(1, 5)...)}}, model.Invalid},
		{"one destination twice", model.Push{Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: 1}, {Agent: "ho", First: 2}}, plain(1, 5)...)}}, model.Invalid},
		{"gap backwards", model.Push{Agent: "eu", Epoch: 1, Gaps: []model.Gap{{Destination: "ho", First: 2, Last: 1}}}, model.Invalid},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.push.At = f.now
			f.refused(tt.code, &tt.push)
			if lanes := f.Lanes("eu", 1); len(lanes) != 0 || f.Relay().Blocks != 0 {
				t.Errorf("a refused push changed lanes %v, relay %+v", lanes, f.Relay())
			}
		})
	}
	for dest, refused := range map[string]bool{"nowhere": true, "gone": true, "../x": true, "later": false, "ho": false} {
		value := f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, to(dest), plain(1, 5)...)}})
		if a := answerFor(t, value, dest); (a.Refused != "") != refused || (a.Highwater == 1) == refused {
			t.Errorf("destination %s: %+v, want refused %t", dest, a, refused)
		}
	}
}

func TestGapInThePlaceOfABlock(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Gaps: []model.Gap{{Destination: "ho", First: 1, Last: 7, Cause: "damaged record"}}})
	value := f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: 8}}, plain(2, 9)...)}})
	if a := answerFor(t, value, "ho"); a.Highwater != 9 {
		t.Fatalf("after the gap: %+v", a)
	}
	mail := f.Mail("ho", 0, 1<<20)
	want := model.Gap{Source: "eu", Epoch: 1, Destination: "ho", First: 1, Last: 7, Cause: "damaged record"}
	if len(mail) != 2 || mail[0].Gap == nil || *mail[0].Gap != want || mail[1].Block == nil {
		t.Fatalf("mail %+v", mail)
	}
	if list := f.Exceptions(10); len(list) != 1 || list[0].Kind != "gap" || list[0].Agent != "eu" {
		t.Errorf("exceptions %+v", list)
	}
}

func TestMailInParts(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	for i := range uint64(10) {
		f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, "eu", 1, []block.Lane{{Agent: "ho", First: i + 1}}, plain(1, 500)...)}})
	}
	for _, limit := range []int{0, 1, 1500, 1 << 20} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			after, count := uint64(0), 0
			for {
				mail := f.Mail("ho", after, limit)
				if len(mail) == 0 {
					break
				}
				after, count = mail[len(mail)-1].Position, count+len(mail)
			}
			if count != 10 || after != 10 {
				t.Errorf("read %d pieces up to %d", count, after)
			}
		})
	}
}
