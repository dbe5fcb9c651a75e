package systems

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxBody bounds what is kept of a system's answer.
const MaxBody = 4 << 10

// minSecret is the shortest secret that Clean looks for: a shorter one stands in too many
// harmless words to be cut out of them.
const minSecret = 4

// Masked stands where a secret was cut out.
const Masked = "[secret]"

// Mask cuts secrets out of a foreign text, as they are and in the forms in which a system
// writes what it was sent: escaped for JSON, HTML or a URL, or in base64.
func Mask(text []byte, secrets ...[]byte) []byte {
	if len(text) == 0 {
		return text
	}
	for _, secret := range secrets {
		if len(secret) < minSecret {
			continue
		}
		for _, form := range forms(secret) {
			text = bytes.ReplaceAll(text, form, []byte(Masked))
		}
	}
	return text
}

// forms are the ways to write a secret, itself first.
func forms(secret []byte) [][]byte {
	all := [][]byte{secret}
	plain := string(secret)
	texts := []string{url.QueryEscape(plain), url.PathEscape(plain), html.EscapeString(plain), base64.StdEncoding.EncodeToString(secret),
		base64.RawURLEncoding.EncodeToString(secret)}
	for _, escapes := range []bool{true, false} { // of <, > and &
		var out bytes.Buffer
		w := json.NewEncoder(&out)
		w.SetEscapeHTML(escapes)
		if w.Encode(plain) == nil {
			texts = append(texts, strings.Trim(strings.TrimSpace(out.String()), `"`))
		}
	}
	for _, text := range texts {
		if text != plain && !slices.ContainsFunc(all, func(one []byte) bool { return string(one) == text }) {
			all = append(all, []byte(text))
		}
	}
	return all
}

// Clean makes a foreign answer fit to keep and to show: valid UTF-8, no control characters
// but line breaks and tabs, at most MaxBody bytes, and none of the given secrets, which some
// systems echo in their errors.
func Clean(body []byte, secrets ...[]byte) []byte {
	body = cutSecretPrefix(Mask(body, secrets...), secrets)
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r < 0x20 || r >= 0x7f && r <= 0x9f:
			return -1
		case r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069: // would turn text around on a screen
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(body), "\uFFFD"))
	if len(text) > MaxBody {
		end := MaxBody
		for end > 0 && !utf8.RuneStart(text[end]) {
			end--
		}
		text = text[:end]
	}
	return []byte(text)
}

// cutSecretPrefix takes away a secret that the end of a capped read cut in two.
func cutSecretPrefix(body []byte, secrets [][]byte) []byte {
	if len(body) == 0 {
		return body
	}
	for _, secret := range secrets {
		for _, form := range forms(secret) {
			for n := min(len(form)-1, len(body)); n >= minSecret; n-- {
				if bytes.HasSuffix(body, form[:n]) {
					body = body[:len(body)-n]
					break
				}
			}
		}
	}
	return body
}
