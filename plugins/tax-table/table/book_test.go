package table

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

var ctx = context.Background()

func numbered(i int) *tax.Document {
	d := sale("DE", "DE", "2026-11-26", "EUR", fmt.Sprintf("%d.00 standard", i+1))
	d.Reference = fmt.Sprint("R", i)
	return d
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wantClass(t *testing.T, what string, err error, class sdk.Class) {
	t.Helper()
	if err == nil || sdk.ClassOf(err) != class {
		t.Errorf("%s: got %v, want an error of class %s", what, err, class)
	}
}

func TestADocumentIsFinalisedOnce(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	first, err := e.Finalise(ctx, numbered(1))
	if err != nil || first.Final.IsZero() || show(first) != "2 + 0.38 = 2.38; DE VAT standard 0.19 of 2: 0.38" {
		t.Fatalf("got %+v, %v", first, err)
	}
	other := numbered(1)
	other.Lines[0].Amount = numbered(2).Lines[0].Amount
	check := func(when string, e *Engine) {
		t.Helper()
		for what, call := range map[string]func() (*tax.Result, error){
			"again":      func() (*tax.Result, error) { return e.Finalise(ctx, numbered(1)) },
			"by name":    func() (*tax.Result, error) { return e.GetByReference(ctx, "R1") },
			"adjustment": func() (*tax.Result, error) { return e.Adjust(ctx, numbered(1)) },
		} {
			got, err := call()
			if err != nil || asJSON(t, got) != asJSON(t, first) {
				t.Errorf("%s, %s: got %+v, %v, want the first answer", when, what, got, err)
			}
		}
		_, err := e.Finalise(ctx, other)
		wantClass(t, when+", other contents", err, sdk.Duplicate)
	}
	check("at once", e)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	check("after a start", newEngine(t, sdk.Settings{settingState: dir}))
}

func TestAdjustAndVoid(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	_, err := e.Adjust(ctx, numbered(1))
	wantClass(t, "adjusting nothing", err, sdk.NotFound)
	_, err = e.Void(ctx, &tax.VoidRequest{Reference: "R1"})
	wantClass(t, "voiding nothing", err, sdk.NotFound)
	_, err = e.GetByReference(ctx, "R1")
	wantClass(t, "finding nothing", err, sdk.NotFound)

	if _, err := e.Finalise(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	changed := numbered(1)
	changed.Lines[0].Amount = numbered(9).Lines[0].Amount
	adjusted, err := e.Adjust(ctx, changed)
	if err != nil || adjusted.Net.String() != "10" {
		t.Fatalf("got %+v, %v, want the net of the adjustment", adjusted, err)
	}
	if got, err := e.GetByReference(ctx, "R1"); err != nil || asJSON(t, got) != asJSON(t, adjusted) {
		t.Errorf("got %+v, %v, want the adjustment", got, err)
	}
	for range 2 { // twice is once
		if got, err := e.Void(ctx, &tax.VoidRequest{Reference: "R1", Reason: "cancelled"}); err != nil || got.Reference != "R1" {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, bookName))
	if err != nil || bytes.Count(text, []byte("\n")) != 3 {
		t.Errorf("got %q, %v, want three records", text, err)
	}
	e.Close()
	e = newEngine(t, sdk.Settings{settingState: dir})
	adjusted.Voided = true
	if got, err := e.GetByReference(ctx, "R1"); err != nil || asJSON(t, got) != asJSON(t, adjusted) {
		t.Errorf("got %+v, %v, want the adjustment, voided", got, err)
	}
	_, err = e.Finalise(ctx, numbered(1))
	wantClass(t, "finalising what was voided", err, sdk.Conflict)
	_, err = e.Adjust(ctx, changed)
	wantClass(t, "adjusting what was voided", err, sdk.Conflict)
}

func TestWhatIsNotCalculatedIsNotKept(t *testing.T) {
	e := newEngine(t, sdk.Settings{settingState: t.TempDir()})
	d := numbered(1)
	d.Customer.Address.Country, d.Seller.Address.Country = "BR", "BR"
	got, err := e.Finalise(ctx, d)
	if err != nil || got.Status != tax.NotCalculated || !got.Final.IsZero() {
		t.Fatalf("got %+v, %v, want it not calculated and not final", got, err)
	}
	_, err = e.GetByReference(ctx, d.Reference)
	wantClass(t, "finding it", err, sdk.NotFound)
}

func TestManyAtOnceFinaliseOnce(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	var inside atomic.Int32
	e.now = func() time.Time {
		if inside.Add(1) > 1 {
			t.Error("two documents are finalised at a time")
		}
		for range 1000 { // so that others could come in
			runtime.Gosched()
		}
		inside.Add(-1)
		return time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	}
	answers := make([]string, 8)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			got, err := e.Finalise(ctx, numbered(i%2))
			if err != nil {
				t.Error(err)
				return
			}
			text, _ := json.Marshal(got)
			answers[i] = string(text)
		})
	}
	all.Wait()
	for i, a := range answers {
		if a != answers[i%2] {
			t.Errorf("got %s and %s", answers[i%2], a)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, bookName))
	if err != nil || bytes.Count(text, []byte("\n")) != 2 {
		t.Errorf("got %q, %v, want two records", text, err)
	}
}

