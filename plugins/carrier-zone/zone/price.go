package zone

import (
	"fmt"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// bill is the price of one shipment with one service.
type bill struct {
	charges   []carrier.Charge
	total     sdk.Money
	billed    decimal.Decimal // weight of all parcels, as it is billed
	estimated bool            // a volume is not known
}

// add puts a charge on the bill, rounded to the minor unit, so that the charges as they are
// printed add up to the total.
func (b *bill) add(kind, code, name string, amount decimal.Decimal) decimal.Decimal {
	m := sdk.Money{Amount: amount, Currency: b.total.Currency}.Round()
	if m.Amount.IsZero() && kind != "base" {
		return m.Amount
	}
	b.charges = append(b.charges, carrier.Charge{Kind: kind, Code: code, Name: name, Amount: m})
	b.total.Amount = b.total.Amount.Add(m.Amount)
	return m.Amount
}

// volume of a parcel by the service's divisor; false: nothing counts but the weight, or the
// dimensions are not known.
func (s *service) volume(p *carrier.Parcel) (decimal.Decimal, bool) {
	if s.divisor.IsZero() || p.Dimensions == nil {
		return decimal.Zero, false
	}
	out := decimal.NewFromInt(1)
	for _, edge := range []decimal.Decimal{p.Dimensions.Length, p.Dimensions.Width, p.Dimensions.Height} {
		in, err := sdk.Measure{Value: edge, Unit: p.Dimensions.Unit}.In(s.length)
		if err != nil {
			return decimal.Zero, false
		}
		out = out.Mul(in)
	}
	return out.DivRound(s.divisor, 12), true
}

// billedWeight of a parcel: the weight or the volume's, whichever is more, at least the least,
// rounded up to the step.
func (s *service) billedWeight(p *carrier.Parcel) (decimal.Decimal, error) {
	w, err := p.Weight.In(s.unit)
	if err != nil {
		return decimal.Zero, err
	}
	if volume, known := s.volume(p); known {
		w = decimal.Max(w, volume)
	}
	return steps(decimal.Max(w, s.least), s.step), nil
}

// steps rounds up to a multiple of step; zero: not at all.
func steps(d, step decimal.Decimal) decimal.Decimal {
	if step.IsZero() {
		return d
	}
	return count(d, step).Mul(step)
}

// count is how many whole steps cover d.
func count(d, step decimal.Decimal) decimal.Decimal {
	n, rest := d.QuoRem(step, 0)
	if rest.IsPositive() {
		n = n.Add(decimal.NewFromInt(1))
	}
	return n
}

// freight is the price of one parcel of a billed weight; false: it is too heavy.
func (s *service) freight(weight decimal.Decimal, column int) (decimal.Decimal, bool) {
	i, _ := slices.BinarySearchFunc(s.rows, weight, func(r row, w decimal.Decimal) int { return r.upTo.Cmp(w) })
	if i < len(s.rows) {
		return s.rows[i].prices[column], true
	}
	if s.beyond == nil || weight.GreaterThan(s.beyond.upTo) {
		return decimal.Zero, false
	}
	last := s.rows[len(s.rows)-1]
	further := count(weight.Sub(last.upTo), s.beyond.step)
	return last.prices[column].Add(further.Mul(s.beyond.prices[column])), true
}

// within tells whether a parcel keeps a limit. Dimensions that are not known keep every one.
func (l *limit) within(p *carrier.Parcel) bool {
	if l == nil || p.Dimensions == nil {
		return true
	}
	var edges []decimal.Decimal
	for _, edge := range []decimal.Decimal{p.Dimensions.Length, p.Dimensions.Width, p.Dimensions.Height} {
		in, err := sdk.Measure{Value: edge, Unit: p.Dimensions.Unit}.In(l.unit)
		if err != nil {
			return false
		}
		edges = append(edges, in)
	}
	slices.SortFunc(edges, decimal.Decimal.Cmp)
	girth := edges[2].Add(edges[0].Add(edges[1]).Mul(decimal.NewFromInt(2)))
	return (l.longest.IsZero() || edges[2].LessThanOrEqual(l.longest)) && (l.girth.IsZero() || girth.LessThanOrEqual(l.girth))
}

// price makes the bill; the text says why the service does not take the shipment.
func (t *tariff) price(s *service, zone string, j *job) (*bill, string) {
	column := slices.Index(s.zones, zone)
	switch {
	case column < 0:
		return nil, "does not go to zone " + zone
	case j.saturday && !s.saturday:
		return nil, "does not deliver on Saturdays"
	case j.insured != nil && t.surcharges[surInsurance] == nil:
		return nil, "does not insure"
	case j.collect != nil && t.surcharges[surCOD] == nil:
		return nil, "does not collect cash"
	}
	b := &bill{total: sdk.Money{Currency: t.currency}}
	freight := decimal.Zero
	for i := range j.s.Parcels {
		p := &j.s.Parcels[i]
		w, err := s.billedWeight(p)
		if err != nil {
			return nil, err.Error()
		}
		if !s.limit.within(p) {
			return nil, fmt.Sprintf("parcels[%d] is too large", i)
		}
		amount, ok := s.freight(w, column)
		if !ok {
			return nil, fmt.Sprintf("parcels[%d] is too heavy: it is billed as %s %s", i, w, s.unit)
		}
		freight, b.billed = freight.Add(amount), b.billed.Add(w)
		b.estimated = b.estimated || p.Dimensions == nil && !s.divisor.IsZero()
	}
	charged := b.add("base", "freight", s.name, freight)
	if charged.LessThan(s.minimum) {
		charged = charged.Add(b.add("surcharge", "minimum", "Minimum charge", s.minimum.Sub(charged)))
	}
	t.extras(b, charged, j)
	return b, ""
}

// extras puts the surcharges on the bill.
func (t *tariff) extras(b *bill, freight decimal.Decimal, j *job) {
	remote := t.remote.find(&j.s.To) != nil
	large := 0
	for i := range j.s.Parcels {
		if s := t.surcharges[surOversize]; s != nil && (j.oversized || !s.limit.within(&j.s.Parcels[i])) {
			large++
		}
	}
	fuelOf := freight
	for _, c := range []struct {
		kind, group string
		parcels     int // that it is for; 0: none
		of          *decimal.Decimal
	}{
		{surResidential, "surcharge", when(j.s.To.Residential, len(j.s.Parcels)), nil},
		{surRemote, "surcharge", when(remote, len(j.s.Parcels)), nil},
		{surOversize, "surcharge", large, nil},
		{surSaturday, "addon", when(j.saturday, len(j.s.Parcels)), nil},
		{surSignature, "addon", when(j.signature, len(j.s.Parcels)), nil},
		{surCOD, "addon", when(j.collect != nil, 1), j.collect},
		{surInsurance, "addon", when(j.insured != nil, 1), j.insured},
	} {
		s := t.surcharges[c.kind]
		if s == nil || c.parcels == 0 {
			continue
		}
		amount := s.amount
		if s.each {
			amount = amount.Mul(decimal.NewFromInt(int64(c.parcels)))
		}
		if c.of != nil {
			amount = decimal.Max(amount.Add(percent(*c.of, s.percent)), s.minimum)
		}
		charged := b.add(c.group, c.kind, surchargeNames[c.kind], amount)
		if fuel := t.surcharges[surFuel]; fuel != nil && fuel.of[c.kind] {
			fuelOf = fuelOf.Add(charged)
		}
	}
	if fuel := t.surcharges[surFuel]; fuel != nil {
		b.add("surcharge", surFuel, fmt.Sprintf("Fuel %s %%", fuel.percent), percent(fuelOf, fuel.percent))
	}
}

func when(yes bool, n int) int {
	if yes {
		return n
	}
	return 0
}

func percent(of, p decimal.Decimal) decimal.Decimal { return of.Mul(p).Shift(-2) }

// arrival counts working days. Holidays are not known here.
func arrival(from time.Time, days int, saturday bool) time.Time {
	for days > 0 {
		from = from.AddDate(0, 0, 1)
		if from.Weekday() != time.Sunday && (saturday || from.Weekday() != time.Saturday) {
			days--
		}
	}
	return from
}
