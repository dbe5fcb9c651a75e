package state

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

func letterFact(t testing.TB, l model.DeadLetter) []byte {
	return factBody(t, model.Fact{DeadLetter: &l})
}

func TestDeadLetterLife(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na")
	base := model.DeadLetter{ID: "eu/7/erp", Ref: "7", System: "erp", Key: "order-1", Attempts: 3, Waiting: 1, OnExhausted: "park", Event: json.RawMessage(`{"id":"1"}`)}
	state := func(want model.DeadLetterState) model.DeadLetter {
		t.Helper()
		l, ok := f.DeadLetter(base.ID)
		if !ok || l.State != want || l.Agent != "eu" {
			t.Fatalf("dead letter %+v, want state %s", l, want)
		}
		return l
	}
	f.report("eu", letterFact(t, base))
	state(model.DeadLetterOpen)

	f.refused(model.NotFound, &model.Resolve{Asked: f.by("root"), DeadLetter: "eu/8/erp"})
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: base.ID, Replay: true, Reason: "fixed"})
	state(model.DeadLetterReplaying)
	f.refused(model.Conflict, &model.Resolve{Asked: f.by("root"), DeadLetter: base.ID, Replay: true})
	cmds := f.Commands("eu")
	if len(cmds) != 1 || cmds[0].Kind != model.CommandReplay || cmds[0].By != "root" || len(f.Commands("na")) != 0 {
		t.Fatalf("commands %+v", cmds)
	}
	var args model.ResolveArguments
	if err := json.Unmarshal(cmds[0].Arguments, &args); err != nil || args.DeadLetter != base.ID || args.Ref != "7" || args.System != "erp" || args.Reason != "fixed" {
		t.Errorf("arguments %+v, %v", args, err)
	}

	// More waits behind it: written before the agent heard of the replay.
	waiting := base
	waiting.Waiting = 5
	f.report("eu", letterFact(t, waiting))
	if l := state(model.DeadLetterReplaying); l.Waiting != 5 || l.By != "root" {
		t.Errorf("after more came to wait: %+v", l)
	}
	f.must(&model.Ack{At: f.now, Agent: "na", Answers: []model.CommandAnswer{{ID: cmds[0].ID}, {ID: "nonsense"}, {ID: "c999"}}}) // not its own
	if len(f.Commands("eu")) != 1 {
		t.Fatal("another agent's answer removed the command")
	}
	f.must(&model.Ack{At: f.now, Agent: "eu", Answers: []model.CommandAnswer{{ID: cmds[0].ID, Error: "no such delivery"}}})
	if l := state(model.DeadLetterOpen); l.Reason != "replay failed: no such delivery" || len(f.Commands("eu")) != 0 {
		t.Errorf("after the error: %+v", l)
	}

	// The fact that the replay failed overtakes the answer to the command.
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: base.ID, Replay: true})
	failedAgain := base
	failedAgain.Attempts = 4
	f.report("eu", letterFact(t, failedAgain))
	state(model.DeadLetterOpen)
	f.must(&model.Ack{At: f.now, Agent: "eu", Answers: []model.CommandAnswer{{ID: f.Commands("eu")[0].ID}}})
	state(model.DeadLetterOpen)

	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: base.ID})
	f.must(&model.Ack{At: f.now, Agent: "eu", Answers: []model.CommandAnswer{{ID: f.Commands("eu")[0].ID}}})
	done := failedAgain
	done.State, done.Event = model.DeadLetterDiscarded, nil
	f.report("eu", letterFact(t, done))
	if l := state(model.DeadLetterDiscarded); string(l.Event) != `{"id":"1"}` || l.By != "root" {
		t.Errorf("at the end: %+v", l)
	}
	f.refused(model.Conflict, &model.Resolve{Asked: f.by("root"), DeadLetter: base.ID, Replay: true})
	if n := f.rows(tableLetterIndex); n != 3 {
		t.Errorf("%d index rows of one dead letter", n)
	}
}

func TestReplayOutOfOrderIsConfirmed(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	f.report("eu", letterFact(t, model.DeadLetter{ID: "eu/1/erp", OnExhausted: "skip"}))
	f.refused(model.Conflict, &model.Resolve{Asked: f.by("root"), DeadLetter: "eu/1/erp", Replay: true})
	f.must(&model.Resolve{Asked: f.by("root"), DeadLetter: "eu/1/erp", Replay: true, Confirm: true})
}

