package calls

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/event"
)

// shop is a carrier that sells to everybody: it keeps what was bought in a file, as a provider
// does on the other side of the world, and heeds no reference when it is told to buy. So a
// host that buys twice is found out.
type shop struct {
	carrier.Carrier // what is not told otherwise is not supported
	book            string
	ranges          []carrier.Range
	free            bool // nothing is described with Buys

	mu     sync.Mutex
	sales  map[string][]error // what Ship says next, by reference, after it has sold; nil entries answer
	fail   map[string]error   // what an operation says, by its name
	asked  []string           // operations with references, in order
	before func(op string)    // called with each
}

func newShop(t testing.TB) *shop {
	return &shop{book: filepath.Join(t.TempDir(), "book"), sales: map[string][]error{}, fail: map[string]error{}}
}

func (s *shop) note(op, reference string) error {
	s.mu.Lock()
	s.asked = append(s.asked, op+" "+reference)
	err, before := s.fail[op], s.before
	s.mu.Unlock()
	if before != nil {
		before(op)
	}
	return err
}

func (s *shop) failing(op string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[op] = err
}

// asks lists what was asked, but for descriptions.
func (s *shop) asks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.asked...)
}

// bought counts the purchases under a reference.
func (s *shop) bought(reference string) (n int) {
	text, err := os.ReadFile(s.book)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if strings.TrimSpace(line) == reference {
			n++
		}
	}
	return n
}

func (s *shop) sell(reference string) error { return s.write(reference) }

