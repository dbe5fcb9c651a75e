package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shutdown is EXT4_IOC_SHUTDOWN; noLogFlush has it drop the journal and everything
	// that is dirty.
	shutdown   = 0x8004587D
	noLogFlush = 2

	ballast = "ballast" // the file that fills the disk

	busy = 20 * time.Second // for a process that was killed to let go of the file system
)

// Disk is a mounted file system in a file.
type Disk struct {
	t     testing.TB
	image string
	dir   string

	mu     sync.Mutex // guards what follows
	frozen bool
	up     bool
}

// New makes a disk of some bytes and mounts it until the test ends. Without root or loop
// devices the test is skipped and says so, but not where everything is required.
func New(t testing.TB, bytes int64) *Disk {
	t.Helper()
	d, err := Try(t, bytes)
	if err != nil {
		Missing(t, err.Error())
	}
	return d
}

// Try is New for those who can do without: it says what this machine does not have.
func Try(t testing.TB, bytes int64) (*Disk, error) {
	t.Helper()
	d := &Disk{t: t, image: filepath.Join(t.TempDir(), "disk.img"), dir: filepath.Join(t.TempDir(), "mnt")}
	if err := d.make(bytes); err != nil {
		return nil, fmt.Errorf("a disk whose power can be cut needs root, loop devices and mkfs.ext4: %w", err)
	}
	t.Cleanup(d.end)
	return d, nil
}

// Missing skips a test aloud for what this machine does not have; where everything is
// required it fails.
func Missing(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REQUIRE") == "all" {
		t.Fatal(why)
	}
	t.Skip("SKIPPED: " + why)
}

func (d *Disk) make(bytes int64) error {
	if os.Getuid() != 0 {
		return errors.New("not root")
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	image, err := os.Create(d.image)
	if err != nil {
		return err
	}
	if err := errors.Join(image.Truncate(bytes), image.Close()); err != nil {
		return err
	}
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return err
	}
	return d.mount()
}

// mount: the file system writes nothing back by itself between syncs, so that a cut loses
// what a careless program has not synced.
func (d *Disk) mount() error {
	if err := run("mount", "-o", "loop,commit=1000", d.image, d.dir); err != nil {
		return err
	}
	d.up = true
	return os.Chmod(d.dir, 0o700)
}

func run(name string, args ...string) error {
	if text, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(text)))
	}
	return nil
}

// Dir is where the file system is mounted, cut or not.
func (d *Disk) Dir() string { return d.dir }

// Cut takes the power away: what is not synced is gone, and every further write or sync
// fails. The processes that use it are still there; a real power loss takes them too, so
// kill them next.
func (d *Disk) Cut() {
	d.t.Helper()
	dir, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer dir.Close() // opened for reading
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), shutdown, noLogFlush); err != nil {
		d.t.Fatalf("cut the power of %s: %v", d.dir, err)
	}
}

// Restore brings the power back. No process may have a file open any more.
func (d *Disk) Restore() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.unmount(); err != nil {
		d.t.Fatal(err)
	}
	if err := d.mount(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Disk) unmount() error {
	for deadline := time.Now().Add(busy); ; time.Sleep(20 * time.Millisecond) {
		err := syscall.Unmount(d.dir, 0)
		if err == nil {
			d.up = false
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", d.dir, err)
		}
	}
}

// Fill leaves no room on the disk until Empty.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.dir, ballast))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close() // it holds nothing that anybody reads
	for end, piece := int64(0), int64(1<<28); piece > 0; {
		err := unix.Fallocate(int(f.Fd()), 0, end, piece)
		switch {
		case err == nil:
			end += piece
		case errors.Is(err, syscall.ENOSPC):
			piece /= 2 // it may have got a part, which is there already when it asks again
		case !errors.Is(err, syscall.EINTR):
			d.t.Fatal(err)
		}
	}
}

// Empty gives the room back.
func (d *Disk) Empty() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, ballast)); err != nil {
		d.t.Fatal(err)
	}
}

// Freeze makes every write to the disk hang until Thaw.
func (d *Disk) Freeze() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := run("fsfreeze", "-f", d.dir); err != nil {
		d.t.Fatal(err)
	}
	d.frozen = true
}

// Thaw lets writes through again.
func (d *Disk) Thaw() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.thaw()
}

func (d *Disk) thaw() {
	if !d.frozen {
		return
	}
	if err := run("fsfreeze", "-u", d.dir); err != nil {
		d.t.Error(err)
	}
	d.frozen = false
}

func (d *Disk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.thaw() // a process that hangs in a write cannot even be killed
	if !d.up {
		return
	}
	if err := d.unmount(); err != nil {
		d.t.Error(err)
		_ = syscall.Unmount(d.dir, syscall.MNT_DETACH) // so that the image can go
	}
}
