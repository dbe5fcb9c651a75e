package identity

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func opened(t *testing.T, dir string) *Identity {
	t.Helper()
	id, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func next(t *testing.T, id *Identity) uint64 {
	t.Helper()
	n, err := id.NextSession()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Session numbers rise over restarts, show a copy that is put back, and are not given again
// where the file is lost or damaged.
func TestSessionsAreCountedOnDisk(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	id := opened(t, dir)
	first := next(t, id)
	image, err := os.ReadFile(filepath.Join(dir, sessionFile))
	if err != nil {
		t.Fatal(err)
	}
	if n := next(t, id); n != first+1 {
		t.Errorf("second is %d, first was %d", n, first)
	}
	if n := next(t, opened(t, dir)); n != first+2 {
		t.Errorf("after a restart %d, first was %d", n, first)
	}
	path := filepath.Join(dir, sessionFile)
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := next(t, opened(t, dir)); n != first+1 {
		t.Errorf("a copy that was put back counts %d, want %d as before", n, first+1)
	}
	for name, damage := range map[string]func() error{
		"lost":    func() error { return os.Remove(path) },
		"damaged": func() error { return os.WriteFile(path, []byte("12x"), 0o600) },
		"empty":   func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		if err := os.WriteFile(path, []byte("41"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		before := uint64(time.Now().Unix())
		if n := next(t, opened(t, dir)); n < before {
			t.Errorf("%s: begins anew with %d", name, n)
		}
	}
}

// A request for an epoch is kept until it is answered, under one nonce.
func TestEpochs(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	id := opened(t, dir)
	if _, _, ok := id.PendingEpoch(); ok || id.Epoch() != granted.Epoch {
		t.Errorf("epoch %d, pending: %t", id.Epoch(), ok)
	}
	nonce, err := id.RequestEpoch("an old copy")
	if err != nil {
		t.Fatal(err)
	}
	id = opened(t, dir)
	kept, why, ok := id.PendingEpoch()
	if !ok || kept != nonce || why != "an old copy" {
		t.Errorf("after a restart: %x %q %t", kept, why, ok)
	}
	if again, err := id.RequestEpoch("another"); err != nil || again != nonce {
		t.Errorf("asked again: %x, %v", again, err)
	}
	waiting, err := os.ReadFile(filepath.Join(dir, epochFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := id.SetEpoch(granted.Epoch + 1); err != nil {
		t.Fatal(err)
	}
	// A crash may leave the request behind; it is answered all the same.
	if err := os.WriteFile(filepath.Join(dir, epochFile), waiting, 0o600); err != nil {
		t.Fatal(err)
	}
	id = opened(t, dir)
	if _, _, ok := id.PendingEpoch(); ok || id.Epoch() != granted.Epoch+1 || id.Site != granted.Site {
		t.Errorf("in epoch %d of %+v, pending: %t", id.Epoch(), id.Granted, ok)
	}
	if err := id.SetEpoch(granted.Epoch); err == nil || id.Epoch() != granted.Epoch+1 {
		t.Errorf("an epoch went back: %v", err)
	}
	if other, err := id.RequestEpoch("once more"); err != nil || other == nonce {
		t.Errorf("a nonce was used again: %x, %v", other, err)
	}
}

func TestBaselineStaysUntilAgreed(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	first, later := map[string]uint64{"a": 2}, map[string]uint64{"a": 9, "b": 1}
	check := func(given, want map[string]uint64) {
		t.Helper()
		if got, err := opened(t, dir).Baseline(given); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
	}
	check(first, first)
	check(later, first)
	if err := opened(t, dir).Agreed(); err != nil {
		t.Fatal(err)
	}
	check(later, later)
	for range 2 { // also when there is none
		if err := opened(t, dir).Agreed(); err != nil {
			t.Fatal(err)
		}
	}
	check(nil, map[string]uint64{})
	check(first, map[string]uint64{}) // an agent that had given nothing is no agent that knows nothing
}

func TestWhatIsKnownOfTheControlPlane(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	id := opened(t, dir)
	if g, life := id.Known(); g != 0 || life != "" || len(id.Nodes()) != 0 {
		t.Errorf("a new agent knows %d %q %v", g, life, id.Nodes())
	}
	nodes := []string{"n1:7400", "n2:7400"}
	if err := id.Remember(4, "life", nodes); err != nil {
		t.Fatal(err)
	}
	if err := id.Remember(5, "next life", nil); err != nil { // says nothing of nodes
		t.Fatal(err)
	}
	id = opened(t, dir)
	if g, life := id.Known(); g != 5 || life != "next life" || !slices.Equal(id.Nodes(), nodes) {
		t.Errorf("after a restart: %d %q %v", g, life, id.Nodes())
	}
	enrolled(t, a, dir) // perhaps in another cluster
	if g, life := opened(t, dir).Known(); g != 0 || life != "" {
		t.Errorf("after a new enrolment: %d %q", g, life)
	}
}

// A recovery survives a crash at every step: the request is the same until its answer is in
// force, and the count is never less than the control plane's while a certificate is good.
func TestRenewalSurvivesACrash(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	enrolled(t, a, dir)
	request := func() []byte {
		t.Helper()
		text, err := opened(t, dir).Request()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	first := request()
	if !bytes.Equal(request(), first) {
		t.Error("the request changed before it was answered")
	}
	id := opened(t, dir)
	chain := a.sign(t, first, time.Now(), time.Hour)
	waiting, err := os.ReadFile(filepath.Join(dir, requestFile))
	if err != nil {
		t.Fatal(err)
	}
	// The disk fills up after the count: the certificate cannot be written.
	blocked := filepath.Join(dir, authorityFile)
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(blocked, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := id.Replace(chain, [][]byte{a.cert.Raw}, 3); err == nil {
		t.Fatal("a certificate was written over a directory")
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blocked, encode([][]byte{a.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	id = opened(t, dir)
	if id.Recoveries() != 3 || !bytes.Equal(request(), first) {
		t.Errorf("after a crash in between: %d recoveries", id.Recoveries())
	}
	if err := id.Replace(a.sign(t, first, time.Now(), time.Hour), [][]byte{a.cert.Raw}, 3); err != nil {
		t.Fatal(err)
	}
	// A crash may leave the request behind; the next renewal is another one.
	if err := os.WriteFile(filepath.Join(dir, requestFile), waiting, 0o600); err != nil {
		t.Fatal(err)
	}
	if opened(t, dir).Recoveries() != 3 || bytes.Equal(request(), first) {
		t.Error("the count is lost, or an answered request is used again")
	}
	enrolled(t, a, dir)
	if n := opened(t, dir).Recoveries(); n != 0 {
		t.Errorf("%d recoveries after a new enrolment", n)
	}
	if err := os.WriteFile(filepath.Join(dir, recoveriesFile), []byte("many"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("a count that cannot be read was passed over in silence")
	}
}
