package policy

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/txtar"
	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/protocol/contract"
)

var update = flag.Bool("update", false, "write the messages that are seen into testdata/problems")

func good(t testing.TB) Bundle {
	t.Helper()
	b, err := ReadBundle(os.DirFS("testdata/good"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func compileGood(t testing.TB) *Set {
	t.Helper()
	set, problems := Compile(good(t))
	if len(problems) > 0 || set == nil {
		t.Fatalf("the good policy has problems:\n%s", problems.Error())
	}
	return set
}

func TestCompileGood(t *testing.T) {
	s := compileGood(t)
	erp := s.Systems["erp"]
	if erp.Delivery != (Limits{Concurrency: 4, Batch: 1, Rate: 100, Timeout: 5 * time.Second, Breaker: Breaker{3, 2 * time.Second}}) {
		t.Errorf("limits of erp: got %+v", erp.Delivery)
	}
	if d := erp.HTTP.Deliver; d == nil || *d != (HTTPCall{Method: "POST", Path: "/events", Envelope: "binary"}) {
		t.Errorf("deliver of erp: got %+v", d)
	}
	if q := erp.HTTP.Query["credit"]; q != (HTTPCall{Method: "GET", Path: "/customers/{customer}/credit"}) {
		t.Errorf("query of erp: got %+v", q)
	}
	if o := erp.HTTP.Auth.OAuth2; o == nil || o.ClientSecret != "file:erp" || o.TokenURL != "https://login.example.com/token" || len(o.Scopes) != 1 {
		t.Errorf("auth of erp: got %+v", o)
	}
	if p := erp.HTTP.Snapshot["order.captured"]; p.Path != "/orders" || p.Items.Source() != ".orders" || p.Next.Source() != ".next" {
		t.Errorf("snapshot of erp: got %+v", p)
	}
	if f := erp.HTTP.Publish; *f != (HTTPFeed{"/outbox", "/outbox/confirm", 2 * time.Second}) {
		t.Errorf("publish of erp: got %+v", f)
	}
	if wms := s.Systems["wms-eu"]; wms.Delivery.Concurrency != 8 || wms.File.Deliver.Folder != "in" || wms.File.Publish.Interval != 2*time.Second {
		t.Errorf("wms-eu: got %+v %+v", wms.Delivery, wms.File)
	}
	if shop := s.Systems["shop-eu"]; shop.Intake != (Intake{"env:SHOP_TOKEN", 50, 100}) || shop.CanDeliver() || !shop.MayPublish("order.captured") {
		t.Errorf("shop-eu: got %+v", shop)
	}
	r, ok := s.Route("orders-to-erp")
	if !ok || r.OnExhausted != "skip" || r.Retry != (Retry{2 * time.Second, time.Minute, 10}) || len(r.To) != 3 || !r.To[2].Shadow || r.To[0].Map == nil {
		t.Errorf("orders-to-erp: got %+v", r)
	}
	if d, _ := s.Route("dispatches"); d.OnExhausted != "park" || d.Retry != (Retry{time.Second, 5 * time.Minute, 30}) || d.When != nil {
		t.Errorf("dispatches: got %+v", d)
	}
	if j := s.Journeys["order"]; len(j.Milestones) != 3 || j.Milestones[2].Within != 72*time.Hour || j.Milestones[1].After != "captured" {
		t.Errorf("journey: got %+v", j)
	}
	if c := s.Contracts["order.captured"]; c.Latency != 5*time.Minute || c.Labels["area"] != "sales" || c.File != "contracts.yaml" || c.Line != 2 || len(c.Versions) != 3 {
		t.Errorf("order.captured: got %+v", c)
	}
	var names []string
	for _, system := range s.SystemsAt("porto") {
		names = append(names, system.Name)
	}
	if fmt.Sprint(names) != "[shop-eu wms-eu]" || s.SystemsAt("nowhere") != nil {
		t.Errorf("systems at porto: got %v", names)
	}
	if got := s.RoutesFor("order.captured.v1"); len(got) != 1 || got[0] != r {
		t.Errorf("routes for order.captured.v1: got %v", got)
	}
}

func TestResolve(t *testing.T) {
	s := compileGood(t)
	for _, tt := range []struct {
		eventType, schema, want string
		state                   contract.State
		err                     error
	}{
		{"order.captured.v1", "", "1.1.0", contract.Active, nil},
		{"order.captured.v1", "crossdock:order.captured/1.0.0", "1.0.0", contract.Deprecated, nil},
		{"order.captured.v1", "crossdock:order.captured/1.2.0", "", "", ErrNotActive},
		{"order.captured.v1", "crossdock:order.captured/9.0.0", "", "", ErrUnknownContract},
		{"order.captured.v1", "crossdock:order.accepted/2.0.0", "", "", ErrUnknownContract},
		{"order.captured.v1", "https://example.com/s", "", "", ErrUnknownContract},
		{"order.captured.v2", "", "", "", ErrUnknownContract},
		{"order.captured", "", "", "", ErrUnknownContract},
		{"order.captured.v01", "", "", "", ErrUnknownContract},
		{"order.accepted.v1", "", "", "", ErrRetired},
		{"order.accepted.v1", "crossdock:order.accepted/1.0.0", "", "", ErrRetired},
		{"order.accepted.v2", "", "2.0.0", contract.Active, nil},
	} {
		c, v, err := s.Resolve(tt.eventType, tt.schema)
		if !errors.Is(err, tt.err) || err == nil && (v.Semver != tt.want || v.State != tt.state || c == nil) {
			t.Errorf("%s %s: got %v, %v, want %s %v", tt.eventType, tt.schema, v, err, tt.want, tt.err)
		}
	}
}

func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b := good(t)
			for _, f := range archive.Files {
				b[f.Name] = f.Data
			}
			set, problems := Compile(b)
			if set != nil {
				t.Error("a set came with errors")
			}
			got := problems.Error() + "\n"
			if *update {
				archive.Comment = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := strings.ReplaceAll(string(archive.Comment), "\r\n", "\n"); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			for _, secret := range []string{"hunter2", "s3cr3t", "whsec_abc", "me:pass", "canary"} {
				if strings.Contains(got, secret) {
					t.Errorf("a message repeats the secret %s", secret)
				}
			}
		})
	}
}

