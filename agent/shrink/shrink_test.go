package shrink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"
)

var bucket = []byte("b")

func options() *bolt.Options {
	return &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType}
}

func open(t *testing.T, path string) *DB {
	t.Helper()
	d, err := Open(path, options())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func key(i int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(i)) }

// backlog writes records of 4 KB and takes all but some of them away again.
func backlog(t *testing.T, d *DB, records, kept int) {
	t.Helper()
	err := d.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		if _, err := b.NextSequence(); err != nil {
			return err
		}
		for i := range records {
			if err := b.Put(key(i), bytes.Repeat([]byte{byte(i)}, 4000)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = d.Update(func(tx *bolt.Tx) error {
			for i := kept; i < records; i++ {
				if err := tx.Bucket(bucket).Delete(key(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func holds(t *testing.T, d *DB, kept int) {
	t.Helper()
	err := d.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if b == nil || b.Sequence() != 1 || b.Inspect().KeyN != kept {
			return fmt.Errorf("the bucket is not as it was: %+v", b)
		}
		for i := range kept {
			if !bytes.Equal(b.Get(key(i)), bytes.Repeat([]byte{byte(i)}, 4000)) {
				return fmt.Errorf("record %d is not as it was", i)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestShrinkGivesBackWhatIsFree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d := open(t, path)
	backlog(t, d, 4096, 100)
	large := size(t, path)
	won, err := d.Shrink(AtWork)
	if small := size(t, path); err != nil || won < 12<<20 || small != large-won || small > 2<<20 {
		t.Errorf("%d bytes won of %d, %d are left, %v", won, large, small, err)
	}
	holds(t, d, 100)
	if err := d.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key(100), bytes.Repeat([]byte{100}, 4000)) }); err != nil {
		t.Error(err)
	}
	holds(t, d, 101)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	holds(t, d, 101)
	if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// What is not worth a copy, or takes too long for those who wait, stays as it is.
func TestShrinkLeavesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		records, kept int
		most          int64
	}{
		"a small file":       {500, 10, AtWork},
		"a file half in use": {4096, 2500, AtWork},
		"too much in use":    {8192, 2000, 4 << 20},
	} {
		path := filepath.Join(t.TempDir(), "a.db")
		d := open(t, path)
		backlog(t, d, c.records, c.kept)
		before := size(t, path)
		if won, err := d.Shrink(c.most); won != 0 || err != nil || size(t, path) != before {
			t.Errorf("%s: %d bytes won, %v", name, won, err)
		}
		holds(t, d, c.kept)
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A copy does not fill the disk for others; the same file is made smaller when there is room.
func TestShrinkNeedsRoomForItsCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d := open(t, path)
	backlog(t, d, 4096, 100)
	before := size(t, path)
	var asked string
	room := int64(100 * 4000) // that is used, and the copy would leave nothing
	d.free = func(dir string) (int64, error) { asked = dir; return room, nil }
	if won, err := d.Shrink(AtWork); won != 0 || err != nil || size(t, path) != before || asked != filepath.Dir(path) {
		t.Errorf("%d bytes won without room, %v; asked for %s", won, err, asked)
	}
	failed := errors.New("the disk is gone")
	d.free = func(string) (int64, error) { return 0, failed }
	if won, err := d.Shrink(AtWork); won != 0 || !errors.Is(err, failed) || size(t, path) != before {
		t.Errorf("%d bytes won without knowing, %v", won, err)
	}
	d.free = func(string) (int64, error) { return 4 << 20, nil }
	if won, err := d.Shrink(AtWork); won == 0 || err != nil {
		t.Errorf("%d bytes won with room, %v", won, err)
	}
	holds(t, d, 100)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A crash before the copy has its place leaves the copy lying about, whole or not.
func TestOpenRemovesACopyThatWasLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d := open(t, path)
	backlog(t, d, 10, 10)
	if err := errors.Join(d.Close(), os.WriteFile(path+suffix, []byte("half a copy"), 0o600)); err != nil {
		t.Fatal(err)
	}
	d = open(t, path)
	holds(t, d, 10)
	if _, err := os.Stat(path + suffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the copy: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// A copy that cannot be written changes nothing.
func TestShrinkWithoutRoomForTheCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d := open(t, path)
	backlog(t, d, 4096, 100)
	if err := os.MkdirAll(filepath.Join(path+suffix, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	before := size(t, path)
	if won, err := d.Shrink(AtWork); err == nil || won != 0 || size(t, path) != before {
		t.Errorf("%d bytes won, %v", won, err)
	}
	holds(t, d, 100)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

// Who reads and writes while the file is exchanged loses nothing.
func TestShrinkWhileOthersWork(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	d := open(t, path)
	backlog(t, d, 4096, 100)
	var all sync.WaitGroup
	const writers, each = 4, 25
	for w := range writers {
		all.Go(func() {
			for i := range each {
				k := 100 + w*each + i
				if err := d.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucket).Put(key(k), bytes.Repeat([]byte{byte(k)}, 4000)) }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for won := int64(0); won == 0; {
		var err error
		if won, err = d.Shrink(AtWork); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	holds(t, d, 100+writers*each)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
