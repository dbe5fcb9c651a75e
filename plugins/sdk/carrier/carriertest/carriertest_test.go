package carriertest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

func parcelTo(country string) carrier.Shipment {
	return carrier.Shipment{
		Service: "slow", Date: "2026-11-30",
		From:    sdk.Address{Name: "Store", Lines: []string{"Dock 1"}, City: "Ulm", PostalCode: "89073", Country: "DE"},
		To:      sdk.Address{Name: "Ada", Lines: []string{"Weg 2"}, City: "Bonn", PostalCode: "53111", Country: country},
		Parcels: []carrier.Parcel{{Reference: "a", Weight: kilos("1.5")}, {Reference: "b", Weight: kilos("2")}},
	}
}

func kilos(s string) sdk.Measure {
	return sdk.Measure{Value: decimal.RequireFromString(s), Unit: sdk.Kilogram}
}

func settings(t testing.TB) sdk.Settings {
	return sdk.Settings{"account": "7", "token": "secret", "state": filepath.Join(t.TempDir(), "state.json")}
}

func config(do hook) Config {
	var number atomic.Int64
	return Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			return altered{newFake(), do}, settings(t)
		},
		Reopen: func(testing.TB) carrier.Carrier { return altered{newFake(), do} },
		Takes:  parcelTo("DE"), Refuses: parcelTo("AQ"),
		Number: func(string) string { return fmt.Sprintf("%018d", number.Add(1)) },
	}
}

func TestACarrierThatKeepsEveryPromisePasses(t *testing.T) {
	Run(t, config(func(_ context.Context, _ string, _ any, next func() (any, error)) (any, error) { return next() }))
}

func TestACarrierThatBreaksAPromiseFails(t *testing.T) {
	broken := map[string]int{}
	for _, m := range slices.Concat(wrongWords, wrongPrices, wrongPurchases, wrongAfter) {
		t.Run(m.check+"/"+m.name, func(t *testing.T) {
			i := slices.IndexFunc(checks, func(c check) bool { return c.name == m.check })
			if i < 0 {
				t.Fatalf("there is no check %q", m.check)
			}
			broken[m.check]++
			failures := sdktest.Record(t, func(t testing.TB) { checks[i].run(t, start(t, config(m.do()))) })
			if len(failures) == 0 {
				t.Error("it passes")
			}
			t.Logf("%q", failures)
		})
	}
	for _, c := range checks {
		if broken[c.name] == 0 {
			t.Errorf("nothing breaks what %q checks", c.name)
		}
	}
}

// hook stands between a suite and the fake: it may change what is asked, and what is answered.
type hook func(ctx context.Context, op string, in any, next func() (any, error)) (any, error)

// mutation is a carrier that breaks one promise.
type mutation struct {
	check, name string
	do          func() hook
}

const (
	opDescribe  = "describe"
	opConfigure = "configure"
)

// answers changes what an operation answers.
func answers[Out any](op string, change func(*Out)) func() hook {
	return func() hook {
		return func(_ context.Context, called string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if called != op || err != nil {
				return out, err
			}
			changed := deep(out.(*Out))
			change(changed)
			return changed, nil
		}
	}
}

// asks changes what an operation is asked.
func asks[In any](op string, change func(*In)) func() hook {
	return func() hook {
		return func(_ context.Context, called string, in any, next func() (any, error)) (any, error) {
			if called == op {
				change(in.(*In))
			}
			return next()
		}
	}
}

// errs changes the errors of a class.
func errs(op string, class sdk.Class, change func(*sdk.Error) error) func() hook {
	return func() hook {
		return func(_ context.Context, called string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if called == op && err != nil && sdk.ClassOf(err) == class {
				e := *sdk.AsError(err)
				return nil, change(&e)
			}
			return out, err
		}
	}
}

func class(c sdk.Class) func(*sdk.Error) error {
	return func(e *sdk.Error) error { e.Class = c; return e }
}

// instead answers in place of an error of a class.
func instead(op string, class sdk.Class, answer func(in any) any) func() hook {
	return func() hook {
		return func(_ context.Context, called string, in any, next func() (any, error)) (any, error) {
			out, err := next()
			if called == op && err != nil && sdk.ClassOf(err) == class {
				return answer(in), nil
			}
			return out, err
		}
	}
}

