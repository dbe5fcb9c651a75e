package usps

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

const (
	maxReference = 64
	maxImage     = 2 << 20 // bytes of a label or a form; an answer has at most 4 MiB
	labelsJSON   = "application/vnd.usps.labels+json"
	keyHeader    = "X-Idempotency-Key"
)

// Ship buys a label, once for each reference.
func (c *Carrier) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, false)
}

// ShipReturn buys a return label: the provider charges it when the parcel is on its way.
func (c *Carrier) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, true)
}

func (c *Carrier) ship(ctx context.Context, s *carrier.Shipment, back bool) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	j, err := look(s)
	if err != nil {
		return nil, err
	}
	if err := lookReference(s.Reference); err != nil {
		return nil, err
	}
	if s.Date == "" {
		return nil, sdk.Errorf(sdk.Validation, "the day on which it is handed over is missing").At("date")
	}
	free, err := c.book.Hold(ctx, shipmentKey(s.Reference))
	if err != nil {
		return nil, err
	}
	defer free()
	digest, err := digestOf(s, back)
	if err != nil {
		return nil, err
	}
	e := c.book.shipment(s.Reference)
	if e != nil && e.Phase != purchases.Undone && e.Digest != digest {
		return nil, sdk.Errorf(sdk.Duplicate, "reference %q was bought with other contents, or may have been", s.Reference).At("reference").
			Suggest("take another reference, or send what was sent then")
	}
	if e != nil && e.Phase == purchases.Begun {
		return c.again(ctx, e)
	}
	if e != nil && e.Phase == purchases.Done {
		return c.reprinted(ctx, s.Reference, e, j)
	}
	b, err := c.plan(ctx, j, back)
	if err != nil {
		return nil, err
	}
	if err := c.book.Begin(shipmentKey(s.Reference), digest, b); err != nil {
		return nil, err
	}
	return c.buy(ctx, b, true)
}

func lookReference(reference string) error {
	if reference == "" || len(reference) > maxReference {
		return sdk.Errorf(sdk.Validation, "a reference has 1 to %d bytes, and this one %d", maxReference, len(reference)).At("reference")
	}
	return nil
}

// digestOf tells requests apart. The label's format is left out: a label may be printed again
// on another printer.
func digestOf(s *carrier.Shipment, back bool) (string, error) {
	plain := *s
	plain.Numbers, plain.Label, plain.LabelDPI = nil, "", 0
	text, err := plain.Digest()
	if back {
		text = "return " + text
	}
	return text, err
}

// plan finds how the label has to be asked for, and writes what is sent.
func (c *Carrier) plan(ctx context.Context, j *job, back bool) (*begun, error) {
	s := j.shipment
	how, err := c.rateFor(ctx, j)
	if err != nil {
		return nil, err
	}
	path, mailClass, err := wayOf(how.mailClass, back)
	if err != nil {
		return nil, err
	}
	d := packageDescription{MailClass: mailClass, RateIndicator: how.indicator, ProcessingCategory: how.category, WeightUOM: "lb", Weight: number{j.weight},
		DimensionsUOM: "in", Length: number{j.sizes[0]}, Width: number{j.sizes[1]}, Height: number{j.sizes[2]},
		ExtraServices: j.extraCodes(how.mailClass), CustomerReference: customerReferences(s)}
	if path == labelPath {
		d.DestinationEntryFacilityType, d.MailingDate = "NONE", s.Date
	}
	if j.value != nil {
		d.PackageOptions = &packageOptions{PackageValue: number{*j.value}}
	}
	body, err := json.Marshal(labelRequest{ImageInfo: imageInfo{ImageType: j.image, LabelType: "4X6LABEL", ReceiptOption: "NONE"},
		FromAddress: j.from, ToAddress: j.to, ReturnAddress: j.returnTo, PackageDescription: d, CustomsForm: j.customs})
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the label cannot be asked for: %v", err)
	}
	key, err := uuid.NewRandom()
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "there is no key for the label: %v", err)
	}
	return &begun{Reference: s.Reference, Key: key.String(), Return: back, Service: how.mailClass, Parcel: s.Parcels[0].Reference,
		Format: j.format, Image: j.image, Date: s.Date, Pounds: j.weight.String(), Body: body, Warnings: warningsOf(j.warnings)}, nil
}

