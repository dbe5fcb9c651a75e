package table

import (
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// calculate is what a document owes, and the day whose rates were taken. What is known to be too
// little is good for an estimate, and is not calculated for good.
func (e *Engine) calculate(d *tax.Document, final bool) (*tax.Result, string, error) {
	result := &tax.Result{Reference: d.Reference, Kind: tax.ResultEstimate, Currency: d.Currency, Status: tax.Calculated, Source: "local", Data: e.tables.Version()}
	date, err := e.taxPoint(d, result)
	if err != nil {
		return nil, "", err
	}
	c := &chooser{tables: e.tables, origin: e.origin, final: final, d: d, date: date}
	treatments := make([]*treatment, len(d.Lines))
	for i := range d.Lines {
		if d.Lines[i].Category != tax.Freight {
			treatments[i] = c.line(&d.Lines[i])
		}
	}
	var parts []*part
	for i := range d.Lines {
		if treatments[i] == nil {
			var of []*part
			if of, treatments[i] = c.freight(i, treatments); treatments[i].reason == "" {
				parts = append(parts, of...)
			}
		} else if treatments[i].reason == "" {
			parts = append(parts, &part{line: i, amount: d.Lines[i].Amount, included: d.Lines[i].Included, treatment: treatments[i]})
		}
	}
	digits := sdk.MinorDigits(d.Currency)
	e.work(parts, digits)
	fill(result, d, treatments, parts, digits)
	return result, date, nil
}

// taxPoint is the day whose rates hold. A return takes those of its sale, where that is known.
func (e *Engine) taxPoint(d *tax.Document, result *tax.Result) (string, error) {
	if d.TaxPoint != "" {
		return d.TaxPoint, nil
	}
	if d.Kind == tax.Return {
		if e.ledger != nil {
			sale, err := e.ledger.find(d.Original)
			if err != nil {
				return "", err
			}
			if sale != nil {
				return sale.TaxPoint, nil
			}
		}
		result.Warnings = append(result.Warnings, sdk.Warning{Code: "return_rates", Field: "taxPoint",
			Message: "the sale that is returned is not known here: the rates are those of " + d.Date})
	}
	return d.Date, nil
}

// part is an amount with one treatment: a line, or a share of a line of freight.
type part struct {
	line      int
	amount    decimal.Decimal
	included  bool
	treatment *treatment
	taxes     []decimal.Decimal // as many as the treatment has, rounded
}

// exactDigits are the decimals that are kept before amounts are rounded.
const exactDigits = 24

var one = decimal.NewFromInt(1)

// exact is one tax of an amount before it is rounded.
func (t *treatment) exact(amount decimal.Decimal, k int, included bool) decimal.Decimal {
	owed := amount.Mul(t.taxes[k].effective)
	if included {
		return owed.DivRound(one.Add(t.sum()), exactDigits)
	}
	return owed
}

// work finds the taxes of all parts, rounded as their regimes say.
func (e *Engine) work(parts []*part, digits int32) {
	type share struct {
		part *part
		k    int
	}
	groups := map[string][]share{}
	var order []string
	for _, p := range parts {
		p.taxes = make([]decimal.Decimal, len(p.treatment.taxes))
		round := e.round
		if round == "" {
			round = p.treatment.country.regime.Rounding
		}
		for k := range p.taxes {
			if round == roundLine {
				p.taxes[k] = p.treatment.exact(p.amount, k, p.included).Round(digits)
				continue
			}
			key := p.treatment.taxes[k].key()
			if p.included {
				key += "included " + p.treatment.sum().String()
			}
			if groups[key] == nil {
				order = append(order, key)
			}
			groups[key] = append(groups[key], share{p, k})
		}
	}
	for _, key := range order {
		var sum decimal.Decimal
		exact := make([]decimal.Decimal, len(groups[key]))
		for i, s := range groups[key] {
			sum = sum.Add(s.part.amount)
			exact[i] = s.part.treatment.exact(s.part.amount, s.k, s.part.included)
		}
		first := groups[key][0]
		total := first.part.treatment.exact(sum, first.k, first.part.included).Round(digits)
		for i, amount := range apportion(total, exact, digits) {
			s := groups[key][i]
			s.part.taxes[s.k] = amount
		}
	}
}

// apportion rounds exact amounts so that they add up to total: what rounding down leaves goes
// to the largest fractions, and among equals to the first.
func apportion(total decimal.Decimal, exact []decimal.Decimal, digits int32) []decimal.Decimal {
	out := make([]decimal.Decimal, len(exact))
	left := total
	order := make([]int, len(exact))
	for i := range exact {
		out[i] = exact[i].Truncate(digits)
		left = left.Sub(out[i])
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return exact[b].Sub(out[b]).Cmp(exact[a].Sub(out[a]))
	})
	unit := decimal.New(1, -digits)
	for _, i := range order {
		if !left.IsPositive() {
			break
		}
		out[i] = out[i].Add(unit)
		left = left.Sub(unit)
	}
	return out
}

