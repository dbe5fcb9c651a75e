package queue_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/queue"
)

// around is how many kB the kernel maps around a page that is touched.
const around = 64

// TestFilesThatWereReadTakeNoMemory looks at what the kernel counts for each mapped file.
func TestFilesThatWereReadTakeNoMemory(t *testing.T) {
	dir := t.TempDir()
	cfg := queue.Config{Dir: dir, SegmentBytes: 1 << 20}
	l, err := queue.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	record := []byte(strings.Repeat("x", 10_000))
	for range 60 {
		if _, err := l.Append([][]byte{record, record, record, record, record}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = queue.Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	read := func(from uint64, records int) uint64 {
		got, err := l.Read(from, records, 1<<30)
		if err != nil || len(got) == 0 {
			t.Fatalf("%d records, %v", len(got), err)
		}
		return got[len(got)-1].Last + 1
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v; want several", len(files), err)
	}
	at := read(1, 50)
	if got := resident(t, files[0]); got <= around {
		t.Errorf("a file that is being read takes %d kB: this test sees nothing", got)
	}
	for at < l.Next() {
		at = read(at, 10)
	}
	for _, file := range files[:len(files)-1] {
		if got := resident(t, file); got > around {
			t.Errorf("%s was read and still takes %d kB", filepath.Base(file), got)
		}
	}
	if read(1, 1) != 2 {
		t.Error("what was let go cannot be read again")
	}
}

// resident is what of a mapped file is in memory.
func resident(t *testing.T, path string) (kB int) {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if strings.HasSuffix(line, path) {
			inside = true
		} else if rest, ok := strings.CutPrefix(line, "Rss:"); ok && inside {
			if kB, err = strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); err != nil {
				t.Fatal(err)
			}
			return kB
		}
	}
	t.Fatalf("%s is not mapped", path)
	return 0
}
