package expr

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"

	"github.com/itchyny/gojq"
	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/protocol/strictjson"
)

// maxPlaces bounds dec_div and dec_round.
const maxPlaces = 40

// Exponents are not taken: 1e999999999 is nine letters, and a gigabyte once it is aligned.
var decimalForm = regexp.MustCompile(`^[+-]?[0-9]{1,64}(\.[0-9]{1,64})?$`)

func decimalFunctions() []gojq.CompilerOption {
	two := func(name string, f func(a, b decimal.Decimal) any) gojq.CompilerOption {
		return gojq.WithFunction(name, 2, 2, func(_ any, args []any) any {
			d, err := decimals(name, args[0], args[1])
			if err != nil {
				return err
			}
			return f(d[0], d[1])
		})
	}
	return []gojq.CompilerOption{
		two("dec_add", func(a, b decimal.Decimal) any { return decimalText(a.Add(b), places(a, b)) }),
		two("dec_sub", func(a, b decimal.Decimal) any { return decimalText(a.Sub(b), places(a, b)) }),
		two("dec_mul", func(a, b decimal.Decimal) any { return decimalText(a.Mul(b), decimalPlaces(a)+decimalPlaces(b)) }),
		two("dec_cmp", func(a, b decimal.Decimal) any { return a.Cmp(b) }),
		gojq.WithFunction("dec_div", 3, 3, decDiv),
		gojq.WithFunction("dec_round", 2, 2, decRound),
	}
}

func decDiv(_ any, args []any) any {
	d, err := decimals("dec_div", args[0], args[1])
	if err != nil {
		return err
	}
	n, err := placesArgument("dec_div", args[2])
	if err != nil {
		return err
	}
	if d[1].IsZero() {
		return fmt.Errorf("dec_div: %s is divided by zero", decimalText(d[0], decimalPlaces(d[0])))
	}
	return d[0].DivRound(d[1], n).StringFixed(n)
}

func decRound(_ any, args []any) any {
	d, err := decimals("dec_round", args[0])
	if err != nil {
		return err
	}
	n, err := placesArgument("dec_round", args[1])
	if err != nil {
		return err
	}
	return d[0].StringFixed(n) // half away from zero, as invoices round
}

func placesArgument(name string, v any) (int32, error) {
	n, ok := gojq.ToInt(v)
	if !ok || n < 0 || n > maxPlaces {
		return 0, fmt.Errorf("%s: places must be a number from 0 to %d", name, maxPlaces)
	}
	return int32(n), nil
}

func decimals(name string, args ...any) ([]decimal.Decimal, error) {
	out := make([]decimal.Decimal, len(args))
	for i, arg := range args {
		text := ""
		switch v := arg.(type) {
		case string:
			text = v
		case json.Number:
			text = v.String()
		case int:
			text = fmt.Sprint(v)
		case *big.Int:
			if v.BitLen() > 256 {
				return nil, fmt.Errorf("%s: the number is too long", name)
			}
			text = v.String()
		case float64:
			return nil, fmt.Errorf("%s: %v is a binary fraction and not exact; use a decimal string", name, v)
		default:
			return nil, fmt.Errorf("%s: a decimal string is expected, not %s", name, gojq.TypeOf(arg))
		}
		if !decimalForm.MatchString(text) {
			return nil, fmt.Errorf("%s: %.40q is not a decimal such as \"12.50\"", name, text)
		}
		d, err := decimal.NewFromString(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[i] = d
	}
	return out, nil
}

func decimalPlaces(d decimal.Decimal) int32 { return max(-d.Exponent(), 0) }

func places(a, b decimal.Decimal) int32 { return max(decimalPlaces(a), decimalPlaces(b)) }

// decimalText keeps the places that the operands brought: "1.10" and "2.20" make "3.30".
func decimalText(d decimal.Decimal, places int32) any {
	text := d.StringFixed(places)
	if len(text) > strictjson.MaxDigits {
		return fmt.Errorf("%w: a decimal has more than %d digits", ErrLimit, strictjson.MaxDigits)
	}
	return text
}
