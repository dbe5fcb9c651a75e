package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// here is the one platform that is built in tests; a release is made the same way for all.
var here = platform{"linux", "amd64"}

// missingTool skips a test aloud, or fails it where nothing may be missing.
func missingTool(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("REQUIRE") == "all" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// built makes the programs of a version, without what they are packed in.
func built(t *testing.T, top, version string) *release {
	t.Helper()
	r := &release{top: top, out: t.TempDir(), stage: t.TempDir(), version: version, epoch: time.Unix(1_700_000_000, 0).UTC(),
		targets: []platform{here}, log: io.Discard}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if err := r.build(ctx, here); err != nil {
		t.Fatal(err)
	}
	return r
}

func sources(t *testing.T) string {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// copied is the tree in another folder, with other times and modes, as another machine has it.
func copied(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "elsewhere")
	cmd := exec.Command("git", "-C", sources(t), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(text), "\x00"), "\x00") {
		from := filepath.Join(sources(t), name)
		content, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		old := time.Unix(1_500_000_000, 0)
		if err := os.Chtimes(path, old, old); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// The same sources in another folder, with other times and modes, give the same programs, and
// with them the same bill of materials.
func TestSameSourcesGiveTheSamePrograms(t *testing.T) {
	t.Setenv("GOFLAGS", "-buildvcs=true") // the environment has no say
	var all [2]string
	for i, top := range []string{sources(t), copied(t)} {
		r := built(t, top, "v1.2.3")
		if err := r.materials(); err != nil {
			t.Fatal(err)
		}
		all[i] = sumsOf(t, r)
		program, err := os.ReadFile(filepath.Join(r.bin(here), "crossdock-agent"))
		if err != nil || !bytes.Contains(program, []byte("crossdock-release:v1.2.3:of-this-program")) {
			t.Errorf("the agent's file does not tell its version: %v", err)
		}
	}
	same(t, all, "linux-amd64/crossdock-agent", "linux-amd64/plugins/tax-table", "crossdock-1.2.3.cdx.json")
}

// What the programs are packed in is the same whenever it is made.
func TestSameProgramsGiveTheSamePackages(t *testing.T) {
	var all [2]string
	for i := range all {
		nextTick()
		r := pretended(t, here, "v1.2.3")
		if err := errors.Join(r.bundles(t.Context(), here), r.image(here), r.packages(here)); err != nil {
			t.Fatal(err)
		}
		all[i] = sumsOf(t, r)
	}
	same(t, all, "crossdock-agent-1.2.3-linux-amd64.tar.gz", "crossdock-agent_1.2.3_amd64.deb", "crossdock_1.2.3_amd64.deb",
		"crossdock-1.2.3-1.x86_64.rpm", "container/rootfs-amd64.tar.gz")
}

// nextTick returns when every clock that an archive may hold shows another time: that of zip
// goes by two seconds.
func nextTick() {
	const tick = 2 * time.Second
	time.Sleep(time.Until(time.Now().Truncate(tick).Add(tick)))
}

func sumsOf(t *testing.T, r *release) string {
	t.Helper()
	if err := r.sums(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(r.out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func same(t *testing.T, all [2]string, names ...string) {
	t.Helper()
	if all[0] != all[1] {
		t.Errorf("the first run:\n%s\nthe second:\n%s", all[0], all[1])
	}
	for _, name := range names {
		if !strings.Contains(all[0], "  "+name+"\n") {
			t.Errorf("no %s in\n%s", name, all[0])
		}
	}
}

func TestPackageVersions(t *testing.T) {
	epoch := time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)
	for _, c := range []struct{ version, pack, windows string }{
		{"v1.2.3", "1.2.3", "1.2.3"},
		{"v1.2", "1.2.0", "1.2.0"},
		{"v1.2.3-rc.1", "1.2.3~rc.1", "1.2.3"},
		{"v1.2.3-5-gabc1234", "1.2.3+5.gabc1234", "1.2.3"},
		{"v1.2.3-rc1-5-gabc1234-dirty", "1.2.3~rc1+5.gabc1234+dirty", "1.2.3"},
		{"c88b197", "0.0.0+20261126093000.c88b197", "0.0.16665"},
		{"c88b197-dirty", "0.0.0+20261126093000.c88b197.dirty", "0.0.16665"},
		{"12345678", "0.0.0+20261126093000.12345678", "0.0.16665"}, // a commit, and no number
	} {
		if got := packageVersion(c.version, epoch); got != c.pack {
			t.Errorf("%s: package version %s, want %s", c.version, got, c.pack)
		}
		if got, err := windowsVersion(c.version, epoch); got != c.windows || err != nil {
			t.Errorf("%s: Windows version %s, %v, want %s", c.version, got, err, c.windows)
		}
	}
	if got, err := windowsVersion("v300.1.2", epoch); err == nil {
		t.Errorf("v300.1.2 became %s, which Windows Installer does not take", got)
	}
}

// dpkg itself says that versions come in the order of their commits.
func TestPackageVersionsAreOrdered(t *testing.T) {
	dpkg, err := exec.LookPath("dpkg")
	if err != nil {
		missingTool(t, "dpkg is missing: apt-get install dpkg")
	}
	epoch := time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)
	ordered := []string{packageVersion("ffffff1", epoch), packageVersion("0000001", epoch.Add(time.Second)), packageVersion("v0.1.0", epoch),
		packageVersion("v1.2.3-rc.1", epoch), packageVersion("v1.2.3", epoch), packageVersion("v1.2.3-5-gabc1234", epoch),
		packageVersion("v1.2.3-10-gabc1234", epoch), packageVersion("v1.2.4-rc.1", epoch)}
	for i := range ordered[1:] {
		if err := exec.Command(dpkg, "--compare-versions", ordered[i], "lt", ordered[i+1]).Run(); err != nil {
			t.Errorf("%s is not before %s: %v", ordered[i], ordered[i+1], err)
		}
	}
}

// A folder that holds anything is not written to, and what cannot be made is said.
func TestNothingIsWrittenOver(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-top", sources(t), "-out", dir, "-version", "v1.2.3"}, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
}

func TestArchivesSayNothingOfTheMachine(t *testing.T) {
	dir := t.TempDir()
	from := filepath.Join(dir, "program")
	if err := os.WriteFile(from, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	epoch := time.Unix(1_700_000_000, 0).UTC()
	file := filepath.Join(dir, "a.tar.gz")
	if err := writeTar(file, []entry{{"b/", "", 0o755, 0}, {"a", from, 0o755, 7}}, epoch); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	zipped, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(zipped)
	for _, want := range []struct {
		name string
		mode int64
		uid  int
	}{{"a", 0o755, 7}, {"b/", 0o755, 0}} {
		h, err := archive.Next()
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != want.name || h.Mode != want.mode || h.Uid != want.uid || h.Uname != "" || !h.ModTime.Equal(epoch) {
			t.Errorf("%+v, want %+v", h, want)
		}
	}
}

// link is one of Markdown to somewhere.
var link = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// Who unpacks a bundle reads how it is installed, and where its secrets go.
func TestBundleSaysHowItIsInstalled(t *testing.T) {
	r := &release{top: sources(t), stage: t.TempDir(), version: "v1.2.3"}
	for _, one := range programs {
		entries, err := r.bundled(t.Context(), here, one.name, "top")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(entries, func(e entry) bool { return e.name == "top/README.md" })
		if i < 0 {
			t.Fatalf("%s: no README.md in %v", one.name, entries)
		}
		text, err := os.ReadFile(entries[i].from)
		if err != nil {
			t.Fatal(err)
		}
		for _, said := range []string{"# Install, join, upgrade, remove", "From a bundle", "/etc/crossdock-agent/secrets/shop.token", "/var/lib/crossdock-agent/secrets/shop.token"} {
			if !strings.Contains(string(text), said) {
				t.Errorf("%s: %s does not say %q", one.name, entries[i].from, said)
			}
		}
		// A bundle has no other page: what to type instead of a link is in the program.
		for _, found := range link.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(found[1], "://") {
				t.Errorf("%s: README.md links to %s, which the bundle does not have", one.name, found[1])
			}
		}
		if want := "`" + one.name + " help policy-reference`"; !strings.Contains(string(text), want) {
			t.Errorf("%s: README.md does not say %s", one.name, want)
		}
	}
}

// The first policy of the handbook is copied from a folder that the control plane's bundle has.
func TestBundleHasTheFirstPolicy(t *testing.T) {
	r := &release{top: sources(t), stage: t.TempDir(), version: "v1.2.3"}
	guide, err := os.ReadFile(filepath.Join(r.top, "deploy", "handbook", "install.md"))
	if err != nil || !bytes.Contains(guide, []byte("`cp -r examples/hello policy`")) {
		t.Errorf("install.md does not name examples/hello for a bundle: %v", err)
	}
	want, err := os.ReadDir(filepath.Join(r.top, "deploy", "examples", "hello"))
	if err != nil || len(want) == 0 {
		t.Fatalf("%v, %v", want, err)
	}
	for _, p := range []platform{{"linux", "amd64"}, {"windows", "amd64"}} {
		entries, err := r.bundled(t.Context(), p, "crossdock", "top")
		if err != nil {
			t.Fatal(err)
		}
		has := map[string]entry{}
		for _, e := range entries {
			has[e.name] = e
		}
		for _, folder := range []string{"top/examples/", "top/examples/hello/"} {
			if e, ok := has[folder]; !ok || e.mode != 0o755 {
				t.Errorf("%s: no folder %s: %+v", p, folder, e)
			}
		}
		for _, f := range want {
			e, ok := has["top/examples/hello/"+f.Name()]
			if _, err := os.Stat(e.from); !ok || err != nil || e.mode != 0o644 {
				t.Errorf("%s: no %s: %+v, %v", p, f.Name(), e, err)
			}
		}
	}
}
