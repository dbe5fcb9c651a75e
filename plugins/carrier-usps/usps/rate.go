package usps

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// priced is one price of the provider, and how a label has to be asked for to get it.
type priced struct {
	service  string
	how      rateKey
	rate     carrier.Rate
	warnings []sdk.Warning
}

// rateKey is what makes a label cost what the rate said.
type rateKey struct{ mailClass, indicator, category string }

// identifier gives the text that a rate is bought by. The provider holds no price for anybody,
// so the price is a part of it, and is compared before the label is bought.
func (k rateKey) identifier(total decimal.Decimal) string {
	return strings.Join([]string{k.mailClass, k.indicator, k.category, total.StringFixed(2)}, "/")
}

func serviceName(code string) string {
	for _, s := range services {
		if s.code == code {
			return s.name
		}
	}
	return ""
}

// Rate asks for the prices of all mail classes, or of one.
func (c *Carrier) Rate(ctx context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	j, err := look(s)
	if err != nil {
		return nil, err
	}
	list, err := c.pricesOf(ctx, j)
	if err != nil {
		return nil, err
	}
	out := &carrier.Rates{Warnings: j.warnings}
	for _, p := range bestOf(list) {
		out.Rates = append(out.Rates, p.rate)
		for _, w := range p.warnings {
			if !slices.Contains(out.Warnings, w) {
				out.Warnings = append(out.Warnings, w)
			}
		}
	}
	return out, nil
}

// pricesOf gives all prices that a parcel can be sent at, the cheapest first.
func (c *Carrier) pricesOf(ctx context.Context, j *job) ([]priced, error) {
	if code := j.shipment.Service; code != "" && serviceName(code) == "" {
		return nil, sdk.Errorf(sdk.Validation, "there is no service %.32q", code).At("service").Suggest("take one that the plugin describes")
	}
	// Express mail has codes of its own for the same extra services, so it is asked for alone.
	var groups [2][]string
	for _, s := range services {
		if j.shipment.Service != "" && j.shipment.Service != s.code {
			continue
		}
		if s.code == express {
			groups[1] = append(groups[1], s.code)
		} else {
			groups[0] = append(groups[0], s.code)
		}
	}
	var out []priced
	for _, group := range groups {
		if len(group) == 0 {
			continue
		}
		options, err := c.search(ctx, j, group)
		if err != nil {
			return nil, err
		}
		for i := range options {
			if p, fits := c.read(j, &options[i]); fits {
				out = append(out, p)
			}
		}
	}
	if len(out) == 0 {
		return nil, sdk.Errorf(sdk.NotServiced, "no mail class takes this parcel with what is asked for")
	}
	slices.SortStableFunc(out, func(a, b priced) int { return a.rate.Total.Amount.Cmp(b.rate.Total.Amount) })
	return out, nil
}

// bestOf gives the first price of each mail class.
func bestOf(list []priced) []priced {
	var out []priced
	for _, p := range list {
		if !slices.ContainsFunc(out, func(q priced) bool { return q.service == p.service }) {
			out = append(out, p)
		}
	}
	return out
}

// search asks for the prices of some mail classes.
func (c *Carrier) search(ctx context.Context, j *job, mailClasses []string) ([]rateOption, error) {
	q := priceQuery{OriginZIPCode: j.from.ZIPCode, DestinationZIPCode: j.to.ZIPCode, Weight: number{j.weight}, Length: number{j.sizes[0]}, Width: number{j.sizes[1]},
		Height: number{j.sizes[2]}, MailClasses: mailClasses, PriceType: c.prices, MailingDate: j.shipment.Date, ExtraServices: j.extraCodes(mailClasses[0])}
	if c.prices == "CONTRACT" {
		q.AccountType, q.AccountNumber = accountType, c.account
	}
	if j.value != nil {
		q.ItemValue = numberOf(*j.value)
	}
	var out priceAnswer
	_, err := c.client.do(ctx, &call{name: "prices", method: http.MethodPost, path: "/prices/v3/total-rates/search", body: q, out: &out,
		field: "shipment", fields: parameterField})
	if err != nil {
		return nil, dated(err)
	}
	return out.RateOptions, nil
}

