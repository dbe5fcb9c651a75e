package carriertest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// fake is a carrier that keeps every promise, in a file.
type fake struct {
	mu    sync.Mutex // guards all below
	state string     // the file
	memory
}

// memory is what the file holds. A digest is of what was asked.
type memory struct {
	Serial    int
	Bought    map[string]*purchase // by reference
	Manifests map[string]answered[carrier.Manifested]
	Pickups   map[string]answered[carrier.PickedUp] // by confirmation
}

type purchase struct {
	Digest     string
	Answer     carrier.Shipped
	HandedOver bool
}

type answered[T any] struct {
	Digest string
	Answer T
}

func newFake() *fake { return &fake{} }

// save writes the file. The caller holds mu.
func (f *fake) save() error {
	text, err := json.Marshal(&f.memory)
	if err == nil {
		err = os.WriteFile(f.state, text, 0o600)
	}
	if err != nil {
		return sdk.Errorf(sdk.UnknownOutcome, "%v", err)
	}
	return nil
}

var _ carrier.Carrier = (*fake)(nil)

var eur = func(s string) sdk.Money { return sdk.Money{Amount: decimal.RequireFromString(s), Currency: "EUR"} }

func (f *fake) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Labels: []string{carrier.ZPL, carrier.PDF}}
	d.Name, d.Version, d.Data = "fake", "1", "2026-11"
	d.Services = []carrier.Service{{Code: "slow", Name: "Slow"}, {Code: "fast", Name: "Fast"}}
	d.Ranges = []carrier.Range{{Name: "sscc", Per: "parcel"}}
	d.Config = []sdk.Setting{{Name: "account", Help: "of the sender", Required: true}, {Name: "token", Help: "to log in", Secret: true},
		{Name: "state", Help: "file of what was bought", Required: true}}
	for _, name := range []string{carrier.OpValidateAddress, carrier.OpRate, carrier.OpShip, carrier.OpGetByReference, carrier.OpShipReturn,
		carrier.OpVoid, carrier.OpPickup, carrier.OpManifest, carrier.OpTrack} {
		buys := slices.Contains([]string{carrier.OpShip, carrier.OpShipReturn, carrier.OpVoid, carrier.OpPickup, carrier.OpManifest}, name)
		d.Operations = append(d.Operations, sdk.Operation{Name: name, Buys: buys})
	}
	return d, nil
}

