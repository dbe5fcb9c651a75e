package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

// result is how an attempt ended.
type result struct {
	answer  Answer
	failure *Failure // nil: delivered
	fault   string   // nothing could be sent: broken event, mapping
	void    bool     // not sent, or cut by Run's end: it says nothing, and all go again
	at      time.Time
	took    time.Duration
}

// IdempotencyKey is the same for all attempts to take one event to one system, over
// retries, replays and remapping, and another after an edit.
func IdempotencyKey(source, id, system string, edit int, shadow bool) string {
	mode := "live"
	if shadow {
		mode = "shadow"
	}
	var room [256]byte // most fit
	text := room[:0]
	for _, part := range [...]string{source, id, system, strconv.Itoa(edit), mode} {
		text = binary.BigEndian.AppendUint64(text, uint64(len(part)))
		text = append(text, part...)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// attempt makes one attempt with all of a flight that can be sent. ctx ends only when Run
// must. What keeps a single delivery from being sent is noted at it.
func attempt(ctx context.Context, cfg *Config, f *flight) (res result) {
	started := time.Now()
	defer func() { res.at, res.took = time.Now(), time.Since(started) }()
	ds := f.prepare(ctx, cfg, started.Add(f.timeout/2))
	if f.sent = len(ds); f.sent == 0 {
		return result{fault: "there was nothing to send"}
	}
	hook(cfg, BeforeSend)
	call, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	answer, err := cfg.Target.Deliver(call, ds)
	hook(cfg, AfterSend)
	if err == nil {
		return result{answer: answer}
	}
	if ctx.Err() != nil || errors.Is(err, ErrNotSent) {
		return result{void: true}
	}
	var failure *Failure
	if !errors.As(err, &failure) {
		if call.Err() != nil {
			err = fmt.Errorf("no answer within %s: %w", f.timeout, err)
		}
		failure = &Failure{Class: Unknown, Err: err}
	}
	return result{answer: answer, failure: failure}
}

func hook(cfg *Config, step string) {
	if cfg.Hook != nil {
		cfg.Hook(step)
	}
}

// prepare makes deliveries of the orders. Their maps may take long and make much of little,
// so what goes beyond MaxBatchBytes, or is not begun by until, is left for another flight.
func (f *flight) prepare(ctx context.Context, cfg *Config, until time.Time) []Delivery {
	ds, size := make([]Delivery, 0, len(f.orders)), 0
	for i := range f.orders {
		o := &f.orders[i]
		if i > 0 && !time.Now().Before(until) {
			f.leave(i)
			break
		}
		d, err := prepare(ctx, cfg, f.system, o)
		if o.lacks != "" {
			continue
		}
		if err != nil {
			o.fault = err.Error()
			continue
		}
		size += len(d.Text) + len(d.Data)
		if len(ds) > 0 && size > MaxBatchBytes {
			f.leave(i)
			break
		}
		ds = append(ds, d)
	}
	return ds
}

// leave has the orders from the one at index first on go another time.
func (f *flight) leave(first int) {
	for i := first; i < len(f.orders); i++ {
		f.orders[i].left = true
	}
}

func prepare(ctx context.Context, cfg *Config, system string, o *order) (Delivery, error) {
	ev, err := event.UnmarshalShared(o.event)
	if err != nil {
		return Delivery{}, fmt.Errorf("the event cannot be read: %w", err)
	}
	if o.job.Type != "" && ev.Type != o.job.Type {
		return Delivery{}, fmt.Errorf("the event is of type %s, and its sender routed it as %s: look at it before this is replayed", ev.Type, o.job.Type)
	}
	if cfg.Lacking != nil {
		if o.lacks = cfg.Lacking(ev, o.job.From); o.lacks != "" {
			return Delivery{}, nil
		}
	}
	d := Delivery{
		Event: ev, Text: o.event, Key: o.job.Key, System: system, Route: o.job.Route, Shadow: o.job.Shadow, Attempt: o.job.Tries + 1,
		IdempotencyKey: IdempotencyKey(ev.Source, ev.ID, system, o.job.Edit, o.job.Shadow),
	}
	if o.dest.Map == nil {
		return d, nil
	}
	if d.Data, err = mapData(ctx, o.dest.Map, ev); err != nil {
		return Delivery{}, fmt.Errorf("route %s: the map for %s failed: %w", o.job.Route, system, err)
	}
	return d, nil
}

func mapData(ctx context.Context, m *expr.Expr, ev *event.Event) ([]byte, error) {
	if ev.Binary {
		return nil, errors.New("the event's data is not JSON")
	}
	text := ev.Data
	if len(text) == 0 {
		text = []byte("null")
	}
	in, err := expr.Decode(text)
	if err != nil {
		return nil, err
	}
	// The expression has a deadline of its own; a stop of the agent is not its failure.
	out, err := m.Eval(context.WithoutCancel(ctx), in)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}
