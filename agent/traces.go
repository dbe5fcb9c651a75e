package agent

import (
	"context"
	"errors"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/tracing"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// tracesGrace is for the last traces to be sent when the agent stops.
const tracesGrace = 2 * time.Second

// traced tells of every attempt, and gives the system its trace context.
type traced struct {
	delivery.Target
	tracer *tracing.Tracer
}

func (t traced) Deliver(ctx context.Context, ds []delivery.Delivery) (delivery.Answer, error) {
	if t.tracer == nil {
		return t.Target.Deliver(ctx, ds)
	}
	attempts := make([]tracing.Attempt, len(ds))
	for i := range ds {
		attempts[i] = tracing.Attempt{System: ds[i].System, Number: ds[i].Attempt, Key: ds[i].IdempotencyKey, From: time.Now()}
		ds[i].TraceParent = t.tracer.Parent(ds[i].Event, attempts[i])
	}
	answer, err := t.Target.Deliver(ctx, ds)
	if errors.Is(err, delivery.ErrNotSent) {
		return answer, err
	}
	for i := range ds {
		attempts[i].To, attempts[i].Err = time.Now(), err
		t.tracer.Attempted(ds[i].Event, attempts[i])
	}
	return answer, err
}

// traced tells of the way of a block's events to this agent. Only with traces is it opened here.
func (i *inbox) traced(text []byte, relayed time.Time) {
	if i.tracer == nil {
		return
	}
	envelope, items, err := block.Open(text)
	if err != nil {
		return // the journal has said so
	}
	for _, item := range items {
		_, body, err := block.SplitBody(item.Body)
		if err != nil {
			continue
		}
		if e, err := event.UnmarshalShared(body); err == nil && e.Type != factType {
			i.tracer.Received(e, envelope.Origin.Agent, i.facts.agent, item.Received, relayed, time.Now())
		}
	}
}

// endTraces sends what is left, if the collector takes it soon.
func (a *Agent) endTraces() {
	ctx, cancel := context.WithTimeout(context.Background(), tracesGrace)
	defer cancel()
	if err := a.tracer.Close(ctx); err != nil {
		a.log.Warn("the last traces could not be sent", "err", err)
	}
}