// freight divides a line of freight among the treatments of the goods that it carries, by
// their values.
func (c *chooser) freight(line int, treatments []*treatment) ([]*part, *treatment) {
	l := &c.d.Lines[line]
	type load struct {
		treatment *treatment
		net       decimal.Decimal // of amounts without taxes
		gross     decimal.Decimal // of amounts with them
	}
	loads := map[string]*load{}
	var names []string
	for i := range c.d.Lines {
		goods := &c.d.Lines[i]
		if goods.Category == tax.Freight || goods.Category == tax.Services || !sameWay(c.from(goods), c.from(l)) || !sameWay(c.to(goods), c.to(l)) {
			continue
		}
		t := treatments[i]
		if t.reason != "" {
			return nil, unknown("the goods of line %s are not calculated, and freight takes their rate", goods.ID)
		}
		if r := t.country.regime; r.Freight == "" {
			return nil, unknown("%s", t.country.lacks(tax.Freight, "does not say which rate freight takes in "+t.country.Code))
		}
		key := t.key()
		if loads[key] == nil {
			loads[key] = &load{treatment: t}
			names = append(names, key)
		}
		if goods.Included {
			loads[key].gross = loads[key].gross.Add(goods.Amount)
		} else {
			loads[key].net = loads[key].net.Add(goods.Amount)
		}
	}
	if len(loads) == 0 {
		return nil, unknown("freight without goods takes no goods' rate; say category services or standard if it is sold by itself")
	}
	slices.Sort(names) // so that the order of lines does not decide who gets what is left of a cent
	weights := make([]decimal.Decimal, len(names))
	var sum decimal.Decimal
	for i, name := range names {
		of := loads[name]
		weights[i] = of.net.Add(of.gross.DivRound(one.Add(of.treatment.sum()), exactDigits))
		sum = sum.Add(weights[i])
	}
	exact := make([]decimal.Decimal, len(names))
	for i := range names {
		if sum.IsZero() { // free goods: in equal shares
			exact[i] = l.Amount.DivRound(decimal.NewFromInt(int64(len(names))), exactDigits)
		} else {
			exact[i] = l.Amount.Mul(weights[i]).DivRound(sum, exactDigits)
		}
	}
	var parts []*part
	whole := &treatment{country: loads[names[0]].treatment.country}
	for i, amount := range apportion(l.Amount, exact, sdk.MinorDigits(c.d.Currency)) {
		parts = append(parts, &part{line: line, amount: amount, included: l.Included, treatment: loads[names[i]].treatment})
	}
	return parts, whole
}

// sameWay tells whether two addresses are the same for all that these tables look at.
func sameWay(a, b *sdk.Address) bool {
	return a == b || code(a) == code(b) && stateOf(a) == stateOf(b) && a.PostalCode == b.PostalCode
}

// fill writes the result of a document from its parts.
func fill(result *tax.Result, d *tax.Document, treatments []*treatment, parts []*part, digits int32) {
	result.Lines = make([]tax.LineResult, len(d.Lines))
	for i := range d.Lines {
		l := &result.Lines[i]
		l.ID, l.Status, l.Net = d.Lines[i].ID, tax.Calculated, d.Lines[i].Amount
		l.Tax = decimal.NewNullDecimal(decimal.Decimal{})
		t := treatments[i]
		if t.reason != "" {
			l.Status, l.Reason, l.Tax = tax.NotCalculated, t.reason, decimal.NullDecimal{}
			result.Status = tax.NotCalculated
			if result.Reason == "" {
				result.Reason = "line " + l.ID + ": " + t.reason
			}
		}
		result.Provisional = result.Provisional || t.open
		for _, note := range t.notes {
			if !slices.Contains(result.Notes, note) {
				result.Notes = append(result.Notes, note)
			}
		}
		for _, w := range t.warnings {
			if !slices.Contains(result.Warnings, w) {
				result.Warnings = append(result.Warnings, w)
			}
		}
	}
	for _, p := range parts {
		p.fill(&result.Lines[p.line], digits)
	}
	var owed decimal.Decimal
	for i := range result.Lines {
		result.Net = result.Net.Add(result.Lines[i].Net)
		owed = owed.Add(result.Lines[i].Tax.Decimal)
	}
	result.Summary = summary(result.Lines)
	if result.Status == tax.Calculated {
		result.Tax = decimal.NewNullDecimal(owed)
		result.Gross = decimal.NewNullDecimal(result.Net.Add(owed))
	}
}

// fill adds what a part owes to its line.
func (p *part) fill(l *tax.LineResult, digits int32) {
	net := p.amount
	for k := range p.taxes {
		if p.included {
			net = net.Sub(p.taxes[k])
			l.Net = l.Net.Sub(p.taxes[k])
		}
		l.Tax.Decimal = l.Tax.Decimal.Add(p.taxes[k])
	}
	for k, t := range p.treatment.taxes {
		l.Taxes = append(l.Taxes, tax.Tax{
			Jurisdiction: t.where, Name: t.name, Kind: t.kind, Rate: t.rate,
			Taxable: net.Mul(t.base).Round(digits), Amount: p.taxes[k], Source: t.source,
		})
	}
}

// summary adds up the lines' taxes by jurisdiction, tax and rate.
func summary(lines []tax.LineResult) []tax.TaxSum {
	sums := map[string]*tax.TaxSum{}
	var keys []string
	for i := range lines {
		for _, t := range lines[i].Taxes {
			key := strings.Join([]string{t.Jurisdiction.Country, t.Jurisdiction.State, t.Name, t.Kind, t.Rate.StringFixed(effectiveDigits)}, "\x00")
			s := sums[key]
			if s == nil {
				s = &tax.TaxSum{Jurisdiction: t.Jurisdiction, Name: t.Name, Kind: t.Kind, Rate: t.Rate}
				sums[key] = s
				keys = append(keys, key)
			}
			s.Taxable = s.Taxable.Add(t.Taxable)
			s.Amount = s.Amount.Add(t.Amount)
		}
	}
	slices.Sort(keys)
	out := make([]tax.TaxSum, len(keys))
	for i, key := range keys {
		out[i] = *sums[key]
	}
	return out
}
