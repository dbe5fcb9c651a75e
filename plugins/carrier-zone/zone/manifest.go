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
	var day *closed
	var text []byte
	var warnings []sdk.Warning
	err := c.withBook(func(m *memory) (err error) {
		var list []*bought
		done := false
		if day, list, done, err = m.dayOf(r); err != nil {
			return err
		}
		// It is printed before it is written: what is closed can be printed.
		if text, warnings, err = c.manifestPDF(day, list); err != nil {
			return unprinted(err, done)
		}
		if done {
			return nil
		}
		return m.write(&line{Time: c.now().UTC(), Manifest: day})
	})
	if err != nil {
		return nil, err
	}
	return &carrier.Manifested{Reference: r.Reference, Manifest: day.Number, Shipments: day.Shipments, Parcels: day.Parcels,
		Documents: []carrier.Document{{Kind: "manifest", Format: carrier.PDF, Data: text}}, Warnings: warnings}, nil
}

// unprinted is the error for a manifest that cannot be printed; done: it was written before,
// and so the day is closed whatever becomes of the paper.
func unprinted(err error, done bool) error {
	class := sdk.Internal
	if done {
		class = sdk.UnknownOutcome
	}
	e := sdk.Errorf(class, "the manifest cannot be printed: %v", err)
	e.Fault = sdk.FaultPlugin
	return e
}

// dayOf finds the manifest of a request; done: it stands in the book already.
func (m *memory) dayOf(r *carrier.ManifestRequest) (day *closed, list []*bought, done bool, err error) {
	digest, err := r.Digest()
	if err != nil {
		return nil, nil, false, err
	}
	day = m.manifests[r.Reference]
	if day != nil && day.Digest != digest {
		return nil, nil, false, sdk.Errorf(sdk.Duplicate, "manifest %q was made with other contents", r.Reference).At("reference").Suggest("take another reference")
	}
	if done = day != nil; !done {
		day = &closed{Reference: r.Reference, Date: r.Date, Shipments: r.Shipments, Digest: digest, Number: identifier("M", r.Reference)}
	}
	for i, reference := range r.Shipments {
		p, err := handOver(m, reference, fmt.Sprintf("shipments[%d]", i), done)
		if err != nil {
			return nil, nil, false, err
		}
		list = append(list, p)
		day.Parcels += when(!done, len(p.Tracking))
	}
	return day, list, done, nil
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
func handOver(m *memory, reference, field string, done bool) (*bought, error) {
	e := m.shipments[reference]
	switch {
	case e == nil:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", cut(reference)).At(field)
	case !e.voided.IsZero():
		return nil, sdk.Errorf(sdk.Conflict, "shipment %q is voided", reference).At(field).Suggest("leave it out")
	case e.manifest != nil && !done:
		return nil, sdk.Errorf(sdk.Conflict, "shipment %q was handed over with manifest %s", reference, e.manifest.Number).At(field).Suggest("leave it out")
	}
	return m.read(e)
}
