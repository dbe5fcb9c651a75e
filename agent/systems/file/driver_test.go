package filedriver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/systemstest"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// folder is the foreign system: somebody who drops CSV files and reads deliveries.
type folder struct {
	dir   string
	mu    sync.Mutex
	files int
	rows  int
	after func()
	order []string // deliveries, as they were first seen
}

var _ systemstest.Foreign = (*folder)(nil)

func (f *folder) Effects() []systemstest.Effect {
	names, _ := filepath.Glob(filepath.Join(f.dir, OutFolder, "*.json"))
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range names {
		if !slices.Contains(f.order, name) {
			f.order = append(f.order, name)
		}
	}
	var out []systemstest.Effect
	for _, name := range f.order {
		content, _ := os.ReadFile(name)
		e, err := event.Unmarshal(bytes.TrimSpace(content))
		if err != nil {
			panic(err) // a part of a file was seen
		}
		out = append(out, systemstest.Effect{Key: "idem-" + e.ID, Body: string(content)})
	}
	return out
}

func (f *folder) Offer(t *testing.T, n int) {
	text := "id;qty\n"
	for range n {
		f.rows++
		text += fmt.Sprintf("%d;%d\n", f.rows, f.rows*10)
	}
	f.files++
	drop(t, f.dir, fmt.Sprintf("orders-%d.csv", f.files), text)
}

