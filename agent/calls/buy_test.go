package calls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/agent/shrink"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/carrier/carriertest"
)

func TestShipOnce(t *testing.T) {
	r := newRig(t, nil)
	first := r.must(carrier.OpShip, "k1", shipment("R1"))
	if got := r.shippedOf(first); got.Parcels[0].Tracking != "T-R1" || first.State != Done {
		t.Fatalf("got %+v", got)
	}
	spaced := " " + shipment("R1") // the same, written otherwise
	for _, key := range []string{"k1", "k2"} {
		if again := r.must(carrier.OpShip, key, spaced); again.ID != first.ID || string(again.Body) != string(first.Body) {
			t.Fatalf("%s: got %s, want %s", key, again.Body, first.Body)
		}
	}
	r.refusedWith(OtherBody, carrier.OpShip, "k1", shipment("R2"))
	other := shipment("R1")[:len(shipment("R1"))-1] + `,"label":"pdf"}`
	r.refusedWith(OtherUse, carrier.OpShip, "k3", other)
	r.reopen()
	if again := r.must(carrier.OpShip, "k1", shipment("R1")); again.ID != first.ID {
		t.Fatalf("after a restart: got %+v", again)
	}
	r.boughtOnce("R1")
}

func TestShipAtOnce(t *testing.T) {
	r := newRig(t, nil)
	var all sync.WaitGroup
	ids := make(chan string, 32)
	for i := range 16 {
		all.Go(func() {
			a, err := r.do(carrier.OpShip, fmt.Sprint("k", i%2), shipment("R"))
			if err != nil {
				t.Error(err)
				return
			}
			ids <- a.ID
		})
	}
	all.Wait()
	close(ids)
	first := <-ids
	for id := range ids {
		if id != first {
			t.Errorf("got call %s, want %s", id, first)
		}
	}
	r.boughtOnce("R")
}

func TestUnknownOutcome(t *testing.T) {
	lost := sdk.Errorf(sdk.UnknownOutcome, "no answer")
	for _, c := range []struct {
		name string
		err  error
	}{{"no answer", lost}, {"fault of the plugin", sdk.Errorf(sdk.Internal, "a bug")}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.shop.sales["R"] = []error{c.err}
			if a := r.must(carrier.OpShip, "k", shipment("R")); a.State != Done {
				t.Fatalf("got %+v", a)
			}
			r.boughtOnce("R")
		})
	}
}

// What was not sold in spite of an unknown outcome is bought again, once that is sure.
func TestSurelyNotBought(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.UnknownOutcome, "broken off"))
	r.shop.before = func(op string) {
		if op == carrier.OpGetByReference {
			r.shop.failing(carrier.OpShip, nil)
		}
	}
	r.must(carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
}

func TestStaysUnknown(t *testing.T) {
	r := newRig(t, func(r *rig) { r.cfg.UnknownAfter = time.Hour })
	r.shop.sales["R"] = []error{sdk.Errorf(sdk.UnknownOutcome, "no answer")}
	r.shop.failing(carrier.OpGetByReference, sdk.Errorf(sdk.Unavailable, "down"))
	e := r.refusedWith(InDoubt, carrier.OpShip, "k", shipment("R"))
	if e.RetryAfter <= 0 || e.ID == "" {
		t.Fatalf("got %+v", e)
	}
	r.refusedWith(InDoubt, carrier.OpVoid, "v", `{"reference":"R"}`) // it could be bought after that
	r.refusedWith(InDoubt, carrier.OpShip, "other", shipment("R"))
	r.run()
	r.now.Add(int64(2 * time.Hour))
	until(t, "an exception", func() bool { return r.out.told(alarmUnknown) })
	r.refusedWith(InDoubt, carrier.OpShip, "k", shipment("R"))
	r.shop.failing(carrier.OpGetByReference, nil)
	until(t, "the outcome", func() bool {
		v, err := r.Call("wms", e.ID)
		return err == nil && v.State == Done
	})
	r.must(carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
	until(t, "the event", func() bool { return len(r.out.ofType(TypeLabel)) == 1 })
}

// What was asked for long ago is not bought behind the back of who may have gone another way.
func TestNotBoughtLater(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.UnknownOutcome, "broken off"))
	r.shop.failing(carrier.OpGetByReference, sdk.Errorf(sdk.Unavailable, "down"))
	e := r.refusedWith(InDoubt, carrier.OpShip, "k", shipment("R"))
	r.shop.failing(carrier.OpShip, nil)
	r.now.Add(int64(time.Hour))
	r.shop.failing(carrier.OpGetByReference, nil)
	r.run()
	until(t, "the verdict", func() bool {
		v, err := r.Call("wms", e.ID)
		return err == nil && v.State == Retry
	})
	if n := r.shop.bought("R"); n != 0 {
		t.Fatalf("bought %d times", n)
	}
	r.must(carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
}

