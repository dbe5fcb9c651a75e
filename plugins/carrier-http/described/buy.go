package described

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

const maxReference = 64 // bytes

// purchase is a call that leaves a mark, once for its key.
type purchase[T any] struct {
	c         *Carrier
	o         *operation
	key       string
	reference string
	digest    string
	asked     any // as it is written down, to be looked up or repeated
	// prepare gives the exchange, and refuses what is not in order.
	prepare func() (*exchange, error)
	// read makes the answer of a result.
	read func(*exchange, map[string]any) (*T, error)
	// lookup finds what came of a call whose answer was lost: nil: surely nothing. Nil where
	// nothing can be looked up.
	lookup func(context.Context, purchases.State) (*T, error)
}

func keyOf(operation, reference string) string { return operation + ":" + reference }

func checkReference(reference string) error {
	if reference == "" || len(reference) > maxReference {
		return sdk.Errorf(sdk.Validation, "a reference has 1 to %d bytes, and this one %d", maxReference, len(reference)).At("reference")
	}
	return nil
}

// do answers what was answered before, settles what has no outcome, or calls.
func (p *purchase[T]) do(ctx context.Context) (*T, error) {
	leave, err := p.c.record.Hold(ctx, p.key)
	if err != nil {
		return nil, err
	}
	defer leave()
	s, err := p.c.record.Find(p.key)
	if err != nil {
		return nil, err
	}
	if (s.Phase == purchases.Begun || s.Phase == purchases.Done) && s.Digest != p.digest {
		return nil, sdk.Errorf(sdk.Duplicate, "it was asked for with other contents under this reference").At("reference").
			Suggest("take another reference, or send what was sent then")
	}
	switch s.Phase {
	case purchases.Done:
		out, err := answered[T](p.c.record, s)
		if err != nil {
			return nil, unknown(err)
		}
		return out, nil
	case purchases.Begun:
		out, err := p.settle(ctx, s)
		if err != nil || out != nil {
			return out, err
		}
	}
	return p.call(ctx, false)
}

// answered reads what was answered.
func answered[T any](r *purchases.Record, s purchases.State) (*T, error) {
	out := new(T)
	if err := r.Answer(s, out); err != nil {
		return nil, err
	}
	return out, nil
}

// settle finds out what came of a call whose answer was lost: nil and no error if it was surely
// not done. While that is not known the outcome stays unknown, whatever else goes wrong.
func (p *purchase[T]) settle(ctx context.Context, s purchases.State) (*T, error) {
	switch {
	case p.lookup != nil:
		out, err := p.lookup(ctx, s)
		if err != nil {
			return nil, unknown(err)
		}
		if out == nil {
			p.c.record.Undone(p.key)
			return nil, nil
		}
		return p.keep(out)
	case p.o.key != nil && p.c.now().Sub(s.Since) < p.o.key.lasts:
		out, err := p.call(ctx, true)
		if err != nil {
			return nil, unknown(err)
		}
		return out, nil
	}
	return nil, sdk.Errorf(sdk.UnknownOutcome, "it was sent on %s, and its answer was lost", s.Since.UTC().Format(time.DateTime)).
		Suggest("ask the provider whether it has it; if not, ask for it under another reference")
}

// unknown is an error of a call that tried to find out what came of another.
func unknown(err error) error {
	e := sdk.AsError(err)
	if e.Class == sdk.UnknownOutcome {
		return e
	}
	out := sdk.Errorf(sdk.UnknownOutcome, "it was sent before, and what came of it is not known: %s", e.Message)
	out.Provider, out.RetryAfter = e.Provider, e.RetryAfter
	return out
}

// call writes down that it begins, sends, and writes down what came of it. A call that is
// repeated under the provider's key says nothing of the first one when it fails.
func (p *purchase[T]) call(ctx context.Context, repeated bool) (*T, error) {
	x, err := p.prepare()
	if err != nil {
		return nil, err
	}
	if p.o.key != nil {
		x.key = p.o.key.text(p.o.name, p.reference)
	}
	if !repeated {
		if err := x.refused(ctx); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
		}
		request, err := json.Marshal(p.asked)
		if err != nil {
			return nil, sdk.Errorf(sdk.Validation, "it cannot be written as JSON: %v", err).At(p.o.standardField())
		}
		if err := p.c.record.Begin(p.key, p.digest, &sending{Name: p.o.name, Request: request}); err != nil {
			return nil, err
		}
	}
	m, err := x.run(ctx)
	if err == nil {
		var out *T
		if out, err = p.read(x, m); err == nil {
			return p.keep(out)
		}
	}
	if sdk.ClassOf(err) != sdk.UnknownOutcome && !repeated {
		p.c.record.Undone(p.key)
	}
	return nil, err
}

// keep writes down what is answered. What cannot be written is not answered: it is looked up,
// or repeated, once it can.
func (p *purchase[T]) keep(out *T) (*T, error) {
	if err := p.c.record.Done(p.key, out); err != nil {
		return nil, sdk.Errorf(sdk.UnknownOutcome, "it is done, and cannot be written down: %v", err)
	}
	return out, nil
}

// Ship buys a shipment, once for each reference.
func (c *Carrier) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, carrier.OpShip, s)
}

// ShipReturn buys the way back.
func (c *Carrier) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, carrier.OpShipReturn, s)
}

