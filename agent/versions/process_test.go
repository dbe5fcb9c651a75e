package versions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

// These tests run real processes: copies of this test binary, which differ in what stands
// behind the program in the file. Each is an agent that does nothing but change its version.

const (
	worldVariable = "CROSSDOCK_VERSIONS_TEST"
	trailer       = "\ncrossdock-test-version "
)

// world is what such an agent finds.
type world struct {
	Dir     string // of versions
	Keys    []string
	Offer   Offer
	Source  string // file to fetch from
	Step    string // at which the first to come there is killed
	Killed  string // file that says that this was
	Log     string // of what ran
	Child   bool
	Version string // of the installed program
}

func TestMain(m *testing.M) {
	if file := os.Getenv(worldVariable); file != "" {
		if err := agentMain(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code := 1
			if exit := new(ExitError); errors.As(err, &exit) {
				code = exit.Code
			}
			os.Exit(code)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// self reads what this program is: its version and how it behaves.
func self(otherwise string) (version, how string, err error) {
	path, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer f.Close() // opened for reading
	end := make([]byte, 100)
	if _, err := f.Seek(-int64(len(end)), io.SeekEnd); err != nil {
		return "", "", err
	}
	if _, err := io.ReadFull(f, end); err != nil {
		return "", "", err
	}
	if _, words, ok := strings.Cut(string(end), trailer); ok {
		version, how, _ = strings.Cut(words, " ")
		return version, how, nil
	}
	return otherwise, "works", nil
}

func agentMain(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var w world
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	keys, err := release.ParseKeys(w.Keys)
	if err != nil {
		return err
	}
	version, how, err := self(w.Version)
	if err != nil {
		return err
	}
	store := NewStore(w.Dir, keys, w.hook)
	l := Launcher{Store: store, Version: version, Attempts: 3, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Child: w.Child}
	ctx := context.Background()
	for {
		start, ours, err := l.Launch(ctx)
		if err != nil || !ours {
			return err
		}
		told, cancel := start.UntilTold(ctx)
		again, err := l.Ended(told, start, w.serve(told, store, start, how))
		cancel()
		if !again {
			return err
		}
	}
}

func (w *world) hook(step string) {
	if step != w.Step {
		return
	}
	if f, err := os.OpenFile(w.Killed, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
		f.Close()
		if p, err := os.FindProcess(os.Getpid()); err == nil {
			_ = p.Kill() // it does not return where it works
		}
		select {}
	}
}

func (w *world) note(format string, args ...any) error {
	f, err := os.OpenFile(w.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, format+"\n", args...)
	return errors.Join(err, f.Close())
}

// serve is the agent: it fetches what it is offered, and ends when nothing is left to be done.
func (w *world) serve(ctx context.Context, store *Store, start Start, how string) error {
	if err := w.note("runs %s", start.Version); err != nil {
		return err
	}
	health := Health{Linked: true}
	switch how {
	case "breaks":
		return errors.New("this version breaks at once")
	case "sick":
		health = Health{Fault: "this version never gets ready"}
	}
	m := Open(Config{Store: store, Start: start, Enabled: true, Gate: 200 * time.Millisecond,
		Health: func(context.Context) Health { return health }, Ready: func() error { return nil },
		Free: func() int64 { return 1 << 40 }, Alarm: func(kind, what, text string) { _ = w.note("alarm %s %s %s", kind, what, text) },
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	m.Want(w.Offer)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	content, err := os.ReadFile(w.Source)
	if err != nil {
		return err
	}
	for {
		if p, ok := m.Next(); ok {
			if err := m.Took(p, content[p.Offset:min(p.Offset+1<<20, int64(len(content)))], int64(len(content))); err != nil {
				return err
			}
			continue
		}
		if s := m.Status(); s.State == RolledBack || s.State == Failed || s.State == Current && s.Wanted == start.Version {
			cancel()
			return errors.Join(<-ended, w.note("%s", strings.TrimSpace(fmt.Sprintf("settled %s %s %s", start.Version, s.State, s.Why))))
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// program makes one of another version: this binary, and a line behind it.
func program(t *testing.T, version, how string) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return append(slices.Clip(text), trailer+version+" "+how...)
}

func newWorld(t *testing.T, how string) (*world, *signer) {
	t.Helper()
	s := newSigner(t)
	says := "1.1.0"
	if how == "misnamed" {
		says = "1.0.9"
	}
	content := program(t, says, how)
	w := &world{Dir: filepath.Join(t.TempDir(), "versions"), Keys: []string{s.key}, Version: "1.0.0", Offer: s.offer("1.1.0", "1", content)}
	dir := t.TempDir()
	w.Source, w.Killed, w.Log = filepath.Join(dir, "source"), filepath.Join(dir, "killed"), filepath.Join(dir, "log")
	if err := os.WriteFile(w.Source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return w, s
}

// run starts the installed program, again and again like a service manager, until it ends in
// order. It gives what ran.
func (w *world) run(t *testing.T) (ran []string) {
	t.Helper()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "world.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, path)
		cmd.Env = append(os.Environ(), worldVariable+"="+file)
		if _, err := cmd.StdinPipe(); err != nil { // a child ends with its standard input, and this is not one
			t.Fatal(err)
		}
		words, err := cmd.CombinedOutput()
		cancel()
		t.Logf("%v\n%s", err, words)
		if err == nil {
			log, err := os.ReadFile(w.Log)
			if err != nil {
				t.Fatal(err)
			}
			return strings.Split(strings.TrimSpace(string(log)), "\n")
		}
	}
	t.Fatal("the agent does not come to rest")
	return nil
}

func TestUpgradeTakesOver(t *testing.T) {
	for _, child := range []bool{false, true} {
		t.Run(fmt.Sprintf("child=%t", child), func(t *testing.T) {
			w, _ := newWorld(t, "works")
			w.Child = child
			if got, want := w.run(t), []string{"runs 1.0.0", "runs 1.1.0", "settled 1.1.0 current"}; !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if got := w.run(t); !slices.Equal(got[3:], []string{"runs 1.1.0", "settled 1.1.0 current"}) {
				t.Errorf("the next start: %q", got[3:])
			}
		})
	}
}

func TestBrokenVersionIsLeftForTheOneBefore(t *testing.T) {
	for _, c := range []struct {
		how   string
		child bool
		ran   int
		why   string
	}{
		{"breaks", false, 3, "started 3 times, and ended before it had shown that it works: this version breaks at once"},
		{"breaks", true, 3, "started 3 times, and ended before it had shown that it works: this version breaks at once"},
		{"sick", false, 1, "did not work within 200ms: this version never gets ready"},
		{"sick", true, 1, "did not work within 200ms: this version never gets ready"},
		{"misnamed", false, 0, "the program that was released as version 1.1.0 says that it is 1.0.9"},
		{"misnamed", true, 0, "the program that was released as version 1.1.0 says that it is 1.0.9"},
	} {
		t.Run(fmt.Sprintf("%s child=%t", c.how, c.child), func(t *testing.T) {
			w, _ := newWorld(t, c.how)
			w.Child = c.child
			want := []string{"runs 1.0.0"}
			for range c.ran {
				want = append(want, "runs 1.1.0")
			}
			end := []string{"runs 1.0.0", "alarm release-rolled-back 1.1.0/1 release 1.1.0 was given up and 1.0.0 runs: " + c.why + "; it is not tried again in this stage",
				"settled 1.0.0 rolled-back " + c.why}
			got := w.run(t)
			slices.Sort(got[len(want)+1:]) // the alarm and the end are told side by side
			if !slices.Equal(got, append(want, end...)) {
				t.Errorf("%q, want %q", got, append(want, end...))
			}
			// Staged anew it is tried anew.
			before := len(got)
			w.Offer.Stage = "2"
			again := func(line string) bool { return strings.HasPrefix(line, "alarm release-rolled-back 1.1.0/2 ") }
			if got := w.run(t)[before:]; !slices.ContainsFunc(got, again) {
				t.Errorf("in another stage: %q", got)
			}
		})
	}
}

// TestKillAtEachStepLeavesAnAgentThatStarts: wherever the process ends, further starts bring
// the upgrade, or the way back, to its end.
func TestKillAtEachStepLeavesAnAgentThatStarts(t *testing.T) {
	for _, step := range Steps() {
		for _, child := range []bool{false, true} {
			if child && step != StepCounted && step != StepPassing && step != StepReturned {
				continue // the way in which the version takes over makes no difference there
			}
			t.Run(fmt.Sprintf("%s child=%t", step, child), func(t *testing.T) {
				how, end := "works", "settled 1.1.0 current"
				if step == StepFailing || step == StepReturned {
					how, end = "sick", "settled 1.0.0 rolled-back"
				}
				w, _ := newWorld(t, how)
				w.Child, w.Step = child, step
				got := w.run(t)
				if _, err := os.Stat(w.Killed); err != nil {
					t.Fatalf("nothing came to %s: %q", step, got)
				}
				if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, end) }) {
					t.Errorf("%q, want %q in it", got, end)
				}
			})
		}
	}
}
