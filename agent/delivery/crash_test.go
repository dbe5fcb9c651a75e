package delivery

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	crashEnv    = "DELIVERY_CRASH_DIR"
	crashStep   = "DELIVERY_CRASH_STEP"
	crashBatch  = "DELIVERY_CRASH_BATCH"
	crashEvents = 60
	crashKeys   = 5
)

// The child of TestCrash: it delivers into a file, and dies without a word at the nth time
// that it comes to a step.
func crashChild(dir, step string, batch int) {
	at, n := "", 0
	if _, err := fmt.Sscanf(step, "%s %d", &at, &n); err != nil {
		panic(err)
	}
	j := newJournal()
	for i := range crashEvents {
		j.append(makeItem(fmt.Sprint("e", i), fmt.Sprint("k", i%crashKeys), to("erp")...))
	}
	out, err := os.OpenFile(filepath.Join(dir, "effects"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	fails := atomic.Int64{}
	tg := &target{script: func(_ context.Context, d Delivery) (Answer, error) {
		if fails.Add(1)%5 == 0 {
			return Answer{}, &Failure{Class: Unavailable}
		}
		// The end of the process can cut a line short where it crosses a page: the next one
		// begins anew, and a line without its end mark does not count.
		_, err := fmt.Fprintf(out, "\n%s %s %s end", d.Key, d.Event.ID, d.IdempotencyKey)
		return Answer{}, err
	}}
	steps := atomic.Int64{}
	e, err := Open(Config{
		Agent: here, Path: filepath.Join(dir, "delivery.db"), Source: j, Target: tg, Policy: newRules([]string{"erp"}, batches(batch)).get,
		ParkAfter: 2 * time.Millisecond, Hook: func(s string) {
			if s == at && steps.Add(1) == int64(n) {
				os.Exit(9)
			}
		},
	})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for s := e.Status(); len(s) == 0 || s[0].Delivered < crashEvents; s = e.Status() {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := errors.Join(e.Run(ctx), e.Close()); err != nil {
		panic(err)
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashEnv); dir != "" {
		batch, err := strconv.Atoi(os.Getenv(crashBatch))
		if err != nil {
			panic(err)
		}
		crashChild(dir, os.Getenv(crashStep), batch)
		return
	}
	os.Exit(m.Run())
}

// TestCrash kills the process before and after effects until everything is delivered:
// nothing is lost, a key goes back at most over its last delivery, and a repeat has the
// key of the first.
func TestCrash(t *testing.T) {
	for _, batch := range []int{1, 4} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) { testCrash(t, batch) })
	}
}

func testCrash(t *testing.T, batch int) {
	dir := t.TempDir()
	deaths := 0
	for round := 1; ; round++ {
		step := AfterSend
		if round%3 == 0 {
			step = BeforeSend
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+dir, fmt.Sprint(crashBatch, "=", batch), fmt.Sprintf("%s=%s %d", crashStep, step, 2+round%(8/batch)))
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 9 || round > 4*crashEvents {
			t.Fatalf("round %d: %v\n%s", round, err, out)
		}
		deaths++
	}
	if deaths < 5 {
		t.Fatalf("only %d deaths", deaths)
	}
	f, err := os.Open(filepath.Join(dir, "effects"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	last, idem, repeats := map[string]int{}, map[string]string{}, 0
	want := map[string][]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		part := strings.Fields(lines.Text())
		if len(part) != 4 || part[3] != "end" {
			continue
		}
		key, id := part[0], part[1]
		n := 0
		fmt.Sscanf(id, "e%d", &n)
		if prev, ok := last[key]; ok && n != prev && n != prev+crashKeys {
			t.Errorf("key %s: %s after e%d", key, id, prev)
		} else if ok && n == prev {
			repeats++
		}
		last[key] = n
		if known := idem[id]; known != "" && known != part[2] {
			t.Errorf("%s came with two idempotency keys", id)
		}
		idem[id] = part[2]
		if !slices.Contains(want[key], id) {
			want[key] = append(want[key], id)
		}
	}
	if len(idem) != crashEvents {
		t.Errorf("%d delivered, want %d", len(idem), crashEvents)
	}
	t.Logf("%d deaths, %d repeats", deaths, repeats)
	if repeats == 0 {
		t.Error("no death between an effect and its commit was met; the test proves nothing")
	}
}
