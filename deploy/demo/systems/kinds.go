package systems

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
)

// The types of the demo's events.
const (
	OrderCaptured     = "order.captured.v1"
	OrderAccepted     = "order.accepted.v1"
	ShipmentMilestone = "shipment.milestone.v1"
	InventoryPosition = "inventory.position.v1"
	TaxFinalised      = "tax.finalised.v1" // of the agent, as the next two
	LabelCreated      = "shipment.label-created.v1"
	Manifested        = "shipment.manifested.v1"
)

// Shop captures the orders of one region, and has each of them taxed.
type Shop struct {
	*System
	stopped  context.Context
	accepted map[string]bool // orders that the ERP has accepted
}

// NewShop makes a shop that works until ctx ends.
func NewShop(ctx context.Context, a Address, l *ledger.Ledger, log *slog.Logger) *Shop {
	s := &Shop{System: newSystem(a, l, log), stopped: ctx, accepted: map[string]bool{}}
	s.act = func(e Event) (ledger.Entry, error) {
		var accepted northwind.Accepted
		if err := decode(e, OrderAccepted, &accepted); err != nil {
			return ledger.Entry{}, err
		}
		s.accepted[accepted.OrderID] = true
		return ledger.Entry{Key: accepted.OrderID}, nil
	}
	return s
}

func decode(e Event, want string, into any) error {
	if e.Type != want {
		return fmt.Errorf("%s is not for this system", e.Type)
	}
	return json.Unmarshal(e.Data, into)
}

// Capture takes one customer's order.
func (s *Shop) Capture(o *northwind.Order) {
	s.send(Event{ID: "order-" + o.ID, Type: OrderCaptured, Time: time.Now().UTC(), Data: northwind.JSON(o.Captured())},
		ledger.Entry{Key: o.ID, Region: o.Region})
	go s.tax(o)
}

// tax has the region's engine say what an order owes. What it does not calculate for good may
// still be good for an estimate.
func (s *Shop) tax(o *northwind.Order) {
	s.slots <- struct{}{}
	defer func() { <-s.slots }()
	document := o.TaxDocument()
	var result, estimate taxed
	id, err := s.call(s.stopped, "/v1/tax/finalise", "tax-"+o.ID, document, &result)
	if err != nil {
		return // the system ends
	}
	if result.Status != "calculated" {
		if _, err := s.call(s.stopped, "/v1/tax/estimate", "", document, &estimate); err != nil {
			return
		}
		if estimate.Status == "calculated" {
			s.write(ledger.Entry{Act: ledger.Noted, ID: "estimate-" + o.ID, Source: "/" + s.Name, Key: o.ID, Call: estimate.seen()})
		}
	}
	s.called(o.Region, TaxFinalised, o.ID, id, result.seen())
}

// Sell captures orders in their order, one every pause, until all are captured or ctx ends.
func (s *Shop) Sell(ctx context.Context, orders []*northwind.Order, pause time.Duration) {
	ticker := time.NewTicker(max(pause, time.Millisecond))
	defer ticker.Stop()
	for _, o := range orders {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.Capture(o)
		}
	}
}

// Warehouse picks, packs and ships the orders of one region, and tells its stock. The region's
// carrier prices each parcel, prints its label and takes it over with a manifest.
type Warehouse struct {
	*System
	site    string
	company *northwind.Company
	dates   map[string]northwind.Order
	day     time.Duration // how long a day of the data takes in time-lapse
	stock   map[string]int
	version map[string]int64
	stopped context.Context

	labelled  int               // parcels that have a label
	dispatch  int               // parcels that will be sent in all
	dock      []northwind.Order // labelled, and on no manifest yet
	manifests int
}

// NewWarehouse makes a warehouse that works until ctx ends.
func NewWarehouse(ctx context.Context, a Address, l *ledger.Ledger, log *slog.Logger, site string, company *northwind.Company, day time.Duration) *Warehouse {
	w := &Warehouse{System: newSystem(a, l, log), site: site, company: company, day: day, stopped: ctx,
		dates: map[string]northwind.Order{}, stock: map[string]int{}, version: map[string]int64{}}
	for _, o := range company.Orders {
		w.dates[o.ID] = o
		if o.Region == site && !o.Shipped.IsZero() {
			w.dispatch++
		}
	}
	for sku, p := range company.Products {
		w.stock[sku] = p.InStock + 10_000 // enough for two years of orders
	}
	w.act = w.order
	w.snapshot = w.positions
	return w
}

// order takes an order and works on it in its own time.
func (w *Warehouse) order(e Event) (ledger.Entry, error) {
	var order northwind.Captured
	if err := decode(e, OrderCaptured, &order); err != nil {
		return ledger.Entry{}, err
	}
	known, ok := w.dates[order.OrderID]
	if !ok {
		return ledger.Entry{}, fmt.Errorf("order %s is not in the data", order.OrderID)
	}
	go w.fulfil(order, known)
	return ledger.Entry{Key: order.OrderID}, nil
}

