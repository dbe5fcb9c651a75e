package mydhl

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// ValidateAddress asks whether DHL delivers to the place. The street it does not look at.
func (c *Carrier) ValidateAddress(ctx context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	if a == nil {
		a = &sdk.Address{}
	}
	p, err := placeOf(a, "")
	if err != nil {
		return nil, err
	}
	q := url.Values{"type": {"delivery"}, "countryCode": {p.CountryCode}, "cityName": {p.CityName}, "strictValidation": {"true"}}
	if p.PostalCode != "" {
		q.Set("postalCode", p.PostalCode)
	}
	var answer addressAnswer
	k := &call{method: http.MethodGet, path: []string{"address-validate"}, query: q,
		fields: map[string]string{"/countryCode": "country", "/postalCode": "postalCode", "/cityName": "city"}}
	switch err := c.client.do(ctx, k, &answer); sdk.ClassOf(err) {
	case sdk.NotFound, sdk.NotServiced, sdk.Validation:
		if err != nil {
			return &carrier.AddressAdvice{Confidence: "exact", Warnings: []sdk.Warning{{Code: "not_delivered", Message: "DHL does not know the place: " + clip(sdk.AsError(err).Message, 500)}}}, nil
		}
	default:
		if err != nil {
			return nil, err
		}
	}
	return adviceOf(a, &answer), nil
}

func adviceOf(a *sdk.Address, answer *addressAnswer) *carrier.AddressAdvice {
	out := &carrier.AddressAdvice{Valid: len(answer.Address) > 0, Confidence: "exact"}
	warn := func(code, text string) { out.Warnings = append(out.Warnings, sdk.Warning{Code: code, Message: text}) }
	for _, w := range answer.Warnings {
		warn("dhl", clip(w, 500))
	}
	if !out.Valid {
		warn("not_delivered", "DHL does not know the place")
		return out
	}
	warn("street_not_checked", "DHL looks at country, postal code and city only")
	for _, found := range answer.Address {
		if strings.EqualFold(found.CityName, a.City) && plain(found.PostalCode) == plain(a.PostalCode) {
			return out
		}
	}
	out.Confidence = "corrected"
	if len(answer.Address) == 1 {
		better := *a
		if found := answer.Address[0]; found.CityName != "" {
			better.City = found.CityName
		}
		if found := answer.Address[0]; found.PostalCode != "" {
			better.PostalCode = found.PostalCode
		}
		out.Suggested = &better
	}
	return out
}

// plain is a postal code without what is only written for the eye.
func plain(postal string) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "-", "").Replace(postal))
}
