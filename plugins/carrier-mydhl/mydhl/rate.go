package mydhl

import (
	"context"
	"fmt"
	"net/http"
	"sort"
	"strings"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// The provider's names of fields in requests for rates.
var rateFields = map[string]string{
	"/customerDetails/shipperDetails": "from", "/customerDetails/receiverDetails": "to",
	"/customerDetails/shipperDetails/postalCode": "from.postalCode", "/customerDetails/receiverDetails/postalCode": "to.postalCode",
	"/customerDetails/shipperDetails/cityName": "from.city", "/customerDetails/receiverDetails/cityName": "to.city",
	"/customerDetails/shipperDetails/countryCode": "from.country", "/customerDetails/receiverDetails/countryCode": "to.country",
	"/customerDetails/shipperDetails/provinceCode": "from.state", "/customerDetails/receiverDetails/provinceCode": "to.state",
	"/accounts": "payer", "/productCode": "service", "/valueAddedServices": "options", "/plannedShippingDateAndTime": "date",
	"/packages": "parcels", "/packages/#/weight": "parcels[%d].weight", "/packages/#/dimensions": "parcels[%d].dimensions",
	"/packages/#/typeCode": "parcels[%d].packaging", "/monetaryAmount": "parcels",
}

// billing is the currency in which an account is billed, among those that prices come in.
const billing = "BILLC"

// Rate asks for prices and what can be had.
func (c *Carrier) Rate(ctx context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	request, err := c.rateRequest(s)
	if err != nil {
		return nil, err
	}
	var answer rateAnswer
	k := &call{method: http.MethodPost, path: []string{"rates"}, body: request, fields: rateFields}
	if err := c.client.do(ctx, k, &answer); err != nil {
		if sdk.ClassOf(err) == sdk.NotFound {
			return nil, noService(s, sdk.AsError(err).Provider)
		}
		return nil, err
	}
	return ratesOf(s, &answer)
}

// noService is for an answer that knows nothing to offer.
func noService(s *carrier.Shipment, said sdk.Provider) error {
	e := sdk.Errorf(sdk.NotServiced, "DHL Express offers nothing from %s to %s for it", clip(s.From.Country, 2), clip(s.To.Country, 2))
	if s.Service != "" {
		e = sdk.Errorf(sdk.NotServiced, "DHL Express does not offer product %s from %s to %s for it", clip(s.Service, 6), clip(s.From.Country, 2), clip(s.To.Country, 2))
	}
	e.Provider = said
	return e
}

func (c *Carrier) rateRequest(s *carrier.Shipment) (*rateRequest, error) {
	if s == nil {
		return nil, sdk.Errorf(sdk.Validation, "there is no shipment").At("shipment")
	}
	var err error
	r := &rateRequest{ProductCode: s.Service, IsCustomsDeclarable: declarable(s)}
	if s.Service != "" && productName(s.Service) == "" {
		return nil, sdk.Errorf(sdk.Validation, "DHL Express has no product %q", clip(s.Service, 20)).At("service")
	}
	if s.RateID != "" {
		return nil, noRateID()
	}
	if r.Packages, r.UnitOfMeasurement, err = piecesOf(s.Parcels); err != nil {
		return nil, err
	}
	if r.CustomerDetails.ShipperDetails, err = placeOf(&s.From, "from."); err != nil {
		return nil, err
	}
	if r.CustomerDetails.ReceiverDetails, err = placeOf(&s.To, "to."); err != nil {
		return nil, err
	}
	if r.PlannedShipping, err = c.planned(s.Date); err != nil {
		return nil, err
	}
	if r.ValueAddedServices, err = c.extrasOf(s); err != nil {
		return nil, err
	}
	if r.Accounts, err = c.payersOf(s, false); err != nil {
		return nil, err
	}
	r.Accounts = r.Accounts[:min(len(r.Accounts), 2)] // there is no room for who pays the duties
	value, err := valueOf(s.Parcels)
	if err == nil && value != nil {
		var worth number
		worth, err = priceOf(sdk.Money{Amount: value.Amount.Round(3), Currency: value.Currency}, "parcels[0].value")
		r.MonetaryAmount = []amount{{TypeCode: "declaredValue", Value: worth, Currency: value.Currency}}
	}
	return r, err
}

func noRateID() error {
	return sdk.Errorf(sdk.Validation, "DHL Express holds no prices").At("rateId").Suggest("leave it empty, and name the service")
}

func ratesOf(s *carrier.Shipment, answer *rateAnswer) (*carrier.Rates, error) {
	out := &carrier.Rates{}
	warn := func(code, format string, args ...any) {
		out.Warnings = append(out.Warnings, sdk.Warning{Code: code, Message: fmt.Sprintf(format, args...)})
	}
	for i := range answer.Products {
		p := &answer.Products[i]
		switch rate, err := rateOf(p); {
		case s.Service != "" && p.ProductCode != s.Service:
		case productName(p.ProductCode) == "":
			warn("product_unknown", "DHL offers product %q, which this plugin does not know", clip(p.ProductCode, 20))
		case err != nil:
			warn("not_priced", "product %s has no price: %v", p.ProductCode, err)
		default:
			out.Rates = append(out.Rates, *rate)
		}
	}
	for _, w := range answer.Warnings {
		warn("dhl", "%s", clip(w, 500))
	}
	if len(out.Rates) == 0 {
		var said sdk.Provider
		for _, w := range out.Warnings {
			said.Text += w.Message + "\n"
		}
		return nil, noService(s, said)
	}
	sort.SliceStable(out.Rates, func(i, j int) bool { return out.Rates[i].Total.Amount.LessThan(out.Rates[j].Total.Amount) })
	return out, nil
}

// rateOf reads the price of one product. What has none is an error, never zero.
func rateOf(p *product) (*carrier.Rate, error) {
	r := &carrier.Rate{Service: p.ProductCode, Name: p.ProductName, Source: "live", Estimate: true}
	kind := ""
	for _, t := range p.TotalPrice {
		if t.Price == nil || !t.Price.IsPositive() || !currency(t.PriceCurrency) || kind == billing || kind != "" && t.CurrencyType != billing {
			continue
		}
		kind, r.Total = t.CurrencyType, sdk.Money{Amount: t.Price.Decimal, Currency: t.PriceCurrency}
	}
	if r.Total.Currency == "" {
		return nil, fmt.Errorf("DHL did not calculate it")
	}
	tax := decimal.Zero
	for _, b := range p.TotalPriceBreakdown {
		for _, part := range b.PriceBreakdown {
			if b.CurrencyType == kind && part.TypeCode == "STTXA" && part.Price != nil {
				tax = part.Price.Decimal
			}
		}
	}
	for _, d := range p.DetailedPriceBreakdown {
		if d.CurrencyType != kind {
			continue
		}
		for _, b := range d.Breakdown {
			if b.Price != nil {
				addCharge(r, b.ServiceCode, b.Name, b.Price.Decimal)
			}
		}
	}
	balance(r, tax)
	if name := productName(r.Service); r.Name == "" {
		r.Name = name
	}
	if d := p.DeliveryCapabilities; len(d.EstimatedDelivery) >= len(day) {
		r.Delivery = d.EstimatedDelivery[:len(day)]
	}
	if d := p.DeliveryCapabilities.TotalTransitDays; d != nil && d.IsPositive() && d.LessThan(decimal.NewFromInt(1000)) {
		r.Days = int(d.IntPart())
	}
	r.Billed = billed(p)
	return r, nil
}

// addCharge adds a part of a price. The first without a service's code is the transport.
func addCharge(r *carrier.Rate, code, name string, amount decimal.Decimal) {
	kind := "surcharge"
	switch {
	case amount.IsZero() && len(r.Charges) > 0:
		return
	case amount.IsNegative():
		kind = "discount"
	case code == "" && len(r.Charges) == 0:
		kind = "base"
	case strings.EqualFold(code, "AA"), strings.EqualFold(code, "II"), strings.EqualFold(code, "SA"), strings.EqualFold(code, "SD"), strings.EqualFold(code, "SX"):
		kind = "addon"
	}
	r.Charges = append(r.Charges, carrier.Charge{Kind: kind, Code: clip(code, 20), Name: clip(name, 100), Amount: sdk.Money{Amount: amount, Currency: r.Total.Currency}})
}

// balance makes the charges add up to the total: by the tax if that is what is missing, or by
// one charge more that the provider did not name.
func balance(r *carrier.Rate, tax decimal.Decimal) {
	sum := decimal.Zero
	for _, c := range r.Charges {
		sum = sum.Add(c.Amount.Amount)
	}
	rest := r.Total.Amount.Sub(sum)
	add := func(kind, name string, amount decimal.Decimal) {
		if !amount.IsZero() {
			r.Charges = append(r.Charges, carrier.Charge{Kind: kind, Name: name, Amount: sdk.Money{Amount: amount, Currency: r.Total.Currency}})
		}
	}
	if len(r.Charges) == 0 {
		add("base", "Transport", rest.Sub(tax))
		rest = tax
	}
	if tax.IsPositive() && tax.LessThanOrEqual(rest) {
		add("tax", "Tax", tax)
		rest = rest.Sub(tax)
	}
	if rest.IsNegative() {
		add("discount", "Not itemised by DHL", rest)
	} else {
		add("surcharge", "Not itemised by DHL", rest)
	}
}

// billed is the weight that counts, of the real one and that of the volume.
func billed(p *product) *sdk.Measure {
	unit := sdk.Kilogram
	if p.Weight.UnitOfMeasurement == imperial {
		unit = sdk.Pound
	}
	var most *number
	for _, w := range []*number{p.Weight.Provided, p.Weight.Volumetric} {
		if w != nil && w.IsPositive() && (most == nil || w.GreaterThan(most.Decimal)) {
			most = w
		}
	}
	if most == nil {
		return nil
	}
	return &sdk.Measure{Value: most.Decimal, Unit: unit}
}
