package pluginhost

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crossdock/crossdock/plugins/sdk"
)

const asHost = "PLUGINHOST_TEST_HOST"

func freeze() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	select {} // threads stop one after the other
}

// beHost is a host of two plugins, one of which never serves. It says their numbers once they
// are there.
func beHost() {
	arg := strings.Split(os.Getenv(asHost), "|")
	programs.dir, programs.sum = arg[1], arg[2]
	cfg := testConfig(arg[0])
	cfg.Specs = func() []Spec { return []Spec{spec("good", "tame"), spec("mute", "mute")} }
	h, err := New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			if s := h.Status(); len(s) == 2 && s[0].State == StateRunning && s[1].PID != 0 {
				fmt.Println(s[0].PID, s[1].PID)
				return
			}
		}
	}()
	fmt.Println(h.Run(context.Background()))
}

// A plugin must not outlive an agent that was killed, whatever the plugin does.
func TestNoOrphanIsLeftByAHostThatIsKilled(t *testing.T) {
	dir, err := os.MkdirTemp("", "host")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self)
	host.Env = append(os.Environ(), asHost+"="+strings.Join([]string{dir, programs.dir, programs.sum}, "|"))
	host.Stderr = t.Output()
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = host.Process.Kill()
		_ = host.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 2 {
		t.Fatalf("the host says %q: %v", line, err)
	}
	var handles []int
	for _, field := range fields {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("the host says %q", line)
		}
		// A handle stays with its process, also when the number is given to another.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if parent := parentOf(t, pid); parent != host.Process.Pid {
			t.Fatalf("process %d is a child of %d, want of the host, %d", pid, parent, host.Process.Pid)
		}
		handles = append(handles, fd)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for i, fd := range handles {
		await(t, fmt.Sprintf("plugin %s ends with its host", fields[i]), func() bool { return ended(fd) })
	}
}

// ended tells whether the process of a handle has ended.
func ended(fd int) bool {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(set, 0)
	return err == nil && n == 1
}

func parentOf(t *testing.T, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var state string
	var parent int
	if _, err := fmt.Sscan(string(text[strings.LastIndex(string(text), ")")+1:]), &state, &parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

func TestAPluginThatFreezesIsKilled(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.HealthEvery, c.HealthTimeout, c.HealthMisses = 50*time.Millisecond, 2*time.Second, 3
	}, spec("ice", "tame"))
	before := r.awaitState("ice", StateRunning)
	if err := r.ship(t.Context(), "ice", "freeze"); sdk.ClassOf(err) != sdk.UnknownOutcome {
		t.Errorf("ship: %v, want class %s", err, sdk.UnknownOutcome)
	}
	await(t, "another process serves", func() bool {
		s := r.status("ice")
		return s.State == StateRunning && s.PID != before.PID && strings.Contains(s.LastError, "ping")
	})
}

func TestAPluginThatEatsMemoryIsKilled(t *testing.T) {
	r := newRig(t, nil, Spec{Name: "hungry", Kind: "carrier", Program: "tame", SHA256: programs.sum, Memory: 400 << 20}, spec("calm", "tame"))
	r.awaitState("hungry", StateRunning)
	calm := r.awaitState("calm", StateRunning)
	if err := r.rate(t.Context(), "hungry", "eat"); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("rate: %v, want class %s", err, sdk.Unavailable)
	}
	if s := r.awaitCrash("hungry", 1); !strings.Contains(s.LastError, "memory") {
		t.Errorf("it says %q, want something of memory", s.LastError)
	}
	await(t, "its memory is seen", func() bool { return r.status("hungry").Memory > 1<<20 })
	if s := r.status("calm"); s.PID != calm.PID || s.Crashes != 0 {
		t.Errorf("the other plugin did not stay: %+v", s)
	}
}

// What a plugin reads at its start is what takes most.
func TestAPluginThatEatsMemoryAtItsStartIsKilled(t *testing.T) {
	s := Spec{Name: "hungry", Kind: "carrier", Program: "tame", SHA256: programs.sum, Memory: 400 << 20, Settings: map[string]string{"start": "eat"}}
	r := newRig(t, func(c *Config) { c.CrashLimit = 1 }, s)
	if e := r.awaitReport(); !strings.Contains(e.Reason, "400 MiB are allowed") {
		t.Errorf("the reason is %q", e.Reason)
	}
}

// Whoever opens a pipe waits for its other end.
func TestAPipeIsNoProgram(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) { c.CrashLimit, c.Programs = 1, dir }, spec("pipe", "pipe"))
	if e := r.awaitReport(); !strings.Contains(e.Reason, "no regular file") {
		t.Errorf("the reason is %q", e.Reason)
	}
}

// What was hashed is what runs, also when another is put in its place in between.
func TestWhatWasHashedIsWhatRuns(t *testing.T) {
	s := &store{programs: programs.dir, dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	file, err := s.open("quitter", programs.sum)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	other := s.path(programs.sum) + ".other"
	if err := os.WriteFile(other, []byte("#!/bin/sh\nexit 7\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, s.path(programs.sum)); err != nil {
		t.Fatal(err)
	}
	cmd := command(file)
	cmd.Args = []string{"quitter"}
	cmd.Env = []string{sdk.Handshake.MagicCookieKey + "=" + sdk.Handshake.MagicCookieValue}
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("it ends with %v, want exit status 4", err)
	}
}
