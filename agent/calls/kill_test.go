package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/event"
)

// The child's orders: the directory, and at which step of its life it is killed; 0: at none.
const (
	killDir = "CALLS_TEST_KILL_DIR"
	killAt  = "CALLS_TEST_KILL_AT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := shipAndDie(dir, os.Getenv(killAt)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// diary is where events go in the child: a line each, in a file.
type diary struct{ path string }

func (d diary) Publish(_ context.Context, e *event.Event, _ []string) error {
	f, err := os.OpenFile(d.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, e.ID, e.Type, string(e.Data))
	return err
}

// shipAndDie is one life of an agent: it finds out what an earlier one left, is asked for the
// same label again, and waits until all is told.
func shipAndDie(dir, at string) error {
	step := 0
	var mu sync.Mutex // guards step: several goroutines come to steps
	die := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		step++
		fmt.Println(name)
		if strconv.Itoa(step) == at {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			fmt.Fprintln(os.Stderr, "still alive:", err)
			select {} // killed
		}
	}
	s := &shop{book: filepath.Join(dir, "book"), sales: map[string][]error{}, fail: map[string]error{}}
	cfg := DefaultConfig()
	cfg.Path, cfg.Site, cfg.Epoch = filepath.Join(dir, "calls.db"), "eu", 1
	cfg.Plugins = &host{carriers: map[string]carrier.Carrier{"shop": s}, engines: map[string]tax.Engine{}, down: map[string]bool{}}
	cfg.Events, cfg.Hook = diary{filepath.Join(dir, "events")}, die
	cfg.PauseMin, cfg.PauseMax = time.Millisecond, 5*time.Millisecond
	if first := os.Getenv(killAt + "_FIRST"); first == "cut" || first == "void" {
		return voidAndDie(cfg, s, first == "cut")
	}
	// The recovery by the service and that by who asks again are both a life.
	service, err := Open(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	run := func() { go func() { ended <- service.Run(ctx) }() }
	if os.Getenv(killAt+"_FIRST") == "service" {
		run()
		for open := 1; open > 0; time.Sleep(time.Millisecond) {
			open, _, _ = service.store.count()
		}
	}
	answer, err := service.Do(ctx, Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpShip, Key: "k", Body: []byte(shipment("R"))})
	if err != nil {
		return err
	}
	if os.Getenv(killAt+"_FIRST") != "service" {
		run()
	}
	for service.store.leavings() > 0 {
		time.Sleep(time.Millisecond)
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	cancel()
	fmt.Println("answer", string(text))
	return errors.Join(<-ended, service.Close())
}

// live runs a child and gives the steps that it went through; its answer, if it lived to say.
func live(t *testing.T, dir string, at int, first string) (steps []string, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir, fmt.Sprintf("%s=%d", killAt, at), killAt+"_FIRST="+first)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		if text, is := strings.CutPrefix(strings.TrimSpace(line), "answer "); is {
			answer = text
		} else {
			steps = append(steps, strings.TrimSpace(line))
		}
	}
	if at == 0 && (err != nil || answer == "") {
		t.Fatalf("a life in peace ended with %v after %v", err, steps)
	}
	if ctx.Err() != nil {
		t.Fatalf("killed at %d, the child hung after %v", at, steps)
	}
	return steps, answer
}

// The agent is killed at each step of a purchase, and its recovery at each step of that.
func TestKilledAtEachStep(t *testing.T) {
	whole, _ := live(t, t.TempDir(), 0, "")
	want := []string{"call.begin", "call.begun", "call.made", "call.outcome", "call.recorded", "call.event", "call.left"}
	if !slices.Equal(whole, want) {
		t.Fatalf("a life goes through %v, want %v", whole, want)
	}
	if testing.Short() {
		t.Skip("short: the children take ten seconds")
	}
	killed := 0
	for first := 1; first <= len(whole); first++ {
		for second := 0; ; second++ {
			by := []string{"service", "caller"}[second%2]
			dir := t.TempDir()
			before, _ := live(t, dir, first, "")
			if len(before) != first {
				t.Fatalf("killed at %d, went through %v", first, before)
			}
			steps, answer := live(t, dir, second, by)
			killed++
			if second > 0 && answer == "" {
				_, answer = live(t, dir, 0, by)
				killed++
			}
			checkKilled(t, dir, answer, fmt.Sprintf("killed at %d, then at %d by %s (%v)", first, second, by, steps))
			if second > 0 && len(steps) < second {
				break // there is no such step any more
			}
		}
	}
	t.Logf("killed %d times", killed)
}

func checkKilled(t *testing.T, dir, answer, when string) {
	t.Helper()
	book, err := os.ReadFile(filepath.Join(dir, "book"))
	if err != nil || string(book) != "R\n" {
		t.Fatalf("%s: the book of purchases has %q (%v), want one of R", when, book, err)
	}
	var a Answer
	if err := json.Unmarshal([]byte(answer), &a); err != nil || a.State != Done {
		t.Fatalf("%s: got %s, %v", when, answer, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "events"))
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	lines := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		lines[line] = true
	}
	if len(lines) != 1 || !strings.HasPrefix(string(text), a.ID+".done "+TypeLabel) {
		t.Fatalf("%s: the events are %s, want one", when, text)
	}
}

// voidAndDie is one life of an agent that gives back two shipments. The line is cut in the
// first lives: both wait, and are done in their order when it is back.
func voidAndDie(cfg Config, s *shop, cut bool) error {
	if cut {
		s.failing(carrier.OpVoid, down)
	}
	service, err := Open(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	var answer *Answer
	for _, reference := range []string{"R1", "R2"} {
		answer, err = service.Do(ctx, Request{System: "wms", Kind: carrier.Kind, Plugin: "shop", Operation: carrier.OpVoid, Key: reference, Body: []byte(void(reference))})
		if err != nil {
			return err
		}
	}
	go func() { ended <- service.Run(ctx) }()
	for open := 1; !cut && (open > 0 || service.store.leavings() > 0); time.Sleep(time.Millisecond) {
		open, _, _ = service.store.count()
	}
	cancel()
	fmt.Println("answer", answer.ID)
	return errors.Join(<-ended, service.Close())
}

// An agent that is killed at each step while calls wait does them all, in their order.
func TestKilledWhileCallsWait(t *testing.T) {
	if testing.Short() {
		t.Skip("short: the children take seconds")
	}
	for first := 1; ; first++ {
		dir := t.TempDir()
		steps, _ := live(t, dir, first, "cut")
		second := 1 + first%9
		live(t, dir, second, "void")
		live(t, dir, 0, "void")
		when := fmt.Sprintf("killed at %d (%v), then at %d", first, steps, second)
		book, err := os.ReadFile(filepath.Join(dir, "book"))
		order := slices.Compact(strings.Fields(strings.ReplaceAll(string(book), "void ", "")))
		if err != nil || !slices.Equal(order, []string{"R1", "R2"}) {
			t.Fatalf("%s: given back were %v (%v), want R1 and then R2", when, order, err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "events"))
		ids := map[string]bool{}
		for line := range strings.Lines(string(text)) {
			ids[strings.Fields(line)[0]] = true
		}
		if err != nil || len(ids) != 2 {
			t.Fatalf("%s: the events are %s (%v), want two", when, text, err)
		}
		if len(steps) < first {
			return
		}
	}
}
