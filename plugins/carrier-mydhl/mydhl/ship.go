package mydhl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// The provider's names of fields in orders of shipments.
var shipFields = func() map[string]string {
	out := map[string]string{
		"/plannedShippingDateAndTime": "date", "/productCode": "service", "/accounts": "payer", "/valueAddedServices": "options",
		"/shipmentNotification": "options.notify", "/onDemandDelivery": "options.hold", "/customerReferences": "reference",
		"/outputImageProperties": "label", "/content/packages": "parcels", "/content/packages/#/weight": "parcels[%d].weight",
		"/content/packages/#/dimensions": "parcels[%d].dimensions", "/content/packages/#/typeCode": "parcels[%d].packaging",
		"/content/packages/#/customerReferences": "parcels[%d].reference", "/content/declaredValue": "parcels",
		"/content/exportDeclaration": "customs", "/content/exportDeclaration/invoice/number": "customs.invoiceNumber",
		"/content/exportDeclaration/invoice/date": "customs.invoiceDate", "/content/exportDeclaration/lineItems": "parcels",
		"/content/incoterm": "customs.incoterm", "/content/description": "parcels",
	}
	for theirs, ours := range map[string]string{"shipperDetails": "from", "receiverDetails": "to"} {
		address(out, "/customerDetails/"+theirs, ours+".")
		out["/customerDetails/"+theirs] = ours
	}
	return out
}()

// address adds the names of an address's fields.
func address(fields map[string]string, theirs, ours string) {
	for their, our := range map[string]string{"postalCode": "postalCode", "cityName": "city", "countryCode": "country", "provinceCode": "state",
		"addressLine1": "lines[0]", "addressLine2": "lines[1]", "addressLine3": "lines[2]"} {
		fields[theirs+"/postalAddress/"+their] = ours + our
	}
	for their, our := range map[string]string{"phone": "phone", "email": "email", "companyName": "company", "fullName": "name"} {
		fields[theirs+"/contactInformation/"+their] = ours + our
	}
	fields[theirs+"/registrationNumbers"] = ours + "taxIds"
	fields[theirs+"/registrationNumbers/#"] = ours + "taxIds[%d]"
}

// Ship orders a shipment, once for each reference.
func (c *Carrier) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, false)
}

// ShipReturn orders the way back: From is who sends the goods back.
func (c *Carrier) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return c.ship(ctx, s, true)
}

func (c *Carrier) ship(ctx context.Context, s *carrier.Shipment, back bool) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	if s.Reference == "" || len(s.Reference) > maxReference {
		return nil, sdk.Errorf(sdk.Validation, "a reference has 1 to %d bytes, and this one %d", maxReference, len(s.Reference)).At("reference")
	}
	key := shipKey(s.Reference)
	leave, err := c.record.Hold(ctx, key)
	if err != nil {
		return nil, err
	}
	defer leave()
	now, err := c.record.Find(key)
	if err != nil {
		return nil, err
	}
	digest, err := digestOf(s, back)
	if err != nil {
		return nil, err
	}
	if now.Phase == purchases.Begun || now.Phase == purchases.Done {
		if now.Digest != digest {
			return nil, sdk.Errorf(sdk.Duplicate, "reference %q was ordered with other contents", s.Reference).At("reference").
				Suggest("take another reference, or send what was sent then")
		}
		return c.again(ctx, s.Reference, now)
	}
	request, err := c.shipmentRequest(s, back)
	if err != nil {
		return nil, err
	}
	b := begunOf(s, back)
	b.Account = c.account
	return c.order(ctx, s, digest, request, b)
}

