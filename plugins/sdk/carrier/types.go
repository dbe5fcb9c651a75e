package carrier

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Description is what a carrier plugin says of itself.
type Description struct {
	sdk.Description
	Services []Service `json:"services,omitempty"`
	Labels   []string  `json:"labels,omitempty"` // formats that it makes, the preferred first
	Ranges   []Range   `json:"ranges,omitempty"` // of numbers that the host has to bring
}

// Service is one way to send.
type Service struct {
	Code string `json:"code"` // as a Shipment names it
	Name string `json:"name"`
}

// Range is a sequence of numbers that the site holds and a shipment uses up, so that labels
// are printed without asking anybody.
type Range struct {
	Name string `json:"name"` // as in policy
	Per  string `json:"per"`  // parcel or shipment
}

// Label formats.
const (
	ZPL = "zpl"
	PDF = "pdf"
	PNG = "png"
)

// Shipment is what is to be sent, or priced.
type Shipment struct {
	Reference string `json:"reference,omitempty"` // the caller's own, once for each thing bought; at most 64 bytes
	Service   string `json:"service,omitempty"`   // empty when all are to be priced
	RateID    string `json:"rateId,omitempty"`    // of the Rate that is bought; empty: what the service costs now
	Date      string `json:"date,omitempty"`      // on which it is handed over, 2006-01-02 at the sender; empty: today, in Rate only

	From     sdk.Address  `json:"from"`
	To       sdk.Address  `json:"to"`
	ReturnTo *sdk.Address `json:"returnTo,omitempty"` // nil: From
	Parcels  []Parcel     `json:"parcels,omitempty"`  // at least one
	Customs  *Customs     `json:"customs,omitempty"`  // nil: none is passed

	Payer     *Payer            `json:"payer,omitempty"`     // nil: the account that the plugin is configured with
	Insurance *sdk.Money        `json:"insurance,omitempty"` // value to insure; nil: none
	COD       *sdk.Money        `json:"cod,omitempty"`       // amount to collect from the recipient; nil: none
	Options   map[string]string `json:"options,omitempty"`   // by the names below
	Label     string            `json:"label,omitempty"`     // format wanted; empty: the carrier's first
	LabelDPI  int               `json:"labelDpi,omitempty"`  // dots an inch of a label for printers; 0: the carrier's choice
	Order     string            `json:"order,omitempty"`     // the business object that it is for, printed where there is room
	Original  string            `json:"original,omitempty"`  // of a return: reference of the shipment whose goods come back; empty: not known

	// Numbers that the host took from the site's ranges for this very shipment, by range, in
	// the order of the parcels. The same shipment brings the same ones again.
	Numbers map[string][]string `json:"numbers,omitempty"`
}

// Options that are common to carriers. A value is "true" where no other is said.
const (
	OptSaturday   = "saturday"
	OptSignature  = "signature" // none, any or adult
	OptHold       = "hold"      // code of the place where it is kept for collection
	OptDangerous  = "dangerous" // UN number
	OptOversized  = "oversized"
	OptNotifyMail = "notify" // e-mail address
)

// Payer is who pays for the transport.
type Payer struct {
	Party      string `json:"party"`                // by the names below
	Account    string `json:"account,omitempty"`    // at the carrier; empty: known to it
	PostalCode string `json:"postalCode,omitempty"` // where the account is billed
	Country    string `json:"country,omitempty"`    // ISO 3166-1 alpha-2, where the account is billed
}

// Who can pay.
const (
	PayerSender    = "sender"
	PayerRecipient = "recipient"
	PayerThird     = "third" // needs an account
)

// Parcel is one piece.
type Parcel struct {
	Reference  string      `json:"reference,omitempty"`
	Packaging  string      `json:"packaging,omitempty"` // own by default
	Weight     sdk.Measure `json:"weight"`
	Dimensions *Dimensions `json:"dimensions,omitempty"` // nil: not known
	Value      *sdk.Money  `json:"value,omitempty"`
	SSCC       string      `json:"sscc,omitempty"` // GS1 Serial Shipping Container Code, 18 digits
	Items      []Commodity `json:"items,omitempty"`
}

// Dimensions of a parcel.
type Dimensions struct {
	Length decimal.Decimal `json:"length"`
	Width  decimal.Decimal `json:"width"`
	Height decimal.Decimal `json:"height"`
	Unit   string          `json:"unit"`
}

