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
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// disk is the book's file on a disk that fails when it is told to.
type disk struct {
	*os.File
	failSync bool
	onSync   func() // after a sync
}

func (d *disk) Sync() error {
	if d.failSync {
		return errDisk
	}
	err := d.File.Sync()
	if d.onSync != nil {
		d.onSync()
	}
	return err
}

var errDisk = errors.New("input/output error")

// under makes the carrier keep its book on this disk.
func (d *disk) under(c *Carrier) {
	c.open = func(path string) (book.File, error) {
		var err error
		d.File, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		return d, err
	}
}

func bookFile(dir string) string { return filepath.Join(dir, bookName+".log") }

// TestARecordThatWasBrokenOffWasNotBought stands for a process that died while it wrote. What
// may be broken off where is package book's to know.
func TestARecordThatWasBrokenOffWasNotBought(t *testing.T) {
	dir := t.TempDir()
	c := start(t, dir)
	first := must[*carrier.Shipped](t)(c.Ship(ctx, munich("FIRST")))
	last := must[*carrier.Shipped](t)(c.Ship(ctx, munich("LAST")))
	c.Close()
	text := must[[]byte](t)(os.ReadFile(bookFile(dir)))
	if err := os.WriteFile(bookFile(dir), text[:len(text)-40], 0o600); err != nil {
		t.Fatal(err)
	}
	c = start(t, dir)
	if got := must[*carrier.Shipped](t)(c.GetByReference(ctx, "FIRST")); !reflect.DeepEqual(got, first) {
		t.Errorf("the first shipment is %+v, not %+v", got, first)
	}
	_, err := c.GetByReference(ctx, "LAST")
	wantClass(t, err, sdk.NotFound, "reference")
	for range 2 {
		if got := must[*carrier.Shipped](t)(c.Ship(ctx, munich("LAST"))); !reflect.DeepEqual(got, last) {
			t.Errorf("shipped again as %+v, not %+v", got, last)
		}
	}
	after := must[[]byte](t)(os.ReadFile(bookFile(dir)))
	if n := bytes.Count(after, []byte(`"reference":"LAST"`)); n != 1 {
		t.Errorf("the last shipment stands %d times in the book", n)
	}
}

// What is whole and cannot be read was answered once, and is not to be passed over.
func TestARecordThatSaysNothingIsRefused(t *testing.T) {
	for body, want := range map[string]string{
		`{}`:                                   "says nothing",
		`{"voided":"A","time":"yesterday"}`:    "it is no record of version 1",
		`{"voided":"A","colour":"red"}`:        "colour",
		`{"voided":"A","manifest":{}}`:         "more than one thing",
		`{"shipment":{"reference":"A"}}`:       "says nothing",
		`{"shipment":{"reference":{"A":"A"}}}`: "it is no record of version 1",
	} {
		dir := t.TempDir()
		b := must[*book.Book](t)(book.Open(book.Config{Dir: dir, Name: bookName, Kind: "carrier-zone", Version: 1, Log: silent},
			func(*book.Record) error { return nil }))
		must[book.Place](t)(b.Append(1, []byte(body)))
		b.Close()
		before := must[[]byte](t)(os.ReadFile(bookFile(dir)))
		err := New(silent).Configure(ctx, sdk.Settings{setTables: "testdata/tables", setState: dir})
		wantClass(t, err, sdk.Validation, setState)
		if err == nil || !strings.Contains(err.Error(), "record 2 at byte") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want the place and %q", body, err, want)
		}
		if after := must[[]byte](t)(os.ReadFile(bookFile(dir))); !bytes.Equal(after, before) {
			t.Errorf("%s: the refused file was changed", body)
		}
	}
}

