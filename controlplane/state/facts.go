package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// Limits on what facts bring.
const (
	maxID     = 512
	maxKey    = 1024
	maxAnswer = 8 << 10

	maxLetterEvents = 1 << 30 // bytes of the events that dead letters keep here
)

// Where an exception stands in the order table.
const (
	openException     = "open"
	resolvedException = "resolved"
	overflowID        = "@control/exceptions-dropped"
)

// facts takes the events of a block for the control plane itself. What cannot be read
// becomes an exception: it must neither hold back the lane nor vanish.
func (t *tx) facts(agent string, epoch, first uint64, text []byte, at time.Time) {
	_, items, err := block.Open(text)
	if err != nil {
		t.malformed(agent, epoch, first, at, err)
		return
	}
	for i, item := range items {
		if err := t.fact(agent, item, at); err != nil {
			t.malformed(agent, epoch, first+uint64(i), at, err)
		}
	}
}

func (t *tx) malformed(agent string, epoch, seq uint64, at time.Time, err error) {
	t.except(&model.Exception{
		ID: fmt.Sprintf("%s/fact/%d/%d", agent, epoch, seq), Agent: agent, Kind: "malformed-fact", At: at,
		Text: fmt.Sprintf("what agent %s reported as number %d cannot be read: %v", agent, seq, err),
	})
}

func (t *tx) fact(agent string, item block.Item, at time.Time) error {
	if item.Type != model.FactType {
		return fmt.Errorf("event type %q is not %s", clip(item.Type, maxName), model.FactType)
	}
	_, text, err := block.SplitBody(item.Body)
	if err != nil {
		return err
	}
	e, err := event.Unmarshal(text)
	if err != nil {
		return err
	}
	var fact model.Fact
	if err := json.Unmarshal(e.Data, &fact); err != nil {
		return err
	}
	switch {
	case fact.DeadLetter != nil && fact.Exception == nil:
		return t.letterFact(agent, fact.DeadLetter, at)
	case fact.Exception != nil && fact.DeadLetter == nil:
		return t.exceptionFact(agent, fact.Exception, at)
	}
	return fmt.Errorf("a fact has exactly one of deadLetter and exception")
}

func (t *tx) exceptionFact(agent string, e *model.Exception, at time.Time) error {
	if e.ID == "" || len(e.ID) > maxID {
		return fmt.Errorf("an exception's id has 1 to %d bytes", maxID)
	}
	id := clip(e.ID, maxID)
	if !strings.HasPrefix(id, agent+"/") {
		id = agent + "/" + id
	}
	t.except(&model.Exception{
		ID: id, Agent: agent, Kind: clip(e.Kind, maxName), Text: clip(e.Text, maxText), At: believable(e.At, at),
	})
	return nil
}

// believable gives the time that an agent states, or that of the command. JSON takes times
// that leave the calendar once they are brought to UTC, and no row could hold those.
func believable(stated, at time.Time) time.Time {
	stated = stated.UTC()
	if stated.IsZero() || stated.Year() < 1 || stated.Year() > 9999 {
		return at
	}
	return stated
}

func exceptionKey(row *exceptionRow) []byte {
	if row.Exception.Resolved.IsZero() {
		return key(openException, row.Number)
	}
	return key(resolvedException, row.Number)
}

// except writes an exception. The same id again replaces what it said and opens it anew.
func (t *tx) except(e *model.Exception) {
	id := []byte(e.ID)
	if old := get[exceptionRow](t.view, tableExceptions, id); old != nil {
		t.remove(tableExceptionOrder, exceptionKey(old))
	} else {
		t.n.Exceptions++
	}
	t.n.Exception++
	t.storeException(&exceptionRow{Number: t.n.Exception, Exception: *e})
	t.changed("exceptions")
	if limit := uint64(max(t.cluster().Limits.Exceptions, 2)); t.n.Exceptions > limit {
		t.dropExceptions(limit, e.At)
	}
}

func (t *tx) storeException(row *exceptionRow) {
	id := []byte(row.Exception.ID)
	put(t, tableExceptions, id, row)
	t.putRaw(tableExceptionOrder, exceptionKey(row), id)
}

// dropExceptions makes room: the oldest resolved ones go; if there are none, the oldest
// open ones, and one exception that is never dropped says how many were lost to sight.
func (t *tx) dropExceptions(limit uint64, at time.Time) {
	for t.n.Exceptions > limit {
		k, id := t.first(tableExceptionOrder, key(resolvedException))
		open := k == nil
		if open {
			k, id = t.first(tableExceptionOrder, key(openException))
		}
		if !open || string(id) != overflowID {
			t.remove(tableExceptionOrder, k)
			t.remove(tableExceptions, id)
			t.n.Exceptions--
		}
		if open {
			t.overflow(string(id) != overflowID, limit, at)
		}
	}
}

// overflow writes the exception about dropped exceptions, as the newest of all.
func (t *tx) overflow(dropped bool, limit uint64, at time.Time) {
	if dropped {
		t.n.Dropped++
	}
	if old := get[exceptionRow](t.view, tableExceptions, []byte(overflowID)); old != nil {
		t.remove(tableExceptionOrder, exceptionKey(old))
	} else {
		t.n.Exceptions++
	}
	t.n.Exception++
	t.storeException(&exceptionRow{Number: t.n.Exception, Exception: model.Exception{
		ID: overflowID, Agent: block.Control, Kind: "exceptions-dropped", At: at,
		Text: fmt.Sprintf("%d exceptions that nobody had resolved were dropped, because there are more than %d", t.n.Dropped, limit),
	}})
}

