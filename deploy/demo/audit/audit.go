// Package audit recomputes what the demo's orders owe in taxes and cost in freight, and
// compares that to the cent with what arrived at head office; and it looks for every label,
// its document, and the manifest that each parcel stands on.
//
// It works from the Northwind rows and from rates of its own, and refuses to know agents,
// plugins and their tables. Its invariant: what it cannot find or cannot compare is a fault,
// never a zero.
package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/deploy/demo/systems"
)

// HeadOffice is the system whose record is compared.
const HeadOffice = "erp"

// Sum is one kind of amounts in one currency.
type Sum struct {
	Amount     decimal.Decimal // recomputed
	Difference decimal.Decimal // between that and what arrived, in absolute amounts
}

// Tally is how one kind of amounts compares.
type Tally struct {
	Of         int // orders that are to have one
	Reconciled int
	Sums       map[string]*Sum // by currency
}

func (t *Tally) sum(currency string) *Sum {
	if t.Sums == nil {
		t.Sums = map[string]*Sum{}
	}
	if t.Sums[currency] == nil {
		t.Sums[currency] = &Sum{}
	}
	return t.Sums[currency]
}

// compare adds an amount that was recomputed, and says what is wrong with the one that came.
func (t *Tally) compare(want decimal.Decimal, currency string, got *ledger.Call) string {
	s := t.sum(currency)
	s.Amount = s.Amount.Add(want)
	have, err := decimal.NewFromString(got.Amount)
	switch {
	case err != nil:
		return fmt.Sprintf("its amount is %q, and should be %s", got.Amount, want)
	case got.Currency != currency:
		return fmt.Sprintf("it is in %s, and should be in %s", got.Currency, currency)
	case !have.Equal(want):
		s.Difference = s.Difference.Add(have.Sub(want).Abs())
		return fmt.Sprintf("it is %s %s, and should be %s", currency, have, want)
	}
	t.Reconciled++
	return ""
}

// Report is what the audit found.
type Report struct {
	Taxes         Tally          // calculated for good
	Estimates     Tally          // provisional: a part of what is owed
	NotCalculated map[string]int // neither; orders by country
	AsUnknown     int            // of these two, orders that head office was told of as not calculated
	Freight       Tally
	Labels        int // dispatches with one label and its document
	Parcels       int // dispatches on one manifest
	Manifests     int
	Faults        []string
}

// Clean reports whether everything that was to be compared was, without a difference.
func (r *Report) Clean() bool { return len(r.Faults) == 0 && r.Taxes.Of > 0 && r.Freight.Of > 0 }

