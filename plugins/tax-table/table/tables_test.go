package table

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
)

//go:generate go test -run ^TestReadmeListsTheTables . -update
var update = flag.Bool("update", false, "write the coverage table of the README")

// small is a file that is whole; tests break it in one place.
const small = `regime: xx
rules: national
tax: VAT
level: country
rounding: document
rounding_source: default
sources:
  law: {title: Law, url: "https://example.com/law", date: 2020-01-01}
countries:
  - country: DE
    rates:
      - {categories: [standard], kind: standard, rate: "0.10", from: 2020-01-01, until: 2020-12-31, source: law}
      - {categories: [standard], kind: standard, rate: "0.20", from: 2021-01-01, source: law}
      - {categories: [food], kind: zero, rate: "0", from: 2021-01-01, source: law}
`

func TestAFileThatContradictsItselfIsRefused(t *testing.T) {
	if _, err := parse("xx.yaml", []byte(small)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"regime: xx\n", "", "regime is missing"},
		{"rules: national", "rules: own", "rules:"},
		{"rounding: document", "rounding: cent", "rounding:"},
		{"rounding_source: default\n", "", "rounding_source"},
		{"tax: VAT\n", "", "tax and level"},
		{"level: country\n", "level: country\nfreight: free\n", "freight:"},
		{"country: DE", "country: de", "alpha-2"},
		{"2020-12-31", "2021-01-01", "rates[0] and rates[1] overlap from 2021-01-01 on"},
		{", until: 2020-12-31", "", "overlap"},
		{"[food], kind: zero, rate: \"0\", from: 2021-01-01", "[standard], kind: zero, rate: \"0\", from: 2019-01-01, until: 2020-01-01", "overlap from 2020-01-01 on"},
		{"until: 2020-12-31", "until: 2019-12-31", "until:"},
		{"from: 2021-01-01, source: law}\n      - {categories: [food]", "from: 2021-02-30, source: law}\n      - {categories: [food]", "from:"},
		{`"0.20"`, `"20"`, "rate:"},
		{`"0.20"`, `"-0.2"`, "rate:"},
		{`"0.20"`, `"0"`, `kind "standard" with rate`},
		{`kind: zero, rate: "0"`, `kind: zero, rate: "0.05"`, `kind "zero" with rate`},
		{"kind: zero", "kind: nought", `kind "nought"`},
		{"[food]", "[]", "categories"},
		{"[food]", "[food, food]", ""},
		{"[food]", "[reduced-5]", "category reduced-5 has the rate 0"},
		{"source: law}\n      - {categories: [food]", "source: rumour}\n      - {categories: [food]", `"rumour" is not among`},
		{"countries:\n", "  rumour: {title: Rumour, url: \"https://example.com\", date: 2020-01-01}\ncountries:\n", `nothing is from "rumour"`},
		{"date: 2020-01-01}", "date: lately}", "date"},
		{"title: Law, ", "", "title"},
		{"rate: \"0.20\"", "percent: \"0.20\"", "percent"},
		{"rate: \"0.20\"", "base: 12/11, rate: \"0.20\"", "base:"},
		{"rate: \"0.20\"", "rate: \"0.20\", rate: \"0.30\"", "rate"},
		{"rules: national", "rules: states", "states are missing"},
		{"    rates:\n", "    apart:\n      - {name: Island, source: law}\n    rates:\n", "apart needs"},
	} {
		text := strings.Replace(small, c.old, c.new, 1)
		if text == small {
			t.Fatalf("%q is not in the file", c.old)
		}
		_, err := parse("xx.yaml", []byte(text))
		if c.want == "" {
			if err != nil {
				t.Errorf("%q for %q: got %v, want it read", c.new, c.old, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "xx.yaml: ") {
			t.Errorf("%q for %q: got %v, want an error of %q", c.new, c.old, err, c.want)
		}
	}
}

func TestAnOperatorsTablesTakeThePlaceOfShippedOnes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("own.yaml", small)
	e := newEngine(t, sdk.Settings{settingTables: dir})
	for _, c := range []struct{ place, want string }{
		{"DE", "100 + 20 = 120; DE VAT standard 0.2 of 100: 20"},
		{"FR", "100 + 20 = 120; FR VAT standard 0.2 of 100: 20"},
		{"AT", "100 + 20 = 120; AT VAT standard 0.2 of 100: 20"},
	} {
		got, err := e.Estimate(ctx, sale(c.place, c.place, "2026-11-26", "EUR", "100.00 standard"))
		if err != nil || show(got) != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.place, show(got), err, c.want)
		}
	}
	shipped, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if e.tables.Version() == shipped.Version() {
		t.Error("other tables have the shipped version")
	}
	again, err := Load(dir)
	if err != nil || again.Version() != e.tables.Version() {
		t.Errorf("the same tables have version %s, then %s, %v", e.tables.Version(), again.Version(), err)
	}
	write("own.yaml", strings.Replace(small, `"0.20"`, `"0.21"`, 1))
	changed, err := Load(dir)
	if err != nil || changed.Version() == again.Version() {
		t.Errorf("another rate has version %s too, %v", changed.Version(), err)
	}
	write("twice.yaml", small)
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "DE is in own.yaml too") {
		t.Errorf("got %v, want a country in two files refused", err)
	}
}

