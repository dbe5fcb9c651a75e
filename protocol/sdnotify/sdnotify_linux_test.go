package sdnotify

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// manager is a service manager's socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "")
	t.Setenv("WATCHDOG_PID", "")
	return &manager{t: t, conn: conn}
}

// next is the next message, by its lines.
func (m *manager) next() []string {
	m.t.Helper()
	buffer := make([]byte, 4096)
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		m.t.Fatal(err)
	}
	n, err := m.conn.Read(buffer)
	if err != nil {
		m.t.Fatalf("nothing comes any more: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(buffer[:n])), "\n")
}

// await reads up to a message with a line, and gives all lines up to there.
func (m *manager) await(line string) (seen []string) {
	m.t.Helper()
	for {
		seen = append(seen, m.next()...)
		if slices.Contains(seen, line) {
			return seen
		}
	}
}

// mark puts a message of the test's own in the row.
func (m *manager) mark() {
	conn, err := net.Dial("unixgram", m.conn.LocalAddr().String())
	if err != nil {
		m.t.Error(err)
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("MARK")); err != nil {
		m.t.Error(err)
	}
}

func program(ready <-chan struct{}, alive func(context.Context) error) Program {
	return Program{Ready: ready, Alive: alive, Line: func() string { return "site eu,\n3 to be sent" }, Logger: slog.New(slog.DiscardHandler)}
}

// READY comes when the program is ready and not before; then it lives, until it stops.
func TestLifeOfAProgram(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	end := Attend(ctx, program(ready, func(context.Context) error { return nil }))

	for range 2 { // a start that takes its time is prolonged
		seen := m.await("EXTEND_TIMEOUT_USEC=60000000")
		if slices.Contains(seen, "READY=1") || slices.Contains(seen, "WATCHDOG=1") {
			t.Fatalf("before it is ready: %q", seen)
		}
	}
	close(ready)
	if seen := m.await("READY=1"); !slices.Contains(seen, "STATUS=site eu, 3 to be sent") {
		t.Errorf("ready: %q", seen)
	}
	m.await("WATCHDOG=1")
	if seen := m.await("WATCHDOG=1"); slices.ContainsFunc(seen, func(l string) bool { return strings.HasPrefix(l, "STATUS=") }) {
		t.Errorf("a line that is the same is told again: %q", seen)
	}
	cancel()
	m.await("STOPPING=1")
	m.await("WATCHDOG=1") // how long the end takes is not the watchdog's
	end()
	m.mark()
	m.await("MARK")
}

// A line that waits for something is no reason to say that the program does not live.
func TestWatchdogDoesNotWaitForTheLine(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	ready, held := make(chan struct{}), make(chan struct{})
	close(ready)
	var lines atomic.Int32
	p := program(ready, func(context.Context) error { return nil })
	p.Line = func() string {
		if lines.Add(1) > 1 { // the first is told with READY
			m.mark()
			<-held
		}
		return "site eu"
	}
	end := Attend(t.Context(), p)
	if seen := m.await("MARK"); !slices.Contains(seen, "WATCHDOG=1") {
		t.Errorf("it waits for the line: %q", seen)
	}
	close(held)
	end()
}

// A program whose loops do not answer is not said to live, and is again when they do.
func TestWatchdogIsNoTicker(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	ready := make(chan struct{})
	close(ready)
	var hangs atomic.Bool
	end := Attend(t.Context(), program(ready, func(ctx context.Context) error {
		if !hangs.Load() {
			return nil
		}
		m.mark()
		<-ctx.Done()
		return errors.New("journal: " + context.Cause(ctx).Error())
	}))
	defer end()
	m.await("WATCHDOG=1")
	hangs.Store(true)
	m.await("MARK")
	for range 3 {
		if seen := m.await("MARK"); slices.Contains(seen, "WATCHDOG=1") {
			t.Fatalf("it hangs and is said to live: %q", seen)
		}
	}
	hangs.Store(false)
	m.await("WATCHDOG=1")
	// A mark that was on its way may come first; the line is told once more as it was.
	m.await("STATUS=site eu, 3 to be sent")
}

func TestHangingProgramSaysWhy(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "60000")
	ready := make(chan struct{})
	close(ready)
	end := Attend(t.Context(), program(ready, func(context.Context) error { return errors.New("journal: stuck") }))
	defer end()
	if seen := m.await("STATUS=does not answer: journal: stuck"); slices.Contains(seen, "WATCHDOG=1") {
		t.Errorf("%q", seen)
	}
}

// A reload that fails leaves the program ready, and its error comes back.
func TestReload(t *testing.T) {
	m := newManager(t)
	wrong := errors.New("line 4")
	err := Reload(func() error {
		if seen := m.next(); seen[0] != "RELOADING=1" || len(seen) != 2 || !strings.HasPrefix(seen[1], "MONOTONIC_USEC=") {
			t.Errorf("%q", seen)
		}
		return wrong
	})
	if !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
	m.await("READY=1")
}

// Without a manager nothing is asked of the program.
func TestNobodyToTell(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	Attend(t.Context(), program(nil, func(context.Context) error {
		t.Error("asked")
		return nil
	}))()
	if err := Reload(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
