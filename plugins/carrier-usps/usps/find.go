package usps

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"slices"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// plainTracking is the form of the provider's numbers. Nothing else is put into a path.
var plainTracking = regexp.MustCompile(`^[0-9A-Za-z-]{4,40}$`)

// GetByReference finds what was bought. The book knows what was asked for; where it does not
// know what became of that, the provider is asked with the key of then.
func (c *Carrier) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if err := lookReference(reference); err != nil {
		return nil, err
	}
	free, err := c.book.Hold(ctx, shipmentKey(reference))
	if err != nil {
		e := sdk.AsError(err)
		e.Class = sdk.Unavailable // nothing was looked up
		return nil, e
	}
	defer free()
	out, err := c.lookup(ctx, reference)
	if err != nil && sdk.ClassOf(err) == sdk.UnknownOutcome {
		e := *sdk.AsError(err)
		e.Class = sdk.Unavailable // a lookup does nothing
		return nil, &e
	}
	return out, err
}

func (c *Carrier) lookup(ctx context.Context, reference string) (*carrier.Shipped, error) {
	e := c.book.shipment(reference)
	switch {
	case e == nil || e.Phase == purchases.Undone:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", reference).At("reference")
	case e.Phase == purchases.Done:
		return c.shipped(reference, e)
	}
	begin, err := c.book.begun(e)
	if err != nil {
		return nil, err
	}
	return c.find(ctx, begin)
}

// again comes back to a label of which nobody knows whether it was bought. What was sent is
// sent once more only when the provider does not know its key, and under the same one, with
// which the provider makes no second label.
func (c *Carrier) again(ctx context.Context, e *entry) (*carrier.Shipped, error) {
	begin, err := c.book.begun(e)
	if err != nil {
		return nil, err
	}
	out, err := c.find(ctx, begin)
	switch {
	case err == nil:
		return out, nil
	case sdk.ClassOf(err) != sdk.NotFound:
		return nil, uncertain(err)
	}
	return c.buy(ctx, begin, false)
}

// uncertain gives an error the class of what it leaves open.
func uncertain(err error) error {
	e := *sdk.AsError(err)
	e.Class, e.Field, e.Retryable = sdk.UnknownOutcome, "", true
	e.Message = "it was asked for before, and what became of that is not known: " + e.Message
	return &e
}

// find asks the provider for a label by its key, and writes down what it finds.
func (c *Carrier) find(ctx context.Context, b *begun) (*carrier.Shipped, error) {
	var out reprintAnswer
	_, err := c.client.do(ctx, &call{name: "label by its key", method: http.MethodPost, path: "/labels/v3/label-reprint", header: map[string]string{keyHeader: b.Key},
		body: reprintRequest{imageInfo{ImageType: b.Image, LabelType: "4X6LABEL"}}, accept: labelsJSON, pays: true, out: &out, field: "reference"})
	if err != nil {
		return nil, unknownLabel(err)
	}
	m, data := out.LabelMetadata, out.LabelImage
	if b.Return {
		m, data = out.ReturnLabelMetadata, out.ReturnLabelImage
	}
	if m == nil || m.TrackingNumber == "" {
		return nil, sdk.Errorf(sdk.Unavailable, "label by its key: the answer holds no tracking number")
	}
	return c.keep(b, m, data)
}

// unknownLabel reads why the provider gives no label for a key. Only when it says that there is
// none, it was surely not bought: it also refuses to print what is of yesterday, or was
// cancelled.
func unknownLabel(err error) error {
	e := sdk.AsError(err)
	switch e.Class {
	case sdk.NotFound:
	case sdk.Validation, sdk.Conflict:
		if !says(e, "not found", "no label", "does not exist") {
			out := sdk.Errorf(sdk.Unavailable, "the provider does not say whether the label was bought").Suggest("look for it in the account at the provider, by its day and its recipient")
			out.Fault, out.Provider = sdk.FaultProvider, e.Provider
			return out
		}
	case sdk.UnknownOutcome, sdk.Internal:
		e.Class = sdk.Unavailable
		return e
	default:
		return e
	}
	out := sdk.Errorf(sdk.NotFound, "the provider knows no label of this reference").At("reference")
	out.Provider = e.Provider
	return out
}

// reprinted answers with what was bought, and the label in another format where one is wanted.
func (c *Carrier) reprinted(ctx context.Context, reference string, e *entry, j *job) (*carrier.Shipped, error) {
	out, err := c.shipped(reference, e)
	if err != nil || out.Voided {
		return out, err
	}
	begin, err := c.book.begun(e)
	if err != nil {
		return nil, err
	}
	if begin.Image == j.image {
		return out, nil
	}
	var got reprintAnswer
	_, err = c.client.do(ctx, &call{name: "reprint", method: http.MethodPost, path: "/labels/v3/label-reprint/" + url.PathEscape(e.tracking),
		body: reprintRequest{imageInfo{ImageType: j.image, LabelType: "4X6LABEL"}}, accept: labelsJSON, pays: true, out: &got, field: "label"})
	kind, data := "label", got.LabelImage
	if e.returned {
		kind, data = "return-label", got.ReturnLabelImage
	}
	if err != nil || len(data) == 0 || len(data) > maxImage {
		text := "the label could not be had as " + j.format
		if err != nil {
			text += ": " + err.Error()
		}
		out.Warnings = append(out.Warnings, sdk.Warning{Code: "label_format", Field: "label", Message: text})
		return out, nil
	}
	out.Documents = []carrier.Document{{Kind: kind, Format: j.format, Data: data}}
	out.Parcels[0].Label = 0
	return out, nil
}