func drop(t *testing.T, dir, name, content string) {
	t.Helper()
	temp := filepath.Join(dir, "."+name)
	if err := os.WriteFile(temp, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

func (f *folder) Unconfirmed(*testing.T) int {
	n := 0
	for _, pattern := range []string{"*.csv", WorkFolder + "/*.csv"} {
		names, _ := filepath.Glob(filepath.Join(f.dir, pattern))
		for _, name := range names {
			content, _ := os.ReadFile(name)
			n += max(0, bytes.Count(content, []byte("\n"))-1)
		}
	}
	return n
}

func (f *folder) Fault(t *testing.T, fault systemstest.Fault) bool {
	away := f.dir + ".away"
	switch fault {
	case systemstest.None:
		if _, err := os.Stat(away); err == nil {
			if err := os.Rename(away, f.dir); err != nil {
				t.Fatal(err)
			}
		}
	case systemstest.Refuse:
		if err := os.Rename(f.dir, away); err != nil {
			t.Fatal(err)
		}
	default:
		return false
	}
	return true
}

func (f *folder) AfterEffect(after func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.after = after
}

func (f *folder) hook() {
	f.mu.Lock()
	after := f.after
	f.after = nil
	f.mu.Unlock()
	if after != nil {
		after()
	}
}

func system(dir string) *policy.System {
	return &policy.System{Meta: policy.Meta{Name: "wms"}, File: &policy.FileDriver{
		Directory: dir,
		Publish:   &policy.FilePublish{Pattern: "*.csv", Format: "csv", Type: "order.captured.v1", Interval: 2 * time.Millisecond},
		Deliver:   &policy.FileDeliver{},
	}}
}

func open(t *testing.T, sys *policy.System) *Driver {
	t.Helper()
	d, err := New(sys, systems.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestContract(t *testing.T) {
	foreign := &folder{dir: filepath.Join(t.TempDir(), "drop")}
	if err := os.Mkdir(foreign.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	both := []systems.Operation{systems.OpPublish, systems.OpDeliver}
	systemstest.Run(t, systemstest.Fixture{Foreign: foreign, Operations: both, Open: func(t *testing.T) systems.Driver {
		d := open(t, system(foreign.dir))
		d.afterEffect = foreign.hook
		return d
	}})
}

// take runs rounds until the drop and work folders are empty, and gives what was emitted.
func take(t *testing.T, sys *policy.System, emit func([]*event.Event) error) []*event.Event {
	t.Helper()
	var got []*event.Event
	d, seen := open(t, sys), map[string]stamp{}
	for range 3 {
		next, err := d.round(t.Context(), seen, func(_ context.Context, events []*event.Event) error {
			if emit != nil {
				if err := emit(events); err != nil {
					return err
				}
			}
			got = append(got, events...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		seen = next
	}
	return got
}

func read(t *testing.T, dir string, name ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{dir}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestMapAndEnvelope(t *testing.T) {
	dir := t.TempDir()
	sys := system(dir)
	m, err := expr.Compile(`{orderId: .id, qty: (.qty|tonumber)}`)
	if err != nil {
		t.Fatal(err)
	}
	sys.File.Publish.Map = m
	drop(t, dir, "a b.csv", "\xef\xbb\xbfid,qty\nA,1\n\"B\nC\",2\n")
	at := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(dir, "a b.csv"), at, at); err != nil {
		t.Fatal(err)
	}
	got := take(t, sys, nil)
	if len(got) != 2 {
		t.Fatalf("got %d events, want 2", len(got))
	}
	e := got[1]
	if want := `{"orderId":"B\nC","qty":2}`; string(e.Data) != want {
		t.Errorf("got data %s, want %s", e.Data, want)
	}
	if !strings.HasSuffix(e.ID, "-3") || e.Source != "file:wms/a%20b.csv" || e.Type != "order.captured.v1" || !e.Time.Equal(at) {
		t.Errorf("got id %s source %s type %s time %s", e.ID, e.Source, e.Type, e.Time)
	}
	read(t, dir, ProcessedFolder, "a b.csv")
	drop(t, dir, "a b.csv", "\xef\xbb\xbfid,qty\nA,1\n\"B\nC\",2\n")
	if again := take(t, sys, nil); len(again) != 2 || again[1].Hash() != e.Hash() {
		t.Error("the same content dropped again did not give the same events")
	}
}

func TestRejectedWhole(t *testing.T) {
	many := "id\n" + strings.Repeat("x\n", 1500)
	for _, c := range []struct{ name, format, content, want string }{
		{"columns", "csv", "a,b\n1,2\n1,2,3\n4\n", "record at 3: 3 columns, the header has 2"},
		{"columns too", "csv", "a,b\n1,2\n1,2,3\n4\n", "record at 4: 1 columns, the header has 2"},
		{"quote", "csv", "a,b\n1,\"2\n", "record at 2"},
		{"twice", "csv", "a,a\n1,2\n", `two columns are named "a"`},
		{"empty", "csv", "", "the file is empty"},
		{"latin1", "csv", "a\nok\nM\xfcller\n", "line 3 is not UTF-8"},
		{"line", "jsonl", "{\"a\":1}\n\n{\"a\":\n", "record at 3: "},
		{"deep", "jsonl", strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", "64"},
		{"half", "json", `[{"a":1},{"a":2}`, "does not end"},
		{"tail", "json", `[{"a":1}] x`, "something follows"},
		{"none", "json", ``, "malformed JSON"},
		{"large", "jsonl", `"` + strings.Repeat("x", event.MaxSize) + `"`, "the limit of an event"},
		{"refused", "csv", many, "refused: no such contract"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			sys := system(dir)
			sys.File.Publish.Format = c.format
			drop(t, dir, "f.csv", c.content)
			got := take(t, sys, func(events []*event.Event) error {
				if c.name == "refused" {
					return permanent{}
				}
				return nil
			})
			if len(got) != 0 {
				t.Errorf("%d events were taken from a file with a fault", len(got))
			}
			if text := read(t, dir, RejectedFolder, "f.csv.error.txt"); !strings.Contains(text, c.want) {
				t.Errorf("got %q, want it to say %q", text, c.want)
			}
			if read(t, dir, RejectedFolder, "f.csv") != c.content {
				t.Error("the rejected file is not what was dropped")
			}
		})
	}
}

type permanent struct{}

func (permanent) Error() string   { return "no such contract" }
func (permanent) Permanent() bool { return true }
func (permanent) EventIndex() int { return 2 }

func TestRefusalNamesTheRecordAndWhatWasTaken(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "f.csv", "id\n"+strings.Repeat("x\n", maxBatch+10))
	batches := 0
	take(t, system(dir), func([]*event.Event) error {
		if batches++; batches == 2 {
			return permanent{}
		}
		return nil
	})
	text := read(t, dir, RejectedFolder, "f.csv.error.txt")
	for _, want := range []string{"record at 1004: refused", "records at 2 to 1001 were taken before"} {
		if !strings.Contains(text, want) {
			t.Errorf("got %q, want %q", text, want)
		}
	}
}

func TestTemporaryRefusalKeepsTheFile(t *testing.T) {
	dir := t.TempDir()
	drop(t, dir, "f.csv", "id\nx\n")
	d := open(t, system(dir))
	full := func(context.Context, []*event.Event) error { return errors.New("queue full") }
	seen, err := d.round(t.Context(), nil, full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.round(t.Context(), seen, full); err == nil {
		t.Error("a round whose events were not taken says it is well")
	}
	read(t, dir, WorkFolder, "f.csv")
	if got := take(t, system(dir), nil); len(got) != 1 {
		t.Errorf("got %d events later, want 1", len(got))
	}
}

func TestGrowingFileWaits(t *testing.T) {
	dir := t.TempDir()
	d, seen := open(t, system(dir)), map[string]stamp{}
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(dir, "f.csv"), []byte("id\n"+strings.Repeat("x\n", i+1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if seen, err = d.round(t.Context(), seen, func(context.Context, []*event.Event) error {
			t.Error("a file was taken while it grew")
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got := take(t, system(dir), nil); len(got) != 5 {
		t.Errorf("got %d events, want 5", len(got))
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	for _, content := range []string{"id\n1\n", "id\n2\n", "id\n3\n"} {
		drop(t, dir, "f.csv", content)
		take(t, system(dir), nil)
	}
	for _, content := range []string{"id\n\"\n", "id\nx\"\n", "id\nyy\"\n"} {
		drop(t, dir, "bad.csv", content)
		take(t, system(dir), nil)
	}
	for pattern, want := range map[string]int{"processed/f*.csv": 3, "rejected/bad*.csv": 3, "rejected/*.error.txt": 3} {
		if names, _ := filepath.Glob(filepath.Join(dir, pattern)); len(names) != want {
			t.Errorf("%s: got %v, want %d files", pattern, names, want)
		}
	}
}

func TestLinksDoNotLeadOut(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege there")
	}
	outside, dir := t.TempDir(), t.TempDir()
	drop(t, outside, "secret.csv", "id\ncanary\n")
	if err := os.Symlink(filepath.Join(outside, "secret.csv"), filepath.Join(dir, "a.csv")); err != nil {
		t.Fatal(err)
	}
	if got := take(t, system(dir), nil); len(got) != 0 {
		t.Errorf("a link out of the directory gave %d events", len(got))
	}
	if err := os.Symlink(outside, filepath.Join(dir, OutFolder)); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, system(dir)).Deliver(t.Context(), systemstest.NewDelivery("x"))
	if systems.ClassOf(err) != systems.Misconfigured {
		t.Errorf("delivery through a link: got %v, want misconfigured", err)
	}
	if names, _ := filepath.Glob(filepath.Join(outside, "*.json")); len(names) != 0 {
		t.Errorf("a delivery was written outside: %v", names)
	}
}

// Who opened the file of the first attempt reads it to its end, whatever the repeat writes;
// after both there is one file.
func TestRepeatReplacesInOneStep(t *testing.T) {
	dir := t.TempDir()
	d, del := open(t, system(dir)), systemstest.NewDelivery("x")
	if _, err := d.Deliver(t.Context(), del); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, OutFolder)
	first, reader := read(t, out, "idem-x.json"), filepath.Join(dir, "reader")
	if err := os.Link(filepath.Join(out, "idem-x.json"), reader); err != nil {
		t.Fatal(err)
	}
	del.Data = []byte(`{"remapped":true}`)
	if err := os.WriteFile(filepath.Join(out, ".idem-x.json.tmp"), []byte("left behind"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Deliver(t.Context(), del); err != nil {
		t.Fatal(err)
	}
	if read(t, dir, "reader") != first {
		t.Error("the repeat wrote into the file that was there")
	}
	entries, err := os.ReadDir(out)
	if err != nil || len(entries) != 1 || !strings.Contains(read(t, out, "idem-x.json"), "remapped") {
		t.Errorf("got %v %v, want the one file of the repeat", entries, err)
	}
}

func TestDeliveryNameIsOnlyAName(t *testing.T) {
	dir := t.TempDir()
	del := systemstest.NewDelivery("x")
	for _, key := range []string{"../../up", "a/b", "", "NUL", strings.Repeat("k", 500), "\x00"} {
		del.IdempotencyKey = key
		if _, err := open(t, system(dir)).Deliver(t.Context(), del); err != nil && runtime.GOOS != "windows" {
			t.Errorf("key %q: %v", key, err)
		}
	}
	names, _ := filepath.Glob(filepath.Join(dir, OutFolder, "*"))
	if all, _ := filepath.Glob(filepath.Join(dir, OutFolder, "*.json")); len(names) != len(all) || len(all) < 5 {
		t.Errorf("got files %v", names)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*policy.FileDriver){
		"relative directory": func(f *policy.FileDriver) { f.Directory = "drop" },
		"climbing pattern":   func(f *policy.FileDriver) { f.Publish.Pattern = "../*.csv" },
		"own folder":         func(f *policy.FileDriver) { f.Publish.Pattern = "processed/*.csv" },
		"bad pattern":        func(f *policy.FileDriver) { f.Publish.Pattern = "[" },
		"format":             func(f *policy.FileDriver) { f.Publish.Format = "xls" },
		"climbing out":       func(f *policy.FileDriver) { f.Deliver.Folder = "../x" },
		"out is in":          func(f *policy.FileDriver) { f.Publish.Pattern, f.Deliver.Folder = "in/*.csv", "in" },
		"out is work":        func(f *policy.FileDriver) { f.Deliver.Folder = "work" },
	} {
		sys := system(t.TempDir())
		change(sys.File)
		if _, err := New(sys, systems.Options{}); systems.ClassOf(err) != systems.Misconfigured {
			t.Errorf("%s: got %v, want misconfigured", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "a;b\n\"x\ny\";2\n", "{\"a\":1}\n[1]\n", "[{\"a\":1},2]", "\xef\xbb\xbfa\tb\n", "a,\"b\n", "\xff", "[", "\r\n\r\na\n\n"} {
		for format := range parsers {
			f.Add(format, []byte(seed))
		}
	}
	f.Fuzz(func(t *testing.T, format string, content []byte) {
		if parsers[format] == nil {
			return
		}
		found := parse(format, content)
		last := 0
		for _, r := range found.records {
			if err := event.CheckJSON(r.data); err != nil {
				t.Fatalf("record at %d is not JSON: %v: %q", r.place, err, r.data)
			}
			if r.place <= last {
				t.Fatalf("two records at %d: their events would have one id", r.place)
			}
			last = r.place
		}
		if len(found.faults) > maxFaults+1 {
			t.Fatalf("%d faults", len(found.faults))
		}
	})
}

func TestFormatsAndFolder(t *testing.T) {
	for _, c := range []struct {
		format, content string
		want            []string
	}{
		{"json", ` {"a": 1.10} `, []string{`{"a": 1.10}`}},
		{"json", `[{"a":1},"x"]`, []string{`{"a":1}`, `"x"`}},
		{"json", `[]`, nil},
		{"jsonl", "{\"a\":1}\r\n\r\n{\"a\":2}", []string{`{"a":1}`, `{"a":2}`}},
		{"csv", "b\ta\nx\t<&>\n", []string{`{"b":"x","a":"<&>"}`}},
		{"csv", "a\n", nil},
	} {
		dir := t.TempDir()
		sys := system(dir)
		sys.File.Publish.Pattern, sys.File.Publish.Format = "in/*.txt", c.format
		if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		drop(t, filepath.Join(dir, "in"), "f.txt", c.content)
		var got []string
		for _, e := range take(t, sys, nil) {
			got = append(got, string(e.Data))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %q: got %q, want %q", c.format, c.content, got, c.want)
		}
		read(t, dir, ProcessedFolder, "f.txt")
	}
}

// No document makes the agent's own directories a drop folder or a place for deliveries.
func TestPrivateDirectories(t *testing.T) {
	top := t.TempDir()
	data, free := filepath.Join(top, "agent"), filepath.Join(top, "free")
	for _, dir := range []string{filepath.Join(data, "identity"), free} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	try := func(directory, folder string) error {
		d, err := New(&policy.System{Meta: policy.Meta{Name: "dms"}, File: &policy.FileDriver{Directory: directory, Deliver: &policy.FileDeliver{Folder: folder}}},
			systems.Options{Private: []string{data}})
		if err != nil {
			t.Fatal(err)
		}
		root, err := d.open()
		if err == nil {
			return root.Close()
		}
		return err
	}
	for _, c := range []struct {
		directory, folder string
		ok                bool
	}{
		{free, "out", true}, {top, "free/out", true}, {data, "out", false}, {filepath.Join(data, "identity"), "out", false}, {top, "agent", false}, {top, "agent/new", false},
		{free + "/../agent", "out", false},
	} {
		if err := try(c.directory, c.folder); (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "the agent's own") {
			t.Errorf("%s, %s: %v", c.directory, c.folder, err)
		}
	}
}
