package checkdigit_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/plugins/sdk/checkdigit"
)

// published are numbers that stand as examples in public documents.
var published = []struct {
	kind   checkdigit.Kind
	number string
}{
	{checkdigit.GTIN13, "6291041500213"},    // GS1, how to calculate a check digit manually
	{checkdigit.GTIN13, "4006381333931"},    // Wikipedia, International Article Number
	{checkdigit.GTIN8, "73513537"},          // Wikipedia, EAN-8
	{checkdigit.GTIN8, "96385074"},          // Wikipedia, EAN-8
	{checkdigit.GTIN12, "036000291452"},     // Wikipedia, Universal Product Code
	{checkdigit.GTIN14, "10614141000415"},   // GS1 EPC Tag Data Standard
	{checkdigit.SSCC, "106141412345678908"}, // GS1 EPC Tag Data Standard
	{checkdigit.GLN, "0614141123452"},       // GS1 EPC Tag Data Standard
	{checkdigit.S10, "RR473124829FI"},       // the serial number of Wikipedia, S10 (UPU standard)
}

func TestPublishedNumbersHold(t *testing.T) {
	for _, p := range published {
		if err := checkdigit.Check(p.kind, p.number); err != nil {
			t.Errorf("%s %s: %v", p.kind, p.number, err)
		}
		got, err := checkdigit.Complete(p.kind, without(p.kind, p.number))
		if err != nil || got != p.number {
			t.Errorf("%s %s without its check digit became %q, %v", p.kind, p.number, got, err)
		}
	}
}

func without(kind checkdigit.Kind, number string) string {
	if kind == checkdigit.S10 {
		return number[:10] + number[11:]
	}
	return number[:len(number)-1]
}

func TestOneWrongDigitIsFound(t *testing.T) {
	for _, p := range published {
		for i := range p.number {
			for digit := byte('0'); digit <= '9'; digit++ {
				if p.number[i] == digit || p.number[i] > '9' {
					continue
				}
				wrong := p.number[:i] + string(digit) + p.number[i+1:]
				if checkdigit.Check(p.kind, wrong) == nil {
					t.Errorf("%s %s was taken for %s", p.kind, wrong, p.number)
				}
			}
		}
	}
}

func TestS10RestsThatAreNoDigits(t *testing.T) {
	for body, want := range map[string]string{
		"RA00000000SE": "RA000000005SE", // 11 becomes 5
		"RA00005001SE": "RA000050015SE", // likewise: 15 and 7 are 22
		"RA02000000SE": "RA020000000SE", // 10 becomes 0
		"RA10000000SE": "RA100000003SE",
	} {
		if got, err := checkdigit.Complete(checkdigit.S10, body); err != nil || got != want {
			t.Errorf("%s became %q, %v; want %s", body, got, err, want)
		}
	}
}

func TestWrongFormIsRefused(t *testing.T) {
	for _, c := range []struct {
		kind   checkdigit.Kind
		number string
	}{
		{checkdigit.SSCC, ""}, {checkdigit.SSCC, "10614141234567890"}, {checkdigit.SSCC, "1061414123456789080"},
		{checkdigit.SSCC, "10614141234567890x"}, {checkdigit.SSCC, "１06141412345678"}, {checkdigit.GLN, "061414112345 "},
		{checkdigit.S10, "rr473124829fi"}, {checkdigit.S10, "RR4731248290I"}, {checkdigit.S10, "R"}, {checkdigit.S10, "1R473124829FI"},
		{"ISBN", "9780306406157"},
	} {
		if err := checkdigit.Check(c.kind, c.number); err == nil {
			t.Errorf("%s %q was accepted", c.kind, c.number)
		}
		if got, err := checkdigit.Complete(c.kind, c.number+"xx"); err == nil {
			t.Errorf("%s %q was completed to %q", c.kind, c.number+"xx", got)
		}
	}
	if _, err := checkdigit.Mod10(""); err == nil {
		t.Error("no digits at all have a check digit")
	}
}

func TestWhatIsCompletedIsAccepted(t *testing.T) {
	sizes := map[checkdigit.Kind]int{checkdigit.SSCC: 17, checkdigit.GTIN8: 7, checkdigit.GTIN12: 11, checkdigit.GTIN13: 12, checkdigit.GTIN14: 13, checkdigit.GLN: 12}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]checkdigit.Kind{checkdigit.SSCC, checkdigit.GTIN8, checkdigit.GTIN12, checkdigit.GTIN13,
			checkdigit.GTIN14, checkdigit.GLN, checkdigit.S10}).Draw(t, "kind")
		draw := func(n int) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom(strings.Split("0123456789", "")), n, n).Draw(t, "digits"), "")
		}
		body := ""
		if kind == checkdigit.S10 {
			body = "RA" + draw(8) + "SE"
		} else {
			body = draw(sizes[kind])
		}
		number, err := checkdigit.Complete(kind, body)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkdigit.Check(kind, number); err != nil {
			t.Fatal(err)
		}
	})
}
