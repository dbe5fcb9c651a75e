package mydhl

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// The provider's limits, in characters where no other unit is said.
const (
	maxReference = 64 // bytes, of the contract
	maxPrinted   = 35 // of a reference as the provider keeps it
	maxLine      = 45
	maxCity      = 45
	maxPostal    = 12
	maxCompany   = 100
	maxName      = 255
	maxPhone     = 70
	maxMail      = 70
	maxAccount   = 12
	maxParcels   = 999
	maxAhead     = 10 // days
	metric       = "metric"
	imperial     = "imperial"
)

// placeOf is an address as rates want it: the place alone.
func placeOf(a *sdk.Address, field string) (place, error) {
	if len(a.Country) != 2 {
		return place{}, sdk.Errorf(sdk.Validation, "%q is no country of two letters", clip(a.Country, 20)).At(field + "country")
	}
	if a.City == "" {
		return place{}, sdk.Errorf(sdk.Validation, "DHL needs a city").At(field + "city")
	}
	for _, c := range []struct {
		name, text string
		most       int
	}{{"city", a.City, maxCity}, {"postalCode", a.PostalCode, maxPostal}} {
		if err := fits(c.text, c.most, field+c.name); err != nil {
			return place{}, err
		}
	}
	p := place{PostalCode: a.PostalCode, CityName: a.City, CountryCode: a.Country}
	if n := utf8.RuneCountInString(a.State); n >= 2 && n <= maxPrinted {
		p.ProvinceCode = a.State
	}
	return p, nil
}

// partyOf is an address as orders want it. What is too long is not cut: a driver has to find it.
func partyOf(a *sdk.Address, field string) (party, error) {
	p, err := placeOf(a, field)
	if err != nil {
		return party{}, err
	}
	lines := []*string{&p.AddressLine1, &p.AddressLine2, &p.AddressLine3}
	n := 0
	for i, line := range a.Lines {
		at := fmt.Sprintf("%slines[%d]", field, i)
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if n == len(lines) {
			return party{}, sdk.Errorf(sdk.Validation, "DHL takes %d lines of an address", len(lines)).At(at)
		}
		if err := fits(line, maxLine, at); err != nil {
			return party{}, err
		}
		*lines[n] = line
		n++
	}
	if n == 0 {
		return party{}, sdk.Errorf(sdk.Validation, "DHL needs the street").At(field + "lines")
	}
	out := party{PostalAddress: p, TypeCode: "business"}
	if a.Residential {
		out.TypeCode = "private"
	}
	if out.ContactInformation, err = contactOf(a, field); err != nil {
		return party{}, err
	}
	out.RegistrationNumbers, err = registrations(a, field)
	return out, err
}

