package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
)

var down = sdk.Errorf(sdk.Unavailable, "the line is cut")

func void(reference string) string { return fmt.Sprintf(`{"reference":%q}`, reference) }

func TestVoidWaitsInOrder(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpVoid, down)
	first := r.must(carrier.OpVoid, "k1", void("R1"))
	if first.State != Queued || len(first.Body) > 0 || first.Deadline.Before(time.Now().Add(11*time.Hour)) {
		t.Fatalf("got %+v", first)
	}
	r.must(carrier.OpVoid, "k2", void("R2"))
	r.must(carrier.OpManifest, "k3", `{"reference":"M","date":"2026-11-26","from":{"country":"DE"},"shipments":["R3"]}`)
	if again := r.must(carrier.OpVoid, "k1", void("R1")); again.ID != first.ID || again.State != Queued {
		t.Fatalf("got %+v", again)
	}
	before := len(r.shop.asks())
	r.reopen() // what waits outlives the agent
	r.run()
	until(t, "a try", func() bool { return len(r.shop.asks()) > before })
	for _, asked := range r.shop.asks() {
		if asked != "void R1" {
			t.Fatalf("%s was asked before its turn", asked)
		}
	}
	r.shop.failing(carrier.OpVoid, nil)
	until(t, "all to be done", func() bool { open, _, _ := r.store.count(); return open == 0 })
	asks := slices.Compact(r.shop.asks())
	if want := []string{"void R1", "void R2", "manifest M"}; !slices.Equal(asks, want) {
		t.Fatalf("got %v, want %v", asks, want)
	}
	if done := r.must(carrier.OpVoid, "k1", void("R1")); done.State != Done || len(done.Body) == 0 {
		t.Fatalf("got %+v", done)
	}
	until(t, "the events", func() bool { return len(r.out.ofType(TypeVoided)) == 2 && len(r.out.ofType(TypeManifested)) == 1 })
}

// hangsUp answers no void before it is called off.
type hangsUp struct {
	*shop
	asked chan struct{}
}

