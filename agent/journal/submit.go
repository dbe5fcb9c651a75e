package journal

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// request is one call that waits for a commit. Exactly one of events, block and gap.
type request struct {
	events []prepared
	block  *arrival
	gap    *GapRecord

	size  int // bytes of records
	count int // events
	kind  Kind
	done  chan struct{}

	// The answer, valid once done is closed.
	receipts []Receipt
	received Received
	err      error
}

// prepared is an admitted event made ready outside the commit goroutine.
type prepared struct {
	event        *event.Event
	head         block.Head
	key          string
	encoded      []byte
	destinations []string // sorted, without this agent
	set          string   // destinations as one comparable text
	repeatOnly   bool
	err          error
}

// arrival is a received block.
type arrival struct {
	text     []byte
	envelope block.Envelope
	heads    []block.Head
	first    uint64
	relayed  time.Time
}

// Submit makes events durable and returns their receipts in the same order. Either all
// events without an Err of their own are committed together, or Submit fails and none is:
// ErrFull, ErrLimit, ErrStopped. When ctx ends first, the outcome is unknown.
func (j *Journal) Submit(ctx context.Context, events []Admitted) ([]Receipt, error) {
	if len(events) == 0 {
		return nil, nil
	}
	r := &request{done: make(chan struct{}), kind: Facts, count: len(events), events: make([]prepared, len(events))}
	for i := range events {
		p := &r.events[i]
		j.prepare(p, &events[i])
		r.size += len(p.key) + len(p.encoded)
		if !j.isFact(p) {
			r.kind = Business
		}
	}
	if r.count > MaxCommitEvents || r.size > MaxCommitBytes {
		return nil, fmt.Errorf("%w: %d events with %d bytes, at most %d with %d are taken in one call", ErrLimit, r.count, r.size, MaxCommitEvents, MaxCommitBytes)
	}
	if err := j.do(ctx, r); err != nil {
		return nil, err
	}
	return r.receipts, r.err
}

// isFact tells what the agent itself has to say to the control plane from events of systems.
func (j *Journal) isFact(p *prepared) bool {
	return len(p.destinations) == 1 && p.destinations[0] == block.Control && len(p.head.TargetsAt(j.cfg.Self)) == 0
}

// prepare makes a ready for a commit, as p, which is empty.
func (j *Journal) prepare(p *prepared, a *Admitted) {
	p.event, p.key, p.repeatOnly = a.Event, a.Key, a.RepeatOnly
	if a.Event == nil {
		p.err = fmt.Errorf("%w: no event", ErrInvalid)
		return
	}
	encoded := a.Encoded
	if encoded == nil {
		if encoded, p.err = a.Event.Marshal(); p.err != nil {
			return
		}
	}
	if len(a.Key) > MaxKey || len(a.Targets) > MaxTargets || len(encoded) > event.MaxSize {
		p.err = fmt.Errorf("%w: key of %d bytes, %d targets, %d bytes in all; at most %d, %d and %d are taken",
			ErrInvalid, len(a.Key), len(a.Targets), len(encoded), MaxKey, MaxTargets, event.MaxSize)
		return
	}
	p.encoded = encoded
	p.head = block.Head{
		ID: a.Event.Hash(), Key: block.KeyHash(a.Key), Type: a.Event.Type, System: a.System,
		Revision: a.Revision, Targets: slices.Clone(a.Targets), Occurred: a.Event.Time,
	}
	for i := range p.head.Targets {
		t := &p.head.Targets[i]
		if t.Agent == "" {
			t.Agent = j.cfg.Self
		}
		if t.Agent != j.cfg.Self {
			p.destinations = append(p.destinations, t.Agent)
		}
		if len(t.Fault) > event.MaxAttribute {
			t.Fault = strings.ToValidUTF8(t.Fault[:event.MaxAttribute], "")
		}
	}
	slices.Sort(p.destinations)
	p.destinations = slices.Compact(p.destinations)
	p.set = strings.Join(p.destinations, "\x00")
}

// Receive commits a block that the relay handed over. The block's events up to the
// high-water are known and passed over. *GapError: the lane needs an earlier number first.
func (j *Journal) Receive(ctx context.Context, text []byte, relayed time.Time) (Received, error) {
	envelope, err := block.ParseEnvelope(text) // the checksums of the whole block
	if err != nil {
		return Received{}, err
	}
	_, heads, err := block.ParseHeads(text)
	if err != nil {
		return Received{}, err
	}
	if len(envelope.Origin.Agent) > maxSource {
		return Received{}, fmt.Errorf("%w: a block from an agent whose name has %d bytes", ErrInvalid, len(envelope.Origin.Agent))
	}
	lane, ok := envelope.Lane(j.cfg.Self)
	if !ok || envelope.Origin.Agent == j.cfg.Self {
		return Received{}, fmt.Errorf("%w: a block from %s that is not for %s", ErrInvalid, envelope.Origin.Agent, j.cfg.Self)
	}
	// Here, not under the commit: at the first block of an epoch there may be much to read.
	if _, err := j.learn(laneOf(envelope.Origin)); err != nil {
		return Received{}, err
	}
	r := &request{
		block: &arrival{text: text, envelope: envelope, heads: heads, first: lane.First, relayed: relayed},
		size:  len(text), count: envelope.Count, kind: Mail, done: make(chan struct{}),
	}
	return j.doReceive(ctx, r)
}

// ReceiveGap moves a lane's high-water over numbers that will never come, and says why.
func (j *Journal) ReceiveGap(ctx context.Context, source string, epoch, first, last uint64, cause string) (Received, error) {
	if source == "" || len(source) > maxSource || first == 0 || last < first {
		return Received{}, fmt.Errorf("%w: a gap from %q of numbers %d to %d", ErrInvalid, source, first, last)
	}
	r := &request{
		gap:  &GapRecord{Source: source, Epoch: epoch, First: first, Last: last, Cause: cause, Direction: "in"},
		size: len(cause) + 256, count: 1, kind: Facts, done: make(chan struct{}),
	}
	return j.doReceive(ctx, r)
}

// Alive returns when the loop that commits has come round, which a commit that hangs keeps it
// from. It writes nothing; a journal that is full answers too.
func (j *Journal) Alive(ctx context.Context) error {
	return j.do(ctx, &request{done: make(chan struct{}), kind: nothing})
}

func (j *Journal) doReceive(ctx context.Context, r *request) (Received, error) {
	if err := j.do(ctx, r); err != nil {
		return Received{}, err
	}
	return r.received, r.err
}

// do hands a request to Run and waits for its answer, which may be read if do gives nil:
// else Run may still be writing it.
func (j *Journal) do(ctx context.Context, r *request) error {
	select {
	case j.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-j.stopped:
		return ErrStopped
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-j.stopped:
	}
	select {
	case <-r.done: // answered before the end
		return nil
	default:
		return ErrStopped
	}
}

// sameContent tells a repeat from another event under the same identity.
func sameContent(a, b *event.Event) bool {
	if a.Type != b.Type || a.Binary != b.Binary {
		return false
	}
	return bytes.Equal(a.Data, b.Data) || !a.Binary && bytes.Equal(compact(a.Data), compact(b.Data))
}

func compact(text []byte) []byte {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text
	}
	return b.Bytes()
}
