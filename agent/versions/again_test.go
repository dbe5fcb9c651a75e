package versions

import (
	"strings"
	"testing"
	"time"
)

// TestVersionThatCouldNotBeStartedIsTriedAgain: not at once, for each try ends what goes on here,
// and with what its trial has counted so far.
func TestVersionThatCouldNotBeStartedIsTriedAgain(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0", Stage: "1", Starts: 2}}); err != nil {
		t.Fatal(err)
	}
	h := newHand(t, s, store.dir, nil)
	h.Want(s.offer("1.1.0", "1", []byte("1.1.0")))
	if restart, waits := h.advance(); restart || !waits || !strings.Contains(h.Status().Why, "could not be started") {
		t.Errorf("restart %t, waits %t, %+v", restart, waits, h.Status())
	}
	h.began = h.began.Add(-startAgain)
	if restart, _ := h.advance(); !restart {
		t.Errorf("%+v", h.Status())
	}
	if st, err := store.State(); err != nil || st.Trial == nil || st.Trial.Starts != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	h = newHand(t, s, store.dir, nil)
	h.Want(s.offer("1.1.0", "2", []byte("1.1.0")))
	if restart, _ := h.advance(); !restart { // somebody wants it tried again
		t.Errorf("in another stage: %+v", h.Status())
	}
}

// TestTriesOfAStartGetRarer: each one is an end of what goes on here, and is counted over restarts.
func TestTriesOfAStartGetRarer(t *testing.T) {
	s := newSigner(t)
	store := hold(t, s, t.TempDir(), "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0", Stage: "1"}}); err != nil {
		t.Fatal(err)
	}
	offer := s.offer("1.1.0", "1", []byte("1.1.0"))
	for i, want := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 80 * time.Minute} {
		h := newHand(t, s, store.dir, nil)
		h.Want(offer)
		h.began = time.Now().Add(time.Minute - want)
		if restart, waits := h.advance(); restart || !waits || !strings.Contains(h.Status().Why, want.String()) {
			t.Errorf("try %d: restart %t, waits %t, %+v", i+1, restart, waits, h.Status())
		}
		h.began = time.Now().Add(-want)
		if restart, _ := h.advance(); !restart {
			t.Errorf("try %d: %+v", i+1, h.Status())
		}
	}
	if got := (Again{"1.1.0", 1 << 30}).pause("1.1.0"); got != 24*time.Hour {
		t.Errorf("at last it is tried every %v", got)
	}
	h := newHand(t, s, store.dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
	h.started()
	if st, err := store.State(); err != nil || st.Again.Tries != 0 {
		t.Errorf("it runs, and its tries are kept: %+v, %v", st, err)
	}
}

// TestPutOffVersionIsCalledOff: what could not be started yet does not outlast the wish for it.
func TestPutOffVersionIsCalledOff(t *testing.T) {
	s := newSigner(t)
	for _, c := range []struct {
		name  string
		stage string // in which it was chosen
		do    func(h *hand) error
		runs  string // at the next start
	}{
		{"still wanted", "1", func(h *hand) error { h.Want(s.offer("1.2.0", "1", []byte("1.2.0"))); return nil }, "1.2.0"},
		{"withdrawn", "1", func(h *hand) error { h.Want(Offer{Stage: "2", Withdrawn: []string{"1.2.0"}}); return nil }, "1.1.0"},
		{"paused", "1", func(h *hand) error { h.Want(Offer{}); return nil }, "1.1.0"},
		{"another is wanted", "1", func(h *hand) error { h.Want(s.offer("1.1.0", "2", []byte("1.1.0"))); return nil }, "1.1.0"},
		{"paused, by hand", byHand + " today", func(h *hand) error { h.Want(Offer{}); return nil }, "1.2.0"},
		{"a person goes back", "1", func(h *hand) error { return h.Rollback("no") }, "1.1.0"},
		{"a person goes back from his own choice", byHand + " today", func(h *hand) error { return h.Rollback("no") }, "1.1.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			hold(t, s, dir, "1.1.0")
			store := hold(t, s, dir, "1.2.0")
			if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Stage: "0", Previous: installed, Trial: &Trial{Version: "1.2.0", Stage: c.stage}}); err != nil {
				t.Fatal(err)
			}
			h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
			if st := h.Status(); st.Wanted != "1.2.0" || st.Stage != c.stage || st.State != Verified || !strings.Contains(st.Why, "could not be started") {
				t.Errorf("at first: %+v", st)
			}
			if err := c.do(h); err != nil {
				t.Fatal(err)
			}
			if restart, _ := h.advance(); restart {
				h = newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
			}
			if st := h.Status(); c.runs == "1.1.0" && st.State == Verified {
				t.Errorf("it is called off, and waits: %+v", st)
			}
			st, err := store.State()
			if err != nil || st.Current != "1.1.0" || (st.Trial == nil) != (c.runs == "1.1.0") {
				t.Errorf("%+v, %v", st, err)
			}
			if got := launcher(store, "1.0.0").next(); got != c.runs {
				t.Errorf("%s runs, want %s", got, c.runs)
			}
		})
	}
}

