package zone

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// small is a whole tariff; tests change a line of it.
const small = `tariff: t
currency: EUR
from: 2026-01-01
to: 2026-06-30
origins:
  - {country: DE}
zones:
  - zone: a
    places:
      - {country: DE, postal: [10..19]}
      - {country: DE, city: [Köln]}
  - zone: b
    places:
      - {country: DE}
remote:
  - {country: DE, postal: [185]}
services:
  - code: s
    name: S
    zones: [a, b]
    weights:
      - {up_to: 1, prices: [1, 2]}
      - {up_to: 5, prices: [3, 4]}
surcharges:
  remote: {amount: 5}
`

// later is small in the second half of the year.
var later = strings.NewReplacer("from: 2026-01-01", "from: 2026-07-01", "to: 2026-06-30\n", "").Replace(small)

func filesOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSmallTariffLoads(t *testing.T) {
	got := must[*tables](t)(loadTables(filesOf(t, map[string]string{"a.yaml": small, "b.yaml": later, "README.md": "x", ".hidden": "x"})))
	if len(got.tariffs) != 2 {
		t.Errorf("loaded %d tariffs", len(got.tariffs))
	}
}

func TestWhatIsWrongInATableIsNamed(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"currency: EUR", "currency: EUR\nfule: 3", "a.yaml:3: unknown field fule; known here are currency, from"},
		{"currency: EUR\n", "", "a.yaml:1: field currency is missing"},
		{"currency: EUR", "currency: Euro", `a.yaml:2: currency is "Euro"`},
		{"currency: EUR", "currency: EUR\ncurrency: USD", "a.yaml:3: field currency stands twice, first in line 2"},
		{"currency: EUR", "currency:", "a.yaml:2: field currency is empty"},
		{"currency: EUR", "currency: [EUR]", "a.yaml:2: a plain value is wanted"},
		{"currency: EUR", "currency: &c EUR", "a.yaml:2: a plain value is wanted"},
		{"from: 2026-01-01", "from: 1.1.2026", `a.yaml:3: field from is "1.1.2026"`},
		{"from: 2026-01-01", "from: 2026-07-01", "a.yaml:4: the tariff ends on 2026-06-30, before it begins on 2026-07-01"},
		{"  - {country: DE}\nzones", "  - {country: Germany}\nzones", `a.yaml:6: country is "Germany"`},
		{"  - {country: DE}\nzones", "  []\nzones", "origins is empty"},
		{"[10..19]", "[10..1]", `a.yaml:10: postal "10..1" is neither`},
		{"[10..19]", "[19..10]", `a.yaml:10: postal "19..10" is neither`},
		{"[10..19]", "['']", `a.yaml:10: postal "" is neither`},
		{"[10..19]", "10", "a.yaml:10: a list is wanted"},
		{"[10..19]", "[10..19, 15..25]", "a.yaml:10: DE 15..25 overlaps DE 10..19 at a.yaml:10"},
		{"      - {country: DE}\nremote", "      - {country: DE, postal: [15..25]}\n      - {country: DE}\nremote", "a.yaml:14: DE 15..25 overlaps DE 10..19 at a.yaml:10"},
		{"      - {country: DE}\nremote", "      - {country: DE, postal: [10..19]}\n      - {country: DE}\nremote", "a.yaml:14: DE 10..19 stands here and at a.yaml:10"},
		{"      - {country: DE}\nremote", "      - {country: DE}\n      - {country: DE}\nremote", "a.yaml:15: DE stands here and at a.yaml:14"},
		{"      - {country: DE}\nremote", "      - {country: DE, city: [köln]}\n      - {country: DE}\nremote", "a.yaml:14: DE köln stands here and at a.yaml:11"},
		{"      - {country: DE}\nremote", "      - {country: AT}\nremote", "a.yaml:10: of DE only parts have a zone, from DE 10..19 here to DE köln at a.yaml:11"},
		{"  - zone: b", "  - zone: c", "a.yaml:14: no service goes to zone c"},
		{"zones: [a, b]", "zones: [a, z]", "a.yaml:18: service s goes to zone z, which has no places"},
		{"zones: [a, b]", "zones: [a, a]", "a.yaml:18: service s names a zone twice"},
		{"zones: [a, b]", "zones: [a, b]\n    days: [1]", "service s has 1 days for 2 zones"},
		{"zones: [a, b]", "zones: [a, b]\n    days: [1, soon]", `a.yaml:21: days holds "soon"`},
		{"zones: [a, b]", "zones: [a, b]\n    unit: stone", `a.yaml:21: field unit is "stone"`},
		{"zones: [a, b]", "zones: [a, b]\n    saturday: maybe", `a.yaml:21: field saturday is "maybe"`},
		{"zones: [a, b]", "zones: [a, b]\n    step: 0", "a.yaml:21: field step must be more than zero"},
		{"zones: [a, b]", "zones: [a, b]\n    dimensional: {unit: cm}", "a.yaml:21: field divisor is missing"},
		{"zones: [a, b]", "zones: [a, b]\n    limit: {unit: cm}", "a.yaml:21: a size needs longest"},
		{"zones: [a, b]", "zones: [a, b]\n    beyond: {step: 1, up_to: 4, prices: [1, 1]}", "a.yaml:21: beyond goes up to 4, and the weights at a.yaml:24 go up to 5"},
		{"zones: [a, b]", "zones: [a, b]\n    beyond: {step: 1, up_to: 9, prices: [1]}", "a.yaml:21: 1 prices for the 2 zones of service s at a.yaml:18"},
		{"prices: [1, 2]", "prices: [1]", "a.yaml:22: 1 prices for the 2 zones of service s at a.yaml:18"},
		{"prices: [1, 2]", "prices: [1, -2]", `a.yaml:22: a price is "-2"`},
		{"prices: [1, 2]", "prices: [1, 1e9]", `a.yaml:22: a price is "1e9"`},
		{"prices: [1, 2]", "prices: [1, 0x10]", `a.yaml:22: a price is "0x10"`},
		{"prices: [1, 2]", "prices: [1, 5]", "a.yaml:23: to zone b up to 5 costs 4, less than 5 up to 1 at a.yaml:22"},
		{"up_to: 5", "up_to: 1", "a.yaml:23: weights up to 1 overlap those up to 1 at a.yaml:22"},
		{"surcharges:\n  remote: {amount: 5}\n", "", "places are remote, and there is no surcharge"},
		{"remote: {amount: 5}", "remote: {amount: 5}\n  fuel: {percent: 3, of: [tax]}", `a.yaml:26: of names "tax"`},
		{"remote: {amount: 5}", "remote: {amount: 5}\n  cod: {minimum: 3}", "a.yaml:26: cod needs an amount"},
		{"remote: {amount: 5}", "remote: {amount: 5}\n  oversize: {amount: 3}", "a.yaml:26: a size needs longest"},
		{"remote: {amount: 5}", "remote: {amount: 5, percent: 3}", "a.yaml:25: unknown field percent"},
		{"tariff: t", "---\na: b\n---\ntariff: t", "a.yaml:1: the file holds 2 documents"},
		{"tariff: t", "tariff: 't", "a.yaml:"},
		{"zones: [a, b]", "zones: " + strings.Repeat("[", 20) + strings.Repeat("]", 20), "nested deeper"},
		{small, "", "a.yaml:1: the file holds 0 documents"},
		{small, "- a\n", "a.yaml:1: a mapping is wanted here"},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Fatalf("%q is not in the tariff", c.old)
		}
		_, err := loadTables(filesOf(t, map[string]string{"a.yaml": text}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q:\n%v\nwant %s", c.new, err, c.want)
		}
	}
}

