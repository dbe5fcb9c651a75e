package queue

import (
	"bytes"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tmpfs mounts a small disk.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		if os.Getenv("REQUIRE") == "all" {
			t.Fatalf("cannot mount a small disk: %v", err)
		}
		t.Skipf("NOT TESTED: a full disk; mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	cfg := Config{Dir: tmpfs(t, "4m"), SegmentBytes: 512 << 10, Quota: 1 << 30}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	payload := bytes.Repeat([]byte("p"), 30<<10)
	fill := func() (acked uint64) {
		for {
			_, err := l.Append([][]byte{payload, payload}, map[string]uint64{"n": l.Next() + 1})
			if errors.Is(err, ErrFull) {
				t.Log(err)
				return l.Next() - 1
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func() {
		t.Helper()
		for i, r := range all(t, l) {
			if r.Err != nil || !bytes.Equal(r.Data, payload) || r.Pos != l.First()+uint64(i) {
				t.Fatalf("record %d: %v", r.Pos, r.Err)
			}
		}
		if l.Mark("n") != l.Next()-1 {
			t.Fatalf("mark %d, next %d", l.Mark("n"), l.Next())
		}
	}
	acked := fill()
	if u := l.Usage(); acked < 60 || u.Level() < 0.8 {
		t.Fatalf("%d records on a full disk of 4 MiB, %+v", acked, u)
	}
	check()
	for range 20 { // still full, still whole
		if _, err := l.Append([][]byte{payload, payload, payload}, nil); err == nil {
			t.Fatal("appended to a full disk")
		}
	}
	check()
	if err := l.Close(); err != nil && !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if l, err = Open(cfg); err != nil { // on the full disk
		t.Fatal(err)
	}
	if l.Next() != acked+1 {
		t.Fatalf("after a restart next is %d, want %d", l.Next(), acked+1)
	}
	check()
	if dropped, err := l.Trim(acked/2, time.Time{}); err != nil || dropped == 0 {
		t.Fatalf("trimmed %d, %v", dropped, err)
	}
	mustAppend(t, l, [][]byte{payload}, map[string]uint64{"n": l.Next()})
	check()
	if more := fill(); more <= acked {
		t.Fatalf("after the trim positions go to %d, were at %d", more, acked)
	}
	check()
	if err := l.Close(); err != nil && !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
}
