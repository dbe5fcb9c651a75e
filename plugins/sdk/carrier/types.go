package carrier

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Description is what a carrier plugin says of itself.
type Description struct {
	sdk.Description
	Services []Service
	Labels   []string // formats that it makes, the preferred first
	Ranges   []Range  // of numbers that the host has to bring
}

// Service is one way to send.
type Service struct {
	Code string // as a Shipment names it
	Name string
}

// Range is a sequence of numbers that the site holds and a shipment uses up, so that labels
// are printed without asking anybody.
type Range struct {
	Name string // as in policy
	Per  string // parcel or shipment
}

// Label formats.
const (
	ZPL = "zpl"
	PDF = "pdf"
	PNG = "png"
)

// Shipment is what is to be sent, or priced.
type Shipment struct {
	Reference string // the caller's own, once for each thing bought; at most 64 bytes
	Service   string // empty when all are to be priced
	Date      string // on which it is handed over, 2006-01-02 at the sender

	From     sdk.Address
	To       sdk.Address
	ReturnTo *sdk.Address // nil: From
	Parcels  []Parcel     // at least one
	Customs  *Customs     // nil: none is passed

	Options map[string]string // by the names below
	Label   string            // format wanted; empty: the carrier's first
	Order   string            // the business object that it is for, printed where there is room

	// Numbers that the host took from the site's ranges for this very shipment, by range, in
	// the order of the parcels. The same shipment brings the same ones again.
	Numbers map[string][]string
}

// Options that are common to carriers. A value is "true" where no other is said.
const (
	OptSaturday   = "saturday"
	OptSignature  = "signature" // none, any or adult
	OptInsurance  = "insurance" // amount in the currency of the parcels' value
	OptCOD        = "cod"       // amount to collect
	OptHold       = "hold"      // code of the place where it is kept for collection
	OptDangerous  = "dangerous" // UN number
	OptOversized  = "oversized"
	OptNotifyMail = "notify" // e-mail address
)

// Parcel is one piece.
type Parcel struct {
	Reference  string
	Packaging  string // own by default
	Weight     sdk.Measure
	Dimensions *Dimensions // nil: not known
	Value      *sdk.Money
	SSCC       string // GS1 Serial Shipping Container Code, 18 digits
	Items      []Commodity
}

// Dimensions of a parcel.
type Dimensions struct {
	Length decimal.Decimal
	Width  decimal.Decimal
	Height decimal.Decimal
	Unit   string
}

// Commodity is one kind of goods in a parcel.
type Commodity struct {
	SKU         string
	Description string
	Quantity    decimal.Decimal
	HSCode      string
	Origin      string // ISO 3166-1 alpha-2
	Weight      *sdk.Measure
	Value       *sdk.Money // of one
	GTIN        string
	Lot         string
	Serial      string
}

// Customs is what the border wants to know beside the goods.
type Customs struct {
	Content       string // merchandise, gift, sample, documents or returned
	Incoterm      string
	InvoiceNumber string
	InvoiceDate   string // 2006-01-02
	Signer        string
	DutyPayer     string // sender, recipient or third
	DutyAccount   string
}

// AddressAdvice is what a carrier thinks of an address.
type AddressAdvice struct {
	Valid      bool
	Suggested  *sdk.Address // nil: as it is
	Confidence string       // exact, corrected, format (only its form was looked at)
	Warnings   []sdk.Warning
}

// Rates are the prices of one shipment.
type Rates struct {
	Rates    []Rate
	Warnings []sdk.Warning
}

// Rate is the price of one service.
type Rate struct {
	Service  string
	Name     string
	Total    sdk.Money
	Charges  []Charge // add up to Total
	Days     int      // in transit; 0: not known
	Delivery string   // 2006-01-02; empty: not known
	Expires  time.Time
	Source   string // live, cached or local
	Data     string // version of the tables, if local
	Estimate bool   // the carrier may charge another amount
	Billed   *sdk.Measure
}

// Charge is a part of a price.
type Charge struct {
	Kind   string // base, surcharge, addon, tax or discount
	Code   string
	Name   string
	Amount sdk.Money
}

// Document is paper of a carrier.
type Document struct {
	Kind   string // label, return-label, customs, manifest, proof
	Format string
	Data   []byte
}

// Shipped is what was bought.
type Shipped struct {
	Reference string
	Shipment  string // the carrier's own identifier
	Service   string
	Parcels   []ShippedParcel // in the order of the request
	Rate      *Rate           // nil: the carrier did not say
	Documents []Document
	Voided    bool
	Warnings  []sdk.Warning
}

// ShippedParcel is one piece as the carrier knows it.
type ShippedParcel struct {
	Reference string
	Tracking  string
	SSCC      string
	Label     int // in Documents; -1: none of its own
}

// VoidRequest names what is given back.
type VoidRequest struct {
	Reference string // of the shipment
	Shipment  string
	Tracking  []string
}

// Voided tells what came of it.
type Voided struct {
	Reference string
	Accepted  bool       // false: asked for, and decided later
	Refund    *sdk.Money // nil: not known
	Warnings  []sdk.Warning
}

// PickupRequest books, changes or cancels a collection.
type PickupRequest struct {
	Action       string // book, change or cancel
	Reference    string // the caller's own, of this collection
	Confirmation string // the carrier's, of one that is changed or cancelled
	Place        sdk.Address
	Date         string // 2006-01-02
	Ready        string // 15:04 at the place
	Close        string // 15:04 at the place
	Parcels      int
	Weight       *sdk.Measure
	Tracking     []string
	Instructions string
}

// PickedUp tells what was booked.
type PickedUp struct {
	Reference    string
	Confirmation string
	Date         string
	Ready        string
	Close        string
	Price        *sdk.Money
	Warnings     []sdk.Warning
}

// ManifestRequest names what is handed over.
type ManifestRequest struct {
	Reference string // the caller's own, of this manifest
	Date      string // 2006-01-02
	From      sdk.Address
	Shipments []string // references
}

// Manifested is the closed day.
type Manifested struct {
	Reference string
	Manifest  string // the carrier's identifier
	Shipments []string
	Parcels   int
	Documents []Document
	Warnings  []sdk.Warning
}

// TrackRequest names parcels.
type TrackRequest struct {
	Tracking []string
	Since    time.Time // zero: all
}

// Tracked is what happened to them.
type Tracked struct {
	Parcels []TrackedParcel
}

// TrackedParcel is one parcel's way so far.
type TrackedParcel struct {
	Tracking string
	Status   string // of its last event
	Delivery string // expected, 2006-01-02; empty: not known
	Events   []TrackEvent
	Proof    *Document  // of delivery
	Problem  *sdk.Error // why nothing is known of this one; nil: something is
}

// TrackEvent is one thing that happened.
type TrackEvent struct {
	Status string // one of those below
	Reason string // carrier, retailer, consignee, customs or weather, and what; empty: none
	Code   string // the carrier's own
	Text   string // the carrier's own
	Time   time.Time
	Place  string
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
