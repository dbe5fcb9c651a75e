package documents

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

func TestPutAndGet(t *testing.T) {
	s := newShop(t, newNet(), "eu")
	for _, size := range []int{0, 1, ChunkSize, ChunkSize + 1} {
		want := text(size, size)
		sum := s.put(t, want)
		s.put(t, want) // a repeat changes nothing
		s.open(t)      // and so does a restart
		if got, err := s.get(sum); err != nil || got != string(want) {
			t.Errorf("%d bytes: %d bytes, %v", size, len(got), err)
		}
	}
	if st := s.Status(); st.Count != 4 || st.Bytes != 4*headerSize+2*ChunkSize+2 {
		t.Errorf("status %+v", st)
	}
	if got := s.List(); len(got) != 4 {
		t.Errorf("list %+v", got)
	}
	for name, c := range map[string]struct {
		kind string
		size int
		want error
	}{"no media type": {"pdf", 1, ErrInvalid}, "a long one": {"a/" + strings.Repeat("b", MaxMediaType), 1, ErrInvalid}, "too large": {"a/b", MaxDocument + 1, ErrTooLarge}} {
		if _, err := s.Put(t.Context(), c.kind, bytes.NewReader(make([]byte, c.size))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.get(strings.Repeat("a", 64)); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown document: %v", err)
	}
	if _, err := s.get("../../etc/passwd"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a path: %v", err)
	}
}

func TestNames(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("0", 64)
	if got, err := Names(a + ", " + b); err != nil || len(got) != 2 || got[0] != a || got[1] != b {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "a", strings.ToUpper(a), a + ",", a + " " + b, strings.Repeat(a+",", MaxNamed) + a} {
		if got, err := Names(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

// Near its quota the store refuses what is put, keeps the rest for what comes, and says why.
func TestQuota(t *testing.T) {
	s := newShop(t, newNet(), "eu", func(c *Config) { c.Quota = 1 << 20 })
	var err error
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = s.Put(t.Context(), "a/b", bytes.NewReader(text(n, 50<<10)))
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "quota") || n < 15 || n > 19 {
		t.Errorf("document %d: %v", n, err)
	}
	if s.told("documents-full") == "" {
		t.Error("nobody is told")
	}
	if st := s.Status(); st.Bytes > int64(float64(st.Quota)*PutLevel) {
		t.Errorf("%+v", st)
	}
	s = newShop(t, newNet(), "eu", func(c *Config) { c.Free = func() int64 { return MinFree } })
	if _, err := s.Put(t.Context(), "a/b", strings.NewReader("x")); !errors.Is(err, ErrFull) {
		t.Errorf("on a disk that is nearly full: %v", err)
	}
}

// What is being written counts from its start, so that what comes at once does not go beyond
// the quota together; and no more once it is there or given up.
func TestWhatIsBeingWrittenCounts(t *testing.T) {
	s := newShop(t, newNet(), "eu", func(c *Config) { c.Quota = 1 << 20 })
	fresh := func() int64 {
		s.Store.mu.Lock()
		defer s.Store.mu.Unlock()
		return s.fresh
	}
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Put(t.Context(), "a/b", r)
		ended <- err
	}()
	if _, err := w.Write(text(1, 600<<10)); err != nil {
		t.Fatal(err)
	}
	await(t, "it is read", func() bool { return fresh() == 600<<10 })
	if _, err := s.Put(t.Context(), "a/b", bytes.NewReader(text(2, 500<<10))); !errors.Is(err, ErrFull) {
		t.Errorf("a second one: %v", err)
	}
	if err := errors.Join(w.Close(), <-ended); err != nil {
		t.Fatal(err)
	}
	s.put(t, text(3, 300<<10))
	if got := fresh(); got != 0 {
		t.Errorf("%d bytes are being written", got)
	}
}

// A crash at any step of putting leaves either the document or nothing of it.
func TestCrashWhilePutting(t *testing.T) {
	for step, stored := range map[string]bool{"document-written": false, "document-stored": true} {
		s := newShop(t, newNet(), "eu", func(c *Config) {
			c.Hook = func(at string) {
				if at == step {
					panic(step)
				}
			}
		})
		want := text(1, 1000)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: never came", step)
				}
			}()
			_, _ = s.Put(t.Context(), "a/b", bytes.NewReader(want))
		}()
		s.cfg.Hook = nil
		s.open(t)
		if got := s.Status().Count == 1; got != stored {
			t.Errorf("%s: stored %t", step, got)
		}
		if got, err := s.get(s.put(t, want)); err != nil || got != string(want) {
			t.Errorf("%s: %v", step, err)
		}
	}
}

