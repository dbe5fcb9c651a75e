package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/agent/tracing"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// factType is the type of the events on the lane to the control plane.
const factType = "crossdock.fact.v1"

// The siblings know nothing of each other; here each is shown to the next in its words.

// submitter lets intake put events into the journal.
type submitter struct {
	agent     string
	journal   *journal.Journal
	documents *documents.Store // nil: events name none
	tracer    *tracing.Tracer
}

var _ intake.Journal = submitter{}

func (s submitter) Submit(ctx context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	if err := s.carry(ctx, events); err != nil {
		return nil, journalError(err)
	}
	in := make([]journal.Admitted, len(events))
	for i, e := range events {
		in[i] = journal.Admitted{Event: e.Event, Encoded: e.Data, Key: e.Key, System: e.System, Revision: e.Revision, Targets: e.Targets, RepeatOnly: e.RepeatOnly}
	}
	receipts, err := s.journal.Submit(ctx, in)
	if err != nil {
		return nil, journalError(err)
	}
	out := make([]intake.Receipt, len(receipts))
	for i, r := range receipts {
		out[i] = intake.Receipt(r)
		if r.Err == nil && !r.Repeat {
			s.tracer.Accepted(events[i].Event, events[i].System, events[i].Began, time.Now())
		}
		switch {
		case errors.Is(r.Err, journal.ErrConflict):
			out[i].Err = fmt.Errorf("%w: %w", intake.ErrConflict, r.Err)
		case errors.Is(r.Err, journal.ErrNew):
			out[i].Err = fmt.Errorf("%w: %w", intake.ErrNew, r.Err)
		}
	}
	return out, nil
}

func journalError(err error) error {
	var full *journal.FullError
	if errors.As(err, &full) {
		return &intake.FullError{Level: full.Level, Limit: full.Limit, Why: full.Why}
	} else if errors.Is(err, journal.ErrFull) {
		return fmt.Errorf("%w: %w", intake.ErrFull, err)
	}
	return err
}

// localSource lets delivery read the journal.
type localSource struct{ journal *journal.Journal }

var _ delivery.Source = localSource{}

func (s localSource) ReadLocal(from uint64, maxEvents int) ([]delivery.Item, uint64, error) {
	items, next, err := s.journal.ReadLocal(from, maxEvents)
	out := make([]delivery.Item, len(items))
	for i, item := range items {
		out[i] = delivery.Item{Pos: item.Pos, Index: item.Index, Source: item.Source, Head: item.Head, Key: item.Key,
			Event: item.Event, Received: item.Head.Received, Fault: item.Fault}
	}
	return out, next, err
}

// Wait blocks until a position exists.
func (s localSource) Wait(ctx context.Context, pos uint64) error { return s.journal.Wait(ctx, pos) }

// facts sends what the control plane should know, through the journal like every event.
type facts struct {
	agent   string
	journal *journal.Journal
	room    *telemetry // nil: no bound
}

var _ delivery.Facts = (*facts)(nil)

// Report waits while facts take as much of the journal as they may.
func (f *facts) Report(ctx context.Context, fact json.RawMessage) error {
	if err := f.room.wait(ctx, fact); err != nil {
		return err
	}
	return f.tell(ctx, fact)
}

// tell is for what others wait for.
func (f *facts) tell(ctx context.Context, fact json.RawMessage) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	receipts, err := f.journal.Submit(ctx, []journal.Admitted{{
		Event: &event.Event{ID: id.String(), Source: "/agents/" + f.agent, Type: factType, Time: time.Now(),
			DataContentType: event.JSONType, Data: fact},
		Key: f.agent, Targets: []block.Target{{Agent: block.Control}},
	}})
	if err != nil {
		return err
	}
	return receipts[0].Err
}

// revisions lets the uplink put policy in force.
type revisions struct {
	*revision.Holder
	delivery *delivery.Engine
}

var _ uplink.Policy = revisions{}

func (r revisions) Offer(offered uplink.Revision) error {
	err := r.Holder.Offer(revision.Offered(offered))
	if errors.Is(err, revision.ErrNotKept) {
		return fmt.Errorf("%w: %w", uplink.ErrNotKept, err)
	}
	return err
}

func (r revisions) Former(offered uplink.Revision) error {
	set, err := revision.Offered(offered).Compile()
	if err == nil {
		r.delivery.Note(set)
	}
	return err
}

