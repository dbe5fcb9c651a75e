package zone

import (
	"context"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// maxClosed is how many shipments one manifest closes.
const maxClosed = 5000

// Manifest closes a day: what is named is handed over, all of it or nothing.
func (c *Carrier) Manifest(ctx context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if err := lookManifest(r); err != nil {
		return nil, err
	}
	var m *closed
	var list []*bought
	err := c.withBook(func(b *book) error {
		digest := digestJSON(r)
		m = b.manifests[r.Reference]
		if m != nil && m.Digest != digest {
			return sdk.Errorf(sdk.Duplicate, "manifest %q was made with other contents", r.Reference).At("reference").Suggest("take another reference")
		}
		done := m != nil
		if !done {
			m = &closed{Request: *r, Digest: digest, Number: identifier("M", r.Reference)}
		}
		for i, reference := range r.Shipments {
			p, err := handOver(b, reference, fmt.Sprintf("shipments[%d]", i), done)
			if err != nil {
				return err
			}
			list = append(list, p)
			m.Parcels += when(!done, len(p.Tracking))
		}
		if done {
			return nil
		}
		return write(b, &line{Time: c.now().UTC(), Manifest: m})
	})
	if err != nil {
		return nil, err
	}
	text, warnings, err := c.manifestPDF(m, list)
	if err != nil {
		// The day is closed; asking again prints it, if it can be printed then.
		e := sdk.Errorf(sdk.UnknownOutcome, "the manifest was made and cannot be printed: %v", err)
		e.Fault = sdk.FaultPlugin
		return nil, e
	}
	return &carrier.Manifested{Reference: r.Reference, Manifest: m.Number, Shipments: m.Request.Shipments, Parcels: m.Parcels,
		Documents: []carrier.Document{{Kind: "manifest", Format: carrier.PDF, Data: text}}, Warnings: warnings}, nil
}

func lookManifest(r *carrier.ManifestRequest) error {
	if r == nil {
		return sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	if err := lookReference(r.Reference); err != nil {
		return err
	}
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no day such as 2026-01-31", cut(r.Date)).At("date")
	}
	if err := lookAddress("from", &r.From); err != nil {
		return err
	}
	if len(r.Shipments) == 0 || len(r.Shipments) > maxClosed {
		return sdk.Errorf(sdk.Validation, "a manifest names 1 to %d shipments, and this one %d", maxClosed, len(r.Shipments)).At("shipments")
	}
	seen := map[string]int{}
	for i, reference := range r.Shipments {
		if first, twice := seen[reference]; twice {
			return sdk.Errorf(sdk.Validation, "shipment %q stands at shipments[%d] already", cut(reference), first).At(fmt.Sprintf("shipments[%d]", i))
		}
		seen[reference] = i
	}
	return nil
}

// handOver finds a shipment that may be handed over; done: that was, with this manifest.
func handOver(b *book, reference, field string, done bool) (*bought, error) {
	e := b.shipments[reference]
	switch {
	case e == nil:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", cut(reference)).At(field)
	case !e.voided.IsZero():
		return nil, sdk.Errorf(sdk.Conflict, "shipment %q is voided", reference).At(field).Suggest("leave it out")
	case e.manifest != nil && !done:
		return nil, sdk.Errorf(sdk.Conflict, "shipment %q was handed over with manifest %s", reference, e.manifest.Number).At(field).Suggest("leave it out")
	}
	p, err := b.read(e)
	if err != nil {
		return nil, damaged(err)
	}
	return p, nil
}
