package carriertest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// fake is a carrier that keeps every promise, in memory.
type fake struct {
	mu       sync.Mutex // guards all below
	ready    bool
	serial   int
	bought   map[string]purchase // by reference
	manifest map[string]bool     // references that were handed over
	pickups  map[string]bool     // confirmations
}

type purchase struct {
	asked  carrier.Shipment
	answer carrier.Shipped
}

func newFake() *fake {
	return &fake{bought: map[string]purchase{}, manifest: map[string]bool{}, pickups: map[string]bool{}}
}

var _ carrier.Carrier = (*fake)(nil)

var eur = func(s string) sdk.Money { return sdk.Money{Amount: decimal.RequireFromString(s), Currency: "EUR"} }

func (f *fake) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Labels: []string{carrier.ZPL, carrier.PDF}}
	d.Name, d.Version, d.Data = "fake", "1", "2026-11"
	d.Services = []carrier.Service{{Code: "slow", Name: "Slow"}, {Code: "fast", Name: "Fast"}}
	d.Ranges = []carrier.Range{{Name: "sscc", Per: "parcel"}}
	d.Config = []sdk.Setting{{Name: "account", Help: "of the sender", Required: true}, {Name: "token", Help: "to log in", Secret: true}}
	for _, name := range []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
		carrier.OpVoid, carrier.OpPickup, carrier.OpManifest, carrier.OpTrack} {
		buys := slices.Contains([]string{carrier.OpShip, carrier.OpShipReturn, carrier.OpVoid, carrier.OpPickup, carrier.OpManifest}, name)
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Buys: buys})
	}
	return d, nil
}

func (f *fake) Configure(_ context.Context, s sdk.Settings) error {
	if s["account"] == "" {
		return sdk.Errorf(sdk.Validation, "it is missing").At("account")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = true
	return nil
}

func (f *fake) ValidateAddress(_ context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	return &carrier.AddressAdvice{Valid: a.Country != "" && a.City != "", Confidence: "format"}, nil
}

func inOrder(s *carrier.Shipment) error {
	switch {
	case len(s.Parcels) == 0:
		return sdk.Errorf(sdk.Validation, "there is none").At("parcels")
	case s.To.Country != "DE":
		return sdk.Errorf(sdk.NotServiced, "nobody goes there").At("to.country")
	}
	return nil
}

func price(service string, parcels int) carrier.Rate {
	base, fuel := "4", "0.50"
	if service == "fast" {
		base, fuel = "9", "1.25"
	}
	n := decimal.NewFromInt(int64(parcels))
	r := carrier.Rate{Service: service, Name: service, Source: "local", Data: "2026-11", Charges: []carrier.Charge{
		{Kind: "base", Amount: eur(base)}, {Kind: "surcharge", Code: "FUEL", Amount: eur(fuel)}, {Kind: "discount", Amount: eur("-0.25")}}}
	total := decimal.Zero
	for i := range r.Charges {
		r.Charges[i].Amount.Amount = r.Charges[i].Amount.Amount.Mul(n)
		total = total.Add(r.Charges[i].Amount.Amount)
	}
	r.Total = sdk.Money{Amount: total, Currency: "EUR"}
	return r
}

func (f *fake) Rate(_ context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	if err := inOrder(s); err != nil {
		return nil, err
	}
	out := &carrier.Rates{}
	for _, service := range []string{"slow", "fast"} {
		if s.Service == "" || s.Service == service {
			out.Rates = append(out.Rates, price(service, len(s.Parcels)))
		}
	}
	return out, nil
}

func (f *fake) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	switch {
	case s.Reference == "" || len(s.Reference) > 64:
		return nil, sdk.Errorf(sdk.Validation, "1 to 64 bytes are needed").At("reference")
	case s.Label != "" && s.Label != carrier.ZPL && s.Label != carrier.PDF:
		return nil, sdk.Errorf(sdk.NotSupported, "there is no such label").At("label")
	}
	if err := inOrder(s); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "%v", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.bought[s.Reference]; ok {
		if !reflect.DeepEqual(p.asked, *s) {
			return nil, sdk.Errorf(sdk.Duplicate, "it was bought with other contents").At("reference")
		}
		return &p.answer, nil
	}
	if len(s.Numbers["sscc"]) != len(s.Parcels) {
		return nil, sdk.Errorf(sdk.Validation, "one for each parcel is needed").At("numbers")
	}
	rate := price(cmp.Or(s.Service, "slow"), len(s.Parcels))
	f.serial++
	out := carrier.Shipped{Reference: s.Reference, Shipment: fmt.Sprint("S", f.serial), Service: rate.Service, Rate: &rate}
	format := cmp.Or(s.Label, carrier.ZPL)
	for i, p := range s.Parcels {
		number := s.Numbers["sscc"][i]
		out.Parcels = append(out.Parcels, carrier.ShippedParcel{Reference: p.Reference, Tracking: number, SSCC: number, Label: i})
		out.Documents = append(out.Documents, carrier.Document{Kind: "label", Format: format,
			Data: []byte(map[string]string{carrier.ZPL: "^XA^FD" + number + "^XZ", carrier.PDF: "%PDF-1.4"}[format])})
	}
	f.bought[s.Reference] = purchase{*s, out}
	return &out, nil
}