func TestBatch(t *testing.T) {
	for text, want := range map[string]int{"{}": 1, "{batch: 1}": 1, "{batch: 64}": 64, "{batch: 1000}": 1000} {
		b := good(t)
		b["x.yaml"] = []byte("apiVersion: crossdock/v1\nkind: System\nmetadata: {name: crm}\nspec: {owner: o, site: hq, delivery: " + text +
			", http: {url: 'https://crm', deliver: {path: /events}}}\n")
		set, problems := Compile(b)
		if set == nil {
			t.Fatalf("%s: %s", text, problems.Error())
		}
		if l := set.Systems["crm"].Delivery; l.Batch != want || l.InBatches() != (want > 1) {
			t.Errorf("%s: got %d, in batches %t; want %d", text, l.Batch, l.InBatches(), want)
		}
	}
}

func TestCompileIsIndependentOfLayout(t *testing.T) {
	b := good(t)
	moved := Bundle{}
	for name, content := range b {
		if documentFile(name) {
			name = "z/" + name
		}
		moved[name] = content
	}
	set, problems := Compile(moved)
	if set == nil {
		t.Fatal(problems.Error())
	}
	if set.Digest == compileGood(t).Digest {
		t.Error("moving a file did not change the digest")
	}
	if changes := Diff(nil, nil, b, moved); len(changes) != 0 {
		t.Errorf("moving files changed documents: %v", changes)
	}
}