// dated gives what is wrong with a date its class: the provider does not take parcels on it.
func dated(err error) error {
	if e := sdk.AsError(err); e.Class == sdk.Validation && e.Field == "date" {
		e.Class = sdk.NotServiced
		e.Suggestion = "take a day from today to a week from now"
	}
	return err
}

// read turns a price of the provider into one of ours; false: it is not of this parcel.
func (c *Carrier) read(j *job, o *rateOption) (priced, bool) {
	if len(o.Rates) == 0 {
		return priced{}, false
	}
	first := o.Rates[0]
	p := priced{service: first.MailClass, how: rateKey{first.MailClass, first.RateIndicator, first.ProcessingCategory}}
	name := serviceName(p.service)
	if name == "" || !slices.Contains(packagings[j.shipment.Parcels[0].Packaging], first.RateIndicator) ||
		first.DestinationEntryFacilityType != "" && first.DestinationEntryFacilityType != "NONE" || !labelled(first.ProcessingCategory) {
		return priced{}, false
	}
	p.rate = carrier.Rate{Service: p.service, Name: name, Source: "live", Expires: endOf(first.EndDate), Billed: billed(&first)}
	for _, r := range o.Rates {
		p.rate.Charges = append(p.rate.Charges, charge("base", r.SKU, r.Description, r.Price.Decimal))
		p.rate.Charges = append(p.rate.Charges, fees(r.Fees)...)
	}
	wanted := j.extraCodes(p.service)[1:]
	for _, e := range o.ExtraServices {
		code, err := strconv.Atoi(e.ExtraService)
		if err == nil {
			wanted = slices.DeleteFunc(wanted, func(w int) bool { return w == code || w == 930 && code == 931 })
		}
		if !e.Price.IsZero() {
			p.rate.Charges = append(p.rate.Charges, charge("addon", e.ExtraService, e.Name, e.Price.Decimal))
		}
		for _, w := range e.Warnings {
			p.warnings = append(p.warnings, sdk.Warning{Code: "provider_" + w.Code, Message: w.Text})
		}
	}
	if len(wanted) > 0 {
		return priced{}, false // this price is without what was asked for
	}
	total := o.TotalBasePrice.Decimal
	if o.TotalPrice != nil {
		total = o.TotalPrice.Decimal
	}
	p.rate.Total = sdk.Money{Amount: total, Currency: usd}
	addUp(&p.rate)
	p.rate.ID = p.how.identifier(total)
	return p, true
}

// labelled tells whether a label can be asked for with a processing category.
func labelled(category string) bool {
	return slices.Contains([]string{"MACHINABLE", "NONSTANDARD", "FLATS"}, category)
}

// billed gives the weight that a price is of.
func billed(r *rateDetail) *sdk.Measure {
	var w decimal.Decimal
	if r.Weight != nil {
		w = r.Weight.Decimal
	}
	if r.DimWeight != nil && r.DimWeight.GreaterThan(w) {
		w = r.DimWeight.Decimal
	}
	if !w.IsPositive() {
		return nil
	}
	return &sdk.Measure{Value: w, Unit: sdk.Pound}
}

// endOf gives the end of the last day of a price; zero: it has none yet.
func endOf(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return time.Time{}
	}
	return t.AddDate(0, 0, 1)
}

func charge(kind, code, name string, amount decimal.Decimal) carrier.Charge {
	return carrier.Charge{Kind: kind, Code: code, Name: name, Amount: sdk.Money{Amount: amount, Currency: usd}}
}

func fees(list []fee) []carrier.Charge {
	var out []carrier.Charge
	for _, f := range list {
		if !f.Price.IsZero() {
			out = append(out, charge("surcharge", f.SKU, f.Name, f.Price.Decimal))
		}
	}
	return out
}

// addUp makes the charges come to the total, which is what the provider charges.
func addUp(r *carrier.Rate) {
	rest := r.Total.Amount
	for _, c := range r.Charges {
		rest = rest.Sub(c.Amount.Amount)
	}
	switch {
	case rest.IsPositive():
		r.Charges = append(r.Charges, charge("surcharge", "", "not itemised by the provider", rest))
	case rest.IsNegative():
		r.Charges = append(r.Charges, charge("discount", "", "not itemised by the provider", rest))
	}
}
