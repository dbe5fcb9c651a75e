package book

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// shelf is where a test's book stands: a directory, a file in memory, and what was said.
type shelf struct {
	t     testing.TB
	dir   string
	disk  *disk
	log   bytes.Buffer
	exits []int
	texts []string // of the records that were taken since the last start
	last  Place
}

func newShelf(t testing.TB) *shelf { return &shelf{t: t, dir: t.TempDir(), disk: newDisk(nil)} }

func (s *shelf) config() Config {
	return Config{Dir: s.dir, Name: "book", Kind: "tests", Version: 1, Setting: "state", Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		OpenFile: s.disk.open, Exit: func(code int) { s.exits = append(s.exits, code) }}
}

func (s *shelf) take(r *Record) error {
	s.texts, s.last = append(s.texts, string(r.Body)), r.Place
	return nil
}

// try opens the file in memory. The directory is left out: it is what takes time.
func (s *shelf) try() (*Book, error) {
	s.texts = nil
	b := &Book{c: s.config(), path: filepath.Join(s.dir, "book.log"), file: s.disk, lock: s.disk}
	return b, b.load(s.take)
}

func (s *shelf) open() *Book {
	s.t.Helper()
	b, err := s.try()
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shelf) add(b *Book, text string) Place {
	s.t.Helper()
	p, err := b.Append(1, []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *shelf) close(b *Book) {
	s.t.Helper()
	if err := b.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// holds wants these records to be found at a start, and at another one after it.
func (s *shelf) holds(what string, want ...string) {
	s.t.Helper()
	for start := range 2 {
		b, err := s.try()
		if err != nil {
			s.t.Fatalf("%s: start %d: %v", what, start+1, err)
		}
		if !slices.Equal(s.texts, want) {
			s.t.Fatalf("%s: start %d: got %q, want %q", what, start+1, s.texts, want)
		}
		if s.disk.synced != s.disk.wrote {
			s.t.Fatalf("%s: start %d: it is answered from what is not synced", what, start+1)
		}
		s.close(b)
	}
}

// refuses wants the book refused, and its file as it was.
func (s *shelf) refuses(what string, text []byte, want string) {
	s.t.Helper()
	s.disk = newDisk(text)
	b, err := s.try()
	if err == nil {
		s.close(b)
		s.t.Errorf("%s: it was opened with %d records", what, len(s.texts))
		return
	}
	if !strings.Contains(err.Error(), "book.log: record") || !strings.Contains(err.Error(), want) {
		s.t.Errorf("%s: got %v, want the place and %q", what, err, want)
	}
	if !bytes.Equal(s.disk.cached, text) {
		s.t.Errorf("%s: the refused file was changed", what)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "book.cut")); err == nil {
		s.t.Errorf("%s: something was cut off", what)
	}
}

// filled is a book of three records, of which the last one takes several sectors, and where
// each ends, the first line included.
func filled(t testing.TB) (text []byte, bodies []string, ends []int) {
	s := newShelf(t)
	b := s.open()
	ends = []int{len(s.disk.cached)}
	for i, size := range []int{20, 300, 1300} {
		bodies = append(bodies, fmt.Sprintf(`{"n":%d,"text":"%s"}`, i, strings.Repeat("x", size)))
		s.add(b, bodies[i])
		ends = append(ends, len(s.disk.cached))
	}
	s.close(b)
	return s.disk.cached, bodies, ends
}

func TestWhatWasAppendedIsFound(t *testing.T) {
	s := newShelf(t)
	c := s.config()
	c.OpenFile = nil // a file on the disk
	var places []Place
	for start := range 3 {
		var got []string
		b, err := Open(c, func(r *Record) error {
			if r.Place != places[len(got)] {
				t.Errorf("record %d stands at %+v, want %+v", len(got), r.Place, places[len(got)])
			}
			got = append(got, fmt.Sprintf("%d %s", r.Version, r.Body))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"1 a0", "1 a1"}[:start]; !slices.Equal(got, want) {
			t.Errorf("start %d: got %q, want %q", start, got, want)
		}
		places = append(places, s.add(b, fmt.Sprint("a", start)))
		if r, err := b.Read(places[start]); err != nil || string(r.Body) != fmt.Sprint("a", start) || r.Version != 1 || r.Place != places[start] {
			t.Errorf("read again as %+v, %v", r, err)
		}
		s.close(b)
	}
}

// A process that dies leaves any beginning of what it was writing.
func TestABookThatEndsAnywhereHoldsWhatIsWhole(t *testing.T) {
	text, bodies, ends := filled(t)
	s := newShelf(t)
	beside := filepath.Join(s.dir, "book.cut")
	begin, whole := 0, 0 // of the record that is cut, and how many are whole
	for size := range len(text) + 1 {
		if slices.Contains(ends, size) {
			begin, whole = size, slices.Index(ends, size)
		}
		s.disk = newDisk(text[:size])
		s.log.Reset()
		what := fmt.Sprintf("cut at %d of %d", size, len(text))
		s.holds(what, bodies[:whole]...)
		kept, err := os.ReadFile(beside)
		if cut := size > begin && begin > 0; cut != strings.Contains(s.log.String(), "was cut off") || cut != (err == nil) || !bytes.Equal(kept, text[begin:size]) && cut {
			t.Fatalf("%s: kept %q, %v; the log says %q", what, kept, err, s.log.String())
		}
		if err := remove(beside); err != nil {
			t.Fatal(err)
		}
		b := s.open()
		s.add(b, "later")
		s.close(b)
		s.holds(what+", and appended to", append(slices.Clone(bodies[:whole]), "later")...)
	}
}

// A machine that loses power leaves any sectors of what was being written, and zeros for the
// others.
func TestARecordTornAnywhereIsCutOff(t *testing.T) {
	text, bodies, ends := filled(t)
	begin := ends[len(ends)-2]
	var edges []int // of the record's parts by sector
	for at := begin; at < len(text); at = min(len(text), (at/sector+1)*sector) {
		edges = append(edges, at)
	}
	edges = append(edges, len(text))
	sizes := append(slices.Clone(edges[1:]), begin+1, begin+frameHead, len(text)-1, len(text)-100)
	s := newShelf(t)
	for lost := range 1 << (len(edges) - 1) {
		for _, size := range sizes {
			torn := bytes.Clone(text[:size])
			for i := range len(edges) - 1 {
				if lost&(1<<i) != 0 {
					clear(torn[min(edges[i], size):min(edges[i+1], size)])
				}
			}
			s.disk = newDisk(torn)
			want := bodies[:len(bodies)-1]
			if bytes.Equal(torn, text) {
				want = bodies
			}
			what := fmt.Sprintf("size %d of %d, lost %b", size, len(text), lost)
			s.holds(what, want...)
			b := s.open()
			s.add(b, "later")
			s.close(b)
			s.holds(what+", and appended to", append(slices.Clone(want), "later")...)
		}
	}
}

// Whatever single byte goes bad, nothing that was answered is lost in silence.
func TestAnyByteThatGoesBadIsRefused(t *testing.T) {
	text, _, _ := filled(t)
	s := newShelf(t)
	for at := range text {
		for _, bit := range []byte{1, 2, 8, 0x20, 0x80} {
			damaged := bytes.Clone(text)
			damaged[at] ^= bit
			s.refuses(fmt.Sprintf("bit %#x of byte %d", bit, at), damaged, "")
		}
	}
}

func TestWhatNoCrashLeavesIsRefused(t *testing.T) {
	text, _, ends := filled(t)
	line := func(version int, body string) []byte {
		out, err := encode(version, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	after := func(more ...[]byte) []byte { return slices.Concat(append([][]byte{text}, more...)...) }
	half := line(1, "broken off")[:frameHead+3]
	for what, c := range map[string]struct {
		text []byte
		want string
	}{
		"another file":               {bytes.Repeat([]byte("PNG\n"), 1000), "is no book"},
		"a short text":               {[]byte("hello"), "is no book"},
		"zeros from the beginning":   {make([]byte, len(text)), "is no book"},
		"no first line":              {text[ends[0]:], "the book says that it is"},
		"a book of something else":   {first("others"), `is "crossdock book 1 of others"`},
		"a newer record":             {after(line(2, "x")), "use the newer program"},
		"a record of no version":     {after(line(0, "x")), "is of version 0"},
		"garbage at the end":         {after([]byte("garbage")), "does not begin like a record"},
		"a broken record, and whole": {after(half, line(1, "x")), "longer than it says"},
		"two broken ones":            {after(half, []byte("\n"), half), "others follow it"},
		"zeros, and a whole one":     {after(make([]byte, 600), line(1, "x")), "a whole one follows it"},
		"too many zeros":             {after(make([]byte, maxFrame+1)), "longer than one record"},
		"a long end":                 {after(half, bytes.Repeat([]byte("x"), 100)), "longer than it says"},
	} {
		newShelf(t).refuses(what, c.text, c.want)
	}
}

func TestTheReaderOfRecordsMayRefuseTheBook(t *testing.T) {
	s := newShelf(t)
	s.disk.cached, _, _ = filled(t)
	before := bytes.Clone(s.disk.cached)
	_, err := Open(s.config(), func(r *Record) error {
		if strings.HasPrefix(string(r.Body), `{"n":2`) {
			return errors.New("the colour is unknown")
		}
		return nil
	})
	var e *sdk.Error
	if !errors.As(err, &e) || e.Class != sdk.Validation || e.Field != "state" || !strings.Contains(e.Message, "book.log: record 4 at byte") ||
		!strings.Contains(e.Message, "the colour is unknown") {
		t.Errorf("got %v, want the setting, the place and the reason", err)
	}
	if !bytes.Equal(s.disk.cached, before) {
		t.Error("the refused file was changed")
	}
}

func TestOneProcessHasTheDirectory(t *testing.T) {
	s := newShelf(t)
	b, err := Open(s.config(), s.take)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.config(), s.take); sdk.ClassOf(err) != sdk.Unavailable || !strings.Contains(err.Error(), "another process has the book") {
		t.Errorf("a second one: got %v", err)
	}
	s.close(b)
	if b, err = Open(s.config(), s.take); err != nil {
		t.Fatalf("after the first is gone: %v", err)
	}
	s.close(b)
}

func TestWhatDoesNotFitIsNotWritten(t *testing.T) {
	s := newShelf(t)
	b := s.open()
	defer s.close(b)
	for _, body := range []string{strings.Repeat("x", MaxBody+1), "two\nlines", "a zero\x00byte"} {
		if _, err := b.Append(1, []byte(body)); sdk.ClassOf(err) != sdk.Validation {
			t.Errorf("%.20q: got %v, want class validation", body, err)
		}
	}
	s.add(b, strings.Repeat("x", MaxBody))
}

func TestAWriteThatFailedIsTakenBack(t *testing.T) {
	s := newShelf(t)
	b := s.open()
	s.add(b, "before")
	s.disk.failWrite = true
	if _, err := b.Append(1, []byte("during, with a text")); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("got %v, want class unavailable", err)
	}
	s.disk.failWrite = false
	s.add(b, "after")
	s.close(b)
	if len(s.exits) != 0 {
		t.Error("the process was ended for it")
	}
	s.holds("after it", "before", "after")

	b = s.open()
	s.disk.failWrite, s.disk.failTruncate = true, true
	if _, err := b.Append(1, []byte("neither written nor taken back")); sdk.ClassOf(err) != sdk.UnknownOutcome || !slices.Equal(s.exits, []int{1}) {
		t.Errorf("neither written nor taken back: got %v and exits %v", err, s.exits)
	}
	s.close(b)
}

// A sync that failed may succeed the next time without having written anything.
func TestAfterASyncThatFailedNothingIsAnswered(t *testing.T) {
	s := newShelf(t)
	b := s.open()
	before := s.add(b, "before")
	s.disk.failSync = true
	_, err := b.Append(1, []byte("during"))
	if sdk.ClassOf(err) != sdk.UnknownOutcome || !slices.Equal(s.exits, []int{1}) {
		t.Errorf("got %v and exits %v, want an unknown outcome and the end of the process", err, s.exits)
	}
	s.disk.failSync = false
	if err := b.Usable(); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("usable: got %v", err)
	}
	if _, err := b.Read(before); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("read: got %v", err)
	}
	if _, err := b.Append(1, []byte("after")); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("append: got %v", err)
	}
	s.close(b)
	// The next process finds it in the cache, and the system believes that it is on disk.
	s.holds("the next start", "before", "during")
	s.disk.cutPower(rand.New(rand.NewPCG(1, 1)))
	s.holds("after the power was cut", "before", "during")

	s.disk.failSync = true
	if _, err := s.try(); !errors.Is(err, errDisk) {
		t.Errorf("a start whose sync fails: got %v", err)
	}
}