// Void cancels a label, or asks for its refund when its data have gone to the postal systems.
func (c *Carrier) Void(ctx context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if r == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no request").At("request")
	}
	reference, err := c.named(r)
	if err != nil {
		return nil, err
	}
	free, err := c.book.Hold(ctx, shipmentKey(reference))
	if err != nil {
		return nil, err
	}
	defer free()
	e := c.book.shipment(reference)
	switch {
	case e == nil || e.Phase == purchases.Undone:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under reference %q", reference).At("reference")
	case e.Phase == purchases.Begun:
		return nil, sdk.Errorf(sdk.Conflict, "nobody knows yet whether %q was bought", reference).At("reference").Suggest("look it up first")
	case r.Shipment != "" && r.Shipment != e.tracking:
		return nil, sdk.Errorf(sdk.Validation, "%.40q is not the shipment of reference %q", r.Shipment, reference).At("shipment")
	case slices.ContainsFunc(r.Tracking, func(number string) bool { return number != e.tracking }):
		return nil, sdk.Errorf(sdk.Validation, "there is a number that is not of reference %q", reference).At("tracking")
	case e.voided != nil:
		return c.voided(reference, e)
	case e.closed:
		return nil, sdk.Errorf(sdk.Conflict, "it was handed over with manifest %q", e.manifest).At("reference").Suggest("ship it back, or ask the provider for a refund")
	}
	return c.void(ctx, reference, e)
}

// named gives the reference of what is to be voided.
func (c *Carrier) named(r *carrier.VoidRequest) (string, error) {
	if r.Reference != "" {
		return r.Reference, nil
	}
	for _, number := range append([]string{r.Shipment}, r.Tracking...) {
		if reference := c.book.referenceOf(number); reference != "" {
			return reference, nil
		}
		if number != "" {
			return "", sdk.Errorf(sdk.NotFound, "nothing was bought here under number %.40q", number).At("shipment")
		}
	}
	return "", sdk.Errorf(sdk.Validation, "nothing is named").At("reference").Suggest("name the reference, the shipment or the tracking number")
}

func (c *Carrier) void(ctx context.Context, reference string, e *entry) (*carrier.Voided, error) {
	if !plainTracking.MatchString(e.tracking) {
		return nil, sdk.Errorf(sdk.Internal, "the provider gave the number %.40q, which cannot be asked for", e.tracking)
	}
	if !e.voiding {
		if err := c.book.Note(shipmentKey(reference), nil); err != nil {
			return nil, err
		}
	}
	var out cancelAnswer
	_, err := c.client.do(ctx, &call{name: "cancel", method: http.MethodDelete, path: labelPath + "/" + e.tracking, pays: true, buys: true, out: &out, field: "reference"})
	if err == nil && out.Status != "CANCELED" && out.Status != "DISPUTED" {
		err = sdk.Errorf(sdk.UnknownOutcome, "cancel: the provider answers with the status %.32q", out.Status)
	}
	v := &voided{Accepted: out.Status == "CANCELED", Dispute: out.DisputeID}
	if err != nil {
		if v, err = notVoided(e.voiding, err); err != nil {
			return nil, err
		}
	}
	if err := after("the label was cancelled", c.book.Note(shipmentKey(reference), v)); err != nil {
		return nil, err
	}
	return c.voided(reference, c.book.shipment(reference))
}

// notVoided reads why a label was not cancelled; asked: it was asked for before, and no answer
// came.
func notVoided(asked bool, err error) (*voided, error) {
	e := sdk.AsError(err)
	switch {
	case e.Class != sdk.Validation && e.Class != sdk.NotFound && e.Class != sdk.Conflict:
		return nil, e
	case says(e, "already been submitted"):
		return &voided{}, nil
	case asked && (e.Class == sdk.NotFound || says(e, "not found", "already cancel")):
		return &voided{Accepted: true, Warnings: []warning{{Code: "unconfirmed", Message: "it was cancelled before without an answer, and the provider no longer knows it"}}}, nil
	case e.Class == sdk.NotFound || says(e, "not found"):
		e.Class, e.Field = sdk.NotFound, "reference"
	default:
		e.Class, e.Field = sdk.Conflict, "reference"
	}
	return nil, e
}

// voided makes the answer from the book.
func (c *Carrier) voided(reference string, e *entry) (*carrier.Voided, error) {
	out := &carrier.Voided{Reference: reference, Accepted: e.voided.Accepted, Warnings: sdkWarnings(e.voided.Warnings)}
	if !e.voided.Accepted {
		text := "a refund was asked for, and the provider decides about it later"
		if e.voided.Dispute != "" {
			text += "; its number is " + e.voided.Dispute
		}
		out.Warnings = append(out.Warnings, sdk.Warning{Code: "refund", Message: text})
		return out, nil
	}
	result, err := c.book.bought(e)
	if err != nil {
		return nil, err
	}
	rate, err := rateOfLine(e.service, result.Rate)
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the book: %v", err)
	}
	if rate != nil && !e.returned {
		out.Refund = &rate.Total
	}
	return out, nil
}
