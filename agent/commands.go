package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

const (
	traceTimeout  = 8 * time.Second
	traceHops     = 1000
	maxTraceHops  = 5000
	maxHopDetail  = 500
	traceTimeForm = "2006-01-02T15:04:05.000Z07:00"
	localOperator = "local operator" // who uses the queue commands
)

// command carries out what the control plane asks for.
func (a *Agent) command(ctx context.Context, id, kind string, arguments []byte) ([]byte, error) {
	switch kind {
	case "trace":
		return a.trace(ctx, arguments)
	case "replay", "discard":
		return nil, a.resolve(ctx, id, kind, arguments)
	case "release":
		return nil, a.release(ctx, arguments)
	case "doctor":
		return a.diagnoseFar(ctx)
	}
	return nil, fmt.Errorf("this agent (%s) does not know the command %q; it may be older than the control plane", a.cfg.Version, kind)
}

// resolve replays or discards a dead letter that a person at the control plane decided on.
func (a *Agent) resolve(ctx context.Context, id, kind string, arguments []byte) error {
	var args struct {
		DeadLetter string `json:"deadLetter"`
		By         string `json:"by"`
		Reason     string `json:"reason"`
		Confirm    bool   `json:"confirm"`
	}
	if err := json.Unmarshal(arguments, &args); err != nil {
		return fmt.Errorf("arguments of %s: %w", kind, err)
	}
	c := delivery.Command{ID: id, DeadLetter: args.DeadLetter, By: args.By, Reason: args.Reason, Confirm: args.Confirm}
	if kind == "discard" {
		return a.delivery.Discard(ctx, c)
	}
	return a.delivery.Replay(ctx, c)
}