// A found purchase with another reference is none.
func TestFoundSomethingElse(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.host.carriers["shop"] = liar{r.shop}
	})
	r.shop.sales["R"] = []error{sdk.Errorf(sdk.UnknownOutcome, "no answer")}
	r.refusedWith(InDoubt, carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
}

// The paper of another purchase is not handed out as this one's: it is looked for.
func TestSoldSomethingElse(t *testing.T) {
	r := newRig(t, func(r *rig) {
		r.host.carriers["shop"] = mixer{r.shop}
	})
	if got := r.shippedOf(r.must(carrier.OpShip, "k", shipment("R"))); got.Reference != "R" {
		t.Fatalf("got %+v", got)
	}
	r.boughtOnce("R")
}

type mixer struct{ carrier.Carrier }

func (m mixer) Ship(ctx context.Context, r *carrier.Shipment) (*carrier.Shipped, error) {
	out, err := m.Carrier.Ship(ctx, r)
	if err != nil {
		return nil, err
	}
	other := *out
	other.Reference = "another"
	return &other, nil
}

type liar struct{ carrier.Carrier }

func (l liar) GetByReference(ctx context.Context, _ string) (*carrier.Shipped, error) {
	return &carrier.Shipped{Reference: "another"}, nil
}

func TestRefusedAndPassing(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.Validation, "too heavy").At("parcels[0].weight"))
	for range 2 { // the second is the recorded one
		if e := r.refusedWith(CallFailed, carrier.OpShip, "k", shipment("R")); e.Failure.Class != sdk.Validation || e.Field != "parcels[0].weight" {
			t.Fatalf("got %+v", e)
		}
	}
	if n := len(r.shop.asks()); n != 1 {
		t.Fatalf("asked %d times", n)
	}
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.Unavailable, "down"))
	r.refusedWith(CallFailed, carrier.OpShip, "k2", shipment("R"))
	r.shop.failing(carrier.OpShip, nil)
	r.must(carrier.OpShip, "k2", shipment("R")) // surely not done before: the same key makes it
	r.boughtOnce("R")
}

// A journal that was lost knows nothing of purchases; they are looked for.
func TestLostJournal(t *testing.T) {
	for _, lose := range []struct {
		name string
		do   func(r *rig)
	}{
		{"damaged", func(r *rig) { r.cfg.Check = func(string) error { return errDamaged } }},
		{"another epoch", func(r *rig) { r.cfg.Epoch = 2 }},
		{"enrolled again with nothing", func(r *rig) {
			r.cfg.Epoch = 2
			if err := os.Remove(r.cfg.Path); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"a new epoch while it runs", nil},
	} {
		t.Run(lose.name, func(t *testing.T) {
			r := newRig(t, nil)
			if err := r.shop.sell("R"); err != nil { // by the journal that is gone
				t.Fatal(err)
			}
			if lose.do == nil {
				if err := r.Begin(2); err != nil {
					t.Fatal(err)
				}
			} else {
				r.close()
				lose.do(r)
				r.open()
			}
			if a := r.must(carrier.OpShip, "k", shipment("R")); a.State != Done {
				t.Fatalf("got %+v", a)
			}
			r.boughtOnce("R")
			if lose.name == "damaged" && !r.out.told("calls-damaged") {
				t.Error("nobody was told")
			}
		})
	}
}

func TestNumbers(t *testing.T) {
	pool := &pool{}
	r := newRig(t, func(r *rig) {
		r.shop.ranges = []carrier.Range{{Name: "tracking", Per: "parcel"}, {Name: "label", Per: "shipment"}}
		r.cfg.Numbers = pool
	})
	r.refusedWith(NoNumbers, carrier.OpShip, "k", shipment("R"))
	pool.has = true
	r.must(carrier.OpShip, "k", shipment("R"))
	was, err := r.store.find("wms", "k", "shop", "R")
	if call := was.byKey; err != nil || len(call.Numbers["tracking"]) != 1 || len(call.Numbers["label"]) != 1 {
		t.Fatalf("got %+v, %v", call, err)
	}
	if pool.taken["tracking shop/R/1"] != 1 {
		t.Fatalf("got %v", pool.taken)
	}
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.Validation, "too heavy for one"))
	r.refusedWith(CallFailed, carrier.OpShip, "heavy", shipment("R3"))
	r.shop.failing(carrier.OpShip, nil)
	r.must(carrier.OpShip, "shared out", strings.Replace(shipment("R3"), `[{`, `[{"weight":{"value":"1","unit":"kg"}},{`, 1))
	own := shipment("R2")[:len(shipment("R2"))-1] + `,"numbers":{"tracking":["7"]}}`
	r.refusedWith(Invalid, carrier.OpShip, "k2", own)
}

