package table

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

//go:embed data/*.yaml
var shipped embed.FS

// Tables are rates by country and date. They do not change once loaded.
type Tables struct {
	version   string
	countries map[string]*country // by code; also by those of places that a country covers
	codes     []string            // of countries, in order
}

// Row is one rate for one category in one place, with its source.
type Row struct {
	Country  string
	State    string // empty: all of the country
	Tax      string
	Level    string
	Category string
	Kind     string
	Rate     decimal.Decimal
	Base     decimal.Decimal // part of the price that is taxed; 1: all of it
	From     string          // 2006-01-02, first day
	Until    string          // last day; empty: no end is known
	Source   string          // title, date and address
	Note     string
}

// Load reads the tables that are shipped, and those of a directory of the operator's, which
// take the place of the shipped ones of the same country. An empty directory name is none.
func Load(dir string) (*Tables, error) {
	t := &Tables{countries: map[string]*country{}}
	sum := sha256.New()
	sub, err := fs.Sub(shipped, "data")
	if err != nil {
		return nil, err
	}
	if err := t.add(sub, "", func(b []byte) { sum.Write(b) }); err != nil {
		return nil, err
	}
	if dir != "" {
		if err := t.add(os.DirFS(dir), dir, func(b []byte) { sum.Write(b) }); err != nil {
			return nil, err
		}
	}
	for code, c := range t.countries {
		if code == c.Code {
			t.codes = append(t.codes, code)
		}
	}
	slices.Sort(t.codes)
	t.version = hex.EncodeToString(sum.Sum(nil)[:8])
	return t, nil
}

// add reads the files of one place. No country may stand in two of them.
func (t *Tables) add(files fs.FS, dir string, hash func([]byte)) error {
	names, err := fs.Glob(files, "*.yaml")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%s holds no *.yaml file", dir)
	}
	from := map[string]string{}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		hash([]byte(name))
		hash(text)
		r, err := parse(path.Join(dir, name), text)
		if err != nil {
			return err
		}
		for i := range r.Countries {
			c := &r.Countries[i]
			for _, code := range append([]string{c.Code}, c.Also...) {
				if other, twice := from[code]; twice {
					return fmt.Errorf("%s: %s is in %s too", name, code, other)
				}
				from[code] = name
			}
			t.put(c)
		}
	}
	return nil
}

// put sets a country, in place of one of the same code and wherever that one stood.
func (t *Tables) put(c *country) {
	for code, old := range t.countries {
		if old.Code == c.Code {
			t.countries[code] = c
		}
	}
	for _, code := range append([]string{c.Code}, c.Also...) {
		t.countries[code] = c
	}
}

// Version names the data: the same files have the same version.
func (t *Tables) Version() string { return t.version }

// Rows are all rates, in order of country, state, tax, category and date.
func (t *Tables) Rows() []Row {
	var rows []Row
	for _, code := range t.codes {
		c := t.countries[code]
		for i := range c.Rates {
			r := &c.Rates[i]
			states := r.States
			if len(states) == 0 {
				states = []string{""}
			}
			for _, state := range states {
				for _, category := range r.Categories {
					rows = append(rows, Row{code, state, r.Tax, r.Level, category, r.Kind, r.rate, r.base, r.From, r.Until,
						c.regime.Sources[r.Source].String(), r.Note})
				}
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return strings.Compare(a.key(), b.key())
	})
	return rows
}

func (r *Row) key() string {
	return strings.Join([]string{r.Country, r.State, r.Tax, r.Category, r.From}, "\x00")
}

// coverage is what the tables say of themselves.
func (t *Tables) coverage() []tax.Coverage {
	var out []tax.Coverage
	for _, code := range t.codes {
		c := t.countries[code]
		seen := map[[2]string]bool{}
		for i := range c.Rates {
			r := &c.Rates[i]
			states := r.States
			if len(states) == 0 {
				states = []string{""}
			}
			for _, state := range states {
				if key := [2]string{state, r.Tax}; !r.special() && !seen[key] {
					seen[key] = true
					out = append(out, tax.Coverage{Country: code, State: state, Tax: r.Tax, Note: c.noteOf(state)})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b tax.Coverage) int {
		return strings.Compare(a.Country+"\x00"+a.State+"\x00"+a.Tax, b.Country+"\x00"+b.State+"\x00"+b.Tax)
	})
	return out
}

// noteOf is what is not covered in a state; empty: of the whole country.
func (c *country) noteOf(state string) string {
	if c.partial(state) {
		return "state rate only, without " + c.Partial
	}
	return c.Note
}

// partial tells whether taxes are levied in a state that the table does not know.
func (c *country) partial(state string) bool {
	return c.Partial != "" && !slices.ContainsFunc(c.Whole, func(w whole) bool { return slices.Contains(w.States, state) })
}

// member tells whether the country is of the common market.
func (c *country) member() bool { return c != nil && c.regime.Rules == rulesEU }

// find looks up what holds for a category on a day: one row of each tax of the place, or why
// there is none.
func (c *country) find(state, category, date string) ([]*rateRow, string) {
	var names []string
	rows := map[string]*rateRow{}
	elsewhen := map[string]bool{}
	for i := range c.Rates {
		r := &c.Rates[i]
		wanted := slices.Contains(r.Categories, category)
		if r.special() != (category == export || category == intraCommunity) || !r.in(state) {
			continue
		}
		if !slices.Contains(names, r.Tax) {
			names = append(names, r.Tax)
		}
		switch {
		case wanted && r.holds(date):
			rows[r.Tax] = r
		case wanted:
			elsewhen[r.Tax] = true
		}
	}
	if len(names) == 0 {
		return nil, c.lacks(category, "has no rates of "+place(c.Code, state))
	}
	var found []*rateRow
	for _, name := range names {
		switch r := rows[name]; {
		case r != nil:
			found = append(found, r)
		case elsewhen[name]:
			return nil, fmt.Sprintf("the table has no %s of %s for category %s on %s, only for other dates", name, place(c.Code, state), category, date)
		default:
			return nil, c.lacks(category, fmt.Sprintf("has no %s of %s for category %s", name, place(c.Code, state), category))
		}
	}
	return found, ""
}

func (c *country) lacks(category, otherwise string) string {
	if why := c.Missing[category]; why != "" {
		return fmt.Sprintf("%s: %s", c.Code, why)
	}
	return "the table " + otherwise
}

func place(code, state string) string {
	if state == "" {
		return code
	}
	return code + "-" + state
}
