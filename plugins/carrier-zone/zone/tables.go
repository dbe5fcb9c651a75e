package zone

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// maxTableFiles is how many files a directory of tables may hold.
const maxTableFiles = 1000

// tables are all tariffs of a directory.
type tables struct {
	version string // hash of the files
	tariffs []*tariff
}

// loadTables reads a directory of tariffs. It takes all of them or none.
func loadTables(dir string) (*tables, error) {
	files, err := tableFiles(dir)
	if err != nil {
		return nil, err
	}
	hash, out := sha256.New(), &tables{}
	var problems strictyaml.Problems
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(hash, "%d %s %d\n%s", len(name), name, len(text), text)
		r := newReader(name)
		t := readTariff(r, text)
		if t != nil && r.Problems.None() {
			r.Problems.Add(checkTariff(t)...)
		}
		problems.Join(&r.Problems)
		if t != nil {
			out.tariffs = append(out.tariffs, t)
		}
	}
	if problems.None() {
		problems.Add(checkTogether(out.tariffs)...)
	}
	if err := problems.Err(); err != nil {
		return nil, err
	}
	out.version = "tables-" + hex.EncodeToString(hash.Sum(nil))[:16]
	return out, nil
}

// tableFiles names the files of a directory. What is no table is refused rather than passed
// over, for it may be one with a wrong name.
func tableFiles(dir string) ([]string, error) {
	list, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range list {
		name := f.Name()
		switch {
		case strings.HasPrefix(name, "."), strings.HasPrefix(name, "README"):
		case f.IsDir(), filepath.Ext(name) != ".yaml":
			return nil, fmt.Errorf("%s is no table: their names end in .yaml, and they stand in no directory of their own; rename it or take it away", filepath.Join(dir, name))
		default:
			out = append(out, name)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no file that ends in .yaml; put the tariffs there", dir)
	}
	if len(out) > maxTableFiles {
		return nil, fmt.Errorf("%s holds %d files, more than %d; take old ones away", dir, len(out), maxTableFiles)
	}
	return out, nil
}

// checkTariff finds what does not fit together in one file.
func checkTariff(t *tariff) []string {
	var out []string
	tell := func(at strictyaml.Place, format string, args ...any) {
		out = append(out, at.String()+": "+fmt.Sprintf(format, args...))
	}
	for _, faults := range [][]error{t.start.settle(), t.zones.settle(), t.remote.settle(), t.zones.holes()} {
		for _, err := range faults {
			out = append(out, err.Error())
		}
	}
	if len(t.origins) == 0 {
		tell(t.at, "origins is empty; name the places that the tariff is for")
	}
	if len(t.services) == 0 {
		tell(t.at, "services is empty; add one")
	}
	if len(t.remote.countries)+len(t.remote.cities)+len(t.remote.spans) > 0 && t.surcharges[surRemote] == nil {
		tell(t.at, "places are remote, and there is no surcharge remote; add it")
	}
	gone := map[string]bool{} // zones that a service goes to
	codes := map[string]strictyaml.Place{}
	for _, s := range t.services {
		if first, twice := codes[s.code]; twice {
			tell(s.at, "service %s stands here and at %s; rename one", s.code, first)
		} else {
			codes[s.code] = s.at
		}
		for _, z := range s.zones {
			gone[z] = true
		}
		out = append(out, checkService(s)...)
	}
	named := t.zoneNames()
	for _, name := range sortedKeys(named) {
		if name != "" && !gone[name] {
			tell(named[name], "no service goes to zone %s; add it to a service, or put its places in not_served", name)
		}
	}
	for _, s := range t.services {
		for _, z := range s.zones {
			if _, known := named[z]; !known {
				tell(s.at, "service %s goes to zone %s, which has no places; add it to zones", s.code, z)
			}
		}
	}
	return out
}

// zoneNames are the zones with the first place of each.
func (t *tariff) zoneNames() map[string]strictyaml.Place {
	out := map[string]strictyaml.Place{}
	note := func(e *entry) {
		if first, known := out[e.value]; !known || e.at.Line < first.Line {
			out[e.value] = e.at
		}
	}
	for _, e := range t.zones.countries {
		note(e)
	}
	for _, e := range t.zones.cities {
		note(e)
	}
	for _, list := range t.zones.spans {
		for _, e := range list {
			note(e)
		}
	}
	return out
}

func checkService(s *service) []string {
	var out []string
	tell := func(at strictyaml.Place, format string, args ...any) {
		out = append(out, at.String()+": "+fmt.Sprintf(format, args...))
	}
	if len(s.zones) == 0 || len(s.rows) == 0 {
		tell(s.at, "service %s needs zones and weights", s.code)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(s.zones)))) != len(s.zones) {
		tell(s.at, "service %s names a zone twice; keep one", s.code)
	}
	if s.days != nil && len(s.days) != len(s.zones) {
		tell(s.at, "service %s has %d days for %d zones; give one for each", s.code, len(s.days), len(s.zones))
	}
	for i, r := range s.rows {
		if len(r.prices) != len(s.zones) {
			tell(r.at, "%d prices for the %d zones of service %s at %s; give one for each", len(r.prices), len(s.zones), s.code, s.at)
			continue
		}
		if i == 0 {
			continue
		}
		before := s.rows[i-1]
		if r.upTo.LessThanOrEqual(before.upTo) {
			tell(r.at, "weights up to %s overlap those up to %s at %s; sort them", r.upTo, before.upTo, before.at)
		}
		for c := range min(len(before.prices), len(r.prices)) {
			if r.prices[c].LessThan(before.prices[c]) {
				tell(r.at, "to zone %s up to %s costs %s, less than %s up to %s at %s; is one mistyped?",
					s.zones[c], r.upTo, r.prices[c], before.prices[c], before.upTo, before.at)
			}
		}
	}
	if b := s.beyond; b != nil && len(s.rows) > 0 {
		last := s.rows[len(s.rows)-1]
		if len(b.prices) != len(s.zones) {
			tell(b.at, "%d prices for the %d zones of service %s at %s; give one for each", len(b.prices), len(s.zones), s.code, s.at)
		}
		if b.upTo.LessThanOrEqual(last.upTo) {
			tell(b.at, "beyond goes up to %s, and the weights at %s go up to %s already; raise it or leave beyond out", b.upTo, last.at, last.upTo)
		}
	}
	return out
}

