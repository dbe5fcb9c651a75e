//go:build unix

package versions

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const script = "#!/bin/sh\nexit 0\n" // a version that ends in order

// heard calls back with each message that is logged.
type heard func(message string)

func (heard) Enabled(context.Context, slog.Level) bool { return true }
func (h heard) Handle(_ context.Context, r slog.Record) error {
	h(r.Message)
	return nil
}
func (h heard) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h heard) WithGroup(string) slog.Handler      { return h }

// holdProgram makes a version held whose program is a text.
func holdProgram(t *testing.T, s *signer, dir, version, text string) *Store {
	t.Helper()
	store := NewStore(dir, s.keys(), nil)
	o := s.offer(version, "", []byte(text))
	r, err := store.verify(o.Manifest, o.Signature)
	if err := errors.Join(err, store.extend(r.file, 0, []byte(text)), store.place(r, store.part(r.file))); err != nil {
		t.Fatal(err)
	}
	return store
}

// busy keeps a program open for writing, so that it cannot be started, until it is closed.
func busy(t *testing.T, program string) *os.File {
	t.Helper()
	f, err := os.OpenFile(program, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // where the test has not
	if _, err := child(t.Context(), program, nil, nil); !errors.Is(err, syscall.ETXTBSY) {
		t.Skipf("%s starts a program that is open for writing: %v", runtime.GOOS, err)
	}
	return f
}

// TestPackageThatCameSinceIsReported: what a start runs goes by the installed file, and not by the
// process that runs; a version held beside a former package counts no more.
func TestPackageThatCameSinceIsReported(t *testing.T) {
	s := newSigner(t)
	store := holdProgram(t, s, t.TempDir(), "1.1.0", script)
	if err := store.write(State{Format: stateForm, Installed: "v1.0.0", Current: "1.1.0"}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "crossdock-agent")
	install := func(text string) { // as a package does
		t.Helper()
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o700), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	install("#!/bin/sh\necho the process that runs is asked\n")
	m := Open(Config{Store: store, Start: Start{Version: "1.1.0", Installed: "v1.0.0", launcher: path, way: wayExec}, Attempts: 3, Log: slog.New(slog.DiscardHandler)})
	says := func(installedVersion, current string) {
		t.Helper()
		r, err := m.Report()
		if err != nil || r.Installed != installedVersion || r.Current != current || r.Running != "1.1.0" {
			t.Errorf("%+v, %v; want %s installed, and a start to run %s", r, err, installedVersion, current)
		}
	}
	says("v1.0.0", "1.1.0")
	install("#!/bin/sh\necho crossdock-agent $1 v1.2.0\n")
	says("v1.2.0", "v1.2.0")
	install("#!/bin/sh\necho crossdock-agent $1 v1.3.0; exit 1\n")
	says("v1.0.0", "1.1.0") // it does not say
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	says("v1.0.0", "1.1.0")
}

// TestStatusWhileVersionsAreVerified: a slow disk under what is held holds up nobody but who asks for it.
func TestStatusWhileVersionsAreVerified(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	store := hold(t, s, dir, "1.1.0")
	path := store.Program("1.1.0")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil { // who opens it waits for who writes
		t.Fatal(err)
	}
	h := newHand(t, s, dir, nil)
	done := make(chan error, 1)
	go func() {
		_, err := h.Report()
		done <- err
	}()
	w, err := os.OpenFile(path, os.O_WRONLY, 0) // and this for the report
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan Status, 1)
	go func() { asked <- h.Status() }()
	select {
	case <-asked:
	case <-time.After(time.Minute):
		t.Error("the status waits for the report")
	}
	if err := errors.Join(w.Close(), <-done); err != nil {
		t.Error(err)
	}
}

// TestStartThatFailsForAPassingReason: it is made as soon as it can be, and is one attempt.
func TestStartThatFailsForAPassingReason(t *testing.T) {
	s := newSigner(t)
	store := holdProgram(t, s, t.TempDir(), "1.1.0", script)
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0"}}); err != nil {
		t.Fatal(err)
	}
	open := busy(t, store.Program("1.1.0"))
	l := launcher(store, "1.0.0")
	failed := 0
	l.Child, l.Log = true, slog.New(heard(func(message string) {
		if strings.HasPrefix(message, "the chosen version cannot be started now; trying again") {
			if failed++; failed == 3 {
				open.Close()
			}
		}
	}))
	if _, ours, err := l.Launch(t.Context()); ours || err != nil || failed != 3 {
		t.Errorf("the installed program runs: %t, after %d failures, %v", ours, failed, err)
	}
	if st, err := store.State(); err != nil || st.Trial == nil || st.Trial.Starts != 1 || len(st.Failed) > 0 {
		t.Errorf("%+v, %v", st, err)
	}
}