func (s *shop) write(reference string) error {
	f, err := os.OpenFile(s.book, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(reference + "\n"); err != nil {
		return err
	}
	return f.Sync()
}

func (s *shop) Describe(context.Context) (*carrier.Description, error) {
	d := &carrier.Description{Ranges: s.ranges}
	d.Name = "shop"
	for _, op := range []string{carrier.OpShip, carrier.OpShipReturn, carrier.OpGetByReference, carrier.OpVoid, carrier.OpManifest} {
		d.Operations = append(d.Operations, sdk.Operation{Name: op, Buys: !s.free && strings.HasPrefix(op, "ship")})
	}
	return d, nil
}

func (s *shop) shipped(reference string) *carrier.Shipped {
	return &carrier.Shipped{Reference: reference, Shipment: "S-" + reference, Service: "ground",
		Parcels:   []carrier.ShippedParcel{{Tracking: "T-" + reference}},
		Documents: []carrier.Document{{Kind: "label", Format: carrier.ZPL, Data: []byte("^XA " + reference + " ^XZ")}}}
}

func (s *shop) Ship(_ context.Context, r *carrier.Shipment) (*carrier.Shipped, error) {
	if err := s.note(carrier.OpShip, r.Reference); err != nil {
		return nil, err
	}
	if err := s.sell(r.Reference); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if next := s.sales[r.Reference]; len(next) > 0 {
		s.sales[r.Reference] = next[1:]
		if next[0] != nil {
			return nil, next[0]
		}
	}
	return s.shipped(r.Reference), nil
}

func (s *shop) ShipReturn(ctx context.Context, r *carrier.Shipment) (*carrier.Shipped, error) {
	return s.Ship(ctx, r)
}

func (s *shop) GetByReference(_ context.Context, reference string) (*carrier.Shipped, error) {
	if err := s.note(carrier.OpGetByReference, reference); err != nil {
		return nil, err
	}
	if s.bought(reference) == 0 {
		return nil, sdk.Errorf(sdk.NotFound, "nothing of %s", reference)
	}
	return s.shipped(reference), nil
}

func (s *shop) Void(_ context.Context, r *carrier.VoidRequest) (*carrier.Voided, error) {
	if err := s.note(carrier.OpVoid, r.Reference); err != nil {
		return nil, err
	}
	return &carrier.Voided{Reference: r.Reference, Accepted: true}, s.write("void " + r.Reference)
}

func (s *shop) Manifest(_ context.Context, r *carrier.ManifestRequest) (*carrier.Manifested, error) {
	return &carrier.Manifested{Reference: r.Reference, Manifest: "M-1", Shipments: r.Shipments, Parcels: len(r.Shipments)}, s.note(carrier.OpManifest, r.Reference)
}

// host hands out plugins by their names.
type host struct {
	mu       sync.Mutex
	carriers map[string]carrier.Carrier
	engines  map[string]tax.Engine
	down     map[string]bool
}

func (h *host) set(name string, down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down[name] = down
}

func (h *host) Carrier(name string) (carrier.Carrier, error) { return lend(h, h.carriers, name) }
func (h *host) Tax(name string) (tax.Engine, error)          { return lend(h, h.engines, name) }

func lend[T any](h *host, from map[string]T, name string) (t T, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch t, has := from[name]; {
	case !has:
		return t, sdk.Errorf(sdk.NotSupported, "this site has no plugin %q", name)
	case h.down[name]:
		return t, sdk.Errorf(sdk.Unavailable, "plugin %s does not run", name)
	default:
		return t, nil
	}
}

type order []string

func (o order) TaxOrder() []string { return o }

// outside is where events go, and what is told to people.
type outside struct {
	mu     sync.Mutex
	fail   error
	events map[string][]*event.Event // by id
	alarms []string                  // kinds
}

func (o *outside) Publish(_ context.Context, e *event.Event, _ []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	if err := e.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	for _, before := range o.events[e.ID] {
		if !bytes.Equal(before.Data, e.Data) || !before.Time.Equal(e.Time) {
			return fmt.Errorf("%w: %s came with other content", ErrRefused, e.ID)
		}
	}
	o.events[e.ID] = append(o.events[e.ID], e)
	return nil
}

func (o *outside) alarm(kind, _, _ string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.alarms = append(o.alarms, kind)
}

func (o *outside) told(kind string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, k := range o.alarms {
		if k == kind {
			return true
		}
	}
	return false
}

// ofType gives the events of a type, one for each id.
func (o *outside) ofType(kind string) (out []*event.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, list := range o.events {
		if list[0].Type == kind {
			out = append(out, list[0])
		}
	}
	return out
}

// rig is a service with all that is around it.
type rig struct {
	*Service
	t    testing.TB
	cfg  Config
	shop *shop
	host *host
	out  *outside
	now  *atomic.Int64 // added to the time
	ran  *atomic.Int64 // added to the time that the process saw pass
	end  func()
}

func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, shop: newShop(t), out: &outside{events: map[string][]*event.Event{}}, now: new(atomic.Int64), ran: new(atomic.Int64), end: func() {}}
	r.host = &host{carriers: map[string]carrier.Carrier{"shop": r.shop}, engines: map[string]tax.Engine{}, down: map[string]bool{}}
	r.cfg = DefaultConfig()
	r.cfg.Path, r.cfg.Site, r.cfg.Epoch = filepath.Join(t.TempDir(), "calls.db"), "eu", 1
	r.cfg.Plugins, r.cfg.Events, r.cfg.Alarm = r.host, r.out, r.out.alarm
	r.cfg.PauseMin, r.cfg.PauseMax, r.cfg.LookEvery = time.Millisecond, 5*time.Millisecond, 2*time.Millisecond
	r.cfg.Now = func() time.Time { return time.Now().Add(time.Duration(r.now.Load())) }
	began := time.Now()
	r.cfg.Uptime = func() time.Duration { return time.Since(began) + time.Duration(r.ran.Load()) }
	r.cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	if change != nil {
		change(r)
	}
	if _, piped := r.host.carriers["shop"].(*shop); piped {
		r.host.carriers["shop"] = carriertest.Pipe(t, r.shop)
	}
	r.open()
	t.Cleanup(func() { r.close() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.Service, err = Open(r.cfg); err != nil {
		r.t.Fatal(err)
	}
}

// run has the service work in the background until close.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	service := r.Service
	go func() {
		defer close(done)
		if err := service.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	r.end = func() { cancel(); <-done }
}

func (r *rig) close() {
	r.t.Helper()
	r.end()
	r.end = func() {}
	if r.Service == nil {
		return
	}
	if err := r.Close(); err != nil {
		r.t.Error(err)
	}
	r.Service = nil
}

func (r *rig) reopen() {
	r.t.Helper()
	r.close()
	r.open()
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func shipment(reference string) string {
	return fmt.Sprintf(`{"reference":%q,"service":"ground","date":"2026-11-26","from":{"country":"DE"},"to":{"country":"FR"},`+
		`"parcels":[{"weight":{"value":"1.5","unit":"kg"}}],"order":"O-1"}`, reference)
}

func (r *rig) do(operation, key, body string) (*Answer, error) {
	return r.Do(context.Background(), Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: operation, Key: key, Body: []byte(body)})
}

// must makes a call that has to be answered.
func (r *rig) must(operation, key, body string) *Answer {
	r.t.Helper()
	answer, err := r.do(operation, key, body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", operation, key, err)
	}
	return answer
}

// refusedWith gives the refusal of a call, which has to have a code.
func (r *rig) refusedWith(code Code, operation, key, body string) *Refusal {
	r.t.Helper()
	answer, err := r.do(operation, key, body)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != code {
		r.t.Fatalf("%s %s: got %+v, %v, want a refusal with code %s", operation, key, answer, err, code)
	}
	return refusal
}

func (r *rig) shippedOf(a *Answer) carrier.Shipped {
	r.t.Helper()
	var out carrier.Shipped
	if err := json.Unmarshal(a.Body, &out); err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *rig) boughtOnce(reference string) {
	r.t.Helper()
	if n := r.shop.bought(reference); n != 1 {
		r.t.Fatalf("%s was bought %d times, want once", reference, n)
	}
}
