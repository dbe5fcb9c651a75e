package usps

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// Sizes of what stands in an address, in letters.
const (
	maxName = 50
	maxLine = 50
	maxCity = 28
)

var (
	states     = strings.Fields("AA AE AL AK AP AS AZ AR CA CO CT DE DC FM FL GA GU HI ID IL IN IA KS KY LA ME MH MD MA MI MN MS MO MP MT NE NV NH NJ NM NY NC ND OH OK OR PW PA PR RI SC SD TN TX UT VT VI VA WA WV WI WY")
	asCountry  = []string{"PR", "GU", "VI", "AS", "MP", "FM", "MH", "PW"} // states that ISO 3166-1 knows as countries
	postalCode = regexp.MustCompile(`^(\d{5})(?:[- ]?(\d{4}))?$`)
	phone      = regexp.MustCompile(`^\+?[1-9][0-9]{7,14}$|^[0-9]{6,15}$`)
	mail       = regexp.MustCompile(`^[a-zA-Z0-9_+&*-]+(?:\.[a-zA-Z0-9_+&*-]+)*@(?:[a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}$`)
)

// at joins the path of a field.
func at(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// placeOf says an address in the provider's words, and refuses what it would not take.
func placeOf(path string, a *sdk.Address) (address, error) {
	var out address
	country, state := strings.ToUpper(strings.TrimSpace(a.Country)), strings.ToUpper(strings.TrimSpace(a.State))
	switch {
	case country == "":
		return out, sdk.Errorf(sdk.Validation, "the country is missing").At(at(path, "country"))
	case slices.Contains(asCountry, country):
		state = country
	case country != "US":
		return out, sdk.Errorf(sdk.NotServiced, "%.8q is outside of the United States, and only domestic mail is sent", country).At(at(path, "country"))
	}
	if !slices.Contains(states, state) {
		return out, sdk.Errorf(sdk.Validation, "%.8q is no state such as CA", state).At(at(path, "state"))
	}
	out.State = state
	zip := postalCode.FindStringSubmatch(strings.TrimSpace(a.PostalCode))
	if zip == nil {
		return out, sdk.Errorf(sdk.Validation, "%.16q is no ZIP code such as 20260 or 20260-0010", a.PostalCode).At(at(path, "postalCode"))
	}
	out.ZIPCode, out.ZIPPlus4 = zip[1], zip[2]
	out.City = strings.Join(strings.Fields(a.City), " ")
	if n := utf8.RuneCountInString(out.City); n == 0 || n > maxCity {
		return out, sdk.Errorf(sdk.Validation, "a city has 1 to %d letters, and this one %d", maxCity, n).At(at(path, "city"))
	}
	var lines []string
	for _, line := range a.Lines {
		line = strings.Join(strings.Fields(line), " ")
		switch {
		case line == "":
		case state == "PR" && strings.HasPrefix(strings.ToUpper(line), "URB "):
			out.Urbanization = line
		default:
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return out, sdk.Errorf(sdk.Validation, "the street is missing").At(at(path, "lines"))
	}
	out.StreetAddress, out.SecondaryAddress = lines[0], strings.Join(lines[1:], " ")
	for i, line := range []string{out.StreetAddress, out.SecondaryAddress} {
		if n := utf8.RuneCountInString(line); n > maxLine {
			return out, sdk.Errorf(sdk.Validation, "it has %d letters, at most %d", n, maxLine).At(at(path, fmt.Sprintf("lines[%d]", i)))
		}
	}
	return out, nil
}

// peopleOf splits a name as the provider wants it: a first and a last one, or a firm.
func peopleOf(path string, a *sdk.Address) (addressee, error) {
	out := addressee{Firm: strings.TrimSpace(a.Company)}
	words := strings.Fields(a.Name)
	switch n := len(words); {
	case n == 0 && out.Firm == "":
		return out, sdk.Errorf(sdk.Validation, "there is neither a name nor a company").At(at(path, "name"))
	case n == 1 && out.Firm == "":
		out.Firm = words[0]
	case n == 1:
		out.FirstName = words[0]
	case n > 1:
		out.FirstName, out.LastName = strings.Join(words[:n-1], " "), words[n-1]
	}
	for _, part := range []struct{ text, field string }{{out.FirstName, "name"}, {out.LastName, "name"}, {out.Firm, "company"}} {
		if n := utf8.RuneCountInString(part.text); n > maxName {
			return out, sdk.Errorf(sdk.Validation, "it has %d letters, at most %d", n, maxName).At(at(path, part.field))
		}
	}
	return out, nil
}

// partyOf says an address with its people. A phone number or a mail address that the provider
// would refuse is left out, with a warning: a parcel arrives without.
func partyOf(path string, a *sdk.Address) (party, []sdk.Warning, error) {
	var out party
	var err error
	if out.address, err = placeOf(path, a); err != nil {
		return out, nil, err
	}
	if out.addressee, err = peopleOf(path, a); err != nil {
		return out, nil, err
	}
	var warnings []sdk.Warning
	if a.Phone != "" {
		if out.Phone = phoneOf(a.Phone); out.Phone == "" {
			warnings = append(warnings, sdk.Warning{Code: "left_out", Field: at(path, "phone"), Message: "the provider does not take this phone number"})
		}
	}
	if a.Email != "" {
		if out.Email = mailOf(a.Email); out.Email == "" {
			warnings = append(warnings, sdk.Warning{Code: "left_out", Field: at(path, "email"), Message: "the provider does not take this mail address"})
		}
	}
	return out, warnings, nil
}

// phoneOf gives the digits of a number; empty: the provider would refuse it.
func phoneOf(text string) string {
	out := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r == '+' {
			return r
		}
		return -1
	}, text)
	if !phone.MatchString(out) {
		return ""
	}
	return out
}

