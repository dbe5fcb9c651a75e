package calls

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/event"
)

// The types of the events that calls leave.
const (
	TypeLabel       = "shipment.label-created.v1"
	TypeVoided      = "shipment.voided.v1"
	TypePickup      = "shipment.pickup-booked.v1"
	TypeManifested  = "shipment.manifested.v1"
	TypeProvisional = "tax.provisional.v1"
	TypeFinalised   = "tax.finalised.v1"
	TypeTaxVoided   = "tax.voided.v1"
)

// leaving is an event as it waits to leave.
type leaving struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Subject string          `json:"subject"`
	Time    time.Time       `json:"time"`
	Data    json.RawMessage `json:"data"`
}

type (
	// document names a paper; its content is elsewhere.
	document struct {
		Kind   string `json:"kind"`
		Format string `json:"format"`
		SHA256 string `json:"sha256"`
		Size   int    `json:"size"`
	}
	parcel struct {
		Reference string `json:"reference,omitempty"`
		Tracking  string `json:"tracking"`
		SSCC      string `json:"sscc,omitempty"`
	}
	about struct {
		Reference string `json:"reference"`
		Call      string `json:"call"`
	}
	labelCreated struct {
		about
		Carrier   string     `json:"carrier"`
		Shipment  string     `json:"shipment"`
		Service   string     `json:"service"`
		Order     string     `json:"order,omitempty"`
		Return    bool       `json:"return"`
		Parcels   []parcel   `json:"parcels"`
		Price     *sdk.Money `json:"price,omitempty"`
		Documents []document `json:"documents"`
	}
	voided struct {
		about
		Carrier  string     `json:"carrier"`
		Accepted bool       `json:"accepted"`
		Refund   *sdk.Money `json:"refund,omitempty"`
	}
	pickedUp struct {
		about
		Carrier      string     `json:"carrier"`
		Action       string     `json:"action"`
		Confirmation string     `json:"confirmation"`
		Date         string     `json:"date,omitempty"`
		Ready        string     `json:"ready,omitempty"`
		Close        string     `json:"close,omitempty"`
		Price        *sdk.Money `json:"price,omitempty"`
	}
	manifested struct {
		about
		Carrier   string     `json:"carrier"`
		Manifest  string     `json:"manifest"`
		Shipments []string   `json:"shipments"`
		Parcels   int        `json:"parcels"`
		Documents []document `json:"documents"`
	}
	taxed struct {
		about
		Engine     string              `json:"engine"`
		Status     string              `json:"status"`
		Currency   string              `json:"currency"`
		Net        decimal.Decimal     `json:"net"`
		Tax        decimal.NullDecimal `json:"tax"`
		Gross      decimal.NullDecimal `json:"gross"`
		Data       string              `json:"data,omitempty"`
		Adjusted   bool                `json:"adjusted"`
		Difference *Difference         `json:"difference,omitempty"`
	}
	taxVoided struct {
		about
		Engine string `json:"engine"`
	}
)

// eventsOf makes the events that a call leaves when it is done, and keeps the papers that they
// name.
func (s *Service) eventsOf(call *record, a *asked, answer any) ([]leaving, error) {
	at := about{call.Reference, call.ID}
	var kind string
	var data any
	switch r := answer.(type) {
	case *carrier.Shipped:
		kind, data = TypeLabel, s.labelCreated(at, call, a, r)
	case *carrier.Voided:
		kind, data = TypeVoided, voided{at, call.Plugin, r.Accepted, r.Refund}
	case *carrier.PickedUp:
		kind, data = TypePickup, pickedUp{at, call.Plugin, a.what.(*carrier.PickupRequest).Action, r.Confirmation, r.Date, r.Ready, r.Close, r.Price}
	case *carrier.Manifested:
		kind, data = TypeManifested, manifested{at, call.Plugin, r.Manifest, append([]string{}, r.Shipments...), r.Parcels, s.keep(call, r.Documents)}
	case *tax.Voided:
		kind, data = TypeTaxVoided, taxVoided{at, call.Plugin}
	case *tax.Result:
		if call.Operation == tax.OpEstimate {
			return nil, nil
		}
		kind, data = TypeFinalised, taxedBy(call.Plugin, call, r, call.Difference)
	default:
		return nil, nil
	}
	e, err := leave(call, "done", kind, call.Ended, data)
	return []leaving{e}, err
}

