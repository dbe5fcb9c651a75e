package tax

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Description is what a tax engine says of itself.
type Description struct {
	sdk.Description
	Covers []Coverage `json:"covers,omitempty"`
}

// Coverage is a place whose taxes the engine knows.
type Coverage struct {
	Country string `json:"country"`         // ISO 3166-1 alpha-2
	State   string `json:"state,omitempty"` // empty: all of the country
	Tax     string `json:"tax"`             // such as VAT, GST, sales tax
	Note    string `json:"note,omitempty"`  // what is not covered there
}

// Document kinds.
const (
	Sale   = "sale"
	Return = "return" // amounts are positive, and owed the other way
)

// Document is a sale or a return, such as an invoice or an order that will become one.
type Document struct {
	Reference string `json:"reference,omitempty"` // the caller's own, once for each document
	Kind      string `json:"kind"`
	Original  string `json:"original,omitempty"` // reference of the sale that is returned
	Date      string `json:"date"`               // 2006-01-02, of issue
	TaxPoint  string `json:"taxPoint,omitempty"` // 2006-01-02, by which rates are chosen; empty: Date
	Currency  string `json:"currency"`           // ISO 4217, of all amounts

	Seller   Party       `json:"seller,omitzero"`
	Customer Party       `json:"customer,omitzero"`
	ShipFrom sdk.Address `json:"shipFrom,omitzero"`
	ShipTo   sdk.Address `json:"shipTo,omitzero"`
	Lines    []Line      `json:"lines,omitempty"` // at least one
}

// Party is who sells or buys.
type Party struct {
	Address   sdk.Address `json:"address,omitzero"`
	Business  bool        `json:"business,omitempty"`  // acts as one; a customer's tax number has to prove it where the law wants that
	Exemption string      `json:"exemption,omitempty"` // reason for which nothing is owed, as the engine knows it; empty: none
}

// Line is one position of a document.
type Line struct {
	ID       string          `json:"id"`
	SKU      string          `json:"sku,omitempty"`
	Category string          `json:"category,omitempty"` // of goods or services, by the names below or the engine's own; empty: Standard
	Quantity decimal.Decimal `json:"quantity,omitzero"`
	Amount   decimal.Decimal `json:"amount"`             // of all of the quantity, after Discount
	Discount decimal.Decimal `json:"discount,omitzero"`  // for information
	Included bool            `json:"included,omitempty"` // the amount holds its taxes
	ShipFrom *sdk.Address    `json:"shipFrom,omitempty"` // nil: the document's
	ShipTo   *sdk.Address    `json:"shipTo,omitempty"`   // nil: the document's
}

// Categories that engines share.
const (
	Standard  = "standard"
	Food      = "food"
	Books     = "books"
	Medicines = "medicines"
	Clothing  = "clothing"
	Freight   = "freight" // takes the rate of what is sent, where the law says so
	Services  = "services"
)

// What became of a line or of a document.
const (
	Calculated    = "calculated"
	NotCalculated = "not_calculated" // nobody here knows what is owed; it is not nothing
)

// Kinds of results.
const (
	ResultEstimate = "estimate" // nothing is owed yet
	ResultInvoice  = "invoice"  // of a sale that was finalised
	ResultCredit   = "credit"   // of a return that was finalised; amounts are positive
)

// Result is what a document owes.
type Result struct {
	Reference string              `json:"reference"`
	Kind      string              `json:"kind"`             // by the names above
	Currency  string              `json:"currency"`         // of all amounts
	Status    string              `json:"status"`           // NotCalculated if any line is
	Reason    string              `json:"reason,omitempty"` // of NotCalculated
	Lines     []LineResult        `json:"lines,omitempty"`
	Net       decimal.Decimal     `json:"net"`               // of all lines
	Tax       decimal.NullDecimal `json:"tax"`               // null: not calculated
	Gross     decimal.NullDecimal `json:"gross"`             // null: not calculated
	Summary   []TaxSum            `json:"summary,omitempty"` // by jurisdiction, tax and rate: what an invoice prints
	Notes     []string            `json:"notes,omitempty"`   // that the law wants on the document

	Source      string        `json:"source"`         // live, cached or local
	Data        string        `json:"data,omitempty"` // version of the tables or rules
	Provisional bool          `json:"provisional"`    // to be finalised by another engine when it can be reached
	Final       time.Time     `json:"final,omitzero"` // when it was finalised; zero: an estimate
	Voided      bool          `json:"voided"`         // it was taken back
	Warnings    []sdk.Warning `json:"warnings,omitempty"`
}

// LineResult is what a line owes.
type LineResult struct {
	ID     string              `json:"id"`
	Status string              `json:"status"`
	Reason string              `json:"reason,omitempty"` // of NotCalculated
	Net    decimal.Decimal     `json:"net"`
	Tax    decimal.NullDecimal `json:"tax"` // null: not calculated
	Taxes  []Tax               `json:"taxes,omitempty"`
}

// Why a tax is what it is.
const (
	KindStandard = "standard"
	KindReduced  = "reduced"
	KindZero     = "zero"    // taxed, at 0 %
	KindExempt   = "exempt"  // not taxed
	KindReverse  = "reverse" // the customer accounts for it
	KindExport   = "export"
	KindOutside  = "outside" // not within the reach of this tax
)

// Tax is one tax on one line.
type Tax struct {
	Jurisdiction Jurisdiction    `json:"jurisdiction"`
	Name         string          `json:"name"` // VAT, GST, HST, sales tax, ...
	Kind         string          `json:"kind"`
	Rate         decimal.Decimal `json:"rate"` // 0.19 is 19 %
	Taxable      decimal.Decimal `json:"taxable"`
	Amount       decimal.Decimal `json:"amount"`
	Source       string          `json:"source,omitempty"` // of the rate: law or publication, with its date
}

// Jurisdiction is who levies a tax.
type Jurisdiction struct {
	Country string `json:"country"`
	State   string `json:"state,omitempty"`
	Name    string `json:"name,omitempty"`
	Level   string `json:"level,omitempty"` // country, state, county, city or special
}

// TaxSum is what one tax comes to over a document.
type TaxSum struct {
	Jurisdiction Jurisdiction    `json:"jurisdiction"`
	Name         string          `json:"name"`
	Kind         string          `json:"kind"`
	Rate         decimal.Decimal `json:"rate"`
	Taxable      decimal.Decimal `json:"taxable"`
	Amount       decimal.Decimal `json:"amount"`
}

// VoidRequest names what is taken back.
type VoidRequest struct {
	Reference string `json:"reference"`
	Reason    string `json:"reason,omitempty"`
}

// Voided tells what came of it.
type Voided struct {
	Reference string        `json:"reference"`
	Warnings  []sdk.Warning `json:"warnings,omitempty"`
}

// TaxIDAdvice is what an engine knows of a tax number.
type TaxIDAdvice struct {
	ID         sdk.TaxID `json:"id"`                   // as it is written in full
	Status     string    `json:"status"`               // by the names below
	Checked    string    `json:"checked"`              // format, checksum or registry: the deepest look that was taken
	Age        sdk.Span  `json:"age,omitzero"`         // of what is known; zero: fresh
	HolderName string    `json:"holderName,omitempty"` // as the registry has it
	Message    string    `json:"message,omitempty"`
}

// What a tax number can be. A registry that cannot be reached makes it Unknown, never Invalid.
const (
	IDValid   = "valid"
	IDInvalid = "invalid"
	IDUnknown = "unknown"
)
