package transcript

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// missing skips a test aloud, or fails it where nothing may be missing.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// debian gives a fresh Debian in a folder. The first one is fetched from the mirror that this
// machine uses itself, and kept for the next runs and for the tests of scripts/release.
func debian(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "packages are installed in a chroot with a network of its own, which only root can make")
	}
	if _, err := exec.LookPath("debootstrap"); err != nil {
		missing(t, "debootstrap is missing: apt-get install debootstrap")
	}
	kept := filepath.Join(top(t), "run", "debian-bookworm")
	if _, err := os.Stat(kept); errors.Is(err, fs.ErrNotExist) {
		part := fmt.Sprintf("%s.%d", kept, os.Getpid())
		defer os.RemoveAll(part)
		t.Log("fetching a Debian into", kept)
		text, err := exec.CommandContext(t.Context(), "debootstrap", "--variant=minbase", "bookworm", part, mirror(t)).CombinedOutput()
		if err != nil {
			missing(t, "no Debian could be made: %v\n%s", err, text[max(0, len(text)-2000):])
		}
		for _, dir := range []string{"var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"} {
			if err := os.RemoveAll(filepath.Join(part, dir)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(part, kept); err != nil && !errors.Is(err, fs.ErrExist) { // another test may have been faster
			t.Fatal(err)
		}
	}
	root := filepath.Join(t.TempDir(), "machine")
	if text, err := exec.CommandContext(t.Context(), "cp", "-a", kept, root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return root
}

// mirror is where this machine has its own packages from.
func mirror(t *testing.T) string {
	t.Helper()
	lists, err := filepath.Glob("/etc/apt/sources.list*/*")
	if err != nil {
		t.Fatal(err)
	}
	address := regexp.MustCompile(`(?m)^[^#\n]*?(https?://\S+/debian)/?(?:\s|$)`)
	for _, list := range append(lists, "/etc/apt/sources.list") {
		if text, err := os.ReadFile(list); err == nil {
			if m := address.FindSubmatch(text); m != nil {
				return string(m[1])
			}
		}
	}
	return "http://deb.debian.org/debian"
}

// switchOn gives a folder processes and a network of its own, so that the ports of the packages'
// configuration are free, and everything that was started in it ends with the test. It returns
// the process by which others enter.
func switchOn(t *testing.T, root string) (pid int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first := exec.Command(self, root)
	first.Args[0] = "first"
	first.Stderr = os.Stderr
	first.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	out, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); errors.Is(err, syscall.EPERM) {
		missing(t, "root may not make namespaces here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = first.Process.Kill() // and with the first process all others of the machine
		_ = first.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the machine does not come up: %q, %v", line, err)
	}
	return first.Process.Pid
}

// first is the first process of a machine: it mounts, brings loopback up, and buries whom nobody
// waits for.
func first() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	err := errors.Join(
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", filepath.Join(os.Args[1], "proc"), "proc", 0, ""),
		loopback())
	if err != nil {
		fmt.Fprintln(os.Stderr, "mount /proc and bring loopback up:", err)
		os.Exit(1)
	}
	fmt.Println("up")
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); errors.Is(err, syscall.ECHILD) {
			<-children
		}
	}
}

func loopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

// machine runs a line in the shell of the machine, as root at its console: machine LINE.
func machine() {
	arguments := []string{"nsenter", "--target", os.Getenv("MACHINE"), "--net", "--pid", "--mount", "--", "chroot", os.Getenv("ROOT"),
		"env", "-i", "-C", "/root", "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive", "ARCH=" + runtime.GOARCH,
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "sh", "-c", os.Args[1]}
	path, err := exec.LookPath(arguments[0])
	if err == nil {
		err = syscall.Exec(path, arguments, os.Environ()) //nolint:gosec // it is what the test is for
	}
	fmt.Fprintln(os.Stderr, "nsenter:", err)
	os.Exit(1)
}

func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// packaged makes the packages of version 1.0.0 as "make release" does, and beside them the
// agent's program of version 1.1.0 and what the folder lacks: curl, and an endpoint.
func packaged(t *testing.T, root string) {
	t.Helper()
	dist := filepath.Join(t.TempDir(), "dist")
	build := func(dir string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", args[0], err, text)
		}
	}
	build(filepath.Join(top(t), "scripts", "release"), "run", ".", "-out", dist, "-version", "v1.0.0", "-platforms", "linux/"+runtime.GOARCH)
	build(top(t), "build", "-trimpath", "-ldflags", "-s -w -X main.version=v1.1.0",
		"-o", filepath.Join(root, "root", "dist", "linux-"+runtime.GOARCH, "crossdock-agent"), "./agent/cmd/crossdock-agent")
	build(top(t), "build", "-o", filepath.Join(root, "usr", "local", "bin")+"/", "./deploy/packages/transcript/testdata/curl",
		"./deploy/packages/transcript/testdata/endpoint")
	for _, name := range []string{"crossdock", "crossdock-agent"} {
		file := fmt.Sprintf("%s_1.0.0_%s.deb", name, runtime.GOARCH)
		if err := os.Rename(filepath.Join(dist, file), filepath.Join(root, "root", file)); err != nil {
			t.Fatal(err)
		}
	}
}

// entered is the environment by which programs of the script get into a machine.
func entered(root string, pid int) map[string]string {
	return map[string]string{"ROOT": root, "MACHINE": strconv.Itoa(pid), "NET": fmt.Sprintf("/proc/%d/ns/net", pid)}
}
