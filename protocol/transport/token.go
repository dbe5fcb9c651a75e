package transport

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Token is a join token: xd1.<id>.<secret>.<hash of the authority's key>. It tells an
// agent whom to trust, and tells the control plane that the agent may join.
type Token struct {
	ID     string // 16 hexadecimal digits
	Secret [32]byte
	CAHash [32]byte
}

// ErrToken marks a text that is not a join token.
var ErrToken = errors.New("not a join token")

const (
	tokenPrefix = "xd1"
	tokenID     = 8 // bytes
	maxToken    = 256
)

var tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken makes a token with a fresh id and secret.
func NewToken(caHash [32]byte) Token {
	var id [tokenID]byte
	t := Token{CAHash: caHash}
	rand.Read(id[:]) // never fails
	rand.Read(t.Secret[:])
	t.ID = hex.EncodeToString(id[:])
	return t
}

// String is the text that a person is shown once.
func (t Token) String() string {
	return strings.Join([]string{tokenPrefix, t.ID, tokenText.EncodeToString(t.Secret[:]), hex.EncodeToString(t.CAHash[:])}, ".")
}

// SecretHash is what the control plane keeps of the secret.
func (t Token) SecretHash() [32]byte { return sha256.Sum256(t.Secret[:]) }

// ParseToken reads the text of a token; white space around it is forgiven. Errors do not
// repeat the text: it is a secret.
func ParseToken(text string) (Token, error) {
	text = strings.TrimSpace(text)
	if len(text) > maxToken {
		return Token{}, fmt.Errorf("%w: %d characters are too many", ErrToken, len(text))
	}
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] != tokenPrefix {
		return Token{}, fmt.Errorf("%w: it has the form %s.<id>.<secret>.<hash>; was it copied whole?", ErrToken, tokenPrefix)
	}
	t := Token{ID: parts[1]}
	if id, err := hex.DecodeString(parts[1]); err != nil || len(id) != tokenID {
		return Token{}, fmt.Errorf("%w: its id is damaged", ErrToken)
	}
	secret, err := tokenText.DecodeString(parts[2])
	if err != nil || len(secret) != len(t.Secret) {
		return Token{}, fmt.Errorf("%w: its secret is damaged", ErrToken)
	}
	hash, err := hex.DecodeString(parts[3])
	if err != nil || len(hash) != len(t.CAHash) {
		return Token{}, fmt.Errorf("%w: its hash is damaged", ErrToken)
	}
	copy(t.Secret[:], secret)
	copy(t.CAHash[:], hash)
	if t.String() != text {
		return Token{}, fmt.Errorf("%w: it is damaged", ErrToken)
	}
	return t, nil
}