// order writes down that it begins, sends it, and writes down what came of it.
func (c *Carrier) order(ctx context.Context, s *carrier.Shipment, digest string, request *shipmentRequest, b *begun) (*carrier.Shipped, error) {
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
	}
	key := shipKey(s.Reference)
	if err := c.record.Begin(key, digest, b); err != nil {
		return nil, err
	}
	var answer shipmentAnswer
	k := &call{method: http.MethodPost, path: []string{"shipments"}, body: request, buys: true, fields: shipFields}
	err := c.client.do(ctx, k, &answer)
	if err != nil && sdk.ClassOf(err) != sdk.UnknownOutcome {
		c.record.Undone(key)
		if sdk.ClassOf(err) == sdk.NotFound { // there is nothing in an order that could be found
			err = noService(s, sdk.AsError(err).Provider)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	made, err := soldOf(&answer, b, request.OutputImageProperties.EncodingFormat)
	if err != nil {
		return nil, k.unread(err)
	}
	return shippedOf(c.keep(key, made), s.Reference, b), nil
}

// keep writes down what was bought, without its papers if they are too large for that. What
// cannot be written is answered all the same: it is bought, and the label is good. Whoever asks
// for it again is told what DHL's tracking knows.
func (c *Carrier) keep(key string, made *sold) *sold {
	err := c.record.Done(key, made)
	if sdk.ClassOf(err) == sdk.Validation && err != nil {
		bare := *made
		bare.Documents, bare.Labels = nil, noLabels(len(made.Tracking))
		bare.Warnings = append(slices.Clone(made.Warnings), note{Code: "label_lost", Text: "the papers were too large to be kept, and were given once"})
		err = c.record.Done(key, &bare)
	}
	if err == nil {
		return made
	}
	c.log.Error("a shipment was bought and cannot be written down", "shipment", made.Shipment, "error", err)
	out := *made
	out.Warnings = append(slices.Clone(made.Warnings), note{Code: "not_recorded", Text: "it is bought, and could not be written down: print the label now"})
	return &out
}

func noLabels(n int) []int { return slices.Repeat([]int{-1}, n) }

// digestOf tells requests apart: a return is another one than the same as no return.
func digestOf(s *carrier.Shipment, back bool) (string, error) {
	digest, err := s.Digest()
	if err != nil {
		return "", sdk.Errorf(sdk.Validation, "the shipment cannot be told from others: %v", err).At("shipment")
	}
	if back {
		digest = "return " + digest
	}
	return digest, nil
}

// begunOf is what is remembered of an order before it is sent.
func begunOf(s *carrier.Shipment, back bool) *begun {
	b := &begun{Mark: markOf(s.Reference), Product: s.Service, Date: s.Date, Back: back, Customs: declarable(s)}
	sum := decimal.Zero
	for _, p := range s.Parcels {
		b.Parcels = append(b.Parcels, p.Reference)
		if w, err := p.Weight.In(sdk.Kilogram); err == nil {
			sum = sum.Add(w)
		}
	}
	b.Weight = sum.String()
	return b
}

// markOf is the reference as the provider takes it, by which it is looked for: itself, or its
// hash where it is too long.
func markOf(reference string) string {
	if utf8.RuneCountInString(reference) <= maxPrinted && strings.TrimSpace(reference) == reference {
		return reference
	}
	sum := sha256.Sum256([]byte(reference))
	return "#" + hex.EncodeToString(sum[:])[:maxPrinted-1]
}

func (c *Carrier) shipmentRequest(s *carrier.Shipment, back bool) (*shipmentRequest, error) {
	if productName(s.Service) == "" {
		return nil, sdk.Errorf(sdk.Validation, "DHL Express has no product %q", clip(s.Service, 20)).At("service").Suggest("ask for rates and take the service of one")
	}
	if s.RateID != "" {
		return nil, noRateID()
	}
	if s.ReturnTo != nil {
		return nil, sdk.Errorf(sdk.Validation, "what DHL cannot deliver goes back to the sender").At("returnTo").Suggest("leave it out, or send from there")
	}
	if s.Date == "" {
		return nil, sdk.Errorf(sdk.Validation, "the date is missing").At("date")
	}
	var err error
	r := &shipmentRequest{ProductCode: s.Service, GetRateEstimates: true}
	if r.PlannedShipping, err = c.planned(s.Date); err != nil {
		return nil, err
	}
	if r.OutputImageProperties, err = imagesOf(s, back); err != nil {
		return nil, err
	}
	if r.CustomerDetails.ShipperDetails, err = partyOf(&s.From, "from."); err != nil {
		return nil, err
	}
	if r.CustomerDetails.ReceiverDetails, err = partyOf(&s.To, "to."); err != nil {
		return nil, err
	}
	if r.ValueAddedServices, err = c.extrasOf(s); err != nil {
		return nil, err
	}
	if r.Accounts, err = c.payersOf(s, back); err != nil {
		return nil, err
	}
	inside, err := contentOf(s, back, s.Date)
	if err != nil {
		return nil, err
	}
	r.Content = *inside
	r.CustomerReferences = []reference{{Value: markOf(s.Reference), TypeCode: "CU"}}
	if order := strings.TrimSpace(s.Order); order != "" {
		r.CustomerReferences = append(r.CustomerReferences, reference{Value: short(order, maxPrinted), TypeCode: "CO"})
	}
	if point := s.Options[carrier.OptHold]; point != "" {
		buyer := r.CustomerDetails.ReceiverDetails
		r.CustomerDetails.BuyerDetails = &buyer
		r.OnDemandDelivery = &onDemand{DeliveryOption: "servicepoint", ServicePointID: point}
	}
	if mail := s.Options[carrier.OptNotifyMail]; mail != "" {
		r.ShipmentNotification = []notification{{TypeCode: "email", ReceiverID: mail}}
	}
	r.GetAdditional = []additionalAsked{{TypeCode: "linkLabelsByPieces", IsRequested: true}}
	return r, nil
}

// imagesOf says which papers are wanted.
func imagesOf(s *carrier.Shipment, back bool) (outputImage, error) {
	out := outputImage{EncodingFormat: s.Label, Split: true, ImageOptions: []imageOption{{TypeCode: "label", IsRequested: true}}}
	switch s.Label {
	case "":
		out.EncodingFormat = carrier.PDF
	case carrier.PDF, carrier.ZPL:
	default:
		return out, sdk.Errorf(sdk.NotSupported, "DHL makes no labels of format %q", clip(s.Label, 20)).At("label").Suggest("take pdf or zpl")
	}
	switch s.LabelDPI {
	case 0:
	case 200, 203:
		out.PrinterDPI = 200
	case 300:
		out.PrinterDPI = 300
	default:
		return out, sdk.Errorf(sdk.NotSupported, "DHL makes labels of 203 and of 300 dots an inch").At("labelDpi")
	}
	if declarable(s) && s.Customs.InvoiceNumber != "" {
		kind := reasons[s.Customs.Content].invoice
		if back {
			kind = reasons["returned"].invoice
		}
		out.ImageOptions = append(out.ImageOptions, imageOption{TypeCode: "invoice", IsRequested: true, InvoiceType: kind})
	}
	return out, nil
}

// soldOf reads the answer to an order. One that does not name the shipment and every parcel is
// no answer that can be read.
func soldOf(a *shipmentAnswer, b *begun, format string) (*sold, error) {
	if a.ShipmentTrackingNumber == "" {
		return nil, fmt.Errorf("it names no shipment")
	}
	n := len(b.Parcels)
	out := &sold{Shipment: a.ShipmentTrackingNumber, Product: b.Product, Weight: b.Weight, Tracking: make([]string, n), Labels: noLabels(n)}
	if len(a.Packages) != n {
		return nil, fmt.Errorf("it names %d parcels, and %d were ordered", len(a.Packages), n)
	}
	for i, p := range a.Packages {
		if at := indexOf(p.ReferenceNumber, n); at >= 0 {
			i = at
		}
		if p.TrackingNumber == "" || out.Tracking[i] != "" {
			return nil, fmt.Errorf("it names no number for parcel %d, or two", i)
		}
		out.Tracking[i] = p.TrackingNumber
	}
	addPapers(out, a.Documents, b, format)
	out.Price = priceOfOrder(a, b.Product)
	for _, w := range a.Warnings {
		out.Warnings = append(out.Warnings, note{Code: "dhl", Text: clip(w, 500)})
	}
	return out, nil
}

// indexOf reads a number that counts from one; -1: it is none.
func indexOf(number *number, n int) int {
	if number == nil || !number.IsInteger() || !number.IsPositive() || number.GreaterThan(decimal.NewFromInt(int64(n))) {
		return -1
	}
	return int(number.IntPart()) - 1
}

func addPapers(out *sold, images []image, b *begun, format string) {
	labels := 0
	for _, image := range images {
		d := document{Format: strings.ToLower(image.ImageFormat), Data: image.Content}
		switch image.TypeCode {
		case "label":
			d.Kind = "label"
			if b.Back {
				d.Kind = "return-label"
			}
			if at := indexOf(image.PackageReferenceNumber, len(out.Labels)); at >= 0 {
				out.Labels[at] = len(out.Documents)
			} else if len(out.Labels) == 1 {
				out.Labels[0] = len(out.Documents)
			}
			if d.Format != format {
				out.Warnings = append(out.Warnings, note{Code: "label_format", Text: "DHL made a label of format " + clip(d.Format, 20)})
			}
			labels++
		case "invoice":
			d.Kind = "customs"
		default:
			continue
		}
		out.Documents = append(out.Documents, d)
	}
	if labels == 0 {
		out.Warnings = append(out.Warnings, note{Code: "label_lost", Text: "DHL answered without a label: print it on mydhl.express.dhl"})
	}
}

// priceOfOrder reads the charges of an order; nil: DHL did not say.
func priceOfOrder(a *shipmentAnswer, product string) *price {
	for _, charges := range a.ShipmentCharges {
		if charges.CurrencyType != billing || charges.Price == nil || !charges.Price.IsPositive() || !currency(charges.PriceCurrency) {
			continue
		}
		r := &carrier.Rate{Total: sdk.Money{Amount: charges.Price.Decimal, Currency: charges.PriceCurrency}}
		for _, part := range charges.ServiceBreakdown {
			if part.Price != nil {
				addCharge(r, part.TypeCode, part.Name, part.Price.Decimal)
			}
		}
		balance(r, decimal.Zero)
		out := &price{Currency: charges.PriceCurrency, Total: *charges.Price}
		for _, c := range r.Charges {
			out.Charges = append(out.Charges, charge{Kind: c.Kind, Code: c.Code, Name: c.Name, Amount: number{c.Amount.Amount}})
		}
		return out
	}
	return nil
}

// shippedOf says what was sold in the contract's words.
func shippedOf(made *sold, reference string, b *begun) *carrier.Shipped {
	out := &carrier.Shipped{Reference: reference, Shipment: made.Shipment, Service: b.Product}
	for i, number := range made.Tracking {
		p := carrier.ShippedParcel{Tracking: number, Label: made.Labels[i]}
		if i < len(b.Parcels) {
			p.Reference = b.Parcels[i]
		}
		out.Parcels = append(out.Parcels, p)
	}
	for _, d := range made.Documents {
		out.Documents = append(out.Documents, carrier.Document{Kind: d.Kind, Format: d.Format, Data: d.Data})
	}
	if p := made.Price; p != nil {
		out.Rate = &carrier.Rate{Service: b.Product, Name: productName(b.Product), Source: "live", Estimate: true,
			Total: sdk.Money{Amount: p.Total.Decimal, Currency: p.Currency}}
		for _, c := range p.Charges {
			out.Rate.Charges = append(out.Rate.Charges, carrier.Charge{Kind: c.Kind, Code: c.Code, Name: c.Name, Amount: sdk.Money{Amount: c.Amount.Decimal, Currency: p.Currency}})
		}
	}
	for _, w := range made.Warnings {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: w.Code, Message: w.Text})
	}
	return out
}