func contactOf(a *sdk.Address, field string) (contact, error) {
	c := contact{Email: a.Email, Phone: a.Phone, CompanyName: a.Company, FullName: a.Name}
	if c.FullName == "" {
		c.FullName = c.CompanyName
	}
	if c.CompanyName == "" {
		c.CompanyName = c.FullName
	}
	switch {
	case c.FullName == "":
		return c, sdk.Errorf(sdk.Validation, "DHL needs a person or a company").At(field + "name")
	case c.Phone == "":
		return c, sdk.Errorf(sdk.Validation, "DHL needs a telephone number").At(field + "phone")
	}
	for _, f := range []struct {
		name, text string
		most       int
	}{{"name", c.FullName, maxName}, {"company", c.CompanyName, maxCompany}, {"phone", c.Phone, maxPhone}, {"email", c.Email, maxMail}} {
		if err := fits(f.text, f.most, field+f.name); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Kinds of tax numbers, by the contract's words.
var registrationKinds = map[string]string{"": "VAT", "vat": "VAT", "eori": "EOR", "gst": "GST", "ein": "EIN", "ssn": "SSN", "duns": "DUN",
	"federal": "FED", "state": "STA", "ioss": "SDT", "mid": "MID", "cnpj": "CNP", "ie": "IE", "inn": "INN", "kpp": "KPP"}

func registrations(a *sdk.Address, field string) ([]registration, error) {
	var out []registration
	for i, id := range a.TaxIDs {
		kind, known := registrationKinds[strings.ToLower(id.Kind)]
		at := fmt.Sprintf("%staxIds[%d]", field, i)
		if !known {
			return nil, sdk.Errorf(sdk.Validation, "DHL has no numbers of kind %q", clip(id.Kind, 20)).At(at + ".kind")
		}
		if len(id.Country) != 2 || id.Number == "" {
			return nil, sdk.Errorf(sdk.Validation, "a number and a country of two letters are needed").At(at)
		}
		if err := fits(id.Number, maxPrinted, at+".number"); err != nil {
			return nil, err
		}
		out = append(out, registration{TypeCode: kind, Number: id.Number, IssuerCountryCode: id.Country})
	}
	return out, nil
}

func fits(text string, most int, field string) error {
	if n := utf8.RuneCountInString(text); n > most {
		return sdk.Errorf(sdk.Validation, "it has %d characters, and DHL takes %d", n, most).At(field)
	}
	return nil
}

// unitsOf chooses the system of measures that needs the least calculating.
func unitsOf(parcels []carrier.Parcel) (system, weight, length string) {
	for _, p := range parcels {
		if p.Weight.Unit != sdk.Pound && p.Weight.Unit != sdk.Ounce || p.Dimensions != nil && p.Dimensions.Unit != sdk.Inch {
			return metric, sdk.Kilogram, sdk.Centimetre
		}
	}
	return imperial, sdk.Pound, sdk.Inch
}

// piecesOf gives the parcels in one system of measures. What does not come out at three
// decimals is rounded up, so that nothing is declared lighter or smaller than it is.
func piecesOf(parcels []carrier.Parcel) (pieces []piece, system string, err error) {
	if len(parcels) == 0 {
		return nil, "", sdk.Errorf(sdk.Validation, "there is no parcel").At("parcels")
	}
	if len(parcels) > maxParcels {
		return nil, "", sdk.Errorf(sdk.Validation, "DHL takes %d parcels in one shipment", maxParcels).At("parcels")
	}
	system, weight, length := unitsOf(parcels)
	for i, p := range parcels {
		at := fmt.Sprintf("parcels[%d].", i)
		w, err := p.Weight.In(weight)
		if err != nil || !w.IsPositive() {
			return nil, "", sdk.Errorf(sdk.Validation, "%s %s is no weight", p.Weight.Value, clip(p.Weight.Unit, 10)).At(at + "weight")
		}
		out := piece{Weight: number{w.RoundUp(3)}}
		if out.TypeCode, err = boxOf(p.Packaging, at); err != nil {
			return nil, "", err
		}
		if out.Dimensions, err = sizesOf(p.Dimensions, length, at); err != nil {
			return nil, "", err
		}
		pieces = append(pieces, out)
	}
	return pieces, system, nil
}

// DHL's own boxes, by its codes.
var boxes = map[string]bool{"1CE": true, "2BC": true, "2BP": true, "2BX": true, "3BX": true, "4BX": true, "5BX": true, "6BX": true, "7BX": true,
	"8BX": true, "CE1": true, "TBL": true, "TBS": true, "WB1": true, "WB2": true, "WB3": true, "WB6": true, "XPD": true}

func boxOf(packaging, at string) (string, error) {
	switch {
	case packaging == "" || packaging == "own":
		return "", nil
	case !boxes[packaging]:
		return "", sdk.Errorf(sdk.Validation, "DHL has no packaging %q", clip(packaging, 20)).At(at + "packaging").Suggest("leave it empty for packaging of your own")
	}
	return packaging, nil
}

func sizesOf(d *carrier.Dimensions, unit, at string) (*sizes, error) {
	if d == nil {
		return nil, nil
	}
	var out sizes
	for _, side := range []struct {
		of   decimal.Decimal
		into *number
		name string
	}{{d.Length, &out.Length, "length"}, {d.Width, &out.Width, "width"}, {d.Height, &out.Height, "height"}} {
		v, err := sdk.Measure{Value: side.of, Unit: d.Unit}.In(unit)
		if err != nil || !v.IsPositive() {
			return nil, sdk.Errorf(sdk.Validation, "%s %s is no length", side.of, clip(d.Unit, 10)).At(at + "dimensions." + side.name)
		}
		*side.into = number{v.RoundUp(3)}
	}
	return &out, nil
}

// planned is when parcels are handed over, as the provider writes it. It takes no moment that
// is past, nor one that is past when it reads it.
func (c *Carrier) planned(date string) (string, error) {
	now := c.now().In(c.zone)
	if date == "" {
		date = now.Format(day)
	}
	on, err := time.ParseInLocation(day, date, c.zone)
	if err != nil {
		return "", sdk.Errorf(sdk.Validation, "%q is no date such as 2026-05-04", clip(date, 20)).At("date")
	}
	if date < now.Format(day) {
		return "", sdk.Errorf(sdk.Validation, "%s is past at the site", date).At("date")
	}
	if on.After(now.AddDate(0, 0, maxAhead)) {
		return "", sdk.Errorf(sdk.NotServiced, "DHL takes orders for the next %d days", maxAhead).At("date")
	}
	at := time.Date(on.Year(), on.Month(), on.Day(), 0, int(c.handover/time.Minute), 0, 0, c.zone)
	if soon := now.Add(15 * time.Minute); at.Before(soon) {
		at = soon
	}
	if end := time.Date(on.Year(), on.Month(), on.Day(), 23, 59, 59, 0, c.zone); at.After(end) {
		at = end
	}
	return stamp(at), nil
}

// stamp writes a moment as the provider does: 2026-05-04T17:00:00 GMT+02:00.
func stamp(at time.Time) string { return at.Format("2006-01-02T15:04:05 GMT-07:00") }

// extrasOf are the services beside the transport.
func (c *Carrier) extrasOf(s *carrier.Shipment) ([]extra, error) {
	var out []extra
	add := func(code string) { out = append(out, extra{ServiceCode: code}) }
	for _, name := range sorted(s.Options) {
		value := s.Options[name]
		at := "options." + name
		switch {
		case name == carrier.OptSaturday && value == "true":
			add("AA")
		case name == carrier.OptSignature && value == "none":
			add("SX")
		case name == carrier.OptSignature && value == "any":
			add("SA")
		case name == carrier.OptSignature && value == "adult":
			add("SD")
		case name == carrier.OptSaturday && value == "false":
		case name == carrier.OptSaturday, name == carrier.OptSignature:
			return nil, sdk.Errorf(sdk.Validation, "%q is no value of it", clip(value, 20)).At(at)
		case name == carrier.OptNotifyMail:
			if err := fits(value, 50, at); err != nil {
				return nil, err
			}
		case name == carrier.OptHold:
			if n := utf8.RuneCountInString(value); n == 0 || n > 6 {
				return nil, sdk.Errorf(sdk.Validation, "%q is no DHL service point", clip(value, 20)).At(at)
			}
		default:
			return nil, sdk.Errorf(sdk.NotSupported, "this plugin does not ask DHL for %q", clip(name, 20)).At(at)
		}
	}
	if s.COD != nil {
		return nil, sdk.Errorf(sdk.NotSupported, "DHL Express collects no money").At("cod")
	}
	if s.Insurance != nil {
		value, err := priceOf(*s.Insurance, "insurance")
		if err != nil {
			return nil, err
		}
		out = append(out, extra{ServiceCode: "II", Value: &value, Currency: s.Insurance.Currency})
	}
	if declarable(s) && c.paperless {
		add("WY")
	}
	if declarable(s) && dutiesPaid(s.Customs) {
		add("DD")
	}
	return out, nil
}

// priceOf is an amount that is at least zero, at the provider's three decimals.
func priceOf(m sdk.Money, field string) (number, error) {
	if m.Amount.IsNegative() || !currency(m.Currency) {
		return number{}, sdk.Errorf(sdk.Validation, "%s %s is no such amount", m.Amount, clip(m.Currency, 10)).At(field)
	}
	if !m.Amount.Equal(m.Amount.Round(3)) {
		return number{}, sdk.Errorf(sdk.Validation, "DHL takes three decimals").At(field + ".amount")
	}
	return number{m.Amount.Round(3)}, nil
}

// currency tells whether text is a code of ISO 4217 by its form.
func currency(code string) bool {
	return len(code) == 3 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
}

// payersOf are the accounts of a shipment. A return is paid by the account for imports.
func (c *Carrier) payersOf(s *carrier.Shipment, back bool) ([]account, error) {
	out := []account{{TypeCode: "shipper", Number: c.account}}
	pays := ""
	if back {
		pays = c.imports
	}
	if p := s.Payer; p != nil {
		switch {
		case p.Party != carrier.PayerSender && p.Party != carrier.PayerRecipient && p.Party != carrier.PayerThird:
			return nil, sdk.Errorf(sdk.Validation, "%q cannot pay", clip(p.Party, 20)).At("payer.party")
		case p.Account != "":
			pays = p.Account
		case p.Party != carrier.PayerSender:
			return nil, sdk.Errorf(sdk.Validation, "DHL needs the account that pays").At("payer.account")
		}
	}
	if pays != "" {
		out = append(out, account{TypeCode: "payer", Number: pays})
	}
	if cu := s.Customs; cu != nil && declarable(s) {
		switch {
		case cu.DutyAccount != "":
			out = append(out, account{TypeCode: "duties-taxes", Number: cu.DutyAccount})
		case cu.DutyPayer == carrier.PayerThird:
			return nil, sdk.Errorf(sdk.Validation, "DHL needs the account that pays the duties").At("customs.dutyAccount")
		case dutiesPaid(cu):
			out = append(out, account{TypeCode: "duties-taxes", Number: c.account})
		}
	}
	for _, a := range out {
		if len(a.Number) > maxAccount {
			return nil, sdk.Errorf(sdk.Validation, "an account number has at most %d characters", maxAccount).At("payer.account")
		}
	}
	return out, nil
}
