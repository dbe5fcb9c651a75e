package northwind

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/shopspring/decimal"
)

// Accepted is the data of an order.accepted event, version 1.0.0.
type Accepted struct {
	OrderID     string `json:"orderId"`
	ERPOrderID  string `json:"erpOrderId"`
	AcceptedAt  string `json:"acceptedAt"`
	Status      string `json:"status"`
	SalesRegion string `json:"salesRegion"`
	PromisedFor string `json:"promisedFor,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

// Accepted answers an order as the demo's ERP does: it takes it, for the day asked for.
func (c Captured) Accepted(at time.Time) Accepted {
	return Accepted{
		OrderID: c.OrderID, ERPOrderID: "SO-" + c.OrderID, AcceptedAt: at.UTC().Format(time.RFC3339Nano),
		Status: "accepted", SalesRegion: c.SalesRegion, PromisedFor: c.RequestedBy,
	}
}

// Step is one step of a shipment through a warehouse, by its name in the CBV.
type Step string

// The steps, in order.
const (
	Picking  Step = "picking"
	Packing  Step = "packing"
	Shipping Step = "shipping"
)

// Steps lists the steps in order.
func Steps() []Step { return []Step{Picking, Packing, Shipping} }

func (s Step) disposition() string {
	switch s {
	case Packing:
		return "container_closed"
	case Shipping:
		return "in_transit"
	}
	return "in_progress"
}

// Place is a reference to a location.
type Place struct {
	ID string `json:"id"`
}

// Milestone is the data of a shipment.milestone event, version 1.0.0.
type Milestone struct {
	OrderID             string        `json:"orderId"`
	ShipmentID          string        `json:"shipmentId"`
	Type                string        `json:"type"`
	Action              string        `json:"action"`
	EventTime           string        `json:"eventTime"`
	EventTimeZoneOffset string        `json:"eventTimeZoneOffset"`
	BizStep             Step          `json:"bizStep"`
	Disposition         string        `json:"disposition"`
	ReadPoint           Place         `json:"readPoint"`
	BizLocation         *Place        `json:"bizLocation,omitempty"`
	QuantityList        []Quantity    `json:"quantityList"`
	Carrier             *CarrierParty `json:"carrier,omitempty"`
	TrackingNumber      string        `json:"trackingNumber,omitempty"`
}

// Quantity is how many of one article a milestone is about.
type Quantity struct {
	SKU      string `json:"sku"`
	LineID   string `json:"lineId,omitempty"`
	Quantity string `json:"quantity"`
	UOM      string `json:"uom"`
}

// Milestone tells of one step of the order's shipment at a warehouse.
func (c Captured) Milestone(step Step, site string, at time.Time) Milestone {
	m := Milestone{
		OrderID: c.OrderID, ShipmentID: "SH-" + c.OrderID, Type: "ObjectEvent", Action: "OBSERVE",
		EventTime: at.Format(time.RFC3339Nano), EventTimeZoneOffset: at.Format("-07:00"),
		BizStep: step, Disposition: step.disposition(),
		ReadPoint: Place{ID: fmt.Sprintf("urn:crossdock:site:%s:%s", site, step)}, BizLocation: &Place{ID: "urn:crossdock:site:" + site},
	}
	for _, l := range c.Lines {
		m.QuantityList = append(m.QuantityList, Quantity{SKU: l.SKU, LineID: l.LineID, Quantity: l.Quantity, UOM: l.Unit})
	}
	if step == Shipping {
		m.BizLocation = nil // on the road
		m.Carrier = c.Carrier
		if m.Carrier == nil { // an order of version 1.0.0 names none
			m.Carrier = &CarrierParty{ID: "1", Name: "Speedy Express"}
		}
		m.TrackingNumber = "NW" + c.OrderID + "X" + m.Carrier.ID
	}
	return m
}

// Position is the data of an inventory.position event, version 1.0.0.
type Position struct {
	SKU        string     `json:"sku"`
	Site       string     `json:"site"`
	CountedAt  string     `json:"countedAt"`
	Version    int64      `json:"version"`
	Unit       string     `json:"unit"`
	Quantities Quantities `json:"quantities"`
}

// Quantities is a stock by state.
type Quantities struct {
	OnHand    string `json:"on_hand"`
	Reserved  string `json:"reserved"`
	Available string `json:"available"`
	Incoming  string `json:"incoming,omitempty"`
}

// Position tells the stock of the product at a site. Available is what is not reserved.
func (p *Product) Position(site string, onHand, reserved int, version int64, at time.Time) Position {
	available := decimal.NewFromInt(int64(onHand)).Sub(decimal.NewFromInt(int64(reserved)))
	return Position{
		SKU: p.ID, Site: site, CountedAt: at.UTC().Format(time.RFC3339Nano), Version: version, Unit: Unit,
		Quantities: Quantities{
			OnHand: strconv.Itoa(onHand), Reserved: strconv.Itoa(reserved), Available: available.String(),
			Incoming: strconv.Itoa(p.OnOrder),
		},
	}
}

// JSON writes a message as an event's data.
func JSON[M Captured | Accepted | Milestone | Position](message M) []byte {
	text, err := json.Marshal(message)
	if err != nil { // texts and whole numbers always marshal
		panic(err)
	}
	return text
}