// TestRecordsKeepWhatAnswersAreMadeOf fills all that the book keeps, writes and reads it.
func TestRecordsKeepWhatAnswersAreMadeOf(t *testing.T) {
	var p shipmentRecord
	var q pickupRecord
	var m manifestRecord
	for _, r := range []any{&p, &q, &m} {
		sdktest.Fill(r, sdktest.Full)
	}
	if got := recordOf(p.bought()); !reflect.DeepEqual(got, &p) {
		t.Errorf("a shipment\n%+v\nbecame\n%+v", &p, got)
	}
	if got := pickupRecordOf(q.collection()); !reflect.DeepEqual(got, &q) {
		t.Errorf("a pickup\n%+v\nbecame\n%+v", &q, got)
	}
	for _, l := range []*line{{Bought: p.bought()}, {Pickup: q.collection()}, {Voided: "A"},
		{Manifest: &closed{m.Reference, m.Date, m.Shipments, m.Digest, m.Number, m.Parcels}}} {
		l.Time = noon
		text, err := encodeLine(l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeLine(&book.Record{Version: recordVersion, Body: text})
		if diff := sdktest.Diff(got, l); err != nil || diff != "" {
			t.Errorf("%s is read back otherwise: %s, %v", text, diff, err)
		}
	}
	// All of a price and all of a pickup are kept; of a shipment and an address what is printed.
	var rate carrier.Rate
	sdktest.Fill(&rate, sdktest.Full)
	of := rateRecordOf(&rate)
	if diff := sdktest.Diff(of.rate(), rate); diff != "" {
		t.Errorf("of a price the book lacks something: %s", diff)
	}
}

func TestAfterAFailingDiskNothingIsAnswered(t *testing.T) {
	dir, d, exits := t.TempDir(), &disk{}, 0
	c := New(silent)
	d.under(c)
	c.exit = func(int) { exits++ }
	s := sdk.Settings{setTables: "testdata/tables", setState: dir}
	if err := c.Configure(ctx, s); err != nil {
		t.Fatal(err)
	}
	before := must[*carrier.Shipped](t)(c.Ship(ctx, munich("BEFORE")))
	d.failSync = true
	_, err := c.Ship(ctx, munich("DURING"))
	wantClass(t, err, sdk.UnknownOutcome, "")
	d.failSync = false
	if exits != 1 {
		t.Errorf("the process was ended %d times", exits)
	}
	for _, reference := range []string{"BEFORE", "DURING"} { // never NotFound, which would say that it was surely not bought
		_, err := c.GetByReference(ctx, reference)
		wantClass(t, err, sdk.Unavailable, "")
		_, err = c.Ship(ctx, munich(reference))
		wantClass(t, err, sdk.Unavailable, "")
	}
	c.Close()
	c = start(t, dir)
	if got := must[*carrier.Shipped](t)(c.GetByReference(ctx, "BEFORE")); got.Shipment != before.Shipment {
		t.Errorf("what was shipped before is %+v, not %+v", got, before)
	}
	must[*carrier.Shipped](t)(c.GetByReference(ctx, "DURING")) // the file has it; it could as well be missing
	must[*carrier.Shipped](t)(c.Ship(ctx, munich("AFTER")))
}

func TestAnEntryThatIsTooLongIsNotWritten(t *testing.T) {
	c := start(t, t.TempDir())
	s := munich("HUGE")
	s.Order = strings.Repeat("x", book.MaxBody)
	_, err := c.Ship(ctx, s)
	wantClass(t, err, sdk.Validation, "")
	must[*carrier.Shipped](t)(c.Ship(ctx, munich("SMALL")))
}

const dyingDir = "ZONE_TEST_DYING_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(dyingDir); dir != "" {
		c, d := New(silent), &disk{}
		d.under(c)
		if err := c.Configure(context.Background(), sdk.Settings{setTables: "testdata/tables", setState: dir, setName: "Crosstown"}); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		d.onSync = func() {
			self, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = self.Kill()
			}
			if err == nil {
				select {} // until it takes effect
			}
		}
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

// FuzzRecord feeds the reader of records what a book may hold.
func FuzzRecord(f *testing.F) {
	for _, l := range []*line{{Voided: "A"}, {Bought: &bought{Shipment: *munich("A"), Tracking: []string{"Z"}, SSCC: []string{""}}}} {
		text, err := encodeLine(l)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := decodeLine(&book.Record{Version: recordVersion, Body: text})
		if err != nil {
			return
		}
		again, err := encodeLine(l)
		if err != nil {
			return // a year that has no text, say
		}
		other, err := decodeLine(&book.Record{Version: recordVersion, Body: again})
		if diff := sdktest.Diff(other, l); err != nil || diff != "" {
			t.Fatalf("%q was read back otherwise: %s, %v", text, diff, err)
		}
	})
}