// The power goes at any moment, again and again. What was answered is there, what was not is
// there wholly or not at all, and no start is refused.
func TestThePowerMayGoAtAnyMoment(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newShelf(t)
	var answered []string
	maybe := ""
	for round := range 400 {
		if r.IntN(4) == 0 { // while a start clears up
			s.disk.off = true
			if b, err := s.try(); err == nil {
				s.close(b)
				t.Fatalf("round %d: a start does not sync what it answers from", round)
			}
			s.disk.off = false
			s.disk.cutPower(r)
		}
		b, err := s.try()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if n := len(answered); maybe != "" && len(s.texts) == n+1 && s.texts[n] == maybe {
			answered = append(answered, maybe)
		}
		if !slices.Equal(s.texts, answered) {
			t.Fatalf("round %d: %d records, want %d", round, len(s.texts), len(answered))
		}
		for range r.IntN(3) {
			answered = append(answered, fmt.Sprintf("%d %s", len(answered), strings.Repeat("y", r.IntN(1500))))
			s.add(b, answered[len(answered)-1])
		}
		maybe = ""
		if r.IntN(4) > 0 { // with what was not answered in the cache
			maybe = fmt.Sprintf("%d %s", len(answered), strings.Repeat("z", r.IntN(1500)))
			text, err := encode(1, []byte(maybe))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.disk.WriteAt(text, b.size); err != nil {
				t.Fatal(err)
			}
		}
		s.close(b)
		s.disk.cutPower(r)
	}
}

