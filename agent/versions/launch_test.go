package versions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

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
				said, err := store.Report(c.installed, 3)
				if want == installed && said.Current != c.installed || want != installed && said.Current != want {
					t.Errorf("start %d is said to run %s, not %s (%v)", i+1, said.Current, want, err)
				}
				if got := launcher(store, c.installed).next(); got != want {
					t.Errorf("start %d runs %s, want %s", i+1, got, want)
				}
			}
		})
	}
}

// TestWhyATrialWasGivenUp: what ended its last start is told; where nothing was noted, where to look.
func TestWhyATrialWasGivenUp(t *testing.T) {
	for noted, want := range map[string]string{
		"":             "started 3 times, and ended before it had shown that it works; what it wrote last stands in the service's log at the site",
		"port 1 taken": "started 3 times, and ended before it had shown that it works: port 1 taken",
	} {
		store := hold(t, newSigner(t), t.TempDir(), "1.2.0")
		if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.2.0", Starts: 3, Why: noted}}); err != nil {
			t.Fatal(err)
		}
		launcher(store, "1.0.0").next()
		if st, err := store.State(); err != nil || st.Outcome.Why != want {
			t.Errorf("%q, %v, want %q", st.Outcome.Why, err, want)
		}
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
