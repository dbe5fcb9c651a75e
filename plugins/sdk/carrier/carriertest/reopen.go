package carriertest

import (
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// reopen: what was bought is still there when the plugin is started anew, and is not bought a
// second time.
func reopen(t testing.TB, s *suite) {
	if !s.can(carrier.OpShip) {
		return
	}
	asked, want := s.bought(t)
	if !s.reopen(t) {
		return
	}
	if s.remembers() {
		got, err := s.c.GetByReference(t.Context(), asked.Reference)
		if err != nil {
			t.Fatalf("lookup, opened again: %v", err)
		}
		same(t, "lookup, opened again", got, want)
		_, err = s.c.Ship(t.Context(), other(asked))
		sdktest.Fails(t, "ship, opened again, other contents under the same reference", err, sdk.Duplicate)
	}
	again, err := s.c.Ship(t.Context(), asked)
	if err != nil {
		t.Fatalf("ship, opened again, the same again: %v", err)
	}
	same(t, "ship, opened again, the same again", again, want)
	next := s.shipment(t, s.Takes)
	got, err := s.c.Ship(t.Context(), next)
	if err != nil {
		t.Fatalf("ship, opened again: %v", err)
	}
	if shipped(t, s, next, got); got.Shipment == want.Shipment {
		t.Errorf("ship, opened again: shipment %q was sold twice", got.Shipment)
	}
}

// reopenAfter: what was voided, closed and booked stays so when the plugin is started anew, and
// repeating it is the same thing.
func reopenAfter(t testing.TB, s *suite) {
	ships := s.can(carrier.OpShip)
	voids, closes := ships && s.can(carrier.OpVoid), ships && s.can(carrier.OpManifest)
	var voided, closed *carrier.VoidRequest
	var day *carrier.ManifestRequest
	var manifest *carrier.Manifested
	var booked *carrier.PickedUp
	var err error
	if voids {
		voided = voidOf(s.bought(t))
		if _, err := s.c.Void(t.Context(), voided); err != nil {
			t.Fatalf("void: %v", err)
		}
	}
	if closes {
		closed = voidOf(s.bought(t))
		day = s.day(closed.Reference)
		if manifest, err = s.c.Manifest(t.Context(), day); err != nil {
			t.Fatalf("manifest: %v", err)
		}
	}
	collection := s.collection()
	if s.can(carrier.OpPickup) {
		if booked, err = s.c.Pickup(t.Context(), collection); err != nil {
			t.Fatalf("pickup: %v", err)
		}
	}
	if !s.reopen(t) {
		return
	}
	if voids {
		s.staysVoided(t, voided)
	}
	if closes {
		s.sameManifest(t, "manifest, opened again, the same again", day, manifest)
	}
	if closes && voids {
		_, err := s.c.Void(t.Context(), closed)
		sdktest.Fails(t, "void, opened again, of what was handed over", err, sdk.Conflict)
	}
	if booked != nil {
		again, err := s.c.Pickup(t.Context(), collection)
		if err != nil {
			t.Fatalf("pickup, opened again, the same again: %v", err)
		}
		same(t, "pickup, opened again, the same again", again, booked)
		s.cancels(t, "pickup, opened again, cancelled", booked)
	}
}

func (s *suite) staysVoided(t testing.TB, r *carrier.VoidRequest) {
	t.Helper()
	if s.remembers() {
		found, err := s.c.GetByReference(t.Context(), r.Reference)
		if err != nil {
			t.Fatalf("lookup, opened again, of what was voided: %v", err)
		}
		if v, err := s.c.Void(t.Context(), r); err != nil || v.Accepted && !found.Voided {
			t.Errorf("lookup, opened again, of what was voided: it is not (%v)", err)
		}
		return
	}
	if _, err := s.c.Void(t.Context(), r); err != nil {
		t.Errorf("void, opened again, a second time: %v", err)
	}
}
