package sealed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/sealing"
)

// rig is an agent's store, and who seals for it.
type rig struct {
	*testing.T
	*Store
	cfg       Config
	recipient string
	changes   int
	now       time.Time
}

func newRig(t *testing.T) *rig {
	t.Helper()
	key, err := sealing.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, now: time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)}
	if r.recipient, err = sealing.RecipientOf(key); err != nil {
		t.Fatal(err)
	}
	r.cfg = Config{Dir: filepath.Join(t.TempDir(), "sealed"), Cluster: "c", Agent: "eu", Key: key,
		Now: func() time.Time { return r.now }, Changed: func() { r.changes++ }}
	r.reopen()
	return r
}

func (r *rig) reopen() {
	r.Helper()
	var err error
	if r.Store, err = Open(r.cfg); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) seal(name string, version uint64, value string) []byte {
	r.Helper()
	text, err := sealing.Seal(r.recipient, sealing.Binding{Cluster: "c", Agent: "eu", Name: name, Version: version}, []byte(value))
	if err != nil {
		r.Fatal(err)
	}
	return text
}

func (r *rig) take(s Secret) {
	r.Helper()
	if err := r.Take(s); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) want(name, value string) {
	r.Helper()
	got, _, err := r.Value(name)
	if string(got) != value || (err == nil) != (value != "") {
		r.Errorf("%s: got %q, %v, want %q", name, got, err, value)
	}
}

