package wire

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// Limits of a decimal on the wire. What exceeds them is refused: a few characters such as
// 1e999999999 would otherwise cost gigabytes to add.
const (
	maxInteger  = 18 // digits before the point
	maxFraction = 18 // digits behind it
)

// parse reads a decimal as the proto files describe it, and nothing else.
func parse(text string) (decimal.Decimal, error) {
	refused := func() (decimal.Decimal, error) {
		return decimal.Decimal{}, fmt.Errorf("%.48q is no decimal: write digits with a point, at most %d before and %d behind it",
			text, maxInteger, maxFraction)
	}
	digits := text
	if digits != "" && digits[0] == '-' {
		digits = digits[1:]
	}
	integer, fraction := 0, -1 // -1: no point yet
	for i := range len(digits) {
		switch c := digits[i]; {
		case c >= '0' && c <= '9' && fraction < 0:
			integer++
		case c >= '0' && c <= '9':
			fraction++
		case c == '.' && fraction < 0:
			fraction = 0
		default:
			return refused()
		}
	}
	if integer == 0 || integer > maxInteger || fraction == 0 || fraction > maxFraction {
		return refused()
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return refused()
	}
	return d, nil
}

// format writes a decimal with the places that it has.
func format(d decimal.Decimal) (string, error) {
	exponent := d.Exponent()
	if exponent < -maxFraction || exponent > maxInteger || d.NumDigits()+int(exponent) > maxInteger {
		return "", fmt.Errorf("a number has more than %d digits before or %d behind the point: round it", maxInteger, maxFraction)
	}
	return d.StringFixed(max(0, -exponent)), nil
}