// fulfil follows the dates of the data, a day of theirs in w.day. An order that the data
// never ships is picked and packed and waits.
func (w *Warehouse) fulfil(order northwind.Captured, known northwind.Order) {
	shipped := known.Shipped
	if shipped.IsZero() {
		shipped = known.Required
	}
	took := shipped.Sub(known.Ordered)
	for i, step := range northwind.Steps() {
		if step == northwind.Shipping && known.Shipped.IsZero() {
			return
		}
		select {
		case <-w.stopped.Done():
			return
		case <-time.After(time.Duration(float64(took) / float64(24*time.Hour) / 3 * float64(w.day))):
		}
		milestone := order.Milestone(step, w.site, known.Ordered.Add(took/3*time.Duration(i+1)))
		if step == northwind.Shipping {
			var err error
			if milestone.TrackingNumber, err = w.label(&known); err != nil {
				return // the system ends
			}
			milestone.Carrier = &northwind.CarrierParty{ID: w.carrier(), Name: "Northwind fleet"}
		}
		w.send(Event{ID: fmt.Sprintf("shipment-%s-%s", order.OrderID, step), Type: ShipmentMilestone, Time: time.Now().UTC(),
			Data: northwind.JSON(milestone)}, ledger.Entry{Key: order.OrderID, Step: string(step)})
	}
	w.load(known)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range known.Lines {
		w.tellStock(line.Product, line.Quantity)
	}
}

func (w *Warehouse) carrier() string { return "fleet-" + w.site }

// label has the carrier price and label a parcel, and gives its number.
func (w *Warehouse) label(o *northwind.Order) (number string, err error) {
	w.slots <- struct{}{}
	defer func() { <-w.slots }()
	path := "/v1/carriers/" + w.carrier()
	shipment := o.Consignment()
	asked := shipment
	asked.Reference, asked.Service = "", ""
	var rates struct {
		Rates []struct {
			Service string
			Total   amount
		}
	}
	if _, err := w.call(w.stopped, path+"/rate", "", asked, &rates); err != nil {
		return "", err
	}
	var shipped labelled
	id, err := w.call(w.stopped, path+"/ship", "label-"+o.ID, shipment, &shipped)
	if err != nil {
		return "", err
	}
	if len(shipped.Parcels) != 1 || len(rates.Rates) == 0 || rates.Rates[0].Total != shipped.Rate.Total {
		err := fmt.Errorf("%s: order %s has the rates %v, and was shipped as %+v", w.Name, o.ID, rates.Rates, shipped)
		w.fail(err)
		return "", err
	}
	number = shipped.Parcels[0].Tracking
	w.called(w.site, LabelCreated, o.ID, id, &ledger.Call{Amount: shipped.Rate.Total.Amount, Currency: shipped.Rate.Total.Currency, Numbers: []string{number}})
	return number, nil
}

// labelled is a carrier's answer, as far as the demo needs it.
type labelled struct {
	Parcels []struct{ Tracking string }
	Rate    struct{ Total amount }
}

// load puts a parcel on the dock, and has the carrier take over what is there when a truck is
// full, or nothing more will come.
func (w *Warehouse) load(o northwind.Order) {
	w.mu.Lock()
	w.dock, w.labelled = append(w.dock, o), w.labelled+1
	var gone []northwind.Order
	if len(w.dock) == Truck || w.labelled == w.dispatch {
		gone, w.dock, w.manifests = w.dock, nil, w.manifests+1
	}
	reference := fmt.Sprintf("%s-%04d", w.site, w.manifests)
	w.mu.Unlock()
	if gone == nil {
		return
	}
	w.slots <- struct{}{}
	defer func() { <-w.slots }()
	manifest := northwind.NewManifest(reference, gone)
	var closed struct{}
	id, err := w.call(w.stopped, "/v1/carriers/"+w.carrier()+"/manifest", "manifest-"+reference, manifest, &closed)
	if err != nil {
		return // the system ends
	}
	w.called(w.site, Manifested, reference, id, &ledger.Call{Shipments: manifest.Shipments})
}

// tellStock takes a quantity out and publishes the position. The caller holds w.mu.
func (w *Warehouse) tellStock(p northwind.Product, quantity int) {
	w.stock[p.ID] -= quantity
	w.version[p.ID]++
	now := time.Now().UTC()
	w.send(Event{ID: fmt.Sprintf("stock-%s-%s-%d", w.site, p.ID, w.version[p.ID]), Type: InventoryPosition, Time: now,
		Data: northwind.JSON(p.Position(w.site, w.stock[p.ID], 0, w.version[p.ID], now))}, ledger.Entry{Key: p.ID + "@" + w.site})
}

func (w *Warehouse) positions(contract string) (any, bool) {
	if contract != "inventory.position" {
		return nil, false
	}
	out := []northwind.Position{}
	for _, sku := range slices.Sorted(maps.Keys(w.stock)) {
		p := w.company.Products[sku]
		out = append(out, p.Position(w.site, w.stock[sku], 0, w.version[sku], time.Now()))
	}
	return out, true
}

// ERP accepts orders and knows shipments and stock, taxes and freight.
type ERP struct {
	*System
	orders map[string]northwind.Captured
	status map[string]string // of an order
	stock  map[string]northwind.Position
}