// Two processes that append to one book would write over each other.
func TestOneProcessHasTheStateDirectory(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	second, err := New()
	if err != nil {
		t.Fatal(err)
	}
	err = second.Configure(ctx, sdk.Settings{settingState: dir})
	wantClass(t, "while the first has it", err, sdk.Unavailable)
	e.Close()
	if err := second.Configure(ctx, sdk.Settings{settingState: dir}); err != nil {
		t.Errorf("after the first has closed: %v", err)
	}
	second.Close()
}

func TestWithoutAStateDirectoryNothingIsKept(t *testing.T) {
	e := newEngine(t, nil)
	_, err := e.Finalise(ctx, numbered(1))
	wantClass(t, "finalise", err, sdk.NotSupported)
	_, err = e.GetByReference(ctx, "R1")
	wantClass(t, "get", err, sdk.NotSupported)
	_, err = e.Void(ctx, &tax.VoidRequest{Reference: "R1"})
	wantClass(t, "void", err, sdk.NotSupported)
}

func TestAReturnTakesTheRatesOfItsSale(t *testing.T) {
	e := newEngine(t, sdk.Settings{settingState: t.TempDir()})
	sold := sale("DE", "DE", "2020-12-31", "EUR", "100.00 standard")
	if _, err := e.Finalise(ctx, sold); err != nil {
		t.Fatal(err)
	}
	returned := sale("DE", "DE", "2021-01-15", "EUR", "100.00 standard")
	returned.Reference, returned.Kind, returned.Original = "R2", tax.Return, sold.Reference
	got, err := e.Finalise(ctx, returned)
	if want := "100 + 16 = 116; DE VAT standard 0.16 of 100: 16"; err != nil || show(got) != want {
		t.Errorf("got %s, %v, want %s", show(got), err, want)
	}
	returned.Reference, returned.Original = "R3", "unheard of"
	got, err = e.Estimate(ctx, returned)
	if want := "100 + 19 = 119; DE VAT standard 0.19 of 100: 19; !return_rates"; err != nil || show(got) != want {
		t.Errorf("got %s, %v, want %s", show(got), err, want)
	}
}

// A crash may leave any beginning of what was being written. What was answered is there
// afterwards, and the book goes on.
func TestABookThatIsCutAnywhereOpens(t *testing.T) {
	dir := t.TempDir()
	b, err := openBook(dir)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int64
	for i := range 3 {
		if err := b.append(&record{Reference: fmt.Sprint("R", i), Sum: "s", Voided: true}); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, b.size)
	}
	b.close()
	whole, err := os.ReadFile(filepath.Join(dir, bookName))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		dir := t.TempDir()
		name := filepath.Join(dir, bookName)
		if err := os.WriteFile(name, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		for round, extra := range []string{"", "R9"} { // the second time over what the first has added
			b, err := openBook(dir)
			if err != nil {
				t.Fatalf("cut at %d, opened the %d. time: %v", cut, round+1, err)
			}
			for i, end := range ends {
				if there := b.find(fmt.Sprint("R", i)) != nil; there != (end <= int64(cut)) {
					t.Errorf("cut at %d: R%d is there: %v", cut, i, there)
				}
			}
			if extra != "" && b.find(extra) == nil {
				t.Errorf("cut at %d: what was appended afterwards is gone", cut)
			}
			if err := b.append(&record{Reference: "R9", Result: &tax.Result{Reference: "R9"}}); err != nil {
				t.Fatal(err)
			}
			if got, err := b.result(b.find("R9")); err != nil || got.Reference != "R9" {
				t.Errorf("cut at %d: got %+v, %v", cut, got, err)
			}
			b.close()
		}
		if aside, err := os.ReadFile(filepath.Join(dir, damagedName)); err == nil && !bytes.HasPrefix(whole[:cut], whole[:cut-len(aside)+1]) {
			t.Errorf("cut at %d: %q was set aside", cut, aside)
		}
	}
}