func (r *Report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// arrived is what head office took, by type and key, and what the shops noted, by key.
type arrived struct {
	calls     map[string]map[string][]*ledger.Call
	estimates map[string][]*ledger.Call
	captured  map[string]bool
}

func sort(records map[string][]ledger.Entry) *arrived {
	a := &arrived{calls: map[string]map[string][]*ledger.Call{}, estimates: map[string][]*ledger.Call{}, captured: map[string]bool{}}
	for name, entries := range records {
		for _, e := range entries {
			switch {
			case e.Act == ledger.Sent && e.Type == systems.OrderCaptured:
				a.captured[e.Key] = true
			case e.Act == ledger.Noted && e.Call != nil:
				a.estimates[e.Key] = append(a.estimates[e.Key], e.Call)
			case e.Act == ledger.Taken && name == HeadOffice && e.Call != nil:
				if a.calls[e.Type] == nil {
					a.calls[e.Type] = map[string][]*ledger.Call{}
				}
				a.calls[e.Type][e.Key] = append(a.calls[e.Type][e.Key], e.Call)
			}
		}
	}
	return a
}

// Compare audits the orders that the shops captured, by the records of all systems.
func Compare(company *northwind.Company, records map[string][]ledger.Entry) (*Report, error) {
	b, err := read(facts)
	if err != nil {
		return nil, err
	}
	a, r := sort(records), &Report{NotCalculated: map[string]int{}}
	sent := map[string]bool{}
	papers, numbers := map[string]string{}, map[string]string{} // whose they are
	for i := range company.Orders {
		o := &company.Orders[i]
		if !a.captured[o.ID] {
			continue
		}
		r.tax(b, a, o)
		if o.Shipped.IsZero() {
			continue
		}
		sent[o.ID] = true
		if err := r.label(b, a, o, numbers, papers); err != nil {
			return nil, err
		}
	}
	for _, typ := range []string{systems.TaxFinalised, systems.LabelCreated} {
		for key := range a.calls[typ] {
			if !a.captured[key] || typ == systems.LabelCreated && !sent[key] {
				r.fault("%s of %s, which is no such order", typ, key)
			}
		}
	}
	r.manifests(a, sent)
	slices.Sort(r.Faults)
	return r, nil
}

// one gives the only call of a list, or says what is wrong.
func one(calls []*ledger.Call) (*ledger.Call, string) {
	switch len(calls) {
	case 0:
		return nil, "did not arrive"
	case 1:
		return calls[0], ""
	}
	return nil, fmt.Sprintf("arrived %d times", len(calls))
}

func (r *Report) tax(b *book, a *arrived, o *northwind.Order) {
	want, how := b.owed(o)
	tally := map[string]*Tally{final: &r.Taxes, provisional: &r.Estimates}[how]
	if tally != nil {
		tally.Of++
	} else {
		r.NotCalculated[o.ShipTo.CountryCode]++
	}
	got, wrong := one(a.calls[systems.TaxFinalised][o.ID])
	if wrong != "" {
		r.fault("tax of order %s: it %s", o.ID, wrong)
		return
	}
	if how == final {
		if got.Status != "calculated" || got.Provisional {
			wrong = fmt.Sprintf("it is %s, and should be calculated for good", got.Status)
		} else {
			wrong = tally.compare(want, northwind.Currency, got)
		}
	} else {
		if got.Status != "not_calculated" || got.Amount != "" {
			r.fault("tax of order %s: it is %s and %q, and should not be calculated", o.ID, got.Status, got.Amount)
			return
		}
		r.AsUnknown++
		wrong = r.estimate(a, o, tally, want)
	}
	if wrong != "" {
		r.fault("tax of order %s: %s", o.ID, wrong)
	}
}

// estimate compares what the shop noted; no tally: there should be none.
func (r *Report) estimate(a *arrived, o *northwind.Order, tally *Tally, want decimal.Decimal) string {
	noted := a.estimates[o.ID]
	if tally == nil {
		if len(noted) > 0 {
			return "there is an estimate, and no rate for one"
		}
		return ""
	}
	got, wrong := one(noted)
	switch {
	case wrong != "":
		return "its estimate " + wrong
	case !got.Provisional:
		return "its estimate is not provisional, and only a part of what is owed is known"
	}
	return tally.compare(want, northwind.Currency, got)
}

// label looks at what a dispatch cost, its number and its paper.
func (r *Report) label(b *book, a *arrived, o *northwind.Order, numbers, papers map[string]string) error {
	want, currency, err := b.price(o)
	if err != nil {
		return err
	}
	r.Freight.Of++
	got, wrong := one(a.calls[systems.LabelCreated][o.ID])
	if wrong != "" {
		r.fault("label of order %s: it %s", o.ID, wrong)
		return nil
	}
	if wrong := r.Freight.compare(want, currency, got); wrong != "" {
		r.fault("freight of order %s: %s", o.ID, wrong)
	}
	if len(got.Numbers) != 1 || len(got.Papers) != 1 {
		r.fault("label of order %s: it has %d numbers and %d documents, and should have one of each", o.ID, len(got.Numbers), len(got.Papers))
		return nil
	}
	number, paper := got.Numbers[0], got.Papers[0]
	whole := true
	for _, unique := range []struct {
		what, value string
		seen        map[string]string
	}{{"number", number, numbers}, {"document", paper.Named, papers}} {
		if other := unique.seen[unique.value]; other != "" || unique.value == "" {
			r.fault("label of order %s: %s %q is that of order %q too", o.ID, unique.what, unique.value, other)
			whole = false
		}
		unique.seen[unique.value] = o.ID
	}
	if paper.Found != paper.Named {
		r.fault("label of order %s: its document %q is %q at head office", o.ID, paper.Named, paper.Found)
		whole = false
	}
	if whole {
		r.Labels++
	}
	return nil
}

// manifests wants each parcel on exactly one.
func (r *Report) manifests(a *arrived, sent map[string]bool) {
	on := map[string][]string{}
	for reference, calls := range a.calls[systems.Manifested] {
		r.Manifests++
		got, wrong := one(calls)
		if wrong != "" {
			r.fault("manifest %s: it %s", reference, wrong)
			continue
		}
		if len(got.Papers) != 1 || got.Papers[0].Named == "" || got.Papers[0].Found != got.Papers[0].Named {
			r.fault("manifest %s: its document is not at head office: %v", reference, got.Papers)
		}
		for _, order := range got.Shipments {
			on[order] = append(on[order], reference)
			if !sent[order] {
				r.fault("manifest %s: order %s is no parcel that was sent", reference, order)
			}
		}
	}
	for order := range sent {
		switch list := on[order]; len(list) {
		case 0:
			r.fault("parcel of order %s: it stands on no manifest", order)
		case 1:
			r.Parcels++
		default:
			slices.Sort(list)
			r.fault("parcel of order %s: it stands on the manifests %s", order, strings.Join(list, " and "))
		}
	}
}
