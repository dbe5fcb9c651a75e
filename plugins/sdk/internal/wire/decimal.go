package wire

import (
	"fmt"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

func (e encoder) decimal(d decimal.Decimal) (string, error) {
	text, err := format(d)
	if e.sparse && strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text, err
}

// format writes a decimal with the places that it has.
func format(d decimal.Decimal) (string, error) {
	exponent := d.Exponent()
	if exponent < -sdk.MaxDigits || exponent > sdk.MaxDigits || d.NumDigits()+int(exponent) > sdk.MaxDigits {
		return "", fmt.Errorf("a number has more than %d digits before or behind the point: round it", sdk.MaxDigits)
	}
	return d.StringFixed(max(0, -exponent)), nil
}
