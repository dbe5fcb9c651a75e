package sdk

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// MaxDigits are the digits of a decimal before its point, and likewise behind it. What exceeds
// them is refused on every wire: a few characters such as 1e999999999 would otherwise cost
// gigabytes to add.
const MaxDigits = 18

// ParseDecimal reads a decimal as the proto files describe it, and nothing else.
func ParseDecimal(text string) (decimal.Decimal, error) {
	refused := func() (decimal.Decimal, error) {
		return decimal.Decimal{}, fmt.Errorf("%.48q is no decimal: write digits with a point, at most %d before and behind it",
			text, MaxDigits)
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
	if integer == 0 || integer > MaxDigits || fraction == 0 || fraction > MaxDigits {
		return refused()
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return refused()
	}
	return d, nil
}
