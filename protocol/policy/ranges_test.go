package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/serial"
)

// ranged is the good policy with number ranges, written as the fields of their spec.
func ranged(t *testing.T, specs map[string]string) Bundle {
	t.Helper()
	b := good(t)
	for name, spec := range specs {
		b["range-"+name+".yaml"] = fmt.Appendf(nil, "apiVersion: crossdock/v1\nkind: NumberRange\nmetadata: {name: %s}\nspec: {owner: logistics, sites: [porto], block: 100, %s}\n", name, spec)
	}
	return b
}

func TestNumberRanges(t *testing.T) {
	set, problems := Compile(ranged(t, map[string]string{
		"pallets": `format: sscc, companyPrefix: 0614141, extension: 3, from: 000001, to: 999999999`,
		"parcels": `format: s10, service: RR, country: DE, from: 1, to: 5000, low: 20`,
		"bins":    `format: plain, prefix: WH1-, width: 4, from: 1, to: 9999`,
		"totes":   `format: plain, prefix: 77, width: 18, check: mod10, from: 123456789012345678, to: 999999999999999999`,
	}))
	if set == nil || len(problems) > 0 {
		t.Fatal(problems.Error())
	}
	want := map[string]serial.Span{
		"pallets": {Form: serial.Form{Lead: "30614141", Digits: 9, Check: "mod10"}, First: 1, Last: 999_999_999},
		"parcels": {Form: serial.Form{Lead: "RR", Digits: 8, Check: "s10", Trail: "DE"}, First: 1, Last: 5000},
		"bins":    {Form: serial.Form{Lead: "WH1-", Digits: 4, Check: "none"}, First: 1, Last: 9999},
		"totes":   {Form: serial.Form{Lead: "77", Digits: 18, Check: "mod10"}, First: 123456789012345678, Last: 999999999999999999},
	}
	for name, span := range want {
		if r := set.Ranges[name]; r == nil || r.Span != span || r.Block != 100 || r.Owner != "logistics" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if set.Ranges["bins"].Low != 50 || set.Ranges["parcels"].Low != 20 {
		t.Error("low is not half of a block where it is not written")
	}
	var names []string
	for _, r := range set.RangesAt("porto") {
		names = append(names, r.Name)
	}
	if !slices.Equal(names, []string{"bins", "pallets", "parcels", "totes"}) || set.RangesAt("hq") != nil {
		t.Errorf("at porto %q, at hq %v", names, set.RangesAt("hq"))
	}
}

func TestTooManyRanges(t *testing.T) {
	specs := map[string]string{}
	for i := range MaxRanges + 1 {
		specs[fmt.Sprint("r", i)] = fmt.Sprintf("format: plain, prefix: P%d-, width: 4, from: 1, to: 9", i)
	}
	if set, problems := Compile(ranged(t, specs)); set != nil || !strings.Contains(problems.Error(), "more than 500 number ranges") {
		t.Error(problems.Error())
	}
}

// A range changes at its end only.
func TestReissued(t *testing.T) {
	const before = `format: plain, prefix: A, width: 4, from: 10, to: 0900`
	for spec, want := range map[string]string{
		before: "",
		`format: plain, prefix: A, width: 04, check: none, from: "10", to: 900, low: 7, block: 3`: "",
		`format: plain, prefix: A, width: 4, from: 10, to: 1000`:                                  "",
		`format: plain, prefix: A, width: 4, from: 10, to: 899`:                                   "", // whether that is too early is known where it is leased
		`format: plain, prefix: A, width: 4, from: 11, to: 900`:                                   "from",
		`format: plain, prefix: A, width: 4, from: 9, to: 900`:                                    "from",
		`format: plain, prefix: B, width: 4, from: 10, to: 900`:                                   "prefix",
		`format: plain, width: 4, from: 10, to: 900`:                                              "prefix",
		`format: plain, prefix: A, width: 5, from: 10, to: 900`:                                   "width",
		`format: plain, prefix: A, width: 4, check: mod10, from: 10, to: 900`:                     "check",
		`format: sscc, companyPrefix: 0614141, extension: 1, from: 10, to: 900`:                   "format companyPrefix extension prefix width",
	} {
		var got []string
		for _, r := range Reissued(ranged(t, map[string]string{"r": before}), ranged(t, map[string]string{"r": strings.Replace(spec, ", block: 3", "", 1)})) {
			if r.Range != "r" || !strings.Contains(r.String(), "a new range") {
				t.Errorf("%s: %+v", spec, r)
			}
			got = append(got, r.Field)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: changed %q, want %q", spec, got, want)
		}
	}
	if got := Reissued(ranged(t, map[string]string{"r": before}), ranged(t, map[string]string{"s": before})); got != nil {
		t.Errorf("another name: %v", got)
	}
}