type pool struct {
	has   bool
	taken map[string]int
}

func (p *pool) Take(name, reference string, count int) ([]string, error) {
	if !p.has {
		return nil, ErrNoNumbers
	}
	if p.taken == nil {
		p.taken = map[string]int{}
	}
	if before, has := p.taken[name+" "+reference]; has && before != count {
		return nil, fmt.Errorf("%w: %s had %d", ErrNoNumbers, reference, before)
	}
	p.taken[name+" "+reference] = count
	return make([]string, count), nil
}

func TestUnderstand(t *testing.T) {
	r := newRig(t, nil)
	r.refusedWith(NoKey, carrier.OpShip, "", shipment("R"))
	r.refusedWith(NoSuch, "teleport", "k", shipment("R"))
	for body, field := range map[string]string{
		`{`: "", `{"reference":"R"} x`: "", `{"reference":"R","reference":"R"}`: "", `{"Reference":"R"}`: "Reference", `{"speed":1}`: "speed",
		`{"reference":"R"}`: "from", shipment(""): "reference", `{"reference":"R","parcels":[{"weight":{"value":1.5,"unit":"kg"}}]}`: "parcels[0].weight.value",
		`{"reference":"R","parcels":[{"weight":null}]}`:                                "parcels[0].weight",
		`{"reference":"R","parcels":[{"weight":{"value":"1e999999999","unit":"kg"}}]}`: "parcels[0].weight.value",
		`{"reference":"R","labelDpi":"300"}`:                                           "labelDpi", `[]`: "",
	} {
		if e := r.refusedWith(Invalid, carrier.OpShip, "k", body); e.Field != field {
			t.Errorf("%s: got field %q (%v), want %q", body, e.Field, e, field)
		}
	}
	_, err := r.Do(t.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "none", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != NoSuch {
		t.Errorf("no such plugin: got %v", err)
	}
	r.Service.cfg.MayCall = func(system, plugin string) bool { return system != "wms" || plugin != "shop" }
	r.refusedWith(NotAllowed, carrier.OpShip, "k", shipment("R"))
	if asks := r.shop.asks(); len(asks) > 0 {
		t.Errorf("asked %v", asks)
	}
}

// What was bought is told to who bought it, whatever the policy says by now; nothing else is.
func TestPolicyTakesAPluginAway(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "k", shipment("R"))
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.Unavailable, "down"))
	r.refusedWith(CallFailed, carrier.OpShip, "failed", shipment("R2"))
	r.shop.failing(carrier.OpShip, nil)
	for code, take := range map[Code]func(){
		NotAllowed: func() { r.Service.cfg.MayCall = func(string, string) bool { return false } },
		NoSuch:     func() { delete(r.host.carriers, "shop") },
	} {
		take()
		r.must(carrier.OpShip, "k", shipment("R"))
		r.refusedWith(OtherBody, carrier.OpShip, "k", shipment("R2"))
		r.refusedWith(code, carrier.OpShip, "failed", shipment("R2"))
		r.refusedWith(code, carrier.OpShip, "another", shipment("R"))
		var refusal *Refusal
		if _, err := r.Do(t.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "none", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))}); !errors.As(err, &refusal) || refusal.Code == OtherBody {
			t.Errorf("of another carrier: %v", err)
		}
		r.Service.cfg.MayCall = nil
		r.host.carriers["shop"] = r.shop
	}
	r.boughtOnce("R")
}

