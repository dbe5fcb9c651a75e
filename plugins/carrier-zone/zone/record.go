package zone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// recordVersion is of the records below. They are types of their own, so that a book outlives
// changes of the contract. Who changes them in a way that an older program would misread gives
// them the next version, and keeps reading the ones before.
const recordVersion = 1

// record is the form of a line in the book.
type record struct {
	Time     time.Time       `json:"time"`
	Shipment *shipmentRecord `json:"shipment,omitempty"`
	Voided   string          `json:"voided,omitempty"`
	Pickup   *pickupRecord   `json:"pickup,omitempty"`
	Manifest *manifestRecord `json:"manifest,omitempty"`
}

type shipmentRecord struct {
	Reference string            `json:"reference"`
	Digest    string            `json:"digest"`
	Return    bool              `json:"return,omitempty"`
	Service   string            `json:"service"`
	Date      string            `json:"date"`
	From      addressRecord     `json:"from"`
	To        addressRecord     `json:"to"`
	Parcels   []parcelRecord    `json:"parcels"`
	Options   map[string]string `json:"options,omitempty"`
	COD       *moneyRecord      `json:"cod,omitempty"`
	Label     string            `json:"label,omitempty"`
	Order     string            `json:"order,omitempty"`
	Zone      string            `json:"zone"`
	Rate      rateRecord        `json:"rate"`
	Warnings  []warningRecord   `json:"warnings,omitempty"`
}

type parcelRecord struct {
	Reference string        `json:"reference,omitempty"`
	Weight    measureRecord `json:"weight"`
	Tracking  string        `json:"tracking"`
	SSCC      string        `json:"sscc,omitempty"`
}

type addressRecord struct {
	Name       string   `json:"name,omitempty"`
	Company    string   `json:"company,omitempty"`
	Lines      []string `json:"lines,omitempty"`
	City       string   `json:"city,omitempty"`
	State      string   `json:"state,omitempty"`
	PostalCode string   `json:"postal,omitempty"`
	Country    string   `json:"country"`
	Phone      string   `json:"phone,omitempty"`
}

type measureRecord struct {
	Value decimal.Decimal `json:"value"`
	Unit  string          `json:"unit"`
}

type moneyRecord struct {
	Amount   decimal.Decimal `json:"amount"`
	Currency string          `json:"currency"`
}

type warningRecord struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Field   string `json:"field,omitempty"`
}

type rateRecord struct {
	ID       string         `json:"id,omitempty"`
	Service  string         `json:"service"`
	Name     string         `json:"name,omitempty"`
	Total    moneyRecord    `json:"total"`
	Charges  []chargeRecord `json:"charges,omitempty"`
	Days     int            `json:"days,omitempty"`
	Delivery string         `json:"delivery,omitempty"`
	Expires  time.Time      `json:"expires,omitzero"`
	Source   string         `json:"source"`
	Data     string         `json:"data,omitempty"`
	Estimate bool           `json:"estimate,omitempty"`
	Billed   *measureRecord `json:"billed,omitempty"`
}

type chargeRecord struct {
	Kind   string      `json:"kind"`
	Code   string      `json:"code,omitempty"`
	Name   string      `json:"name,omitempty"`
	Amount moneyRecord `json:"amount"`
}

type pickupRecord struct {
	Reference    string         `json:"reference"`
	Confirmation string         `json:"confirmation"`
	Digest       string         `json:"digest"`
	Cancelled    bool           `json:"cancelled,omitempty"`
	Place        addressRecord  `json:"place"`
	Date         string         `json:"date"`
	Ready        string         `json:"ready"`
	Close        string         `json:"close"`
	Parcels      int            `json:"parcels,omitempty"`
	Weight       *measureRecord `json:"weight,omitempty"`
	Tracking     []string       `json:"tracking,omitempty"`
	Instructions string         `json:"instructions,omitempty"`
}

type manifestRecord struct {
	Reference string   `json:"reference"`
	Digest    string   `json:"digest"`
	Number    string   `json:"number"`
	Date      string   `json:"date"`
	Shipments []string `json:"shipments"`
	Parcels   int      `json:"parcels"`
}

func encodeLine(l *line) ([]byte, error) {
	r := record{Time: l.Time, Voided: l.Voided}
	if l.Bought != nil {
		r.Shipment = recordOf(l.Bought)
	}
	if l.Pickup != nil {
		r.Pickup = pickupRecordOf(l.Pickup)
	}
	if m := l.Manifest; m != nil {
		r.Manifest = &manifestRecord{m.Reference, m.Digest, m.Number, m.Date, m.Shipments, m.Parcels}
	}
	return json.Marshal(r)
}

