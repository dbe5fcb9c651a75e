package sdk

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// Units of weight and length.
const (
	Kilogram   = "kg"
	Gram       = "g"
	Pound      = "lb"
	Ounce      = "oz"
	Centimetre = "cm"
	Millimetre = "mm"
	Inch       = "in"
)

// Measure is a decimal number of a unit.
type Measure struct {
	Value decimal.Decimal `json:"value"`
	Unit  string          `json:"unit"`
}

// The units in grams and in millimetres, exact by their definitions.
var (
	grams = map[string]decimal.Decimal{
		Gram: decimal.NewFromInt(1), Kilogram: decimal.NewFromInt(1000),
		Pound: decimal.RequireFromString("453.59237"), Ounce: decimal.RequireFromString("28.349523125"),
	}
	millimetres = map[string]decimal.Decimal{
		Millimetre: decimal.NewFromInt(1), Centimetre: decimal.NewFromInt(10), Inch: decimal.RequireFromString("25.4"),
	}
)

// In gives the measure in another unit of its kind, to 12 decimals where it does not come out.
func (m Measure) In(unit string) (decimal.Decimal, error) {
	for _, units := range []map[string]decimal.Decimal{grams, millimetres} {
		from, known := units[m.Unit]
		to, wanted := units[unit]
		if known && wanted {
			return m.Value.Mul(from).DivRound(to, 12), nil
		}
	}
	return decimal.Decimal{}, fmt.Errorf("%q cannot be given in %q", m.Unit, unit)
}
