package versions

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
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
	refused := Health{Reachable: true, Link: "refused"}
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
		{"no session though a node answers", []Health{refused, refused, refused}, "failed"},
		{"time with a cut line does not count", []Health{refused, cut, refused, cut, cut, well}, "passed"},
		{"a fault counts with a cut line too", []Health{cut, sick, cut, sick, sick, sick}, "failed"},
		{"faults far apart do not add up", []Health{sick, cut, sick, cut, sick, cut, sick, cut}, "waits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, got := gate{limit: 3 * second}, ""
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

func launcher(s *Store, version string) *Launcher {
	return &Launcher{Store: s, Version: version, Attempts: 3, Log: slog.New(slog.DiscardHandler)}
}

// hold makes a version held.
func hold(t *testing.T, s *signer, dir, version string) *Store {
	t.Helper()
	store := NewStore(dir, s.keys(), nil)
	o := s.offer(version, "", []byte(version))
	r, err := store.verify(o.Manifest, o.Signature)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.extend(r.file, 0, []byte(version)); err != nil {
		t.Fatal(err)
	}
	if err := store.place(r, store.part(r.file)); err != nil {
		t.Fatal(err)
	}
	return store
}

func TestWhatAStartRuns(t *testing.T) {
	s := newSigner(t)
	chosen := State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.1.0"}
	for _, c := range []struct {
		name      string
		state     State
		installed string
		spoil     func(t *testing.T, store *Store)
		want      []string // of one start after the other
	}{
		{"what was chosen", chosen, "1.0.0", nil, []string{"1.2.0", "1.2.0"}},
		{"what was installed since", chosen, "1.0.1", nil, []string{installed, installed}},
		{"the one before where the chosen one was changed", chosen, "1.0.0", func(t *testing.T, store *Store) {
			if err := os.WriteFile(store.Program("1.2.0"), []byte("9.9.9"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{"1.1.0", "1.1.0"}},
		{"the installed one where nothing is left", chosen, "1.0.0", func(t *testing.T, store *Store) {
			if err := errors.Join(os.RemoveAll(filepath.Join(store.dir, "1.2.0")), os.RemoveAll(filepath.Join(store.dir, "1.1.0"))); err != nil {
				t.Fatal(err)
			}
		}, []string{installed}},
		{"the installed one where the choice cannot be read", chosen, "1.0.0", func(t *testing.T, store *Store) {
			if err := os.WriteFile(filepath.Join(store.dir, stateFile), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, []string{installed}},
		{"a trial so often, then what was before", State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Trial: &Trial{Version: "1.2.0"}}, "1.0.0", nil,
			[]string{"1.2.0", "1.2.0", "1.2.0", "1.1.0", "1.1.0"}},
		{"a trial of what is installed", State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Trial: &Trial{Version: "1.0.0"}}, "1.0.0", nil,
			[]string{installed, installed, installed, "1.1.0"}},
		{"no trial of what was changed", State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Trial: &Trial{Version: "1.2.0"}}, "1.0.0", func(t *testing.T, store *Store) {
			if err := os.Remove(filepath.Join(store.dir, "1.2.0", release.SignatureFile)); err != nil {
				t.Fatal(err)
			}
		}, []string{"1.1.0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			hold(t, s, dir, "1.1.0")
			store := hold(t, s, dir, "1.2.0")
			if err := store.write(c.state); err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				c.spoil(t, store)
			}
			for i, want := range c.want {
				if got := launcher(store, c.installed).next(); got != want {
					t.Errorf("start %d runs %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// TestDoubtLeavesTheChoice: what says nothing about a version does not cost it its place, be
// it chosen or on trial.
func TestDoubtLeavesTheChoice(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	for _, c := range []struct {
		name  string
		keys  release.Keys
		doubt error
		spoil bool // the program cannot be read, though it is there
		want  bool // the choice stands
	}{
		{"no keys", nil, nil, false, true},
		{"other keys, of a configuration with a mistake", other.keys(), errors.New("unknown field"), false, true},
		{"other keys that are meant", other.keys(), nil, false, false},
		{"a program that cannot be read", s.keys(), nil, true, true},
	} {
		for _, st := range []State{
			{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.1.0"},
			{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.2.0"}},
		} {
			t.Run(fmt.Sprintf("%s trial=%t", c.name, st.Trial != nil), func(t *testing.T) {
				dir := t.TempDir()
				hold(t, s, dir, "1.1.0")
				store := hold(t, s, dir, "1.2.0")
				if err := store.write(st); err != nil {
					t.Fatal(err)
				}
				if c.spoil { // a directory in its place opens, and gives an error of the disk when it is read
					if err := errors.Join(os.Rename(store.Program("1.2.0"), filepath.Join(dir, "aside")), os.Mkdir(store.Program("1.2.0"), 0o700)); err != nil {
						t.Fatal(err)
					}
				}
				l := launcher(NewStore(dir, c.keys, nil), "1.0.0")
				l.Doubt = c.doubt
				if got := l.next(); got != installed {
					t.Errorf("%s runs unverified", got)
				}
				if c.spoil {
					if err := errors.Join(os.Remove(store.Program("1.2.0")), os.Rename(filepath.Join(dir, "aside"), store.Program("1.2.0"))); err != nil {
						t.Fatal(err)
					}
				}
				if got := launcher(store, "1.0.0").next(); (got == "1.2.0") != c.want {
					t.Errorf("%s runs once it can be verified; the choice stands: %t", got, c.want)
				}
			})
		}
	}
}

// TestOrderlyEndIsNoAttempt: who stops an agent in its trial says nothing about the version.
func TestOrderlyEndIsNoAttempt(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0"}}); err != nil {
		t.Fatal(err)
	}
	l := launcher(store, "1.0.0")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 5 {
		if got := l.next(); got != "1.1.0" {
			t.Fatalf("%s runs", got)
		}
		if again, err := l.Ended(ctx, Start{Version: "1.1.0", Installed: "1.0.0"}, nil); again || err != nil {
			t.Fatal(again, err)
		}
	}
}

// TestPowerThatFailsIsNoAttempt: a start that has shown that it works is not counted when the
// process just ends; one that ends with an error is.
func TestPowerThatFailsIsNoAttempt(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0"}}); err != nil {
		t.Fatal(err)
	}
	l, start := launcher(store, "1.0.0"), Start{Version: "1.1.0", Installed: "1.0.0"}
	settle := func() {
		t.Helper()
		if got := l.next(); got != "1.1.0" {
			t.Fatalf("%s runs", got)
		}
		h := newHand(t, s, store.dir, func(c *Config) {
			c.Start, c.Gate = start, time.Hour // which does not end here
			c.Health = func(context.Context) Health { return Health{Link: "no route"} }
		})
		h.uncount()
		h.uncount()
		if st := h.Status(); st.State != OnTrial {
			t.Fatalf("%+v", st)
		}
	}
	for range 5 {
		settle() // and the power fails
	}
	for range 3 {
		settle()
		if _, err := l.Ended(t.Context(), start, errors.New("breaks")); err == nil {
			t.Fatal("the error is lost")
		}
	}
	if got := l.next(); got != installed {
		t.Errorf("%s runs after three ends with an error", got)
	}
}

// TestSettledStartIsNoted: the judge itself finds that a start has shown enough.
func TestSettledStartIsNoted(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0", Starts: 2}}); err != nil {
		t.Fatal(err)
	}
	h := newHand(t, s, store.dir, func(c *Config) {
		c.Start, c.Gate = Start{Version: "1.1.0", Installed: "1.0.0"}, time.Second
		c.Health = func(context.Context) Health { return Health{Link: "no route"} }
	})
	if err := h.run(t, func(Status) bool {
		st, err := store.State()
		return err == nil && st.Trial != nil && st.Trial.Starts == 1 && st.Trial.Settled
	}); err != nil {
		t.Fatal(err)
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

// write makes a directory of a release, or a .tar.gz of it.
func write(t *testing.T, o Offer, content []byte, packed bool) string {
	t.Helper()
	files := []struct {
		name string
		text []byte
	}{{"release/linux-any/crossdock-agent", content}, {"release/manifest.json", o.Manifest}, {"release/manifest.json.minisig", o.Signature}}
	dir := t.TempDir()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		if f.text == nil {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(f.name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, f.text, 0o600),
			w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.text))})); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.text); err != nil {
			t.Fatal(err)
		}
	}
	if !packed {
		return dir
	}
	file := filepath.Join(dir, "release.tar.gz")
	if err := errors.Join(w.Close(), z.Close(), os.WriteFile(file, b.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReleaseFromAFile(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	tampered := bytes.Clone(content)
	tampered[7]++
	unsigned := s.offer("1.1.0", "", content)
	unsigned.Signature = nil
	for _, c := range []struct {
		name    string
		offer   Offer
		content []byte
		want    string
	}{
		{"good", s.offer("1.1.0", "", content), content, ""},
		{"tampered", s.offer("1.1.0", "", content), tampered, "crossdock-agent is not the file of the signed manifest"},
		{"cut off", s.offer("1.1.0", "", content), content[:100], "crossdock-agent is not the file of the signed manifest"},
		{"without the program", s.offer("1.1.0", "", content), nil, "has no crossdock-agent for"},
		{"unsigned", unsigned, content, "not signed"},
		{"signed by another", other.offer("1.1.0", "", content), content, "not trusted here"},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s packed=%t", c.name, packed), func(t *testing.T) {
				from, data := write(t, c.offer, c.content, packed), t.TempDir()
				stopped := Stopped{Store: NewStore(filepath.Join(data, "versions"), s.keys(), nil), Data: data, Installed: "1.0.0"}
				version, err := stopped.Upgrade(from)
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Errorf("%v, want %q", err, c.want)
					}
					if got := launcher(stopped.Store, "1.0.0").next(); got != installed {
						t.Errorf("%s runs", got)
					}
					return
				}
				if err != nil || version != "1.1.0" {
					t.Fatal(version, err)
				}
				if got := launcher(stopped.Store, "1.0.0").next(); got != "1.1.0" {
					t.Errorf("%s runs", got)
				}
				if back, err := stopped.Rollback("no"); err != nil || back != "1.0.0" {
					t.Errorf("back to %s, %v", back, err)
				}
				if got := launcher(stopped.Store, "1.0.0").next(); got != installed {
					t.Errorf("after the rollback %s runs", got)
				}
			})
		}
	}
}

// TestStatusWhileAReleaseIsHandedIn: who sends slowly holds up nobody but himself.
func TestStatusWhileAReleaseIsHandedIn(t *testing.T) {
	s := newSigner(t)
	from := hold(t, s, t.TempDir(), "1.1.0")
	h := newHand(t, s, t.TempDir(), nil)
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := h.Upgrade(read)
		done <- err
	}()
	var all bytes.Buffer
	if err := from.Send("1.1.0", &all); err != nil {
		t.Fatal(err)
	}
	const end = 512 + 1024                                                // the block of the program, and what ends the archive
	if _, err := write.Write(all.Next(all.Len() - end + 2)); err != nil { // it is in the middle of the program now
		t.Fatal(err)
	}
	asked := make(chan Status, 1)
	go func() { asked <- h.Status() }()
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Fatal("the status waits for who sends")
	}
	if _, err := h.Upgrade(strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "another release is being received") {
		t.Errorf("a second one: %v", err)
	}
	h.tidy() // leaves what comes in
	if _, err := write.Write(all.Next(len("1.1.0") - 2)); err != nil {
		t.Fatal(err)
	}
	write.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := h.store.Check("1.1.0"); err != nil {
		t.Error(err)
	}
}

