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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

var ctx = context.Background()

func bookFile(dir string) string { return filepath.Join(dir, bookName+".log") }

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
	text, err := os.ReadFile(bookFile(dir))
	if err != nil || bytes.Count(text, []byte("\n")) != 1+3 {
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
	text, err := os.ReadFile(bookFile(dir))
	if err != nil || bytes.Count(text, []byte("\n")) != 1+2 {
		t.Errorf("got %q, %v, want two records", text, err)
	}
}

// Two processes that append to one book would write over each other.
func TestOneProcessHasTheStateDirectory(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	second, err := New(silent)
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

// What is known to be too little is good for an estimate only.
func TestLocalTaxesAreNeverLeftOutForGood(t *testing.T) {
	e := newEngine(t, sdk.Settings{settingState: t.TempDir()})
	d := sale("US-OR", "US-CA", "2026-11-26", "USD", "100.00 standard")
	if got, err := e.Estimate(ctx, d); err != nil || got.Status != tax.Calculated || !got.Provisional {
		t.Fatalf("estimate: got %+v, %v, want it provisional", got, err)
	}
	got, err := e.Finalise(ctx, d)
	if err != nil || got.Status != tax.NotCalculated || got.Tax.Valid || !got.Final.IsZero() || !strings.Contains(got.Reason, "county, city and district taxes") {
		t.Errorf("finalise: got %+v, %v, want it not calculated for lack of local taxes", got, err)
	}
	_, err = e.GetByReference(ctx, d.Reference)
	wantClass(t, "finding it", err, sdk.NotFound)
	whole := sale("US-OR", "US-IN", "2026-11-26", "USD", "100.00 standard")
	if got, err := e.Finalise(ctx, whole); err != nil || got.Status != tax.Calculated || got.Provisional || got.Final.IsZero() {
		t.Errorf("where there are none: got %+v, %v, want it final", got, err)
	}
}

func TestAResultThatCannotBeAnsweredIsNotKept(t *testing.T) {
	e := newEngine(t, sdk.Settings{settingState: t.TempDir()})
	d := sale("CA-ON", "CA-QC", "2026-11-26", "CAD")
	for i := range maxLines {
		d.Lines = append(d.Lines, tax.Line{ID: fmt.Sprint(i), Amount: one, Category: tax.Standard, Quantity: one})
	}
	_, err := e.Finalise(ctx, d)
	wantClass(t, "all lines", err, sdk.Validation)
	_, err = e.GetByReference(ctx, d.Reference)
	wantClass(t, "finding it", err, sdk.NotFound)
	// The largest that is kept can be answered.
	fits, fails := 0, maxLines
	var largest *tax.Result
	for fits+1 < fails {
		some := *d
		n := (fits + fails) / 2
		some.Lines, some.Reference = d.Lines[:n], fmt.Sprint("part ", n)
		if got, err := e.Finalise(ctx, &some); err == nil {
			fits, largest = n, got
		} else {
			fails = n
		}
	}
	conn := sdktest.Dial(t, func(r grpc.ServiceRegistrar) { tax.Register(r, e, silent) })
	got, err := tax.NewClient(conn).GetByReference(ctx, largest.Reference)
	if err != nil || len(got.Lines) != fits || fits < 1000 {
		t.Errorf("%d lines: %v", fits, err)
	}
}

// What is whole and cannot be read was answered once, and is not to be passed over.
func TestARecordThatSaysNothingIsRefused(t *testing.T) {
	for _, body := range []string{`{}`, `{"reference":"A"}`, `{"reference":"A","voided":true}`, `{"reference":"A","voided":true,"result":{}}`,
		`{"reference":"A","result":{},"colour":1}`, `{"reference":"A","result":{"net":"much"}}`} {
		dir := t.TempDir()
		b, err := book.Open(book.Config{Dir: dir, Name: bookName, Kind: "tax-table", Version: 1, Log: silent}, func(*book.Record) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(1, []byte(body)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		e, err := New(silent)
		if err != nil {
			t.Fatal(err)
		}
		err = e.Configure(ctx, sdk.Settings{settingState: dir})
		wantClass(t, body, err, sdk.Validation)
		if err == nil || !strings.Contains(err.Error(), "record 2 at byte") {
			t.Errorf("%s: got %v, want the place", body, err)
		}
	}
}

func TestARecordThatWentBadIsNotCutOff(t *testing.T) {
	dir := t.TempDir()
	e := newEngine(t, sdk.Settings{settingState: dir})
	for i := range 3 {
		if _, err := e.Finalise(ctx, numbered(i)); err != nil {
			t.Fatal(err)
		}
	}
	e.Close()
	text, err := os.ReadFile(bookFile(dir))
	if err != nil {
		t.Fatal(err)
	}
	// The day stays a day: only the checksum tells. The last record was answered like the others.
	day := []byte(`"taxPoint":"2026-11-26"`)
	for what, at := range map[string]int{"first": bytes.Index(text, day), "last": bytes.LastIndex(text, day)} {
		damaged := bytes.Clone(text)
		damaged[at+len(day)-2] ^= 1
		if err := os.WriteFile(bookFile(dir), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := New(silent)
		if err != nil {
			t.Fatal(err)
		}
		wantClass(t, "in the "+what+" record", e.Configure(ctx, sdk.Settings{settingState: dir}), sdk.Validation)
	}
}

func TestRecordsKeepAllOfAResult(t *testing.T) {
	var r tax.Result
	sdktest.Fill(&r, sdktest.Full)
	text, err := encodeRecord(&record{Reference: "A", Result: recordOf(&r)})
	if err != nil {
		t.Fatal(err)
	}
	back, err := decodeRecord(&book.Record{Version: recordVersion, Body: text})
	if err != nil {
		t.Fatal(err)
	}
	got := back.Result.result()
	got.Voided = r.Voided // a record of its own
	if diff := sdktest.Diff(got, &r); diff != "" {
		t.Errorf("of a result the book lacks something: %s", diff)
	}
}

// failing is the book's file on a disk that is broken.
type failing struct {
	book.File
	sync error
}

func (f *failing) Sync() error {
	if f.sync != nil {
		return f.sync
	}
	return f.File.Sync()
}

func TestAfterAFailingDiskNothingIsAnswered(t *testing.T) {
	dir, disk, exits := t.TempDir(), &failing{}, 0
	e, err := New(silent)
	if err != nil {
		t.Fatal(err)
	}
	e.exit = func(int) { exits++ }
	e.open = func(path string) (book.File, error) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		disk.File = f
		return disk, err
	}
	if err := e.Configure(ctx, sdk.Settings{settingState: dir}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Finalise(ctx, numbered(1)); err != nil {
		t.Fatal(err)
	}
	disk.sync = errors.New("input/output error")
	_, err = e.Finalise(ctx, numbered(2))
	wantClass(t, "not synced", err, sdk.UnknownOutcome)
	disk.sync = nil
	if exits != 1 {
		t.Errorf("the process was ended %d times", exits)
	}
	for i := range 4 { // never NotFound, which would say that it was surely not done
		_, err := e.GetByReference(ctx, fmt.Sprint("R", i))
		wantClass(t, "found after it", err, sdk.Unavailable)
		_, err = e.Finalise(ctx, numbered(i))
		wantClass(t, "finalised after it", err, sdk.Unavailable)
		_, err = e.Void(ctx, &tax.VoidRequest{Reference: fmt.Sprint("R", i)})
		wantClass(t, "voided after it", err, sdk.Unavailable)
	}
	e.Close()
	e = newEngine(t, sdk.Settings{settingState: dir})
	if _, err := e.GetByReference(ctx, "R1"); err != nil {
		t.Errorf("what was answered is gone: %v", err)
	}
	if _, err := e.Finalise(ctx, numbered(2)); err != nil {
		t.Errorf("after a start: %v", err)
	}
}

// FuzzRecord feeds the reader of records what a book may hold.
func FuzzRecord(f *testing.F) {
	text, err := encodeRecord(&record{Reference: "R", Result: &resultRecord{Lines: []lineRecord{{ID: "1"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := decodeRecord(&book.Record{Version: recordVersion, Body: text})
		if err != nil || r.Result == nil {
			return
		}
		if diff := sdktest.Diff(recordOf(r.Result.result()), r.Result); diff != "" {
			t.Errorf("%q is written otherwise: %s", text, diff)
		}
	})
}