func TestFilesFitTogether(t *testing.T) {
	other := strings.NewReplacer("tariff: t", "tariff: u").Replace(small)
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"hole":         {map[string]string{"a.yaml": small, "b.yaml": strings.Replace(later, "07-01", "07-02", 1)}, "a.yaml:1: tariff t ends on 2026-06-30, and the next begins on 2026-07-02 at b.yaml:1"},
		"overlap":      {map[string]string{"a.yaml": small, "b.yaml": strings.Replace(later, "07-01", "06-30", 1)}, "a.yaml:1: tariff t up to 2026-06-30 overlaps the one from 2026-06-30 at b.yaml:1"},
		"no end":       {map[string]string{"a.yaml": strings.Replace(small, "to: 2026-06-30\n", "", 1), "b.yaml": later}, "a.yaml:1: tariff t has no end and overlaps the one from 2026-07-01 at b.yaml:1; add to: 2026-06-30"},
		"two origins":  {map[string]string{"a.yaml": small, "b.yaml": other}, "origins: b.yaml:6: DE stands here and at a.yaml:6"},
		"no files":     {map[string]string{"README.md": "x"}, "holds no file that ends in .yaml"},
		"another name": {map[string]string{"a.yaml": small, "b.yml": later}, "b.yml is no table"},
	} {
		if _, err := loadTables(filesOf(t, c.files)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s:\n%v\nwant %s", name, err, c.want)
		}
	}
	apart := strings.Replace(other, "- {country: DE}\nzones", "- {country: DE, postal: [80..87]}\nzones", 1)
	got := must[*tables](t)(loadTables(filesOf(t, map[string]string{"a.yaml": small, "b.yaml": apart, "c.yaml": later})))
	for _, c := range []struct{ postal, date, want string }{
		{"81241", "2026-03-01", "u"}, {"10115", "2026-03-01", "t"}, {"81241", "2026-06-30", "u"}, {"81241", "2026-07-01", "t"}, {"10115", "2025-12-31", ""},
	} {
		date := must[time.Time](t)(time.Parse(time.DateOnly, c.date))
		name := ""
		if found := got.choose(&sdk.Address{Country: "DE", PostalCode: c.postal}, date); found != nil {
			name = found.name
		}
		if name != c.want {
			t.Errorf("from %s on %s: tariff %q, want %q", c.postal, c.date, name, c.want)
		}
	}
}