func (c *Carrier) ship(ctx context.Context, name string, s *carrier.Shipment) (*carrier.Shipped, error) {
	o, err := c.operation(name)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	if err := checkReference(s.Reference); err != nil {
		return nil, err
	}
	digest, err := s.Digest()
	if err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the shipment cannot be told from others: %v", err).At("shipment")
	}
	return c.shipping(o, name+" "+digest, s).do(ctx)
}

// shipping is the purchase of a shipment. There and back share their references.
func (c *Carrier) shipping(o *operation, digest string, s *carrier.Shipment) *purchase[carrier.Shipped] {
	p := &purchase[carrier.Shipped]{c: c, o: o, key: keyOf(carrier.OpShip, s.Reference), reference: s.Reference, digest: digest, asked: s}
	p.prepare = func() (*exchange, error) {
		asked, err := c.shipment(o, s)
		if err != nil {
			return nil, err
		}
		return c.exchange(o, asked, nil)
	}
	p.read = func(x *exchange, m map[string]any) (*carrier.Shipped, error) {
		asked, err := c.shipment(o, s)
		if err != nil {
			return nil, err
		}
		return x.shipped(s.Reference, asked, m)
	}
	if find := c.d.operations[carrier.OpGetByReference]; find != nil {
		p.lookup = func(ctx context.Context, st purchases.State) (*carrier.Shipped, error) {
			asked, err := c.shipment(o, s)
			if err != nil {
				return nil, err
			}
			out, err := c.find(ctx, find, s.Reference, asked, o.labelled)
			if out == nil && err == nil {
				if left := find.settled - c.now().Sub(st.Since); left > 0 {
					e := sdk.Errorf(sdk.Unavailable, "the provider does not find it, and its search may lag behind")
					e.RetryAfter = sdk.Span(left)
					return nil, e
				}
			}
			return out, err
		}
	}
	return p
}

// find asks the provider what was bought under a reference; nil: surely nothing.
func (c *Carrier) find(ctx context.Context, o *operation, reference string, asked *carrier.Shipment, labelled string) (*carrier.Shipped, error) {
	more := map[string]any{}
	if asked != nil {
		m, err := asInput(asked)
		if err != nil {
			return nil, sdk.Errorf(sdk.Internal, "the record cannot be read: %v", err)
		}
		more["shipment"] = m
	}
	labelling := *o
	labelling.labelled = labelled
	x, err := c.exchange(&labelling, map[string]string{"reference": reference}, more)
	if err != nil {
		return nil, err
	}
	m, err := x.run(ctx)
	switch {
	case err != nil && sdk.ClassOf(err) == sdk.NotFound, err == nil && m == nil:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return x.shipped(reference, asked, m)
}

// GetByReference finds what was bought: in the record, or at the provider where the record
// knows no outcome. What is under way is waited for.
func (c *Carrier) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	find := c.d.operations[carrier.OpGetByReference]
	if find == nil && c.d.operations[carrier.OpShip] == nil && c.d.operations[carrier.OpShipReturn] == nil {
		return nil, sdk.Errorf(sdk.NotSupported, "carrier %s has no %s", c.d.name, carrier.OpGetByReference)
	}
	if err := errors.Join(c.ready(), checkReference(reference)); err != nil {
		return nil, err
	}
	nothing := sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", reference)
	var s purchases.State
	if c.record != nil {
		leave, err := c.record.Hold(ctx, keyOf(carrier.OpShip, reference))
		if err != nil {
			return nil, sdk.Errorf(sdk.Unavailable, "it is being bought, and the caller is gone")
		}
		defer leave()
		if s, err = c.record.Find(keyOf(carrier.OpShip, reference)); err != nil {
			return nil, err
		}
	}
	var out *carrier.Shipped
	var err error
	switch {
	case s.Phase == purchases.Done:
		out, err = answered[carrier.Shipped](c.record, s)
	case s.Phase == purchases.Begun:
		out, err = c.settleShipment(ctx, s)
	case find != nil:
		out, err = c.find(ctx, find, reference, nil, "label")
	}
	if err != nil {
		return nil, notDone(err)
	}
	if out == nil {
		return nil, nothing
	}
	return out, c.markVoided(out)
}

// notDone is an error of a lookup, which itself does nothing: its class is never UnknownOutcome.
func notDone(err error) error {
	e := sdk.AsError(err)
	if e.Class != sdk.UnknownOutcome {
		return e
	}
	out := *e
	out.Class = sdk.Unavailable
	return &out
}

// settleShipment finds out what came of a shipment, from what was written down of it.
func (c *Carrier) settleShipment(ctx context.Context, s purchases.State) (*carrier.Shipped, error) {
	was, shipment := &sending{}, &carrier.Shipment{}
	if err := c.record.Asked(s, was); err != nil {
		return nil, err
	}
	o, err := c.operation(was.Name)
	if err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "the description no longer has %s, and what came of it cannot be told", was.Name)
	}
	if err := json.Unmarshal(was.Request, shipment); err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the record cannot be read: %v", err)
	}
	out, err := c.shipping(o, s.Digest, shipment).settle(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("lookup: %w", err)
	}
	return out, nil
}

// markVoided says of a shipment whether it was given back here.
func (c *Carrier) markVoided(s *carrier.Shipped) error {
	if c.record == nil {
		return nil
	}
	v, err := c.record.Find(keyOf(carrier.OpVoid, s.Reference))
	if err != nil || v.Phase != purchases.Done {
		return err
	}
	voided, err := answered[carrier.Voided](c.record, v)
	if err != nil {
		return err
	}
	s.Voided = s.Voided || voided.Accepted
	return nil
}
