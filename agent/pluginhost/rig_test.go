package pluginhost

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// patience is how long a test waits for what has to come, on a machine that is busy.
const patience = 90 * time.Second

// programs has this program under the names of what it can be, and a second version.
var programs struct {
	dir         string
	sum, second string
}

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(sdk.Handshake.MagicCookieKey) != "":
		bePlugin(filepath.Base(os.Args[0]))
		return
	case os.Getenv(asHost) != "":
		beHost()
		return
	}
	if err := installPrograms(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(programs.dir)
		os.Exit(code)
	}))
}

func installPrograms() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := os.ReadFile(self)
	if err != nil {
		return err
	}
	if programs.dir, err = os.MkdirTemp("", "programs"); err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	programs.sum = hex.EncodeToString(sum[:])
	if err := os.WriteFile(filepath.Join(programs.dir, "tame"), text, 0o755); err != nil {
		return err
	}
	for mode := range modes {
		if err := os.Link(filepath.Join(programs.dir, "tame"), filepath.Join(programs.dir, mode)); err != nil {
			return err
		}
	}
	text = append(text, "second"...) // what stands behind a program changes nothing but its hash
	sum = sha256.Sum256(text)
	programs.second = hex.EncodeToString(sum[:])
	return os.WriteFile(filepath.Join(programs.dir, "tame-2"), text, 0o755)
}

// modes are plugins that never serve anything.
var modes = map[string]func(){
	"mute": func() {
		for tick := time.NewTicker(time.Hour); ; <-tick.C { // with nothing to wait for it would end
		}
	},
	"plain": func() {
		_ = os.Unsetenv("PLUGIN_CLIENT_CERT")
		carrier.Serve(&tame{raw: os.Stderr}, sdk.Logger())
	},
	"garbage": func() { fmt.Println("hello, \x1b[31mworld"); _, _ = io.Copy(io.Discard, os.Stdin) },
	"endless": func() {
		for {
			_, _ = os.Stdout.WriteString(strings.Repeat("x", 1<<16))
		}
	},
	"quitter": func() {
		fmt.Fprintln(os.Stderr, `{"@level":"error","@message":"tables are missing","plugin":"another"}`)
		os.Exit(4)
	},
	"elsewhere": func() { fmt.Println("1|1|tcp|127.0.0.1:1|grpc|"); _, _ = io.Copy(io.Discard, os.Stdin) },
}

func bePlugin(mode string) {
	if does, ok := modes[mode]; ok {
		does()
		return
	}
	log := sdk.Logger()
	fmt.Fprintln(os.Stderr, "begins")
	carrier.Serve(&tame{raw: os.Stderr}, log)
}

// tame is a carrier that does well, unless an order asks for something else.
type tame struct {
	carrier.Carrier
	raw      *os.File // standard error, before go-plugin took it
	settings sdk.Settings
}

func (c *tame) Configure(_ context.Context, s sdk.Settings) error {
	if s["account"] == "none" {
		return sdk.Errorf(sdk.Validation, "there is no such account").At("account")
	}
	c.settings = s
	c.obey(s["start"])
	return nil
}

func (c *tame) Describe(context.Context) (*carrier.Description, error) {
	data := fmt.Sprintf("account %s, password %s, limit %s, home %q", c.settings["account"], c.settings["password"],
		os.Getenv("GOMEMLIMIT"), os.Getenv("HOME"))
	return &carrier.Description{Description: sdk.Description{Name: "tame", Version: "1.2.3", Data: data}}, nil
}

func (c *tame) Rate(_ context.Context, s *carrier.Shipment) (*carrier.Rates, error) {
	c.obey(s.Order)
	if s.Order == "bomb" {
		return &carrier.Rates{Rates: slices.Repeat([]carrier.Rate{{Charges: make([]carrier.Charge, 9)}}, 9000)}, nil
	}
	return &carrier.Rates{}, nil
}

func (c *tame) Ship(_ context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	c.obey(s.Order)
	return &carrier.Shipped{}, nil
}

// until begins an order to wait for a file of that name.
const until = "until "

func (c *tame) obey(order string) {
	if path, ok := strings.CutPrefix(order, until); ok {
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			if _, err := os.Stat(path); err == nil {
				return
			}
		}
	}
	switch order {
	case "crash":
		os.Exit(3)
	case "hang":
		select {}
	case "freeze":
		freeze()
	case "eat":
		for eaten := [][]byte{}; ; {
			eaten = append(eaten, bytes.Repeat([]byte{1}, 8<<20))
			_ = eaten
		}
	case "flood":
		for range 20_000 {
			fmt.Fprintln(c.raw, "raw flood")
			fmt.Println("flood on standard output")
			fmt.Fprintln(os.Stderr, "flood on standard error")
		}
	case "long":
		fmt.Fprintln(c.raw, strings.Repeat("long ", 1<<20))
	}
}

