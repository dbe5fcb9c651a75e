package systems

import (
	"context"
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
)

// Shop captures the orders of one region.
type Shop struct {
	*System
	accepted map[string]bool // orders that the ERP has accepted
}

// NewShop makes a shop.
func NewShop(a Address, l *ledger.Ledger, log *slog.Logger) *Shop {
	s := &Shop{System: newSystem(a, l, log), accepted: map[string]bool{}}
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

// Warehouse picks, packs and ships the orders of one region, and tells its stock.
type Warehouse struct {
	*System
	site    string
	company *northwind.Company
	dates   map[string]northwind.Order
	day     time.Duration // how long a day of the data takes in time-lapse
	stock   map[string]int
	version map[string]int64
	stopped context.Context
}

// NewWarehouse makes a warehouse that works until ctx ends.
func NewWarehouse(ctx context.Context, a Address, l *ledger.Ledger, log *slog.Logger, site string, company *northwind.Company, day time.Duration) *Warehouse {
	w := &Warehouse{System: newSystem(a, l, log), site: site, company: company, day: day, stopped: ctx,
		dates: map[string]northwind.Order{}, stock: map[string]int{}, version: map[string]int64{}}
	for _, o := range company.Orders {
		w.dates[o.ID] = o
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
		at := known.Ordered.Add(took / 3 * time.Duration(i+1))
		w.send(Event{ID: fmt.Sprintf("shipment-%s-%s", order.OrderID, step), Type: ShipmentMilestone, Time: time.Now().UTC(),
			Data: northwind.JSON(order.Milestone(step, w.site, at))}, ledger.Entry{Key: order.OrderID, Step: string(step)})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range known.Lines {
		w.tellStock(line.Product, line.Quantity)
	}
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

// ERP accepts orders and knows shipments and stock.
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
	return ledger.Entry{}, fmt.Errorf("%s is not for the ERP", e.Type)
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