// outbox lets the uplink read the journal, and remembers what the relay has taken, so that
// the journal knows what it may let go.
type outbox struct {
	journal *journal.Journal
	log     *queue.Log

	mu      sync.Mutex // guards what follows
	epoch   uint64
	taken   map[string]uint64
	earlier map[string]uint64 // taken in an earlier epoch, until this one has come as far
}

var _ uplink.Outbox = (*outbox)(nil)

func newOutbox(j *journal.Journal, log *queue.Log, epoch uint64) *outbox {
	o := &outbox{journal: j, log: log, epoch: epoch, taken: map[string]uint64{}, earlier: map[string]uint64{}}
	for destination := range j.Outbound() {
		taken := log.Cursor(takenCursor(destination))
		o.taken[destination] = taken
		if of := log.Cursor(epochCursor(destination)); of != 0 && of < epoch {
			o.earlier[destination] = taken
		}
	}
	return o
}

// begin goes on in another epoch: what the relay took in the one before is told to it, as far
// as this copy of the agent knows, and not sent twice.
func (o *outbox) begin(epoch uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch = epoch
	for destination, taken := range o.taken {
		if taken > 0 {
			o.earlier[destination] = taken
		}
	}
}

func takenCursor(destination string) string { return "taken/" + destination }
func epochCursor(destination string) string { return "epoch/" + destination } // in which it was taken

func (o *outbox) Cut(want map[string]uint64, from uint64, maxBlocks int) ([]uplink.Cut, uint64, error) {
	cuts, next, err := o.journal.Cut(want, from, maxBlocks)
	out := make([]uplink.Cut, len(cuts))
	for i, c := range cuts {
		out[i] = uplink.Cut{Block: c.Block, Lanes: c.Lanes, Count: c.Count}
		if c.Gap != nil {
			out[i].Gap = &uplink.Gap{Destination: c.Gap.Destination, First: c.Gap.First, Last: c.Gap.Last, Cause: c.Gap.Cause}
		}
	}
	return out, next, err
}

func (o *outbox) Seek(destination string, number uint64) (uint64, error) {
	return o.journal.Seek(destination, number)
}
func (o *outbox) Outbound() map[string]uint64                { return o.journal.Outbound() }
func (o *outbox) Next() uint64                               { return o.journal.Next() }
func (o *outbox) Wait(ctx context.Context, pos uint64) error { return o.journal.Wait(ctx, pos) }
func (o *outbox) Earlier(destination string) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.earlier[destination]
}
func (o *outbox) Taken(destination string, number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if number < o.earlier[destination] {
		return // the relay is being told; until then what it took before is still known
	}
	delete(o.earlier, destination)
	o.taken[destination] = number
	o.log.SaveCursor(epochCursor(destination), o.epoch)
	o.log.SaveCursor(takenCursor(destination), number)
}

// takenTo is the last number that the relay has taken for a destination.
func (o *outbox) takenTo(destination string) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.taken[destination]
}

// waitingFor is what the relay has not taken yet for a destination.
type waitingFor struct {
	destination string
	count       uint64
	next        uint64 // number of the oldest
}

// waiting lists them by destination.
func (o *outbox) waiting() (out []waitingFor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for destination, given := range o.journal.Outbound() {
		if taken := o.taken[destination]; given > taken {
			out = append(out, waitingFor{destination, given - taken - o.journal.Internal(destination, taken, given), taken + 1})
		}
	}
	return out
}

// pending counts the events that the relay has not taken yet.
func (o *outbox) pending() (n uint64) {
	for _, w := range o.waiting() {
		n += w.count
	}
	return n
}

// waits reports whether an event is still to be taken for some destination.
func (o *outbox) waits(numbers []block.Number) (destinations []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, n := range numbers {
		if n.Seq > o.taken[n.Agent] {
			destinations = append(destinations, n.Agent)
		}
	}
	return destinations
}

// needed is the lowest journal position that is still to be taken for some destination.
func (o *outbox) needed() (uint64, error) {
	pos := o.journal.Next()
	for destination, given := range o.journal.Outbound() {
		o.mu.Lock()
		taken := o.taken[destination]
		o.mu.Unlock()
		if given <= taken {
			continue
		}
		at, err := o.journal.Seek(destination, taken+1)
		if err != nil {
			return 0, fmt.Errorf("lane to %s: %w", destination, err)
		}
		pos = min(pos, at)
	}
	return pos, nil
}