// What is cut off may be longer than what is written next.
func TestALongDamagedEndIsCutOff(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, bookName)
	tail := bytes.Repeat([]byte("x"), 10_000)
	if err := os.WriteFile(name, tail, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		b, err := openBook(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.index) != i {
			t.Errorf("%d records are there, want %d", len(b.index), i)
		}
		if err := b.append(&record{Reference: fmt.Sprint("R", i), Voided: true}); err != nil {
			t.Fatal(err)
		}
		b.close()
	}
	if aside, err := os.ReadFile(filepath.Join(dir, damagedName)); err != nil || !bytes.Equal(aside, append(tail, '\n')) {
		t.Errorf("%d bytes were set aside, %v, want %d and a line's end", len(aside), err, len(tail))
	}
}

func TestADamagedRecordBeforeWholeOnesIsRefused(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	for i := range 3 {
		if _, err := e.Finalise(ctx, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	name := filepath.Join(dir, bookName)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) error {
		damaged := bytes.Clone(text)
		damaged[at] ^= 1
		if err := os.WriteFile(name, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.Configure(ctx, sdk.Settings{settingState: dir}); err != nil {
			return err
		}
		_, err = e.GetByReference(ctx, "R2")
		return err
	}
	// The day stays a day: only the checksum tells.
	day := []byte(`"tax_point":"2026-11-26"`)
	wantClass(t, "in the first record", flip(bytes.Index(text, day)+len(day)-2), sdk.Validation)
	wantClass(t, "in the last record", flip(bytes.LastIndex(text, day)+len(day)-2), sdk.NotFound)
}

// failing is a file whose disk is full or broken.
type failing struct {
	bookFile
	write, sync, truncate error
}

func (f *failing) WriteAt(p []byte, at int64) (int, error) {
	if f.write != nil {
		n, _ := f.bookFile.WriteAt(p[:len(p)/2], at)
		return n, f.write
	}
	return f.bookFile.WriteAt(p, at)
}

func (f *failing) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.bookFile.Sync()
}

func (f *failing) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.bookFile.Truncate(size)
}

func TestAFailingDiskIsNeverTakenForDone(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	disk := &failing{bookFile: e.book.file}
	e.book.file = disk

	disk.write = errors.New("no space left on device")
	_, err := e.Finalise(ctx, numbered(1))
	wantClass(t, "full", err, sdk.Unavailable)
	disk.write = nil
	if _, err := e.Finalise(ctx, numbered(1)); err != nil {
		t.Errorf("after space was made: %v", err)
	}

	disk.sync = errors.New("input/output error")
	_, err = e.Finalise(ctx, numbered(2))
	wantClass(t, "not synced", err, sdk.UnknownOutcome)
	disk.sync = nil
	_, err = e.Finalise(ctx, numbered(3))
	wantClass(t, "after a sync that failed", err, sdk.Unavailable)
	e.Close()

	e = newEngine(t, sdk.Settings{settingState: dir})
	if _, err := e.GetByReference(ctx, "R1"); err != nil {
		t.Errorf("what was answered is gone: %v", err)
	}
	if _, err := e.Finalise(ctx, numbered(2)); err != nil {
		t.Errorf("after a start: %v", err)
	}
	disk = &failing{bookFile: e.book.file, write: errors.New("no space left on device"), truncate: errors.New("input/output error")}
	e.book.file = disk
	_, err = e.Finalise(ctx, numbered(4))
	wantClass(t, "neither written nor undone", err, sdk.UnknownOutcome)
}

func FuzzBook(f *testing.F) {
	line, err := encode(&record{Reference: "R", Result: &tax.Result{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(append(bytes.Clone(line), line[:len(line)/2]...))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := &book{index: map[string]*entry{}}
		size, total, err := b.load(bytes.NewReader(text))
		if err != nil {
			return
		}
		if total != int64(len(text)) || size > total {
			t.Errorf("%d of %d bytes are whole, and there are %d", size, total, len(text))
		}
		again := &book{index: map[string]*entry{}}
		if size2, _, err := again.load(bytes.NewReader(text[:size])); err != nil || size2 != size || len(again.index) != len(b.index) {
			t.Errorf("what is whole has size %d, then %d and %v", size, size2, err)
		}
	})
}
