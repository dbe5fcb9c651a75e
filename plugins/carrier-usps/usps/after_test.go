package usps

import (
	"slices"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

func shipped(t *testing.T, c *Carrier, reference string) *carrier.Shipped {
	t.Helper()
	out, err := c.Ship(t.Context(), parcel(reference))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func warned(list []sdk.Warning, code string) bool {
	return slices.ContainsFunc(list, func(w sdk.Warning) bool { return w.Code == code })
}

func TestAVoidWithoutAnAnswerIsRepeated(t *testing.T) {
	for _, m := range []mishap{cutBefore, cutAfter, {after: true, status: 200, body: "ok"}, {after: true, status: 200, body: `{"status": "MAYBE"}`}} {
		p := newProvider(t)
		settings := settingsFor(t, p)
		c := open(t, settings)
		got := shipped(t, c, "S")
		p.upset(onCancel, m)
		_, err := c.Void(t.Context(), &carrier.VoidRequest{Shipment: got.Shipment})
		sdktest.Fails(t, "void", err, sdk.UnknownOutcome)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		c = open(t, settings)
		for range 2 {
			v, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: "S"})
			if err != nil || !v.Accepted || v.Refund == nil || v.Refund.String() != "9.40 USD" || warned(v.Warnings, "unconfirmed") != m.after {
				t.Errorf("void, again: %+v, %v", v, err)
			}
		}
		if !p.labels[got.Shipment].cancelled || p.count(onCancel) != 2 {
			t.Errorf("the label is cancelled: %v, with %d calls, want 2", p.labels[got.Shipment].cancelled, p.count(onCancel))
		}
	}
}

func TestARefundIsAskedForOnce(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	first, second := shipped(t, c, "1"), shipped(t, c, "2")
	p.with(func() { p.labels[first.Shipment].gone, p.labels[second.Shipment].gone = true, true })
	for reference, m := range map[string]mishap{"1": cutBefore, "2": cutAfter} {
		p.upset(onCancel, m)
		_, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: reference})
		sdktest.Fails(t, "void", err, sdk.UnknownOutcome)
		for range 2 {
			v, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: reference})
			if err != nil || v.Accepted || v.Refund != nil || !warned(v.Warnings, "refund") {
				t.Errorf("void of what has gone: %+v, %v", v, err)
			}
		}
	}
	if found, err := c.GetByReference(t.Context(), "1"); err != nil || found.Voided {
		t.Errorf("a refund that is not decided voids: %+v, %v", found, err)
	}
}

func TestAVoidThatTheProviderRefuses(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	scanned, strange := shipped(t, c, "1"), shipped(t, c, "2")
	p.with(func() { p.labels[scanned.Shipment].scanned = true; delete(p.labels, strange.Shipment) })
	_, err := c.Void(t.Context(), &carrier.VoidRequest{Reference: "1"})
	sdktest.Fails(t, "void of what was handed over elsewhere", err, sdk.Conflict)
	_, err = c.Void(t.Context(), &carrier.VoidRequest{Reference: "2"})
	sdktest.Fails(t, "void of what the provider does not know", err, sdk.NotFound)
	_, err = c.Void(t.Context(), &carrier.VoidRequest{Reference: "1", Tracking: []string{strange.Shipment}})
	sdktest.FailsAt(t, "void with another's number", err, "tracking")
	_, err = c.Void(t.Context(), &carrier.VoidRequest{})
	sdktest.FailsAt(t, "void of nothing", err, "reference")
}

func collection1(action string) *carrier.PickupRequest {
	return &carrier.PickupRequest{Action: action, Reference: "P", Place: parcel("").From, Date: "2026-11-27", Ready: "10:00", Close: "16:00", Parcels: 3, Instructions: "dock 2"}
}

