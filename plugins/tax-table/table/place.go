package table

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/tax-table/taxid"
)

// treatment is how a line is taxed, before any amount is known.
type treatment struct {
	reason   string // why it is not calculated; empty: it is
	country  *country
	taxes    []applied
	notes    []string
	warnings []sdk.Warning
	open     bool // something is left to be proved
}

// applied is one tax of a treatment.
type applied struct {
	where     tax.Jurisdiction
	name      string
	kind      string
	rate      decimal.Decimal
	base      decimal.Decimal
	effective decimal.Decimal
	source    string
}

// key tells treatments apart by their taxes.
func (t *treatment) key() string {
	var b strings.Builder
	for i := range t.taxes {
		b.WriteString(t.taxes[i].key())
	}
	return b.String()
}

func (a *applied) key() string {
	return strings.Join([]string{a.where.Country, a.where.State, a.where.Level, a.name, a.kind, a.rate.String(), a.base.String()}, "\x00") + "\x01"
}

// sum is the rate of all taxes together.
func (t *treatment) sum() decimal.Decimal {
	var sum decimal.Decimal
	for i := range t.taxes {
		sum = sum.Add(t.taxes[i].effective)
	}
	return sum
}

func (t *treatment) warn(code, format string, args ...any) {
	t.warnings = append(t.warnings, sdk.Warning{Code: code, Message: fmt.Sprintf(format, args...)})
}

func unknown(format string, args ...any) *treatment {
	return &treatment{reason: fmt.Sprintf(format, args...)}
}

// chooser finds the treatment of a document's lines.
type chooser struct {
	tables *Tables
	origin bool // distance sales are taxed where they begin
	final  bool // what is found is not to be changed later
	d      *tax.Document
	date   string // by which rates are chosen
}

// line finds the treatment of a line that is not freight.
func (c *chooser) line(l *tax.Line) *treatment {
	category := l.Category
	if category == "" {
		category = tax.Standard
	}
	for _, party := range []*tax.Party{&c.d.Seller, &c.d.Customer} {
		if party.Exemption != "" {
			return unknown("the tables know no exemption %q", party.Exemption)
		}
	}
	switch category {
	case export, intraCommunity:
		return unknown("category %s is for the tables alone; the places of the line decide on it", category)
	case tax.Services:
		return c.services()
	}
	return c.goods(l, category)
}

// services are covered where both sides are in one country.
func (c *chooser) services() *treatment {
	seller, customer := c.d.Seller.Address, c.d.Customer.Address
	if seller.Country == "" {
		seller = c.d.ShipFrom
	}
	if customer.Country == "" {
		customer = c.d.ShipTo
	}
	if seller.Country == "" || customer.Country == "" {
		return unknown("the addresses of seller and customer do not both name a country, which decides where a service is taxed")
	}
	if reason := c.unplaced(&seller, &customer); reason != "" {
		return unknown("%s", reason)
	}
	if code(&seller) != code(&customer) {
		return unknown("the tables do not say where services from %s to %s are taxed", code(&seller), code(&customer))
	}
	return c.at(c.tables.countries[code(&customer)], &customer, tax.Services)
}

// unplaced says why one of the addresses is not known well enough; empty: both are.
func (c *chooser) unplaced(addresses ...*sdk.Address) string {
	for _, a := range addresses {
		if reason := c.tables.noCountry(a); reason != "" {
			return reason
		}
		if in := c.tables.countries[code(a)]; in != nil {
			if reason := in.special(a); reason != "" {
				return reason
			}
		}
	}
	return ""
}

func (c *chooser) goods(l *tax.Line, category string) *treatment {
	from, to := c.from(l), c.to(l)
	if from.Country == "" || to.Country == "" {
		return unknown("it is not known from which country to which the goods go")
	}
	if reason := c.unplaced(from, to); reason != "" {
		return unknown("%s", reason)
	}
	begin, end := c.tables.countries[code(from)], c.tables.countries[code(to)]
	switch {
	case code(from) == code(to) || begin != nil && begin == end:
		return c.at(end, to, category)
	case begin == nil:
		return unknown("the tables know no taxes of %s", code(from))
	case begin.member() && end.member():
		return c.withinUnion(begin, end, from, to, category)
	}
	t := c.apply(begin, "", export)
	if t.reason == "" {
		t.warn("import_not_calculated", "taxes and duties of import into %s are not calculated", code(to))
	}
	return t
}

