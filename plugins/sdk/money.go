package sdk

import (
	"fmt"

	"github.com/shopspring/decimal"
)

// Money is an amount of a currency (ISO 4217). It is decimal throughout, and text on every
// wire.
type Money struct {
	Amount   decimal.Decimal `json:"amount"`
	Currency string          `json:"currency"`
}

// Of makes money of text such as "12.50".
func Of(amount, currency string) (Money, error) {
	a, err := decimal.NewFromString(amount)
	if err != nil {
		return Money{}, fmt.Errorf("%q is no decimal amount", amount)
	}
	if len(currency) != 3 {
		return Money{}, fmt.Errorf("%q is no ISO 4217 currency code", currency)
	}
	return Money{a, currency}, nil
}

// Plus adds money of the same currency.
func (m Money) Plus(other Money) (Money, error) {
	if m.Currency != other.Currency {
		return Money{}, fmt.Errorf("%s and %s cannot be added", m.Currency, other.Currency)
	}
	return Money{m.Amount.Add(other.Amount), m.Currency}, nil
}

// Round rounds half up, away from zero, to the currency's minor unit.
func (m Money) Round() Money { return Money{m.Amount.Round(MinorDigits(m.Currency)), m.Currency} }

func (m Money) String() string {
	return m.Amount.StringFixed(max(MinorDigits(m.Currency), -m.Amount.Exponent())) + " " + m.Currency
}

// minor are the currencies whose minor unit is not a hundredth (ISO 4217).
var minor = map[string]int32{
	"BIF": 0, "CLP": 0, "DJF": 0, "GNF": 0, "ISK": 0, "JPY": 0, "KMF": 0, "KRW": 0, "PYG": 0, "RWF": 0, "UGX": 0, "UYI": 0,
	"VND": 0, "VUV": 0, "XAF": 0, "XOF": 0, "XPF": 0,
	"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3,
}

// MinorDigits are the decimals of a currency's minor unit.
func MinorDigits(currency string) int32 {
	if digits, other := minor[currency]; other {
		return digits
	}
	return 2
}