const (
	labelPath  = "/labels/v3/label"
	returnPath = "/labels/v3/return-label"
)

// wayOf gives where a label is asked for, and what its mail class is called there.
func wayOf(mailClass string, back bool) (path, name string, err error) {
	if !back {
		return labelPath, mailClass, nil
	}
	for _, s := range services {
		if s.code == mailClass && s.back != "" {
			return returnPath, s.back, nil
		}
	}
	return "", "", sdk.Errorf(sdk.NotSupported, "nothing is sent back with %s", mailClass).At("service")
}

// rateFor gives the price that a shipment names, if it is still that, or the best one of its
// service.
func (c *Carrier) rateFor(ctx context.Context, j *job) (rateKey, error) {
	s := j.shipment
	if s.Service == "" {
		return rateKey{}, sdk.Errorf(sdk.Validation, "a service is needed to ship").At("service").Suggest("ask for rates and take the service of one")
	}
	list, err := c.pricesOf(ctx, j)
	if err != nil {
		return rateKey{}, err
	}
	if s.RateID == "" {
		return list[0].how, nil
	}
	for _, p := range list {
		if p.rate.ID == s.RateID {
			return p.how, nil
		}
	}
	return rateKey{}, sdk.Errorf(sdk.Expired, "the provider has no such price for this shipment now").At("rateId").Suggest("ask for rates again")
}

// customerReferences are printed on the label where they are short enough.
func customerReferences(s *carrier.Shipment) []customerReference {
	var out []customerReference
	for _, text := range []string{s.Order, s.Parcels[0].Reference, s.Original} {
		if text != "" && len(text) <= 30 && len(out) < 2 && !slices.Contains(out, customerReference{text, true}) {
			out = append(out, customerReference{text, true})
		}
	}
	return out
}

// buy asks for the label. The book says already that it is asked for; first: and that it was
// not asked for before.
func (c *Carrier) buy(ctx context.Context, b *begun, first bool) (*carrier.Shipped, error) {
	path := labelPath
	if b.Return {
		path = returnPath
	}
	var out labelAnswer
	_, err := c.client.do(ctx, &call{name: "label", method: http.MethodPost, path: path, header: map[string]string{keyHeader: b.Key}, body: b.Body,
		accept: labelsJSON, pays: true, buys: true, out: &out, field: "shipment", fields: parameterField})
	if err != nil {
		return nil, c.notBought(b, first, sdk.AsError(err))
	}
	if out.TrackingNumber == "" {
		return nil, sdk.Errorf(sdk.UnknownOutcome, "label: the answer holds no tracking number")
	}
	data := out.LabelImage
	if b.Return {
		data = out.ReturnLabelImage
	}
	return c.keep(b, &out.labelMetadata, data)
}

// notBought writes down that a label was refused, when that is sure. Until then it keeps its
// key: a gateway may say that nobody is there and have passed the request on.
func (c *Carrier) notBought(b *begun, first bool, e *sdk.Error) error {
	if e.Class == sdk.Conflict { // with another request under the same key, which may have bought it
		e.Class = sdk.UnknownOutcome
	}
	var sure bool
	switch e.Class {
	case sdk.Validation, sdk.NotFound:
		sure = true
	case sdk.Unavailable:
		sure = first && e.Provider.Code == "" // it was not sent
	case sdk.Auth, sdk.Throttled:
		sure = first
	}
	if sure {
		c.book.Undone(shipmentKey(b.Reference))
	}
	return dated(e)
}

