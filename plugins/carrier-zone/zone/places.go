package zone

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// place is one line of a list of places: a whole country, a city of it, or postal codes.
type place struct {
	at      strictyaml.Place
	country string
	city    string // normalised; empty: none
	span    *span  // nil: none
}

// span is postal codes by their beginnings: those from lo to hi, and all that begin with hi.
type span struct {
	lo, hi string // normalised, of one length
}

func (s span) end() string { return s.hi + "\xff" } // above every code that begins with hi

func (s span) contains(code string) bool { return s.lo <= code && code < s.end() }

func (s span) String() string {
	if s.lo == s.hi {
		return s.lo
	}
	return s.lo + ".." + s.hi
}

func (p place) String() string {
	switch {
	case p.span != nil:
		return p.country + " " + p.span.String()
	case p.city != "":
		return p.country + " " + p.city
	}
	return p.country
}

// postalCode leaves capitals and digits: 100-0001 and sw1a 1aa are 1000001 and SW1A1AA.
func postalCode(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, strings.ToUpper(norm.NFKC.String(text)))
}

func cityName(text string) string {
	return strings.Join(strings.Fields(strings.ToLower(norm.NFKC.String(text))), " ")
}

func isCountry(code string) bool {
	return len(code) == 2 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// entry is a place and what holds there.
type entry struct {
	place
	value  string
	parent *entry // the narrowest span around this one
}

// rank says how close an entry describes a place: postal codes before cities before
// countries.
func (e *entry) rank() int {
	switch {
	case e.span != nil:
		return 3
	case e.city != "":
		return 2
	}
	return 1
}

// closer compares two entries that both hold for one address, the closer one first. Spans of
// one table lie in each other or apart, so that of two around one code one is the inner.
func closer(a, b *entry) int {
	if byRank := cmp.Compare(b.rank(), a.rank()); byRank != 0 || a.span == nil {
		return byRank
	}
	return cmp.Or(cmp.Compare(b.span.lo, a.span.lo), cmp.Compare(a.span.end(), b.span.end()))
}

// places says what holds where; the most specific entry wins.
type places struct {
	countries map[string]*entry
	cities    map[[2]string]*entry
	spans     map[string][]*entry // by country; from settle on sorted by lo, outer before inner
}

func newPlaces() *places {
	return &places{countries: map[string]*entry{}, cities: map[[2]string]*entry{}, spans: map[string][]*entry{}}
}

// add takes an entry; the error names both places when the same is there.
func (t *places) add(p place, value string) error {
	e := &entry{place: p, value: value}
	var before *entry
	switch {
	case p.span != nil:
		t.spans[p.country] = append(t.spans[p.country], e)
	case p.city != "":
		key := [2]string{p.country, p.city}
		if before = t.cities[key]; before == nil {
			t.cities[key] = e
		}
	default:
		if before = t.countries[p.country]; before == nil {
			t.countries[p.country] = e
		}
	}
	if before != nil {
		return fmt.Errorf("%s: %s stands here and at %s; keep one of them", p.at, p, before.at)
	}
	return nil
}

// settle sorts the spans and finds for each the one around it. Spans that cross are refused,
// as none of the two is the more specific one.
func (t *places) settle() []error {
	var faults []error
	for _, country := range sortedKeys(t.spans) {
		list := t.spans[country]
		slices.SortStableFunc(list, func(a, b *entry) int {
			return cmp.Or(cmp.Compare(a.span.lo, b.span.lo), cmp.Compare(b.span.end(), a.span.end()))
		})
		var around []*entry
		for _, e := range list {
			for len(around) > 0 && around[len(around)-1].span.end() <= e.span.lo {
				around = around[:len(around)-1]
			}
			if len(around) > 0 {
				outer := around[len(around)-1]
				switch {
				case *outer.span == *e.span:
					faults = append(faults, fmt.Errorf("%s: %s stands here and at %s; keep one of them", e.at, e.place, outer.at))
				case e.span.end() > outer.span.end():
					faults = append(faults, fmt.Errorf("%s: %s overlaps %s at %s, and neither lies in the other; cut one of them", e.at, e.place, outer.place, outer.at))
				}
				e.parent = outer
			}
			around = append(around, e)
		}
	}
	return faults
}

// holes finds the countries of which only parts are named.
func (t *places) holes() []error {
	var faults []error
	named := map[string][]*entry{}
	for country, list := range t.spans {
		named[country] = append(named[country], list...)
	}
	for key, e := range t.cities {
		named[key[0]] = append(named[key[0]], e)
	}
	for _, country := range sortedKeys(named) {
		if t.countries[country] != nil {
			continue
		}
		list := named[country]
		slices.SortStableFunc(list, func(a, b *entry) int {
			return cmp.Or(cmp.Compare(a.at.Line, b.at.Line), cmp.Compare(a.place.String(), b.place.String()))
		})
		first, last := list[0], list[len(list)-1]
		faults = append(faults, fmt.Errorf("%s: of %s only parts have a zone, from %s here to %s at %s: say what holds for the rest, with {country: %s} in a zone or in not_served",
			first.at, country, first.place, last.place, last.at, country))
	}
	return faults
}

// find gives the closest entry for an address, or nil.
func (t *places) find(a *sdk.Address) *entry {
	country := strings.ToUpper(strings.TrimSpace(a.Country))
	if code := postalCode(a.PostalCode); code != "" {
		list := t.spans[country]
		after, _ := slices.BinarySearchFunc(list, code, func(e *entry, code string) int {
			if e.span.lo <= code {
				return -1
			}
			return 1
		})
		if after > 0 {
			for e := list[after-1]; e != nil; e = e.parent {
				if e.span.contains(code) {
					return e
				}
			}
		}
	}
	if e := t.cities[[2]string{country, cityName(a.City)}]; e != nil {
		return e
	}
	return t.countries[country]
}

// byCode tells whether postal codes decide in a country.
func (t *places) byCode(country string) bool {
	return len(t.spans[strings.ToUpper(strings.TrimSpace(country))]) > 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
