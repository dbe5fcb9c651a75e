package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"aead.dev/minisign"
)

const hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func manifest() *Manifest {
	return &Manifest{Format: Format, Version: "1.4.0", Protocol: &Protocol{Min: 1, Max: 2}, Files: []File{
		{Name: Agent, OS: "linux", Arch: "amd64", Size: 4, SHA256: hash},
		{Name: Agent, OS: "windows", Arch: "amd64", Size: 4, SHA256: hash},
	}}
}

// generate makes the key of a seed: tests sign the same in every run.
func generate(t testing.TB, seed byte) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.NewChaCha8([32]byte{seed}))
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

func TestSignedManifest(t *testing.T) {
	public, private := generate(t, 1)
	other, _ := generate(t, 2)
	text, signature, err := Sign(manifest(), private)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := ParseKeys([]string{other.String(), "untrusted comment: minisign public key\n" + public.String() + "\n"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Parse(text, signature, keys)
	if err != nil {
		t.Fatal(err)
	}
	if f, ok := m.File(Agent, "windows", "amd64"); !ok || f != manifest().Files[1] {
		t.Errorf("got %+v, %v", f, ok)
	}
	if _, ok := m.File(Agent, "windows", "arm64"); ok {
		t.Error("found a file that is not listed")
	}
	if got := m.Size(); got != 4 {
		t.Errorf("size %d: one content counts once", got)
	}
	if got := SignedWith(signature); got != KeyID(public.ID()) {
		t.Errorf("signed with %s", got)
	}
	againText, again, err := Sign(manifest(), private)
	if err != nil || !bytes.Equal(again, signature) || !bytes.Equal(againText, text) {
		t.Errorf("the same manifest and key gave another signature (%v)", err)
	}
}

func TestParseRefuses(t *testing.T) {
	public, private := generate(t, 1)
	stranger, strange := generate(t, 2)
	text, good, err := Sign(manifest(), private)
	if err != nil {
		t.Fatal(err)
	}
	_, foreign, _ := Sign(manifest(), strange)
	named := func(comment string) []byte { return minisign.SignWithComments(private, text, comment, "x") }
	keys := Keys{public}
	for _, c := range []struct {
		name      string
		manifest  []byte
		signature []byte
		keys      Keys
		want      error
	}{
		{"no keys", text, good, nil, ErrNoKeys},
		{"unknown key", text, foreign, keys, ErrUnknownKey},
		{"key of another", text, good, Keys{stranger}, ErrUnknownKey},
		{"changed manifest", bytes.Replace(text, []byte("1.4.0"), []byte("1.4.1"), 1), good, keys, ErrSignature},
		{"changed comment", text, bytes.Replace(good, []byte("release 1.4.0"), []byte("release 1.5.0"), 1), keys, ErrSignature},
		{"signed comment of another version", text, named("crossdock release 1.3.0"), keys, ErrSignature},
		{"no signature", text, nil, keys, ErrSignature},
		{"signature too long", text, append(bytes.Clone(good), make([]byte, MaxSignature)...), keys, ErrSignature},
		{"manifest too long", append(bytes.Clone(text), make([]byte, MaxManifest)...), good, keys, ErrManifest},
	} {
		if _, err := Parse(c.manifest, c.signature, c.keys); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

// TestReadRefuses has manifests that a trusted key did sign, and that are wrong all the same.
func TestReadRefuses(t *testing.T) {
	public, private := generate(t, 1)
	whole, err := json.Marshal(manifest())
	if err != nil {
		t.Fatal(err)
	}
	one := func(from, to string) string { return strings.Replace(string(whole), from, to, 1) }
	many := manifest()
	for len(many.Files) <= MaxFiles {
		f := many.Files[0]
		f.Name = "x" + strings.Repeat("y", len(many.Files)%50) + string(rune('a'+len(many.Files)/50))
		many.Files = append(many.Files, f)
	}
	tooMany, _ := json.Marshal(many)
	for name, text := range map[string]string{
		"another format":       one(`"format":1`, `"format":2`),
		"unknown field":        one(`"format":1`, `"format":1,"run":"sh"`),
		"unknown field inside": one(`"size":4`, `"size":4,"url":"x"`),
		"member twice":         one(`"format":1`, `"format":1,"format":1`),
		"member in capitals":   one(`"format":1`, `"Format":1`),
		"something behind":     string(whole) + "{}",
		"version of no form":   one(`"1.4.0"`, `"latest"`),
		"version that climbs":  one(`"1.4.0"`, `"1.4.0-../x"`),
		"no span":              one(`"min":1`, `"min":3`),
		"no files":             `{"format":1,"version":"1.4.0","files":[]}`,
		"too many files":       string(tooMany),
		"listed twice":         one(`"windows"`, `"linux"`),
		"two sizes":            one(`"size":4`, `"size":5`),
		"size of nothing":      one(`"size":4`, `"size":0`),
		"size over the limit":  strings.ReplaceAll(string(whole), `"size":4`, `"size":268435457`),
		"size that overflows":  one(`"size":4`, `"size":99999999999999999999`),
		"name that climbs":     one(`"crossdock-agent"`, `"../agent"`),
		"name with two dots":   one(`"crossdock-agent"`, `"a..b"`),
		"name with a drive":    one(`"crossdock-agent"`, `"c:agent"`),
		"name too long":        one(`"crossdock-agent"`, `"`+strings.Repeat("a", MaxName+1)+`"`),
		"platform of no form":  one(`"linux"`, `"linux/x"`),
		"hash in capitals":     one(hash, strings.ToUpper(hash)),
		"hash too short":       one(hash, hash[2:]),
	} {
		signature := minisign.SignWithComments(private, []byte(text), comment("1.4.0"), "x")
		if _, err := Parse([]byte(text), signature, Keys{public}); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Parse(whole, minisign.SignWithComments(private, whole, comment("1.4.0"), "x"), Keys{public}); err != nil {
		t.Errorf("what all of them were made from: %v", err)
	}
}

func TestParseKeysRefuses(t *testing.T) {
	_, private := generate(t, 1)
	secret, err := private.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, texts := range [][]string{{""}, {"RWx"}, {string(secret)}, make([]string, MaxKeys+1)} {
		if keys, err := ParseKeys(texts); err == nil {
			t.Errorf("%.20q gave %d keys", texts, len(keys))
		}
	}
}

// TestVersionsInOrder has versions from the earliest to the latest.
func TestVersionsInOrder(t *testing.T) {
	versions := []string{"", "abcdef0", "dev", "0.0.1", "v0.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
		"1.0.0-beta.11", "1.0.0-rc.1", "v1.0-rc.1-3-gabcdef0", "1.0.0-rc.2", "1.0.0", "1.0-dirty", "1.0-1-g0123abc", "v1.0.0-5-gabcdef0",
		"v1.0-5-gabcdef0-dirty", "1.0-12-gabcdef0", "1.0.1", "1.2", "1.10.0", "2.0.0-1", "2.0.0-a", "2.0.0", "11.0.0"}
	for i, a := range versions {
		for j, b := range versions {
			want := 0
			if i != j {
				want = -1
				if i > j {
					want = 1
				}
			}
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%q, %q) is %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"v1.2", "1.2.0"}, {"1.2.0+build.7", "1.2.0"}, {"1.2-5-gabcdef0", "1.2-5-g0123456"}} {
		if Compare(same[0], same[1]) != 0 {
			t.Errorf("%s and %s are not the same", same[0], same[1])
		}
	}
}

func FuzzParse(f *testing.F) {
	public, private := generate(f, 1)
	text, signature, err := Sign(manifest(), private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text, signature)
	f.Add([]byte(`{"format":1,"version":"1.4.0","files":[]}`), []byte("untrusted comment: x\n"))
	f.Fuzz(func(t *testing.T, text, signature []byte) {
		if m, err := Parse(text, signature, Keys{public}); err == nil && m.Version != "1.4.0" {
			t.Errorf("%s was signed by nobody", m.Version)
		}
		signed := minisign.SignWithComments(private, text, comment("1.4.0"), "x")
		m, err := Parse(text, signed, Keys{public})
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := read(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}

func FuzzCompare(f *testing.F) {
	f.Add("1.2.3", "v1.2-5-gabcdef0")
	f.Add("1.0.0-rc.1-3-gabcdef0-dirty", "dev")
	f.Fuzz(func(t *testing.T, a, b string) {
		if Compare(a, b) != -Compare(b, a) || Compare(a, a) != 0 {
			t.Errorf("%q and %q have no order", a, b)
		}
		if ValidVersion(a) && (len(a) > MaxVersion || strings.ContainsAny(a, `/\:`) || strings.Contains(a, "..") || strings.HasSuffix(a, ".")) {
			t.Errorf("%q is no name for a directory", a)
		}
	})
}
