package zone

import (
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// tariff is what one file says: the prices from some origins while it is in force.
type tariff struct {
	at       strictyaml.Place
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
	at       strictyaml.Place
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
	at     strictyaml.Place
	upTo   decimal.Decimal
	prices []decimal.Decimal // by column
}

// beyond is what each further step costs above the last row.
type beyond struct {
	at     strictyaml.Place
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
	at      strictyaml.Place
	amount  decimal.Decimal
	percent decimal.Decimal // of what the kind says: the insured value, the amount to collect, the freight
	minimum decimal.Decimal
	each    bool            // for each parcel, not for the shipment
	of      map[string]bool // of fuel: the surcharges that it is taken of beside the freight
	limit   *limit          // of oversize: what is above it
}

func readTariff(r *reader, text []byte) *tariff {
	body := r.Document(text)
	if body == nil {
		return nil
	}
	t := &tariff{start: newPlaces(), zones: newPlaces(), remote: newPlaces(), surcharges: map[string]*surcharge{}}
	r.Mapping(body, func(f *strictyaml.Fields) {
		t.at = f.At
		t.name = f.Text("tariff", true)
		t.currency = f.Text("currency", true)
		if t.currency != "" && (len(t.currency) != 3 || strings.Trim(t.currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			r.Refuse(f.Line("currency"), "currency is %q, and must be an ISO 4217 code such as EUR", t.currency)
		}
		t.from, t.to = r.date(f, "from", true), r.date(f, "to", false)
		if !t.to.IsZero() && t.to.Before(t.from) {
			r.Refuse(f.Line("to"), "the tariff ends on %s, before it begins on %s; change one of them", t.to.Format(time.DateOnly), t.from.Format(time.DateOnly))
		}
		r.List(f.Need("origins"), func(item strictyaml.Node) { t.origins = append(t.origins, r.place(item)...) })
		for _, p := range t.origins {
			r.add(t.start, p, "origin")
		}
		r.zones(f, t)
		r.List(f.Need("services"), func(item strictyaml.Node) { t.services = append(t.services, r.service(item)) })
		r.Mapping(f.Get("surcharges"), func(f *strictyaml.Fields) { r.surcharges(f, t) })
	})
	return t
}

func (r *reader) zones(f *strictyaml.Fields, t *tariff) {
	add := func(to *places, item strictyaml.Node, value string) {
		for _, p := range r.place(item) {
			r.add(to, p, value)
		}
	}
	r.List(f.Need("zones"), func(item strictyaml.Node) {
		r.Mapping(item, func(f *strictyaml.Fields) {
			name := f.Text("zone", true)
			r.List(f.Need("places"), func(item strictyaml.Node) { add(t.zones, item, name) })
		})
	})
	r.List(f.Get("not_served"), func(item strictyaml.Node) { add(t.zones, item, "") })
	r.List(f.Get("remote"), func(item strictyaml.Node) { add(t.remote, item, "remote") })
}

func (r *reader) add(to *places, p place, value string) {
	if err := to.add(p, value); err != nil {
		r.Problems.Add(err.Error())
	}
}

// place reads {country: US}, {country: US, city: [Reno]} or {country: US, postal: [890..893]}.
func (r *reader) place(n strictyaml.Node) []place {
	var out []place
	r.Mapping(n, func(f *strictyaml.Fields) {
		p := place{at: f.At, country: f.Text("country", true)}
		if p.country != "" && !isCountry(p.country) {
			r.Refuse(f.At, "country is %q, and must be an ISO 3166 code such as US", p.country)
		}
		for _, text := range f.Texts("postal", false) {
			lo, hi, isRange := strings.Cut(text, "..")
			if !isRange {
				hi = lo
			}
			s := span{postalCode(lo), postalCode(hi)}
			if s.lo == "" || len(s.lo) != len(s.hi) || s.hi < s.lo {
				r.Refuse(f.At, "postal %q is neither the beginning of codes, such as 902, nor a range of ends of one length, such as 90001..90899", text)
				continue
			}
			out = append(out, place{at: p.at, country: p.country, span: &s})
		}
		for _, text := range f.Texts("city", false) {
			if name := cityName(text); name != "" {
				out = append(out, place{at: p.at, country: p.country, city: name})
			}
		}
		if !f.Has("postal") && !f.Has("city") {
			out = append(out, p)
		}
	})
	return out
}

func (r *reader) service(n strictyaml.Node) *service {
	s := &service{}
	r.Mapping(n, func(f *strictyaml.Fields) {
		s.at = f.At
		s.code = f.Text("code", true)
		s.name = f.Text("name", true)
		s.zones = f.Texts("zones", true)
		for _, text := range f.Texts("days", false) {
			days, err := strconv.Atoi(text)
			if err != nil || days < 1 || days > 365 {
				r.Refuse(f.Line("days"), "days holds %q, and must hold whole days from 1 to 365, one for each zone", text)
			}
			s.days = append(s.days, days)
		}
		s.saturday = f.Flag("saturday")
		s.unit = oneOf(f, "unit", sdk.Kilogram, sdk.Gram, sdk.Pound, sdk.Ounce)
		s.step, s.least = r.positive(f, "step", false), r.positive(f, "least", false)
		s.minimum = r.positive(f, "minimum", false)
		r.Mapping(f.Get("dimensional"), func(f *strictyaml.Fields) {
			s.divisor = r.positive(f, "divisor", true)
			s.length = oneOf(f, "unit", sdk.Centimetre, sdk.Millimetre, sdk.Inch)
		})
		if n := f.Get("limit"); n != nil {
			s.limit = r.limit(n)
		}
		r.List(f.Need("weights"), func(item strictyaml.Node) {
			r.Mapping(item, func(f *strictyaml.Fields) {
				s.rows = append(s.rows, row{at: f.At, upTo: r.positive(f, "up_to", true), prices: r.prices(f)})
			})
		})
		r.Mapping(f.Get("beyond"), func(f *strictyaml.Fields) {
			s.beyond = &beyond{at: f.At, step: r.positive(f, "step", true), upTo: r.positive(f, "up_to", true), prices: r.prices(f)}
		})
	})
	return s
}

func (r *reader) limit(n strictyaml.Node) *limit {
	l := &limit{}
	r.Mapping(n, func(f *strictyaml.Fields) { l = r.limits(f) })
	return l
}

func (r *reader) limits(f *strictyaml.Fields) *limit {
	l := &limit{unit: oneOf(f, "unit", sdk.Centimetre, sdk.Millimetre, sdk.Inch), longest: r.positive(f, "longest", false), girth: r.positive(f, "length_and_girth", false)}
	if l.longest.IsZero() && l.girth.IsZero() {
		r.Refuse(f.At, "a size needs longest, length_and_girth or both")
	}
	return l
}

func (r *reader) surcharges(f *strictyaml.Fields, t *tariff) {
	for _, kind := range []string{surResidential, surRemote, surOversize, surSaturday, surSignature, surCOD, surInsurance, surFuel} {
		r.Mapping(f.Get(kind), func(f *strictyaml.Fields) {
			s := &surcharge{at: f.At}
			switch kind {
			case surFuel:
				s.percent = r.positive(f, "percent", true)
				s.of = map[string]bool{}
				for _, other := range f.Texts("of", false) {
					if surchargeNames[other] == "" || other == surFuel {
						r.Refuse(f.Line("of"), "of names %q, and must name other surcharges: %s", other, strings.Join(sortedKeys(surchargeNames), ", "))
					}
					s.of[other] = true
				}
			case surCOD, surInsurance:
				s.amount, s.percent, s.minimum = r.positive(f, "amount", false), r.positive(f, "percent", false), r.positive(f, "minimum", false)
				if s.amount.IsZero() && s.percent.IsZero() {
					r.Refuse(f.At, "%s needs an amount, a percent or both", kind)
				}
			default:
				s.amount = r.positive(f, "amount", true)
				s.each = oneOf(f, "per", "shipment", "parcel") == "parcel"
				if kind == surOversize {
					s.limit = r.limits(f)
				}
			}
			t.surcharges[kind] = s
		})
	}
}
