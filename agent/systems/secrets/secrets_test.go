package secrets

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
)

func TestResolve(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for name, content := range map[string]string{
		filepath.Join(dir, "erp"): "hunter2\r\n", filepath.Join(dir, "empty"): "\n",
		filepath.Join(dir, "large"): strings.Repeat("x", MaxSecret+1), filepath.Join(outside, "canary"): "canary",
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "folder", "inner"), []byte("deep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Symlink(filepath.Join(outside, "canary"), filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
	}
	absolute := filepath.Join(outside, "canary")
	up, err := filepath.Rel(dir, absolute)
	if err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) { return "tok\n", name == "ERP" }
	store := New(Config{Directory: dir, LookupEnv: env})
	for _, c := range []struct{ ref, want string }{
		{"file:erp", "hunter2"}, {"env:ERP", "tok"},
		{"file:missing", ""}, {"file:empty", ""}, {"file:large", ""}, {"file:folder", ""}, {"file:link", ""},
		{"file:" + up, ""}, {"file:" + absolute, ""}, {"file:", ""}, {"env:NONE", ""}, {"env:", ""}, {"pasted-secret", ""}, {"vault:x", ""}, {"", ""},
	} {
		got, err := store.Resolve(c.ref)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: got %q %v, want %q", c.ref, got, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), "pasted-secret") || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("the error repeats a secret: %v", err)
		}
	}
	if _, err := store.Resolve("file:missing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	allowed := New(Config{Directory: dir, AllowAbsolute: true})
	if got, err := allowed.Resolve("file:" + absolute); !bytes.Equal(got, []byte("canary")) {
		t.Errorf("absolute path, allowed: got %q %v", got, err)
	}
	if runtime.GOOS != "windows" { // there credentials are sealed by the system
		given := func(name string) (string, bool) { return dir, name == "CREDENTIALS_DIRECTORY" }
		store = New(Config{LookupEnv: given})
		for ref, want := range map[string]string{"cred:erp": "hunter2", "cred:missing": "", "cred:empty": "", "cred:large": "", "cred:folder": "", "cred:link": "",
			"cred:" + up: "", "cred:" + absolute: "", "cred:..": "", "cred:.": "", "cred:": "", "cred:folder/inner": "", "cred:./erp": ""} {
			if got, err := store.Resolve(ref); string(got) != want || (err == nil) != (want != "") {
				t.Errorf("%q: got %q %v, want %q", ref, got, err, want)
			}
		}
		if _, err := New(Config{LookupEnv: env}).Resolve("cred:erp"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "LoadCredential=erp") {
			t.Errorf("without credentials: %v", err)
		}
	}
	if _, err := New(Config{}).Resolve("file:erp"); err == nil {
		t.Error("a store without a directory resolved a file")
	}
}

// The agent's own directory is closed to references, its secrets directory is not.
func TestPrivate(t *testing.T) {
	data, outside := t.TempDir(), t.TempDir()
	dir := filepath.Join(data, "secrets")
	key := filepath.Join(data, "identity", "sealing.key")
	for _, name := range []string{filepath.Join(dir, "erp"), key, filepath.Join(outside, "erp")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("value"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := []string{key, dir + "/../identity/sealing.key"}
	if runtime.GOOS != "windows" {
		if err := os.Symlink(filepath.Dir(key), filepath.Join(outside, "link")); err != nil {
			t.Fatal(err)
		}
		refused = append(refused, filepath.Join(outside, "link", "sealing.key"))
	}
	store := New(Config{Directory: dir, AllowAbsolute: true, Private: []string{data}})
	for _, name := range []string{"erp", filepath.Join(dir, "erp"), filepath.Join(outside, "erp")} {
		if got, err := store.Resolve("file:" + name); string(got) != "value" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range refused {
		if got, err := store.Resolve("file:" + name); err == nil || !strings.Contains(err.Error(), "agent's own") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, dir := range []string{data, filepath.Dir(data)} { // the configuration opens it no wider
		name, err := filepath.Rel(dir, key)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := New(Config{Directory: dir, Private: []string{data}}).Resolve("file:" + name); err == nil {
			t.Errorf("%s below %s: %q", name, dir, got)
		}
	}
	if _, err := store.Resolve("file:none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("one that is not there: %v", err)
	}
}

// sealed holds erp/token and its former value.
type sealed struct{ only, formerOnly []string }

func (s sealed) Value(name string) ([]byte, []string, error) {
	if name != "erp/token" {
		return nil, nil, ErrNotFound
	}
	return []byte("next\n"), s.only, nil
}

func (s sealed) Former(name string) ([]byte, []string, time.Time, bool) {
	return []byte("former\n"), s.formerOnly, time.Unix(9, 0), name == "erp/token"
}

func TestSealed(t *testing.T) {
	store := New(Config{Sealed: sealed{}})
	if got, err := store.Resolve("secret:erp/token"); err != nil || string(got) != "next" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := store.Resolve("secret:erp/other"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "secret:erp/other") {
		t.Errorf("got %v", err)
	}
	if got, until, ok := store.Former("secret:erp/token"); !ok || string(got) != "former" || !until.Equal(time.Unix(9, 0)) {
		t.Errorf("got %q until %v, %t", got, until, ok)
	}
	for _, ref := range []string{"secret:erp/other", "file:erp/token", "env:X"} {
		if _, _, ok := store.Former(ref); ok {
			t.Errorf("%s has a former value", ref)
		}
	}
	if _, err := New(Config{}).Resolve("secret:erp/token"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without any: %v", err)
	}
}

// What is sealed for certain hosts is for nobody who sends it anywhere else, or does not say
// where.
func TestSealedForHosts(t *testing.T) {
	store := New(Config{Sealed: sealed{only: []string{"erp.example", "login.example:8443"}, formerOnly: []string{"erp.example"}}})
	const ref = "secret:erp/token"
	for _, tt := range []struct {
		urls           []string
		newest, former bool
	}{
		{[]string{"https://erp.example/api"}, true, true},
		{[]string{"https://erp.example/api", "https://login.example:8443/token"}, true, false},
		{[]string{"https://erp.example/api", "https://elsewhere.example/token"}, false, false},
		{[]string{"https://elsewhere.example/api", "https://erp.example/token"}, false, false},
		{[]string{""}, false, false},
		{nil, false, false},
	} {
		bound := store.For(tt.urls...)
		got, err := bound.Resolve(ref)
		if (err == nil) != tt.newest || (got != nil) != tt.newest || err != nil && !errors.Is(err, systems.ErrElsewhere) {
			t.Errorf("to %q: %q, %v", tt.urls, got, err)
		}
		if got := systems.FormerOf(bound, ref); (got != nil) != tt.former {
			t.Errorf("to %q: former %q", tt.urls, got)
		}
		if known := bound.Known(ref); len(known) != 2 || string(known[0]) != "next" || string(known[1]) != "former" {
			t.Errorf("known %q", known)
		}
	}
	_, err := store.For("https://elsewhere.example/api").Resolve(ref)
	for _, part := range []string{"secret:erp/token", "elsewhere.example", "erp.example, login.example:8443", "crossdock secret set erp/token --only-to"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %s", err, part)
		}
	}
	if got, err := New(Config{Sealed: sealed{}}).For("https://elsewhere.example").Resolve(ref); err != nil || string(got) != "next" {
		t.Errorf("one for any host: %q, %v", got, err)
	}
}
