package store

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// pushAll offers pushes at the same time and gives their answers.
func pushAll(t *testing.T, s *running, pushes []*model.Push) []*model.PushResult {
	t.Helper()
	results := make([]*model.PushResult, len(pushes))
	var group sync.WaitGroup
	for i, p := range pushes {
		group.Go(func() {
			value, err := s.Apply(t.Context(), p)
			if err != nil {
				t.Error(err)
				return
			}
			results[i] = value.(*model.PushResult)
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return results
}

// Pushes that overtake one another are all taken: nothing has to be sent again.
func TestPushesInAnyOrder(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	join(s, "eu", "ho")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	next := uint64(1)
	for range 20 {
		var pushes []*model.Push
		for range 8 {
			n := 1 + r.IntN(3)
			pushes = append(pushes, &model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, next, n, 10)}})
			next += uint64(n)
		}
		last := make([]uint64, len(pushes))
		for i, p := range pushes {
			last[i] = spansOf(p)["ho"].last
		}
		r.Shuffle(len(pushes), func(i, j int) {
			pushes[i], pushes[j] = pushes[j], pushes[i]
			last[i], last[j] = last[j], last[i]
		})
		for i, result := range pushAll(t, s, pushes) {
			if got := result.Lanes[0].Highwater; got < last[i] {
				t.Fatalf("a push up to %d was answered with %d: it was not taken", last[i], got)
			}
		}
	}
	if got := len(s.lineup.lines); got != 0 {
		t.Errorf("%d lines are kept when nothing is under way", got)
	}
}

// A push that waits for what will never come is not held for long once another went back.
func TestLineGoesBack(t *testing.T) {
	u := newLineup()
	name := lineName{"eu", 1}
	none := func() map[string]uint64 { return nil }
	first := map[string]span{"ho": {1, 5}}
	u.enter(t.Context(), name, first, none)
	u.submitted(name, first)
	waits := make(chan struct{})
	go func() {
		u.enter(t.Context(), name, map[string]span{"ho": {9, 10}}, none)
		close(waits)
	}()
	for came := false; !came; {
		u.mu.Lock()
		came = u.lines[name].pushes == 2
		u.mu.Unlock()
	}
	select {
	case <-waits:
		t.Fatal("6 to 8 have not come, and 9 is let in")
	default:
	}
	var a answer
	a.Value = &model.PushResult{Lanes: []model.LaneAnswer{{Destination: "ho", Highwater: 0}}}
	u.leave(name, first, a)
	<-waits
	if ready, _ := u.ready(u.lines[name], u.lines[name].turn, map[string]span{"ho": {6, 7}}, nil); ready {
		t.Error("the lane went back to its beginning, and 6 is let in")
	}
}

// A lane without room holds back no other: what was cut ahead for it comes after the answer
// that says so, and nothing comes any more for which the rest of its push should wait.
func TestLineWithoutRoom(t *testing.T) {
	u := newLineup()
	name := lineName{"eu", 1}
	held := func() map[string]uint64 { return map[string]uint64{"to": 5} }
	send := func(spans map[string]span, lanes ...model.LaneAnswer) {
		t.Helper()
		l, turn := u.come(name)
		if ready, _ := u.ready(l, turn, spans, held()); !ready {
			t.Errorf("%v has to wait", spans)
		}
		u.submitted(name, spans)
		var a answer
		a.Value = &model.PushResult{Lanes: lanes}
		u.leave(name, spans, a)
	}
	ho := func(highwater uint64, full bool) model.LaneAnswer {
		return model.LaneAnswer{Destination: "ho", Highwater: highwater, Full: full}
	}
	to := model.LaneAnswer{Destination: "to", Highwater: 5}
	send(map[string]span{"ho": {1, 5}, "to": {1, 5}}, ho(0, true), to)
	to.Highwater = 10
	send(map[string]span{"ho": {6, 9}, "to": {6, 10}}, ho(0, false), to)
	send(map[string]span{"ho": {10, 12}}, ho(0, false))
	send(map[string]span{"ho": {1, 5}}, ho(5, false))
	if len(u.lines) != 0 {
		t.Error("the lane has room again, and its line is kept when nothing is under way")
	}
	l, turn := u.come(name)
	if ready, _ := u.ready(l, turn, map[string]span{"ho": {8, 9}}, nil); ready {
		t.Error("6 and 7 have not come, and 8 is let in")
	}
}
