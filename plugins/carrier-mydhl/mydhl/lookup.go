package mydhl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
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
	leave, err := c.inFlight.enter(ctx, key)
	if err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "the reference is being ordered by another call")
	}
	defer leave()
	now, err := c.record.find(key)
	if err != nil {
		return nil, err
	}
	if now.phase != phaseBegun && now.phase != phaseDone {
		return nil, never(reference)
	}
	found, err := c.again(ctx, reference, &now)
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
func (c *Carrier) again(ctx context.Context, reference string, s *state) (*carrier.Shipped, error) {
	if s.phase == phaseBegun {
		return c.search(ctx, reference, s)
	}
	l, err := c.record.outcome(s)
	if err != nil {
		return nil, err
	}
	if l.Sold == nil {
		return nil, sdk.Errorf(sdk.Internal, "the record says nothing of the shipment").Suggest("restore it from a backup")
	}
	return shippedOf(l.Sold, reference, &s.begun), nil
}

// search looks in tracking for an order whose answer was lost.
func (c *Carrier) search(ctx context.Context, reference string, s *state) (*carrier.Shipped, error) {
	b := &s.begun
	q := url.Values{"shipmentReference": {b.Mark}, "shipmentReferenceType": {"CU"}, "shipperAccountNumber": {b.Account},
		"dateRangeFrom": {s.since.In(c.zone).AddDate(0, 0, -1).Format(day)}, "dateRangeTo": {c.now().In(c.zone).AddDate(0, 0, 1).Format(day)},
		"trackingView": {"all-checkpoints"}, "levelOfDetail": {"all"}}
	var answer trackingAnswer
	err := c.client.do(ctx, &call{method: http.MethodGet, path: []string{"tracking"}, query: q}, &answer)
	if err != nil && sdk.ClassOf(err) != sdk.NotFound {
		e := lost("the order", s.since)
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
		return c.nowhere(reference, s)
	}
	made := recovered(hits, b)
	c.addInvoice(ctx, made, s)
	return shippedOf(c.keep(made), reference, b), nil
}

// nowhere is for an order that tracking does not know.
func (c *Carrier) nowhere(reference string, s *state) (*carrier.Shipped, error) {
	if c.settle > 0 && c.now().Sub(s.since) >= c.settle {
		if err := c.record.write(&line{Undone: s.begun.Key}); err != nil {
			return nil, err
		}
		return nil, never(reference)
	}
	return nil, lost("the order", s.since)
}

// recovered is what tracking knows of a shipment. Its label cannot be had again.
func recovered(hits []*trackedShipment, b *begun) *sold {
	of := hits[0]
	n := len(b.Parcels)
	made := &sold{Key: b.Key, Shipment: of.ShipmentTrackingNumber, Tracking: make([]string, n), Labels: noLabels(n)}
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
func (c *Carrier) addInvoice(ctx context.Context, made *sold, s *state) {
	if !s.begun.Customs {
		return
	}
	month := s.since.In(c.zone).Format("2006-01")
	if on, err := time.Parse(day, s.begun.Date); err == nil {
		month = on.Format("2006-01")
	}
	q := url.Values{"shipperAccountNumber": {s.begun.Account}, "typeCode": {"commercial-invoice"}, "pickupYearAndMonth": {month}, "encodingFormat": {"pdf"}}
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