// anew makes every call of an operation a purchase of its own.
func anew(op string) func() hook {
	return func() hook {
		var n atomic.Int64
		return func(_ context.Context, called string, in any, next func() (any, error)) (any, error) {
			if called != op {
				return next()
			}
			s := in.(*carrier.Shipment)
			was := s.Reference
			s.Reference = fmt.Sprint(was, "-", n.Add(1))
			out, err := next()
			s.Reference = was
			if err != nil {
				return nil, err
			}
			changed := deep(out.(*carrier.Shipped))
			changed.Reference = was
			return changed, nil
		}
	}
}

func deep[T any](v *T) *T {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	out := new(T)
	if err := json.Unmarshal(text, out); err != nil {
		panic(err)
	}
	return out
}

func without(op string) func() hook {
	return answers(opDescribe, func(d *carrier.Description) {
		d.Operations = slices.DeleteFunc(d.Operations, func(o sdk.Operation) bool { return o.Name == op })
	})
}

func described(change func(*carrier.Description)) func() hook { return answers(opDescribe, change) }

// later changes what is described, by how often it was.
func later(change func(*carrier.Description, int)) func() hook {
	return func() hook {
		n := 0
		return described(func(d *carrier.Description) { n++; change(d, n) })()
	}
}

var wrongWords = []mutation{
	{"describe", "no version", described(func(d *carrier.Description) { d.Version = "" })},
	{"describe", "an operation that nobody knows", described(func(d *carrier.Description) { d.Operations[0].Name = "fly" })},
	{"describe", "an operation twice", described(func(d *carrier.Description) { d.Operations[0] = d.Operations[1] })},
	{"describe", "no operation", described(func(d *carrier.Description) { d.Operations = nil })},
	{"describe", "a setting without help", described(func(d *carrier.Description) { d.Config[0].Help = "" })},
	{"describe", "a service without name", described(func(d *carrier.Description) { d.Services[0].Name = "" })},
	{"describe", "no service", described(func(d *carrier.Description) { d.Services = nil })},
	{"describe", "a label that nobody knows", described(func(d *carrier.Description) { d.Labels[1] = "papyrus" })},
	{"describe", "no label", described(func(d *carrier.Description) { d.Labels = nil })},
	{"describe", "numbers for each pallet", described(func(d *carrier.Description) { d.Ranges[0].Per = "pallet" })},
	{"describe", "what is bought cannot be looked up", without(carrier.OpGetByReference)},
	{"describe", "something else each time", later(func(d *carrier.Description, n int) { d.Data = fmt.Sprint(n) })},
	{"describe", "another name once it is configured", later(func(d *carrier.Description, n int) { d.Name = fmt.Sprint("fake", min(n, 2)) })},
	{"describe", "other settings once it is configured", later(func(d *carrier.Description, n int) { d.Config = d.Config[:len(d.Config)-min(n-1, 1)] })},
	{"configure", "a missing setting is taken", instead(opConfigure, sdk.Validation, func(any) any { return nil })},
	{"configure", "the setting is not named", errs(opConfigure, sdk.Validation, func(e *sdk.Error) error { return e.At("settings") })},
	{"configure", "the class is another", errs(opConfigure, sdk.Validation, class(sdk.Auth))},
	{"configure", "a setting is not described", described(func(d *carrier.Description) { d.Config = d.Config[:1] })},
	{"operations", "one works that is not described", without(carrier.OpTrack)},
	{"operations", "one is described that does not work", func() hook {
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			if op == carrier.OpTrack {
				return nil, sdk.Errorf(sdk.NotSupported, "later")
			}
			return next()
		}
	}},
	{"address", "a good one is not valid", answers(carrier.OpValidateAddress, func(a *carrier.AddressAdvice) { a.Valid = false })},
	{"address", "an empty one is valid", answers(carrier.OpValidateAddress, func(a *carrier.AddressAdvice) { a.Valid = true })},
	{"address", "no confidence", answers(carrier.OpValidateAddress, func(a *carrier.AddressAdvice) { a.Confidence = "" })},
}

func rates(change func([]carrier.Rate)) func() hook {
	return answers(carrier.OpRate, func(r *carrier.Rates) { change(r.Rates) })
}

