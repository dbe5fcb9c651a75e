package zone

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Rate prices a shipment with every service that takes it, the cheapest first.
func (c *Carrier) Rate(ctx context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	j, err := look(s, c.now())
	if err != nil {
		return nil, err
	}
	return c.rates(j)
}

func (c *Carrier) rates(j *job) (*carrier.Rates, error) {
	t, zone, err := c.tariffOf(j)
	if err != nil {
		return nil, err
	}
	out := &carrier.Rates{Warnings: slices.Clone(j.warnings)}
	var refusals []string
	known := false
	for _, s := range t.services {
		if j.s.Service != "" && j.s.Service != s.code {
			continue
		}
		known = true
		b, refusal := t.price(s, zone, j)
		if b == nil {
			refusals = append(refusals, s.code+" "+refusal)
			continue
		}
		out.Rates = append(out.Rates, c.rate(t, s, zone, b, j))
	}
	if !known {
		return nil, sdk.Errorf(sdk.Validation, "there is no service %q", cut(j.s.Service)).At("service").Suggest("one of " + strings.Join(t.codes(), ", "))
	}
	if len(out.Rates) == 0 {
		return nil, sdk.Errorf(sdk.NotServiced, "no service takes it: %s", strings.Join(refusals, "; "))
	}
	slices.SortStableFunc(out.Rates, func(a, b carrier.Rate) int {
		return cmp.Or(a.Total.Amount.Cmp(b.Total.Amount), cmp.Compare(a.Service, b.Service))
	})
	if slices.ContainsFunc(out.Rates, func(r carrier.Rate) bool { return r.Estimate }) {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: "dimensions", Message: "a parcel without dimensions is priced by its weight; a large one costs more", Field: "parcels"})
	}
	return out, nil
}

func (t *tariff) codes() []string {
	var out []string
	for _, s := range t.services {
		out = append(out, s.code)
	}
	return out
}

// tariffOf finds the tariff in force and the zone of the recipient.
func (c *Carrier) tariffOf(j *job) (*tariff, string, error) {
	t := c.tables.choose(&j.s.From, j.date)
	if t == nil {
		return nil, "", sdk.Errorf(sdk.NotServiced, "no tariff holds on %s for what leaves %s %s", day(j.date), cut(j.s.From.Country), cut(j.s.From.PostalCode)).
			At("from").Suggest("add a tariff with that origin and date to the tables")
	}
	if t.zones.byCode(j.s.To.Country) && postalCode(j.s.To.PostalCode) == "" {
		return nil, "", sdk.Errorf(sdk.Validation, "the zone in %s depends on the postal code", cut(j.s.To.Country)).At("to.postalCode").Suggest("give it")
	}
	e := t.zones.find(&j.s.To)
	if e == nil || e.value == "" {
		return nil, "", sdk.Errorf(sdk.NotServiced, "tariff %s does not go to %s %s", t.name, cut(j.s.To.Country), cut(j.s.To.PostalCode)).At("to")
	}
	return t, e.value, j.sameCurrency(t.currency)
}

func (c *Carrier) rate(t *tariff, s *service, zone string, b *bill, j *job) carrier.Rate {
	r := carrier.Rate{Service: s.code, Name: s.name, Total: b.total, Charges: b.charges, Source: "local", Data: c.tables.version,
		Estimate: b.estimated, Billed: &sdk.Measure{Value: b.billed, Unit: s.unit}, Expires: endOfDay(j.date)}
	if s.days != nil {
		r.Days = s.days[slices.Index(s.zones, zone)]
		r.Delivery = day(arrival(j.date, r.Days, j.saturday))
	}
	return r
}

// endOfDay is when a day has ended everywhere: a price holds on the day of the shipment, and
// the sender's clock is not known here.
func endOfDay(date time.Time) time.Time { return date.Add(36 * time.Hour) }