func (h hangsUp) Void(ctx context.Context, _ *carrier.VoidRequest) (*carrier.Voided, error) {
	h.asked <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// What the agent breaks off since it stops is no failure of the call.
func TestStopIsNoStrike(t *testing.T) {
	asked := make(chan struct{}, 1)
	r := newRig(t, func(r *rig) { r.host.carriers["shop"] = hangsUp{r.shop, asked} })
	r.host.set("shop", true)
	id := r.must(carrier.OpVoid, "k", void("R")).ID
	r.host.set("shop", false)
	r.run()
	<-asked
	r.reopen()
	if call, err := r.store.read(id); err != nil || call.State != Queued || call.Strikes != 0 {
		t.Errorf("got %+v, %v", call, err)
	}
}

// One record that cannot be read costs that call only: people are told, and what it may have
// bought is looked for.
func TestDamagedRecord(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "kept", shipment("R0"))
	r.shop.sales["R1"] = []error{sdk.Errorf(sdk.UnknownOutcome, "no answer")}
	r.shop.failing(carrier.OpGetByReference, down)
	bought := r.refusedWith(InDoubt, carrier.OpShip, "k1", shipment("R1")).ID
	r.shop.failing(carrier.OpVoid, down)
	waits := r.must(carrier.OpVoid, "k2", void("R2")).ID
	err := r.store.db.Update(func(tx *bolt.Tx) error {
		k, _ := tx.Bucket(bucketEnded).Cursor().First()
		return errors.Join(tx.Bucket(bucketCalls).Put([]byte(bought), []byte("damage")), tx.Bucket(bucketEnded).Put(slices.Clone(k), []byte("damage")))
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _, before := r.store.count()
	r.reopen()
	if open, ended, bytes := r.store.count(); open != 1 || ended != 1 || bytes != before {
		t.Errorf("%d open, %d finished of %d bytes, want %d", open, ended, bytes, before)
	}
	if call, err := r.store.read(waits); err != nil || call.State != Queued {
		t.Errorf("got %+v, %v", call, err)
	}
	if !r.out.told("call-damaged") || r.out.told("calls-damaged") {
		t.Errorf("told %q", r.out.alarms)
	}
	r.shop.failing(carrier.OpGetByReference, nil)
	r.must(carrier.OpShip, "k1", shipment("R1"))
	r.boughtOnce("R1")
	r.must(carrier.OpShip, "kept", shipment("R0"))
	r.boughtOnce("R0")
}

// One plugin that is away holds up no other.
func TestQueuesApart(t *testing.T) {
	other := newShop(t)
	r := newRig(t, func(r *rig) { r.host.carriers["other"] = other })
	r.shop.failing(carrier.OpVoid, down)
	r.must(carrier.OpVoid, "k1", void("R1"))
	a, err := r.Do(t.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "other", Operation: carrier.OpVoid, Key: "k2", Body: []byte(void("R2"))})
	if err != nil || a.State != Done {
		t.Fatalf("got %+v, %v", a, err)
	}
}

func TestVoidIsRepeatedNotLookedUp(t *testing.T) {
	r := newRig(t, nil)
	lost := sdk.Errorf(sdk.UnknownOutcome, "no answer")
	r.shop.failing(carrier.OpVoid, lost)
	if a := r.must(carrier.OpVoid, "k", void("R")); a.State != Queued {
		t.Fatalf("got %+v", a)
	}
	if want := []string{"void R", "void R"}; !slices.Equal(r.shop.asks(), want) {
		t.Fatalf("got %v, want %v", r.shop.asks(), want)
	}
}

func TestDeadlines(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpVoid, down)
	deadline := r.cfg.Now().Add(4 * time.Hour)
	a, err := r.Do(t.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpVoid, Key: "k", Deadline: deadline, Body: []byte(void("R"))})
	if err != nil || !a.Deadline.Equal(deadline) {
		t.Fatalf("got %+v, %v", a, err)
	}
	r.run()
	r.now.Add(int64(time.Hour))
	r.tell()
	if r.out.told(alarmWaits) {
		t.Fatal("told long before the deadline")
	}
	r.now.Add(int64(90 * time.Minute))
	until(t, "a warning", func() bool { return r.out.told(alarmWaits) })
	if r.out.told(alarmLate) {
		t.Fatal("told of a deadline that has not passed")
	}
	r.now.Add(int64(2 * time.Hour))
	until(t, "an exception", func() bool { return r.out.told(alarmLate) })
	if v, err := r.Call("wms", a.ID); err != nil || v.State != Queued || !v.Late || r.Status().Late != 1 {
		t.Fatalf("got %+v, %v", v, err)
	}
	r.shop.failing(carrier.OpVoid, nil) // late is better than never
	until(t, "it to be done", func() bool { v, err := r.Call("wms", a.ID); return err == nil && v.State == Done })
}

// What was accepted and then fails is told; what fails by a fault of the plugin alone does not
// hold up the rest for ever.
func TestAcceptedAndFailed(t *testing.T) {
	for _, c := range []struct {
		err  *sdk.Error
		want State
	}{{sdk.Errorf(sdk.Conflict, "it is on its way"), Failed}, {sdk.Errorf(sdk.Internal, "a bug"), Retry}} {
		t.Run(string(c.err.Class), func(t *testing.T) {
			r := newRig(t, nil)
			r.shop.failing(carrier.OpVoid, down)
			a := r.must(carrier.OpVoid, "k", void("R"))
			r.must(carrier.OpManifest, "m", `{"reference":"M","date":"2026-11-26","from":{"country":"DE"},"shipments":["R3"]}`)
			r.shop.failing(carrier.OpVoid, c.err)
			r.run()
			until(t, "all to end", func() bool { open, _, _ := r.store.count(); return open == 0 })
			if v, err := r.Call("wms", a.ID); err != nil || v.State != c.want || v.Failure.Class != c.err.Class || !r.out.told(alarmFailed) {
				t.Fatalf("got %+v, %v", v, err)
			}
		})
	}
}

