package httpdriver

import (
	"context"
	"maps"
	"net/http"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/event"
)

// BatchType is the content type of several events in one request.
const BatchType = "application/cloudevents-batch+json; charset=utf-8"

// Extension attributes of our own, for in a batch there is no header for each event. They are
// the same over retries, as all of an event is: the number of the attempt is not among them.
const (
	AttributeIdempotencyKey = "idempotencykey"
	AttributeKey            = "crossdockkey"    // the ordering key
	AttributeRoute          = "crossdockroute"  // the route that asked for the delivery
	AttributeShadow         = "crossdockshadow" // true: compare, do not act
)

// AttributeOwn stands before the name of an attribute that the event itself has by one of
// the names above: the receiver can rely on ours, and what the event says is not lost.
const AttributeOwn = "own"

// batchExtra is about what one event takes in a batch beside its own text.
const batchExtra = 256

// DeliverBatch is systems.BatchDeliverer: a JSON array of CloudEvents, each with the mapped
// data, and with what a single delivery says in headers as attributes.
func (d *Driver) DeliverBatch(ctx context.Context, ds []systems.Delivery) (systems.Answer, error) {
	call := d.spec.Deliver
	if call == nil {
		return systems.Answer{}, systems.NotOffered(systems.OpDeliver)
	}
	if orDefault(call.Envelope, "structured") != "structured" {
		return systems.Answer{}, systems.Misconfiguredf("envelope %s has no form for several events; remove it, or remove batch below delivery", call.Envelope)
	}
	u, err := d.resolve(call.Path)
	if err != nil {
		return systems.Answer{}, err
	}
	body, err := EncodeBatch(ds)
	if err != nil {
		return systems.Answer{}, err
	}
	return d.send(ctx, call, u, http.Header{"Content-Type": {BatchType}}, body)
}

// EncodeBatch writes deliveries in the batch format of CloudEvents.
func EncodeBatch(ds []systems.Delivery) ([]byte, error) {
	size := 2
	for i := range ds {
		size += max(len(ds[i].Text), len(ds[i].Data)) + batchExtra
	}
	b := append(make([]byte, 0, size), '[')
	for i := range ds {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendDelivery(b, &ds[i]); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendDelivery writes an event from what is kept of it, if nothing of it has to change.
func appendDelivery(b []byte, del *systems.Delivery) ([]byte, error) {
	var room [4]event.Attribute
	ours := append(room[:0], event.Attribute{Name: AttributeIdempotencyKey, Value: del.IdempotencyKey})
	if del.Key != "" {
		ours = append(ours, event.Attribute{Name: AttributeKey, Value: del.Key})
	}
	if del.Route != "" {
		ours = append(ours, event.Attribute{Name: AttributeRoute, Value: del.Route})
	}
	if del.Shadow {
		ours = append(ours, event.Attribute{Name: AttributeShadow, Value: "true"})
	}
	asKept := del.Data == nil && del.Text != nil
	for name := range del.Event.Extensions {
		asKept = asKept && !reserved(name)
	}
	if asKept {
		if b, ok := event.AppendExtended(b, del.Text, ours...); ok {
			return b, nil
		}
	}
	e, err := giveWay(del.Mapped())
	if err != nil {
		return nil, err
	}
	text, err := e.Marshal()
	if err != nil {
		return nil, systems.Rejectedf("event %s cannot be written: %w", e.ID, err)
	}
	b, ok := event.AppendExtended(b, text, ours...)
	if !ok {
		return nil, systems.Rejectedf("event %s is not written as events are: %.64s", e.ID, text)
	}
	return b, nil
}

func reserved(name string) bool {
	switch name {
	case AttributeIdempotencyKey, AttributeKey, AttributeRoute, AttributeShadow:
		return true
	}
	return false
}

// giveWay has an event's own attributes leave the names that are ours.
func giveWay(e *event.Event) (*event.Event, error) {
	out := *e
	out.Extensions = maps.Clone(e.Extensions)
	for name, value := range e.Extensions {
		if !reserved(name) {
			continue
		}
		if _, taken := e.Extensions[AttributeOwn+name]; taken {
			return nil, systems.Rejectedf("event %s has both attributes %s and %s%s, and a batch needs %s for itself; have the publisher leave one out",
				e.ID, name, AttributeOwn, name, name)
		}
		delete(out.Extensions, name)
		out.Extensions[AttributeOwn+name] = value
	}
	return &out, nil
}
