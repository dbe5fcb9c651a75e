package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"

	"github.com/crossdock/crossdock/protocol/serial"
)

// The formats of number ranges.
const (
	FormatSSCC  = "sscc"  // GS1 serial shipping container code: 18 digits, the last a check digit
	FormatS10   = "s10"   // postal item of the Universal Postal Union: RR123456785GB
	FormatPlain = "plain" // a prefix and a serial, and a check digit if wanted
)

// Limits on number ranges.
const (
	MaxRanges     = 500
	MaxRangeBlock = 1_000_000
	maxHourly     = 1_000_000_000
	maxLowBlocks  = 20 // low is at most so many blocks: a site leases block after block until it has more
	ssccDigits    = 16 // of company prefix and serial
	s10Digits     = 8
)

// NumberRange is a range of serial numbers. Sites lease blocks of it, and give single numbers
// while they are cut off.
type NumberRange struct {
	Meta
	Owner  string
	Format string
	Span   serial.Span
	Sites  []string // that may take from it
	Block  uint64   // how many a site leases at a time
	Low    uint64   // a site with fewer left leases more, and raises an alarm where it cannot
	Hourly uint64   // most that all sites lease in an hour, fixed with the range; 0: not said
}

var (
	companyForm   = regexp.MustCompile(`^[0-9]{4,12}$`)
	extensionForm = regexp.MustCompile(`^[0-9]$`)
	twoLetters    = regexp.MustCompile(`^[A-Z]{2}$`)
	prefixForm    = regexp.MustCompile(`^[A-Za-z0-9-]{1,20}$`)
	digitsForm    = regexp.MustCompile(`^[0-9]+$`)
	serialForm    = regexp.MustCompile(`^[0-9]{1,20}$`)
)

func (c *compiler) numberRange(meta Meta, o *object) {
	r := &NumberRange{Meta: meta, Owner: o.owner()}
	format := o.required("format", "sscc, s10 or plain")
	r.Format = o.oneOf("format", "", FormatSSCC, FormatS10, FormatPlain)
	r.Span.Form = c.form(r.Format, o)
	from, to := o.serial("from", "the first serial, such as 1"), o.serial("to", "the last serial")
	r.Span.First, r.Span.Last = from.number, to.number
	sites := o.texts("sites")
	if len(sites) == 0 {
		o.missing(o.get("sites"), "name the sites that may take from it")
	}
	r.Sites = strs(sites)
	block := o.required("block", "how many numbers a site leases at a time, such as 1000")
	r.Block = uint64(o.integer("block", 1, 1, MaxRangeBlock))
	r.Low = uint64(o.integer("low", int(r.Block+1)/2, 1, maxLowBlocks*MaxRangeBlock))
	if block.set && r.Low > maxLowBlocks*r.Block {
		c.errorAt(o.get("low").place, "raise block", "low of %s is more than %d blocks", o.what, maxLowBlocks)
	}
	if hourly := o.get("hourly"); hourly.set {
		r.Hourly = uint64(o.integer("hourly", 0, 1, maxHourly))
		if block.set && r.Hourly < r.Block {
			c.errorAt(hourly.place, "raise hourly, or lower block", "hourly of %s is less than a block", o.what)
		}
	}
	c.set.Ranges[r.Name] = r
	at := format.place
	if from.set {
		at = from.place
	}
	c.ranges[r.Name] = at
	if r.Span.Form.Digits == 0 || !from.set || !to.set {
		r.Span = serial.Span{} // reported; nothing is compared with it
	} else if fault := r.Span.Fault(); fault != "" {
		c.errorAt(from.place, "", "%s has %s", o.what, fault)
		r.Span = serial.Span{}
	}
	c.after(func() {
		for _, f := range sites {
			if _, ok := c.set.Sites[f.str()]; !ok {
				c.unknown(f, "site", slices.Sorted(maps.Keys(c.set.Sites)))
			}
		}
	})
}