// Commodity is one kind of goods in a parcel.
type Commodity struct {
	SKU         string          `json:"sku,omitempty"`
	Description string          `json:"description,omitempty"`
	Quantity    decimal.Decimal `json:"quantity"`
	HSCode      string          `json:"hsCode,omitempty"`
	Origin      string          `json:"origin,omitempty"` // ISO 3166-1 alpha-2
	Weight      *sdk.Measure    `json:"weight,omitempty"`
	Value       *sdk.Money      `json:"value,omitempty"` // of one
	GTIN        string          `json:"gtin,omitempty"`
	Lot         string          `json:"lot,omitempty"`
	Serial      string          `json:"serial,omitempty"`
}

// Customs is what the border wants to know beside the goods.
type Customs struct {
	Content       string `json:"content,omitempty"` // merchandise, gift, sample, documents or returned
	Incoterm      string `json:"incoterm,omitempty"`
	InvoiceNumber string `json:"invoiceNumber,omitempty"`
	InvoiceDate   string `json:"invoiceDate,omitempty"` // 2006-01-02
	Signer        string `json:"signer,omitempty"`
	DutyPayer     string `json:"dutyPayer,omitempty"` // as Payer.Party
	DutyAccount   string `json:"dutyAccount,omitempty"`
}

// AddressAdvice is what a carrier thinks of an address.
type AddressAdvice struct {
	Valid      bool          `json:"valid"`
	Suggested  *sdk.Address  `json:"suggested,omitempty"` // nil: as it is
	Confidence string        `json:"confidence"`          // exact, corrected, format (only its form was looked at)
	Warnings   []sdk.Warning `json:"warnings,omitempty"`
}

// Rates are the prices of one shipment.
type Rates struct {
	Rates    []Rate        `json:"rates,omitempty"`
	Warnings []sdk.Warning `json:"warnings,omitempty"`
}

// Rate is the price of one service.
type Rate struct {
	ID       string       `json:"id,omitempty"` // under which the carrier holds the price; empty: none
	Service  string       `json:"service"`
	Name     string       `json:"name,omitempty"`
	Total    sdk.Money    `json:"total"`
	Charges  []Charge     `json:"charges,omitempty"`  // add up to Total
	Days     int          `json:"days,omitempty"`     // in transit; 0: not known
	Delivery string       `json:"delivery,omitempty"` // 2006-01-02; empty: not known
	Expires  time.Time    `json:"expires,omitzero"`
	Source   string       `json:"source"`         // live, cached or local
	Data     string       `json:"data,omitempty"` // version of the tables, if local
	Estimate bool         `json:"estimate"`       // the carrier may charge another amount
	Billed   *sdk.Measure `json:"billed,omitempty"`
}

// Charge is a part of a price.
type Charge struct {
	Kind   string    `json:"kind"` // base, surcharge, addon, tax or discount
	Code   string    `json:"code,omitempty"`
	Name   string    `json:"name,omitempty"`
	Amount sdk.Money `json:"amount"`
}

// Document is paper of a carrier.
type Document struct {
	Kind   string `json:"kind"` // label, return-label, customs, manifest, proof
	Format string `json:"format"`
	Data   []byte `json:"data"`
}

// Shipped is what was bought.
type Shipped struct {
	Reference string          `json:"reference"`
	Shipment  string          `json:"shipment"` // the carrier's own identifier
	Service   string          `json:"service"`
	Parcels   []ShippedParcel `json:"parcels,omitempty"` // in the order of the request
	Rate      *Rate           `json:"rate,omitempty"`    // nil: the carrier did not say
	Documents []Document      `json:"documents,omitempty"`
	Voided    bool            `json:"voided"`
	Warnings  []sdk.Warning   `json:"warnings,omitempty"`
}

// ShippedParcel is one piece as the carrier knows it.
type ShippedParcel struct {
	Reference string `json:"reference,omitempty"`
	Tracking  string `json:"tracking"`
	SSCC      string `json:"sscc,omitempty"`
	Label     int    `json:"label"` // in Documents; -1: none of its own
}

// VoidRequest names what is given back.
type VoidRequest struct {
	Reference string   `json:"reference,omitempty"` // of the shipment
	Shipment  string   `json:"shipment,omitempty"`
	Tracking  []string `json:"tracking,omitempty"`
}