func (f *fake) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return f.Ship(ctx, s)
}

func (f *fake) GetByReference(_ context.Context, reference string) (*carrier.Shipped, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.bought[reference]
	if !ok {
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At("reference")
	}
	return &p.answer, nil
}

func (f *fake) Void(_ context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.bought[r.Reference]
	switch {
	case !ok:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At("reference")
	case f.manifest[r.Reference]:
		return nil, sdk.Errorf(sdk.Conflict, "it was handed over").At("reference")
	}
	p.answer.Voided = true
	f.bought[r.Reference] = p
	return &carrier.Voided{Reference: r.Reference, Accepted: true, Refund: &p.answer.Rate.Total}, nil
}

func (f *fake) Pickup(_ context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	confirmation := r.Confirmation
	switch r.Action {
	case "book":
		confirmation = "P-" + r.Reference
		f.pickups[confirmation] = true
	case "change", "cancel":
		if !f.pickups[confirmation] {
			return nil, sdk.Errorf(sdk.NotFound, "nothing was booked under it").At("confirmation")
		}
	default:
		return nil, sdk.Errorf(sdk.Validation, "it is book, change or cancel").At("action")
	}
	return &carrier.PickedUp{Reference: r.Reference, Confirmation: confirmation, Date: r.Date, Ready: r.Ready, Close: r.Close}, nil
}

func (f *fake) Manifest(_ context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &carrier.Manifested{Reference: r.Reference, Manifest: "M-" + r.Reference, Shipments: r.Shipments}
	for i, reference := range r.Shipments {
		p, ok := f.bought[reference]
		if !ok {
			return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At(fmt.Sprintf("shipments[%d]", i))
		}
		out.Parcels += len(p.answer.Parcels)
	}
	for _, reference := range r.Shipments {
		f.manifest[reference] = true
	}
	return out, nil
}

func (f *fake) Track(_ context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &carrier.Tracked{}
	for _, number := range r.Tracking {
		p := carrier.TrackedParcel{Tracking: number}
		if slices.ContainsFunc(slices.Collect(maps.Values(f.bought)), func(b purchase) bool {
			return slices.ContainsFunc(b.answer.Parcels, func(s carrier.ShippedParcel) bool { return s.Tracking == number })
		}) {
			start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
			p.Status = carrier.StatusInTransit
			p.Events = []carrier.TrackEvent{{Status: carrier.StatusPending, Time: start}, {Status: carrier.StatusInTransit, Time: start.Add(time.Hour)}}
		} else {
			p.Status, p.Problem = carrier.StatusUnknown, sdk.Errorf(sdk.NotFound, "no parcel has this number")
		}
		out.Parcels = append(out.Parcels, p)
	}
	return out, nil
}
