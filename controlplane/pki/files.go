package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// Files of a node's pki directory.
const (
	bundleFile  = "ca.pem"       // all trusted authorities, for commands on this machine
	sealFile    = "seal.key"     // opens the authorities' keys in the state
	nodeFile    = "node.pem"     // given to a node that joined, until it has the state
	nodeKeyFile = "node-key.pem" // made by it
)

const (
	kindCertificate = "CERTIFICATE"
	kindKey         = "PRIVATE KEY"
	maxPEM          = 1 << 20
)

// Joined is what a node is given when it joins, until it has the state and signs for
// itself.
type Joined struct {
	Seal        Seal
	Key         *ecdsa.PrivateKey
	Chain       [][]byte // of the node
	Authorities [][]byte // trusted
}

// WriteJoined leaves it in a directory.
func WriteJoined(dir string, j Joined) error {
	key, err := x509.MarshalPKCS8PrivateKey(j.Key)
	if err != nil {
		return err
	}
	if err := WriteSeal(dir, j.Seal); err != nil {
		return err
	}
	return errors.Join(
		atomicfile.Write(filepath.Join(dir, nodeKeyFile), pem.EncodeToMemory(&pem.Block{Type: kindKey, Bytes: key}), 0o600),
		atomicfile.Write(filepath.Join(dir, nodeFile), bundle(j.Chain), 0o644),
		atomicfile.Write(filepath.Join(dir, bundleFile), bundle(j.Authorities), 0o644),
	)
}

// joined is what a node trusts that has no rows yet: what it was given when it joined.
func (a *Authority) joined() (*set, error) {
	out := &set{pool: x509.NewCertPool(), keyErr: ErrNone}
	chain, err := readCertificates(a.path(bundleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, c := range chain {
		out.pool.AddCert(c)
		out.trusted = append(out.trusted, trusted{certificate: c})
	}
	return out, nil
}

// joinedCertificate is what a node that joined shows until it has rows.
func (a *Authority) joinedCertificate() (*tls.Certificate, error) {
	chain, err := readCertificates(a.path(nodeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, err
	}
	text, err := readFile(a.path(nodeKeyFile))
	if err != nil {
		return nil, err
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != kindKey {
		return nil, fmt.Errorf("pki: %s: no PEM block %q in it", a.path(nodeKeyFile), kindKey)
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, fmt.Errorf("pki: %s: %w", a.path(nodeKeyFile), err)
	}
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok || !private.PublicKey.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("pki: %s: not the key of %s", a.path(nodeKeyFile), nodeFile)
	}
	out := &tls.Certificate{PrivateKey: private, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("pki: %s has %d bytes, the limit is %d", path, info.Size(), maxPEM)
	}
	return os.ReadFile(path)
}

func readCertificates(path string) (out []*x509.Certificate, err error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	for b, rest := pem.Decode(text); b != nil; b, rest = pem.Decode(rest) {
		if b.Type != kindCertificate {
			return nil, fmt.Errorf("pki: %s: a PEM block %q in it", path, b.Type)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("pki: %s: %w", path, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("pki: %s: no certificate in it", path)
	}
	return out, nil
}

// Foreign lists what is in a node's pki directory that a join that was cut short does not
// leave.
func Foreign(dir string) (names []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // it does not exist; or the next step says what is wrong with it
	}
	for _, e := range list {
		switch e.Name() {
		case bundleFile, sealFile, nodeFile, nodeKeyFile:
		default:
			if !strings.HasPrefix(e.Name(), ".") {
				names = append(names, e.Name())
			}
		}
	}
	return names
}