var wrongPrices = []mutation{
	{"rate", "the dearest first", rates(slices.Reverse[[]carrier.Rate])},
	{"rate", "no price", answers(carrier.OpRate, func(r *carrier.Rates) { r.Rates = nil })},
	{"rate", "one service only", answers(carrier.OpRate, func(r *carrier.Rates) { r.Rates = r.Rates[len(r.Rates)-1:] })},
	{"rate", "charges do not add up", rates(func(r []carrier.Rate) { r[0].Charges = r[0].Charges[1:] })},
	{"rate", "no charges", rates(func(r []carrier.Rate) { r[0].Charges, r[0].Total = nil, eur("0") })},
	{"rate", "a charge of another currency", rates(func(r []carrier.Rate) { r[0].Charges[0].Amount.Currency = "USD" })},
	{"rate", "a charge of a kind that nobody knows", rates(func(r []carrier.Rate) { r[0].Charges[0].Kind = "bribe" })},
	{"rate", "no currency", rates(func(r []carrier.Rate) {
		r[0].Total.Currency = ""
		for i := range r[0].Charges {
			r[0].Charges[i].Amount.Currency = ""
		}
	})},
	{"rate", "below zero", rates(func(r []carrier.Rate) {
		r[0].Total, r[0].Charges = eur("-1"), []carrier.Charge{{Kind: "base", Amount: eur("-1")}}
	})},
	{"rate", "a service that is not described", rates(func(r []carrier.Rate) { r[0].Service = "mule" })},
	{"rate", "from nowhere", rates(func(r []carrier.Rate) { r[0].Source = "" })},
	{"rate", "of tables without version", rates(func(r []carrier.Rate) { r[0].Data = "" })},
	{"rate", "all are priced where one is asked for", asks(carrier.OpRate, func(s *carrier.Shipment) { s.Service = "" })},
	{"rate refuses", "another class", errs(carrier.OpRate, sdk.NotServiced, class(sdk.NotFound))},
	{"rate refuses", "no price and no error", instead(carrier.OpRate, sdk.NotServiced, func(any) any { return &carrier.Rates{} })},
	{"rate refuses", "an error that is none of ours", errs(carrier.OpRate, sdk.NotServiced, func(*sdk.Error) error { return errors.New("no") })},
	{"rate refuses", "no parcel is fine", instead(carrier.OpRate, sdk.Validation, func(any) any { return &carrier.Rates{} })},
	{"rate refuses", "the field is not named", errs(carrier.OpRate, sdk.Validation, func(e *sdk.Error) error { return e.At("") })},
}

func sold(change func(*carrier.Shipped)) func() hook { return answers(carrier.OpShip, change) }

// sells makes Ship sell what the fake refuses.
func sells(class sdk.Class) func() hook {
	return instead(carrier.OpShip, class, func(any) any { return &carrier.Shipped{} })
}