// rig is a host that runs until the test ends.
type rig struct {
	*Host
	t       *testing.T
	changed chan struct{}
	reports chan Exception
	log     *logged
	stop    func()

	mu    sync.Mutex
	specs []Spec
}

// logged keeps what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func testConfig(dir string) Config {
	cfg := DefaultConfig()
	cfg.Programs, cfg.Dir, cfg.Kinds = programs.dir, dir, Kinds()
	cfg.StartTimeout, cfg.CallTimeout, cfg.StopTimeout, cfg.HealthTimeout = patience, patience, patience, patience
	cfg.RestartMin, cfg.RestartMax = 5*time.Millisecond, 20*time.Millisecond
	cfg.MemoryEvery, cfg.Memory = 20*time.Millisecond, 2<<30
	cfg.Resolve = func(ref string) ([]byte, error) {
		if ref != "file:password" {
			return nil, fmt.Errorf("%s: no such secret", ref)
		}
		return []byte("s3cret"), nil
	}
	return cfg
}

func newRig(t *testing.T, change func(*Config), specs ...Spec) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "host") // short: sockets stand in it
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, changed: make(chan struct{}, 1), reports: make(chan Exception, 100), log: &logged{}, specs: specs}
	cfg := testConfig(dir)
	cfg.Changed, cfg.Specs = r.changed, r.wanted
	cfg.Report = func(e Exception) { r.reports <- e }
	cfg.Log = slog.New(slog.NewTextHandler(r.log, nil))
	if change != nil {
		change(&cfg)
	}
	if r.Host, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		r.stop()
		if left, err := os.ReadDir(filepath.Join(dir, "run")); err != nil || len(left) > 0 {
			t.Errorf("sockets are left: %v, %v", left, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the host's log, its end:\n%s", end(r.log.String(), 8<<10))
		}
	})
	return r
}

func end(text string, n int) string { return text[max(0, len(text)-n):] }

func (r *rig) wanted() []Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.specs
}

func (r *rig) want(specs ...Spec) {
	r.mu.Lock()
	r.specs = specs
	r.mu.Unlock()
	r.changed <- struct{}{}
}

func spec(name, program string) Spec {
	sum := programs.sum
	if program == "tame-2" {
		sum = programs.second
	}
	return Spec{Name: name, Kind: carrier.Kind, Program: program, SHA256: sum}
}

// await waits for a condition.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("this never came: %s", what)
		}
	}
}

func (r *rig) status(name string) Status {
	for _, s := range r.Status() {
		if s.Plugin == name {
			return s
		}
	}
	return Status{}
}

func (r *rig) awaitState(name, state string) Status {
	r.t.Helper()
	await(r.t, name+" is "+state, func() bool { return r.status(name).State == state })
	return r.status(name)
}

// awaitCrash waits until a plugin that has crashed n times runs again.
func (r *rig) awaitCrash(name string, n uint64) Status {
	r.t.Helper()
	await(r.t, fmt.Sprintf("%s has crashed %d times and runs", name, n), func() bool {
		s := r.status(name)
		return s.Crashes == n && s.State == StateRunning
	})
	return r.status(name)
}

func (r *rig) awaitReport() Exception {
	r.t.Helper()
	select {
	case e := <-r.reports:
		return e
	case <-time.After(patience):
		r.t.Fatal("no exception is reported")
	}
	return Exception{}
}

// hold makes a call that is in flight until release, which gives how it ended.
func (r *rig) hold(name string) (release func() error) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), "go")
	held := make(chan error, 1)
	go func() { held <- r.ship(context.Background(), name, until+path) }()
	await(r.t, "the call is in flight", func() bool {
		p := r.plugin(name)
		p.mu.Lock()
		l := p.life
		p.mu.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.inFlight == 1
	})
	return func() error {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return <-held
	}
}

func (r *rig) rate(ctx context.Context, name, order string) error {
	c, err := r.Carrier(name)
	if err != nil {
		return err
	}
	_, err = c.Rate(ctx, &carrier.Shipment{Order: order})
	return err
}

func (r *rig) ship(ctx context.Context, name, order string) error {
	c, err := r.Carrier(name)
	if err != nil {
		return err
	}
	_, err = c.Ship(ctx, &carrier.Shipment{Order: order})
	return err
}
