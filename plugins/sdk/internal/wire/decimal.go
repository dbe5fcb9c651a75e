package wire

import (
	"fmt"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// format writes a decimal with the places that it has.
func format(d decimal.Decimal) (string, error) {
	exponent := d.Exponent()
	if exponent < -sdk.MaxDigits || exponent > sdk.MaxDigits || d.NumDigits()+int(exponent) > sdk.MaxDigits {
		return "", fmt.Errorf("a number has more than %d digits before or behind the point: round it", sdk.MaxDigits)
	}
	return d.StringFixed(max(0, -exponent)), nil
}
