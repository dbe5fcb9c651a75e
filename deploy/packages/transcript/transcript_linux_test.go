package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/crossdock/crossdock/deploy/demo/line"
)

// patience is how long anything that is waited for may take.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"first": first, "machine": machine, "line": relay})
}

// TestTranscript is the way of a person from the packages to the last file removed.
func TestTranscript(t *testing.T) {
	root := debian(t)
	packaged(t, root)
	pid := switchOn(t, root)
	testscript.Run(t, testscript.Params{
		Files: []string{script},
		Setup: func(e *testscript.Env) error {
			for key, value := range entered(root, pid) {
				e.Setenv(key, value)
			}
			text, err := os.ReadFile("testdata/systemctl")
			return errors.Join(err, os.WriteFile(filepath.Join(e.WorkDir, "systemctl"), text, 0o600))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "await": await, "cut": turn(syscall.SIGUSR1), "restore": turn(syscall.SIGUSR2),
			"place": place},
	})
}

// exits runs a line in the machine and wants an exact exit code: exits 2 'crossdock foo'.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: exits CODE LINE")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec("machine", args[1]); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// await repeats a line in the machine until it succeeds and shows what matches: await 'yes' 'crossdock status'.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await REGEXP LINE")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	self, err := os.Executable()
	ts.Check(err)
	for deadline := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		cmd := exec.Command(self, args[1])
		cmd.Args[0] = "machine"
		cmd.Env = append(os.Environ(), "MACHINE="+ts.Getenv("MACHINE"), "ROOT="+ts.Getenv("ROOT"))
		text, err := cmd.Output()
		if err == nil && want.Match(text) {
			ts.Logf("%s", text)
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %q: %v\n%s", args[0], err, text)
		}
	}
}

// place puts a file of the script into the machine: place FILE PATH MODE.
func place(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: place FILE PATH MODE")
	}
	mode, err := strconv.ParseUint(args[2], 8, 32)
	ts.Check(err)
	path := filepath.Join(ts.Getenv("ROOT"), args[1])
	ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
	ts.Check(os.WriteFile(path, []byte(ts.ReadFile(args[0])), os.FileMode(mode)))
}

// turn sends a signal to the line that runs in the background.
func turn(signal syscall.Signal) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) > 0 {
			ts.Fatalf("no arguments are known")
		}
		for _, cmd := range ts.BackgroundCmds() {
			if slices.Contains(cmd.Args, "line") {
				ts.Check(cmd.Process.Signal(signal))
				return
			}
		}
		ts.Fatalf("there is no line")
	}
}

// relay is the line between the site and head office: line HERE THERE. USR1 cuts it, USR2 restores it.
func relay() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := line.Listen(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	turned := make(chan os.Signal, 1)
	signal.Notify(turned, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for how := range turned {
			if how == syscall.SIGUSR1 {
				l.Cut()
			} else {
				l.Restore()
			}
		}
	}()
	if err := l.Run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
