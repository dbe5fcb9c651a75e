package zone

import (
	"cmp"
	"regexp"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// maxTableBytes is the size of the largest file of tables.
const maxTableBytes = 8 << 20

// reader takes a tariff apart.
type reader struct{ *strictyaml.Reader }

func newReader(file string) *reader {
	return &reader{strictyaml.New(strictyaml.Config{File: file, Holds: "tariff", MaxBytes: maxTableBytes, TooLarge: "split the tariff by origin"})}
}

// plainNumber leaves out exponents and signs: a table holds 0.45, never 45e-2 nor -1.
var plainNumber = regexp.MustCompile(`^\d{1,12}(\.\d{1,6})?$`)

func (r *reader) number(at strictyaml.Place, what, text string) decimal.Decimal {
	if !plainNumber.MatchString(text) {
		r.Refuse(at, "%s is %q, and must be a plain number such as 12.50", what, text)
		return decimal.Zero
	}
	return decimal.RequireFromString(text)
}

// positive is a number that must not be zero where it is given.
func (r *reader) positive(f *strictyaml.Fields, name string, required bool) decimal.Decimal {
	d := decimal.Zero
	if text := f.Text(name, required); text != "" {
		d = r.number(f.Line(name), "field "+name, text)
	}
	if f.Has(name) && d.IsZero() {
		r.Refuse(f.Line(name), "field %s must be more than zero", name)
	}
	return d
}

func (r *reader) prices(f *strictyaml.Fields) []decimal.Decimal {
	var out []decimal.Decimal
	r.List(f.Need("prices"), func(item strictyaml.Node) {
		if s, ok := r.Scalar(item); ok {
			out = append(out, r.number(r.At(item), "a price", s))
		}
	})
	return out
}

func (r *reader) date(f *strictyaml.Fields, name string, required bool) time.Time {
	text := f.Text(name, required)
	if text == "" {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		r.Refuse(f.Line(name), "field %s is %q, and must be a day such as 2026-01-31", name, text)
	}
	return day
}

// oneOf is a text that must be one of a few; the first where it is missing.
func oneOf(f *strictyaml.Fields, name string, choices ...string) string {
	return cmp.Or(f.OneOf(name, false, choices...), choices[0])
}
