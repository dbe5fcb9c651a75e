package usps

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// maxClosed is how many shipments one SCAN form names here. The provider takes more.
const maxClosed = 5000

// Manifest makes a SCAN form: the driver scans it in place of every label.
func (c *Carrier) Manifest(ctx context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	from, err := lookManifest(r)
	if err != nil {
		return nil, err
	}
	key := manifestKey(r.Reference)
	keys := []string{key}
	for _, reference := range r.Shipments {
		keys = append(keys, shipmentKey(reference))
	}
	free, err := c.book.Hold(ctx, keys...)
	if err != nil {
		return nil, err
	}
	defer free()
	digest, err := r.Digest()
	if err != nil {
		return nil, err
	}
	before := c.book.manifest(r.Reference)
	switch {
	case before == nil || before.State == refused:
		before = nil
	case before.Digest != digest:
		return nil, sdk.Errorf(sdk.Duplicate, "manifest %q was made with other contents, or may have been", r.Reference).At("reference").Suggest("take another reference")
	case before.State == done:
		return c.manifested(before)
	}
	request, err := c.scanRequest(r, from)
	if err != nil {
		return nil, err
	}
	m := &closing{Reference: r.Reference, Digest: digest, State: asking, Shipments: slices.Clone(r.Shipments)}
	if before == nil {
		if err := c.book.Begin(key, digest, m); err != nil {
			return nil, err
		}
	}
	return c.scan(ctx, m, request, before != nil)
}

func lookManifest(r *carrier.ManifestRequest) (*scanFrom, error) {
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	if err := lookReference(r.Reference); err != nil {
		return nil, err
	}
	if _, err := time.Parse(time.DateOnly, r.Date); err != nil {
		return nil, sdk.Errorf(sdk.Validation, "%.16q is no day such as 2026-01-31", r.Date).At("date")
	}
	if len(r.Shipments) == 0 || len(r.Shipments) > maxClosed {
		return nil, sdk.Errorf(sdk.Validation, "a manifest names 1 to %d shipments, and this one %d", maxClosed, len(r.Shipments)).At("shipments")
	}
	seen := map[string]bool{}
	for i, reference := range r.Shipments {
		if seen[reference] {
			return nil, sdk.Errorf(sdk.Validation, "shipment %.64q is named twice", reference).At(fmt.Sprintf("shipments[%d]", i))
		}
		seen[reference] = true
	}
	place, err := placeOf("from", &r.From)
	if err != nil {
		return nil, err
	}
	people, err := peopleOf("from", &r.From)
	if err != nil {
		return nil, err
	}
	return &scanFrom{place, people}, nil
}

// scanRequest collects the labels, and refuses what cannot be handed over.
func (c *Carrier) scanRequest(r *carrier.ManifestRequest, from *scanFrom) (*scanRequest, error) {
	out := &scanRequest{ImageInfo: imageInfo{ImageType: "PDF", LabelType: "8.5X11LABEL"}, MailingDate: r.Date, EntryFacilityZIPCode: from.ZIPCode,
		DestinationEntryFacilityType: "NONE", FromAddress: *from}
	for i, reference := range r.Shipments {
		field := fmt.Sprintf("shipments[%d]", i)
		e := c.book.shipment(reference)
		switch {
		case e == nil || e.Phase == purchases.Undone:
			return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under reference %.64q", reference).At(field)
		case e.Phase == purchases.Begun:
			return nil, sdk.Errorf(sdk.Conflict, "nobody knows yet whether %q was bought", reference).At(field).Suggest("look it up first")
		case e.voided != nil:
			return nil, sdk.Errorf(sdk.Conflict, "shipment %q is voided", reference).At(field).Suggest("leave it out")
		case e.returned:
			return nil, sdk.Errorf(sdk.NotSupported, "shipment %q is a return, which others hand over", reference).At(field).Suggest("leave it out")
		case e.manifest != "" && e.manifest != r.Reference:
			return nil, sdk.Errorf(sdk.Conflict, "shipment %q was handed over with manifest %q, or may have been", reference, e.manifest).At(field).Suggest("leave it out")
		}
		out.Shipment.TrackingNumbers = append(out.Shipment.TrackingNumbers, e.tracking)
		out.OverwriteMailingDate = out.OverwriteMailingDate || e.date != r.Date
	}
	return out, nil
}

// scan asks for the form; again: it was asked for before, and no answer came. The provider puts
// no label on two forms.
func (c *Carrier) scan(ctx context.Context, m *closing, request *scanRequest, again bool) (*carrier.Manifested, error) {
	var out scanAnswer
	_, err := c.client.do(ctx, &call{name: "SCAN form", method: http.MethodPost, path: "/scan-forms/v3/scan-form", body: request, accept: labelsJSON, buys: true, out: &out,
		field: "shipments", fields: scanField})
	if err == nil && out.ManifestNumber == "" {
		err = sdk.Errorf(sdk.UnknownOutcome, "SCAN form: the answer holds no number")
	}
	if err != nil {
		return nil, c.notScanned(m, again, sdk.AsError(err))
	}
	m.State, m.Number = done, out.ManifestNumber
	m.Shipments = slices.DeleteFunc(m.Shipments, func(reference string) bool {
		e := c.book.shipment(reference)
		if e == nil || slices.Contains(out.TrackingNumbers, e.tracking) {
			return false
		}
		m.Warnings = append(m.Warnings, warning{Code: "left_out", Field: "shipments", Message: fmt.Sprintf("the provider left out shipment %q", reference)})
		return true
	})
	if request.OverwriteMailingDate {
		m.Warnings = append(m.Warnings, warning{Code: "date", Field: "date", Message: "labels of another day now have the day of the manifest"})
	}
	if n := len(out.Image); n == 0 || n > maxImage {
		m.Warnings = append(m.Warnings, warning{Code: "no_form", Message: "the provider sent no form that can be kept: print it at the provider"})
	} else if err := after("the SCAN form was made", c.book.Done(imageKey(manifestKey(m.Reference)), &image{Kind: "manifest", Format: carrier.PDF, Data: out.Image})); err != nil {
		return nil, err
	}
	if err := after("the SCAN form was made", c.book.Done(manifestKey(m.Reference), m)); err != nil {
		return nil, err
	}
	return c.manifested(m)
}

func (c *Carrier) notScanned(m *closing, again bool, e *sdk.Error) error {
	if again && (e.Class == sdk.Validation || e.Class == sdk.Conflict || e.Class == sdk.NotFound) {
		// It may refuse the labels because they are on the form that no answer came for.
		e = sdk.AsError(uncertain(e))
		return e.Suggest("look for the form in the account at the provider; a label that is on none can go into a manifest with another reference after the provider was asked")
	}
	if !again && e.Class != sdk.UnknownOutcome && (e.Class != sdk.Unavailable || e.Provider.Code == "") {
		c.book.Undone(manifestKey(m.Reference))
	}
	return e
}

func scanField(parameter string) string {
	if f := parameterField(parameter); f != "" {
		return f
	}
	return "shipments"
}

func (c *Carrier) manifested(m *closing) (*carrier.Manifested, error) {
	out := &carrier.Manifested{Reference: m.Reference, Manifest: m.Number, Shipments: m.Shipments, Parcels: len(m.Shipments), Warnings: sdkWarnings(m.Warnings)}
	picture, err := c.book.image(manifestKey(m.Reference))
	if err != nil {
		return nil, err
	}
	if picture != nil {
		out.Documents = []carrier.Document{{Kind: picture.Kind, Format: picture.Format, Data: picture.Data}}
	}
	return out, nil
}
