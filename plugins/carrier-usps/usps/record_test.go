package usps

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// openAt gives a carrier whose book has another time.
func openAt(t *testing.T, settings sdk.Settings, now func() time.Time) *Carrier {
	t.Helper()
	c := New(logTo(t))
	c.now = now
	if err := c.Configure(t.Context(), maps.Clone(settings)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Labels are forgotten before the references that they are of, and those later.
func TestWhatIsOldIsForgotten(t *testing.T) {
	p := newProvider(t)
	settings := settingsFor(t, p)
	now := time.Now()
	clock := func() time.Time { return now }
	size := func() int64 {
		info, err := os.Stat(filepath.Join(settings[setState], "book.log"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	c := openAt(t, settings, clock)
	long := make([]byte, 20_000)
	first := shipped(t, c, "S")
	if err := c.book.Done(imageKey(shipmentKey("S")), &image{Kind: "label", Format: carrier.PDF, Data: long}); err != nil {
		t.Fatal(err)
	}
	before, printed := size(), true
	for _, k := range []struct {
		later          time.Duration
		known, printed bool
	}{{keepImages - time.Hour, true, true}, {2 * time.Hour, true, false}, {keepRest, false, false}} {
		for _, ahead := range []time.Duration{2 * keepRest, 0} { // a clock alone makes nothing old
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			c = openAt(t, settings, func() time.Time { return now.Add(ahead) })
		}
		if got, err := c.GetByReference(t.Context(), "S"); k.known && (err != nil || (len(got.Documents) == 1) != printed) {
			t.Errorf("before %s: %+v, %v", k.later, got, err)
		}
		now = now.Add(k.later)
		if err := errors.Join(c.book.Note(pickupKey("later"), &collection{}), c.Close()); err != nil {
			t.Fatal(err)
		}
		c = openAt(t, settings, clock)
		got, err := c.GetByReference(t.Context(), "S")
		if !k.known {
			sdktest.Fails(t, "lookup of what is forgotten", err, sdk.NotFound)
			continue
		}
		if err != nil || got.Shipment != first.Shipment || (len(got.Documents) == 1) != k.printed || warned(got.Warnings, "no_label") == k.printed {
			t.Errorf("after %s: %+v, %v", k.later, got, err)
		}
		printed = k.printed
	}
	if after := size(); after > before/10 {
		t.Errorf("the book has %d bytes, and had %d", after, before)
	}
}

func TestTheBookIsOfOneProcess(t *testing.T) {
	settings := settingsFor(t, newProvider(t))
	open(t, settings)
	err := New(logTo(t)).Configure(t.Context(), maps.Clone(settings))
	sdktest.Fails(t, "a second one", err, sdk.Unavailable)
}

// A call that ends while the provider works has an unknown outcome; one that ends before has none.
func TestACallThatEndsEarly(t *testing.T) {
	p := newProvider(t)
	c := open(t, settingsFor(t, p))
	ctx, cancel := context.WithCancel(t.Context())
	p.upset(onLabel, mishap{change: func(object) { cancel(); <-ctx.Done() }})
	_, err := c.Ship(ctx, parcel("S"))
	if got, lookup := c.GetByReference(t.Context(), "S"); lookup != nil || got.Shipment == "" {
		t.Errorf("lookup: %+v, %v", got, lookup)
	}
	if err != nil { // the answer may have been there first
		sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	}
	_, err = c.Ship(ctx, parcel("T"))
	sdktest.Fails(t, "ship when nobody waits", err, sdk.Unavailable)
	if p.bought() != 1 {
		t.Errorf("%d labels were bought, want 1", p.bought())
	}
}

// What was bought and cannot be read again is not to be bought elsewhere.
func TestABookThatIsDamaged(t *testing.T) {
	p := newProvider(t)
	settings := settingsFor(t, p)
	c := open(t, settings)
	shipped(t, c, "S")
	damage(t, filepath.Join(settings[setState], "book.log"))
	_, err := c.Ship(t.Context(), parcel("S"))
	sdktest.Fails(t, "ship", err, sdk.UnknownOutcome)
	_, err = c.GetByReference(t.Context(), "S")
	sdktest.Fails(t, "lookup", err, sdk.Unavailable)
	if p.bought() != 1 {
		t.Errorf("%d labels were bought, want 1", p.bought())
	}
}

// damage changes the record behind the plugin's back.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt([]byte("?"), info.Size()-2)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