// checkTogether finds what does not fit between the files: a tariff's periods follow each
// other day by day, and a place belongs to one tariff at a time.
func checkTogether(list []*tariff) []string {
	var out []string
	sorted := slices.Clone(list)
	slices.SortStableFunc(sorted, func(a, b *tariff) int {
		return cmp.Or(cmp.Compare(a.name, b.name), a.from.Compare(b.from))
	})
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[i-1], sorted[i]
		if a.name != b.name {
			continue
		}
		switch next := a.to.AddDate(0, 0, 1); {
		case a.to.IsZero():
			out = append(out, fmt.Sprintf("%s: tariff %s has no end and overlaps the one from %s at %s; add to: %s",
				a.at, a.name, day(b.from), b.at, day(b.from.AddDate(0, 0, -1))))
		case next.After(b.from):
			out = append(out, fmt.Sprintf("%s: tariff %s up to %s overlaps the one from %s at %s; end it the day before",
				a.at, a.name, day(a.to), day(b.from), b.at))
		case next.Before(b.from):
			out = append(out, fmt.Sprintf("%s: tariff %s ends on %s, and the next begins on %s at %s: nothing holds between; close the hole",
				a.at, a.name, day(a.to), day(b.from), b.at))
		}
	}
	for i, a := range sorted {
		for _, b := range sorted[i+1:] {
			if a.name != b.name && a.meets(b) {
				out = append(out, checkOrigins(a, b)...)
			}
		}
	}
	return out
}

// checkOrigins finds origins that two tariffs of one time both name.
func checkOrigins(a, b *tariff) []string {
	var out []string
	both := newPlaces()
	for _, t := range []*tariff{a, b} {
		for _, p := range t.origins {
			if err := both.add(p, t.name); err != nil {
				out = append(out, "origins: "+err.Error())
			}
		}
	}
	for _, err := range both.settle() {
		out = append(out, "origins: "+err.Error())
	}
	return out
}

func day(t time.Time) string { return t.Format(time.DateOnly) }

// meets tells whether there is a day on which both are in force.
func (t *tariff) meets(other *tariff) bool {
	return (t.to.IsZero() || !t.to.Before(other.from)) && (other.to.IsZero() || !other.to.Before(t.from))
}

func (t *tariff) inForce(date time.Time) bool {
	return !date.Before(t.from) && (t.to.IsZero() || !date.After(t.to))
}

// choose finds the tariff for what leaves a place on a day, or nil: of those in force the one
// that names the place most closely.
func (t *tables) choose(from *sdk.Address, date time.Time) *tariff {
	var best *tariff
	var closest *entry
	for _, candidate := range t.tariffs {
		if !candidate.inForce(date) {
			continue
		}
		if e := candidate.start.find(from); e != nil && (closest == nil || closer(e, closest) < 0) {
			best, closest = candidate, e
		}
	}
	return best
}