func TestDeadLetterFilters(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "na")
	for i := range 30 {
		agent := []string{"eu", "na"}[i%2]
		l := model.DeadLetter{ID: fmt.Sprintf("%s/%d/x", agent, i), System: []string{"erp", "wms", "crm"}[i%3], Key: fmt.Sprint("k", i%5),
			State: []model.DeadLetterState{model.DeadLetterOpen, model.DeadLetterDelivered}[i/15]}
		f.report(agent, letterFact(t, l))
	}
	tests := []struct {
		filter model.DeadLetterFilter
		want   int
	}{
		{model.DeadLetterFilter{}, 30},
		{model.DeadLetterFilter{Agent: "eu"}, 15},
		{model.DeadLetterFilter{System: "erp"}, 10},
		{model.DeadLetterFilter{State: model.DeadLetterOpen}, 15},
		{model.DeadLetterFilter{Key: "k3"}, 6},
		{model.DeadLetterFilter{System: "erp", State: model.DeadLetterOpen}, 5},
		{model.DeadLetterFilter{Key: "k0", System: "erp", Agent: "eu"}, 1},
		{model.DeadLetterFilter{Key: "k"}, 0},
		{model.DeadLetterFilter{System: "none"}, 0},
	}
	for _, tt := range tests {
		for _, limit := range []int{1, 4, 1000} {
			filter, got, last := tt.filter, 0, uint64(1<<62)
			filter.Limit = limit
			for page := 0; ; page++ {
				list, next := f.DeadLetters(filter)
				got += len(list)
				if next == 0 {
					break
				}
				if next >= last || page > 40 {
					t.Fatalf("%+v: cursor %d after %d", tt.filter, next, last)
				}
				last, filter.Before = next, next
			}
			if got != tt.want {
				t.Errorf("%+v in pages of %d: %d, want %d", tt.filter, limit, got, tt.want)
			}
		}
	}
	if list, _ := f.DeadLetters(model.DeadLetterFilter{Limit: 1}); list[0].ID != "na/29/x" {
		t.Errorf("the newest is %s", list[0].ID)
	}
}

func TestClosedDeadLettersGoOpenOnesStay(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{DeadLetters: 3})
	f.join("eu")
	for i, s := range []model.DeadLetterState{"open", "discarded", "delivered", "open", "open", "open"} {
		f.report("eu", letterFact(t, model.DeadLetter{ID: fmt.Sprint("eu/", i), System: "erp", Key: "k", State: s}))
	}
	list, _ := f.DeadLetters(model.DeadLetterFilter{})
	for _, l := range list {
		if l.State != model.DeadLetterOpen {
			t.Errorf("%s is kept", l.ID)
		}
	}
	if len(list) != 4 || f.rows(tableLetters) != 4 || f.rows(tableLetterOrder) != 4 || f.rows(tableLetterIndex) != 12 {
		t.Errorf("%d listed, %d rows, %d in order, %d in the indexes", len(list), f.rows(tableLetters), f.rows(tableLetterOrder), f.rows(tableLetterIndex))
	}
}

func TestWhatCannotBeReadBecomesAnException(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	bodies := [][]byte{
		nil,
		[]byte("rubbish"),
		factBody(t, map[string]any{}),
		factBody(t, model.Fact{DeadLetter: &model.DeadLetter{ID: "eu/1"}, Exception: &model.Exception{ID: "x"}}),
		factBody(t, model.Fact{DeadLetter: &model.DeadLetter{ID: "na/1/erp"}}), // another's
		factBody(t, model.Fact{DeadLetter: &model.DeadLetter{ID: "eu/1", State: "strange"}}),
		factBody(t, model.Fact{Exception: &model.Exception{}}),
		factBody(t, map[string]any{"deadLetter": 7}),
	}
	if a := f.report("eu", bodies...); a.Highwater != uint64(len(bodies)) {
		t.Errorf("the lane stands at %d, want %d", a.Highwater, len(bodies))
	}
	list := f.Exceptions(100)
	if len(list) != len(bodies) {
		t.Errorf("%d exceptions of %d facts", len(list), len(bodies))
	}
	for _, e := range list {
		if e.Kind != "malformed-fact" || e.Agent != "eu" {
			t.Errorf("exception %+v", e)
		}
	}
	if f.rows(tableLetters) != 0 {
		t.Error("a malformed dead letter was kept")
	}
}

func TestExceptionsAreBounded(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{Exceptions: 4})
	f.join("eu")
	raise := func(i int) {
		f.now = f.now.Add(time.Second)
		f.report("eu", factBody(t, model.Fact{Exception: &model.Exception{ID: fmt.Sprint(i), Kind: "k", Text: fmt.Sprint(i)}}))
	}
	has := func(id string) bool {
		for _, e := range f.Exceptions(100) {
			if e.ID == id {
				return true
			}
		}
		return false
	}
	for i := range 4 {
		raise(i)
	}
	raise(2) // again: the same one
	f.must(&model.ResolveException{Asked: f.by("root"), Exception: "eu/1", Reason: "seen"})
	f.refused(model.Conflict, &model.ResolveException{Asked: f.by("root"), Exception: "eu/1"})
	raise(4)
	if has("eu/1") || !has("eu/0") || len(f.Exceptions(100)) != 4 {
		t.Errorf("the resolved one was to go: %+v", f.Exceptions(100))
	}
	for i := 5; i < 12; i++ {
		raise(i)
	}
	list := f.Exceptions(100)
	if len(list) != 4 || f.rows(tableExceptions) != 4 || f.rows(tableExceptionOrder) != 4 {
		t.Fatalf("%d exceptions, %d rows, %d in order", len(list), f.rows(tableExceptions), f.rows(tableExceptionOrder))
	}
	// 12 were raised, one of them resolved; three are left beside the one that says so.
	row, ok := one[exceptionRow](f.Reader, tableExceptions, []byte(overflowID))
	if !ok || row.Exception.Text != "8 exceptions that nobody had resolved were dropped, because there are more than 4" {
		t.Errorf("overflow %+v", row.Exception)
	}
}