// form reads what stands around the serial. Each format has fields of its own; without one
// that is known, none of them is reported.
func (c *compiler) form(format string, o *object) serial.Form {
	// take reads a text of some form; what cannot be read makes no form at all.
	good := true
	take := func(f field, form *regexp.Regexp, hint string) string {
		if f.set && !form.MatchString(f.str()) {
			c.errorAt(f.place, hint, "%s %s in %s cannot be used", f.name, quoted(f.str()), o.what)
			f.set = false
		}
		good = good && f.set
		return f.str()
	}
	var form serial.Form
	switch format {
	case FormatSSCC:
		const companyHint, extensionHint = "the GS1 company prefix: 4 to 12 digits", "one digit"
		company := take(o.required("companyPrefix", companyHint), companyForm, companyHint)
		extension := take(o.required("extension", extensionHint), extensionForm, extensionHint)
		form = serial.Form{Lead: extension + company, Digits: ssccDigits - len(company), Check: serial.CheckMod10}
	case FormatS10:
		const serviceHint, countryHint = "the service indicator: two capital letters, such as RR", "the country of the post: two capital letters, such as DE"
		form = serial.Form{Lead: take(o.required("service", serviceHint), twoLetters, serviceHint), Digits: s10Digits, Check: serial.CheckS10,
			Trail: take(o.required("country", countryHint), twoLetters, countryHint)}
	case FormatPlain:
		o.required("width", "how many digits the serial has")
		form = serial.Form{Digits: o.integer("width", 0, 1, serial.MaxDigits), Check: o.oneOf("check", serial.CheckNone, serial.CheckNone, serial.CheckMod10)}
		if prefix := o.text("prefix"); prefix.set {
			form.Lead = take(prefix, prefixForm, "letters, digits and -, at most 20")
			if good && form.Check == serial.CheckMod10 && !digitsForm.MatchString(form.Lead) {
				c.errorAt(prefix.place, "use digits only, or check: none", "prefix %s in %s has no check digit", quoted(form.Lead), o.what)
				good = false
			}
		}
	default:
		for _, name := range []string{"companyPrefix", "extension", "service", "country", "prefix", "width", "check"} {
			o.get(name)
		}
		good = false
	}
	if !good {
		return serial.Form{}
	}
	return form
}

// serialField is a serial number that a document names.
type serialField struct {
	field
	number uint64
}

// serial reads a serial, which may have more digits than other numbers.
func (o *object) serial(name, hint string) serialField {
	f := serialField{field: o.required(name, hint)}
	o.note(name).Type = "serial"
	if !f.set {
		return f
	}
	var err error
	if f.number, err = strconv.ParseUint(f.str(), 10, 64); err != nil || !serialForm.MatchString(f.str()) {
		o.c.errorAt(f.place, hint, "%s in %s is no serial", name, o.what)
		f.set = false
	}
	return f
}

// checkRanges refuses ranges that could make the same number.
func (c *compiler) checkRanges() {
	names := slices.Sorted(maps.Keys(c.set.Ranges))
	if len(names) > MaxRanges {
		c.errorAt(c.ranges[names[MaxRanges]], "", "the policy has more than %d number ranges", MaxRanges)
		return
	}
	for i, name := range names {
		for _, other := range names[:i] {
			a, b := c.set.Ranges[name].Span, c.set.Ranges[other].Span
			if a.Last == 0 || b.Last == 0 || !serial.Cross(a, b) {
				continue
			}
			c.errorAt(c.ranges[name], "give them serials that do not cross, or another form", "range %s could make numbers of range %s, in %s:%d",
				name, other, c.ranges[other].file, c.ranges[other].line)
			break
		}
		if c.problems.full() {
			return
		}
	}
}

// RangesAt lists the number ranges that a site may take from, by name.
func (s *Set) RangesAt(site string) (out []*NumberRange) {
	for _, name := range slices.Sorted(maps.Keys(s.Ranges)) {
		if slices.Contains(s.Ranges[name].Sites, site) {
			out = append(out, s.Ranges[name])
		}
	}
	return out
}

// Reissue is a number range that a bundle changes so that numbers could be given twice.
type Reissue struct{ Range, Field, From, To string }

func (r Reissue) String() string {
	return fmt.Sprintf("range %s has %s %s, and would have %s: numbers that were given could be given again; of a range only the end (to) changes, anything else is a new range with a name of its own",
		r.Range, r.Field, orNone(r.From), orNone(r.To))
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

// fixedInRange are the fields that decide which numbers a range makes, with what they are when
// they are not written.
var fixedInRange = []struct{ name, absent string }{
	{"format", ""}, {"companyPrefix", ""}, {"extension", ""}, {"service", ""}, {"country", ""}, {"prefix", ""}, {"width", ""}, {"check", serial.CheckNone},
	{"from", ""},
}

// Reissued lists the ranges of both bundles that the second changes in another way than at
// their end; whether they may end so early is known where they are leased. Like Diff it
// compares bundles that do not compile, too.
func Reissued(oldB, newB Bundle) (out []Reissue) {
	before, after := flatten(oldB), flatten(newB)
	for _, id := range union(before, after) {
		a, had := before[id]
		b, has := after[id]
		if id[0] != "NumberRange" || !had || !has {
			continue
		}
		for _, f := range fixedInRange {
			if from, to := fixedValue(a, f.name, f.absent), fixedValue(b, f.name, f.absent); from != to {
				out = append(out, Reissue{Range: id[1], Field: f.name, From: from, To: to})
			}
		}
	}
	return out
}

// fixedValue gives a field so that what means the same is the same.
func fixedValue(fields map[string]string, name, absent string) string {
	text, ok := fields["spec."+name]
	if !ok {
		text = absent
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && (name == "from" || name == "width") {
		return strconv.FormatUint(n, 10)
	}
	return text
}
