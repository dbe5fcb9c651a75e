package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// A time of JSON may leave the calendar when it is brought to UTC. No agent may write what
// ends every node that applies it.
func TestTimesBeyondTheCalendar(t *testing.T) {
	for _, at := range []string{"9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59"} {
		f := openMachine(t)
		f.begin(model.ApprovalsDual, model.Limits{})
		f.join("eu")
		for range 2 { // the second time the rows are read
			f.report("eu", factBody(t, json.RawMessage(`{"exception":{"id":"x","kind":"k","at":"`+at+`"}}`)),
				factBody(t, json.RawMessage(`{"deadLetter":{"id":"eu/1/erp","at":"`+at+`"}}`)))
		}
		letters, _ := f.DeadLetters(model.DeadLetterFilter{})
		exceptions := f.Exceptions(10)
		if len(letters) != 1 || len(exceptions) != 1 || !letters[0].At.Equal(f.now) || !exceptions[0].At.Equal(f.now) {
			t.Errorf("%s: letters %+v, exceptions %+v", at, letters, exceptions)
		}
	}
}

// How entries are batched into transactions differs from node to node; what they do must not.
func TestLimitOfAgentsDoesNotDependOnBatches(t *testing.T) {
	var dumps []string
	for _, together := range []bool{true, false} {
		f := openMachine(t)
		f.begin(model.ApprovalsDual, model.Limits{})
		for _, site := range []string{"a", "b"} {
			f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: model.JoinToken{ID: site, Hash: hashOf(site), Site: site, Expires: f.now.Add(time.Hour)}})
		}
		err := f.db.Update(func(b *bolt.Tx) error {
			w := &tx{view: view{b}}
			for i := range maxAgents - 1 {
				name := fmt.Sprint("x", i)
				put(w, tableAgents, []byte(name), &model.Agent{Name: name})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var entries []Entry
		for i, site := range []string{"a", "b"} {
			entries = append(entries, Entry{Index: uint64(len(f.log) + i + 1), Term: 1,
				Data: encode(t, &model.Enroll{At: f.now, Token: site, Secret: hashOf(site), Key: hashOf(site)})})
		}
		batches := [][]Entry{entries}
		if !together {
			batches = [][]Entry{entries[:1], entries[1:]}
		}
		for _, batch := range batches {
			if _, err := f.Apply(batch); err != nil {
				t.Fatal(err)
			}
		}
		if _, taken := f.Agent("b"); taken {
			t.Errorf("together %t: agent %d was enrolled", together, maxAgents+1)
		}
		dumps = append(dumps, f.dump())
	}
	if dumps[0] != dumps[1] {
		t.Error("two ways to batch the same entries made different rows")
	}
}

func TestEventsOfDeadLettersStandApart(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{DeadLetters: 1})
	f.join("eu")
	letter := func(id string, state model.DeadLetterState, event string) {
		f.report("eu", letterFact(t, model.DeadLetter{ID: id, System: "erp", State: state, Event: json.RawMessage(event)}))
	}
	kept := func() int64 {
		row, _ := one[countersRow](f.Reader, tableMeta, keyCounters)
		return row.LetterBytes
	}
	letter("eu/1/erp", "open", `{"a":1}`)
	letter("eu/1/erp", "open", "") // the state changes, the event stays
	if list, _ := f.DeadLetters(model.DeadLetterFilter{}); len(list) != 1 || list[0].Event != nil {
		t.Errorf("the list brings events: %+v", list)
	}
	if l, ok := f.DeadLetter("eu/1/erp"); !ok || !bytes.Equal(l.Event, []byte(`{"a":1}`)) || kept() != 7 {
		t.Errorf("event %s of %+v, %d bytes kept", l.Event, l, kept())
	}
	letter("eu/1/erp", "delivered", `{"a":"longer"}`)
	if kept() != 14 {
		t.Errorf("%d bytes kept", kept())
	}
	letter("eu/2/erp", "open", `{}`) // and the delivered one goes
	if _, ok := f.DeadLetter("eu/1/erp"); ok || kept() != 2 || f.rows(tableLetterEvents) != 1 {
		t.Errorf("found %t, %d bytes kept in %d rows", ok, kept(), f.rows(tableLetterEvents))
	}

	err := f.db.Update(func(b *bolt.Tx) error {
		w := &tx{view: view{b}}
		n := w.counters()
		n.LetterBytes = maxLetterEvents - 3
		put(w, tableMeta, keyCounters, &n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	letter("eu/3/erp", "open", `{"b":1}`)
	if l, ok := f.DeadLetter("eu/3/erp"); !ok || l.Event != nil || kept() != maxLetterEvents-3 {
		t.Errorf("beyond the limit: found %t, event %s, %d bytes kept", ok, l.Event, kept())
	}
}