func (f *fake) Configure(_ context.Context, s sdk.Settings) error {
	for _, name := range []string{"account", "state"} {
		if s[name] == "" {
			return sdk.Errorf(sdk.Validation, "it is missing").At(name)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = s["state"]
	f.memory = memory{Bought: map[string]*purchase{}, Manifests: map[string]answered[carrier.Manifested]{}, Pickups: map[string]answered[carrier.PickedUp]{}}
	text, err := os.ReadFile(f.state)
	if err == nil {
		err = json.Unmarshal(text, &f.memory)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return sdk.Errorf(sdk.Validation, "%v", err).At("state")
	}
	return nil
}

func (f *fake) ValidateAddress(_ context.Context, a *sdk.Address) (*carrier.AddressAdvice, error) {
	return &carrier.AddressAdvice{Valid: a.Country != "" && a.City != "", Confidence: "format"}, nil
}

func inOrder(s *carrier.Shipment) error {
	switch {
	case len(s.Parcels) == 0:
		return sdk.Errorf(sdk.Validation, "there is none").At("parcels")
	case s.Insurance != nil && s.Insurance.Currency != "EUR":
		return sdk.Errorf(sdk.Validation, "it is in euros").At("insurance.currency")
	case s.COD != nil && s.COD.Currency != "EUR":
		return sdk.Errorf(sdk.Validation, "it is in euros").At("cod.currency")
	case s.Payer != nil && s.Payer.Party != carrier.PayerSender:
		return sdk.Errorf(sdk.NotSupported, "the sender pays").At("payer.party")
	case s.LabelDPI != 0 && s.LabelDPI != 203:
		return sdk.Errorf(sdk.NotSupported, "labels have 203 dots an inch").At("labelDpi")
	case len(s.Options) > 0:
		return sdk.Errorf(sdk.NotSupported, "there are none").At("options")
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
	r := carrier.Rate{ID: "R-" + service, Service: service, Name: service, Source: "local", Data: "2026-11", Charges: []carrier.Charge{
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

func day(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

func (f *fake) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	switch {
	case s.Reference == "" || len(s.Reference) > 64:
		return nil, sdk.Errorf(sdk.Validation, "1 to 64 bytes are needed").At("reference")
	case !day(s.Date):
		return nil, sdk.Errorf(sdk.Validation, "a day is needed").At("date")
	case s.RateID != "" && s.RateID != "R-"+s.Service:
		return nil, sdk.Errorf(sdk.Expired, "no price is held under it").At("rateId")
	case s.Label != "" && s.Label != carrier.ZPL && s.Label != carrier.PDF:
		return nil, sdk.Errorf(sdk.NotSupported, "there is no such label").At("label")
	}
	if err := inOrder(s); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "%v", err)
	}
	digest, err := s.Digest()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p, ok := f.Bought[s.Reference]; ok {
		if p.Digest != digest {
			return nil, sdk.Errorf(sdk.Duplicate, "it was bought with other contents").At("reference")
		}
		return &p.Answer, nil
	}
	if len(s.Numbers["sscc"]) != len(s.Parcels) {
		return nil, sdk.Errorf(sdk.Validation, "one for each parcel is needed").At("numbers")
	}
	rate := price(cmp.Or(s.Service, "slow"), len(s.Parcels))
	f.Serial++
	out := carrier.Shipped{Reference: s.Reference, Shipment: fmt.Sprint("S", f.Serial), Service: rate.Service, Rate: &rate}
	format := cmp.Or(s.Label, carrier.ZPL)
	for i, p := range s.Parcels {
		number := s.Numbers["sscc"][i]
		out.Parcels = append(out.Parcels, carrier.ShippedParcel{Reference: p.Reference, Tracking: number, SSCC: number, Label: i})
		out.Documents = append(out.Documents, carrier.Document{Kind: "label", Format: format,
			Data: []byte(map[string]string{carrier.ZPL: "^XA^FD" + number + "^XZ", carrier.PDF: "%PDF-1.4"}[format])})
	}
	f.Bought[s.Reference] = &purchase{Digest: digest, Answer: out}
	return &out, f.save()
}

func (f *fake) ShipReturn(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	return f.Ship(ctx, s)
}

func (f *fake) GetByReference(_ context.Context, reference string) (*carrier.Shipped, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.Bought[reference]
	if !ok {
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At("reference")
	}
	return &p.Answer, nil
}

func (f *fake) Void(_ context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.Bought[r.Reference]
	switch {
	case !ok:
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At("reference")
	case p.HandedOver:
		return nil, sdk.Errorf(sdk.Conflict, "it was handed over").At("reference")
	}
	changed := *p // an answer may be on its way
	changed.Answer.Voided = true
	f.Bought[r.Reference] = &changed
	return &carrier.Voided{Reference: r.Reference, Accepted: true, Refund: &p.Answer.Rate.Total}, f.save()
}

func (f *fake) Pickup(_ context.Context, r *carrier.PickupRequest) (*carrier.PickedUp, error) {
	digest, err := r.Digest()
	switch {
	case err != nil:
		return nil, err
	case r.Reference == "":
		return nil, sdk.Errorf(sdk.Validation, "it is missing").At("reference")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch r.Action {
	case "book":
		confirmation := "P-" + r.Reference
		before, ok := f.Pickups[confirmation]
		switch {
		case ok && before.Digest != digest:
			return nil, sdk.Errorf(sdk.Duplicate, "it was booked with other contents").At("reference")
		case ok:
			return &before.Answer, nil
		}
		out := carrier.PickedUp{Reference: r.Reference, Confirmation: confirmation, Date: r.Date, Ready: r.Ready, Close: r.Close}
		f.Pickups[confirmation] = answered[carrier.PickedUp]{digest, out}
		return &out, f.save()
	case "change", "cancel":
		booked, ok := f.Pickups[r.Confirmation]
		if !ok {
			return nil, sdk.Errorf(sdk.NotFound, "nothing was booked under it").At("confirmation")
		}
		return &booked.Answer, nil
	}
	return nil, sdk.Errorf(sdk.Validation, "it is book, change or cancel").At("action")
}

func (f *fake) Manifest(_ context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	digest, err := r.Digest()
	switch {
	case err != nil:
		return nil, err
	case r.Reference == "":
		return nil, sdk.Errorf(sdk.Validation, "it is missing").At("reference")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	before, ok := f.Manifests[r.Reference]
	switch {
	case ok && before.Digest != digest:
		return nil, sdk.Errorf(sdk.Duplicate, "it was closed with other contents").At("reference")
	case ok:
		return &before.Answer, nil
	}
	out := carrier.Manifested{Reference: r.Reference, Manifest: "M-" + r.Reference, Shipments: r.Shipments,
		Documents: []carrier.Document{{Kind: "manifest", Format: carrier.PDF, Data: []byte("%PDF-1.4")}}}
	for i, reference := range r.Shipments {
		p, ok := f.Bought[reference]
		if !ok {
			return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At(fmt.Sprintf("shipments[%d]", i))
		}
		out.Parcels += len(p.Answer.Parcels)
	}
	for _, reference := range r.Shipments {
		f.Bought[reference].HandedOver = true
	}
	f.Manifests[r.Reference] = answered[carrier.Manifested]{digest, out}
	return &out, f.save()
}

func (f *fake) Track(_ context.Context, r *carrier.TrackRequest) (*carrier.Tracked, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := &carrier.Tracked{}
	first := 0
	if r.Page != "" {
		var err error
		if first, err = strconv.Atoi(r.Page); err != nil || first < 0 || first >= len(r.Tracking) {
			return nil, sdk.Errorf(sdk.Validation, "there is no such page").At("page")
		}
	}
	end := min(first+2, len(r.Tracking)) // a page has two
	if end < len(r.Tracking) {
		out.Next = strconv.Itoa(end)
	}
	for _, number := range r.Tracking[first:end] {
		p := carrier.TrackedParcel{Tracking: number}
		if slices.ContainsFunc(slices.Collect(maps.Values(f.Bought)), func(b *purchase) bool {
			return slices.ContainsFunc(b.Answer.Parcels, func(s carrier.ShippedParcel) bool { return s.Tracking == number })
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