func TestAPickupIsBookedChangedAndCancelled(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	one := shipped(t, c, "S")
	ask := collection1("book")
	ask.Tracking = []string{one.Shipment}
	got, err := c.Pickup(t.Context(), ask)
	if err != nil || !warned(got.Warnings, "no_hours") || !warned(got.Warnings, "estimate") {
		t.Fatalf("book: %+v, %v", got, err)
	}
	again, err := c.Pickup(t.Context(), ask)
	if err != nil || sdktest.Diff(again, got) != "" || len(p.pickups) != 1 {
		t.Errorf("book, again: %+v, %v, %d pickups", again, err, len(p.pickups))
	}
	other := *ask
	other.Date = "2026-11-28"
	_, err = c.Pickup(t.Context(), &other)
	sdktest.Fails(t, "book with other contents", err, sdk.Duplicate)

	change := &carrier.PickupRequest{Action: "change", Confirmation: got.Confirmation, Date: "2026-11-30", Weight: &sdk.Measure{Value: dec("10"), Unit: sdk.Kilogram}}
	for range 2 {
		changed, err := c.Pickup(t.Context(), change)
		if err != nil || changed.Date != "2026-11-30" || changed.Reference != "P" {
			t.Errorf("change: %+v, %v", changed, err)
		}
	}
	request := p.pickups[got.Confirmation]["carrierPickupRequest"].(object)
	if request["pickupDate"] != "2026-11-30" || request["estimatedWeight"] != 22.1 || request["pickupLocation"].(object)["specialInstructions"] != "dock 2" || p.count(onChange) != 1 {
		t.Errorf("after %d changes the provider has %v", p.count(onChange), request)
	}
	packages := request["packages"].([]any)
	if len(packages) != 2 || packages[0].(object)["packageType"] != "OTHER" || packages[0].(object)["packageCount"] != 2.0 || packages[1].(object)["packageType"] != "USPS_GROUND_ADVANTAGE" {
		t.Errorf("the packages are %v", packages)
	}
	for range 2 {
		if _, err := c.Pickup(t.Context(), &carrier.PickupRequest{Action: "cancel", Reference: "P"}); err != nil {
			t.Errorf("cancel: %v", err)
		}
	}
	if p.count(onUnbook) != 1 {
		t.Errorf("it was cancelled %d times at the provider, want once", p.count(onUnbook))
	}
	_, err = c.Pickup(t.Context(), change)
	sdktest.Fails(t, "change of what is cancelled", err, sdk.Conflict)
	_, err = c.Pickup(t.Context(), ask)
	sdktest.Fails(t, "book what is cancelled", err, sdk.Conflict)
}

func TestAPickupWithoutAnAnswerIsRepeated(t *testing.T) {
	p := newProvider(t)
	settings := settingsFor(t, p)
	c := open(t, settings)
	p.upset(onPickup, cutAfter)
	_, err := c.Pickup(t.Context(), collection1("book"))
	sdktest.Fails(t, "book", err, sdk.UnknownOutcome)
	_, err = c.Pickup(t.Context(), collection1("cancel"))
	sdktest.Fails(t, "cancel while nobody knows", err, sdk.Conflict)
	got, err := c.Pickup(t.Context(), collection1("book"))
	if err != nil || !warned(got.Warnings, "booked_twice") {
		t.Fatalf("book, again: %+v, %v", got, err)
	}
	p.upset(onChange, cutAfter)
	change := collection1("change")
	change.Date = "2026-11-30"
	_, err = c.Pickup(t.Context(), change)
	sdktest.Fails(t, "change", err, sdk.UnknownOutcome)
	if changed, err := c.Pickup(t.Context(), change); err != nil || changed.Date != "2026-11-30" {
		t.Errorf("change, again: %+v, %v", changed, err)
	}
	p.upset(onUnbook, cutAfter)
	_, err = c.Pickup(t.Context(), collection1("cancel"))
	sdktest.Fails(t, "cancel", err, sdk.UnknownOutcome)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, settings)
	if gone, err := c.Pickup(t.Context(), collection1("cancel")); err != nil || !warned(gone.Warnings, "unconfirmed") {
		t.Errorf("cancel, again: %+v, %v", gone, err)
	}
}

