// Package carriertest is the contract of carriers as tests: what the interface promises, asked
// of any implementation.
//
// It owns the suite and the ways to a carrier (in memory over gRPC, and as the program that a
// host starts), and refuses to know any carrier. Its invariant: each promise that it tests has
// a carrier which breaks it and does not pass.
package carriertest

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// Config is what a suite needs to know of a carrier.
type Config struct {
	// New makes a carrier of which nothing was asked yet, and tells what to configure it with.
	New func(testing.TB) (carrier.Carrier, sdk.Settings)
	// Reopen makes a carrier that has the state of the last one that New made, which was closed
	// before if it has a Close, as if the plugin was started anew. The settings are the same
	// again. One that has get-by-reference needs it.
	Reopen func(testing.TB) carrier.Carrier
	// Takes is a shipment that the carrier takes. The suite gives it references and numbers.
	Takes carrier.Shipment
	// Refuses is one that is in order and that the carrier does not serve.
	Refuses carrier.Shipment
	// Number gives the next number of a range, for a carrier that describes ranges.
	Number func(name string) string
}

// Pipe gives a carrier as a host sees it: over gRPC, in memory.
func Pipe(t testing.TB, c carrier.Carrier) carrier.Carrier {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	return carrier.NewClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) { carrier.Register(s, c, log) }))
}

// Program starts a plugin's program as a host does, and ends it with the test, or when what it
// gives is closed.
func Program(t testing.TB, cmd *exec.Cmd) carrier.Carrier {
	t.Helper()
	out, end := sdktest.Start(t, carrier.Kind, &carrier.Plugin{}, cmd)
	return running{out.(carrier.Carrier), end}
}

// running is a program that runs.
type running struct {
	carrier.Carrier
	end func()
}

// Close ends the program.
func (p running) Close() error { p.end(); return nil }

// check is one promise.
type check struct {
	name string
	run  func(testing.TB, *suite)
}

var checks = []check{
	{"describe", describe}, {"configure", configure}, {"operations", operations}, {"address", address},
	{"rate", rate}, {"rate refuses", rateRefuses},
	{"ship", ship}, {"labels", labels}, {"ship refuses", shipRefuses}, {"ship a rate", shipRate}, {"ship twice", shipTwice}, {"ship at once", shipAtOnce},
	{"ship broken off", shipBrokenOff}, {"lookup", lookup}, {"return", shipReturn},
	{"void", void}, {"void after manifest", voidAfterManifest}, {"manifest", manifest}, {"manifest twice", manifestTwice},
	{"pickup", pickup}, {"pickup twice", pickupTwice}, {"track", track}, {"reopen", reopen}, {"reopen after", reopenAfter},
}

// Run asks a carrier for all that the contract promises.
func Run(t *testing.T, config Config) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, start(t, config)) })
	}
}

// suite is one carrier that is asked.
type suite struct {
	Config
	direct   carrier.Carrier      // as New made it
	c        carrier.Carrier      // the same as a host sees it
	bare     *carrier.Description // before it was configured
	d        *carrier.Description
	settings sdk.Settings
}

func start(t testing.TB, config Config) *suite {
	t.Helper()
	s := &suite{Config: config}
	s.direct, s.settings = config.New(t)
	s.c = Pipe(t, s.direct)
	var err error
	if s.bare, err = s.c.Describe(t.Context()); err != nil {
		t.Fatalf("describe, before configure: %v", err)
	}
	if err := s.c.Configure(t.Context(), s.settings); err != nil {
		t.Fatalf("configure: %v", err)
	}
	if s.d, err = s.c.Describe(t.Context()); err != nil {
		t.Fatalf("describe, after configure: %v", err)
	}
	return s
}

// reopen ends the carrier and starts it anew; false: nothing has to outlive it.
func (s *suite) reopen(t testing.TB) bool {
	t.Helper()
	if s.Reopen == nil {
		if s.remembers() {
			t.Fatal("the carrier knows later what it sold: the test's Config needs Reopen")
		}
		return false
	}
	if open, ok := s.direct.(io.Closer); ok {
		if err := open.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	s.direct = s.Reopen(t)
	s.c = Pipe(t, s.direct)
	if err := s.c.Configure(t.Context(), s.settings); err != nil {
		t.Fatalf("configure, when it is opened again: %v", err)
	}
	return true
}

// can tells whether the carrier describes an operation.
func (s *suite) can(name string) bool {
	can, _ := sdktest.Can(&s.d.Description, name)
	return can
}

// remembers tells whether the carrier knows later what it sold: one that makes labels of
// nothing but the site's own numbers need not.
func (s *suite) remembers() bool { return s.can(carrier.OpGetByReference) }

var (
	serial atomic.Int64
	began  = strconv.FormatInt(time.Now().UnixNano(), 36) // a provider's sandbox remembers the references of other runs
)

func reference() string { return fmt.Sprintf("test-%s-%d", began, serial.Add(1)) }

// shipment gives a copy that can be bought.
func (s *suite) shipment(t testing.TB, of carrier.Shipment) *carrier.Shipment {
	t.Helper()
	of = clone(of)
	of.Reference = reference()
	of.Numbers = nil
	for _, r := range s.d.Ranges {
		if s.Number == nil {
			t.Fatalf("the carrier describes a range %q: the test's Config needs Number", r.Name)
		}
		n := 1
		if r.Per == "parcel" {
			n = len(of.Parcels)
		}
		if of.Numbers == nil {
			of.Numbers = map[string][]string{}
		}
		for range n {
			of.Numbers[r.Name] = append(of.Numbers[r.Name], s.Number(r.Name))
		}
	}
	return &of
}

// clone copies what the suite changes or the carrier might.
func clone(s carrier.Shipment) carrier.Shipment {
	s.Parcels = slices.Clone(s.Parcels)
	s.Options = maps.Clone(s.Options)
	s.Numbers = maps.Clone(s.Numbers)
	return s
}

// other gives the same shipment with other contents.
func other(s *carrier.Shipment) *carrier.Shipment {
	out := clone(*s)
	out.To.Name += " and others"
	return &out
}

// bought ships what the carrier takes.
func (s *suite) bought(t testing.TB) (*carrier.Shipment, *carrier.Shipped) {
	t.Helper()
	asked := s.shipment(t, s.Takes)
	got, err := s.c.Ship(t.Context(), asked)
	if err != nil {
		t.Fatalf("ship: %v", err)
	}
	return asked, got
}

// same wants that two answers are one.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := sdktest.Diff(got, want); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

// currency wants a price that says what it is of.
func currency(t testing.TB, what string, m sdk.Money) {
	t.Helper()
	for _, c := range m.Currency {
		if c < 'A' || c > 'Z' {
			t.Errorf("%s: %q is no currency", what, m.Currency)
		}
	}
	if len(m.Currency) != 3 {
		t.Errorf("%s: %q is no currency", what, m.Currency)
	}
}
