package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// asPlugin says that this program is started as a plugin instead of as a test.
const asPlugin = "MYDHL_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A program that is killed with an order on its way does not order again when it is started
// anew, and finds what it ordered.
func TestAKilledProgram(t *testing.T) {
	var orders atomic.Int64
	var running atomic.Pointer[exec.Cmd]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodPost {
			orders.Add(1)
			if err := running.Load().Process.Kill(); err != nil {
				t.Error(err)
			}
			<-r.Context().Done() // its end closes the connection
			return
		}
		if orders.Load() == 0 {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"shipments":[{"shipmentTrackingNumber":"1234567890","events":[],"pieces":[{"number":1,"trackingNumber":"JD1","events":[]}]}]}`) // whoever asks reads it
	}))
	defer server.Close()
	settings := sdk.Settings{"base-url": server.URL, "username": "u", "password": "p", "account": "123456789", "state": t.TempDir(), "timezone": "Europe/Berlin"}
	start := func() carrier.Carrier {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = []string{asPlugin + "=1", "GOCOVERDIR=" + t.TempDir()}
		running.Store(cmd)
		c := carriertest.Program(t, cmd)
		// The program before may still be ending, and have the directory.
		for end := time.Now().Add(time.Minute); ; {
			err := c.Configure(t.Context(), settings)
			if err == nil {
				return c
			}
			if sdk.ClassOf(err) != sdk.Unavailable || time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	s := &carrier.Shipment{Reference: "SO-1", Service: "N", Date: time.Now().AddDate(0, 0, 2).Format(time.DateOnly),
		From:    sdk.Address{Name: "Ann", Lines: []string{"Musterstr. 5"}, City: "Berlin", PostalCode: "10115", Country: "DE", Phone: "1"},
		To:      sdk.Address{Name: "Bo", Lines: []string{"Musterstr. 6"}, City: "Berlin", PostalCode: "10115", Country: "DE", Phone: "1"},
		Parcels: []carrier.Parcel{{Reference: "a", Weight: sdk.Measure{Value: decimal.NewFromInt(1), Unit: sdk.Kilogram}}}}
	_, err := start().Ship(t.Context(), s)
	sdktest.Fails(t, "ship, the program is killed", err, sdk.UnknownOutcome)
	c := start()
	got, err := c.GetByReference(t.Context(), "SO-1")
	if err != nil || got.Shipment != "1234567890" || got.Parcels[0].Tracking != "JD1" {
		t.Fatalf("lookup: %+v, %v", got, err)
	}
	again, err := c.Ship(t.Context(), s)
	if err != nil || sdktest.Diff(again, got) != "" {
		t.Errorf("ship, the same again: %+v, %v, want %+v", again, err, got)
	}
	if n := orders.Load(); n != 1 {
		t.Errorf("it was ordered %d times", n)
	}
}
