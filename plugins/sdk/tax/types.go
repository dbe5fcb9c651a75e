package tax

import (
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Description is what a tax engine says of itself.
type Description struct {
	sdk.Description
	Covers []Coverage
}

// Coverage is a place whose taxes the engine knows.
type Coverage struct {
	Country string // ISO 3166-1 alpha-2
	State   string // empty: all of the country
	Tax     string // such as VAT, GST, sales tax
	Note    string // what is not covered there
}

// Document kinds.
const (
	Sale   = "sale"
	Return = "return" // amounts are positive, and owed the other way
)

// Document is a sale or a return, such as an invoice or an order that will become one.
type Document struct {
	Reference string // the caller's own, once for each document
	Kind      string
	Original  string // reference of the sale that is returned
	Date      string // 2006-01-02, of issue
	TaxPoint  string // 2006-01-02, by which rates are chosen; empty: Date
	Currency  string // ISO 4217, of all amounts

	Seller   Party
	Customer Party
	ShipFrom sdk.Address
	ShipTo   sdk.Address
	Lines    []Line // at least one
}

// Party is who sells or buys.
type Party struct {
	Address   sdk.Address
	Business  bool   // acts as one; a customer's tax number has to prove it where the law wants that
	Exemption string // reason for which nothing is owed, as the engine knows it; empty: none
}

// Line is one position of a document.
type Line struct {
	ID       string
	SKU      string
	Category string // of goods or services, by the names below or the engine's own; empty: Standard
	Quantity decimal.Decimal
	Amount   decimal.Decimal // of all of the quantity, after Discount
	Discount decimal.Decimal // for information
	Included bool            // the amount holds its taxes
	ShipFrom *sdk.Address    // nil: the document's
	ShipTo   *sdk.Address    // nil: the document's
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

// Result is what a document owes.
type Result struct {
	Reference string
	Status    string // NotCalculated if any line is
	Reason    string // of NotCalculated
	Lines     []LineResult
	Net       decimal.Decimal     // of all lines
	Tax       decimal.NullDecimal // null: not calculated
	Gross     decimal.NullDecimal // null: not calculated
	Summary   []TaxSum            // by jurisdiction, tax and rate: what an invoice prints
	Notes     []string            // that the law wants on the document

	Source      string    // live, cached or local
	Data        string    // version of the tables or rules
	Provisional bool      // to be finalised by another engine when it can be reached
	Final       time.Time // when it was finalised; zero: an estimate
	Warnings    []sdk.Warning
}

// LineResult is what a line owes.
type LineResult struct {
	ID     string
	Status string
	Reason string // of NotCalculated
	Net    decimal.Decimal
	Tax    decimal.NullDecimal // null: not calculated
	Taxes  []Tax
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
	Jurisdiction Jurisdiction
	Name         string // VAT, GST, HST, sales tax, ...
	Kind         string
	Rate         decimal.Decimal // 0.19 is 19 %
	Taxable      decimal.Decimal
	Amount       decimal.Decimal
	Source       string // of the rate: law or publication, with its date
}

// Jurisdiction is who levies a tax.
type Jurisdiction struct {
	Country string
	State   string
	Name    string
	Level   string // country, state, county, city or special
}

// TaxSum is what one tax comes to over a document.
type TaxSum struct {
	Jurisdiction Jurisdiction
	Name         string
	Kind         string
	Rate         decimal.Decimal
	Taxable      decimal.Decimal
	Amount       decimal.Decimal
}

// VoidRequest names what is taken back.
type VoidRequest struct {
	Reference string
	Reason    string
}

// Voided tells what came of it.
type Voided struct {
	Reference string
	Warnings  []sdk.Warning
}

// TaxIDAdvice is what an engine knows of a tax number.
type TaxIDAdvice struct {
	ID         sdk.TaxID // as it is written in full
	Status     string    // by the names below
	Checked    string    // format, checksum or registry: the deepest look that was taken
	Age        time.Duration
	HolderName string // as the registry has it
	Message    string
}

// What a tax number can be. A registry that cannot be reached makes it Unknown, never Invalid.
const (
	IDValid   = "valid"
	IDInvalid = "invalid"
	IDUnknown = "unknown"
)