// TestReleaseHandedToARunningAgent: what comes from the command is believed no more than what
// comes over the line.
func TestReleaseHandedToARunningAgent(t *testing.T) {
	s, other := newSigner(t), newSigner(t)
	send := func(s *signer, spoil func(store *Store)) *bytes.Buffer {
		store := hold(t, s, t.TempDir(), "1.1.0")
		spoil(store)
		var b bytes.Buffer
		if err := store.Send("1.1.0", &b); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	h := newHand(t, s, t.TempDir(), nil)
	if _, err := h.Upgrade(send(other, func(*Store) {})); !errors.Is(err, release.ErrUnknownKey) {
		t.Errorf("of another key: %v", err)
	}
	if _, err := h.Upgrade(send(s, func(store *Store) {
		if err := os.WriteFile(store.Program("1.1.0"), []byte("1.1.1"), 0o600); err != nil {
			t.Fatal(err)
		}
	})); !errors.Is(err, errDiffers) {
		t.Errorf("tampered: %v", err)
	}
	if st := h.Status(); st.State != Failed {
		t.Errorf("%+v", st)
	}
	if version, err := h.Upgrade(send(s, func(*Store) {})); err != nil || version != "1.1.0" {
		t.Fatal(version, err)
	}
	if err := h.run(t, nil); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
}
