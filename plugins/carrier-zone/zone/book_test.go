package zone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// bookOf copies a book's first bytes into a directory of its own.
func bookOf(t *testing.T, text []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, bookName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// lazy leaves syncing out where a test decides itself what reached the disk.
type lazy struct{ *os.File }

func (lazy) Sync() error { return nil }

func startLazy(t *testing.T, dir string) *Carrier {
	t.Helper()
	c := New()
	c.open = func(path string) (file, int64, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, 0, err
		}
		info, err := f.Stat()
		return lazy{f}, info.Size(), err
	}
	// One file of tables is read sooner than all.
	text := must[[]byte](t)(os.ReadFile(filepath.Join("testdata", "tables", "eu-2026.yaml")))
	tables := filesOf(t, map[string]string{"eu-2026.yaml": string(text)})
	if err := c.Configure(ctx, sdk.Settings{setTables: tables, setState: dir, setName: "Crosstown"}); err != nil {
		t.Fatal(err)
	}
	return c
}

// filled is a book with two shipments, and where its last line begins.
func filled(t *testing.T) (text []byte, last int, answers map[string]*carrier.Shipped) {
	t.Helper()
	dir := t.TempDir()
	c := startLazy(t, dir)
	answers = map[string]*carrier.Shipped{}
	for _, ref := range []string{"FIRST", "LAST"} {
		answers[ref] = must[*carrier.Shipped](t)(c.Ship(ctx, munich(ref)))
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	text = must[[]byte](t)(os.ReadFile(filepath.Join(dir, bookName)))
	return text, bytes.LastIndexByte(text[:len(text)-1], '\n') + 1, answers
}

// TestABookCutAtEachByteOfItsLastLine stands for a process that died while it wrote: what is
// whole is found, what is not was surely not bought, and shipping again makes it whole.
func TestABookCutAtEachByteOfItsLastLine(t *testing.T) {
	text, last, answers := filled(t)
	c := startLazy(t, t.TempDir())
	defer c.Close()
	for size := last; size <= len(text); size++ {
		dir := bookOf(t, text[:size])
		before := c.book
		c.book = must[*book](t)(openBook(dir, c.open))
		before.close()
		if got, err := c.GetByReference(ctx, "FIRST"); err != nil || !reflect.DeepEqual(got, answers["FIRST"]) {
			t.Fatalf("cut at %d of %d: the first shipment is %+v, %v", size, len(text), got, err)
		}
		_, err := c.GetByReference(ctx, "LAST")
		if whole := size == len(text); whole && err != nil || !whole && sdk.ClassOf(err) != sdk.NotFound {
			t.Fatalf("cut at %d of %d: the last shipment: %v", size, len(text), err)
		}
		for range 2 {
			if got, err := c.Ship(ctx, munich("LAST")); err != nil || !reflect.DeepEqual(got, answers["LAST"]) {
				t.Fatalf("cut at %d of %d: shipped again as %+v, %v", size, len(text), got, err)
			}
		}
		after := must[[]byte](t)(os.ReadFile(filepath.Join(dir, bookName)))
		if n := bytes.Count(after, []byte(`"reference":"LAST"`)); n != 1 {
			t.Fatalf("cut at %d of %d: the last shipment stands %d times in the book", size, len(text), n)
		}
		kept, err := os.ReadFile(filepath.Join(dir, bookName+".cut"))
		if cut := size > last && size < len(text); cut && string(kept) != string(text[last:size]) || !cut && err == nil {
			t.Fatalf("cut at %d of %d: kept %q, %v", size, len(text), kept, err)
		}
	}
}

func TestABookCutInItsFirstLineBeginsAnew(t *testing.T) {
	text, _, _ := filled(t)
	first := bytes.IndexByte(text, '\n') + 1
	for size := range first {
		c := startLazy(t, bookOf(t, text[:size]))
		if _, err := c.Ship(ctx, munich("NEW")); err != nil {
			t.Fatalf("cut at %d: %v", size, err)
		}
		c.Close()
	}
}

func TestDamageBeforeTheEndIsRefused(t *testing.T) {
	text, last, _ := filled(t)
	header := bytes.IndexByte(text, '\n') + 1
	future, err := encodeLine(&line{Book: bookVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	empty, err := encodeLine(&line{})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		text []byte
		want string
	}{
		"a flipped bit":     {append(append(bytes.Clone(text[:last-20]), text[last-20]^1), text[last-19:]...), "line 2 is damaged"},
		"another file":      {bytes.Repeat([]byte("PNG"), 1000), "from byte 0 on it is damaged"},
		"no header":         {text[header:], "the first line does not say that it is a book"},
		"a newer book":      {future, "is of version 2"},
		"a line of nothing": {append(bytes.Clone(text), empty...), "says nothing that this program knows"},
		"a long end":        {append(bytes.Clone(text), make([]byte, maxLine+1)...), "more than one line"},
	} {
		dir := bookOf(t, x.text)
		err := New().Configure(ctx, sdk.Settings{setTables: "testdata/tables", setState: dir})
		wantClass(t, err, sdk.Validation, setState)
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %s", name, err, x.want)
		}
		if after := must[[]byte](t)(os.ReadFile(filepath.Join(dir, bookName))); !bytes.Equal(after, x.text) {
			t.Errorf("%s: the refused file was changed", name)
		}
	}
}

// faulty is a file whose disk fails once, when told to.
type faulty struct {
	file
	write, sync *int // calls until the failure; 0: none
}

var errDisk = errors.New("disk full")

func due(n *int) bool {
	if *n == 0 {
		return false
	}
	*n--
	return *n == 0
}

func (f faulty) WriteAt(text []byte, at int64) (int, error) {
	if due(f.write) {
		n, _ := f.file.WriteAt(text[:len(text)/2], at)
		return n, errDisk
	}
	return f.file.WriteAt(text, at)
}

func (f faulty) Sync() error {
	if due(f.sync) {
		return errDisk
	}
	return f.file.Sync()
}

func TestAFailingDiskLeavesTheOutcomeToTheBook(t *testing.T) {
	for name, kept := range map[string]bool{"write": false, "sync": true} {
		c := New()
		fail := map[string]*int{"write": new(int), "sync": new(int)}
		c.open = func(path string) (file, int64, error) {
			f, size, err := openFile(path)
			return faulty{f, fail["write"], fail["sync"]}, size, err
		}
		if err := c.Configure(ctx, sdk.Settings{setTables: "testdata/tables", setState: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		before := must[*carrier.Shipped](t)(c.Ship(ctx, munich("BEFORE")))
		*fail[name] = 1
		_, err := c.Ship(ctx, munich("DURING"))
		wantClass(t, err, sdk.UnknownOutcome, "")
		// The host looks before it ships again; the book was read anew from the disk.
		_, err = c.GetByReference(ctx, "DURING")
		if kept && err != nil || !kept && sdk.ClassOf(err) != sdk.NotFound {
			t.Errorf("%s: after the failure %v", name, err)
		}
		if got := must[*carrier.Shipped](t)(c.GetByReference(ctx, "BEFORE")); !reflect.DeepEqual(got, before) {
			t.Errorf("%s: what was shipped before is %+v, not %+v", name, got, before)
		}
		must[*carrier.Shipped](t)(c.Ship(ctx, munich("DURING")))
		must[*carrier.Shipped](t)(c.Ship(ctx, munich("AFTER")))
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestABookThatCannotBeReadAgainAnswersNothing(t *testing.T) {
	c := New()
	gone := false
	fail := new(int)
	c.open = func(path string) (file, int64, error) {
		if gone {
			return nil, 0, errDisk
		}
		f, size, err := openFile(path)
		return faulty{f, new(int), fail}, size, err
	}
	if err := c.Configure(ctx, sdk.Settings{setTables: "testdata/tables", setState: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	*fail, gone = 1, true
	_, err := c.Ship(ctx, munich("A-1"))
	wantClass(t, err, sdk.UnknownOutcome, "")
	for range 2 { // never NotFound, which would say that it was surely not bought
		_, err = c.GetByReference(ctx, "A-1")
		wantClass(t, err, sdk.Unavailable, "")
	}
	gone = false
	if _, err := c.GetByReference(ctx, "A-1"); err != nil {
		t.Errorf("the disk is back: %v", err)
	}
}

func TestAnEntryThatIsTooLongIsNotWritten(t *testing.T) {
	c := start(t, t.TempDir())
	s := munich("HUGE")
	s.Parcels[0].Items = []carrier.Commodity{{Description: strings.Repeat("x", maxLine)}}
	_, err := c.Ship(ctx, s)
	wantClass(t, err, sdk.Validation, "")
	must[*carrier.Shipped](t)(c.Ship(ctx, munich("SMALL")))
}

// dying kills its process when the line is on disk, before anybody is answered.
type dying struct{ file }

func (d dying) Sync() error {
	if err := d.file.Sync(); err != nil {
		return err
	}
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err == nil {
		select {} // until it takes effect
	}
	return err
}

const dyingDir = "ZONE_TEST_DYING_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dyingDir); dir != "" {
		c := New()
		if err := c.Configure(context.Background(), sdk.Settings{setTables: "testdata/tables", setState: dir, setName: "Crosstown"}); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		c.book.f = dying{c.book.f}
		_, err := c.Ship(context.Background(), munich("KILLED"))
		fmt.Println("answered", err)
		os.Exit(4)
	}
	os.Exit(m.Run())
}

func TestAKilledProcessFindsWhatItWrote(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), dyingDir+"="+dir)
	out, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() == 3 || exit.ExitCode() == 4 || len(out) > 0 {
		t.Fatalf("the process was not killed: %v\n%s", err, out)
	}
	c := start(t, dir)
	found := must[*carrier.Shipped](t)(c.GetByReference(ctx, "KILLED"))
	again := must[*carrier.Shipped](t)(c.Ship(ctx, munich("KILLED")))
	if !reflect.DeepEqual(found, again) {
		t.Errorf("found\n%+v\nand shipped again\n%+v", found, again)
	}
}

// FuzzBookLine feeds the book's reader what a disk may give back.
func FuzzBookLine(f *testing.F) {
	for _, l := range []*line{{Book: 1}, {Voided: "A"}, {Bought: &bought{Shipment: *munich("A"), Tracking: []string{"Z"}, SSCC: []string{""}}}} {
		text, err := encodeLine(l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := decodeLine(text)
		if err != nil {
			return
		}
		again, err := encodeLine(l)
		if err != nil {
			t.Fatal(err)
		}
		if other, err := decodeLine(again); err != nil || !reflect.DeepEqual(l, other) {
			t.Fatalf("%q was read back as %+v, %v", text, other, err)
		}
	})
}