func mailOf(text string) string {
	if text = strings.TrimSpace(text); len(text) > maxName || !mail.MatchString(text) {
		return ""
	}
	return text
}

// addressField gives the canonical name of a field of an address.
func addressField(path, parameter string) string {
	parameter = strings.ToLower(parameter)
	for _, known := range []struct{ part, field string }{
		{"zip", "postalCode"}, {"city", "city"}, {"state", "state"}, {"secondary", "lines[1]"}, {"street", "lines[0]"},
		{"firm", "company"}, {"name", "name"}, {"phone", "phone"}, {"email", "email"},
	} {
		if strings.Contains(parameter, known.part) {
			return at(path, known.field)
		}
	}
	return path
}

// ValidateAddress asks the provider, which knows every place that it delivers to.
func (c *Carrier) ValidateAddress(ctx context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if a == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no address").At("address")
	}
	place, err := placeOf("", a)
	if err != nil {
		return nil, err
	}
	query := url.Values{"streetAddress": {place.StreetAddress}, "city": {place.City}, "state": {place.State}, "ZIPCode": {place.ZIPCode}}
	for name, value := range map[string]string{"secondaryAddress": place.SecondaryAddress, "ZIPPlus4": place.ZIPPlus4, "urbanization": place.Urbanization} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if a.Company != "" && utf8.RuneCountInString(a.Company) <= maxName {
		query.Set("firm", a.Company)
	}
	var out addressAnswer
	_, err = c.client.do(ctx, &call{name: "address", method: http.MethodGet, path: "/addresses/v3/address", query: query, out: &out,
		field: "lines", fields: func(parameter string) string { return addressField("", parameter) }})
	if e := sdk.AsError(err); err != nil && e.Class == sdk.NotFound {
		return &carrier.AddressAdvice{Confidence: "exact", Warnings: []sdk.Warning{{Code: "not_found", Message: e.Provider.Text}}}, nil
	}
	if err != nil {
		return nil, err
	}
	if out.Address == nil || out.Address.StreetAddress == "" {
		return nil, sdk.Errorf(sdk.Unavailable, "address: the answer holds none")
	}
	return advice(a, &place, &out), nil
}

// advice reads what the provider thinks of an address.
func advice(asked *sdk.Address, place *address, got *addressAnswer) *carrier.AddressAdvice {
	out := &carrier.AddressAdvice{Valid: true, Confidence: "exact"}
	warn := func(code, field, text string) {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: code, Field: field, Message: text})
	}
	switch got.AdditionalInfo.DPVConfirmation {
	case "N":
		out.Valid = false
		warn("dpv_n", "lines", "nothing is delivered to this address")
	case "D":
		warn("dpv_d", "lines[1]", "the building is known, and the apartment or suite is missing")
	case "S":
		warn("dpv_s", "lines[1]", "the building is known, and the apartment or suite is not")
	}
	if got.AdditionalInfo.Vacant == "Y" {
		warn("vacant", "", "nobody lives or works there")
	}
	for _, one := range got.Corrections {
		warn("correction_"+one.Code, "", one.Text)
	}
	for _, text := range got.Warnings {
		warn("provider", "", text)
	}
	better := *asked
	better.Lines = nil
	for _, line := range []string{got.Address.Urbanization, got.Address.StreetAddress, got.Address.SecondaryAddress} {
		if line != "" {
			better.Lines = append(better.Lines, line)
		}
	}
	better.City, better.State, better.PostalCode, better.Country = got.Address.City, got.Address.State, got.Address.ZIPCode, "US"
	if got.Address.ZIPPlus4 != "" {
		better.PostalCode += "-" + got.Address.ZIPPlus4
	}
	if b := got.AdditionalInfo.Business; b != "" {
		better.Residential = b == "N"
	}
	same := strings.EqualFold(place.StreetAddress, got.Address.StreetAddress) && strings.EqualFold(place.SecondaryAddress, got.Address.SecondaryAddress) &&
		strings.EqualFold(place.City, got.Address.City) && place.State == got.Address.State && place.ZIPCode == got.Address.ZIPCode
	if !same {
		out.Confidence = "corrected"
	}
	if !same || better.PostalCode != asked.PostalCode || better.Residential != asked.Residential {
		out.Suggested = &better
	}
	return out
}