func TestSecretsLast(t *testing.T) {
	r := newRig(t)
	r.want("erp/token", "")
	if _, _, err := r.Value("erp/token"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	r.take(Secret{Name: "erp/token", Version: 1, Sealed: r.seal("erp/token", 1, "canary-one")})
	r.want("erp/token", "canary-one")
	r.reopen()
	r.want("erp/token", "canary-one")
	files, err := os.ReadDir(r.cfg.Dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(filepath.Join(r.cfg.Dir, files[0].Name()))
	if err != nil || bytes.Contains(text, []byte("canary")) {
		t.Errorf("the disk holds %s, %v", text, err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if list := r.Status(); len(list) != 1 || list[0].Dropped {
		t.Errorf("held: %+v", list)
	}
	r.take(Secret{Name: "erp/token", Version: 2})
	r.want("erp/token", "")
	if list := r.Status(); len(list) != 1 || !list[0].Dropped || list[0].Version != 2 || list[0].Refused != "" {
		t.Errorf("dropped: %+v", list)
	}
	r.take(Secret{Name: "erp/token", Version: 1, Sealed: r.seal("erp/token", 1, "canary-one")})
	r.want("erp/token", "") // a dropped one does not come back by a repeat
	if marks := r.Marks(); len(marks) != 1 || marks[0] != (Mark{"erp/token", 2}) || r.changes != 2 {
		t.Errorf("%v after %d changes", marks, r.changes)
	}
}

// A control plane cannot bring back a value that was sealed without the restriction that the
// newer one has, not even by dropping that in between.
func TestHostsComeWithTheValue(t *testing.T) {
	r := newRig(t)
	free := r.seal("erp/token", 1, "canary-one")
	bound, err := sealing.Seal(r.recipient, sealing.Binding{Cluster: "c", Agent: "eu", Name: "erp/token", Version: 2}, []byte("canary-two"), "erp.example")
	if err != nil {
		t.Fatal(err)
	}
	r.take(Secret{Name: "erp/token", Version: 1, Sealed: free})
	r.take(Secret{Name: "erp/token", Version: 2, Sealed: bound})
	hosts := func() {
		t.Helper()
		if _, only, err := r.Value("erp/token"); err != nil || !slices.Equal(only, []string{"erp.example"}) {
			t.Errorf("for %v, %v", only, err)
		}
		if s := r.Status(); len(s) != 1 || !slices.Equal(s[0].Only, []string{"erp.example"}) {
			t.Errorf("status %+v", s)
		}
	}
	hosts()
	r.reopen()
	hosts()
	r.take(Secret{Name: "erp/token", Version: 3, Sealed: free})
	hosts()
	r.take(Secret{Name: "erp/token", Version: 4})
	r.take(Secret{Name: "erp/token", Version: 5})
	r.reopen()
	r.take(Secret{Name: "erp/token", Version: 6, Sealed: free})
	r.want("erp/token", "")
	r.take(Secret{Name: "erp/token", Version: 7, Sealed: bound, Former: bound})
	hosts()
	if _, only, _, ok := r.Former("erp/token"); !ok || len(only) != 1 {
		t.Errorf("the former value is for %v, %t", only, ok)
	}
}

func TestFormerIsValidUntilItLapses(t *testing.T) {
	r := newRig(t)
	one, two := r.seal("shop/token", 1, "canary-one"), r.seal("shop/token", 2, "canary-two")
	until := r.now.Add(time.Hour)
	r.take(Secret{Name: "shop/token", Version: 2, Sealed: two, Former: one, FormerUntil: until})
	for range 2 {
		r.want("shop/token", "canary-two")
		if value, _, when, ok := r.Former("shop/token"); !ok || string(value) != "canary-one" || !when.Equal(until) {
			t.Errorf("former %q until %v, %t", value, when, ok)
		}
		r.reopen()
	}
	r.now = until
	if value, _, _, ok := r.Former("shop/token"); ok || value != nil {
		t.Errorf("lapsed, and still %q", value)
	}
	r.take(Secret{Name: "shop/token", Version: 3, Sealed: two, Former: one})
	if _, _, when, ok := r.Former("shop/token"); !ok || !when.IsZero() {
		t.Error("one without end is not there")
	}
	r.take(Secret{Name: "shop/token", Version: 4, Sealed: two})
	if _, _, _, ok := r.Former("shop/token"); ok {
		t.Error("a dropped former is still there")
	}
}

func TestWhatIsRefusedChangesNothing(t *testing.T) {
	r := newRig(t)
	r.take(Secret{Name: "erp/token", Version: 3, Sealed: r.seal("erp/token", 3, "right")})
	other := newRig(t)
	for what, text := range map[string][]byte{
		"an older one":       r.seal("erp/token", 2, "old"),
		"of another secret":  r.seal("shop/token", 9, "foreign"),
		"to another key":     other.seal("erp/token", 9, "foreign"),
		"damaged":            []byte("age-encryption.org/v1\n"),
		"beyond all bounds ": bytes.Repeat([]byte("x"), sealing.MaxSealed+1),
	} {
		r.take(Secret{Name: "erp/token", Version: 9, Sealed: text})
		r.want("erp/token", "right")
		if list := r.Status(); len(list) != 1 || list[0].Version != 3 || !strings.Contains(list[0].Refused, "version 9 was not taken") {
			t.Errorf("%s: %+v", what, list)
		}
	}
	r.take(Secret{Name: "erp/token", Version: 10, Sealed: r.seal("erp/token", 10, "next")})
	r.want("erp/token", "next")
	if list := r.Status(); len(list) != 1 || !reflect.DeepEqual(list[0], Status{Name: "erp/token", Version: 10}) {
		t.Errorf("%+v", list)
	}
}

func TestNewKey(t *testing.T) {
	r := newRig(t)
	r.take(Secret{Name: "erp/token", Version: 3, Sealed: r.seal("erp/token", 3, "before")})
	next := newRig(t)
	r.cfg.Key, r.recipient = next.cfg.Key, next.recipient
	r.reopen()
	if list := r.Status(); len(list) != 1 || list[0].Version != 3 || !strings.Contains(list[0].Refused, "sealed to another key") {
		t.Errorf("%+v", list)
	}
	r.take(Secret{Name: "erp/token", Version: 4, Sealed: r.seal("erp/token", 4, "anew")})
	r.want("erp/token", "anew")
	r.cfg.Key, r.cfg.Fault = "", errors.New("the key's file is damaged")
	r.reopen()
	if _, _, err := r.Value("erp/token"); !errors.Is(err, sealing.ErrSealed) || !errors.Is(err, r.cfg.Fault) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedFileComesAgain(t *testing.T) {
	r := newRig(t)
	one := Secret{Name: "erp/token", Version: 3, Sealed: r.seal("erp/token", 3, "right")}
	r.take(one)
	path := filepath.Join(r.cfg.Dir, fileOf(one.Name))
	if err := os.WriteFile(path, []byte(`{"name":"erp/to`), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	if marks := r.Marks(); len(marks) != 0 {
		t.Errorf("%v", marks)
	}
	r.take(one)
	r.reopen()
	r.want(one.Name, "right")
}

func TestDiskThatIsFull(t *testing.T) {
	r := newRig(t)
	if err := os.WriteFile(r.cfg.Dir, nil, 0o600); err != nil { // not even a directory
		t.Fatal(err)
	}
	one := Secret{Name: "erp/token", Version: 3, Sealed: r.seal("erp/token", 3, "right")}
	if err := r.Take(one); err == nil {
		t.Error("taken without a place to keep it")
	}
	r.want(one.Name, "")
	if err := os.Remove(r.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	r.take(one)
	r.want(one.Name, "right")
}

func TestNumberIsLimited(t *testing.T) {
	r := newRig(t)
	text := map[string][]byte{}
	for i := range MaxSecrets + 1 {
		name := fmt.Sprintf("erp/%d", i)
		text[name] = r.seal(name, 1, "x")
	}
	for i := range MaxSecrets {
		r.held[fmt.Sprintf("erp/%d", i)] = &entry{kept: kept{Secret: Secret{Name: fmt.Sprintf("erp/%d", i), Version: 1, Sealed: text[fmt.Sprintf("erp/%d", i)]}}}
	}
	last := fmt.Sprintf("erp/%d", MaxSecrets)
	r.take(Secret{Name: last, Version: 1, Sealed: text[last]})
	r.want(last, "")
	r.take(Secret{Name: "erp/0", Version: 2})
	r.take(Secret{Name: last, Version: 1, Sealed: text[last]})
	r.want(last, "x")
}