// first gives the first key with a prefix and its value, both copied.
func (t *tx) first(table, prefix []byte) (k, value []byte) {
	t.each(table, prefix, nil, func(foundKey, foundValue []byte) bool {
		k, value = slices.Clone(foundKey), slices.Clone(foundValue)
		return false
	})
	return k, value
}

func (t *tx) letterFact(agent string, l *model.DeadLetter, at time.Time) error {
	if !strings.HasPrefix(l.ID, agent+"/") || len(l.ID) > maxID || strings.ContainsRune(l.ID, 0) {
		return fmt.Errorf("dead letter id %q does not begin with %s/ or is longer than %d bytes", clip(l.ID, maxName), agent, maxID)
	}
	letter := *l
	letter.Agent = agent
	for _, s := range []*string{&letter.Ref, &letter.System, &letter.Route, &letter.Type, &letter.OnExhausted, &letter.By} {
		*s = clip(*s, maxName)
	}
	letter.EventID, letter.Source, letter.Key = clip(letter.EventID, maxKey), clip(letter.Source, maxText), clip(letter.Key, maxKey)
	letter.Cause, letter.Reason, letter.Answer = clip(letter.Cause, maxText), clip(letter.Reason, maxText), clip(letter.Answer, maxAnswer)
	if len(letter.Event) > event.MaxSize {
		letter.Event = nil
	}
	switch letter.State {
	case "":
		letter.State = model.DeadLetterOpen
	case model.DeadLetterOpen, model.DeadLetterReplaying, model.DeadLetterDelivered, model.DeadLetterDiscarded:
	default:
		return fmt.Errorf("dead letter %s has the unknown state %q", letter.ID, clip(string(letter.State), maxName))
	}
	row, asked := get[letterRow](t.view, tableLetters, []byte(letter.ID)), uint64(0)
	if row != nil {
		asked = row.Asked
		if letter.By == "" {
			letter.By = row.Letter.By
		}
		if letter.Reason == "" {
			letter.Reason = row.Letter.Reason
		}
		// Written before the agent heard of the replay: it is still to come.
		if letter.State == model.DeadLetterOpen && asked != 0 && letter.Attempts <= row.Letter.Attempts {
			letter.State = row.Letter.State
		}
	}
	t.storeLetter(row, &letter, asked, at)
	return nil
}

func letterIndex(kind, value string) []byte { return key(kind, value) }

func indexKeys(l *model.DeadLetter, number uint64) [][]byte {
	keys := [][]byte{append(letterIndex("state", string(l.State)), key(number)...)}
	if l.System != "" {
		keys = append(keys, append(letterIndex("system", l.System), key(number)...))
	}
	if l.Key != "" {
		keys = append(keys, append(letterIndex("key", l.Key), key(number)...))
	}
	return keys
}

// storeLetter writes a dead letter and its places in the indexes; old is the row before,
// nil for a new one.
func (t *tx) storeLetter(old *letterRow, letter *model.DeadLetter, asked uint64, at time.Time) {
	letter.At = believable(letter.At, at)
	row := letterRow{Letter: *letter, Asked: asked}
	row.Letter.Event = nil
	if old != nil {
		row.Number, row.EventBytes = old.Number, old.EventBytes
		for _, k := range indexKeys(&old.Letter, old.Number) {
			t.remove(tableLetterIndex, k)
		}
	} else {
		t.n.Letter++
		t.n.Letters++
		row.Number = t.n.Letter
		t.putRaw(tableLetterOrder, key(row.Number), []byte(letter.ID))
	}
	t.keepEvent(&row, letter.Event)
	put(t, tableLetters, []byte(letter.ID), &row)
	for _, k := range indexKeys(letter, row.Number) {
		t.putRaw(tableLetterIndex, k, []byte(letter.ID))
	}
	t.changed("deadletters")
	t.dropLetters()
}

// keepEvent keeps a dead letter's event in a table of its own, so that a list of dead
// letters need not read them, while there is room: its agent has it in any case. Without
// an event the one kept before stays.
func (t *tx) keepEvent(row *letterRow, content []byte) {
	more := int64(len(content)) - row.EventBytes
	if len(content) == 0 || t.n.LetterBytes+more > maxLetterEvents {
		return
	}
	put(t, tableLetterEvents, []byte(row.Letter.ID), &bytesRow{content})
	row.EventBytes += more
	t.n.LetterBytes += more
}

// dropLetters forgets the oldest dead letters that are done with, while there are too many.
func (t *tx) dropLetters() {
	limit := uint64(t.cluster().Limits.DeadLetters)
	for t.n.Letters > limit {
		k, id := t.first(tableLetterIndex, letterIndex("state", string(model.DeadLetterDelivered)))
		if k2, id2 := t.first(tableLetterIndex, letterIndex("state", string(model.DeadLetterDiscarded))); k2 != nil && (k == nil || last8(k2) < last8(k)) {
			k, id = k2, id2
		}
		if k == nil {
			return
		}
		row := get[letterRow](t.view, tableLetters, id)
		if row == nil {
			panic(fault{fmt.Errorf("dead letter %q is in an index only", id)})
		}
		for _, k := range indexKeys(&row.Letter, row.Number) {
			t.remove(tableLetterIndex, k)
		}
		t.remove(tableLetterOrder, key(row.Number))
		t.remove(tableLetters, id)
		t.remove(tableLetterEvents, id)
		t.n.Letters--
		t.n.LetterBytes -= row.EventBytes
	}
}
