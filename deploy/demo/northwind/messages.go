package northwind

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
)

// Captured is the data of an order.captured event, version 1.1.0.
type Captured struct {
	OrderID       string         `json:"orderId"`
	OrderedAt     string         `json:"orderedAt"`
	RequestedBy   string         `json:"requestedBy,omitempty"`
	SalesRegion   string         `json:"salesRegion"`
	Currency      string         `json:"currency"`
	Customer      Party          `json:"customer"`
	ShipTo        PostalAddress  `json:"shipTo"`
	Carrier       *CarrierParty  `json:"carrier,omitempty"`
	Lines         []CapturedLine `json:"lines"`
	NetAmount     string         `json:"netAmount"`
	FreightAmount string         `json:"freightAmount"`
	PayableAmount string         `json:"payableAmount"`
}

// Party is a customer as contracts write it.
type Party struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Contact string `json:"contact,omitempty"`
	Phone   string `json:"phone,omitempty"`
}

// CarrierParty is a shipper as contracts write it.
type CarrierParty struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// PostalAddress is an address as contracts write it.
type PostalAddress struct {
	Name       string `json:"name"`
	Street     string `json:"street"`
	City       string `json:"city"`
	Region     string `json:"region,omitempty"`
	PostalCode string `json:"postalCode,omitempty"`
	Country    string `json:"country"`
}

// CapturedLine is one line of Captured.
type CapturedLine struct {
	LineID      string `json:"lineId"`
	SKU         string `json:"sku"`
	Description string `json:"description,omitempty"`
	Quantity    string `json:"quantity"`
	Unit        string `json:"unit"`
	UnitPrice   string `json:"unitPrice"`
	Discount    string `json:"discount"`
	NetAmount   string `json:"netAmount"`
}

// Unit is the UN/ECE Recommendation 20 code for one piece.
const Unit = "C62"

// Captured writes the order as the event that its shop publishes.
func (o *Order) Captured() Captured {
	c := Captured{
		OrderID: o.ID, OrderedAt: o.Ordered.Format(time.RFC3339), RequestedBy: o.Required.Format(time.DateOnly),
		SalesRegion: o.Region, Currency: Currency,
		Customer: Party{ID: o.Customer.ID, Name: o.Customer.Name, Contact: o.Customer.Contact, Phone: o.Customer.Phone},
		ShipTo: PostalAddress{
			Name: o.ShipName, Street: o.ShipTo.Street, City: o.ShipTo.City, Region: o.ShipTo.Region,
			PostalCode: o.ShipTo.PostalCode, Country: o.ShipTo.CountryCode,
		},
		Carrier:   &CarrierParty{ID: o.Shipper.ID, Name: o.Shipper.Name},
		NetAmount: money(o.Net()), FreightAmount: money(o.Freight), PayableAmount: money(o.Net().Add(o.Freight)),
	}
	for i := range o.Lines {
		l := &o.Lines[i]
		c.Lines = append(c.Lines, CapturedLine{
			LineID: fmt.Sprint(i + 1), SKU: l.Product.ID, Description: l.Product.Name,
			Quantity: fmt.Sprint(l.Quantity), Unit: Unit, UnitPrice: money(l.UnitPrice),
			Discount: l.Discount.String(), NetAmount: money(l.Net()),
		})
	}
	return c
}

func money(d decimal.Decimal) string { return d.StringFixed(2) }