func TestTheMostSpecificPlaceWins(t *testing.T) {
	table := newPlaces()
	for i, p := range []struct{ country, city, lo, hi, value string }{
		{"US", "", "", "", "country"}, {"US", "Las Vegas", "", "", "city"}, {"US", "", "890", "898", "range"}, {"US", "", "891", "891", "prefix"},
		{"US", "", "89101", "89109", "codes"}, {"US", "", "9", "9", "west"}, {"GB", "", "SW1A", "SW1A", "palace"}, {"JP", "", "100", "100", "tokyo"}, {"US", "", "8", "8", "eight"},
	} {
		e := place{at: strictyaml.Place{File: "x", Line: i}, country: p.country, city: cityName(p.city)}
		if p.lo != "" {
			e.span = &span{p.lo, p.hi}
		}
		if err := table.add(e, p.value); err != nil {
			t.Fatal(err)
		}
	}
	if faults := table.settle(); faults != nil {
		t.Fatal(faults)
	}
	for _, c := range []struct{ country, city, postal, want string }{
		{"US", "Miami", "33101", "country"}, {"US", "LAS  vegas", "33101", "city"}, {"us", "Las Vegas", "89011", "range"},
		{"US", "", "89199", "prefix"}, {"US", "", "89105-1234", "codes"}, {"US", "", "89109", "codes"}, {"US", "", "89110", "prefix"},
		{"US", "", "8999", "eight"}, {"US", "", "89", "eight"}, {"US", "", "90210", "west"}, {"US", "", "", "country"}, {"GB", "", "sw1a 1aa", "palace"},
		{"JP", "", "１００-0001", "tokyo"}, {"FR", "Paris", "75001", ""},
	} {
		got := ""
		if e := table.find(&sdk.Address{Country: c.country, City: c.city, PostalCode: c.postal}); e != nil {
			got = e.value
		}
		if got != c.want {
			t.Errorf("%s %s %s: %q, want %q", c.country, c.city, c.postal, got, c.want)
		}
	}
}

func TestLoadingIsDeterministic(t *testing.T) {
	first := must[*tables](t)(loadTables("testdata/tables"))
	bad := strings.Replace(small, "  - {country: DE}\nzones", "  - {country: DE}\n  - {country: DE}\nzones", 1)
	bad = strings.Replace(bad, "      - {country: DE}\nremote", "      - {country: AT, city: [Wien, Linz, Graz]}\n      - {country: CH, city: [Bern, Basel]}\nremote", 1)
	dir := filesOf(t, map[string]string{"a.yaml": bad, "b.yaml": bad})
	_, fault := loadTables(dir)
	for range 20 {
		if again := must[*tables](t)(loadTables("testdata/tables")); !reflect.DeepEqual(first, again) {
			t.Fatal("the same files were loaded as other tables")
		}
		if _, again := loadTables(dir); fmt.Sprint(again) != fmt.Sprint(fault) {
			t.Fatalf("the same faults were told as\n%v\nand as\n%v", fault, again)
		}
	}
	text := must[[]byte](t)(os.ReadFile("testdata/tables/eu-2026.yaml"))
	changed := must[*tables](t)(loadTables(filesOf(t, map[string]string{"eu-2026.yaml": string(text) + "\n"})))
	same := must[*tables](t)(loadTables(filesOf(t, map[string]string{"eu-2026.yaml": string(text)})))
	if changed.version == same.version || same.version == first.version {
		t.Errorf("other files have the same version: %s, %s, %s", first.version, same.version, changed.version)
	}
}

// FuzzTables feeds the loader what an editor may leave in a file.
func FuzzTables(f *testing.F) {
	f.Add(small)
	for _, name := range []string{"na-2026.yaml", "eu-2026.yaml", "apac-2026.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", "tables", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := newReader("a.yaml")
		got := readTariff(r, []byte(text))
		if got == nil && r.Problems.None() {
			t.Fatal("no tariff and no reason")
		}
		if got == nil || !r.Problems.None() {
			return
		}
		if checkTariff(got) == nil && checkTogether([]*tariff{got}) == nil {
			got.zones.find(&sdk.Address{Country: "DE", PostalCode: "10115"})
		}
	})
}
