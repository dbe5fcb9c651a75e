package table

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Categories of the tables themselves, which no line may name.
const (
	export         = "export"
	intraCommunity = "intra-community"
)

// The rules by which places decide, as a file's rules names them.
const (
	rulesEU       = "eu"       // a common market: acquisitions and distance sales between its members
	rulesNational = "national" // a country by itself
	rulesStates   = "states"   // as national, and the state decides on the rate
)

// Rounding of a regime or of the setting.
const (
	roundLine     = "line"
	roundDocument = "document"
)

// regime is one file: countries that share rules.
type regime struct {
	Name           string            `yaml:"regime"`
	Rules          string            `yaml:"rules"`
	Tax            string            `yaml:"tax"`   // of rows and countries that name none
	Level          string            `yaml:"level"` // likewise
	Rounding       string            `yaml:"rounding"`
	RoundingSource string            `yaml:"rounding_source"`
	Freight        string            `yaml:"freight"` // goods: takes the rate of what is sent; empty: unknown
	FreightSource  string            `yaml:"freight_source"`
	RulesSources   []string          `yaml:"rules_sources"` // what the rules are from
	Sources        map[string]source `yaml:"sources"`
	Common         []rateRow         `yaml:"common"` // rows of every country
	Countries      []country         `yaml:"countries"`
}

// source is what a row was read from.
type source struct {
	Title   string `yaml:"title"`
	URL     string `yaml:"url"`
	Date    string `yaml:"date"`
	Undated bool   `yaml:"undated"` // the page bears no date: Date is when it was read
}

func (s source) String() string {
	if s.Undated {
		return fmt.Sprintf("%s, read %s, %s", s.Title, s.Date, s.URL)
	}
	return fmt.Sprintf("%s, %s, %s", s.Title, s.Date, s.URL)
}

type country struct {
	Code    string            `yaml:"country"`
	Also    []string          `yaml:"also"` // codes of places that this country's tax covers
	Tax     string            `yaml:"tax"`
	Note    string            `yaml:"note"`
	Missing map[string]string `yaml:"missing"` // category: why the table lacks it
	Apart   []apart           `yaml:"apart"`
	Partial string            `yaml:"partial"` // taxes beside those of the states, which the table does not know
	Whole   []whole           `yaml:"whole"`   // states that have none of those
	Rates   []rateRow         `yaml:"rates"`

	regime *regime
}

// apart is a part of a country with taxes of its own, which the table does not know.
type apart struct {
	Name   string   `yaml:"name"`
	States []string `yaml:"states"`
	Postal []string `yaml:"postal"` // beginnings of postal codes
	Source string   `yaml:"source"`
}

// whole are states whose taxes the table knows wholly.
type whole struct {
	States []string `yaml:"states"`
	Source string   `yaml:"source"`
}

type rateRow struct {
	States     []string `yaml:"states"` // empty: the whole country
	Tax        string   `yaml:"tax"`
	Level      string   `yaml:"level"`
	Categories []string `yaml:"categories"`
	Kind       string   `yaml:"kind"`
	Rate       string   `yaml:"rate"`
	Base       string   `yaml:"base"`  // part of the price that is taxed, such as 11/12; empty: all
	From       string   `yaml:"from"`  // first day
	Until      string   `yaml:"until"` // last day; empty: no end is known
	Source     string   `yaml:"source"`
	Note       string   `yaml:"note"`

	rate      decimal.Decimal
	base      decimal.Decimal
	effective decimal.Decimal // rate of the whole price
}

func (r *rateRow) holds(date string) bool {
	return r.From <= date && (r.Until == "" || date <= r.Until)
}

func (r *rateRow) in(state string) bool {
	return len(r.States) == 0 || slices.Contains(r.States, state)
}

func (r *rateRow) special() bool {
	return slices.Contains(r.Categories, export) || slices.Contains(r.Categories, intraCommunity)
}