func TestCallsAreTheirSystems(t *testing.T) {
	r := newRig(t, nil)
	a := r.must(carrier.OpShip, "k", shipment("R"))
	if _, err := r.Call("erp", a.ID); err == nil {
		t.Error("another system sees it")
	}
	if list, _, err := r.Calls("erp", Done, Page{}); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
	list, _, err := r.Calls("wms", Done, Page{})
	if err != nil || len(list) != 1 || list[0].ID != a.ID {
		t.Errorf("got %v, %v", list, err)
	}
	if list, _, err := r.Calls("", "", Page{}); err != nil || len(list) != 0 {
		t.Errorf("open: got %v, %v", list, err)
	}
	_, err = r.Do(t.Context(), Request{System: "erp", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != OtherUse {
		t.Errorf("got %v", err)
	}
}

func TestRetention(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.Retain = time.Hour })
	r.must(carrier.OpShip, "k1", shipment("R1"))
	r.now.Add(int64(2 * time.Hour))
	r.ran.Add(int64(2 * time.Hour))
	r.must(carrier.OpShip, "k2", shipment("R2"))
	r.trim()
	if _, kept, bytes := r.store.count(); kept != 1 || bytes <= 0 {
		t.Fatalf("kept %d, %d bytes", kept, bytes)
	}
	r.reopen()
	_, kept, bytes := r.store.count()
	r.Limit(r.cfg.Deadline, bytes-1)
	r.trim()
	if _, now, left := r.store.count(); kept != 1 || now != 0 || left != 0 {
		t.Fatalf("kept %d, then %d with %d bytes", kept, now, left)
	}
}

func TestEvents(t *testing.T) {
	r := newRig(t, nil)
	r.out.fail = errors.New("the journal is full")
	a := r.must(carrier.OpShip, "k", shipment("R"))
	r.run()
	until(t, "an event to wait", func() bool { return r.Status().Leaving == 1 })
	r.out.mu.Lock()
	r.out.fail = nil
	r.out.mu.Unlock()
	until(t, "the event", func() bool { return len(r.out.ofType(TypeLabel)) == 1 })
	e := r.out.ofType(TypeLabel)[0]
	var data labelCreated
	if err := json.Unmarshal(e.Data, &data); err != nil || e.ID != a.ID+".done" || data.Parcels[0].Tracking != "T-R" || len(data.Documents[0].SHA256) != 64 {
		t.Fatalf("got %+v, %v", data, err)
	}
	r.out.mu.Lock()
	r.out.fail = ErrNoContract
	r.out.mu.Unlock()
	r.must(carrier.OpShip, "k2", shipment("R2"))
	until(t, "it to be counted", func() bool { return r.Status().Unpublished[TypeLabel] == 1 && r.Status().Leaving == 0 })
	r.out.mu.Lock()
	r.out.fail = fmt.Errorf("%w: no", ErrRefused)
	r.out.mu.Unlock()
	r.must(carrier.OpShip, "k3", shipment("R3"))
	until(t, "an exception", func() bool { return r.out.told("call-event-refused") })
}

// far is a tax engine on the other side of the line, dearer than the table by a cent in ten.
type far struct {
	tax.Engine
	r *rig
}

func (f far) dearer(res *tax.Result, err error) (*tax.Result, error) {
	if err != nil {
		return nil, err
	}
	tenth := res.Tax.Decimal.Shift(-1)
	res.Tax.Decimal, res.Gross.Decimal = res.Tax.Decimal.Add(tenth), res.Gross.Decimal.Add(tenth)
	res.Lines[0].Tax.Decimal = res.Lines[0].Tax.Decimal.Add(tenth)
	return res, nil
}

func (f far) Finalise(ctx context.Context, d *tax.Document) (*tax.Result, error) {
	return f.dearer(f.Engine.Finalise(ctx, d))
}

