package transport_test

import (
	"errors"
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