// A place that a country covers follows it to an operator's file.
func TestMonacoFollowsFrance(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fr.yaml"), []byte(strings.Replace(small, "country: DE", "country: FR", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	tables, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if tables.countries["MC"] != tables.countries["FR"] || tables.countries["FR"].regime.Name != "xx" {
		t.Errorf("MC is %p of %s, FR is %p", tables.countries["MC"], tables.countries["MC"].regime.Name, tables.countries["FR"])
	}
}

func TestRowsTellAllOfATable(t *testing.T) {
	tables, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	rows := tables.Rows()
	for i := range rows {
		r := &rows[i]
		if !strings.Contains(r.Source, "http") || r.From == "" || r.Tax == "" || r.Base.IsZero() {
			t.Errorf("%+v lacks something", r)
		}
		if i > 0 && rows[i-1].key() >= r.key() {
			t.Errorf("%+v is out of order or twice", r)
		}
	}
	rows[0].Country = "ZZ"
	if tables.Rows()[0].Country == "ZZ" {
		t.Error("who changes the rows changes the tables")
	}
	var members int
	for _, code := range tables.codes {
		if tables.countries[code].member() {
			members++
		}
	}
	if members != 27 {
		t.Errorf("the common market has %d members, want 27", members)
	}
}

// coverageTable is the README's list of what is covered, from when and by what source.
func coverageTable(tables *Tables) string {
	var b strings.Builder
	b.WriteString("| place | tax | categories | rate | from | until | source |\n|---|---|---|---|---|---|---|\n")
	for _, code := range tables.codes {
		c := tables.countries[code]
		for i := range c.Rates {
			r := &c.Rates[i]
			if slices.ContainsFunc(c.regime.Common, func(common rateRow) bool { return r.special() && slices.Equal(common.Categories, r.Categories) }) && c.Code != c.regime.Countries[0].Code {
				continue // once for each file
			}
			where := code
			if len(r.States) > 0 {
				where += " " + strings.Join(r.States, " ")
			}
			rate := r.rate.Shift(2).String() + " %"
			if r.Base != "" {
				rate += " of " + r.Base
			}
			s := c.regime.Sources[r.Source]
			date := s.Date
			if s.Undated {
				date = "read " + s.Date
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | [%s](%s), %s |\n", where, r.Tax, strings.Join(r.Categories, ", "), rate, r.From, r.Until, s.Title, s.URL, date)
		}
	}
	return b.String()
}

func TestReadmeListsTheTables(t *testing.T) {
	const name, begin, end = "../README.md", "<!-- coverage: made by make generate -->\n", "<!-- end of coverage -->\n"
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), begin)
	listed, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", name, begin, end)
	}
	tables, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	want := coverageTable(tables)
	if *update {
		if err := os.WriteFile(name, []byte(before+begin+want+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if listed != want {
		t.Errorf("%s lists other tables than are shipped; run `make generate`", name)
	}
}