// hangs sells and never answers.
type hangs struct {
	*shop
	sold chan struct{} // closed when it has sold
}

func (h hangs) Ship(ctx context.Context, r *carrier.Shipment) (*carrier.Shipped, error) {
	if err := h.sell(r.Reference); err != nil {
		return nil, err
	}
	close(h.sold)
	<-ctx.Done()
	return nil, ctx.Err()
}

// A plugin that does not answer in time, and a caller that does not wait for it: the purchase
// is found all the same.
func TestHangs(t *testing.T) {
	sold := make(chan struct{})
	r := newRig(t, func(r *rig) {
		r.cfg.Timeout = 50 * time.Millisecond
		r.host.carriers["shop"] = carriertest.Pipe(t, hangs{r.shop, sold})
	})
	ctx, leave := context.WithCancel(t.Context())
	go func() { <-sold; leave() }()
	request := Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))}
	if a, err := r.Do(ctx, request); err != nil || a.State != Done {
		t.Fatalf("got %+v, %v", a, err)
	}
	r.boughtOnce("R")
}

// An agent that stops while a purchase is being made finds it at its next start.
func TestStoppedMeanwhile(t *testing.T) {
	sold := make(chan struct{})
	r := newRig(t, func(r *rig) { r.host.carriers["shop"] = carriertest.Pipe(t, hangs{r.shop, sold}) })
	r.run()
	ended := make(chan error, 1)
	service := r.Service
	go func() {
		_, err := service.Do(t.Context(), Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))})
		ended <- err
	}()
	<-sold
	r.close()
	var refusal *Refusal
	if err := <-ended; !errors.As(err, &refusal) || refusal.Code != InDoubt {
		t.Fatalf("got %v", err)
	}
	r.host.carriers["shop"] = carriertest.Pipe(t, r.shop)
	r.open()
	r.run()
	until(t, "the purchase to be found", func() bool { open, _, _ := r.store.count(); return open == 0 })
	r.must(carrier.OpShip, "k", shipment("R"))
	r.boughtOnce("R")
}

// A key whose purchase did not come about finds what was bought under its reference since,
// under another key.
func TestBoughtUnderAnotherKey(t *testing.T) {
	r := newRig(t, nil)
	r.shop.failing(carrier.OpShip, sdk.Errorf(sdk.Unavailable, "down"))
	if e := r.refusedWith(CallFailed, carrier.OpShip, "k1", shipment("R")); e.ID == "" {
		t.Fatalf("the call is not kept: %+v", e)
	}
	r.shop.failing(carrier.OpShip, nil)
	second := r.must(carrier.OpShip, "k2", shipment("R"))
	if first := r.must(carrier.OpShip, "k1", shipment("R")); first.ID != second.ID {
		t.Errorf("got call %s, want %s", first.ID, second.ID)
	}
	r.boughtOnce("R")
	r.reopen()
	r.must(carrier.OpShip, "k1", shipment("R"))
	r.boughtOnce("R")
}

// After a write that the disk did not take, nothing that is kept counts and nothing is bought.
func TestFailedCommit(t *testing.T) {
	r := newRig(t, nil)
	r.must(carrier.OpShip, "k", shipment("R"))
	db, other := r.store.db, filepath.Join(t.TempDir(), "other.db")
	if err := db.View(func(tx *bolt.Tx) error { return tx.CopyFile(other, 0o600) }); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.store.db, err = shrink.Open(other, &bolt.Options{ReadOnly: true}); err != nil { // each commit fails
		t.Fatal(err)
	}
	r.refusedWith(CallFailed, carrier.OpShip, "k2", shipment("R2"))
	if err := r.store.db.Close(); err != nil {
		t.Fatal(err)
	}
	r.store.db = db
	r.refusedWith(NotKept, carrier.OpShip, "k2", shipment("R2"))
	r.refusedWith(NotKept, carrier.OpShip, "k", shipment("R"))
	if n := r.shop.bought("R2"); n != 0 {
		t.Errorf("bought %d times", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := r.Run(ctx); !errors.Is(err, ErrDisk) {
		t.Errorf("it ends with %v", err)
	}
}