func TestLimits(t *testing.T) {
	b := good(t)
	b["big.json"] = make([]byte, MaxFile+1)
	if set, problems := Compile(b); set != nil || !strings.Contains(problems.Error(), "big.json:1:1: error: the file has") {
		t.Errorf("a big file: got %v", problems)
	}
	b = good(t)
	b["../x.yaml"] = nil
	if set, problems := Compile(b); set != nil || !strings.Contains(problems.Error(), "path is not valid") {
		t.Errorf("a path outside: got %v", problems)
	}
	if set, problems := Compile(Bundle{}); set != nil || !strings.Contains(problems.Error(), "no documents") {
		t.Errorf("nothing: got %v", problems)
	}
	for name, text := range map[string]string{
		"flow":  "a: " + strings.Repeat("[", 500_000),
		"block": strings.Repeat("- ", 500_000),
		"lines": deepLines(1000),
		"tags":  strings.Repeat("!a ", 300_000),
	} {
		b = good(t)
		b["deep.yaml"] = []byte(text)
		if set, problems := Compile(b); set != nil || !problems.Failed() {
			t.Errorf("%s: deep YAML was taken", name)
		}
	}
}

func deepLines(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestReadBundle(t *testing.T) {
	b, err := ReadBundle(fstest.MapFS{
		"a.yaml": {Data: []byte("x")}, "d/m.jq": {Data: []byte(".")}, ".git/c.yaml": {Data: []byte("x")},
		".hidden.yaml": {Data: []byte("x")}, "README.md": {Data: []byte("x")}, "s.json": {Data: []byte("{}")},
	})
	if err != nil || fmt.Sprint(slices.Sorted(maps.Keys(b))) != "[a.yaml d/m.jq s.json]" {
		t.Errorf("got %v, %v", b, err)
	}
	if _, err := ReadBundle(fstest.MapFS{"a.yaml": {Data: make([]byte, MaxFile+1)}}); !errors.Is(err, ErrBundle) {
		t.Errorf("too long a file: got %v", err)
	}
	if _, err := ReadBundle(fstest.MapFS{"a.txt": {}}); !errors.Is(err, ErrBundle) {
		t.Errorf("nothing to read: got %v", err)
	}
}

func TestBundleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Bundle{}
		for name, content := range rapid.MapOf(rapid.StringMatching(`[a-z]{1,3}(/[a-z]{1,3})?\.(yaml|jq)`), rapid.SliceOf(rapid.Byte())).Draw(t, "bundle") {
			b[name] = content
		}
		text := b.Encode()
		back, err := DecodeBundle(text)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(b, back, bytes.Equal) {
			t.Fatalf("got %v, want %v", back, b)
		}
		if !bytes.Equal(back.Encode(), text) || back.Digest() != b.Digest() {
			t.Fatal("not the same bytes, or digest, again")
		}
	})
}

func TestDigestSeesEverything(t *testing.T) {
	a := Bundle{"a": []byte("bc"), "d": nil}
	for name, other := range map[string]Bundle{
		"content": {"a": []byte("bd"), "d": nil}, "path": {"e": []byte("bc"), "d": nil},
		"moved": {"a": []byte("b"), "cd": nil}, "removed": {"a": []byte("bc")},
	} {
		if a.Digest() == other.Digest() {
			t.Errorf("%s: the digest is the same", name)
		}
	}
}

