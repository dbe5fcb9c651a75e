package carriertest

import (
	"slices"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

func voidOf(asked *carrier.Shipment, got *carrier.Shipped) *carrier.VoidRequest {
	r := &carrier.VoidRequest{Reference: asked.Reference, Shipment: got.Shipment}
	for _, p := range got.Parcels {
		r.Tracking = append(r.Tracking, p.Tracking)
	}
	return r
}

// void: twice is once, and a lookup tells of it.
func void(t testing.TB, s *suite) {
	if !s.can(carrier.OpVoid) {
		return
	}
	_, err := s.c.Void(t.Context(), &carrier.VoidRequest{Reference: reference(), Shipment: "none"})
	sdktest.Fails(t, "void of what was never bought", err, sdk.NotFound)
	if !s.can(carrier.OpShip) {
		return
	}
	asked, got := s.bought(t)
	accepted := false
	for _, what := range []string{"void", "void, a second time"} {
		v, err := s.c.Void(t.Context(), voidOf(asked, got))
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if v.Reference != asked.Reference {
			t.Errorf("%s: reference %q, want %q", what, v.Reference, asked.Reference)
		}
		if v.Refund != nil {
			currency(t, what, *v.Refund)
		}
		accepted = v.Accepted
	}
	if !accepted || !s.remembers() {
		return
	}
	found, err := s.c.GetByReference(t.Context(), asked.Reference)
	if err != nil {
		t.Fatalf("lookup of what was voided: %v", err)
	}
	if !found.Voided {
		t.Error("lookup of what was voided: it is not voided")
	}
}

// day is the manifest of some shipments.
func (s *suite) day(references ...string) *carrier.ManifestRequest {
	return &carrier.ManifestRequest{Reference: reference(), Date: s.Takes.Date, From: s.Takes.From, Shipments: references}
}

// voidAfterManifest: what was handed over cannot be given back.
func voidAfterManifest(t testing.TB, s *suite) {
	if !s.can(carrier.OpVoid) || !s.can(carrier.OpManifest) || !s.can(carrier.OpShip) {
		return
	}
	asked, got := s.bought(t)
	if _, err := s.c.Manifest(t.Context(), s.day(asked.Reference)); err != nil {
		t.Fatalf("manifest: %v", err)
	}
	_, err := s.c.Void(t.Context(), voidOf(asked, got))
	sdktest.Fails(t, "void of what was handed over", err, sdk.Conflict)
}

// manifest: it holds what was named, and nothing that was never bought.
func manifest(t testing.TB, s *suite) {
	if !s.can(carrier.OpManifest) || !s.can(carrier.OpShip) {
		return
	}
	first, _ := s.bought(t)
	second, _ := s.bought(t)
	request := s.day(first.Reference, second.Reference)
	got, err := s.c.Manifest(t.Context(), request)
	if err != nil {
		t.Fatalf("manifest: %v", err)
	}
	if got.Reference != request.Reference || got.Manifest == "" {
		t.Errorf("manifest: reference %q and manifest %q, want %q and one", got.Reference, got.Manifest, request.Reference)
	}
	slices.Sort(got.Shipments)
	slices.Sort(request.Shipments)
	same(t, "manifest, what it holds", got.Shipments, request.Shipments)
	if want := len(first.Parcels) + len(second.Parcels); got.Parcels != want {
		t.Errorf("manifest: %d parcels, want %d", got.Parcels, want)
	}
	if s.remembers() {
		_, err = s.c.Manifest(t.Context(), s.day(reference()))
		sdktest.Fails(t, "manifest of what was never bought", err, sdk.NotFound, sdk.Validation)
	}
}

// manifestTwice: the same again is the same manifest, with other contents it is refused.
func manifestTwice(t testing.TB, s *suite) {
	if !s.can(carrier.OpManifest) || !s.can(carrier.OpShip) {
		return
	}
	asked, _ := s.bought(t)
	request := s.day(asked.Reference)
	first, err := s.c.Manifest(t.Context(), request)
	if err != nil {
		t.Fatalf("manifest: %v", err)
	}
	s.sameManifest(t, "manifest, the same again", request, first)
	more, _ := s.bought(t)
	request.Shipments = append(request.Shipments, more.Reference)
	_, err = s.c.Manifest(t.Context(), request)
	sdktest.Fails(t, "manifest, other contents under the same reference", err, sdk.Duplicate)
	request.Reference = ""
	_, err = s.c.Manifest(t.Context(), request)
	sdktest.FailsAt(t, "manifest without a reference", err, "reference")
}

// sameManifest repeats a manifest. Its paper may be printed anew.
func (s *suite) sameManifest(t testing.TB, what string, request *carrier.ManifestRequest, want *carrier.Manifested) {
	t.Helper()
	got, err := s.c.Manifest(t.Context(), request)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if len(got.Documents) != len(want.Documents) {
		t.Errorf("%s: %d documents, want %d", what, len(got.Documents), len(want.Documents))
	}
	a, b := *got, *want
	a.Documents, b.Documents = nil, nil
	same(t, what, a, b)
}

// pickupTwice: the same again is the same collection, with other contents it is refused, and
// cancelling twice is once.
func pickupTwice(t testing.TB, s *suite) {
	if !s.can(carrier.OpPickup) {
		return
	}
	request := s.collection()
	first, err := s.c.Pickup(t.Context(), request)
	if err != nil {
		t.Fatalf("pickup: %v", err)
	}
	again, err := s.c.Pickup(t.Context(), request)
	if err != nil {
		t.Fatalf("pickup, the same again: %v", err)
	}
	same(t, "pickup, the same again", again, first)
	changed := *request
	changed.Close = "17:00"
	_, err = s.c.Pickup(t.Context(), &changed)
	sdktest.Fails(t, "pickup, other contents under the same reference", err, sdk.Duplicate)
	changed.Reference = ""
	_, err = s.c.Pickup(t.Context(), &changed)
	sdktest.FailsAt(t, "pickup without a reference", err, "reference")
	for _, what := range []string{"pickup, cancelled", "pickup, cancelled a second time"} {
		s.cancels(t, what, first)
	}
}

func (s *suite) cancels(t testing.TB, what string, booked *carrier.PickedUp) {
	t.Helper()
	cancel := s.collection()
	cancel.Action, cancel.Reference, cancel.Confirmation = "cancel", booked.Reference, booked.Confirmation
	if _, err := s.c.Pickup(t.Context(), cancel); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// collection is a pickup that a carrier can do.
func (s *suite) collection() *carrier.PickupRequest {
	return &carrier.PickupRequest{Action: "book", Reference: reference(), Place: s.Takes.From, Date: s.Takes.Date,
		Ready: "10:00", Close: "16:00", Parcels: len(s.Takes.Parcels)}
}

// pickup: what was booked can be cancelled by its confirmation.
func pickup(t testing.TB, s *suite) {
	if !s.can(carrier.OpPickup) {
		return
	}
	request := s.collection()
	got, err := s.c.Pickup(t.Context(), request)
	if err != nil {
		t.Fatalf("pickup: %v", err)
	}
	if got.Reference != request.Reference || got.Confirmation == "" {
		t.Errorf("pickup: reference %q and confirmation %q, want %q and one", got.Reference, got.Confirmation, request.Reference)
	}
	if got.Price != nil {
		currency(t, "pickup", *got.Price)
	}
	s.cancels(t, "pickup, cancelled", got)
	cancel := s.collection()
	cancel.Action = "cancel"
	cancel.Reference, cancel.Confirmation = reference(), "none-"+reference()
	_, err = s.c.Pickup(t.Context(), cancel)
	sdktest.Fails(t, "cancel a pickup that was never booked", err, sdk.NotFound, sdk.Validation)
	odd := s.collection()
	odd.Action = "dance"
	_, err = s.c.Pickup(t.Context(), odd)
	sdktest.FailsAt(t, "pickup with action dance", err, "action")
}

var statuses = []string{carrier.StatusPending, carrier.StatusPickedUp, carrier.StatusInTransit, carrier.StatusOutForDelivery,
	carrier.StatusReadyForPickup, carrier.StatusDelivered, carrier.StatusFailed, carrier.StatusDelayed, carrier.StatusOnHold,
	carrier.StatusReturning, carrier.StatusCancelled, carrier.StatusUnknown}

// maxPages is more than the few parcels of a test can have.
const maxPages = 20

// trackAll takes all pages.
func trackAll(t testing.TB, s *suite, numbers []string) []carrier.TrackedParcel {
	t.Helper()
	var all []carrier.TrackedParcel
	request := &carrier.TrackRequest{Tracking: numbers}
	for range maxPages {
		got, err := s.c.Track(t.Context(), request)
		if err != nil {
			t.Fatalf("track, one number of them not known: %v", err)
		}
		all = append(all, got.Parcels...)
		if request.Page = got.Next; got.Next == "" {
			return all
		}
	}
	t.Fatalf("track: %d numbers have more than %d pages", len(numbers), maxPages)
	return nil
}

// track: each number has its own answer, the oldest event first.
func track(t testing.TB, s *suite) {
	if !s.can(carrier.OpTrack) {
		return
	}
	numbers := []string{"none-" + reference()}
	if s.can(carrier.OpShip) {
		_, got := s.bought(t)
		for _, p := range got.Parcels {
			numbers = append(numbers, p.Tracking)
		}
	}
	got := trackAll(t, s, numbers)
	if len(got) != len(numbers) {
		t.Fatalf("track: %d parcels, want %d", len(got), len(numbers))
	}
	for i, p := range got {
		if p.Tracking != numbers[i] {
			t.Errorf("track: parcel %d is %q, want %q", i, p.Tracking, numbers[i])
		}
		if (p.Problem != nil) != (i == 0) {
			t.Errorf("track: parcel %q has the problem %v", p.Tracking, p.Problem)
		}
		if i == 0 && p.Problem != nil {
			sdktest.Fails(t, "track a number that nobody knows", p.Problem, sdk.NotFound)
			continue
		}
		tracked(t, &p)
	}
}

func tracked(t testing.TB, p *carrier.TrackedParcel) {
	t.Helper()
	if !slices.Contains(statuses, p.Status) {
		t.Errorf("track: nobody knows the status %q", p.Status)
	}
	for i, e := range p.Events {
		if !slices.Contains(statuses, e.Status) || e.Time.IsZero() {
			t.Errorf("track: event %d has status %q and time %s", i, e.Status, e.Time)
		}
		if i > 0 && e.Time.Before(p.Events[i-1].Time) {
			t.Errorf("track: event %d is older than the one before it", i)
		}
	}
	if n := len(p.Events); n > 0 && p.Events[n-1].Status != p.Status {
		t.Errorf("track: status %q, want that of the last event, %q", p.Status, p.Events[n-1].Status)
	}
}