// inbox lets the uplink commit what it pulled.
type inbox struct {
	journal *journal.Journal
	facts   *facts
	tracer  *tracing.Tracer

	alarms  *alarms            // may be nil
	missing map[string]missing // by source; only the uplink's one stream touches it
}

// missing is a number that a lane needs next and that did not come.
type missing struct {
	epoch, want uint64
	times       int
}

var _ uplink.Inbox = (*inbox)(nil)

// sessionsMissing is how often a session is begun anew to get what is missing: the Hello
// tells the control plane how far this agent is, and it has the source send again.
const sessionsMissing = 3

// Receive takes a block.
func (i *inbox) Receive(ctx context.Context, text []byte, relayed time.Time) error {
	return i.receive(ctx, func() error {
		received, err := i.journal.Receive(ctx, text, relayed)
		if err == nil && received.Count > 0 {
			i.traced(text, relayed)
		}
		return err
	})
}

// receive commits. The relay sends from the oldest mail that was not acknowledged, in order:
// if a block comes too early, then this agent has acknowledged what it does not hold any
// more. The next sessions give the control plane the chance to bring it; if it never comes,
// nobody holds it: that is told, noted as a gap, and the lane goes on.
func (i *inbox) receive(ctx context.Context, commit func() error) error {
	err := commit()
	var gap *journal.GapError
	if errors.As(err, &gap) && i.given(gap) {
		if err = i.lost(ctx, gap); err == nil {
			err = commit()
		}
	}
	return inboxError(err)
}

// given reports whether a number has been missing often enough to be given up.
func (i *inbox) given(gap *journal.GapError) bool {
	if i.missing == nil {
		i.missing = map[string]missing{}
	}
	m := i.missing[gap.Source]
	if m.epoch != gap.Epoch || m.want != gap.Want {
		m = missing{epoch: gap.Epoch, want: gap.Want}
	}
	if m.times++; m.times == 1 && i.alarms != nil {
		i.alarms.raise("fallen-behind", fmt.Sprintf("%s/%d/%d", gap.Source, gap.Epoch, gap.Want), fmt.Sprintf(
			"this agent needs event %d of the lane from %s (epoch %d) next and was given %d: it has acknowledged what it does not hold, so its data is an older copy; the source is asked to send again",
			gap.Want, gap.Source, gap.Epoch, gap.Got))
	}
	i.missing[gap.Source] = m
	return m.times >= sessionsMissing
}

func (i *inbox) lost(ctx context.Context, gap *journal.GapError) error {
	const cause = "acknowledged by this agent, whose data is an older copy; nobody holds them any more"
	agent, last := i.facts.agent, gap.Got-1
	fact, err := exception{
		ID: fmt.Sprintf("%s/lost-mail/%s/%d/%d", agent, gap.Source, gap.Epoch, gap.Want), Agent: agent, Kind: "lost-mail", At: time.Now(),
		Text: fmt.Sprintf("events %d to %d from %s to %s: %s; have %s replay them", gap.Want, last, gap.Source, agent, cause, gap.Source),
	}.fact()
	if err != nil {
		return err
	}
	if err := i.facts.tell(ctx, fact); err != nil { // first: the gap is not to be noted in silence
		return err
	}
	_, err = i.journal.ReceiveGap(ctx, gap.Source, gap.Epoch, gap.Want, last, cause)
	return err
}

func (i *inbox) ReceiveGap(ctx context.Context, gap uplink.Gap) error {
	return i.receive(ctx, func() error {
		_, err := i.journal.ReceiveGap(ctx, gap.Source, gap.Epoch, gap.First, gap.Last, gap.Cause)
		return err
	})
}

func inboxError(err error) error {
	switch {
	case errors.Is(err, journal.ErrFull), errors.Is(err, journal.ErrGone): // it waits at the relay
		return fmt.Errorf("%w: %w", uplink.ErrFull, err)
	case errors.Is(err, journal.ErrGap):
		return fmt.Errorf("%w: %w", uplink.ErrGap, err)
	}
	return err
}

func (i *inbox) Highwaters() []uplink.Highwater {
	var out []uplink.Highwater
	for _, h := range i.journal.Highwaters() {
		out = append(out, uplink.Highwater{Source: h.Source, Epoch: h.Epoch, Number: h.Highwater})
	}
	return out
}
