package described

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// Void gives back what was bought. The record adds the provider's numbers where the caller does
// not know them.
func (c *Carrier) Void(ctx context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	o, err := c.operation(carrier.OpVoid)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is nothing to give back").At("reference")
	}
	if err := checkReference(r.Reference); err != nil {
		return nil, err
	}
	asked := *r
	bought, err := c.bought(r.Reference)
	if err != nil {
		return nil, err
	}
	if bought != nil && asked.Shipment == "" {
		asked.Shipment = bought.Shipment
	}
	if bought != nil && len(asked.Tracking) == 0 {
		for _, p := range bought.Parcels {
			asked.Tracking = append(asked.Tracking, p.Tracking)
		}
	}
	p := &purchase[carrier.Voided]{c: c, o: o, key: keyOf(carrier.OpVoid, r.Reference), reference: r.Reference, asked: &asked}
	p.prepare = func() (*exchange, error) { return c.exchange(o, &asked, nil) }
	p.read = func(x *exchange, m map[string]any) (*carrier.Voided, error) {
		belongs(m, r.Reference)
		setDefault(m, "accepted", true)
		return readInto[carrier.Voided](x, m)
	}
	if find := c.d.operations[carrier.OpGetByReference]; find != nil && o.key == nil {
		p.lookup = func(ctx context.Context, _ purchases.State) (*carrier.Voided, error) {
			found, err := c.find(ctx, find, r.Reference, nil, "label")
			if err != nil || found == nil || !found.Voided {
				return nil, err
			}
			return &carrier.Voided{Reference: r.Reference, Accepted: true}, nil
		}
	}
	return p.do(ctx)
}

// bought is a shipment that the record knows; nil: none.
func (c *Carrier) bought(reference string) (*carrier.Shipped, error) {
	s, err := c.record.Find(keyOf(carrier.OpShip, reference))
	if err != nil || s.Phase != purchases.Done {
		return nil, err
	}
	return answered[carrier.Shipped](c.record, s)
}

// Pickup books, changes or cancels a collection.
func (c *Carrier) Pickup(ctx context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	if c.d.operations[carrier.OpPickup] == nil {
		return nil, sdk.Errorf(sdk.NotSupported, "carrier %s has no %s", c.d.name, carrier.OpPickup)
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no collection").At("reference")
	}
	names := map[string]string{"book": carrier.OpPickup, "change": opChange, "cancel": opCancel}
	name, known := names[r.Action]
	if !known {
		return nil, sdk.Errorf(sdk.Validation, "%.20q is none of book, change, cancel", r.Action).At("action")
	}
	o, err := c.operation(name)
	if err != nil {
		return nil, sdk.AsError(err).At("action")
	}
	if err := checkReference(r.Reference); err != nil {
		return nil, err
	}
	if r.Action != "book" && r.Confirmation == "" {
		return nil, sdk.Errorf(sdk.Validation, "it needs the provider's confirmation of the collection").At("confirmation")
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the collection cannot be told from others: %v", err).At("reference")
	}
	p := &purchase[carrier.PickedUp]{c: c, o: o, key: keyOf(name, r.Reference), reference: r.Reference, digest: digest, asked: r}
	switch r.Action { // one collection may be changed more than once, and is cancelled once
	case "change":
		p.reference = r.Reference + "-" + short(digest)
		p.key = keyOf(name, p.reference)
	case "cancel":
		p.digest = r.Confirmation
	}
	p.prepare = func() (*exchange, error) { return c.exchange(o, r, nil) }
	p.read = func(x *exchange, m map[string]any) (*carrier.PickedUp, error) {
		belongs(m, r.Reference)
		if r.Confirmation != "" {
			setDefault(m, "confirmation", r.Confirmation)
		}
		return readInto[carrier.PickedUp](x, m)
	}
	return p.do(ctx)
}

// short tells contents apart in a key.
func short(digest string) string {
	sum := sha256.Sum256([]byte(digest))
	return hex.EncodeToString(sum[:8])
}

// Manifest closes a day. Expressions see in known what was bought under each reference.
func (c *Carrier) Manifest(ctx context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	o, err := c.operation(carrier.OpManifest)
	if err != nil {
		return nil, err
	}
	if r == nil || len(r.Shipments) == 0 {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipments")
	}
	if err := checkReference(r.Reference); err != nil {
		return nil, err
	}
	digest, err := r.Digest()
	if err != nil {
		return nil, sdk.Errorf(sdk.Validation, "the manifest cannot be told from others: %v", err).At("reference")
	}
	parcels := 0
	p := &purchase[carrier.Manifested]{c: c, o: o, key: keyOf(carrier.OpManifest, r.Reference), reference: r.Reference, digest: digest, asked: r}
	p.prepare = func() (*exchange, error) {
		known := []any{}
		parcels = 0
		for i, reference := range r.Shipments {
			s, err := c.bought(reference)
			if err != nil {
				return nil, err
			}
			if s == nil {
				return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under this reference").At("shipments[" + strconv.Itoa(i) + "]")
			}
			parcels += len(s.Parcels)
			s.Documents = nil
			m, err := asInput(s)
			if err != nil {
				return nil, sdk.Errorf(sdk.Internal, "the record cannot be read: %v", err)
			}
			known = append(known, m)
		}
		return c.exchange(o, r, map[string]any{"known": known})
	}
	p.read = func(x *exchange, m map[string]any) (*carrier.Manifested, error) {
		return x.manifested(r, parcels, m)
	}
	return p.do(ctx)
}

// manifested reads a closed day.
func (x *exchange) manifested(r *carrier.ManifestRequest, parcels int, m map[string]any) (*carrier.Manifested, error) {
	belongs(m, r.Reference)
	setDefault(m, "parcels", parcels)
	for _, doc := range objects(m["documents"]) {
		setDefault(doc, "kind", "manifest")
	}
	out, err := readInto[carrier.Manifested](x, m)
	if err == nil && len(out.Shipments) == 0 {
		out.Shipments = slices.Clone(r.Shipments)
	}
	return out, err
}
