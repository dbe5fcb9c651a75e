package delivery

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	bolt "go.etcd.io/bbolt"
)

// TestSealFindsEveryFlip: bbolt would not notice.
func TestSealFindsEveryFlip(t *testing.T) {
	good, err := seal(job{Ref: Ref{7, 1}, Key: "k"}, []byte(`{"a":"<b>"}`))
	if err != nil {
		t.Fatal(err)
	}
	var j job
	if event, err := unseal(good, &j); err != nil || string(event) != `{"a":"<b>"}` || j.Ref != (Ref{7, 1}) {
		t.Fatalf("got %+v %s %v", j, event, err)
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := unseal(bad, &j); !errors.Is(err, errDamaged) {
			t.Fatalf("bit %d: %v", bit, err)
		}
	}
	r := receipt{StateDead, time.UnixMilli(1700000000000), 30, 503, 12 * time.Millisecond}
	if got, err := parseReceipt(r.bytes()); err != nil || got != r {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzRecords(f *testing.F) {
	good, _ := seal(job{Key: "k"}, []byte("{}"))
	f.Add(good)
	f.Add(receipt{state: StateDelivered, at: time.Unix(1, 0)}.bytes())
	f.Fuzz(func(_ *testing.T, b []byte) {
		var j job
		_, _ = unseal(b, &j)
		_, _ = parseReceipt(b)
	})
}

func TestIdempotencyKey(t *testing.T) {
	seen := map[string]string{}
	for _, c := range []struct {
		source, id, system string
		edit               int
		shadow             bool
	}{
		{"shop", "1", "erp", 0, false}, {"shop", "1", "erp", 0, true}, {"shop", "1", "erp", 1, false},
		{"shop1", "", "erp", 0, false}, {"shop", "1e", "rp", 0, false}, {"sho", "p1", "erp", 0, false},
	} {
		key := IdempotencyKey(c.source, c.id, c.system, c.edit, c.shadow)
		if other, ok := seen[key]; ok || len(key) != 64 {
			t.Errorf("%+v has the key of %s", c, other)
		}
		seen[key] = fmt.Sprintf("%+v", c)
	}
	// Systems remember keys over our versions.
	if want := "458fa1c4cc8fb23e3516c03702f2ddbbb59aee1500771890169bf82e17f45b0a"; seen[want] == "" {
		t.Errorf("no key is %s any more", want)
	}
}

func TestOpenRefuses(t *testing.T) {
	b := newBench(t, newRules(nil), func(c *Config) { c.Journal = "one" })
	e, err := Open(b.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(b.cfg); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second one: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	b.cfg.Journal = "two"
	if _, err := Open(b.cfg); !errors.Is(err, ErrOtherJournal) {
		t.Errorf("another journal: %v", err)
	}
}

// TestDamagedParked: a parked copy that rotted becomes a dead letter, and the rest goes on.
func TestDamagedParked(t *testing.T) {
	b := newBench(t, newRules(nil))
	b.journal.append(makeItem("a", "k", to("erp")...), makeItem("b", "k", to("erp")...))
	b.run(t)
	await(t, "both are parked", func() bool { return b.of("erp").Parked == 2 })
	b.stop()
	db, err := bolt.Open(b.cfg.Path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		bucket := tx.Bucket(parkedBucket).Bucket([]byte("erp"))
		k, v := bucket.Cursor().First()
		v = bytes.Clone(v)
		v[10] ^= 4
		return bucket.Put(bytes.Clone(k), v)
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	b.rules.set = newRules([]string{"erp"}).set
	b.run(t)
	dl := b.awaitDead(t, 1)[0]
	if dl.Key != "k" || dl.Ref != "1.0" || !strings.Contains(dl.Cause, "cannot be read") {
		t.Errorf("got %+v", dl)
	}
	if err := b.Discard(t.Context(), Command{ID: "c1", DeadLetter: dl.ID}); err != nil {
		t.Fatal(err)
	}
	b.awaitDelivered(t, "erp", "b")
}

// TestForget drops what nobody needs, and Hops tells what is left.
func TestForget(t *testing.T) {
	b := newBench(t, newRules([]string{"erp", "wms"}))
	b.target.play(reject("b"))
	for _, id := range []string{"a", "b", "c", "d"} {
		b.journal.append(makeItem(id, id, to("erp")...))
	}
	b.run(t)
	b.awaitSettled(t, 3)
	b.awaitDead(t, 1)
	await(t, "the cursor is stored", func() bool { return b.MinCursor() == 5 })
	if err := b.ForgetBefore(4); err != nil {
		t.Fatal(err)
	}
	for pos, want := range map[uint64]string{1: StatePending, 2: StateDead, 4: StateDelivered} {
		hops, err := b.Hops(pos, 0)
		if err != nil || len(hops) != 1 || hops[0].State != want || hops[0].System != "erp" {
			t.Errorf("%d: %+v, %v; want %s", pos, hops, err, want)
		}
	}
	if hops, err := b.Hops(4, 0); err != nil || hops[0].Attempts != 1 || hops[0].Status != 200 || hops[0].At.IsZero() {
		t.Errorf("hops %+v, %v", hops, err)
	}
}

func TestMetricsRegister(t *testing.T) {
	reg := prometheus.NewRegistry()
	NewMetrics(reg).parked.WithLabelValues("erp").Set(2)
	families, err := reg.Gather()
	if err != nil || len(families) == 0 {
		t.Errorf("got %d families, %v", len(families), err)
	}
}

func TestOpenMakesTheFile(t *testing.T) {
	if _, err := Open(Config{Agent: here, Path: filepath.Join(t.TempDir(), "no", "delivery.db")}); err == nil {
		t.Error("a config without source was taken")
	}
}
