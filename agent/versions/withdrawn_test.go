package versions

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWithdrawnReleaseIsLeft: what came with a release goes back to what ran before it when the
// release is taken back, once; what a person or a package has put there stays, and says so.
func TestWithdrawnReleaseIsLeft(t *testing.T) {
	s := newSigner(t)
	gone := Offer{Stage: "1.2.0/1.2", Withdrawn: []string{"0.9.0", "1.2.0"}}
	byRelease := State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Stage: "1.2.0/1.1", Previous: "1.1.0"}
	change := func(change func(*State)) State {
		st := byRelease
		change(&st)
		return st
	}
	for _, c := range []struct {
		name  string
		state State
		offer Offer
		off   bool
		as    string // what the program says of itself
		runs  string // after it
		said  string // state of a site that stays
	}{
		{"for the version before", byRelease, gone, false, "1.2.0", "1.1.0", ""},
		{"for the installed one that ran before", change(func(st *State) { st.Previous = installed }), gone, false, "1.2.0", installed, ""},
		{"for the installed one where nothing is held", change(func(st *State) { st.Previous, st.Stage = "", "" }), gone, false, "1.2.0", installed, ""},
		{"another one is withdrawn", byRelease, Offer{Stage: "1.3.0/1.2", Withdrawn: []string{"1.3.0"}}, false, "1.2.0", "1.2.0", Current},
		{"a pause leaves it", byRelease, Offer{Stage: ""}, false, "1.2.0", "1.2.0", Current},
		{"a person has chosen it", change(func(st *State) { st.Stage = byHand + " today" }), gone, false, "1.2.0", "1.2.0", Newer},
		{"releases come by hand", byRelease, gone, true, "1.2.0", "1.2.0", Off},
		{"the package has brought it", State{Format: stateForm, Installed: "1.2.0", Current: installed, Stage: "1.2.0/1.1", Previous: "1.1.0"}, gone, false, "1.2.0", installed, Newer},
		{"the package has brought it, built by its tag", State{Format: stateForm, Installed: "v1.2.0", Current: installed, Stage: "1.2.0/1.1", Previous: "1.1.0"}, gone, false, "v1.2.0", installed, Newer},
		{"a release, built by its tag", byRelease, gone, false, "v1.2.0", "1.1.0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			hold(t, s, dir, "1.1.0")
			store := hold(t, s, dir, "1.2.0")
			if err := store.write(c.state); err != nil {
				t.Fatal(err)
			}
			h := newHand(t, s, dir, func(conf *Config) {
				conf.Start, conf.Enabled = Start{Version: c.as, Installed: c.state.Installed}, !c.off
			})
			h.Want(c.offer)
			if restart, _ := h.advance(); restart != (c.said == "") {
				t.Fatalf("it ends here: %t; %+v", restart, h.Status())
			}
			if got := launcher(store, c.state.Installed).next(); got != c.runs {
				t.Errorf("%s runs, want %s", got, c.runs)
			}
			if c.said != "" {
				if st := h.Status(); st.State != c.said || c.said != Current && (st.Stage != c.offer.Stage || !strings.Contains(st.Why, "withdrawn, and stays")) {
					t.Errorf("%+v, want %s", st, c.said)
				}
				return
			}
			back := strings.Replace(c.runs, installed, "1.0.0", 1)
			h = newHand(t, s, dir, func(conf *Config) { conf.Start = Start{Version: back, Installed: "1.0.0"} })
			h.Want(c.offer) // a new process hears it anew
			if err := h.run(t, func(Status) bool { return true }); err != nil {
				t.Fatal(err)
			}
			if st := h.Status(); st.State != RolledBack || st.Wanted != "1.2.0" || !strings.Contains(st.Why, "withdrawn at the control plane") || len(h.alarms) > 0 {
				t.Errorf("%+v, alarms %q", st, h.alarms)
			}
			h.Want(s.offer("1.2.0", "1.2.0/1.3", []byte("1.2.0")))
			if h.wanted == nil {
				t.Errorf("approved once more it is not wanted: %+v", h.Status())
			}
		})
	}
}

// TestWithdrawalDuringATrial: the trial comes to its end first.
func TestWithdrawalDuringATrial(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	store := hold(t, s, dir, "1.1.0")
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0", Stage: "1.1.0/1.1", Starts: 1}}); err != nil {
		t.Fatal(err)
	}
	h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
	h.Want(Offer{Stage: "1.1.0/1.2", Withdrawn: []string{"1.1.0"}})
	if err := h.run(t, nil); !errors.Is(err, ErrRestart) {
		t.Fatal(err)
	}
	if st, err := store.State(); err != nil || st.Trial != nil || st.Current != installed || !st.Outcome.Withdrawn {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestKillOnTheWayBackFromAWithdrawnRelease: whenever the process ends, the next starts come to
// the version before.
func TestKillOnTheWayBackFromAWithdrawnRelease(t *testing.T) {
	for _, step := range []string{"", StepReturned} {
		for _, child := range []bool{false, true} {
			t.Run(fmt.Sprintf("step=%s child=%t", step, child), func(t *testing.T) {
				w, _ := newWorld(t, "works")
				w.Child = child
				if got := w.run(t); !slices.Contains(got, "settled 1.1.0 current") {
					t.Fatalf("%q", got)
				}
				before := len(w.run(t))
				w.Step, w.Offer = step, Offer{Stage: "2", Withdrawn: []string{"1.1.0"}}
				got := w.run(t)[before:]
				if want := "settled 1.0.0 rolled-back it was withdrawn at the control plane, and no other is wanted here"; got[len(got)-1] != want ||
					slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, "alarm") }) {
					t.Errorf("%q, want %q at the end", got, want)
				}
			})
		}
	}
}

// TestChoiceOfAPersonCountsAfterARollback: what a person has chosen stays his choice when a release
// that came after it is left again.
func TestChoiceOfAPersonCountsAfterARollback(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	hold(t, s, dir, "1.1.0")
	store := hold(t, s, dir, "1.2.0")
	st := State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Stage: byHand + " today", Standing: "1", Trial: &Trial{Version: "1.2.0", Stage: "2", Starts: 1}}
	st.pass(time.Now())
	if err := store.write(st); err != nil {
		t.Fatal(err)
	}
	h := newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.2.0", Installed: "1.0.0"} })
	if err := h.Rollback("no"); err != nil {
		t.Fatal(err)
	}
	h = newHand(t, s, dir, func(c *Config) { c.Start = Start{Version: "1.1.0", Installed: "1.0.0"} })
	h.Want(Offer{Stage: "3", Withdrawn: []string{"1.1.0"}})
	if restart, _ := h.advance(); restart || h.Status().State != Newer {
		t.Errorf("it is left: %t; %+v", restart, h.Status())
	}
	if got := launcher(store, "1.0.0").next(); got != "1.1.0" {
		t.Errorf("%s runs", got)
	}
}
