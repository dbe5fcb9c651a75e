package systems

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// MaxBody bounds what is kept of a system's answer.
const MaxBody = 4 << 10

// minSecret is the shortest secret that Clean looks for: a shorter one stands in too many
// harmless words to be cut out of them.
const minSecret = 4

// Clean makes a foreign answer fit to keep and to show: valid UTF-8, no control characters
// but line breaks and tabs, at most MaxBody bytes, and none of the given secrets, which some
// systems echo in their errors.
func Clean(body []byte, secrets ...[]byte) []byte {
	for _, secret := range secrets {
		if len(secret) >= minSecret {
			body = bytes.ReplaceAll(body, secret, []byte("[secret]"))
		}
	}
	body = cutSecretPrefix(body, secrets)
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
	for _, secret := range secrets {
		for n := min(len(secret)-1, len(body)); n >= minSecret; n-- {
			if bytes.HasSuffix(body, secret[:n]) {
				body = body[:len(body)-n]
				break
			}
		}
	}
	return body
}