func TestAPickupThatTheProviderRefuses(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	ask := collection1("book")
	ask.Date = "2026-12-25"
	_, err := c.Pickup(t.Context(), ask)
	sdktest.Fails(t, "book on a holiday", err, sdk.NotServiced)
	ask.Date = "2026-12-26"
	got, err := c.Pickup(t.Context(), ask)
	if err != nil {
		t.Fatalf("book on another day: %v", err)
	}
	p.with(func() { delete(p.pickups, got.Confirmation) })
	_, err = c.Pickup(t.Context(), collection1("cancel"))
	sdktest.Fails(t, "cancel what the provider does not know", err, sdk.Validation, sdk.NotFound)
	for field, spoil := range map[string]func(*carrier.PickupRequest){
		"place.email": func(r *carrier.PickupRequest) { r.Place.Email = "" },
		"place.name":  func(r *carrier.PickupRequest) { r.Place.Name = "" },
		"parcels":     func(r *carrier.PickupRequest) { r.Parcels = 0 },
		"date":        func(r *carrier.PickupRequest) { r.Date = "tomorrow" },
	} {
		ask := collection1("book")
		ask.Reference = field
		spoil(ask)
		_, err := c.Pickup(t.Context(), ask)
		sdktest.FailsAt(t, "book", err, field)
	}
}

func day(references ...string) *carrier.ManifestRequest {
	return &carrier.ManifestRequest{Reference: "M", Date: "2026-11-28", From: parcel("").From, Shipments: references}
}

func TestADayIsClosedOnce(t *testing.T) {
	p := newProvider(t)
	settings := settingsFor(t, p)
	c := open(t, settings)
	first := shipped(t, c, "1")
	shipped(t, c, "2")
	got, err := c.Manifest(t.Context(), day("1", "2"))
	if err != nil || got.Parcels != 2 || len(got.Documents) != 1 || string(got.Documents[0].Data) != "%PDF-1.7 label" || !warned(got.Warnings, "date") {
		t.Fatalf("manifest: %+v, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c = open(t, settings)
	again, err := c.Manifest(t.Context(), day("1", "2"))
	if err != nil || sdktest.Diff(again, got) != "" || p.count(onScan) != 1 {
		t.Errorf("manifest, again: %+v, %v, %d calls", again, err, p.count(onScan))
	}
	_, err = c.Manifest(t.Context(), day("1"))
	sdktest.Fails(t, "manifest with other contents", err, sdk.Duplicate)
	next := day("1")
	next.Reference = "N"
	_, err = c.Manifest(t.Context(), next)
	sdktest.Fails(t, "a shipment in a second manifest", err, sdk.Conflict)
	_, err = c.Void(t.Context(), &carrier.VoidRequest{Shipment: first.Shipment})
	sdktest.Fails(t, "void of what was handed over", err, sdk.Conflict)
}

func TestAManifestWithoutAnAnswer(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	shipped(t, c, "1")
	p.upset(onScan, cutBefore)
	_, err := c.Manifest(t.Context(), day("1"))
	sdktest.Fails(t, "manifest that never arrived", err, sdk.UnknownOutcome)
	p.upset(onScan, cutAfter)
	_, err = c.Manifest(t.Context(), day("1"))
	sdktest.Fails(t, "manifest that arrived", err, sdk.UnknownOutcome)
	_, err = c.Manifest(t.Context(), day("1"))
	sdktest.Fails(t, "manifest that is there already", err, sdk.UnknownOutcome)
	other := day("1")
	other.Reference = "N"
	_, err = c.Manifest(t.Context(), other)
	sdktest.Fails(t, "its shipment in another one", err, sdk.Conflict)
}

func TestAManifestThatIsRefused(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	one := shipped(t, c, "1")
	p.with(func() { p.labels[one.Shipment].cancelled = true })
	_, err := c.Manifest(t.Context(), day("1"))
	sdktest.FailsAt(t, "manifest of a label that is not eligible", err, "shipments")
	p.with(func() { p.labels[one.Shipment].cancelled = false })
	two := shipped(t, c, "2")
	p.with(func() { p.labels[two.Shipment].cancelled = true })
	other := day("2")
	other.Reference = "O"
	_, err = c.Manifest(t.Context(), other)
	sdktest.FailsAt(t, "another one", err, "shipments")
	p.with(func() { p.labels[two.Shipment].cancelled = false })
	if _, err := c.Manifest(t.Context(), day("1", "2")); err != nil { // one under its reference, one under another
		t.Errorf("after it was put right: %v", err)
	}
	back, err := c.ShipReturn(t.Context(), parcel("back"))
	if err != nil || back.Documents[0].Kind != "return-label" {
		t.Fatalf("return: %+v, %v", back, err)
	}
	next := day("back")
	next.Reference = "N"
	_, err = c.Manifest(t.Context(), next)
	sdktest.Fails(t, "manifest of a return", err, sdk.NotSupported)
}
