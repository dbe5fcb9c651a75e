// Package taxid knows what tax numbers look like: their formats and check digits.
//
// It owns the rules of each country's numbers, and refuses to ask anybody whose they are. Its
// invariant: a number is invalid only where a rule says so; without a rule it is unknown.
package taxid

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kinds of numbers.
const (
	VAT = "vat"
	GST = "gst"
	QST = "qst"
	TIN = "tin" // general tax number, where there is no other for the tax on sales
)

// NorthernIreland is the country code under which numbers of Northern Ireland stand in the
// European Union.
const NorthernIreland = "XI"

// Status is what a number is.
type Status int

// The statuses.
const (
	Unknown Status = iota
	Valid
	Invalid
)

// How deep a look was.
const (
	Format   = "format"
	Checksum = "checksum"
)

// Verdict is what is known of a number.
type Verdict struct {
	Country string // ISO 3166-1 alpha-2, or XI
	Kind    string
	Number  string // in full, as documents print it, without separators
	Status  Status
	Checked string // format, or checksum; empty: nothing was
	Message string
}

// outcome is what a check digit says.
type outcome int

const (
	good outcome = iota
	bad
	none // numbers of this form have no check digit that is known
)

func when(ok bool) outcome {
	if ok {
		return good
	}
	return bad
}

// rule is one kind of number of a country.
type rule struct {
	kinds    []string // names it goes by; the first is the one to use
	prefixes []string // that may stand in front; the first is part of the number in full
	suffixes []string // likewise behind, and no part of the number
	form     *regexp.Regexp
	pad      int // digits that shorter old numbers are filled up to with zeros in front
	check    func(number string) outcome
	says     string // the form, for people
}

// maxNumber is the longest number that is looked at, in bytes.
const maxNumber = 64

// Check looks at a number. An empty kind is the country's own for the tax on sales.
func Check(country, kind, number string) Verdict {
	country, kind = strings.ToUpper(country), strings.ToLower(kind)
	if country == "EL" {
		country = "GR"
	}
	v := Verdict{Country: country, Kind: kind, Number: number}
	of := rules[country]
	if kind != "" {
		of = slices.DeleteFunc(slices.Clone(of), func(r rule) bool { return !slices.Contains(r.kinds, kind) })
	}
	if len(of) == 0 {
		v.Message = fmt.Sprintf("no rule is known for numbers of kind %q of %q", kind, country)
		return v
	}
	for i := range of {
		if of[i].look(&v, number); v.Status == Valid {
			return v
		}
	}
	return v
}

var separators = strings.NewReplacer(" ", "", ".", "", "-", "", "/", "", ",", "", ":", "", "(", "", ")", "", "\u00a0", "")

func (r *rule) look(v *Verdict, number string) {
	if len(number) > maxNumber {
		number = number[:maxNumber]
	}
	body := separators.Replace(strings.ToUpper(number))
	for _, prefix := range r.prefixes {
		if rest, cut := strings.CutPrefix(body, prefix); cut {
			body = rest
			break
		}
	}
	for _, suffix := range r.suffixes {
		if rest, cut := strings.CutSuffix(body, suffix); cut {
			body = rest
			break
		}
	}
	if short := r.pad - len(body); short > 0 && short <= 1 {
		body = strings.Repeat("0", short) + body
	}
	v.Kind, v.Number, v.Checked, v.Message = r.kinds[0], body, Format, ""
	if len(r.prefixes) > 0 {
		v.Number = r.prefixes[0] + body
	}
	if !r.form.MatchString(body) {
		v.Status, v.Message = Invalid, fmt.Sprintf("a number of %s is %s", v.Country, r.says)
		return
	}
	result := none
	if r.check != nil {
		result = r.check(body)
	}
	switch result {
	case none:
		v.Status = Valid
	case good:
		v.Status, v.Checked = Valid, Checksum
	case bad:
		v.Status, v.Checked, v.Message = Invalid, Checksum, "the check digit does not fit: a digit is wrong or two are swapped"
	}
}

// digit is the value of a decimal digit.
func digit(s string, i int) int { return int(s[i] - '0') }

// weighted adds up digits times weights.
func weighted(s string, weights ...int) int {
	sum := 0
	for i, w := range weights {
		sum += digit(s, i) * w
	}
	return sum
}

// falling adds up digits times weights that fall from first by one.
func falling(s string, first int) int {
	sum := 0
	for i := range len(s) {
		sum += digit(s, i) * (first - i)
	}
	return sum
}

// luhn is the sum of digits of which every second from the right but one is doubled (ISO/IEC 7812).
func luhn(s string) int {
	sum := 0
	for i := range len(s) {
		d := digit(s, len(s)-1-i)
		if i%2 == 1 {
			d = d*2/10 + d*2%10
		}
		sum += d
	}
	return sum % 10
}

// mod1110 is the check of ISO/IEC 7064 Mod 11,10; a number with its check digit has 1.
func mod1110(s string) int {
	check := 5
	for i := range len(s) {
		if check == 0 {
			check = 10
		}
		check = (check*2%11 + digit(s, i)) % 10
	}
	return check
}

// modulo is the number's remainder.
func modulo(s string, m int) int {
	rest := 0
	for i := range len(s) {
		rest = (rest*10 + digit(s, i)) % m
	}
	return rest
}
