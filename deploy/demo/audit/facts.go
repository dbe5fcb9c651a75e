package audit

import (
	"embed"
	"encoding/csv"
	"fmt"
	"io/fs"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/deploy/demo/northwind"
)

// facts are the rates as a person would look them up: which tax a place takes, and what the
// carriers charge. They were written down apart from what the plugins read.
//
//go:embed facts/*.csv
var facts embed.FS

// How the tax of a place is known.
const (
	final       = "final"
	provisional = "provisional" // a part of what is owed: good for an estimate only
)

type (
	place struct{ tariff, country, state string }
	// levy is all that a place takes.
	levy struct {
		how   string
		rates []decimal.Decimal // percent; each tax is rounded by itself
	}
	zone struct{ tariff, from, name string }
	step struct{ upTo, price decimal.Decimal }
	// scale is what parcels cost to a zone by their weight.
	scale struct {
		steps   []step
		further decimal.Decimal // for each further kilograms of the tariff's step
	}
	tariff struct {
		from, currency            string
		fuel, remote, step, limit decimal.Decimal
	}
	city struct{ tariff, country, name string }
)

type book struct {
	levies  map[place]*levy
	zones   map[place]string
	scales  map[zone]*scale
	tariffs map[string][]tariff // by name, the earliest first
	remote  map[city]bool
}

// read reads the facts.
func read(files fs.FS) (*book, error) {
	b := &book{levies: map[place]*levy{}, zones: map[place]string{}, scales: map[zone]*scale{}, tariffs: map[string][]tariff{}, remote: map[city]bool{}}
	for _, table := range []struct {
		name string
		row  func(f []string) error
	}{
		{"taxes", b.tax}, {"zones", func(f []string) error { b.zones[place{f[0], f[1], f[2]}] = f[3]; return nil }},
		{"tariffs", b.tariff}, {"freight", b.freight},
		{"remote", func(f []string) error { b.remote[city{f[0], f[1], f[2]}] = true; return nil }},
	} {
		file, err := files.Open("facts/" + table.name + ".csv")
		if err != nil {
			return nil, err
		}
		rows, err := csv.NewReader(file).ReadAll()
		_ = file.Close() // it was only read
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table.name, err)
		}
		for i, row := range rows[1:] {
			if err := table.row(row); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", table.name, i+2, err)
			}
		}
	}
	return b, nil
}

func (b *book) tax(f []string) error {
	at := place{f[0], f[1], f[2]}
	rate, err := decimal.NewFromString(f[4])
	if b.levies[at] == nil {
		b.levies[at] = &levy{how: f[5]}
	}
	b.levies[at].rates = append(b.levies[at].rates, rate)
	return err
}

func (b *book) tariff(f []string) error {
	t := tariff{from: f[1], currency: f[2]}
	for i, into := range []*decimal.Decimal{&t.fuel, &t.remote, &t.step, &t.limit} {
		var err error
		if *into, err = decimal.NewFromString(f[3+i]); err != nil {
			return err
		}
	}
	b.tariffs[f[0]] = append(b.tariffs[f[0]], t)
	return nil
}

func (b *book) freight(f []string) error {
	at := zone{f[0], f[1], f[2]}
	if b.scales[at] == nil {
		b.scales[at] = &scale{}
	}
	price, err := decimal.NewFromString(f[4])
	if f[3] == "" {
		b.scales[at].further = price
		return err
	}
	upTo, err2 := decimal.NewFromString(f[3])
	b.scales[at].steps = append(b.scales[at].steps, step{upTo, price})
	if err == nil {
		err = err2
	}
	return err
}

// stateOf is how the facts name a state; only North America has any in them.
func stateOf(o *northwind.Order) string {
	switch {
	case o.Region != northwind.NorthAmerica:
		return ""
	case o.ShipTo.Region == "Québec":
		return "QC"
	}
	return o.ShipTo.Region
}

// owed is the tax of an order, and how it is known; empty: not at all. In Europe freight is
// taxed with the goods.
func (b *book) owed(o *northwind.Order) (tax decimal.Decimal, how string) {
	l := b.levies[place{o.Region, o.ShipTo.CountryCode, stateOf(o)}]
	if l == nil {
		return decimal.Zero, ""
	}
	taxable := o.Net()
	if o.Region == northwind.Europe {
		taxable = taxable.Add(o.Freight)
	}
	for _, percent := range l.rates {
		tax = tax.Add(taxable.Mul(percent).Shift(-2).Round(2))
	}
	return tax, l.how
}

// price is what the carrier charges for an order.
func (b *book) price(o *northwind.Order) (amount decimal.Decimal, currency string, err error) {
	day := northwind.Later(o.Shipped)
	var t *tariff
	for i := range b.tariffs[o.Region] {
		if b.tariffs[o.Region][i].from <= day {
			t = &b.tariffs[o.Region][i]
		}
	}
	name, ok := b.zones[place{o.Region, o.ShipTo.CountryCode, stateOf(o)}]
	if !ok {
		name = b.zones[place{o.Region, o.ShipTo.CountryCode, ""}]
	}
	if t == nil || b.scales[zone{o.Region, t.from, name}] == nil {
		return amount, "", fmt.Errorf("order %s: no tariff of %s for zone %q on %s", o.ID, o.Region, name, day)
	}
	s := b.scales[zone{o.Region, t.from, name}]
	weight, heaviest := o.Weight(), s.steps[len(s.steps)-1]
	if weight.GreaterThan(t.limit) {
		return amount, "", fmt.Errorf("order %s weighs %s kg, more than the carrier takes", o.ID, weight)
	}
	if weight.GreaterThan(heaviest.upTo) {
		amount = heaviest.price.Add(weight.Sub(heaviest.upTo).Div(t.step).Ceil().Mul(s.further))
	} else {
		for i := len(s.steps) - 1; i >= 0 && weight.LessThanOrEqual(s.steps[i].upTo); i-- {
			amount = s.steps[i].price
		}
	}
	if b.remote[city{o.Region, o.ShipTo.CountryCode, o.ShipTo.City}] {
		amount = amount.Add(t.remote)
	}
	return amount.Add(amount.Mul(t.fuel).Shift(-2).Round(2)), t.currency, nil
}