// keep writes down what was bought, and answers it.
func (c *Carrier) keep(b *begun, m *labelMetadata, data []byte) (*carrier.Shipped, error) {
	key, what := shipmentKey(b.Reference), &bought{Tracking: m.TrackingNumber, Rate: rateOfLabel(m)}
	for _, e := range m.ExtraServices {
		for _, w := range e.Warnings {
			what.Warnings = append(what.Warnings, warning{Code: "provider_" + w.Code, Message: w.Text})
		}
	}
	kind := "label"
	if b.Return {
		kind = "return-label"
	}
	switch {
	case len(data) == 0:
		what.Warnings = append(what.Warnings, warning{Code: "no_label", Message: "the provider sent no label"})
	case len(data) > maxImage:
		what.Warnings = append(what.Warnings, warning{Code: "no_label", Message: fmt.Sprintf("the label has %d bytes and cannot be kept: print it at the provider", len(data))})
	default:
		picture := &image{Kind: kind, Format: b.Format, Data: data}
		if err := after("the label was bought", c.book.Done(imageKey(key), picture)); err != nil {
			return nil, err
		}
	}
	if err := after("the label was bought", c.book.Done(key, what)); err != nil {
		return nil, err
	}
	return c.shipped(b.Reference, c.book.shipment(b.Reference))
}

// rateOfLabel gives what the label costs, as far as the provider says.
func rateOfLabel(m *labelMetadata) *rateLine {
	if m.Postage == nil {
		return nil
	}
	out := &rateLine{Delivery: m.Commitment.Expected}
	total := m.Postage.Decimal
	out.Charges = append(out.Charges, chargeLine{Kind: "base", Code: m.SKU, Name: "postage", Amount: m.Postage.String()})
	for _, e := range m.ExtraServices {
		if !e.Price.IsZero() {
			total = total.Add(e.Price.Decimal)
			out.Charges = append(out.Charges, chargeLine{Kind: "addon", Code: e.SKU, Name: e.Name, Amount: e.Price.String()})
		}
	}
	for _, f := range m.Fees {
		if !f.Price.IsZero() {
			total = total.Add(f.Price.Decimal)
			out.Charges = append(out.Charges, chargeLine{Kind: "surcharge", Code: f.SKU, Name: f.Name, Amount: f.Price.String()})
		}
	}
	out.Total = total.String()
	return out
}

// shipped makes the answer from the book, so that the first is the same as all later ones.
func (c *Carrier) shipped(reference string, e *entry) (*carrier.Shipped, error) {
	result, err := c.book.bought(e)
	if err != nil {
		return nil, err
	}
	begin, err := c.book.begun(e)
	if err != nil {
		return nil, err
	}
	out := &carrier.Shipped{Reference: reference, Shipment: e.tracking, Service: e.service, Voided: e.voided != nil && e.voided.Accepted,
		Parcels:  []carrier.ShippedParcel{{Reference: begin.Parcel, Tracking: e.tracking, Label: -1}},
		Warnings: sdkWarnings(begin.Warnings, result.Warnings)}
	picture, err := c.book.image(shipmentKey(reference))
	if err != nil {
		return nil, err
	}
	if picture != nil {
		out.Parcels[0].Label = 0
		out.Documents = []carrier.Document{{Kind: picture.Kind, Format: picture.Format, Data: picture.Data}}
	} else if !slices.ContainsFunc(out.Warnings, func(w sdk.Warning) bool { return w.Code == "no_label" }) {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: "no_label", Message: "the label is not kept any more"})
	}
	if out.Rate, err = rateOfLine(e.service, result.Rate); err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the book: %v", err)
	}
	return out, nil
}

func rateOfLine(service string, l *rateLine) (*carrier.Rate, error) {
	if l == nil {
		return nil, nil
	}
	out := &carrier.Rate{Service: service, Name: serviceName(service), Source: "live", Delivery: l.Delivery}
	var err error
	if out.Total, err = sdk.Of(l.Total, usd); err != nil {
		return nil, err
	}
	for _, c := range l.Charges {
		amount, err := sdk.Of(c.Amount, usd)
		if err != nil {
			return nil, err
		}
		out.Charges = append(out.Charges, carrier.Charge{Kind: c.Kind, Code: c.Code, Name: c.Name, Amount: amount})
	}
	return out, nil
}