// TestCurrentVersionThatCouldNotBeStarted: it has passed its trial, so it only has its turn again,
// after the same pause; the version before it is kept.
func TestCurrentVersionThatCouldNotBeStarted(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	hold(t, s, dir, "1.1.0")
	store := hold(t, s, dir, "1.2.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Stage: "1", Previous: "1.1.0"}); err != nil {
		t.Fatal(err)
	}
	h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
	for _, o := range []*Offer{nil, {}, {Stage: "9", Withdrawn: []string{"0.9.0"}}} {
		if o != nil {
			h.Want(*o)
		}
		if restart, waits := h.advance(); restart || !waits {
			t.Errorf("%+v: restart %t, waits %t", o, restart, waits)
		}
		if st := h.Status(); st.Wanted != "1.2.0" || st.Stage != "1" || st.State != Verified || !strings.Contains(st.Why, "could not be started") {
			t.Errorf("%+v: %+v", o, st)
		}
	}
	h.Want(s.offer("1.2.0", "2", []byte("1.2.0")))
	if restart, waits := h.advance(); restart || !waits {
		t.Errorf("restart %t, waits %t, %+v", restart, waits, h.Status())
	}
	h.Want(s.offer("1.2.0", "3", content)) // built anew: it is fetched first
	if got := h.fetch(t, content, 4000, 1<<30); got != int64(len(content)) {
		t.Errorf("%d bytes are fetched of another program of that version", got)
	}
	h.advance() // puts it in its place
	if r, err := store.held("1.2.0"); err != nil || r.file.Size != int64(len(content)) {
		t.Errorf("what was fetched is not held: %+v, %v", r.file, err)
	}
	h.began = h.began.Add(-startAgain)
	if restart, _ := h.advance(); !restart {
		t.Errorf("%+v", h.Status())
	}
	if st, err := store.State(); err != nil || st.Trial != nil || st.Current != "1.2.0" || st.Previous != "1.1.0" || st.Again != (Again{"1.2.0", 1}) {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestTrialOfTheCurrentVersionKeepsTheOneBefore: what is asked for once more does not take the
// place of what a rollback goes to.
func TestTrialOfTheCurrentVersionKeepsTheOneBefore(t *testing.T) {
	for _, c := range []struct {
		installed, current, previous string
	}{{"1.0.0", "1.2.0", "1.1.0"}, {"1.2.0", installed, "1.1.0"}} {
		st := State{Format: stateForm, Installed: c.installed, Current: c.current, Previous: c.previous, Trial: &Trial{Version: "1.2.0", Starts: 1}}
		st.pass(time.Now())
		if st.Current != c.current || st.Previous != c.previous || st.Trial != nil {
			t.Errorf("%+v", st)
		}
	}
}

// TestWithdrawnWhileItCouldNotBeStarted: the next start does not run what was taken back meanwhile.
func TestWithdrawnWhileItCouldNotBeStarted(t *testing.T) {
	s := newSigner(t)
	for stage, want := range map[string]string{"1": "1.1.0", byHand + " today": "1.2.0"} {
		dir := t.TempDir()
		hold(t, s, dir, "1.1.0")
		store := hold(t, s, dir, "1.2.0")
		if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Stage: stage, Previous: "1.1.0"}); err != nil {
			t.Fatal(err)
		}
		h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
		h.Want(Offer{Stage: "2", Withdrawn: []string{"1.2.0"}})
		h.advance()
		if got := launcher(store, "1.0.0").next(); got != want {
			t.Errorf("chosen in %q and withdrawn: %s runs, want %s; %+v", stage, got, want, h.Status())
		}
	}
}
