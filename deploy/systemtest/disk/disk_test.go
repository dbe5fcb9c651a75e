package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const size = 32 << 20

// put writes a file, synced with its directory or not at all.
func put(t *testing.T, file string, sync bool) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("words"); err != nil {
		t.Fatal(err)
	}
	if !sync {
		return
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		t.Fatal(err)
	}
}

// What is synced outlives a cut and what is not does not: the second half is what makes
// the first one worth something in other tests.
func TestCutLosesWhatIsNotSynced(t *testing.T) {
	d := New(t, size)
	kept, lost := filepath.Join(d.Dir(), "kept"), filepath.Join(d.Dir(), "lost")
	put(t, kept, true)
	put(t, lost, false)
	d.Cut()
	if err := os.WriteFile(filepath.Join(d.Dir(), "late"), nil, 0o600); err == nil {
		t.Error("a file was made after the cut")
	}
	d.Restore()
	if text, err := os.ReadFile(kept); err != nil || string(text) != "words" {
		t.Errorf("the synced file holds %q, %v", text, err)
	}
	if _, err := os.Stat(lost); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file that was not synced: %v, want it gone", err)
	}
	put(t, lost, true) // and it can be written again
}

func TestFreezeHoldsWritesBack(t *testing.T) {
	d := New(t, size)
	d.Freeze()
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(filepath.Join(d.Dir(), "file"), []byte("words"), 0o600) }()
	select {
	case err := <-written:
		t.Errorf("a write came through: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	d.Thaw()
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func TestFillLeavesNoRoom(t *testing.T) {
	d := New(t, size)
	file := filepath.Join(d.Dir(), "file")
	d.Fill()
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err == nil {
		t.Error("a megabyte still fits")
	}
	d.Empty()
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Error(err)
	}
}