// Voided tells what came of it.
type Voided struct {
	Reference string        `json:"reference"`
	Accepted  bool          `json:"accepted"`         // false: asked for, and decided later
	Refund    *sdk.Money    `json:"refund,omitempty"` // nil: not known
	Warnings  []sdk.Warning `json:"warnings,omitempty"`
}

// PickupRequest books, changes or cancels a collection.
type PickupRequest struct {
	Action       string       `json:"action"`                 // book, change or cancel
	Reference    string       `json:"reference"`              // the caller's own, of this collection
	Confirmation string       `json:"confirmation,omitempty"` // the carrier's, of one that is changed or cancelled
	Place        sdk.Address  `json:"place,omitzero"`
	Date         string       `json:"date,omitempty"`  // 2006-01-02
	Ready        string       `json:"ready,omitempty"` // 15:04 at the place
	Close        string       `json:"close,omitempty"` // 15:04 at the place
	Parcels      int          `json:"parcels,omitempty"`
	Weight       *sdk.Measure `json:"weight,omitempty"`
	Tracking     []string     `json:"tracking,omitempty"`
	Instructions string       `json:"instructions,omitempty"`
}

// PickedUp tells what was booked.
type PickedUp struct {
	Reference    string        `json:"reference"`
	Confirmation string        `json:"confirmation"`
	Date         string        `json:"date,omitempty"`
	Ready        string        `json:"ready,omitempty"`
	Close        string        `json:"close,omitempty"`
	Price        *sdk.Money    `json:"price,omitempty"`
	Warnings     []sdk.Warning `json:"warnings,omitempty"`
}

// ManifestRequest names what is handed over.
type ManifestRequest struct {
	Reference string      `json:"reference"` // the caller's own, of this manifest
	Date      string      `json:"date"`      // 2006-01-02
	From      sdk.Address `json:"from"`
	Shipments []string    `json:"shipments,omitempty"` // references
}

// Manifested is the closed day.
type Manifested struct {
	Reference string        `json:"reference"`
	Manifest  string        `json:"manifest"` // the carrier's identifier
	Shipments []string      `json:"shipments,omitempty"`
	Parcels   int           `json:"parcels"`
	Documents []Document    `json:"documents,omitempty"`
	Warnings  []sdk.Warning `json:"warnings,omitempty"`
}

// TrackRequest names parcels.
type TrackRequest struct {
	Tracking []string  `json:"tracking,omitempty"`
	Since    time.Time `json:"since,omitzero"` // zero: all
	Page     string    `json:"page,omitempty"` // Tracked.Next of the page before; empty: the first
}

// Tracked is what happened to them.
type Tracked struct {
	Parcels []TrackedParcel `json:"parcels,omitempty"` // in the order of the request, each whole
	Next    string          `json:"next,omitempty"`    // asks for the rest of them; empty: there is none
}

// TrackedParcel is one parcel's way so far.
type TrackedParcel struct {
	Tracking string       `json:"tracking"`
	Status   string       `json:"status"`             // of its last event
	Delivery string       `json:"delivery,omitempty"` // expected, 2006-01-02; empty: not known
	Events   []TrackEvent `json:"events,omitempty"`
	Proof    *Document    `json:"proof,omitempty"`   // of delivery
	Problem  *sdk.Error   `json:"problem,omitempty"` // why nothing is known of this one; nil: something is
}

// TrackEvent is one thing that happened.
type TrackEvent struct {
	Status string    `json:"status"`           // one of those below
	Reason string    `json:"reason,omitempty"` // carrier, retailer, consignee, customs or weather, and what; empty: none
	Code   string    `json:"code,omitempty"`   // the carrier's own
	Text   string    `json:"text,omitempty"`   // the carrier's own
	Time   time.Time `json:"time"`
	Place  string    `json:"place,omitempty"`
}

// What can become of a parcel.
const (
	StatusPending        = "pending"
	StatusPickedUp       = "picked_up"
	StatusInTransit      = "in_transit"
	StatusOutForDelivery = "out_for_delivery"
	StatusReadyForPickup = "ready_for_pickup"
	StatusDelivered      = "delivered"
	StatusFailed         = "delivery_failed"
	StatusDelayed        = "delivery_delayed"
	StatusOnHold         = "on_hold"
	StatusReturning      = "return_to_sender"
	StatusCancelled      = "cancelled"
	StatusUnknown        = "unknown"
)