var wrongPurchases = []mutation{
	{"ship", "another reference", sold(func(s *carrier.Shipped) { s.Reference += "x" })},
	{"ship", "no identifier", sold(func(s *carrier.Shipped) { s.Shipment = "" })},
	{"ship", "another service", sold(func(s *carrier.Shipped) { s.Service = "fast" })},
	{"ship", "a service that is not described", sold(func(s *carrier.Shipped) { s.Service = "mule" })},
	{"ship", "voided at once", sold(func(s *carrier.Shipped) { s.Voided = true })},
	{"ship", "a parcel is missing", sold(func(s *carrier.Shipped) { s.Parcels = s.Parcels[1:] })},
	{"ship", "parcels in another order", sold(func(s *carrier.Shipped) { slices.Reverse(s.Parcels) })},
	{"ship", "no tracking number", sold(func(s *carrier.Shipped) { s.Parcels[0].Tracking = "" })},
	{"ship", "a label that is not there", sold(func(s *carrier.Shipped) { s.Parcels[0].Label = 9 })},
	{"ship", "a price that does not add up", sold(func(s *carrier.Shipped) { s.Rate.Total = eur("1") })},
	{"labels", "the format is another", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Label = "" })},
	{"labels", "the first is not the default", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Label = cmp.Or(s.Label, carrier.PDF) })},
	{"labels", "it is not what it says", sold(func(s *carrier.Shipped) { s.Documents[0].Data = []byte("hello") })},
	{"labels", "there is none", sold(func(s *carrier.Shipped) { s.Documents = nil })},
	{"labels", "any format is sold", sells(sdk.NotSupported)},
	{"ship refuses", "what is not served is sold", sells(sdk.NotServiced)},
	{"ship refuses", "another class", errs(carrier.OpShip, sdk.NotServiced, class(sdk.Unavailable))},
	{"ship refuses", "no reference is needed", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Reference = cmp.Or(s.Reference, "none") })},
	{"ship refuses", "any reference will do", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Reference = s.Reference[:min(len(s.Reference), 64)] })},
	{"ship refuses", "no parcel is fine", asks(carrier.OpShip, func(s *carrier.Shipment) {
		if len(s.Parcels) == 0 {
			s.Parcels, s.Numbers = []carrier.Parcel{{}}, map[string][]string{"sscc": {"1"}}
		}
	})},
	{"ship refuses", "no date is needed", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Date = cmp.Or(s.Date, "2026-11-30") })},
	{"ship refuses", "any currency is insured", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Insurance = nil })},
	{"ship refuses", "any currency is collected", asks(carrier.OpShip, func(s *carrier.Shipment) { s.COD = nil })},
	{"ship refuses", "the sender pays whoever should", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Payer = nil })},
	{"ship refuses", "the dots do not matter", asks(carrier.OpShip, func(s *carrier.Shipment) { s.LabelDPI = 0 })},
	{"ship refuses", "options do not matter", asks(carrier.OpShip, func(s *carrier.Shipment) { s.Options = nil })},
	{"ship a rate", "any rate is sold", asks(carrier.OpShip, func(s *carrier.Shipment) { s.RateID = "" })},
	{"ship a rate", "its own rate is none", rates(func(r []carrier.Rate) { r[0].ID = "other" })},
	{"ship a rate", "at another price", rates(func(r []carrier.Rate) {
		r[0].Total, r[0].Charges = eur("1"), []carrier.Charge{{Kind: "base", Amount: eur("1")}}
	})},
	{"ship refuses", "the field is not named", errs(carrier.OpShip, sdk.Validation, func(e *sdk.Error) error { return e.At("shipment") })},
	{"ship refuses", "it buys and refuses", func() hook {
		return func(_ context.Context, op string, in any, next func() (any, error)) (any, error) {
			if s, ok := in.(*carrier.Shipment); ok && op == carrier.OpShip && s.To.Country == "AQ" {
				s.To.Country = "DE"
				_, _ = next()
				return nil, sdk.Errorf(sdk.NotServiced, "nobody goes there")
			}
			return next()
		}
	}},
	{"ship twice", "it is bought twice", anew(carrier.OpShip)},
	{"ship twice", "other contents are fine", instead(carrier.OpShip, sdk.Duplicate, func(in any) any { return &carrier.Shipped{} })},
	{"ship twice", "the same is a duplicate", func() hook {
		n := 0
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			if op == carrier.OpShip {
				if n++; n > 1 {
					return nil, sdk.Errorf(sdk.Duplicate, "it was bought")
				}
			}
			return next()
		}
	}},
	{"ship at once", "it is bought twice", anew(carrier.OpShip)},
	{"ship at once", "one number for all", sold(func(s *carrier.Shipped) { s.Shipment = "S" })},
	{"ship broken off", "an error that is none of ours", errs(carrier.OpShip, sdk.Unavailable, func(*sdk.Error) error { return context.Canceled })},
	{"ship broken off", "the class says that it is a fault", errs(carrier.OpShip, sdk.Unavailable, class(sdk.Internal))},
	{"ship broken off", "surely not done, and done", func() hook {
		var inner carrier.Carrier
		return func(ctx context.Context, op string, in any, next func() (any, error)) (any, error) {
			if op != carrier.OpShip || ctx.Err() == nil {
				return next()
			}
			inner = ctx.Value(theFake{}).(carrier.Carrier)
			_, _ = inner.Ship(context.Background(), in.(*carrier.Shipment))
			return next()
		}
	}},
	{"lookup", "what was never bought may have been", errs(carrier.OpGetByReference, sdk.NotFound, class(sdk.Unavailable))},
	{"lookup", "it finds what was never bought", instead(carrier.OpGetByReference, sdk.NotFound, func(any) any { return &carrier.Shipped{} })},
	{"lookup", "without labels", answers(carrier.OpGetByReference, func(s *carrier.Shipped) { s.Documents = nil })},
	{"lookup", "the time of day is another", answers(carrier.OpGetByReference, func(s *carrier.Shipped) { s.Rate.Expires = time.Unix(1, 0) })},
	{"return", "it is bought twice", anew(carrier.OpShipReturn)},
	{"return", "no tracking number", answers(carrier.OpShipReturn, func(s *carrier.Shipped) { s.Parcels[0].Tracking = "" })},
	{"return", "other contents are fine", instead(carrier.OpShipReturn, sdk.Duplicate, func(any) any { return &carrier.Shipped{} })},
}

