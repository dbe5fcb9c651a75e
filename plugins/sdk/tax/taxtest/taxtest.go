// Package taxtest is the contract of tax engines as tests: what the interface promises, asked
// of any implementation.
//
// It owns the suite and the ways to an engine (in memory over gRPC, and as the program that a
// host starts), and refuses to know any country. Its invariant: each promise that it tests
// has an engine which breaks it and does not pass.
package taxtest

import (
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Config is what a suite needs to know of an engine.
type Config struct {
	// New makes an engine of which nothing was asked yet, and tells what to configure it with.
	New func(testing.TB) (tax.Engine, sdk.Settings)
	// Reopen makes an engine that has the state of the last one that New made, which was closed
	// before if it has a Close, as if the plugin was started anew. The settings are the same
	// again. One that has get-by-reference needs it.
	Reopen func(testing.TB) tax.Engine
	// Knows is a sale that the engine calculates. The suite gives it references.
	Knows tax.Document
	// Unknown is one that is in order and has a line whose taxes the engine does not know.
	Unknown tax.Document
	// Valid and Invalid are tax numbers, for an engine that looks at them.
	Valid, Invalid sdk.TaxID
}

// Pipe gives an engine as a host sees it: over gRPC, in memory.
func Pipe(t testing.TB, e tax.Engine) tax.Engine {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	return tax.NewClient(sdktest.Dial(t, func(s grpc.ServiceRegistrar) { tax.Register(s, e, log) }))
}

// Program starts a plugin's program as a host does, and ends it with the test, or when what it
// gives is closed.
func Program(t testing.TB, cmd *exec.Cmd) tax.Engine {
	t.Helper()
	out, end := sdktest.Start(t, tax.Kind, &tax.Plugin{}, cmd)
	return running{out.(tax.Engine), end}
}

// running is a program that runs.
type running struct {
	tax.Engine
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
	{"describe", describe}, {"configure", configure}, {"operations", operations},
	{"estimate", estimate}, {"return", estimateReturn}, {"not calculated", notCalculated}, {"refuses", refuses},
	{"estimate leaves nothing", leavesNothing}, {"at once", atOnce}, {"broken off", brokenOff},
	{"finalise", finalise}, {"finalise twice", finaliseTwice}, {"lookup", lookup}, {"finalise a return", finaliseReturn},
	{"adjust", adjust}, {"void", void}, {"tax id", taxID}, {"reopen", reopen},
}

// Run asks an engine for all that the contract promises.
func Run(t *testing.T, config Config) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.run(t, start(t, config)) })
	}
}

// suite is one engine that is asked.
type suite struct {
	Config
	direct   tax.Engine       // as New made it
	e        tax.Engine       // the same as a host sees it
	bare     *tax.Description // before it was configured
	d        *tax.Description
	settings sdk.Settings
}

func start(t testing.TB, config Config) *suite {
	t.Helper()
	s := &suite{Config: config}
	s.direct, s.settings = config.New(t)
	s.e = Pipe(t, s.direct)
	var err error
	if s.bare, err = s.e.Describe(t.Context()); err != nil {
		t.Fatalf("describe, before configure: %v", err)
	}
	if err := s.e.Configure(t.Context(), s.settings); err != nil {
		t.Fatalf("configure: %v", err)
	}
	if s.d, err = s.e.Describe(t.Context()); err != nil {
		t.Fatalf("describe, after configure: %v", err)
	}
	return s
}

// reopen ends the engine and starts it anew; false: nothing has to outlive it.
func (s *suite) reopen(t testing.TB) bool {
	t.Helper()
	if s.Reopen == nil {
		if s.remembers() {
			t.Fatal("the engine knows later what it finalised: the test's Config needs Reopen")
		}
		return false
	}
	if open, ok := s.direct.(io.Closer); ok {
		if err := open.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	s.direct = s.Reopen(t)
	s.e = Pipe(t, s.direct)
	if err := s.e.Configure(t.Context(), s.settings); err != nil {
		t.Fatalf("configure, when it is opened again: %v", err)
	}
	return true
}

// can tells whether the engine describes an operation.
func (s *suite) can(name string) bool {
	can, _ := sdktest.Can(&s.d.Description, name)
	return can
}

// remembers tells whether the engine knows later what it finalised: one that only calculates
// need not.
func (s *suite) remembers() bool { return s.can(tax.OpGetByReference) }

var (
	serial atomic.Int64
	began  = strconv.FormatInt(time.Now().UnixNano(), 36) // a provider's sandbox remembers the references of other runs
)

func reference() string { return fmt.Sprintf("test-%s-%d", began, serial.Add(1)) }

// document gives a copy with a reference of its own.
func document(of tax.Document) *tax.Document {
	of.Reference = reference()
	of.Lines = slices.Clone(of.Lines)
	return &of
}

// other gives the same document with other contents.
func other(d *tax.Document) *tax.Document {
	out := *d
	out.Lines = slices.Clone(d.Lines)
	out.Lines[0].Amount = out.Lines[0].Amount.Add(out.Lines[0].Amount)
	return &out
}

// finalised finalises what the engine knows.
func (s *suite) finalised(t testing.TB) (*tax.Document, *tax.Result) {
	t.Helper()
	d := document(s.Knows)
	got, err := s.e.Finalise(t.Context(), d)
	if err != nil {
		t.Fatalf("finalise: %v", err)
	}
	return d, got
}

// same wants that two answers are one.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := sdktest.Diff(got, want); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}
