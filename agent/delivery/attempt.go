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
	"github.com/crossdock/crossdock/protocol/policy"
)

// result is how an attempt ended.
type result struct {
	answer  Answer
	failure *Failure // nil: delivered
	fault   string   // nothing could be sent: broken event, mapping
	stopped bool     // cut by Run's end; nothing is known of it
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
	h := sha256.New()
	for _, part := range []string{source, id, system, strconv.Itoa(edit), mode} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // never fails
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// order is what a worker needs for one attempt.
type order struct {
	job     *job
	event   []byte
	system  string
	dest    *policy.Destination
	timeout time.Duration
}

// attempt makes one attempt. ctx ends only when Run must.
func attempt(ctx context.Context, cfg *Config, o order) (res result) {
	started := time.Now()
	defer func() { res.at, res.took = time.Now(), time.Since(started) }()
	d, err := prepare(ctx, o)
	if err != nil {
		return result{fault: err.Error()}
	}
	hook(cfg, BeforeSend)
	call, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	answer, err := cfg.Target.Deliver(call, d)
	hook(cfg, AfterSend)
	if err == nil {
		return result{answer: answer}
	}
	if ctx.Err() != nil {
		return result{stopped: true}
	}
	var f *Failure
	if !errors.As(err, &f) {
		if call.Err() != nil {
			err = fmt.Errorf("no answer within %s: %w", o.timeout, err)
		}
		f = &Failure{Class: Unknown, Err: err}
	}
	return result{answer: answer, failure: f}
}

func hook(cfg *Config, step string) {
	if cfg.Hook != nil {
		cfg.Hook(step)
	}
}

func prepare(ctx context.Context, o order) (Delivery, error) {
	ev, err := event.Unmarshal(o.event)
	if err != nil {
		return Delivery{}, fmt.Errorf("the event cannot be read: %w", err)
	}
	d := Delivery{
		Event: ev, Key: o.job.Key, System: o.system, Route: o.job.Route, Shadow: o.job.Shadow, Attempt: o.job.Tries + 1,
		IdempotencyKey: IdempotencyKey(ev.Source, ev.ID, o.system, o.job.Edit, o.job.Shadow),
	}
	if o.dest.Map == nil {
		return d, nil
	}
	if d.Data, err = mapData(ctx, o.dest.Map, ev); err != nil {
		return Delivery{}, fmt.Errorf("route %s: the map for %s failed: %w", o.job.Route, o.system, err)
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
