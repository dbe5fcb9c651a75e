package northwind

import (
	"fmt"
	"time"

	"github.com/shopspring/decimal"
)

// YearsLater moves the sample's days to where tariffs and tax rates are known.
const YearsLater = 30

// Later is a day of the sample as carriers and tax engines are told it.
func Later(day time.Time) string { return day.AddDate(YearsLater, 0, 0).Format(time.DateOnly) }

// Service is how all of the demo's parcels go.
const Service = "parcel"

// CallAddress is an address as carriers and tax engines are told it.
type CallAddress struct {
	Company    string   `json:"company,omitempty"`
	Lines      []string `json:"lines,omitempty"`
	City       string   `json:"city,omitempty"`
	State      string   `json:"state,omitempty"`
	PostalCode string   `json:"postalCode,omitempty"`
	Country    string   `json:"country"`
}

// warehouse is where the goods of an order are sent from. Those for Canada lie in Canada.
func (o *Order) warehouse() CallAddress {
	a := CallAddress{Company: "Northwind Traders"}
	switch {
	case o.Region == Europe:
		a.Lines, a.City, a.PostalCode, a.Country = []string{"Hafenstr. 12"}, "Köln", "50739", "DE"
	case o.Region == LatinAmerica:
		a.Lines, a.City, a.State, a.PostalCode, a.Country = []string{"Av. do Porto, 40"}, "Santos", "SP", "11010-000", "BR"
	case o.ShipTo.CountryCode == "CA":
		a.Lines, a.City, a.State, a.PostalCode, a.Country = []string{"200 Dock Rd."}, "Vancouver", "BC", "V6A 1A1", "CA"
	default:
		a.Lines, a.City, a.State, a.PostalCode, a.Country = []string{"7 Harbor Way"}, "Portland", "OR", "97203", "US"
	}
	return a
}

// recipient is the address that the order goes to. The sample writes one of its states in full.
func (o *Order) recipient() CallAddress {
	a := CallAddress{Company: o.ShipName, Lines: []string{o.ShipTo.Street}, City: o.ShipTo.City, PostalCode: o.ShipTo.PostalCode, Country: o.ShipTo.CountryCode}
	if o.Region == NorthAmerica {
		a.State = o.ShipTo.Region
	}
	if a.State == "Québec" {
		a.State = "QC"
	}
	return a
}

// TaxParty is who sells or buys.
type TaxParty struct {
	Address CallAddress `json:"address"`
}

// TaxLine is a position of a TaxDocument.
type TaxLine struct {
	ID       string `json:"id"`
	SKU      string `json:"sku,omitempty"`
	Category string `json:"category"`
	Quantity string `json:"quantity"`
	Amount   string `json:"amount"`
}

// TaxDocument is a sale as a tax engine is told it.
type TaxDocument struct {
	Reference string      `json:"reference"`
	Kind      string      `json:"kind"`
	Date      string      `json:"date"`
	Currency  string      `json:"currency"`
	Seller    TaxParty    `json:"seller"`
	Customer  TaxParty    `json:"customer"`
	ShipFrom  CallAddress `json:"shipFrom"`
	ShipTo    CallAddress `json:"shipTo"`
	Lines     []TaxLine   `json:"lines"`
}

// TaxDocument is the order as a sale. Every article takes the standard rate, which is as much
// as the sample says of them. Freight is taxed with the goods in Europe; elsewhere the tables
// do not know what it takes, and it is left to another invoice.
func (o *Order) TaxDocument() TaxDocument {
	from, to := o.warehouse(), o.recipient()
	d := TaxDocument{Reference: o.ID, Kind: "sale", Date: Later(o.Ordered), Currency: Currency,
		Seller: TaxParty{from}, Customer: TaxParty{to}, ShipFrom: from, ShipTo: to}
	for i := range o.Lines {
		l := &o.Lines[i]
		d.Lines = append(d.Lines, TaxLine{ID: fmt.Sprint(i + 1), SKU: l.Product.ID, Category: "standard", Quantity: fmt.Sprint(l.Quantity), Amount: money(l.Net())})
	}
	if o.Region == Europe {
		d.Lines = append(d.Lines, TaxLine{ID: "freight", Category: "freight", Quantity: "1", Amount: money(o.Freight)})
	}
	return d
}

// Weight is what an order weighs in kilograms. The sample does not say: half a kilogram each.
func (o *Order) Weight() decimal.Decimal {
	pieces := 0
	for i := range o.Lines {
		pieces += o.Lines[i].Quantity
	}
	return decimal.New(int64(pieces)*5, -1)
}

// Measure is a weight with its unit.
type Measure struct {
	Value string `json:"value"`
	Unit  string `json:"unit"`
}

// Parcel is one piece of a Consignment.
type Parcel struct {
	Weight Measure `json:"weight"`
}

// Consignment is a shipment as a carrier is told it.
type Consignment struct {
	Reference string      `json:"reference,omitempty"`
	Service   string      `json:"service,omitempty"`
	Date      string      `json:"date"`
	Order     string      `json:"order,omitempty"`
	From      CallAddress `json:"from"`
	To        CallAddress `json:"to"`
	Parcels   []Parcel    `json:"parcels"`
	Label     string      `json:"label,omitempty"`
}

// Consignment is the order as it is shipped, in one parcel. Latin America prints on paper, the
// others on label printers.
func (o *Order) Consignment() Consignment {
	c := Consignment{Reference: o.ID, Service: Service, Date: Later(o.Shipped), Order: o.ID, From: o.warehouse(), To: o.recipient(),
		Parcels: []Parcel{{Measure{o.Weight().String(), "kg"}}}, Label: "zpl"}
	if o.Region == LatinAmerica {
		c.Label = "pdf"
	}
	return c
}

// Manifest is what a carrier takes over at once.
type Manifest struct {
	Reference string      `json:"reference"`
	Date      string      `json:"date"`
	From      CallAddress `json:"from"`
	Shipments []string    `json:"shipments"`
}

// NewManifest names the orders that leave together, on the day of the latest.
func NewManifest(reference string, orders []Order) Manifest {
	m := Manifest{Reference: reference, From: orders[0].warehouse()}
	for i := range orders {
		m.Date = max(m.Date, Later(orders[i].Shipped))
		m.Shipments = append(m.Shipments, orders[i].ID)
	}
	return m
}