// counted changes what an operation answers, by how often it did.
func counted[Out any](op string, change func(*Out, int)) func() hook {
	return func() hook {
		n := 0
		return answers(op, func(o *Out) { n++; change(o, n) })()
	}
}

// reopened changes what an operation answers once the carrier was opened again.
func reopened(op string, change func(in, out any) (any, error)) func() hook {
	return func() hook {
		opened := 0
		return func(_ context.Context, called string, in any, next func() (any, error)) (any, error) {
			out, err := next()
			if called == opConfigure {
				opened++
			}
			if called == op && opened > 1 && err == nil {
				return change(in, out)
			}
			return out, err
		}
	}
}

var wrongAfter = []mutation{
	{"void", "not a second time", func() hook {
		n := 0
		return func(_ context.Context, op string, in any, next func() (any, error)) (any, error) {
			out, err := next()
			if op == carrier.OpVoid && err == nil {
				if n++; n > 1 {
					return nil, sdk.Errorf(sdk.Conflict, "it is voided")
				}
			}
			return out, err
		}
	}},
	{"void", "what was never bought", instead(carrier.OpVoid, sdk.NotFound, func(any) any { return &carrier.Voided{} })},
	{"void", "no reference", answers(carrier.OpVoid, func(v *carrier.Voided) { v.Reference = "" })},
	{"void", "a refund without currency", answers(carrier.OpVoid, func(v *carrier.Voided) { v.Refund.Currency = "€" })},
	{"void", "and nobody sees it", answers(carrier.OpGetByReference, func(s *carrier.Shipped) { s.Voided = false })},
	{"void after manifest", "it is taken back", instead(carrier.OpVoid, sdk.Conflict, func(in any) any {
		return &carrier.Voided{Reference: in.(*carrier.VoidRequest).Reference, Accepted: true}
	})},
	{"void after manifest", "another class", errs(carrier.OpVoid, sdk.Conflict, class(sdk.NotFound))},
	{"manifest", "no identifier", answers(carrier.OpManifest, func(m *carrier.Manifested) { m.Manifest = "" })},
	{"manifest", "a shipment is missing", answers(carrier.OpManifest, func(m *carrier.Manifested) { m.Shipments = m.Shipments[1:] })},
	{"manifest", "shipments, not parcels", answers(carrier.OpManifest, func(m *carrier.Manifested) { m.Parcels = len(m.Shipments) })},
	{"manifest", "what was never bought", instead(carrier.OpManifest, sdk.NotFound, func(any) any { return &carrier.Manifested{} })},
	{"manifest twice", "it is another", counted(carrier.OpManifest, func(m *carrier.Manifested, n int) { m.Manifest += fmt.Sprint(n) })},
	{"manifest twice", "without its paper", counted(carrier.OpManifest, func(m *carrier.Manifested, n int) { m.Documents = m.Documents[min(n-1, 1):] })},
	{"manifest twice", "other contents are fine", instead(carrier.OpManifest, sdk.Duplicate, func(any) any { return &carrier.Manifested{} })},
	{"manifest twice", "no reference is needed", asks(carrier.OpManifest, func(m *carrier.ManifestRequest) { m.Reference = cmp.Or(m.Reference, "none") })},
	{"pickup twice", "it is another", counted(carrier.OpPickup, func(p *carrier.PickedUp, n int) { p.Confirmation += fmt.Sprint(n) })},
	{"pickup twice", "other contents are fine", instead(carrier.OpPickup, sdk.Duplicate, func(any) any { return &carrier.PickedUp{} })},
	{"pickup twice", "no reference is needed", asks(carrier.OpPickup, func(p *carrier.PickupRequest) { p.Reference = cmp.Or(p.Reference, "none") })},
	{"pickup twice", "it is cancelled once", func() hook {
		n := 0
		return func(_ context.Context, op string, in any, next func() (any, error)) (any, error) {
			if r, ok := in.(*carrier.PickupRequest); ok && op == carrier.OpPickup && r.Action == "cancel" {
				if n++; n > 1 {
					return nil, sdk.Errorf(sdk.Conflict, "it is cancelled")
				}
			}
			return next()
		}
	}},
	{"reopen", "nothing was bought", reopened(carrier.OpGetByReference, func(any, any) (any, error) {
		return nil, sdk.Errorf(sdk.NotFound, "nothing was bought under it").At("reference")
	})},
	{"reopen", "without labels", reopened(carrier.OpGetByReference, func(_, out any) (any, error) {
		changed := deep(out.(*carrier.Shipped))
		changed.Documents = nil
		return changed, nil
	})},
	{"reopen", "it is bought again", reopened(carrier.OpShip, func(_, out any) (any, error) {
		changed := deep(out.(*carrier.Shipped))
		changed.Shipment += "-2"
		return changed, nil
	})},
	{"reopen", "numbers begin anew", func() hook {
		return func(_ context.Context, _ string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if s, ok := out.(*carrier.Shipped); ok && err == nil {
				changed := deep(s)
				changed.Shipment = "S"
				return changed, nil
			}
			return out, err
		}
	}},
	{"reopen after", "it is not voided", reopened(carrier.OpGetByReference, func(_, out any) (any, error) {
		changed := deep(out.(*carrier.Shipped))
		changed.Voided = false
		return changed, nil
	})},
	{"reopen after", "what was handed over is taken back", instead(carrier.OpVoid, sdk.Conflict, func(in any) any {
		return &carrier.Voided{Reference: in.(*carrier.VoidRequest).Reference, Accepted: true}
	})},
	{"reopen after", "the manifest is another", reopened(carrier.OpManifest, func(_, out any) (any, error) {
		changed := deep(out.(*carrier.Manifested))
		changed.Manifest += "-2"
		return changed, nil
	})},
	{"reopen after", "it is picked up again", reopened(carrier.OpPickup, func(_, out any) (any, error) {
		changed := deep(out.(*carrier.PickedUp))
		changed.Confirmation += "-2"
		return changed, nil
	})},
	{"track", "pages without end", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Next = "0" })},
	{"track", "the first page is all", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Next = "" })},
	{"pickup", "no confirmation", answers(carrier.OpPickup, func(p *carrier.PickedUp) { p.Confirmation = "" })},
	{"pickup", "another reference", answers(carrier.OpPickup, func(p *carrier.PickedUp) { p.Reference = "" })},
	{"pickup", "it cannot be cancelled", asks(carrier.OpPickup, func(p *carrier.PickupRequest) { p.Confirmation = "other" })},
	{"pickup", "what was never booked is cancelled", instead(carrier.OpPickup, sdk.NotFound, func(any) any { return &carrier.PickedUp{} })},
	{"pickup", "any action", instead(carrier.OpPickup, sdk.Validation, func(any) any { return &carrier.PickedUp{} })},
	{"track", "one unknown number fails all", func() hook {
		return func(_ context.Context, op string, _ any, next func() (any, error)) (any, error) {
			out, err := next()
			if tracked, ok := out.(*carrier.Tracked); ok && op == carrier.OpTrack && tracked.Parcels[0].Problem != nil {
				return nil, tracked.Parcels[0].Problem
			}
			return out, err
		}
	}},
	{"track", "the unknown number is missing", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Parcels = r.Parcels[1:] })},
	{"track", "the unknown number has no problem", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Parcels[0].Problem = nil })},
	{"track", "another order", answers(carrier.OpTrack, func(r *carrier.Tracked) { slices.Reverse(r.Parcels) })},
	{"track", "the newest first", answers(carrier.OpTrack, func(r *carrier.Tracked) { slices.Reverse(r.Parcels[1].Events) })},
	{"track", "an event without time", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Parcels[1].Events[0].Time = time.Time{} })},
	{"track", "a status that nobody knows", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Parcels[1].Status, r.Parcels[1].Events = "lost", nil })},
	{"track", "a status that no event has", answers(carrier.OpTrack, func(r *carrier.Tracked) { r.Parcels[1].Status = carrier.StatusOnHold })},
}
