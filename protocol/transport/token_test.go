package transport_test

import (
	"crypto/x509"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/transport"
)

func TestToken(t *testing.T) {
	token := transport.NewToken([32]byte{1, 2, 3})
	text := token.String()
	if got, err := transport.ParseToken(" " + text + "\n"); err != nil || got != token {
		t.Errorf("%v, %v", got, err)
	}
	if transport.NewToken([32]byte{}).Secret == token.Secret {
		t.Error("two tokens with one secret")
	}
	for i := range text {
		for _, damaged := range []string{text[:i], text[:i] + "!" + text[i+1:], text[:i] + text[i+1:], strings.ToUpper(text)} {
			_, err := transport.ParseToken(damaged)
			if !errors.Is(err, transport.ErrToken) {
				t.Fatalf("damaged at %d: %v", i, err)
			}
			if strings.Contains(err.Error(), strings.Split(text, ".")[2]) {
				t.Fatalf("error shows the secret: %v", err)
			}
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(transport.NewToken([32]byte{1}).String())
	f.Add("xd1...")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := transport.ParseToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Errorf("%q is read as %q", text, token)
		}
		if err != nil && !errors.Is(err, transport.ErrToken) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// FuzzParseIdentity: a certificate may name anything; what is read as an agent is named by
// that one text only.
func FuzzParseIdentity(f *testing.F) {
	for _, seed := range []string{"spiffe://c1/site/berlin/agent/b1", "spiffe://c1/site/a%2Fb/agent/b1", "spiffe://u@c1:1/site/x/agent/y?z#q", "spiffe://c1/node/n1", "%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := url.Parse(text)
		if err != nil {
			return
		}
		id, err := transport.ParseIdentity(&x509.Certificate{URIs: []*url.URL{uri}, SerialNumber: big.NewInt(1)})
		if err != nil {
			return
		}
		again, err := transport.ParseIdentity(&x509.Certificate{URIs: []*url.URL{id.URI()}, SerialNumber: big.NewInt(1)})
		if err != nil || again != id || id.URI().String() != uri.String() || strings.Contains(id.Agent+id.Site, "/") {
			t.Fatalf("%q is %+v, and then %+v, %v", text, id, again, err)
		}
	})
}

// FuzzParseMark: what is read as a session says the same when it is written again.
func FuzzParseMark(f *testing.F) {
	f.Add(transport.Mark{Epoch: 1, Number: 2, Nonce: [16]byte{3}}.String())
	f.Add("1.2.3")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := transport.ParseMark(text)
		if err != nil {
			return
		}
		if again, err := transport.ParseMark(m.String()); err != nil || again != m {
			t.Fatalf("%q is %+v, and then %+v, %v", text, m, again, err)
		}
	})
}
