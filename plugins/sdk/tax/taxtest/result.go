package taxtest

import (
	"slices"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

var (
	kinds = []string{tax.KindStandard, tax.KindReduced, tax.KindZero, tax.KindExempt, tax.KindReverse, tax.KindExport, tax.KindOutside}
	owing = []string{tax.KindStandard, tax.KindReduced} // of the others nothing is owed by who sells
)

// adds wants a result that belongs to its document and adds up.
func adds(t testing.TB, what string, d *tax.Document, r *tax.Result) {
	t.Helper()
	if r.Reference != d.Reference {
		t.Errorf("%s: reference %q, want %q", what, r.Reference, d.Reference)
	}
	if r.Currency != d.Currency {
		t.Errorf("%s: it is of currency %q, want %q", what, r.Currency, d.Currency)
	}
	kind := tax.ResultEstimate
	switch {
	case r.Final.IsZero():
	case d.Kind == tax.Return:
		kind = tax.ResultCredit
	default:
		kind = tax.ResultInvoice
	}
	if r.Kind != kind || r.Voided {
		t.Errorf("%s: it is of kind %q (voided: %v), want %q", what, r.Kind, r.Voided, kind)
	}
	if !slices.Contains([]string{"live", "cached", "local"}, r.Source) || r.Source == "local" && r.Data == "" {
		t.Errorf("%s: from %q, data %q", what, r.Source, r.Data)
	}
	if len(r.Lines) != len(d.Lines) {
		t.Fatalf("%s: %d lines, want %d", what, len(r.Lines), len(d.Lines))
	}
	net, owed, calculated := decimal.Zero, decimal.Zero, true
	for i := range r.Lines {
		l := &r.Lines[i]
		if l.ID != d.Lines[i].ID {
			t.Errorf("%s: line %d is %q, want %q", what, i, l.ID, d.Lines[i].ID)
		}
		line(t, what, &d.Lines[i], l)
		net = net.Add(l.Net)
		owed = owed.Add(l.Tax.Decimal)
		calculated = calculated && l.Status == tax.Calculated
	}
	if !r.Net.Equal(net) {
		t.Errorf("%s: the lines add up to %s, not to %s", what, net, r.Net)
	}
	if !calculated {
		if r.Status != tax.NotCalculated || r.Reason == "" || r.Tax.Valid || r.Gross.Valid {
			t.Errorf("%s: a line is not calculated, and the document is %q (%q) with tax %s and gross %s", what, r.Status, r.Reason,
				text(r.Tax), text(r.Gross))
		}
		return
	}
	if r.Status != tax.Calculated || !r.Tax.Valid || !r.Gross.Valid {
		t.Fatalf("%s: all lines are calculated, and the document is %q with tax %s and gross %s", what, r.Status, text(r.Tax), text(r.Gross))
	}
	if !r.Tax.Decimal.Equal(owed) || !r.Gross.Decimal.Equal(net.Add(owed)) {
		t.Errorf("%s: tax %s and gross %s, the lines come to %s and %s", what, text(r.Tax), text(r.Gross), owed, net.Add(owed))
	}
	summed(t, what, r)
}

func text(n decimal.NullDecimal) string {
	if !n.Valid {
		return "null"
	}
	return n.Decimal.String()
}

// line wants one line that adds up, or says why it does not.
func line(t testing.TB, what string, asked *tax.Line, l *tax.LineResult) {
	t.Helper()
	switch l.Status {
	case tax.NotCalculated:
		if l.Tax.Valid || l.Reason == "" {
			t.Errorf("%s: line %q is not calculated (%q), and its tax is %s", what, l.ID, l.Reason, text(l.Tax))
		}
		return
	case tax.Calculated:
	default:
		t.Errorf("%s: nobody knows the status %q of line %q", what, l.Status, l.ID)
	}
	if !l.Tax.Valid || len(l.Taxes) == 0 {
		t.Fatalf("%s: line %q is calculated, with tax %s of %d taxes", what, l.ID, text(l.Tax), len(l.Taxes))
	}
	sum := decimal.Zero
	for _, x := range l.Taxes {
		sum = sum.Add(x.Amount)
		if x.Name == "" || x.Jurisdiction.Country == "" || !slices.Contains(kinds, x.Kind) || x.Rate.IsNegative() {
			t.Errorf("%s: line %q has a tax %q of %q, kind %q, rate %s", what, l.ID, x.Name, x.Jurisdiction.Country, x.Kind, x.Rate)
		}
		if x.Amount.IsNegative() || !slices.Contains(owing, x.Kind) && !x.Amount.IsZero() {
			t.Errorf("%s: line %q owes %s of kind %q", what, l.ID, x.Amount, x.Kind)
		}
	}
	if !sum.Equal(l.Tax.Decimal) {
		t.Errorf("%s: the taxes of line %q add up to %s, not to %s", what, l.ID, sum, text(l.Tax))
	}
	net := asked.Amount
	if asked.Included {
		net = net.Sub(sum)
	}
	if !l.Net.Equal(net) {
		t.Errorf("%s: line %q is %s net, want %s of %s with taxes included %v", what, l.ID, l.Net, net, asked.Amount, asked.Included)
	}
}

// summed wants a summary that comes to what the lines come to, one entry for each tax.
func summed(t testing.TB, what string, r *tax.Result) {
	t.Helper()
	type key struct {
		tax.Jurisdiction
		name, kind, rate string
	}
	type sum struct{ taxable, amount decimal.Decimal }
	want := map[key]sum{}
	for _, l := range r.Lines {
		for _, x := range l.Taxes {
			k := key{x.Jurisdiction, x.Name, x.Kind, x.Rate.String()}
			want[k] = sum{want[k].taxable.Add(x.Taxable), want[k].amount.Add(x.Amount)}
		}
	}
	for _, s := range r.Summary {
		k := key{s.Jurisdiction, s.Name, s.Kind, s.Rate.String()}
		if w, ok := want[k]; !ok || !w.taxable.Equal(s.Taxable) || !w.amount.Equal(s.Amount) {
			t.Errorf("%s: the summary has %s of %s for %+v, the lines %s of %s", what, s.Amount, s.Taxable, k, w.amount, w.taxable)
		}
		delete(want, k)
	}
	for k := range want {
		t.Errorf("%s: the summary lacks %+v", what, k)
	}
}
