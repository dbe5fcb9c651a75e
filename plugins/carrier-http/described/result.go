package described

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// readInto reads a result as the contract has it: no field that it does not know, and none
// missing that it needs.
func readInto[T any](x *exchange, m map[string]any) (*T, error) {
	if m == nil {
		return nil, x.unread(errors.New("the description finds no result in it"))
	}
	text, err := json.Marshal(m)
	if err != nil {
		return nil, x.unread(err)
	}
	out := new(T)
	if err := sdk.ReadJSON(text, out); err != nil {
		return nil, x.unread(fmt.Errorf("%s: the result: %w", x.o.answer.result.at, err))
	}
	return out, nil
}

func setDefault(m map[string]any, name string, value any) {
	if m == nil || m[name] != nil {
		return
	}
	m[name] = value
}

// belongs says whose the result is: the caller's reference, whatever the provider made of it.
func belongs(m map[string]any, reference string) {
	if m != nil {
		m["reference"] = reference
	}
}

// objects are the objects of a list.
func objects(v any) []map[string]any {
	var out []map[string]any
	list, _ := v.([]any)
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// rates reads prices: those of services that are described, and of the one that was asked for.
func (c *Carrier) rates(x *exchange, s *carrier.Shipment, m map[string]any) (*carrier.Rates, error) {
	if m == nil {
		m = map[string]any{}
	}
	for _, r := range objects(m["rates"]) {
		rateDefaults(r)
	}
	out, err := readInto[carrier.Rates](x, m)
	if err != nil {
		return nil, err
	}
	held := c.d.operations[carrier.OpShip]
	all := out.Rates
	out.Rates = nil
	for i := range all {
		r := &all[i]
		known := slices.ContainsFunc(c.d.services, func(v carrier.Service) bool { return v.Code == r.Service })
		if s.Service != "" && r.Service != s.Service {
			continue
		}
		if !known {
			out.Warnings = append(out.Warnings, sdk.Warning{Code: "service_unknown", Message: fmt.Sprintf("the provider prices %.20q, which is not described", r.Service)})
			continue
		}
		if err := balanced(r); err != nil {
			return nil, x.unread(fmt.Errorf("%s: the price of %.20q: %w", x.o.answer.result.at, r.Service, err))
		}
		if held == nil || !slices.Contains(held.takes, "rateId") {
			r.ID = "" // it could not be bought
		}
		out.Rates = append(out.Rates, *r)
	}
	if len(out.Rates) == 0 {
		return nil, sdk.Errorf(sdk.NotServiced, "carrier %s offers nothing for it", c.d.name)
	}
	slices.SortStableFunc(out.Rates, func(a, b carrier.Rate) int { return a.Total.Amount.Cmp(b.Total.Amount) })
	return out, nil
}

func rateDefaults(r map[string]any) {
	setDefault(r, "source", "live")
	setDefault(r, "estimate", true)
}

// balanced wants a price whose parts add up. One without parts is its own only part.
func balanced(r *carrier.Rate) error {
	if !currency(r.Total.Currency) || r.Total.Amount.IsNegative() {
		return fmt.Errorf("%s is none", r.Total)
	}
	if len(r.Charges) == 0 {
		r.Charges = []carrier.Charge{{Kind: "base", Amount: r.Total}}
	}
	sum := decimal.Zero
	for _, c := range r.Charges {
		if c.Amount.Currency != r.Total.Currency {
			return fmt.Errorf("a part is in %.10q", c.Amount.Currency)
		}
		sum = sum.Add(c.Amount.Amount)
	}
	if !sum.Equal(r.Total.Amount) {
		return fmt.Errorf("its parts add up to %s, and not to %s", sum, r.Total.Amount)
	}
	return nil
}

// shipped reads what was bought. One that does not name every parcel cannot be read.
func (x *exchange) shipped(reference string, asked *carrier.Shipment, m map[string]any) (*carrier.Shipped, error) {
	labels := []int{}
	for i, doc := range objects(m["documents"]) {
		setDefault(doc, "kind", x.o.labelled)
		if asked != nil {
			setDefault(doc, "format", asked.Label)
		}
		if kind := doc["kind"]; kind == "label" || kind == "return-label" {
			labels = append(labels, i)
		}
	}
	parcels := objects(m["parcels"])
	for i, p := range parcels {
		switch {
		case len(labels) == len(parcels):
			setDefault(p, "label", labels[i])
		case len(labels) == 1:
			setDefault(p, "label", labels[0])
		default:
			setDefault(p, "label", -1)
		}
		if asked != nil && i < len(asked.Parcels) {
			if own := asked.Parcels[i].Reference; own != "" {
				setDefault(p, "reference", own)
			}
		}
	}
	belongs(m, reference)
	setDefault(m, "voided", false)
	if asked != nil {
		setDefault(m, "service", asked.Service)
	}
	if r, ok := m["rate"].(map[string]any); ok {
		rateDefaults(r)
		setDefault(r, "service", m["service"])
	}
	out, err := readInto[carrier.Shipped](x, m)
	if err != nil {
		return nil, err
	}
	return out, x.checkShipped(asked, out)
}

func (x *exchange) checkShipped(asked *carrier.Shipment, s *carrier.Shipped) error {
	wrong := func(format string, args ...any) error {
		return x.unread(fmt.Errorf("%s: %s", x.o.answer.result.at, fmt.Sprintf(format, args...)))
	}
	if s.Shipment == "" {
		return wrong("the result names no shipment")
	}
	if asked != nil && len(s.Parcels) != len(asked.Parcels) {
		return wrong("the result has %d parcels, and %d were asked for", len(s.Parcels), len(asked.Parcels))
	}
	for i, p := range s.Parcels {
		if p.Tracking == "" || p.Label < -1 || p.Label >= len(s.Documents) {
			return wrong("parcel %d has no tracking number, or a label that is not there", i)
		}
	}
	if s.Rate != nil {
		if err := balanced(s.Rate); err != nil {
			return wrong("the price: %v", err)
		}
	}
	return nil
}