func (s *Service) labelCreated(at about, call *record, a *asked, r *carrier.Shipped) labelCreated {
	out := labelCreated{about: at, Carrier: call.Plugin, Shipment: r.Shipment, Service: r.Service, Order: a.what.(*carrier.Shipment).Order,
		Return: call.Operation == carrier.OpShipReturn, Parcels: []parcel{}, Documents: s.keep(call, r.Documents)}
	for _, p := range r.Parcels {
		out.Parcels = append(out.Parcels, parcel{p.Reference, p.Tracking, p.SSCC})
	}
	if r.Rate != nil {
		out.Price = &r.Rate.Total
	}
	return out
}

func taxedBy(engine string, call *record, r *tax.Result, d *Difference) taxed {
	return taxed{about: about{call.Reference, call.ID}, Engine: engine, Status: r.Status, Currency: r.Currency, Net: r.Net, Tax: r.Tax, Gross: r.Gross,
		Data: r.Data, Adjusted: call.Operation == tax.OpAdjust, Difference: d}
}

// provisionalEvent tells that another engine stood in.
func provisionalEvent(call *record, r *tax.Result, now time.Time) leaving {
	e, err := leave(call, "provisional", TypeProvisional, now, taxedBy(call.Engine, call, r, nil))
	if err != nil { // text and decimals always marshal
		panic(err)
	}
	return e
}

// leave makes an event. Its id is the call's own, so that repeats are one event.
func leave(call *record, step, kind string, at time.Time, data any) (leaving, error) {
	text, err := json.Marshal(data)
	if err != nil {
		return leaving{}, fmt.Errorf("event %s: %w", kind, err)
	}
	return leaving{ID: call.ID + "." + step, Type: kind, Subject: call.Reference, Time: at, Data: text}, nil
}

// media are the types of what carriers print.
var media = map[string]string{carrier.ZPL: "application/zpl", carrier.PDF: "application/pdf", carrier.PNG: "image/png"}

// keep hands papers to who keeps them, and names them. A label that is not kept was bought all
// the same: it is in the answer, and it is counted.
func (s *Service) keep(call *record, papers []carrier.Document) []document {
	out := []document{}
	for _, p := range papers {
		sum := sha256.Sum256(p.Data)
		out = append(out, document{p.Kind, p.Format, hex.EncodeToString(sum[:]), len(p.Data)})
		if s.cfg.Documents == nil {
			continue
		}
		kind := media[p.Format]
		if kind == "" {
			kind = "application/octet-stream"
		}
		if err := s.cfg.Documents.Put(s.life, kind, p.Data); err != nil {
			s.log.Error("a paper of a carrier cannot be kept; it is in the answer of its call", "call", call.ID, "kind", p.Kind, "err", err)
			s.mu.Lock()
			s.undocuments++
			s.mu.Unlock()
		}
	}
	return out
}

// runLeaving hands out events in their order until ctx ends.
func (s *Service) runLeaving(ctx context.Context) {
	for failures := 0; ; {
		more, err := s.leaveOne(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("an event of a call cannot leave now", "err", err)
			again = time.After(min(s.cfg.PauseMax, s.cfg.PauseMin<<min(failures, 20)))
			failures++
		case more:
			failures = 0
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-s.leave:
		case <-again:
		}
	}
}

// leaveOne hands out the event that waits longest, and says whether there was one.
func (s *Service) leaveOne(ctx context.Context) (more bool, err error) {
	number, e, err := s.store.next()
	switch {
	case errors.Is(err, errDamaged):
		s.refused(fmt.Sprintf("damaged-%x", number), "", err)
		return true, s.store.gone(number)
	case err != nil || e == nil:
		return false, err
	}
	s.cfg.Hook("call.event")
	err = ErrNoContract
	if s.cfg.Events != nil {
		err = s.cfg.Events.Publish(ctx, &event.Event{ID: e.ID, Source: "/sites/" + s.cfg.Site + "/calls", Type: e.Type, Subject: e.Subject, Time: e.Time,
			DataContentType: event.JSONType, Data: e.Data})
	}
	s.cfg.Hook("call.left")
	switch {
	case errors.Is(err, ErrNoContract):
		s.mu.Lock()
		s.unpublished[e.Type]++
		s.mu.Unlock()
	case errors.Is(err, ErrRefused):
		s.refused(e.ID, e.Type, err)
	case err != nil:
		return false, err
	}
	return true, s.store.gone(number)
}

// refused tells people of an event that will never leave.
func (s *Service) refused(id, kind string, err error) {
	text := fmt.Sprintf("event %s (%s) of a call to a carrier or tax engine cannot leave: %v; the call itself is done", id, kind, err)
	s.log.Error(text)
	s.cfg.Alarm("call-event-refused", id, text)
}
