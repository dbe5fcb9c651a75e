package httpdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/event"
)

// Limits on a feed.
const (
	DefaultPoll = 5 * time.Second
	maxPause    = time.Minute // between polls of a feed that fails
	maxFeed     = 10_000      // events in one answer
	maxReason   = 512         // bytes of a reason that is told to the system
)

// refusal tells the system why one of its events will never be taken.
type refusal struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// confirmation is what the confirm path gets: what the journal holds, and what it never
// will. A system that does not know refused sees those events stay in its feed.
type confirmation struct {
	IDs     []string  `json:"ids"`
	Refused []refusal `json:"refused,omitempty"`
}

// Publish is systems.Publisher: it polls the feed, hands on what is there and confirms it.
// It polls again at once while confirming makes other events come.
func (d *Driver) Publish(ctx context.Context, emit systems.Emit) error {
	feed := d.spec.Publish
	if feed == nil {
		return systems.NotOffered(systems.OpPublish)
	}
	interval := feed.Interval
	if interval <= 0 {
		interval = DefaultPoll
	}
	pause, last, told := interval, "", map[refusal]bool{}
	for ctx.Err() == nil {
		first, err := d.poll(ctx, emit, told)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			d.opts.Metrics.Polls.WithLabelValues(d.system, "error").Inc()
			d.log.Warn("feed: poll failed, will try again", "error", err, "pause", pause)
			pause = max(interval, min(pause*2, maxPause))
		default:
			d.opts.Metrics.Polls.WithLabelValues(d.system, "ok").Inc()
			pause = interval
			again := first != "" && first != last && feed.Confirm != ""
			last = first
			if again {
				continue
			}
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
	return nil
}

func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// poll makes one round: read, emit, confirm. It gives the id of the first event taken. told
// holds the refusals of the last round, so that each is logged once however often it comes.
func (d *Driver) poll(ctx context.Context, emit systems.Emit, told map[refusal]bool) (first string, err error) {
	u, err := d.resolve(d.spec.Publish.Path)
	if err != nil {
		return "", err
	}
	reply, err := d.do(ctx, exchange.Request{
		Method: http.MethodGet, URL: u, MaxAnswer: exchange.MaxPage,
		Header: http.Header{"Accept": {"application/cloudevents-batch+json, application/json"}},
	})
	if err != nil {
		return "", err
	}
	events, refused, err := readFeed(reply.Body)
	if err != nil {
		return "", err
	}
	ids, more, failed := d.emitAll(ctx, emit, events)
	refused = append(refused, more...)
	d.opts.Metrics.Published.WithLabelValues(d.system).Add(float64(len(ids)))
	d.tell(refused, told)
	if err := d.confirm(ctx, ids, refused); err != nil {
		return "", err
	}
	if len(ids) > 0 {
		first = ids[0]
	}
	return first, failed
}

func (d *Driver) tell(refused []refusal, told map[refusal]bool) {
	before := maps.Clone(told)
	clear(told)
	for _, r := range refused {
		told[r] = true
		if !before[r] {
			d.opts.Metrics.Refused.WithLabelValues(d.system).Inc()
			d.log.Error("feed: event refused, the system must correct it", "id", r.ID, "reason", r.Reason)
		}
	}
}

// readFeed reads an answer of the feed. One event that is no CloudEvent does not hold up the
// others.
func readFeed(text []byte) (events []*event.Event, refused []refusal, err error) {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, nil, nil // 204, or nothing to say
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, nil, systems.Rejectedf("feed: a JSON array of CloudEvents is expected")
	}
	if len(raw) > maxFeed {
		return nil, nil, systems.Rejectedf("feed: %d events in one answer, the limit is %d", len(raw), maxFeed)
	}
	for i, one := range raw {
		e, err := event.Unmarshal(one)
		if err != nil {
			refused = append(refused, refusal{ID: looseID(one), Reason: reason(fmt.Errorf("element %d: %w", i, err))})
			continue
		}
		events = append(events, e)
	}
	return events, refused, nil
}

// looseID finds the id of something that is no CloudEvent, so that its sender can find it.
func looseID(raw json.RawMessage) string {
	var named struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(raw, &named) // none is an answer too
	return string(systems.Clean([]byte(named.ID)))
}

func reason(err error) string {
	text := systems.Clean([]byte(err.Error()))
	return string(bytes.ToValidUTF8(text[:min(len(text), maxReason)], nil))
}

// emitAll gives all events at once, and one by one when there is one among them that the
// journal will never take. It stops at an error that may pass, so that order is kept.
func (d *Driver) emitAll(ctx context.Context, emit systems.Emit, events []*event.Event) (ids []string, refused []refusal, err error) {
	if len(events) == 0 {
		return nil, nil, nil
	}
	err = emit(ctx, events)
	switch {
	case err == nil:
		for _, e := range events {
			ids = append(ids, e.ID)
		}
		return ids, nil, nil
	case !systems.IsPermanent(err):
		return nil, nil, fmt.Errorf("feed: the events were not taken: %w", err)
	case len(events) == 1:
		return nil, []refusal{{ID: events[0].ID, Reason: reason(err)}}, nil
	}
	for one := range slices.Chunk(events, 1) {
		taken, no, err := d.emitAll(ctx, emit, one)
		ids, refused = append(ids, taken...), append(refused, no...)
		if err != nil {
			return ids, refused, err
		}
	}
	return ids, refused, nil
}

func (d *Driver) confirm(ctx context.Context, ids []string, refused []refusal) error {
	if d.spec.Publish.Confirm == "" || len(ids)+len(refused) == 0 {
		return nil
	}
	u, err := d.resolve(d.spec.Publish.Confirm)
	if err != nil {
		return err
	}
	if ids == nil {
		ids = []string{} // an array in JSON, never null
	}
	body, err := json.Marshal(confirmation{IDs: ids, Refused: refused})
	if err != nil {
		return systems.Rejectedf("feed: confirmation: %w", err)
	}
	_, err = d.do(ctx, exchange.Request{
		Method: http.MethodPost, URL: u, Body: body, Effect: true, Partial: true,
		Header: http.Header{"Content-Type": {event.JSONType}},
	})
	if err != nil {
		return fmt.Errorf("feed: confirm: %w", err)
	}
	return nil
}
