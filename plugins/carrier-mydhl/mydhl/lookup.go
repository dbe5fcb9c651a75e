package mydhl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/purchases"
)

// GetByReference finds what was ordered: in the record, and where that holds no outcome, in the
// provider's tracking. That tracking has nothing proves nothing, since it learns of shipments
// late: then the error is Unavailable, and it stays so until tracking knows the shipment or the
// time of the setting settle-hours is over.
func (c *Carrier) GetByReference(ctx context.Context, reference string) (*carrier.Shipped, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	key := shipKey(reference)
	leave, err := c.record.Hold(ctx, key)
	if err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "the reference is being ordered by another call")
	}
	defer leave()
	now, err := c.record.Find(key)
	if err != nil {
		return nil, err
	}
	if now.Phase != purchases.Begun && now.Phase != purchases.Done {
		return nil, never(reference)
	}
	found, err := c.again(ctx, reference, now)
	if sdk.ClassOf(err) == sdk.UnknownOutcome && err != nil {
		e := sdk.AsError(err)
		e.Class = sdk.Unavailable
		return nil, e
	}
	return found, err
}

func never(reference string) error {
	return sdk.Errorf(sdk.NotFound, "nothing was ordered under reference %q", clip(reference, maxReference))
}

// again answers with what was ordered before.
func (c *Carrier) again(ctx context.Context, reference string, s purchases.State) (*carrier.Shipped, error) {
	b, made := &begun{}, &sold{}
	if err := c.record.Asked(s, b); err != nil {
		return nil, unread(err)
	}
	if s.Phase == purchases.Begun {
		return c.search(ctx, reference, s.Since, b)
	}
	if err := c.record.Answer(s, made); err != nil {
		return nil, unread(err)
	}
	return shippedOf(made, reference, b), nil
}

// unread is the error for what was ordered, and cannot be read again: it is not to be ordered
// elsewhere.
func unread(err error) error {
	e := *sdk.AsError(err)
	e.Class = sdk.UnknownOutcome
	return &e
}

// search looks in tracking for an order whose answer was lost.
func (c *Carrier) search(ctx context.Context, reference string, since time.Time, b *begun) (*carrier.Shipped, error) {
	q := url.Values{"shipmentReference": {b.Mark}, "shipmentReferenceType": {"CU"}, "shipperAccountNumber": {b.Account},
		"dateRangeFrom": {since.In(c.zone).AddDate(0, 0, -1).Format(day)}, "dateRangeTo": {c.now().In(c.zone).AddDate(0, 0, 1).Format(day)},
		"trackingView": {"all-checkpoints"}, "levelOfDetail": {"all"}}
	var answer trackingAnswer
	err := c.client.do(ctx, &call{method: http.MethodGet, path: []string{"tracking"}, query: q}, &answer)
	if err != nil && sdk.ClassOf(err) != sdk.NotFound {
		e := lost("the order", since)
		e.Provider, e.RetryAfter = sdk.AsError(err).Provider, sdk.AsError(err).RetryAfter
		e.Message += "; tracking cannot be asked: " + clip(sdk.AsError(err).Message, 200)
		return nil, e
	}
	var hits []*trackedShipment
	for i := range answer.Shipments {
		if answer.Shipments[i].ShipmentTrackingNumber != "" {
			hits = append(hits, &answer.Shipments[i])
		}
	}
	if len(hits) == 0 {
		return c.nowhere(reference, since)
	}
	made := recovered(hits, b)
	c.addInvoice(ctx, made, since, b)
	return shippedOf(c.keep(shipKey(reference), made), reference, b), nil
}

// nowhere is for an order that tracking does not know.
func (c *Carrier) nowhere(reference string, since time.Time) (*carrier.Shipped, error) {
	if c.settle > 0 && c.now().Sub(since) >= c.settle {
		c.record.Undone(shipKey(reference))
		return nil, never(reference)
	}
	return nil, lost("the order", since)
}

// recovered is what tracking knows of a shipment. Its label cannot be had again.
func recovered(hits []*trackedShipment, b *begun) *sold {
	of := hits[0]
	n := len(b.Parcels)
	made := &sold{Shipment: of.ShipmentTrackingNumber, Product: b.Product, Weight: b.Weight, Tracking: make([]string, n), Labels: noLabels(n)}
	for i, p := range of.Pieces {
		if at := indexOf(p.Number, n); at >= 0 {
			i = at
		}
		if i < n {
			made.Tracking[i] = p.TrackingNumber
		}
	}
	for i, number := range made.Tracking {
		if number == "" {
			made.Tracking[i] = of.ShipmentTrackingNumber
		}
	}
	made.Warnings = []note{{Code: "label_lost", Text: "the answer with the label was lost, and DHL gives it once: print it on mydhl.express.dhl, or let the shipment lie and order another under another reference"}}
	if len(hits) > 1 {
		made.Warnings = append(made.Warnings, note{Code: "several", Text: fmt.Sprintf("DHL has %d shipments under this reference; this is the first", len(hits))})
	}
	return made
}

// addInvoice fetches the invoice of a shipment that was found again, as far as DHL has it.
func (c *Carrier) addInvoice(ctx context.Context, made *sold, since time.Time, b *begun) {
	if !b.Customs {
		return
	}
	month := since.In(c.zone).Format("2006-01")
	if on, err := time.Parse(day, b.Date); err == nil {
		month = on.Format("2006-01")
	}
	q := url.Values{"shipperAccountNumber": {b.Account}, "typeCode": {"commercial-invoice"}, "pickupYearAndMonth": {month}, "encodingFormat": {"pdf"}}
	var answer imageAnswer
	err := c.client.do(ctx, &call{method: http.MethodGet, path: []string{"shipments", made.Shipment, "get-image"}, query: q}, &answer)
	if err != nil {
		c.log.Info("no invoice is fetched for a shipment that was found again", "shipment", made.Shipment, "error", err)
		return
	}
	for _, image := range answer.Documents {
		if image.TypeCode == "commercial-invoice" && len(image.Content) > 0 {
			made.Documents = append(made.Documents, document{Kind: "customs", Format: "pdf", Data: image.Content})
		}
	}
}