func TestDecodeBundleRefuses(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	pack := func(plain []byte) []byte { return enc.EncodeAll(plain, bytes.Clone(bundleMagic)) }
	file := func(name string, size int) []byte {
		out := binary.AppendUvarint(nil, uint64(len(name)))
		out = binary.AppendUvarint(append(out, name...), uint64(size))
		return append(out, make([]byte, size)...)
	}
	for name, text := range map[string][]byte{
		"empty":        nil,
		"foreign":      []byte("hello, world"),
		"no zstd":      append(bytes.Clone(bundleMagic), "xxxx"...),
		"bomb":         pack(make([]byte, 64<<20)),
		"too long":     make([]byte, MaxBundle+1),
		"big file":     pack(file("a.json", MaxFile+1)),
		"path outside": pack(file("../a", 1)),
		"absolute":     pack(file("/a", 1)),
		"order":        pack(append(file("b", 1), file("a", 1)...)),
		"twice":        pack(append(file("a", 1), file("a", 1)...)),
		"cut short":    pack(file("a", 9)[:5]),
	} {
		if b, err := DecodeBundle(text); !errors.Is(err, ErrBundle) {
			t.Errorf("%s: got %d files, %v, want ErrBundle", name, len(b), err)
		} else if name == "bomb" && !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			t.Errorf("%s: it was opened before it was refused: %v", name, err)
		}
	}
}

func TestDiff(t *testing.T) {
	a, b := good(t), good(t)
	replace := func(file, old, text string) {
		if !bytes.Contains(b[file], []byte(old)) {
			t.Fatalf("%s has no %s", file, old)
		}
		b[file] = bytes.ReplaceAll(b[file], []byte(old), []byte(text))
	}
	replace("routes.yaml", "attempts: 10", "attempts: 11")
	replace("routes.yaml", "when: '.region != \"na\"', ", "")
	replace("systems.yml", "name: erp-cloud", "name: erp-new")
	replace("maps/order.jq", "net:", "total:")
	var got []string
	for _, c := range Diff(nil, nil, a, b) {
		got = append(got, c.String())
	}
	want := []string{
		"removed System erp-cloud", "added System erp-new",
		"changed Route orders-to-erp: spec.retry.attempts, spec.to.0.map, spec.to.0.when",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if changes := Diff(nil, nil, nil, a); len(changes) != 12 || changes[0].Change != Added {
		t.Errorf("from nothing: got %v", changes)
	}
	if changes := Diff(nil, nil, a, a); len(changes) != 0 {
		t.Errorf("same: got %v", changes)
	}
}

func TestParseType(t *testing.T) {
	for text, want := range map[string]string{"order.captured.v1": "order.captured 1", "a.v10": "a 10", "a.v1.v2": "a.v1 2"} {
		name, major, ok := ParseType(text)
		if got := fmt.Sprintf("%s %d", name, major); !ok || got != want {
			t.Errorf("%s: got %s %v, want %s", text, got, ok, want)
		}
	}
	for _, bad := range []string{"", ".v1", "a.v", "a.v01", "a.v-1", "a.v+1", "a.vx", "a.v99999999999999999999"} {
		if _, _, ok := ParseType(bad); ok {
			t.Errorf("%q was taken", bad)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for name, content := range good(f) {
		if documentFile(name) {
			f.Add(content)
		}
	}
	files, _ := filepath.Glob("testdata/problems/*.txtar")
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, one := range archive.Files {
			f.Add(one.Data)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := Bundle{"x.yaml": text, "maps/order.jq": []byte("."), "a.json": []byte("{}")}
		set, problems := Compile(b)
		if (set == nil) != problems.Failed() {
			t.Fatalf("set %v with problems %v", set, problems)
		}
		for _, p := range problems {
			if p.Line < 1 || p.Message == "" {
				t.Fatalf("a problem without a place or a message: %+v", p)
			}
		}
		Diff(nil, nil, nil, b)
	})
}

func FuzzDecodeBundle(f *testing.F) {
	f.Add(good(f).Encode())
	f.Add([]byte("XDP1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := DecodeBundle(text)
		if err != nil {
			return
		}
		back, err := DecodeBundle(b.Encode())
		if err != nil && len(b.Encode()) <= MaxBundle || err == nil && back.Digest() != b.Digest() {
			t.Fatalf("what was read does not travel again: %v", err)
		}
	})
}

func BenchmarkResolve(b *testing.B) {
	s := compileGood(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := s.Resolve("order.captured.v1", ""); err != nil {
			b.Fatal(err)
		}
	}
}
