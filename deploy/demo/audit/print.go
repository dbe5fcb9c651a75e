package audit

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/shopspring/decimal"
)

const maxFaults = 10 // that are printed

// Print writes the report, and says whether it is clean.
func (r *Report) Print(w io.Writer) (clean bool) {
	unknown := 0
	var places []string
	for _, country := range slices.Sorted(maps.Keys(r.NotCalculated)) {
		unknown += r.NotCalculated[country]
		places = append(places, fmt.Sprint(country, " ", r.NotCalculated[country]))
	}
	fmt.Fprintf(w, "taxes      reconciled %d of %d%s\n", r.Taxes.Reconciled, r.Taxes.Of, r.Taxes.sums())
	if r.Estimates.Of > 0 {
		fmt.Fprintf(w, "  provisional, the state's rate without local taxes, never finalised: US %d, estimates reconciled %d of %d%s\n",
			r.Estimates.Of, r.Estimates.Reconciled, r.Estimates.Of, r.Estimates.sums())
	}
	if unknown > 0 {
		fmt.Fprintf(w, "  not calculated, which is not zero, since the tables know no rate: %d (%s)\n", unknown, strings.Join(places, ", "))
	}
	fmt.Fprintf(w, "freight    reconciled %d of %d%s\n", r.Freight.Reconciled, r.Freight.Of, r.Freight.sums())
	fmt.Fprintf(w, "labels     reconciled %d of %d: one for each dispatch, no number twice, each document at head office by its hash\n", r.Labels, r.Freight.Of)
	fmt.Fprintf(w, "manifests  reconciled %d of %d parcels: each on exactly one of %d manifests\n", r.Parcels, r.Freight.Of, r.Manifests)
	for i, f := range r.Faults {
		if i == maxFaults {
			fmt.Fprintf(w, "  and %d more\n", len(r.Faults)-i)
			break
		}
		fmt.Fprintln(w, "  wrong:", f)
	}
	return r.Clean()
}

// sums writes what a kind of amounts comes to by currency.
func (t *Tally) sums() string {
	var b strings.Builder
	for _, currency := range slices.Sorted(maps.Keys(t.Sums)) {
		s := t.Sums[currency]
		fmt.Fprintf(&b, ", %s %s difference %s", currency, thousands(s.Amount), s.Difference.StringFixed(2))
	}
	return b.String()
}

// thousands writes an amount in groups of three.
func thousands(d decimal.Decimal) string {
	text := d.StringFixed(2)
	for at := len(text) - 6; at > 0 && text[at-1] != '-'; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
