package zone

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// aged is a book with four old shipments, one of them voided, and two of two years later, one
// of them voided.
func aged(t *testing.T) (dir string, settings sdk.Settings, now time.Time) {
	t.Helper()
	dir = t.TempDir()
	c := start(t, dir)
	settings = sdk.Settings{setTables: "testdata/tables", setState: dir}
	now = noon
	c.now = func() time.Time { return now }
	for i := range 6 {
		if i == 4 {
			now = now.AddDate(2, 0, 0)
		}
		must[*carrier.Shipped](t)(c.Ship(ctx, munich(fmt.Sprint("S-", i))))
		if i == 0 || i == 4 {
			must[*carrier.Voided](t)(c.Void(ctx, &carrier.VoidRequest{Reference: fmt.Sprint("S-", i)}))
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, settings, now
}

// remembered tells which of the shipments are found, a V for the voided ones.
func remembered(t *testing.T, settings sdk.Settings, now time.Time) string {
	t.Helper()
	c := New(silent)
	c.now = func() time.Time { return now }
	if err := c.Configure(ctx, settings); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	out := ""
	for i := range 6 {
		got, err := c.GetByReference(ctx, fmt.Sprint("S-", i))
		switch {
		case err != nil && sdk.ClassOf(err) != sdk.NotFound:
			t.Fatal(err)
		case err == nil && got.Voided:
			out += "V"
		case err == nil:
			out += "y"
		default:
			out += "-"
		}
	}
	return out
}

func TestTheBookForgetsWhatIsOld(t *testing.T) {
	dir, settings, now := aged(t)
	name := bookFile(dir)
	if got := remembered(t, settings, now); got != "Vyyy"+"Vy" {
		t.Errorf("within the days that are kept: %s", got)
	}
	before := must[os.FileInfo](t)(os.Stat(name)).Size()
	// What a crash left half written is in nobody's way.
	next := filepath.Join(dir, bookName+".new")
	if err := os.WriteFile(next, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings[setKeep] = "400"
	for range 2 {
		if got := remembered(t, settings, now); got != "----"+"Vy" {
			t.Errorf("after them: %s", got)
		}
	}
	if after := must[os.FileInfo](t)(os.Stat(name)).Size(); after >= before/2 {
		t.Errorf("the book had %d bytes and has %d", before, after)
	}
	if _, err := os.Stat(next); !os.IsNotExist(err) {
		t.Errorf("the new file is still there: %v", err)
	}
	c := start(t, dir)
	must[*carrier.Shipped](t)(c.Ship(ctx, munich("S-0"))) // the reference and the number are free again
}

func TestAClockAheadDoesNotClearTheBook(t *testing.T) {
	_, settings, now := aged(t)
	if got := remembered(t, settings, now.AddDate(50, 0, 0)); got != "Vyyy"+"Vy" {
		t.Errorf("fifty years ahead: %s", got)
	}
}