func decodeLine(of *book.Record) (*line, error) {
	var r record
	d := json.NewDecoder(bytes.NewReader(of.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("it is no record of version %d: %w", of.Version, err)
	}
	l := &line{Time: r.Time, Voided: r.Voided}
	parts := when(r.Voided != "", 1)
	if r.Shipment != nil {
		l.Bought = r.Shipment.bought()
		parts++
	}
	if r.Pickup != nil {
		l.Pickup = r.Pickup.collection()
		parts++
	}
	if m := r.Manifest; m != nil {
		l.Manifest = &closed{m.Reference, m.Date, m.Shipments, m.Digest, m.Number, m.Parcels}
		parts++
	}
	if parts != 1 || r.Shipment != nil && len(r.Shipment.Parcels) == 0 {
		return nil, errors.New("it says nothing, or more than one thing")
	}
	return l, nil
}

func recordOf(p *bought) *shipmentRecord {
	s := &p.Shipment
	r := &shipmentRecord{Reference: s.Reference, Digest: p.Digest, Return: p.Return, Service: s.Service, Date: s.Date,
		From: addressRecordOf(&s.From), To: addressRecordOf(&s.To), Options: s.Options, COD: (*moneyRecord)(s.COD), Label: s.Label, Order: s.Order,
		Zone: p.Zone, Rate: rateRecordOf(&p.Rate)}
	for i, parcel := range s.Parcels {
		r.Parcels = append(r.Parcels, parcelRecord{parcel.Reference, measureRecord(parcel.Weight), p.Tracking[i], p.SSCC[i]})
	}
	for _, w := range p.Warnings {
		r.Warnings = append(r.Warnings, warningRecord(w))
	}
	return r
}

func (r *shipmentRecord) bought() *bought {
	p := &bought{Digest: r.Digest, Return: r.Return, Zone: r.Zone, Rate: r.Rate.rate(),
		Shipment: carrier.Shipment{Reference: r.Reference, Service: r.Service, Date: r.Date, From: r.From.address(), To: r.To.address(),
			Options: r.Options, COD: (*sdk.Money)(r.COD), Label: r.Label, Order: r.Order}}
	for _, parcel := range r.Parcels {
		p.Shipment.Parcels = append(p.Shipment.Parcels, carrier.Parcel{Reference: parcel.Reference, Weight: sdk.Measure(parcel.Weight)})
		p.Tracking, p.SSCC = append(p.Tracking, parcel.Tracking), append(p.SSCC, parcel.SSCC)
	}
	for _, w := range r.Warnings {
		p.Warnings = append(p.Warnings, sdk.Warning(w))
	}
	return p
}

func addressRecordOf(a *sdk.Address) addressRecord {
	return addressRecord{a.Name, a.Company, a.Lines, a.City, a.State, a.PostalCode, a.Country, a.Phone}
}

func (r *addressRecord) address() sdk.Address {
	return sdk.Address{Name: r.Name, Company: r.Company, Lines: r.Lines, City: r.City, State: r.State, PostalCode: r.PostalCode, Country: r.Country,
		Phone: r.Phone}
}

func rateRecordOf(p *carrier.Rate) rateRecord {
	r := rateRecord{ID: p.ID, Service: p.Service, Name: p.Name, Total: moneyRecord(p.Total), Days: p.Days, Delivery: p.Delivery, Expires: p.Expires,
		Source: p.Source, Data: p.Data, Estimate: p.Estimate, Billed: (*measureRecord)(p.Billed)}
	for _, c := range p.Charges {
		r.Charges = append(r.Charges, chargeRecord{c.Kind, c.Code, c.Name, moneyRecord(c.Amount)})
	}
	return r
}

func (r *rateRecord) rate() carrier.Rate {
	p := carrier.Rate{ID: r.ID, Service: r.Service, Name: r.Name, Total: sdk.Money(r.Total), Days: r.Days, Delivery: r.Delivery, Expires: r.Expires,
		Source: r.Source, Data: r.Data, Estimate: r.Estimate, Billed: (*sdk.Measure)(r.Billed)}
	for _, c := range r.Charges {
		p.Charges = append(p.Charges, carrier.Charge{Kind: c.Kind, Code: c.Code, Name: c.Name, Amount: sdk.Money(c.Amount)})
	}
	return p
}

func pickupRecordOf(c *collection) *pickupRecord {
	q := &c.Request
	return &pickupRecord{Reference: q.Reference, Confirmation: c.Confirmation, Digest: c.Digest, Cancelled: c.Cancelled, Place: addressRecordOf(&q.Place),
		Date: q.Date, Ready: q.Ready, Close: q.Close, Parcels: q.Parcels, Weight: (*measureRecord)(q.Weight), Tracking: q.Tracking,
		Instructions: q.Instructions}
}

func (r *pickupRecord) collection() *collection {
	return &collection{Confirmation: r.Confirmation, Digest: r.Digest, Cancelled: r.Cancelled,
		Request: carrier.PickupRequest{Reference: r.Reference, Place: r.Place.address(), Date: r.Date, Ready: r.Ready, Close: r.Close,
			Parcels: r.Parcels, Weight: (*sdk.Measure)(r.Weight), Tracking: r.Tracking, Instructions: r.Instructions}}
}