// parse reads one file and checks that nothing in it contradicts itself.
func parse(name string, text []byte) (*regime, error) {
	r := new(regime)
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	if err := d.Decode(r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func (r *regime) check() error {
	switch {
	case r.Name == "":
		return errors.New("regime is missing")
	case !slices.Contains([]string{rulesEU, rulesNational, rulesStates}, r.Rules):
		return fmt.Errorf("rules: %q is none of eu, national, states", r.Rules)
	case r.Rounding != roundLine && r.Rounding != roundDocument:
		return fmt.Errorf("rounding: %q is neither line nor document", r.Rounding)
	case r.RoundingSource == "":
		return errors.New("rounding_source is missing: say where the rounding is from, or that it is a default")
	case r.Freight != "" && r.Freight != "goods":
		return fmt.Errorf("freight: %q is not goods", r.Freight)
	case r.Tax == "" || r.Level == "":
		return errors.New("tax and level are needed")
	case len(r.Countries) == 0:
		return errors.New("there are no countries")
	}
	used := map[string]bool{}
	if r.Freight != "" {
		used[r.FreightSource] = true
	}
	for _, key := range r.RulesSources {
		used[key] = true
	}
	for i := range r.Countries {
		c := &r.Countries[i]
		c.regime = r
		if c.Tax == "" {
			c.Tax = r.Tax
		}
		c.Rates = append(slices.Clone(r.Common), c.Rates...)
		if err := c.check(used); err != nil {
			return fmt.Errorf("country %s: %w", c.Code, err)
		}
	}
	return r.checkSources(used)
}

func (r *regime) checkSources(used map[string]bool) error {
	for key := range used {
		if _, known := r.Sources[key]; !known {
			return fmt.Errorf("source %q is not among the sources", key)
		}
	}
	for key, s := range r.Sources {
		switch {
		case !used[key]:
			return fmt.Errorf("sources: nothing is from %q", key)
		case s.Title == "" || !strings.HasPrefix(s.URL, "http"):
			return fmt.Errorf("sources: %s needs a title and a url", key)
		case !isDate(s.Date):
			return fmt.Errorf("sources: %s: date %q is none", key, s.Date)
		}
	}
	return nil
}

func (c *country) check(used map[string]bool) error {
	for _, code := range append([]string{c.Code}, c.Also...) {
		if len(code) != 2 || strings.ToUpper(code) != code {
			return fmt.Errorf("%q is no ISO 3166-1 alpha-2 code", code)
		}
	}
	if len(c.Rates) == 0 {
		return errors.New("there are no rates")
	}
	for _, a := range c.Apart {
		if a.Name == "" || len(a.States)+len(a.Postal) == 0 {
			return errors.New("apart needs a name, and states or postal codes")
		}
		used[a.Source] = true
	}
	if c.Partial != "" && c.regime.Rules != rulesStates || c.Partial == "" && len(c.Whole) > 0 {
		return errors.New("partial is for the rules states, and whole for a country that has it")
	}
	for _, w := range c.Whole {
		if len(w.States) == 0 {
			return errors.New("whole needs states")
		}
		used[w.Source] = true
	}
	for i := range c.Rates {
		row := &c.Rates[i]
		if row.Tax == "" {
			row.Tax = c.Tax
		}
		if row.Level == "" {
			row.Level = c.regime.Level
		}
		if err := row.check(); err != nil {
			return fmt.Errorf("rates[%d]: %w", i, err)
		}
		if c.regime.Rules == rulesStates && len(row.States) == 0 && !row.special() {
			return fmt.Errorf("rates[%d]: states are missing", i)
		}
		used[row.Source] = true
	}
	return c.overlaps()
}

func (r *rateRow) check() error {
	var err error
	if r.rate, err = decimal.NewFromString(r.Rate); err != nil || r.rate.IsNegative() || r.rate.GreaterThanOrEqual(decimal.NewFromInt(1)) {
		return fmt.Errorf("rate: %q is none from 0 to less than 1", r.Rate)
	}
	if r.base, err = fraction(r.Base); err != nil {
		return err
	}
	r.effective = r.rate.Mul(r.base).Round(effectiveDigits)
	free := []string{tax.KindZero, tax.KindExempt, tax.KindReverse, tax.KindExport, tax.KindOutside}
	switch {
	case r.rate.IsZero() != slices.Contains(free, r.Kind):
		return fmt.Errorf("kind %q with rate %s", r.Kind, r.Rate)
	case !r.rate.IsZero() && r.Kind != tax.KindStandard && r.Kind != tax.KindReduced:
		return fmt.Errorf("kind: %q is unknown", r.Kind)
	case len(r.Categories) == 0 || slices.Contains(r.Categories, ""):
		return errors.New("categories are missing")
	case !isDate(r.From):
		return fmt.Errorf("from: %q is no date", r.From)
	case r.Until != "" && (!isDate(r.Until) || r.Until < r.From):
		return fmt.Errorf("until: %q is no date from %s on", r.Until, r.From)
	}
	for _, category := range r.Categories {
		percent, named := strings.CutPrefix(category, "reduced-")
		if named && percent != r.rate.Shift(2).String() {
			return fmt.Errorf("category %s has the rate %s", category, r.Rate)
		}
	}
	return nil
}

// overlaps refuses two rates for the same thing on the same day.
func (c *country) overlaps() error {
	for i := range c.Rates {
		for j := range c.Rates[:i] {
			a, b := &c.Rates[i], &c.Rates[j]
			if a.Tax != b.Tax || !intersect(a.Categories, b.Categories) || !a.meets(b) {
				continue
			}
			if (a.Until == "" || b.From <= a.Until) && (b.Until == "" || a.From <= b.Until) {
				return fmt.Errorf("rates[%d] and rates[%d] overlap from %s on for %s", j, i, max(a.From, b.From), strings.Join(a.Categories, ", "))
			}
		}
	}
	return nil
}

func (r *rateRow) meets(other *rateRow) bool {
	return len(r.States) == 0 || len(other.States) == 0 || intersect(r.States, other.States)
}

func intersect(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// effectiveDigits are the decimals of a rate times its base.
const effectiveDigits = 12

func fraction(text string) (decimal.Decimal, error) {
	if text == "" {
		return decimal.NewFromInt(1), nil
	}
	above, below, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(above, 10, 32)
	d, err2 := strconv.ParseUint(below, 10, 32)
	if err != nil || err2 != nil || n == 0 || n > d {
		return decimal.Decimal{}, fmt.Errorf("base: %q is no fraction such as 11/12", text)
	}
	return decimal.NewFromUint64(n).DivRound(decimal.NewFromUint64(d), 2*effectiveDigits), nil
}

func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}