// TestStartThatGoesOnFailing: what was chosen before runs, nothing is held against the version,
// and the next start tries it again.
func TestStartThatGoesOnFailing(t *testing.T) {
	s := newSigner(t)
	trial := State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.2.0", Starts: 1}}
	second := trial
	second.Current = "1.1.0"
	for _, c := range []struct {
		name  string
		state State
		ours  bool // the installed program runs meanwhile
	}{
		{"on trial", trial, true},
		{"on trial, another one before", second, false},
		{"chosen", State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0"}, true},
		{"chosen, another one before", State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.1.0"}, false},
		{"chosen, what is no version any more before", State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.0.9"}, true},
		{"chosen, no program before", State{Format: stateForm, Installed: "1.0.0", Current: "1.2.0", Previous: "1.0.1"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			holdProgram(t, s, dir, "1.0.1", "no program")
			holdProgram(t, s, dir, "1.1.0", script)
			store := holdProgram(t, s, dir, "1.2.0", script)
			if err := store.write(c.state); err != nil {
				t.Fatal(err)
			}
			open := busy(t, store.Program("1.2.0"))
			l := launcher(store, "1.0.0")
			l.Child, l.patience = true, time.Millisecond
			for range 5 { // more than the attempts that it has
				start, ours, err := l.Launch(t.Context())
				if ours != c.ours || err != nil || ours && start.Version != "1.0.0" {
					t.Fatalf("%+v, the installed program runs: %t, %v", start, ours, err)
				}
				st, err := store.State()
				if err != nil || st.Current != c.state.Current || len(st.Failed) > 0 || c.state.Trial != nil && (st.Trial == nil || st.Trial.Starts != 1) {
					t.Fatalf("%+v, %v", st, err)
				}
			}
			open.Close()
			if _, ours, err := l.Launch(t.Context()); ours || err != nil {
				t.Errorf("it is not tried again: %v", err)
			}
			if st, err := store.State(); err != nil || c.state.Trial != nil && st.Trial.Starts != 2 {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// TestRestartOfTheOneBeforeTriesAgain: a child that asks for another choice gets one, of what could
// not be started before it too.
func TestRestartOfTheOneBeforeTriesAgain(t *testing.T) {
	s, dir := newSigner(t), t.TempDir()
	ran := filepath.Join(t.TempDir(), "ran")
	holdProgram(t, s, dir, "1.1.0", "#!/bin/sh\n[ -e "+ran+" ] && exit 0\n: >"+ran+"\nexit 75\n")
	store := holdProgram(t, s, dir, "1.2.0", script)
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: "1.1.0", Trial: &Trial{Version: "1.2.0"}}); err != nil {
		t.Fatal(err)
	}
	open := busy(t, store.Program("1.2.0"))
	l := launcher(store, "1.0.0")
	starts := 0
	l.Child, l.patience, l.Log = true, time.Millisecond, slog.New(heard(func(message string) {
		if message == "starting the chosen version" {
			if starts++; starts == 2 { // the one before it
				open.Close()
			}
		}
	}))
	if _, ours, err := l.Launch(t.Context()); ours || err != nil || starts != 3 {
		t.Errorf("the installed program runs: %t, %d starts, %v", ours, starts, err)
	}
	if st, err := store.State(); err != nil || st.Trial == nil || st.Trial.Starts != 1 {
		t.Errorf("the trial was not started: %+v, %v", st, err)
	}
}

// TestProgramThatIsNoneIsGivenUp: nothing is waited for where the file is at fault.
func TestProgramThatIsNoneIsGivenUp(t *testing.T) {
	s := newSigner(t)
	for name, text := range map[string]string{
		"of another format":            "no program",
		"a broken ELF":                 "\x7fELF broken",
		"without its interpreter":      "#!" + filepath.Join(t.TempDir(), "none") + "\n",
		"an interpreter not to be run": "#!" + t.TempDir() + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			store := holdProgram(t, s, t.TempDir(), "1.1.0", text)
			if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0"}}); err != nil {
				t.Fatal(err)
			}
			l := launcher(store, "1.0.0")
			l.Child = true
			l.Log = slog.New(heard(func(message string) {
				if strings.Contains(message, "trying again") {
					t.Error(message)
				}
			}))
			if _, ours, err := l.Launch(t.Context()); !ours || err != nil {
				t.Fatal(ours, err)
			}
			if st, err := store.State(); err != nil || st.Trial != nil || st.Outcome.State != RolledBack || !strings.Contains(st.Outcome.Why, "cannot be started") {
				t.Errorf("%+v, %v", st, err)
			}
		})
	}
}

// TestStopWhileAStartIsTriedAgain: whoever stops the launcher says nothing about the version.
func TestStopWhileAStartIsTriedAgain(t *testing.T) {
	s := newSigner(t)
	store := holdProgram(t, s, t.TempDir(), "1.1.0", script)
	if err := store.write(State{Format: stateForm, Installed: "1.0.0", Current: installed, Trial: &Trial{Version: "1.1.0"}}); err != nil {
		t.Fatal(err)
	}
	busy(t, store.Program("1.1.0"))
	ctx, stop := context.WithCancel(t.Context())
	l := launcher(store, "1.0.0")
	l.Child, l.Log = true, slog.New(heard(func(message string) {
		if strings.Contains(message, "trying again") {
			stop()
		}
	}))
	if _, ours, err := l.Launch(ctx); ours || err != nil {
		t.Fatal(ours, err)
	}
	if st, err := store.State(); err != nil || st.Trial == nil || st.Trial.Starts != 0 {
		t.Errorf("%+v, %v", st, err)
	}
}
