package sealing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"
)

func TestHosts(t *testing.T) {
	for text, want := range map[string]string{
		"erp.example": "erp.example", "ERP.Example.": "erp.example", "erp.example:8443": "erp.example:8443", "erp.example.:0443": "erp.example:443",
		"my_erp": "my_erp", "10.0.0.7": "10.0.0.7", "10.0.0.7:80": "10.0.0.7:80", "::1": "::1", "[::1]": "::1", "[::1]:8443": "[::1]:8443",
		"2001:DB8:0::1": "2001:db8::1", "::ffff:10.0.0.7": "10.0.0.7", "Bücher.example": "xn--bcher-kva.example", "XN--bcher-kva.example:1": "xn--bcher-kva.example:1",
	} {
		if got, err := Host(text); err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", ":443", "erp.example:", "erp.example:x", "erp.example:0", "erp.example:65536", "*", "*.example", "erp.*", "https://erp.example",
		"erp.example/api", "me@erp.example", "erp example", "erp..example", ".example", "a,b", "fe80::1%eth0", "[::1", "%41.example", strings.Repeat("x", 254), "\u200b.example", "a\x00b"} {
		if got, err := Host(text); err == nil {
			t.Errorf("%q was taken as %q", text, got)
		}
	}
}

func TestAllows(t *testing.T) {
	only := []string{"erp.example", "login.example:8443", "plain.example:80", "10.0.0.7", "[::1]:9443", "xn--bcher-kva.example"}
	for url, want := range map[string]bool{
		"https://erp.example":                true,
		"https://ERP.example.:443/api?x=y":   true,
		"http://erp.example":                 true,
		"https://erp.example:8443":           false,
		"https://erp.example:80":             false, // not the one of the scheme
		"https://login.example:8443/t":       true,
		"https://login.example":              false,
		"http://plain.example/x":             true,
		"http://plain.example:80":            true,
		"https://plain.example":              false,
		"https://10.0.0.7":                   true,
		"https://[::ffff:10.0.0.7]":          true,
		"https://10.0.0.70":                  false,
		"https://[::1]:9443":                 true,
		"https://[0:0::1]:9443":              true,
		"https://bücher.example":             true,
		"https://sub.erp.example":            false,
		"https://erp.example.evil.example":   false,
		"https://evil.example/erp.example":   false,
		"https://erp.example@evil.example":   false,
		"https://evil.example#erp.example":   false,
		"https://evil.example?@erp.example":  false,
		"https://evil.example\\@erp.example": false,
		"ftp://erp.example":                  false,
		"erp.example":                        false,
		"":                                   false,
	} {
		if got := Allows(only, url); got != want {
			t.Errorf("%s: got %t", url, got)
		}
	}
	if !Allows(nil, "https://anywhere.example") || Allows([]string{"*", "", "https://x"}, "https://x") {
		t.Error("no hosts are all hosts, and hosts that are none allow nothing")
	}
	for url, want := range map[string]string{"https://Erp.example.:443/x": "erp.example", "http://erp.example:443": "erp.example:443", "https://[::1]:9/": "[::1]:9"} {
		if got, err := HostOf(url); err != nil || got != want || !Allows([]string{got}, url) {
			t.Errorf("%s: got %q, %v", url, got, err)
		}
	}
}

func TestSealedForHosts(t *testing.T) {
	key, recipient := keyPair(t)
	to, hosts := Binding{Cluster: "c", Agent: "eu", Name: "erp/token", Version: 7}, []string{"erp.example", "login.example:8443"}
	sealed, err := Seal(recipient, to, []byte("canary"), hosts...)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Open(key, to, sealed); err != nil || string(got.Value) != "canary" || got.Version != 7 || !slices.Equal(got.Only, hosts) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, at := range []Binding{{"c", "eu", "shop/token", 7}, {"c", "us", "erp/token", 7}, {"d", "eu", "erp/token", 7}} {
		if got, err := Open(key, at, sealed); !errors.Is(err, ErrSealed) || got.Value != nil {
			t.Errorf("at %+v: got %+v, %v", at, got, err)
		}
	}
	// A version that knows of no hosts reads the binding like this, and compares it.
	var before Binding
	head, _, _ := bytes.Cut(decrypted(t, key, sealed), []byte("\n"))
	if err := json.Unmarshal(head, &before); err == nil && before == to {
		t.Errorf("an older version takes %s for a secret that may go anywhere", head)
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("host-%d.example", i))
	}
	if _, err := Seal(recipient, to, []byte("x"), many...); err == nil {
		t.Error("hosts beyond the limit were sealed")
	}
	largest, err := Seal(recipient, to, make([]byte, MaxValue), many[:100]...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(key, to, largest); err != nil {
		t.Errorf("the largest: %v", err)
	}
}

// What is not known may be a restriction.
func TestUnknownHeaders(t *testing.T) {
	key, recipient := keyPair(t)
	const of = `"cluster":"c","agent":"eu","name":"erp/token","version":7`
	for head, opens := range map[string]bool{
		`{` + of + `}`: true,
		`{"restricted":{` + of + `,"only":["x"]}}`:       true,
		`{` + of + `,"until":"2030"}`:                    false,
		`{"restricted":{` + of + `,"only":[]}}`:          false,
		`{"restricted":{` + of + `}}`:                    false,
		`{` + of + `,"restricted":{"only":["x"]}}`:       false,
		`{"restricted":{` + of + `,"o":1,"only":["x"]}}`: false,
		`{` + of + `}{}`:                                 false,
		`{` + of + `} x`:                                 false,
	} {
		got, err := Open(key, Binding{Cluster: "c", Agent: "eu", Name: "erp/token"}, encrypted(t, recipient, head+"\ncanary"))
		if (err == nil) != opens || (got.Value != nil) != opens {
			t.Errorf("%s: %+v, %v", head, got, err)
		}
	}
}

func decrypted(t *testing.T, key string, sealed []byte) []byte {
	t.Helper()
	identity, err := age.ParseX25519Identity(key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(sealed), identity)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func encrypted(t *testing.T, recipient, text string) []byte {
	t.Helper()
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
