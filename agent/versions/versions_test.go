package versions

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"

	"github.com/crossdock/crossdock/protocol/release"
)

// signer signs releases.
type signer struct {
	t      *testing.T
	key    string
	secret minisign.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	public, secret, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, public.String(), secret}
}

func (s *signer) keys() release.Keys {
	s.t.Helper()
	keys, err := release.ParseKeys([]string{s.key})
	if err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// offer is a signed release of one program for this platform.
func (s *signer) offer(version, stage string, content []byte) Offer {
	s.t.Helper()
	sum := sha256.Sum256(content)
	manifest, signature, err := release.Sign(&release.Manifest{Format: release.Format, Version: version, Files: []release.File{
		{Name: release.Agent, OS: runtime.GOOS, Arch: runtime.GOARCH, Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])},
	}}, s.secret)
	if err != nil {
		s.t.Fatal(err)
	}
	return Offer{Version: version, Stage: stage, Manifest: manifest, Signature: signature}
}

// hand is a Manager that a test drives.
type hand struct {
	*Manager
	dir    string
	alarms []string
	ready  error
	free   int64
}

func newHand(t *testing.T, s *signer, dir string, change func(*Config)) *hand {
	t.Helper()
	h := &hand{dir: dir, free: 1 << 40}
	config := Config{Store: NewStore(dir, s.keys(), nil), Start: Start{Version: "1.0.0", Installed: "1.0.0"}, Enabled: true, Gate: time.Minute,
		Health: func(context.Context) Health { return Health{Linked: true} }, Ready: func() error { return h.ready }, Free: func() int64 { return h.free },
		Alarm: func(kind, what, text string) { h.alarms = append(h.alarms, kind+" "+what+" "+text) }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&config)
	}
	h.Manager = Open(config)
	return h
}

// fetch takes pieces of a content until nothing more is wanted, or so many bytes.
func (h *hand) fetch(t *testing.T, content []byte, piece, most int64) (got int64) {
	t.Helper()
	for got < most {
		p, ok := h.Next()
		if !ok {
			return got
		}
		data := content[p.Offset:min(p.Offset+piece, int64(len(content)))]
		if err := h.Took(p, data, int64(len(content))); err != nil {
			t.Fatal(err)
		}
		got += int64(len(data))
	}
	return got
}

// run runs it until it ends or a status shows.
func (h *hand) run(t *testing.T, until func(Status) bool) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	for {
		select {
		case err := <-ended:
			if ctx.Err() != nil {
				t.Fatalf("it does not end: %+v", h.Status())
			}
			return err
		case <-time.After(5 * time.Millisecond):
			if until != nil && until(h.Status()) {
				cancel()
				return <-ended
			}
		}
	}
}

var content = bytes.Repeat([]byte("a program "), 1000)

func TestRefusals(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	good := s.offer("1.1.0", "1", content)
	for _, c := range []struct {
		name   string
		offer  func(Offer) Offer
		change func(*Config)
		state  string
		want   string
	}{
		{"unsigned", func(o Offer) Offer { o.Signature = nil; return o }, nil, Failed, "signature is not valid"},
		{"signed by another", func(Offer) Offer { return other.offer("1.1.0", "1", content) }, nil, Failed, "not trusted here"},
		{"changed", func(o Offer) Offer {
			o.Manifest = bytes.Replace(o.Manifest, []byte("1.1.0"), []byte("1.2.0"), 1)
			return o
		}, nil, Failed, "did not sign this manifest"},
		{"called otherwise", func(o Offer) Offer { o.Version = "1.2.0"; return o }, nil, Failed, "calls release 1.1.0"},
		{"older", func(Offer) Offer { return s.offer("0.9.0", "1", content) }, nil, Newer, "older than 1.0.0"},
		{"no keys", func(o Offer) Offer { return o }, func(c *Config) { c.Store = NewStore(t.TempDir(), nil, nil) }, Failed, "set upgrades.keys"},
		{"switched off", func(o Offer) Offer { return o }, func(c *Config) { c.Enabled = false }, Off, "upgrades.enabled is false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHand(t, s, t.TempDir(), c.change)
			h.Want(c.offer(good))
			if st := h.Status(); st.State != c.state || !strings.Contains(st.Why, c.want) {
				t.Errorf("%+v, want %s: %q", st, c.state, c.want)
			}
			if p, ok := h.Next(); ok {
				t.Errorf("it fetches %+v", p)
			}
			h.Want(Offer{Stage: "2"}) // what is wrong with a release stays to be seen
			if st := h.Status(); (st.State == Failed) != (c.state == Failed) {
				t.Errorf("nothing is wanted any more: %+v", st)
			}
		})
	}
}

