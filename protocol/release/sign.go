package release

import (
	"errors"
	"fmt"
	"strings"

	"aead.dev/minisign"
)

// MaxKeys is how many keys may be trusted at a time: one, its successor, and some to spare.
const MaxKeys = 16

// Refusals of a signature.
var (
	ErrNoKeys     = errors.New("no key is trusted to sign releases")
	ErrUnknownKey = errors.New("the release is signed with a key that is not trusted here")
	ErrSignature  = errors.New("the release's signature is not valid")
)

// Keys are the public keys of those who may sign releases.
type Keys []minisign.PublicKey

// ParseKeys reads keys as minisign writes them, RW and so on, with or without the line of
// comment above.
func ParseKeys(texts []string) (Keys, error) {
	if len(texts) > MaxKeys {
		return nil, fmt.Errorf("%d keys for releases, the limit is %d", len(texts), MaxKeys)
	}
	var keys Keys
	for i, text := range texts {
		var key minisign.PublicKey
		if err := key.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return nil, fmt.Errorf("key %d for releases, %q: give the line that begins with RW of a minisign public key: %w", i+1, short(text), err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// Parse verifies the signature over a manifest with the keys, and then reads the manifest.
func Parse(manifest, signature []byte, keys Keys) (*Manifest, error) {
	if len(keys) == 0 {
		return nil, ErrNoKeys
	}
	s, err := readSignature(signature)
	if err != nil {
		return nil, err
	}
	if len(manifest) > MaxManifest {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrManifest, len(manifest), MaxManifest)
	}
	known, good := false, false
	for _, key := range keys {
		if key.ID() == s.KeyID {
			known = true
			good = good || minisign.Verify(key, manifest, signature)
		}
	}
	switch {
	case !known:
		return nil, fmt.Errorf("%w: %s", ErrUnknownKey, KeyID(s.KeyID))
	case !good:
		return nil, fmt.Errorf("%w: key %s did not sign this manifest", ErrSignature, KeyID(s.KeyID))
	}
	return Read(manifest, signature)
}

// Read checks the form of a manifest and its signature, and that they speak of the same
// version. It trusts nobody's key: what it gives is only known to be well formed.
func Read(manifest, signature []byte) (*Manifest, error) {
	s, err := readSignature(signature)
	if err != nil {
		return nil, err
	}
	m, err := read(manifest)
	if err != nil {
		return nil, err
	}
	if s.TrustedComment != comment(m.Version) {
		return nil, fmt.Errorf("%w: its trusted comment is %q, for this manifest it has to be %q", ErrSignature, short(s.TrustedComment), comment(m.Version))
	}
	return m, nil
}

// SignedWith names the key of a signature, as KeyID does; empty if it is none.
func SignedWith(signature []byte) string {
	s, err := readSignature(signature)
	if err != nil {
		return ""
	}
	return KeyID(s.KeyID)
}

// KeyID is the name of a key as minisign writes it.
func KeyID(id uint64) string { return fmt.Sprintf("%016X", id) }

// Sign writes the signature of a manifest. The same manifest and key give the same text.
func Sign(m *Manifest, key minisign.PrivateKey) (manifest, signature []byte, err error) {
	manifest, err = m.Encode()
	if err != nil {
		return nil, nil, err
	}
	return manifest, minisign.SignWithComments(key, manifest, comment(m.Version), "signature of "+ManifestFile+" by key "+KeyID(key.ID())), nil
}

// comment is the trusted comment of a release's signature: it is signed too, and is what
// `minisign -V` shows.
func comment(version string) string { return "crossdock release " + version }

func readSignature(text []byte) (*minisign.Signature, error) {
	if len(text) > MaxSignature {
		return nil, fmt.Errorf("%w: it has %d bytes, the limit is %d", ErrSignature, len(text), MaxSignature)
	}
	s := &minisign.Signature{}
	if err := s.UnmarshalText(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return s, nil
}
