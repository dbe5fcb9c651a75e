package bundle

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const canary = "c4n4ry/+= \"quoted\" &more"

func TestNoFormOfASecretIsInABundle(t *testing.T) {
	b := &Bundle{}
	b.Add("before.txt", "added before it was said to be secret", []byte("said "+canary), nil)
	b.Secret([]byte(canary + "\n"))
	for name, text := range map[string]string{
		"plain": "x" + canary + "x", "base64": base64.StdEncoding.EncodeToString([]byte(canary)), "url": url.QueryEscape(canary),
		"json": `{"a":"c4n4ry/+= \"quoted\" \u0026more"}`,
	} {
		b.Add(name, name, []byte(text), nil)
	}
	b.Add("form.txt", "what looks like one", []byte("Authorization: Bearer abcdefgh123 http://bob:hush@proxy:3128/ -----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----"), nil)
	b.Add("gone.txt", "what could not be had", nil, errors.New("no "+canary+"\nthere"))
	for _, item := range b.Items() {
		for _, word := range []string{"c4n4ry", "YzRuNHJ5", "hush", "abcdefgh123"} {
			if bytes.Contains(item.Text, []byte(word)) || strings.Contains(item.What, word) {
				t.Errorf("%s, %s: %s", item.Name, item.What, item.Text)
			}
		}
		if !bytes.Contains(item.Text, []byte(masked)) {
			t.Errorf("%s says nothing of what was taken out: %s", item.Name, item.Text)
		}
		if missing := item.What == "what could not be had; not collected: no "+masked+" there"; missing != (item.Name == "gone.txt") {
			t.Errorf("%s: %s", item.Name, item.What)
		}
	}
}

func TestLimits(t *testing.T) {
	b := &Bundle{}
	b.Add("long", "", append(bytes.Repeat([]byte("x"), MaxItem), "the end"...), nil)
	for range 2 * MaxItems {
		b.Add("more", "", []byte("y"), nil)
	}
	much := bytes.Repeat([]byte("\n"), maxTotal)
	for i := range b.items[1:] { // too much of it, and quick to look through
		b.items[i+1].Text = much
	}
	items, total := b.Items(), 0
	for _, item := range items {
		total += len(item.Text)
	}
	if len(items) != MaxItems || total > maxTotal+MaxItems*100 || !bytes.HasSuffix(items[0].Text, []byte("the end")) {
		t.Errorf("%d items, %d bytes", len(items), total)
	}
	b = &Bundle{}
	b.Secret([]byte("abc")) // which is found everywhere
	b.Add("short", "", []byte("abc"), nil)
	if got := string(b.Items()[0].Text); got != "abc" {
		t.Errorf("got %s", got)
	}
}

func TestConfigurationKeepsItsStructure(t *testing.T) {
	got := string(Configuration([]byte(`# hush
data: /var/lib/x
controlplane: {addresses: ["hub:7443"], proxy: "http://bob:hush@proxy:3128/?token=hush"}
log: {level: info}
disk: {telemetry: 64MB, level: hush}
new: {password: hush, list: [hush, {hush2: hush}], ref: "file:erp", empty: ""}
`)))
	for _, want := range []string{"data: /var/lib/x", "hub:7443", "http://proxy:3128", "level: info", "telemetry: 64MB", "password: '[masked]'", "ref: file:erp"} {
		if !strings.Contains(got, want) && !strings.Contains(got, strings.ReplaceAll(want, "'", `"`)) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(strings.ReplaceAll(got, "hush2", ""), "hush") {
		t.Errorf("a value is shown:\n%s", got)
	}
	got = string(Configuration([]byte("data: /x\n  bad: hush\n- proxy: [hush\nhush words\n")))
	if strings.Contains(got, "hush") || !strings.Contains(got, "data: [masked]") || !strings.Contains(got, "cannot be parsed") {
		t.Errorf("a broken one:\n%s", got)
	}
}

func TestWriteIsPrivateAndWritesOverNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.zip")
	items := []Item{{Name: "a.txt", What: "a", Text: []byte("one")}}
	if err := Write(path, items, time.Now()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || os.PathSeparator == '/' && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, err := r.File[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(f); err != nil || string(text) != "one" || r.File[0].Comment != "a" || len(r.File) != 1 {
		t.Errorf("%s, %v", text, err)
	}
	if err := Write(path, items, time.Now()); !errors.Is(err, os.ErrExist) {
		t.Errorf("a second one: %v", err)
	}
	if err := Write(filepath.Join(dir, "none", "x.zip"), items, time.Now()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".bundle-*")); err != nil || len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

func TestListingSaysNothingOfContents(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a\nb"), []byte("hush"), 0o600); err != nil {
		t.Skipf("this system has no such names: %v", err)
	}
	text, err := Listing(dir)
	if err != nil || !strings.Contains(string(text), `"a\nb"`) || strings.Contains(string(text), "hush") || !strings.Contains(string(text), "-rw-------  4") {
		t.Errorf("%s, %v", text, err)
	}
	if text, err := Listing(filepath.Join(dir, "none")); err != nil || !strings.Contains(string(text), "no such file") {
		t.Errorf("%s, %v", text, err)
	}
}