// NewERP makes an ERP.
func NewERP(a Address, l *ledger.Ledger, log *slog.Logger) *ERP {
	s := &ERP{System: newSystem(a, l, log), orders: map[string]northwind.Captured{}, status: map[string]string{}, stock: map[string]northwind.Position{}}
	s.act, s.snapshot = s.book, s.records
	return s
}

func (s *ERP) book(e Event) (ledger.Entry, error) {
	switch e.Type {
	case OrderCaptured:
		var order northwind.Captured
		if err := json.Unmarshal(e.Data, &order); err != nil {
			return ledger.Entry{}, err
		}
		s.orders[order.OrderID], s.status[order.OrderID] = order, "accepted"
		s.send(Event{ID: "accepted-" + order.OrderID, Type: OrderAccepted, Time: time.Now().UTC(),
			Data: northwind.JSON(order.Accepted(time.Now()))}, ledger.Entry{Key: order.OrderID, Region: order.SalesRegion})
		return ledger.Entry{Key: order.OrderID}, nil
	case ShipmentMilestone:
		var m northwind.Milestone
		if err := json.Unmarshal(e.Data, &m); err != nil {
			return ledger.Entry{}, err
		}
		s.status[m.OrderID] = string(m.BizStep)
		return ledger.Entry{Key: m.OrderID, Step: string(m.BizStep)}, nil
	case InventoryPosition:
		var p northwind.Position
		if err := json.Unmarshal(e.Data, &p); err != nil {
			return ledger.Entry{}, err
		}
		key := p.SKU + "@" + p.Site
		s.stock[key] = p
		return ledger.Entry{Key: key}, nil
	}
	return s.bookCall(e)
}

// bookCall takes what the sites' agents tell of carriers and tax engines. It looks at every
// paper that is named: what head office cannot read it does not have.
func (s *ERP) bookCall(e Event) (ledger.Entry, error) {
	if e.Type == TaxFinalised {
		var t taxed
		err := json.Unmarshal(e.Data, &t)
		return ledger.Entry{Key: t.Reference, Call: t.seen()}, err
	}
	if e.Type != LabelCreated && e.Type != Manifested {
		return ledger.Entry{}, fmt.Errorf("%s is not for the ERP", e.Type)
	}
	var told struct {
		Reference string
		Price     *amount
		Parcels   json.RawMessage // of a label a list, of a manifest how many
		Shipments []string
		Documents []struct{ Kind, SHA256 string }
	}
	if err := json.Unmarshal(e.Data, &told); err != nil {
		return ledger.Entry{}, err
	}
	call := &ledger.Call{Shipments: told.Shipments}
	if told.Price != nil {
		call.Amount, call.Currency = told.Price.Amount, told.Price.Currency
	}
	if e.Type == LabelCreated {
		var parcels []struct{ Tracking string }
		if err := json.Unmarshal(told.Parcels, &parcels); err != nil {
			return ledger.Entry{}, err
		}
		for _, p := range parcels {
			call.Numbers = append(call.Numbers, p.Tracking)
		}
	}
	for _, d := range told.Documents {
		text, err := s.document(d.SHA256)
		if err != nil {
			return ledger.Entry{}, &laterError{err}
		}
		call.Papers = append(call.Papers, ledger.Paper{Kind: d.Kind, Named: d.SHA256, Found: fmt.Sprintf("%x", sha256.Sum256(text))})
	}
	return ledger.Entry{Key: told.Reference, Call: call}, nil
}

func (s *ERP) records(contract string) (any, bool) {
	switch contract {
	case "order.captured":
		return values(s.orders), true
	case "order.accepted":
		out := []northwind.Accepted{}
		for _, order := range values(s.orders) {
			out = append(out, order.Accepted(time.Now()))
		}
		return out, true
	case "inventory.position":
		return values(s.stock), true
	}
	return nil, false
}

// values lists a table's rows by key.
func values[T any](table map[string]T) []T {
	out := []T{}
	for _, key := range slices.Sorted(maps.Keys(table)) {
		out = append(out, table[key])
	}
	return out
}

// CRM notes what happened with a customer's orders.
type CRM struct {
	*System
	activities []json.RawMessage
}

// NewCRM makes a CRM.
func NewCRM(a Address, l *ledger.Ledger, log *slog.Logger) *CRM {
	s := &CRM{System: newSystem(a, l, log), activities: []json.RawMessage{}}
	s.act = func(e Event) (ledger.Entry, error) {
		var activity struct{ Activity, Reference string }
		if err := json.Unmarshal(e.Data, &activity); err != nil {
			return ledger.Entry{}, err
		}
		if activity.Activity == "" || activity.Reference == "" {
			return ledger.Entry{}, fmt.Errorf("an activity with a reference is expected")
		}
		s.activities = append(s.activities, e.Data)
		return ledger.Entry{Key: activity.Reference}, nil
	}
	s.snapshot = func(contract string) (any, bool) { return s.activities, contract == "order.captured" }
	return s
}