func TestRewriteKeepsWhatItIsTold(t *testing.T) {
	s := newShelf(t)
	c := s.config()
	c.OpenFile = nil
	b, err := Open(c, s.take)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		s.add(b, fmt.Sprint("r", i))
	}
	odd := func(r *Record) bool { return r.Body[1]%2 == 1 }
	// What a crash left half written is in nobody's way.
	if err := os.WriteFile(filepath.Join(s.dir, "book.new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.texts = nil
	if err := b.Rewrite(odd, s.take); err != nil {
		t.Fatal(err)
	}
	want := []string{"r1", "r3", "r5"}
	if !slices.Equal(s.texts, want) {
		t.Errorf("got %q, want %q", s.texts, want)
	}
	if r, err := b.Read(s.last); err != nil || string(r.Body) != "r5" {
		t.Errorf("the last one is read as %+v, %v", r, err)
	}
	s.add(b, "r7")
	s.close(b)
	s.texts = nil
	if b, err = Open(c, s.take); err != nil || !slices.Equal(s.texts, append(want, "r7")) {
		t.Fatalf("the next start finds %q, %v", s.texts, err)
	}
	defer s.close(b)
	// A directory in its way stands for a disk that is full: the book goes on as it was.
	if err := os.MkdirAll(filepath.Join(s.dir, "book.new", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.Rewrite(odd, s.take); sdk.ClassOf(err) != sdk.Unavailable {
		t.Errorf("got %v, want class unavailable", err)
	}
	s.add(b, "r9")
}

// FuzzOpen feeds a book what a disk may give back: it is refused, or it is opened, and then
// again with the same records.
func FuzzOpen(f *testing.F) {
	text, _, ends := filled(f)
	f.Add(text)
	f.Add(text[:len(text)-9])
	f.Add(text[:ends[1]+9])
	f.Add(append(bytes.Clone(text), make([]byte, 700)...))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := newShelf(t)
		s.disk = newDisk(text)
		b, err := s.try()
		if err != nil {
			if !bytes.Equal(s.disk.cached, text) {
				t.Fatal("the refused file was changed")
			}
			return
		}
		s.close(b)
		s.holds("opened again", s.texts...)
		if size := len(s.disk.cached); size < len(text) && bytes.IndexByte(text[size:len(text)-1], '\n') >= 0 {
			t.Fatalf("more than one line was cut off: %q", text[size:])
		}
	})
}
