package wire

import (
	"strings"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

func TestDecimalsAreStrict(t *testing.T) {
	for _, text := range []string{"0", "-0.5", "12.50", "007", "-1", strings.Repeat("9", 18) + "." + strings.Repeat("9", 18)} {
		d, err := sdk.ParseDecimal(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if !d.Equal(decimal.RequireFromString(text)) {
			t.Errorf("%s is read as %s", text, d)
		}
	}
	for _, text := range []string{"", "-", ".", "1.", ".5", "+1", " 1", "1 ", "1e3", "1E-3", "1,5", "1_000", "--1", "1.2.3", "NaN", "Inf", "0x10", "١",
		strings.Repeat("9", 19), "1." + strings.Repeat("0", 19), strings.Repeat("1", 1<<20)} {
		if d, err := sdk.ParseDecimal(text); err == nil {
			t.Errorf("%.40q is read as %s", text, d)
		} else if len(err.Error()) > 256 {
			t.Errorf("%.40q: the error has %d bytes", text, len(err.Error()))
		}
	}
}

func TestDecimalsAreWrittenAsTheyAre(t *testing.T) {
	for want, d := range map[string]decimal.Decimal{
		"12.50": decimal.New(1250, -2), "-0.001": decimal.New(-1, -3), "0": {}, "0.00": decimal.New(0, -2), "1000": decimal.New(1, 3),
	} {
		if got, err := format(d); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for _, d := range []decimal.Decimal{decimal.New(1, 18), decimal.New(1, 1<<30), decimal.New(1, -19), decimal.New(1, -1<<30), decimal.New(1234, 15)} {
		if got, err := format(d); err == nil {
			t.Errorf("%de%d is written as %.40q", d.CoefficientInt64(), d.Exponent(), got)
		}
	}
}

// FuzzDecimal reads any text: what is taken is short, and is the same when it is written
// again.
func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"12.50", "-0", "1e999999999", "", "000.000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := sdk.ParseDecimal(text)
		if err != nil {
			return
		}
		again, err := format(d)
		if err != nil || len(text) > 1+sdk.MaxDigits+1+sdk.MaxDigits {
			t.Fatalf("%q is taken and cannot be written: %v", text, err)
		}
		if back, err := sdk.ParseDecimal(again); err != nil || !back.Equal(d) {
			t.Errorf("%q is written as %q: %v", text, again, err)
		}
	})
}
