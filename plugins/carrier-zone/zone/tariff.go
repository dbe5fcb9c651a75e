package zone

import (
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// tariff is what one file says: the prices from some origins while it is in force.
type tariff struct {
	at       where
	name     string
	currency string
	from     time.Time // the first day
	to       time.Time // the last day; zero: until another is written

	origins    []place
	start      *places // the origins, to look them up
	zones      *places // value: name of the zone; empty: not served
	remote     *places
	services   []*service
	surcharges map[string]*surcharge
}

// service is one way to send, with its prices by zone and weight.
type service struct {
	at       where
	code     string
	name     string
	zones    []string // that it goes to, the columns of the table
	days     []int    // in transit, by column; nil: not known
	saturday bool     // can be delivered then

	unit    string          // of weights
	step    decimal.Decimal // that weights are rounded up to; zero: none
	least   decimal.Decimal // weight that is billed at least
	divisor decimal.Decimal // of the volume; zero: weight alone counts
	length  string          // unit of the volume's edges

	rows    []row
	beyond  *beyond
	minimum decimal.Decimal // price of a shipment before surcharges, at least
	limit   *limit
}

// row is the price of a parcel up to a weight.
type row struct {
	at     where
	upTo   decimal.Decimal
	prices []decimal.Decimal // by column
}

// beyond is what each further step costs above the last row.
type beyond struct {
	at     where
	step   decimal.Decimal
	upTo   decimal.Decimal
	prices []decimal.Decimal
}

// limit is a size: of the longest edge, and of it together with the girth, which is twice the
// sum of the other two. Zero: no such limit.
type limit struct {
	unit    string
	longest decimal.Decimal
	girth   decimal.Decimal
}

// The surcharges, as files name them, in the order in which they are charged.
const (
	surResidential = "residential"
	surRemote      = "remote"
	surOversize    = "oversize"
	surSaturday    = "saturday"
	surSignature   = "signature"
	surCOD         = "cod"
	surInsurance   = "insurance"
	surFuel        = "fuel"
)

var surchargeNames = map[string]string{
	surResidential: "Residential delivery", surRemote: "Remote area", surOversize: "Oversize", surSaturday: "Saturday delivery",
	surSignature: "Signature", surCOD: "Cash on delivery", surInsurance: "Insurance", surFuel: "Fuel",
}

// surcharge is an amount and a percentage together.
type surcharge struct {
	at      where
	amount  decimal.Decimal
	percent decimal.Decimal // of what the kind says: the insured value, the amount to collect, the freight
	minimum decimal.Decimal
	each    bool            // for each parcel, not for the shipment
	of      map[string]bool // of fuel: the surcharges that it is taken of beside the freight
	limit   *limit          // of oversize: what is above it
}

func readTariff(r *reader, text []byte) *tariff {
	body := r.document(text)
	if body == nil {
		return nil
	}
	t := &tariff{start: newPlaces(), zones: newPlaces(), remote: newPlaces(), surcharges: map[string]*surcharge{}}
	r.mapping(body, func(f *fields) {
		t.at = f.at
		t.name = f.text("tariff", true)
		t.currency = f.text("currency", true)
		if t.currency != "" && (len(t.currency) != 3 || strings.Trim(t.currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			r.refuse(f.line("currency"), "currency is %q, and must be an ISO 4217 code such as EUR", t.currency)
		}
		t.from, t.to = f.date("from", true), f.date("to", false)
		if !t.to.IsZero() && t.to.Before(t.from) {
			r.refuse(f.line("to"), "the tariff ends on %s, before it begins on %s; change one of them", t.to.Format(time.DateOnly), t.from.Format(time.DateOnly))
		}
		n, _ := f.need("origins")
		r.list(n, func(item ast.Node) { t.origins = append(t.origins, r.place(item)...) })
		for _, p := range t.origins {
			r.add(t.start, p, "origin")
		}
		r.zones(f, t)
		n, _ = f.need("services")
		r.list(n, func(item ast.Node) { t.services = append(t.services, r.service(item)) })
		if n, _ := f.get("surcharges"); n != nil {
			r.mapping(n, func(f *fields) { r.surcharges(f, t) })
		}
	})
	return t
}

func (r *reader) zones(f *fields, t *tariff) {
	add := func(to *places, item ast.Node, value string) {
		for _, p := range r.place(item) {
			r.add(to, p, value)
		}
	}
	n, _ := f.need("zones")
	r.list(n, func(item ast.Node) {
		r.mapping(item, func(f *fields) {
			name := f.text("zone", true)
			list, _ := f.need("places")
			r.list(list, func(item ast.Node) { add(t.zones, item, name) })
		})
	})
	n, _ = f.get("not_served")
	r.list(n, func(item ast.Node) { add(t.zones, item, "") })
	n, _ = f.get("remote")
	r.list(n, func(item ast.Node) { add(t.remote, item, "remote") })
}

func (r *reader) add(to *places, p place, value string) {
	if err := to.add(p, value); err != nil {
		r.problems = append(r.problems, err.Error())
	}
}

// place reads {country: US}, {country: US, city: [Reno]} or {country: US, postal: [890..893]}.
func (r *reader) place(n ast.Node) []place {
	var out []place
	r.mapping(n, func(f *fields) {
		p := place{at: f.at, country: f.text("country", true)}
		if p.country != "" && !isCountry(p.country) {
			r.refuse(f.at, "country is %q, and must be an ISO 3166 code such as US", p.country)
		}
		for _, text := range f.texts("postal", false) {
			lo, hi, isRange := strings.Cut(text, "..")
			if !isRange {
				hi = lo
			}
			s := span{postalCode(lo), postalCode(hi)}
			if s.lo == "" || len(s.lo) != len(s.hi) || s.hi < s.lo {
				r.refuse(f.at, "postal %q is neither the beginning of codes, such as 902, nor a range of ends of one length, such as 90001..90899", text)
				continue
			}
			out = append(out, place{at: p.at, country: p.country, span: &s})
		}
		for _, text := range f.texts("city", false) {
			if name := cityName(text); name != "" {
				out = append(out, place{at: p.at, country: p.country, city: name})
			}
		}
		if !f.has("postal") && !f.has("city") {
			out = append(out, p)
		}
	})
	return out
}

func (r *reader) service(n ast.Node) *service {
	s := &service{}
	r.mapping(n, func(f *fields) {
		s.at = f.at
		s.code = f.text("code", true)
		s.name = f.text("name", true)
		s.zones = f.texts("zones", true)
		for _, text := range f.texts("days", false) {
			days, err := strconv.Atoi(text)
			if err != nil || days < 1 || days > 365 {
				r.refuse(f.line("days"), "days holds %q, and must hold whole days from 1 to 365, one for each zone", text)
			}
			s.days = append(s.days, days)
		}
		s.saturday = f.flag("saturday")
		s.unit = f.oneOf("unit", sdk.Kilogram, sdk.Gram, sdk.Pound, sdk.Ounce)
		s.step, s.least = f.positive("step", false), f.positive("least", false)
		s.minimum = f.positive("minimum", false)
		if n, _ := f.get("dimensional"); n != nil {
			r.mapping(n, func(f *fields) {
				s.divisor = f.positive("divisor", true)
				s.length = f.oneOf("unit", sdk.Centimetre, sdk.Millimetre, sdk.Inch)
			})
		}
		if n, _ := f.get("limit"); n != nil {
			s.limit = r.limit(n)
		}
		n, _ := f.need("weights")
		r.list(n, func(item ast.Node) {
			r.mapping(item, func(f *fields) {
				prices, _ := f.need("prices")
				s.rows = append(s.rows, row{at: f.at, upTo: f.positive("up_to", true), prices: r.numbers(prices, "a price")})
			})
		})
		if n, _ := f.get("beyond"); n != nil {
			r.mapping(n, func(f *fields) {
				prices, _ := f.need("prices")
				s.beyond = &beyond{at: f.at, step: f.positive("step", true), upTo: f.positive("up_to", true), prices: r.numbers(prices, "a price")}
			})
		}
	})
	return s
}

func (r *reader) limit(n ast.Node) *limit {
	l := &limit{}
	r.mapping(n, func(f *fields) { l = r.limits(f) })
	return l
}

func (r *reader) limits(f *fields) *limit {
	l := &limit{unit: f.oneOf("unit", sdk.Centimetre, sdk.Millimetre, sdk.Inch), longest: f.positive("longest", false), girth: f.positive("length_and_girth", false)}
	if l.longest.IsZero() && l.girth.IsZero() {
		r.refuse(f.at, "a size needs longest, length_and_girth or both")
	}
	return l
}

func (r *reader) surcharges(f *fields, t *tariff) {
	for _, kind := range []string{surResidential, surRemote, surOversize, surSaturday, surSignature, surCOD, surInsurance, surFuel} {
		n, _ := f.get(kind)
		if n == nil {
			continue
		}
		r.mapping(n, func(f *fields) {
			s := &surcharge{at: f.at}
			switch kind {
			case surFuel:
				s.percent = f.positive("percent", true)
				s.of = map[string]bool{}
				for _, other := range f.texts("of", false) {
					if surchargeNames[other] == "" || other == surFuel {
						r.refuse(f.line("of"), "of names %q, and must name other surcharges: %s", other, strings.Join(sortedKeys(surchargeNames), ", "))
					}
					s.of[other] = true
				}
			case surCOD, surInsurance:
				s.amount, s.percent, s.minimum = f.positive("amount", false), f.positive("percent", false), f.positive("minimum", false)
				if s.amount.IsZero() && s.percent.IsZero() {
					r.refuse(f.at, "%s needs an amount, a percent or both", kind)
				}
			default:
				s.amount = f.positive("amount", true)
				s.each = f.oneOf("per", "shipment", "parcel") == "parcel"
				if kind == surOversize {
					s.limit = r.limits(f)
				}
			}
			t.surcharges[kind] = s
		})
	}
}
