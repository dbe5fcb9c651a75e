package pki

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// Seal encrypts the authorities' keys in the state. Only the nodes' own directories and
// backups hold it.
type Seal [32]byte

// ErrSeal marks a sealing key that is missing or is not the cluster's.
var ErrSeal = errors.New("sealing key")

// NewSeal makes a sealing key for a new cluster.
func NewSeal() (s Seal) {
	rand.Read(s[:]) // never fails
	return s
}

// ReadSeal reads the sealing key in a directory.
func ReadSeal(dir string) (s Seal, err error) {
	text, err := os.ReadFile(filepath.Join(dir, sealFile))
	if err != nil {
		return s, fmt.Errorf("%w: %w: bring it back from another node's directory or a backup", ErrSeal, err)
	}
	if len(text) != len(s) {
		return s, fmt.Errorf("%w: %s has %d bytes instead of %d: bring it back from another node's directory or a backup",
			ErrSeal, filepath.Join(dir, sealFile), len(text), len(s))
	}
	return Seal(text), nil
}

// WriteSeal puts a sealing key into a directory.
func WriteSeal(dir string, s Seal) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, sealFile), s[:], 0o600)
}

// OpenSeal reads the sealing key in a directory, or makes one: a start that was cut short
// may have left it, and what it has sealed must stay readable.
func OpenSeal(dir string) (Seal, error) {
	s, err := ReadSeal(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s = NewSeal()
	return s, WriteSeal(dir, s)
}

func (s Seal) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(s[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// bound names what a sealed key belongs to: it opens for no other cluster and authority.
func bound(cluster, id string) []byte { return []byte(cluster + "|" + id) }

func (s Seal) close(cluster, id string, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nil, der, bound(cluster, id)), nil // #nosec G407 -- the cipher makes a random nonce for each call
}

func (s Seal) open(cluster string, row *model.Authority) (*ecdsa.PrivateKey, error) {
	aead, err := s.aead()
	if err != nil {
		return nil, err
	}
	der, err := aead.Open(nil, nil, row.SealedKey, bound(cluster, row.ID))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not open the key of authority %s: it is of another cluster, or damaged", ErrSeal, row.ID)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("pki: key of authority %s: %w", row.ID, err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("pki: key of authority %s: %T is not a key of ours", row.ID, key)
	}
	return private, nil
}