// Whichever byte of a file is damaged, or wherever it is cut, a read says so and sets it aside.
func TestDamageIsSaid(t *testing.T) {
	want := text(1, 1000)
	for _, at := range []int{0, len(headerMark) + 2, headerSize, headerSize + 999} {
		for _, cut := range []bool{false, true} {
			s := newShop(t, newNet(), "eu")
			sum := s.put(t, want)
			file, err := os.ReadFile(s.path(sum))
			if err != nil {
				t.Fatal(err)
			}
			if cut {
				file = file[:at]
			} else {
				file[at] ^= 1
			}
			if err := os.WriteFile(s.path(sum), file, 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := s.get(sum); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d, cut %t: %d bytes, %v", at, cut, len(got), err)
			}
			if s.Has(sum) || s.told("document-damaged") == "" || s.Status().Bytes != 0 {
				t.Errorf("byte %d, cut %t: has %t, told %q, %+v", at, cut, s.Has(sum), s.alarms, s.Status())
			}
			if _, err := os.Stat(filepath.Join(s.cfg.Dir, damagedDir, sum)); err != nil {
				t.Error(err)
			}
			if got, err := s.get(s.put(t, want)); err != nil || got != string(want) {
				t.Errorf("put again: %v", err)
			}
		}
	}
}

// Who reads a damaged file for long does not set aside what was put in its place meanwhile.
func TestLateFinderOfDamage(t *testing.T) {
	s := newShop(t, newNet(), "eu")
	want := text(1, 100)
	sum := s.put(t, want)
	if err := os.WriteFile(s.path(sum), []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.path(sum))
	if err != nil {
		t.Fatal(err)
	}
	slow, err := f.Stat()
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.get(sum); !errors.Is(err, ErrDamaged) {
		t.Fatal(err)
	}
	s.put(t, want)
	s.damaged(sum, "", slow, ErrDamaged)
	if got, err := s.get(sum); err != nil || got != string(want) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A document goes when its time is over and all events that were there then are done with;
// one that is named later, or waits parked, stays.
func TestRetention(t *testing.T) {
	s := newShop(t, newNet(), "eu")
	sum, other, parked := s.put(t, text(1, 10)), s.put(t, text(2, 10)), s.put(t, text(3, 10))
	sweep := func(wantCount int) {
		t.Helper()
		if err := s.sweepOnce(); err != nil {
			t.Fatal(err)
		}
		if st := s.Status(); st.Count != wantCount {
			t.Errorf("%d documents, want %d", st.Count, wantCount)
		}
	}
	s.set(func() { s.position, s.needed = 100, 50 })
	sweep(3)
	s.set(func() { s.clock = s.clock.Add(25 * time.Hour) })
	sweep(3) // doomed at 100; what stands from 50 on may name them
	s.set(func() { s.position, s.needed = 200, 99 })
	sweep(3)
	if why := s.Lacking(other, "na"); why != "" { // an event that waits names it
		t.Error(why)
	}
	e := &event.Event{ID: "1", Source: "x", Type: "y", Extensions: map[string]string{Attribute: parked}}
	waits, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.needed, s.waiting = 150, [][]byte{waits} })
	sweep(2)
	if s.Has(sum) || !s.Has(other) || !s.Has(parked) {
		t.Errorf("%t %t %t", s.Has(sum), s.Has(other), s.Has(parked))
	}
	s.set(func() { s.waiting, s.clock, s.needed = nil, s.clock.Add(25*time.Hour), 200 })
	sweep(0)
	s.open(t)
	if st := s.Status(); st.Count != 0 || st.Bytes != 0 {
		t.Errorf("after a restart: %+v", st)
	}
}