// withinUnion is for goods that go from one member state to another.
func (c *chooser) withinUnion(begin, end *country, from, to *sdk.Address, category string) *treatment {
	if c.d.Customer.Business {
		if number := c.acquirer(begin); number != "" {
			t := c.apply(end, "", intraCommunity)
			if t.reason == "" {
				t.notes = append(t.notes, "VAT number of the customer: "+number)
				t.warn("vat_number_unproved", "the form of VAT number %s is right, and no registry was asked: the supply is exempt only if the number is valid on its day", number)
				t.open = true
			}
			return t
		}
	}
	var t *treatment
	if c.origin {
		t = c.at(begin, from, category)
	} else {
		t = c.at(end, to, category)
	}
	if t.reason == "" && c.d.Customer.Business {
		t.warn("no_vat_number", "the customer acts as a business and has no valid VAT number of a member state other than %s: taxed as a distance sale", begin.Code)
	}
	return t
}

// acquirer is the number under which the customer accounts for the acquisition of goods that
// come from begin: of another member state, and well formed.
func (c *chooser) acquirer(begin *country) string {
	for _, id := range c.d.Customer.Address.TaxIDs {
		v := taxid.Check(id.Country, id.Kind, id.Number)
		if v.Status != taxid.Valid || v.Kind != taxid.VAT {
			continue
		}
		if of := c.tables.countries[v.Country]; v.Country == taxid.NorthernIreland || of.member() && of != begin {
			return v.Number
		}
	}
	return ""
}

// at applies a country's own rates.
func (c *chooser) at(where *country, to *sdk.Address, category string) *treatment {
	if where == nil {
		return unknown("the tables know no taxes of %s", code(to))
	}
	state := ""
	if where.regime.Rules == rulesStates {
		state = stateOf(to)
		if state == "" {
			return unknown("the address in %s names no state, which decides on the rate", where.Code)
		}
	}
	return c.apply(where, state, category)
}

func (c *chooser) apply(where *country, state, category string) *treatment {
	rows, reason := where.find(state, category, c.date)
	if reason != "" {
		return &treatment{reason: reason}
	}
	t := &treatment{country: where}
	switch {
	case rows[0].special():
	case where.partial(state) && c.final:
		return unknown("the table knows the state's rate of %s and not its %s, which are owed too", place(where.Code, state), where.Partial)
	case where.partial(state):
		t.warn("local_taxes", "%s: the state's rate only; %s are not in it, and are owed too", place(where.Code, state), where.Partial)
		t.open = true
	case where.Note != "":
		t.warn("coverage", "%s: %s", where.Code, where.Note)
	}
	for _, r := range rows {
		j := tax.Jurisdiction{Country: where.Code, Level: r.Level, Name: where.Code}
		if r.Level == "state" {
			j.State, j.Name = state, place(where.Code, state)
		}
		t.taxes = append(t.taxes, applied{j, r.Tax, r.Kind, r.rate, r.base, r.effective, where.regime.Sources[r.Source].String()})
		switch {
		case r.Note == "":
		case r.special():
			t.notes = append(t.notes, r.Note)
		default:
			t.warn("rate", "%s, %s: %s", place(where.Code, state), category, r.Note)
		}
	}
	return t
}

func (c *chooser) from(l *tax.Line) *sdk.Address {
	switch {
	case l.ShipFrom != nil:
		return l.ShipFrom
	case c.d.ShipFrom.Country != "":
		return &c.d.ShipFrom
	}
	return &c.d.Seller.Address
}

func (c *chooser) to(l *tax.Line) *sdk.Address {
	switch {
	case l.ShipTo != nil:
		return l.ShipTo
	case c.d.ShipTo.Country != "":
		return &c.d.ShipTo
	}
	return &c.d.Customer.Address
}