func newEngine(t *testing.T) tax.Engine {
	t.Helper()
	e, err := table.New(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Configure(t.Context(), sdk.Settings{"state": t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	return e
}

const invoice = `{"reference":"I-1","kind":"sale","date":"2026-11-26","currency":"EUR","seller":{"address":{"country":"DE","postalCode":"80331"}},"customer":{"address":{"country":"DE","postalCode":"80331"}},` +
	`"shipFrom":{"country":"DE","postalCode":"80331"},"shipTo":{"country":"DE","postalCode":"80331"},"lines":[{"id":"1","category":"standard","quantity":"1","amount":"100.00"}]}`

func (r *rig) tax(operation, key, body string) (*tax.Result, *Answer, error) {
	r.t.Helper()
	a, err := r.Do(context.Background(), Request{System: "erp", Kind: tax.Kind, Operation: operation, Key: key, Body: []byte(body)})
	if err != nil {
		return nil, nil, err
	}
	var out tax.Result
	if len(a.Body) > 0 {
		if err := json.Unmarshal(a.Body, &out); err != nil {
			r.t.Fatal(err)
		}
	}
	return &out, a, nil
}

func TestTaxStandsIn(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.host.engines["far"] = taxtest.Pipe(t, far{newEngine(t), r})
		r.host.engines["table"] = taxtest.Pipe(t, newEngine(t))
		r.cfg.Policy = order{"far", "table"}
	})
	if res, _, err := r.tax(tax.OpEstimate, "", invoice); err != nil || res.Provisional || res.Tax.Decimal.String() != "19" {
		t.Fatalf("got %+v, %v", res, err)
	}
	r.host.set("far", true)
	if res, _, err := r.tax(tax.OpEstimate, "e", invoice); err != nil || !res.Provisional {
		t.Fatalf("got %+v, %v", res, err)
	}
	res, a, err := r.tax(tax.OpFinalise, "k", invoice)
	if err != nil || a.State != Queued || !res.Provisional || !res.Final.IsZero() || res.Tax.Decimal.String() != "19" {
		t.Fatalf("got %+v, %+v, %v", res, a, err)
	}
	r.reopen()
	r.run()
	until(t, "the provisional event", func() bool { return len(r.out.ofType(TypeProvisional)) == 1 })
	r.host.set("far", false)
	until(t, "the final event", func() bool { return len(r.out.ofType(TypeFinalised)) == 1 })
	v, err := r.Call("erp", a.ID)
	if err != nil || v.State != Done || v.Engine != "table" || v.Difference.Tax.Decimal.String() != "1.9" || v.Difference.Lines[0].Tax.Decimal.String() != "1.9" {
		t.Fatalf("got %+v, %v", v, err)
	}
	var data taxed
	if err := json.Unmarshal(r.out.ofType(TypeFinalised)[0].Data, &data); err != nil || data.Difference.Tax.Decimal.String() != "1.9" || data.Engine != "far" {
		t.Fatalf("got %+v, %v", data, err)
	}
	if res, _, err := r.tax(tax.OpFinalise, "k", invoice); err != nil || res.Provisional || res.Tax.Decimal.String() != "20.9" {
		t.Fatalf("got %+v, %v", res, err)
	}
}

// An engine that refuses is not gone round, and where none stands in the sale waits.
func TestTaxAlone(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.host.engines["far"] = taxtest.Pipe(t, newEngine(t))
		r.cfg.Policy = order{"far"}
	})
	var refusal *Refusal
	if _, _, err := r.tax(tax.OpVoid, "v", `{"reference":"none"}`); !errors.As(err, &refusal) || refusal.Code != CallFailed || refusal.Failure.Class != sdk.NotFound {
		t.Fatalf("got %v", err)
	}
	r.host.set("far", true)
	if _, a, err := r.tax(tax.OpFinalise, "k", invoice); err != nil || a.State != Queued || len(a.Body) > 0 {
		t.Fatalf("got %+v, %v", a, err)
	}
	if _, _, err := r.tax(tax.OpEstimate, "", invoice); !errors.As(err, &refusal) || refusal.Failure.Class != sdk.Unavailable {
		t.Fatalf("got %v", err)
	}
	r.Service.cfg.Policy = nil
	if _, _, err := r.tax(tax.OpEstimate, "", invoice); !errors.As(err, &refusal) || refusal.Code != NoSuch {
		t.Fatalf("got %v", err)
	}
}

// TestGivenBack: what was given back is not handed out again, and giving it back twice is one
// thing.
func TestGivenBack(t *testing.T) {
	r := newRig(t, nil)
	bought := r.must(carrier.OpShip, "k1", shipment("R"))
	given := r.must(carrier.OpVoid, "v1", void("R"))
	for range 2 {
		e := r.refusedWith(OtherUse, carrier.OpShip, "k2", shipment("R"))
		if e.ID != bought.ID || !strings.Contains(e.Detail, "new reference") {
			t.Errorf("another key: %+v", e)
		}
		if again := r.must(carrier.OpShip, "k1", shipment("R")); again.ID != bought.ID {
			t.Errorf("the same key is answered by call %s, want %s", again.ID, bought.ID)
		}
		if again := r.must(carrier.OpVoid, "v2", void("R")); again.ID != given.ID {
			t.Errorf("given back again by call %s, want %s", again.ID, given.ID)
		}
		r.reopen()
	}
	r.boughtOnce("R")
}
