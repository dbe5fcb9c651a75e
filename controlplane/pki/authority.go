// Package pki is the control plane's own certificate authority: it says who is a node and
// who is an agent of this cluster.
//
// It owns the authority's key and what is signed with it. It refuses to know who may have
// a certificate: tokens, agents and revocations are rows of the state. Its invariant: a
// certificate carries only what the control plane decided, never a name out of a request,
// and no certificate of an agent can stand for a node.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/transport"
)

// Lives of certificates.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	NodeLife      = 90 * 24 * time.Hour
	AgentLife     = 24 * time.Hour
	skew          = time.Hour // by which an agent's clock may be behind
)

// Files of an authority's directory.
const (
	certificateFile = "ca.pem"
	keyFile         = "ca-key.pem"
)

// What may go wrong with an authority's directory.
var (
	ErrNone   = errors.New("no certificate authority")
	ErrExists = errors.New("there is a certificate authority already")
)

// The names that a certificate may carry: those that the state takes.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// Authority signs certificates. It is safe for concurrent use.
type Authority struct {
	dir string

	mu  sync.RWMutex // guards now
	now loaded
}

type loaded struct {
	cluster     string
	certificate *x509.Certificate
	key         crypto.Signer
}

// Create makes an authority for a new cluster. It never replaces one: that would cut off
// every agent. A key without a certificate is what a start leaves that was cut short, and
// is used, so that tokens and certificates that name it stay good in any case.
func Create(dir, cluster string, now time.Time) (*Authority, error) {
	if !nameForm.MatchString(cluster) {
		return nil, fmt.Errorf("cluster id %q: use small letters, digits, dot, dash and underscore", cluster)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, certificateFile)); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s: %w", filepath.Join(dir, certificateFile), ErrExists), err)
	}
	key, err := ownKey(dir)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "Crossdock " + cluster},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: cluster}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	// The certificate is written last: a directory without it holds no authority yet.
	if err := write(dir, certificateFile, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	return Open(dir)
}

// ownKey reads the key in dir, or makes one.
func ownKey(dir string) (*ecdsa.PrivateKey, error) {
	private, err := read(dir, keyFile, "PRIVATE KEY", x509.ParsePKCS8PrivateKey)
	if err == nil {
		key, ok := private.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s: not a key of an authority", filepath.Join(dir, keyFile))
		}
		return key, nil
	}
	if !errors.Is(err, ErrNone) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, write(dir, keyFile, "PRIVATE KEY", der, 0o600)
}

// write makes a file durable before it gets its name, and then the name.
func write(dir, name, kind string, der []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	err = errors.Join(f.Chmod(mode), pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename last. Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	return d.Sync()
}

// Open reads the authority in dir.
func Open(dir string) (*Authority, error) {
	a := &Authority{dir: dir}
	return a, a.Reload()
}

// Reload reads the files again, after a restore. What was read before stays when it fails.
func (a *Authority) Reload() error {
	certificate, err := read(a.dir, certificateFile, "CERTIFICATE", x509.ParseCertificate)
	if err != nil {
		return err
	}
	private, err := read(a.dir, keyFile, "PRIVATE KEY", x509.ParsePKCS8PrivateKey)
	if err != nil {
		return err
	}
	key, ok := private.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(certificate.PublicKey) {
		return fmt.Errorf("%s: the key is not that of %s: restore both files from one backup", filepath.Join(a.dir, keyFile), certificateFile)
	}
	if !certificate.IsCA || len(certificate.URIs) != 1 || !nameForm.MatchString(certificate.URIs[0].Host) {
		return fmt.Errorf("%s: not the certificate of a cluster's authority", filepath.Join(a.dir, certificateFile))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = loaded{cluster: certificate.URIs[0].Host, certificate: certificate, key: key}
	return nil
}

func read[T any](dir, name, kind string, parse func([]byte) (T, error)) (T, error) {
	var none T
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, fmt.Errorf("%w: %w", ErrNone, err)
	} else if err != nil {
		return none, err
	}
	b, _ := pem.Decode(text)
	if b == nil || b.Type != kind {
		return none, fmt.Errorf("%s: no PEM block %q in it", path, kind)
	}
	out, err := parse(b.Bytes)
	if err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func (a *Authority) current() loaded {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.now
}

// Cluster is the id of the cluster that the authority speaks for.
func (a *Authority) Cluster() string { return a.current().cluster }

// Hash is the SHA-256 of the authority's public key: what join tokens pin.
func (a *Authority) Hash() [32]byte { return transport.HashKey(a.current().certificate) }

// Pool holds the authority, for verification.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.current().certificate)
	return pool
}

// Certificates are the authority's certificates, DER, as agents are given them.
func (a *Authority) Certificates() [][]byte { return [][]byte{a.current().certificate.Raw} }

// Bundle is the same as PEM, for people and browsers.
func (a *Authority) Bundle() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.current().certificate.Raw})
}

// MintToken makes a join token that pins this authority. The state keeps its hash.
func (a *Authority) MintToken() transport.Token { return transport.NewToken(a.Hash()) }

// NewSerial gives a serial number for SignAgent, so that it can be recorded first.
func (a *Authority) NewSerial() string { return newSerial().Text(16) }

func newSerial() *big.Int {
	var b [16]byte
	rand.Read(b[:])         // never fails
	b[0] = b[0]&0x7f | 0x40 // positive, and always of the same length
	return new(big.Int).SetBytes(b[:])
}

// sign signs a leaf and bounds its life by the authority's own.
func (l loaded) sign(template *x509.Certificate, public crypto.PublicKey, life time.Duration, now time.Time) ([]byte, error) {
	template.Issuer = l.certificate.Subject
	template.NotBefore, template.NotAfter = now.Add(-skew), now.Add(life)
	if template.NotAfter.After(l.certificate.NotAfter) {
		template.NotAfter = l.certificate.NotAfter
	}
	if !now.Before(template.NotAfter) {
		return nil, fmt.Errorf("the certificate authority of cluster %s expired at %s", l.cluster, l.certificate.NotAfter.Format(time.RFC3339))
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, l.certificate, public, l.key)
}