// TestFetchGoesOnAfterBreaks cuts a fetch, by a new process too, and sees nothing fetched twice.
func TestFetchGoesOnAfterBreaks(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	offer := s.offer("1.1.0", "1", content)
	h := newHand(t, s, dir, nil)
	h.Want(offer)
	first := h.fetch(t, content, 1000, 3000)
	h = newHand(t, s, dir, nil)
	h.Want(offer)
	if rest := h.fetch(t, content, 1000, 1<<30); first+rest != int64(len(content)) {
		t.Errorf("%d and %d bytes were fetched of %d", first, rest, len(content))
	}
	if err := h.run(t, nil); !errors.Is(err, ErrRestart) {
		t.Fatalf("it ends with %v", err)
	}
	if err := h.store.Check("1.1.0"); err != nil {
		t.Error(err)
	}
	if st, err := h.store.State(); err != nil || st.Trial == nil || st.Trial.Version != "1.1.0" || st.Current != installed {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestTamperedFileIsThrownAway(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	h := newHand(t, s, dir, nil)
	h.Want(s.offer("1.1.0", "1", content))
	other := bytes.Clone(content)
	other[500]++
	h.fetch(t, other, 4000, 1<<30)
	if err := h.run(t, func(st Status) bool { return st.State == Failed }); err != nil {
		t.Fatal(err)
	}
	if st := h.Status(); !strings.Contains(st.Why, "not the file of the signed manifest") {
		t.Errorf("%+v", st)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, fetched+"*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	h.Want(s.offer("1.1.0", "1", content))
	p, _ := h.Next()
	if err := h.Took(p, content[:10], 10); err != nil {
		t.Fatal(err)
	}
	if st := h.Status(); st.State != Failed || !strings.Contains(st.Why, "has a file of 10 bytes") {
		t.Errorf("of another size: %+v", st)
	}
}

func TestFetchWaitsForRoomAndTheSwitchForAnAgentThatWorks(t *testing.T) {
	s := newSigner(t)
	h := newHand(t, s, t.TempDir(), nil)
	h.free, h.ready = spareBytes, errors.New("no policy yet")
	h.Want(s.offer("1.1.0", "1", content))
	if n := h.fetch(t, content, 1000, 1<<30); n > 0 {
		t.Errorf("%d bytes were fetched into the last room", n)
	}
	if st := h.Status(); st.State != Fetching || !strings.Contains(st.Why, "disk has 256 MB free") {
		t.Errorf("%+v", st)
	}
	h.free *= 2
	h.fetch(t, content, 1000, 1<<30)
	if err := h.run(t, func(st Status) bool { return st.State == Verified && strings.Contains(st.Why, "no policy yet") }); err != nil {
		t.Fatal(err)
	}
	h.Want(Offer{Stage: "2"}) // not wanted any more
	h.ready = nil
	if restart, _ := h.advance(); restart {
		t.Error("what is not wanted any more takes over")
	}
	if st := h.Status(); st.State != Current || st.Wanted != "" {
		t.Errorf("%+v", st)
	}
}

func TestGate(t *testing.T) {
	const second = time.Second
	well := Health{Linked: true}
	sick := Health{Fault: "no policy"}
	cut := Health{Link: "no route"}
	silent := Health{Line: Silent, Link: "handshake"}
	busy := Health{Line: Busy, Link: "no leader"}
	barred := Health{Line: Barred, Link: "revoked"}
	refused := Health{Line: Refused, Link: "protocol"}
	for _, c := range []struct {
		name string
		seen []Health // one for each second, of 3
		want string   // how it ends: passed, failed, or waits
	}{
		{"works", []Health{well}, "passed"},
		{"comes late", []Health{sick, sick, well}, "passed"},
		{"never works", []Health{sick, sick, sick}, "failed"},
		{"a cut line fails nobody", []Health{cut, cut, cut, cut, cut, cut, cut}, "waits"},
		{"and holds the gate until it is back", []Health{cut, cut, cut, cut, cut, well}, "passed"},
		{"refused by a node", []Health{refused, refused, refused}, "failed"},
		{"time with a cut line does not count", []Health{refused, cut, refused, cut, cut, well}, "passed"},
		{"nor does an outage", []Health{refused, busy, refused, silent, busy, barred, cut}, "waits"},
		{"but what was refused adds up", []Health{refused, busy, refused, silent, refused}, "failed"},
		{"a node that cannot serve fails nobody", slices.Repeat([]Health{busy}, 50), "waits"},
		{"nor does a certificate that is refused", slices.Repeat([]Health{barred}, 50), "waits"},
		{"nodes that give no answer have longer", slices.Repeat([]Health{silent}, 9), "waits"},
		{"and not for ever", slices.Repeat([]Health{silent}, 10), "failed"},
		{"with breaks too", slices.Repeat([]Health{silent, cut}, 10), "failed"},
		{"any answer makes good for it", slices.Concat(slices.Repeat([]Health{silent}, 9), []Health{busy}, slices.Repeat([]Health{silent}, 9)), "waits"},
		{"a fault counts with a cut line too", []Health{cut, sick, cut, sick, sick, sick}, "failed"},
		{"faults far apart do not add up", []Health{sick, cut, sick, cut, sick, cut, sick, cut}, "waits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, got := gate{limit: 3 * second, patience: 10 * second}, ""
			for _, h := range c.seen {
				failed, waits := g.look(h, second)
				switch {
				case failed != "":
					got = "failed"
				case waits != "":
					got = "waits"
				default:
					got = "passed"
				}
				if got != "waits" {
					break
				}
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestWaitsSayWhatFor: people see in which case a trial is, and how long it still may be.
func TestWaitsSayWhatFor(t *testing.T) {
	for line, want := range map[Line]string{
		Cut: "waits for the line", Busy: "cannot serve now", Barred: "lets this agent in again",
		Silent: "gives none that counts, for 1m0s of 24h0m0s", Refused: "refuses it, for 1m0s of 10m0s",
	} {
		g := gate{limit: 10 * time.Minute, patience: patience}
		if failed, waits := g.look(Health{Line: line, Link: "the reason"}, time.Minute); failed != "" || !strings.Contains(waits, want) || !strings.HasSuffix(waits, ": the reason") {
			t.Errorf("%d: failed %q, waits %q, want %q", line, failed, waits, want)
		}
	}
}

// TestSilenceAddsUpOverRestarts: where the site is switched off every night, a version that
// gets no answer is left in the end; an answer is remembered too.
func TestSilenceAddsUpOverRestarts(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	judge := func(had time.Duration, line Line, until func(Status, State) bool) error {
		t.Helper()
		if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed,
			Trial: &Trial{Version: "1.1.0", Starts: 1, Silent: had}}); err != nil {
			t.Fatal(err)
		}
		h := newHand(t, s, store.dir, func(c *Config) {
			c.Start, c.Gate = Start{Version: "1.1.0", Installed: "1.0.0"}, time.Second
			c.Health = func(context.Context) Health { return Health{Line: line, Link: "no handshake"} }
		})
		return h.run(t, func(said Status) bool {
			st, err := store.State()
			return err == nil && until(said, st)
		})
	}
	if err := judge(patience-time.Nanosecond, Silent, func(Status, State) bool { return false }); !errors.Is(err, ErrRestart) {
		t.Errorf("after a day without an answer: %v", err)
	}
	if st, err := store.State(); err != nil || st.Outcome.State != RolledBack || !strings.Contains(st.Outcome.Why, "no answer for 24h0m0s: no handshake") {
		t.Errorf("%+v, %v", st.Outcome, err)
	}
	if err := judge(patience/2, Busy, func(_ Status, st State) bool { return st.Trial != nil && st.Trial.Silent == 0 }); err != nil {
		t.Errorf("an answer is not remembered: %v", err)
	}
	g := gate{patience: patience, silent: patience / 2}
	if g.kept(g.silent) || !g.kept(g.silent-patience/patienceKept) {
		t.Error("silence is written too often, or too seldom")
	}
}

// TestHandStands: what a person has chosen or left is not undone by what the control plane
// wanted before, also after a restart; what it stages anew counts.
func TestHandStands(t *testing.T) {
	s := newSigner(t)
	for _, stood := range []string{"1.1", ""} { // known when he chose, or heard of only since
		dir := t.TempDir()
		hold(t, s, dir, "1.1.0")
		store := hold(t, s, dir, "1.2.0")
		if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Stage: stood}); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := store.Send("1.2.0", &b); err != nil {
			t.Fatal(err)
		}
		h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
		if _, err := h.Upgrade(&b); err != nil {
			t.Fatal(err)
		}
		if got := launcher(store, "1.0.0").next(); got != "1.2.0" {
			t.Fatalf("%s runs", got)
		}
		for i, c := range []struct {
			stage string
			wants bool
		}{{"1.1", false}, {"1.1", false}, {"1.2", true}} {
			h = newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.2.0", Installed: "1.0.0"} })
			if i == 0 {
				if err := h.run(t, func(st Status) bool { return st.State == Current }); err != nil {
					t.Fatal(err)
				}
			}
			h.Want(s.offer("1.1.0", c.stage, []byte("1.1.0")))
			if got := h.wanted != nil; got != c.wants || !got && h.Status().State != Newer {
				t.Errorf("stood %q, start %d: the older one of stage %s is wanted: %t; %+v", stood, i, c.stage, got, h.Status())
			}
		}
	}
}

// TestRollbackHoldsInThePromotedStage: what is left is refused in the stage in which it was
// wanted last, not only in the one in which it was chosen.
func TestRollbackHoldsInThePromotedStage(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	store := hold(t, s, dir, "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Stage: "1.1", Previous: installed}); err != nil {
		t.Fatal(err)
	}
	offer := s.offer("1.1.0", "1.2", []byte("1.1.0"))
	h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
	h.Want(offer)
	if err := h.Rollback("no"); err != nil {
		t.Fatal(err)
	}
	h = newHand(t, s, dir, nil)
	h.Want(offer)
	if st := h.Status(); st.State != RolledBack || h.wanted != nil {
		t.Errorf("it is tried again: %+v", st)
	}
}

func TestOnlyOnePreviousIsKept(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	for _, v := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		hold(t, s, dir, v)
	}
	h := newHand(t, s, dir, nil)
	if err := h.store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.1.0", Trial: &Trial{Version: "1.3.0", Starts: 1}}); err != nil {
		t.Fatal(err)
	}
	h = newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.3.0", Installed: "1.0.0"} })
	if st := h.Status(); st.State != OnTrial || st.Wanted != "1.3.0" {
		t.Errorf("%+v", st)
	}
	if err := h.run(t, func(st Status) bool {
		list, err := h.store.List()
		return err == nil && st.State == Current && len(list) == 2
	}); err != nil {
		t.Fatal(err)
	}
	if list, err := h.store.List(); err != nil || !slices.Equal(list, []string{"1.2.0", "1.3.0"}) {
		t.Errorf("held: %v %v", list, err)
	}
	if err := h.Rollback("it prints the wrong labels"); err != nil {
		t.Fatal(err)
	}
	if err := h.run(t, nil); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	if got := launcher(h.store, "1.0.0").next(); got != "1.2.0" {
		t.Errorf("after a rollback %s runs", got)
	}
	h = newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.2.0", Installed: "1.0.0"} })
	if st := h.Status(); st.State != RolledBack || st.Why != "it prints the wrong labels" {
		t.Errorf("%+v", st)
	}
	if err := h.Rollback(""); err == nil {
		t.Error("it goes back where nothing is held to go back to")
	}
}