// Hop is one thing that happened to an event at this agent.
type Hop struct {
	Agent    string `json:"agent"`
	Event    string `json:"event"`
	Source   string `json:"source"`
	Type     string `json:"type"`
	Key      string `json:"key"`
	Hop      string `json:"hop"`
	Peer     string `json:"peer,omitempty"`
	System   string `json:"system,omitempty"`
	Route    string `json:"route,omitempty"`
	Shadow   bool   `json:"shadow,omitempty"`
	At       string `json:"at,omitempty"`
	Attempts int    `json:"attempts,omitempty"`
	Status   int    `json:"status,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Revision string `json:"revision,omitempty"`
	Ref      string `json:"ref"`
	Sent     []Sent `json:"sent,omitempty"` // of an accepted one: where the relay has it from here
}

// Sent is the place of an event on the lane to another agent, when the relay has taken it.
type Sent struct {
	To     string `json:"to"`
	Number uint64 `json:"number"`
}

// trace follows a key through this agent's journal and deliveries.
func (a *Agent) trace(ctx context.Context, arguments []byte) ([]byte, error) {
	var args struct {
		Key   string `json:"key"`
		Limit int    `json:"limit"`
	}
	if err := json.Unmarshal(arguments, &args); err != nil {
		return nil, fmt.Errorf("arguments of trace: %w", err)
	}
	if args.Limit <= 0 {
		args.Limit = traceHops
	}
	args.Limit = min(args.Limit, maxTraceHops)
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()
	out := struct {
		Agent     string `json:"agent"`
		Now       string `json:"now"`
		Hops      []Hop  `json:"hops"`
		Truncated bool   `json:"truncated"`
	}{Agent: a.identity.Agent, Hops: []Hop{}}
	var failed error
	err := a.journal.Scan(ctx, block.KeyHash(args.Key), func(item journal.ScanItem) bool {
		if item.Key != args.Key {
			return true // another key with the same hash
		}
		hops, err := a.hops(item)
		if failed = err; err != nil {
			return false
		}
		out.Hops = append(out.Hops, hops...)
		out.Truncated = len(out.Hops) >= args.Limit
		return !out.Truncated
	})
	if errors.Is(err, context.DeadlineExceeded) {
		out.Truncated, err = true, nil
	}
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	out.Now = stamp(time.Now())
	return json.Marshal(out)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(traceTimeForm)
}

// hops tells what this agent knows of one event of its journal.
func (a *Agent) hops(item journal.ScanItem) ([]Hop, error) {
	e, err := event.Unmarshal(item.Event)
	if err != nil {
		return nil, err
	}
	ref := journal.Ref{Pos: item.Pos, Index: item.Index}
	base := Hop{Agent: a.identity.Agent, Event: e.ID, Source: e.Source, Type: e.Type, Key: item.Key,
		Revision: item.Head.Revision.String(), Ref: ref.String()}
	var out []Hop
	add := func(change func(*Hop)) {
		hop := base
		change(&hop)
		hop.Detail = hop.Detail[:min(len(hop.Detail), maxHopDetail)]
		out = append(out, hop)
	}
	if item.Source == a.identity.Agent {
		waits := a.outbox.waits(item.Numbers)
		add(func(h *Hop) {
			h.Hop, h.System, h.At, h.Sent = "accepted", item.Head.System, stamp(item.Head.Received), sent(item.Numbers, waits)
		})
		if len(item.Head.Targets) == 0 {
			add(func(h *Hop) {
				h.Hop, h.At, h.Detail = "unrouted", stamp(item.Head.Received), "no route of the revision wanted this event; it goes nowhere"
			})
		}
		for _, destination := range waits {
			add(func(h *Hop) { h.Hop, h.Peer, h.At = "pending", destination, stamp(item.Head.Received) })
		}
	} else {
		add(func(h *Hop) { h.Hop, h.Peer, h.At = "relayed", a.identity.Agent, stamp(item.Relayed) })
		add(func(h *Hop) { h.Hop, h.Peer, h.At = "received", item.Source, stamp(item.Received) })
	}
	delivered, err := a.delivery.Hops(item.Pos, item.Index)
	if err != nil {
		return nil, err
	}
	for _, target := range item.Head.TargetsAt(a.identity.Agent) {
		known := false
		for _, d := range delivered {
			if d.System != target.System || d.Shadow != target.Shadow {
				continue
			}
			known = true
			add(func(h *Hop) {
				h.Hop, h.System, h.Route, h.Shadow = d.State, target.System, target.Route, target.Shadow
				if h.At = stamp(d.At); h.At == "" {
					h.At = stamp(item.Received)
				}
				h.Attempts, h.Status, h.Detail = d.Attempts, d.Status, d.Detail
			})
		}
		if !known {
			add(func(h *Hop) {
				h.Hop, h.System, h.Route, h.Shadow, h.At = "pending", target.System, target.Route, target.Shadow, stamp(item.Received)
			})
		}
	}
	return out, nil
}

// sent lists where the relay has taken an event to; the control plane cannot tell, because it
// opens no block.
func sent(numbers []block.Number, waits []string) (out []Sent) {
	for _, n := range numbers {
		if n.Agent != block.Control && !slices.Contains(waits, n.Agent) {
			out = append(out, Sent{To: n.Agent, Number: n.Seq})
		}
	}
	return out
}

// opsQueue answers the queue commands of this machine's operators.
type opsQueue struct{ agent *Agent }

var _ ops.Queue = opsQueue{}

func (q opsQueue) Inspect() (any, error) { return q.agent.queue.Inspect() }

func (q opsQueue) Verify() (any, error) { return q.agent.queue.Verify() }

func (q opsQueue) DeadLetters() (any, error) {
	letters, err := q.agent.delivery.DeadLetters()
	if letters == nil {
		letters = []delivery.DeadLetter{} // an empty list in JSON, not null
	}
	return letters, err
}

func (q opsQueue) Export(w io.Writer, from uint64) error {
	return q.agent.queue.Export(from, func(r queue.Record) error { return ExportRecord(w, r) })
}

func (q opsQueue) Retry(ctx context.Context, id string, confirm bool) error {
	err := q.agent.delivery.Replay(ctx, delivery.Command{ID: uuid.NewString(), DeadLetter: id, By: localOperator, Confirm: confirm})
	log := q.agent.log.With("deadLetter", id, "by", localOperator, "confirmed", confirm)
	if err != nil {
		log.Info("replay refused", "err", err)
	} else {
		log.Info("replay begun")
	}
	switch {
	case errors.Is(err, delivery.ErrNoDeadLetter):
		return fmt.Errorf("%w: %w", ops.ErrNotFound, err)
	case errors.Is(err, delivery.ErrOutOfOrder), errors.Is(err, delivery.ErrNotOpen):
		return fmt.Errorf("%w: %w", ops.ErrConflict, err)
	}
	return err
}

// Exported is one line of an export.
type Exported struct {
	Position uint64          `json:"position"`
	Source   string          `json:"source,omitempty"` // accepting agent of a received event
	Key      string          `json:"key,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"`
	Damaged  string          `json:"damaged,omitempty"`
}

// ExportRecord writes the events of one journal record as JSON Lines.
func ExportRecord(w io.Writer, r queue.Record) error {
	encoder := json.NewEncoder(w)
	if r.Err != nil {
		return encoder.Encode(Exported{Position: r.Pos, Damaged: r.Err.Error()})
	}
	items, err := journal.Events(r.Pos, r.Data)
	if err != nil {
		return encoder.Encode(Exported{Position: r.Pos, Damaged: strings.TrimSpace(err.Error())})
	}
	for _, item := range items {
		if err := encoder.Encode(Exported{Position: r.Pos, Source: item.Source, Key: item.Key, Event: item.Event}); err != nil {
			return err
		}
	}
	return nil
}
