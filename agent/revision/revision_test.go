package revision

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

func open(t *testing.T, dir string) *Holder {
	t.Helper()
	h, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// bundle is a policy with one site.
func bundle(site string) policy.Bundle {
	return policy.Bundle{"policy.yaml": fmt.Appendf(nil, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: %s}\nspec: {owner: it, region: eu}\n", site)}
}

func offer(h *Holder, generation, number uint64, b policy.Bundle) error {
	digest := b.Digest()
	return h.Offer(Offered{Number: block.Revision{Generation: generation, Number: number}, Digest: digest[:], Bundle: b.Encode()})
}

func TestRevisionsOnlyRise(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	if h.Set() != nil || h.Held() != (block.Revision{}) {
		t.Error("an empty directory holds something")
	}
	for _, tt := range []struct {
		generation, number uint64
		site, want         string
	}{
		{1, 4, "a", "1.4"},
		{1, 4, "b", "1.4"},
		{1, 3, "b", "1.4"},
		{1, 5, "c", "1.5"},
		{2, 1, "d", "2.1"},
		{1, 9, "b", "2.1"},
	} {
		changed := h.Changed()
		before := h.Held()
		if err := offer(h, tt.generation, tt.number, bundle(tt.site)); err != nil {
			t.Fatal(err)
		}
		if got := h.Held().String(); got != tt.want {
			t.Errorf("offered %d.%d: %s in force, want %s", tt.generation, tt.number, got, tt.want)
		}
		told := false
		select {
		case <-changed:
			told = true
		default:
		}
		if told != (h.Held() != before) {
			t.Errorf("offered %d.%d: told %v", tt.generation, tt.number, told)
		}
	}
	if h.Set().Sites["d"] == nil || h.Set().Sites["b"] != nil {
		t.Error("the policy is not that of the revision")
	}
	again := open(t, dir)
	if again.Held() != h.Held() || again.Set().Sites["d"] == nil || again.Set().Revision != h.Held() {
		t.Errorf("after a restart %v is in force", again.Held())
	}
}

// What a newer program would not have proposed any more stays in force where it was approved.
func TestApprovedBeforeACheckCame(t *testing.T) {
	b := bundle("eu")
	b["erp.yaml"] = []byte("apiVersion: crossdock/v1\nkind: System\nmetadata: {name: erp}\nspec:\n  owner: it\n  site: eu\n" +
		"  http:\n    url: https://erp.example.com/?apiKey=abc\n    deliver: {path: /events}\n")
	if set, _ := policy.Compile(b); set != nil {
		t.Fatal("it can be proposed")
	}
	dir := t.TempDir()
	if err := offer(open(t, dir), 1, 4, b); err != nil {
		t.Errorf("offered: %v", err)
	}
	if h := open(t, dir); h.Held().String() != "1.4" || h.Set().Systems["erp"] == nil || h.Refused() != "" {
		t.Errorf("after a restart %s is in force, refused: %s", h.Held(), h.Refused())
	}
}

func TestRefusedRevisionChangesNothing(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	good := bundle("a")
	if err := offer(h, 1, 1, good); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for i := range 900 {
		fmt.Fprintf(&text, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: s%d}\nspec: {ownr: it}\n---\n", i)
	}
	bad := policy.Bundle{"policy.yaml": []byte(text.String())}
	digest, third := good.Digest(), block.Revision{Generation: 1, Number: 3}
	for name, err := range map[string]error{
		"does not compile": offer(h, 1, 2, bad),
		"other digest":     h.Offer(Offered{third, make([]byte, 32), good.Encode(), nil}),
		"no digest":        h.Offer(Offered{third, nil, good.Encode(), nil}),
		"garbage":          h.Offer(Offered{third, digest[:], []byte("garbage"), nil}),
		"nothing":          h.Offer(Offered{third, digest[:], nil, nil}),
	} {
		if err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := offer(h, 1, 2, bad); err == nil || len(h.Refused()) > maxRefused+8 || !strings.Contains(h.Refused(), "1.2") {
		t.Errorf("refused: %d bytes, %v", len(h.Refused()), err)
	}
	if h.Held().Number != 1 || open(t, dir).Held().Number != 1 {
		t.Error("a refused revision is in force")
	}
	if err := offer(h, 1, 4, bundle("b")); err != nil || h.Refused() != "" {
		t.Errorf("a good one after it: %v, refused %q", err, h.Refused())
	}
}

// Where moves began is kept with the revision. One that the disk does not take may be offered
// again.
func TestOfferIsKept(t *testing.T) {
	dir := t.TempDir()
	h := open(t, dir)
	b := bundle("a")
	digest := b.Digest()
	o := Offered{Number: block.Revision{Generation: 1, Number: 4}, Digest: digest[:], Bundle: b.Encode(),
		Begun: map[string]block.Revision{"erp": {Generation: 1, Number: 3}}}
	if err := os.Remove(dir); err != nil { // no file can be made
		t.Fatal(err)
	}
	if err := h.Offer(o); !errors.Is(err, ErrNotKept) || h.Set() != nil || h.Refused() == "" {
		t.Errorf("offered %v, refused %q", err, h.Refused())
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var first *policy.Set
	h.First(func(set *policy.Set) {
		if first = set; h.Set() != nil {
			t.Error("others see it already")
		}
	})
	if err := h.Offer(o); err != nil || h.Refused() != "" {
		t.Errorf("offered %v, refused %q", err, h.Refused())
	}
	for _, set := range []*policy.Set{first, h.Set(), open(t, dir).Set()} {
		if set == nil || set.Begun["erp"] != o.Begun["erp"] {
			t.Errorf("in force %+v", set)
		}
	}
	if err := offer(h, 1, 5, policy.Bundle{"policy.yaml": []byte("nonsense")}); err == nil || errors.Is(err, ErrNotKept) {
		t.Errorf("a revision that never compiles: %v", err)
	}
}

func TestDamagedFileWaitsForTheControlPlane(t *testing.T) {
	dir := t.TempDir()
	if err := offer(open(t, dir), 1, 7, bundle("a")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		flipped := append([]byte(nil), text...)
		flipped[i] ^= 1
		if set, err := parse(flipped); err == nil && set.Revision.Number == 7 && set.Sites["a"] == nil {
			t.Errorf("byte %d flipped: taken with another content", i)
		}
	}
	if err := os.WriteFile(path, text[:len(text)-3], 0o600); err != nil {
		t.Fatal(err)
	}
	h := open(t, dir)
	if h.Set() != nil || !strings.Contains(h.Refused(), "damaged") {
		t.Errorf("a file that was cut: %v, %q", h.Held(), h.Refused())
	}
	if err := offer(h, 1, 7, bundle("a")); err != nil || h.Held().Number != 7 {
		t.Errorf("the same revision again: %v", err)
	}
}