// Near the quota documents go before their time, the oldest first, but for those that an
// event waits for, may still name, or was just to name.
func TestPressure(t *testing.T) {
	s := newShop(t, newNet(), "eu", func(c *Config) { c.Quota = 1 << 20 })
	var sums []string
	for i := range 9 {
		sums = append(sums, s.put(t, text(i, 100<<10)))
		s.set(func() { s.clock = s.clock.Add(20 * time.Minute) })
	}
	e := &event.Event{ID: "1", Source: "x", Type: "y", Extensions: map[string]string{Attribute: sums[0]}}
	waits, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	left := func() (out []int) {
		t.Helper()
		if err := s.sweepOnce(); err != nil {
			t.Fatal(err)
		}
		for i, sum := range sums {
			s.Store.mu.Lock()
			if s.held[sum] != nil {
				out = append(out, i)
			}
			s.Store.mu.Unlock()
		}
		return out
	}
	s.set(func() { s.position, s.needed, s.waiting = 100, 99, [][]byte{waits} })
	if got := left(); len(got) != 9 {
		t.Errorf("left %v before the events there were done with", got)
	}
	s.set(func() { s.needed = 100 })
	if got := left(); !slices.Equal(got, []int{0, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("left %v", got)
	}
	if !strings.Contains(s.told("documents-cut"), "so 2 that") {
		t.Errorf("told %q", s.told("documents-cut"))
	}
	if got := left(); len(got) != 7 {
		t.Errorf("left %v without pressure", got)
	}
	s.Limit(1<<10, s.retain())
	if got := left(); !slices.Equal(got, []int{0, 6, 7, 8}) {
		t.Errorf("left %v under great pressure", got)
	}
}

// A document that was named lately is so after a restart as well.
func TestNamedOutlivesARestart(t *testing.T) {
	s := newShop(t, newNet(), "eu")
	sum := s.put(t, text(1, 10))
	s.set(func() { s.clock = s.clock.Add(23 * time.Hour) })
	s.Has(sum)
	s.open(t)
	s.set(func() { s.clock, s.position, s.needed = s.clock.Add(2*time.Hour), 1, 1 })
	if err := errors.Join(s.sweepOnce(), s.sweepOnce()); err != nil || !s.Has(sum) {
		t.Errorf("it is gone, %v", err)
	}
}

func TestDamagedFilesGoInTheirTime(t *testing.T) {
	s := newShop(t, newNet(), "eu")
	sum := s.put(t, text(1, 10))
	if err := os.WriteFile(s.path(sum), []byte("no document"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _ = s.get(sum) // sets it aside
	aside := func() int {
		files, err := os.ReadDir(filepath.Join(s.cfg.Dir, damagedDir))
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{23 * time.Hour, 1}, {2 * time.Hour, 0}} {
		s.set(func() { s.clock = s.clock.Add(c.after) })
		if err := s.sweepOnce(); err != nil || aside() != c.want {
			t.Errorf("after %s more: %d files, %v", c.after, aside(), err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	good, err := (&header{Type: "a/b", Size: 3, Stored: time.Unix(1, 0)}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:100])
	f.Add(bytes.Replace(good, []byte("a/b"), []byte(`"\u`), 1))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := readHeader(bytes.NewReader(in))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Error(err)
			}
			return
		}
		text, err := h.encode()
		if err != nil {
			return // a longer form of what was short enough
		}
		if again, err := readHeader(bytes.NewReader(text)); err != nil || fmt.Sprint(again) != fmt.Sprint(h) {
			t.Errorf("%+v became %+v, %v", h, again, err)
		}
	})
}
