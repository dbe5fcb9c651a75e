package zone

import (
	"fmt"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Limits of one shipment.
const (
	maxParcels   = 500
	maxReference = 64
	maxText      = 200 // bytes of a name or a line of an address
)

// maxMeasure is beyond any weight, edge or amount that a parcel has, and keeps the arithmetic
// small.
var maxMeasure = decimal.New(1, 12)

// job is a shipment that was looked through: what its price depends on.
type job struct {
	s         *carrier.Shipment
	date      time.Time
	saturday  bool
	signature bool
	oversized bool
	insured   *decimal.Decimal
	collect   *decimal.Decimal
	warnings  []sdk.Warning
}

// look checks a shipment. The day is today's where the shipment says none.
func look(s *carrier.Shipment, today time.Time) (*job, error) {
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	j := &job{s: s, date: today.UTC().Truncate(24 * time.Hour)}
	if s.Date != "" {
		date, err := time.Parse(time.DateOnly, s.Date)
		if err != nil {
			return nil, sdk.Errorf(sdk.Validation, "%q is no day such as 2026-01-31", cut(s.Date)).At("date")
		}
		j.date = date
	}
	for _, side := range []struct {
		field string
		a     *sdk.Address
	}{{"from", &s.From}, {"to", &s.To}, {"returnTo", s.ReturnTo}} {
		if side.a != nil {
			if err := lookAddress(side.field, side.a); err != nil {
				return nil, err
			}
		}
	}
	if len(s.Parcels) == 0 || len(s.Parcels) > maxParcels {
		return nil, sdk.Errorf(sdk.Validation, "a shipment has 1 to %d parcels, and this one %d", maxParcels, len(s.Parcels)).At("parcels")
	}
	for i := range s.Parcels {
		if err := lookParcel(&s.Parcels[i], fmt.Sprintf("parcels[%d]", i)); err != nil {
			return nil, err
		}
	}
	if err := j.options(); err != nil {
		return nil, err
	}
	if err := j.amounts(); err != nil {
		return nil, err
	}
	switch {
	case s.RateID != "":
		return nil, sdk.Errorf(sdk.Validation, "this carrier's prices have no identifiers").At("rateId").Suggest("leave it out")
	case s.Payer != nil && (s.Payer.Party != carrier.PayerSender || s.Payer.Account != ""):
		return nil, sdk.Errorf(sdk.NotSupported, "the sender pays this carrier").At("payer").Suggest("leave it out")
	case s.LabelDPI != 0 && s.LabelDPI != dotsPerInch:
		return nil, sdk.Errorf(sdk.NotSupported, "labels have %d dots an inch", dotsPerInch).At("labelDpi")
	}
	if s.Customs != nil {
		j.warnings = append(j.warnings, sdk.Warning{Code: "customs", Message: "no customs papers are made by this carrier", Field: "customs"})
	}
	return j, nil
}

// lookAddress checks the form of the address that stands at a field; empty: the request is it.
func lookAddress(field string, a *sdk.Address) *sdk.Error {
	if field != "" {
		field += "."
	}
	if !isCountry(strings.ToUpper(strings.TrimSpace(a.Country))) {
		return sdk.Errorf(sdk.Validation, "%q is no ISO 3166 country code such as US", cut(a.Country)).At(field + "country")
	}
	if len(a.Lines) > 3 {
		return sdk.Errorf(sdk.Validation, "an address has at most 3 lines, and this one %d", len(a.Lines)).At(field + "lines")
	}
	texts := []struct{ name, text string }{{"name", a.Name}, {"company", a.Company}, {"city", a.City}, {"state", a.State},
		{"postalCode", a.PostalCode}, {"phone", a.Phone}}
	for i, line := range a.Lines {
		texts = append(texts, struct{ name, text string }{fmt.Sprintf("lines[%d]", i), line})
	}
	for _, t := range texts {
		if len(t.text) > maxText {
			return sdk.Errorf(sdk.Validation, "the text has %d bytes, more than %d", len(t.text), maxText).At(field + t.name)
		}
	}
	return nil
}

func lookParcel(p *carrier.Parcel, field string) error {
	if _, err := p.Weight.In(sdk.Gram); err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no unit of weight; kg, g, lb and oz are", cut(p.Weight.Unit)).At(field + ".weight.unit")
	}
	if !p.Weight.Value.IsPositive() || p.Weight.Value.GreaterThan(maxMeasure) {
		return sdk.Errorf(sdk.Validation, "a parcel weighs more than nothing, and this one %s", p.Weight.Value.Truncate(6)).At(field + ".weight")
	}
	if p.Value != nil && (p.Value.Amount.IsNegative() || p.Value.Amount.GreaterThan(maxMeasure)) {
		return sdk.Errorf(sdk.Validation, "a parcel's value is no such amount").At(field + ".value")
	}
	if p.Dimensions == nil {
		return nil
	}
	if _, err := (sdk.Measure{Value: p.Dimensions.Length, Unit: p.Dimensions.Unit}).In(sdk.Millimetre); err != nil {
		return sdk.Errorf(sdk.Validation, "%q is no unit of length; cm, mm and in are", cut(p.Dimensions.Unit)).At(field + ".dimensions.unit")
	}
	for _, edge := range []struct {
		name string
		d    decimal.Decimal
	}{{"length", p.Dimensions.Length}, {"width", p.Dimensions.Width}, {"height", p.Dimensions.Height}} {
		if !edge.d.IsPositive() || edge.d.GreaterThan(maxMeasure) {
			return sdk.Errorf(sdk.Validation, "an edge is longer than nothing; leave the dimensions out if they are not known").At(field + ".dimensions." + edge.name)
		}
	}
	return nil
}

func cut(text string) string {
	if len(text) > 40 {
		return strings.ToValidUTF8(text[:40], "") + "..."
	}
	return text
}

// options reads what is asked for beside the transport. One that is not known here is refused:
// it would be paid for by nobody and done by nobody.
func (j *job) options() error {
	for _, name := range sortedKeys(j.s.Options) {
		value, field := j.s.Options[name], "options."+name
		switch name {
		case carrier.OptSaturday:
			j.saturday = value == "true"
		case carrier.OptOversized:
			j.oversized = value == "true"
		case carrier.OptSignature:
			if value != "none" && value != "any" && value != "adult" && value != "true" {
				return sdk.Errorf(sdk.Validation, "%q is no signature; none, any and adult are", cut(value)).At(field)
			}
			j.signature = value != "none"
		case carrier.OptNotifyMail:
			j.warnings = append(j.warnings, sdk.Warning{Code: "notify", Message: "this carrier sends no mail", Field: field})
		default:
			return sdk.Errorf(sdk.NotSupported, "this carrier has no option %q", cut(name)).At(field)
		}
		if (name == carrier.OptSaturday || name == carrier.OptOversized) && value != "true" && value != "false" {
			return sdk.Errorf(sdk.Validation, "%q is neither true nor false", cut(value)).At(field)
		}
	}
	return nil
}

// amounts reads what is to be insured and collected.
func (j *job) amounts() error {
	for _, a := range []struct {
		field string
		of    *sdk.Money
		into  **decimal.Decimal
	}{{"insurance", j.s.Insurance, &j.insured}, {"cod", j.s.COD, &j.collect}} {
		if a.of == nil {
			continue
		}
		if !a.of.Amount.IsPositive() || a.of.Amount.GreaterThan(maxMeasure) {
			return sdk.Errorf(sdk.Validation, "it is no amount such as 120.50").At(a.field + ".amount")
		}
		*a.into = &a.of.Amount
	}
	return nil
}

// sameCurrency refuses an amount to insure or to collect in a currency that is not the
// tariff's: no rate of exchange is known here.
func (j *job) sameCurrency(currency string) error {
	for _, a := range []struct {
		field string
		of    *sdk.Money
	}{{"insurance", j.s.Insurance}, {"cod", j.s.COD}} {
		if a.of != nil && a.of.Currency != currency {
			return sdk.Errorf(sdk.Validation, "the amount is in %s and the tariff in %s", cut(a.of.Currency), currency).
				At(a.field + ".currency").Suggest("give it in " + currency)
		}
	}
	return nil
}
