// Package pki is the control plane's own certificate authority: it says who is a node and
// who is an agent of this cluster.
//
// It owns what is signed with the authorities' keys, and how these keys are sealed. It
// refuses to know who may have a certificate: tokens, agents, revocations and the
// authorities themselves are rows of the state. Its invariant: a certificate carries only
// what the control plane decided, never a name out of a request, and no certificate of an
// agent can stand for a node.
package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Lives of certificates.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	NodeLife      = 90 * 24 * time.Hour
	AgentLife     = 24 * time.Hour
)

// maxPath is how many rotations an agent may have slept through and still verify a node:
// each is one certificate between the authority that it knows and the one that signs.
const maxPath = 4

// ErrNone marks a cluster, or a copy of its state, that holds no authority yet.
var ErrNone = errors.New("no certificate authority")

// The names that a certificate may carry: those that the state takes.
var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// Config is what an Authority is made of.
type Config struct {
	Dir     string // of the sealing key and of the files for others
	Cluster string
	Rows    func() []model.Authority // in the state, as it is now
	Logger  *slog.Logger
}

// Authority signs with the active one of the cluster's authorities and trusts them all. It
// is safe for concurrent use, and follows the rows.
type Authority struct {
	cfg Config

	mu   sync.Mutex // guards what follows
	seen []byte     // which rows set was made of
	set  *set
}

// set is what follows from the rows. It is never changed.
type set struct {
	trusted []trusted // active first
	pool    *x509.CertPool
	key     crypto.Signer // of the active one; nil with keyErr
	keyErr  error
}

type trusted struct {
	row         model.Authority
	certificate *x509.Certificate
}

// New gives the authority over rows. There need not be any yet.
func New(cfg Config) (*Authority, error) {
	if cfg.Dir == "" || cfg.Rows == nil {
		return nil, errors.New("pki: directory and rows must be given")
	}
	if !nameForm.MatchString(cfg.Cluster) {
		return nil, fmt.Errorf("pki: cluster id %q: use small letters, digits, dot, dash and underscore", cfg.Cluster)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Authority{cfg: cfg}, nil
}

// Cluster is the id of the cluster that the authority speaks for.
func (a *Authority) Cluster() string { return a.cfg.Cluster }

// current follows the rows. Without rows a node that has just joined trusts what it was
// given then.
func (a *Authority) current() (*set, error) {
	rows := a.cfg.Rows()
	var seen []byte
	for i := range rows {
		seen = append(seen, rows[i].ID...)
		seen = append(seen, rows[i].State...)
		seen = append(seen, '\n')
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.set != nil && bytes.Equal(seen, a.seen) && len(rows) > 0 {
		return a.set, nil
	}
	if len(rows) == 0 {
		return a.joined()
	}
	fresh, err := a.read(rows)
	if err != nil {
		return nil, err
	}
	if fresh.keyErr == nil { // a sealing key that is brought back is noticed
		a.set, a.seen = fresh, seen
	}
	if err := a.publish(fresh); err != nil {
		a.cfg.Logger.Error("the trusted authorities could not be written for commands on this machine", "file", a.path(bundleFile), "error", err)
	}
	return fresh, nil
}

// read makes a set of rows.
func (a *Authority) read(rows []model.Authority) (*set, error) {
	out := &set{pool: x509.NewCertPool()}
	for i := range rows {
		certificate, err := x509.ParseCertificate(rows[i].Certificate)
		if err != nil {
			return nil, fmt.Errorf("pki: authority %s: %w", rows[i].ID, err)
		}
		one := trusted{rows[i], certificate}
		out.pool.AddCert(certificate)
		if rows[i].State != model.AuthorityActive {
			out.trusted = append(out.trusted, one)
			continue
		}
		out.trusted = append([]trusted{one}, out.trusted...)
		out.key, out.keyErr = a.unseal(&rows[i], certificate)
	}
	if len(out.trusted) > 0 && out.trusted[0].row.State != model.AuthorityActive {
		return nil, fmt.Errorf("pki: none of %d authorities is active", len(rows))
	}
	return out, nil
}

func (a *Authority) unseal(row *model.Authority, certificate *x509.Certificate) (crypto.Signer, error) {
	seal, err := ReadSeal(a.cfg.Dir)
	if err != nil {
		return nil, err
	}
	key, err := seal.open(a.cfg.Cluster, row)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("pki: the key of authority %s is not that of its certificate", row.ID)
	}
	return key, nil
}

// signing gives the active authority with its key.
func (a *Authority) signing() (*set, error) {
	s, err := a.current()
	switch {
	case err != nil:
		return nil, err
	case len(s.trusted) == 0 || s.trusted[0].row.ID == "":
		return nil, ErrNone
	case s.keyErr != nil:
		return nil, s.keyErr
	}
	return s, nil
}

// Check reports why this node cannot sign.
func (a *Authority) Check() error {
	_, err := a.signing()
	return err
}

// trustedNow is current for those who can do nothing about an error.
func (a *Authority) trustedNow() *set {
	s, err := a.current()
	if err != nil {
		a.cfg.Logger.Error("the certificate authorities cannot be read", "error", err)
		return &set{pool: x509.NewCertPool()}
	}
	return s
}

// ID is that of the active authority; empty before there is one.
func (a *Authority) ID() string {
	if s := a.trustedNow(); len(s.trusted) > 0 {
		return s.trusted[0].row.ID
	}
	return ""
}

// Hash is the SHA-256 of the active authority's public key: what new join tokens pin.
func (a *Authority) Hash() (hash [32]byte) {
	if s := a.trustedNow(); len(s.trusted) > 0 {
		hash = transport.HashKey(s.trusted[0].certificate)
	}
	return hash
}

// Trusts reports whether a join token's hash is that of a trusted authority.
func (a *Authority) Trusts(hash [32]byte) bool {
	for _, t := range a.trustedNow().trusted {
		if transport.HashKey(t.certificate) == hash {
			return true
		}
	}
	return false
}

// Pool holds all trusted authorities, for verification.
func (a *Authority) Pool() *x509.CertPool { return a.trustedNow().pool }

// Certificates are those of all trusted authorities, DER, as agents are given them.
func (a *Authority) Certificates() [][]byte {
	var out [][]byte
	for _, t := range a.trustedNow().trusted {
		out = append(out, t.certificate.Raw)
	}
	return out
}

// Bundle is the same as PEM, for people and browsers.
func (a *Authority) Bundle() []byte { return bundle(a.Certificates()) }

func bundle(certificates [][]byte) (text []byte) {
	for _, der := range certificates {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kindCertificate, Bytes: der})...)
	}
	return text
}

// publish keeps the file of trusted authorities in step with the rows.
func (a *Authority) publish(s *set) error {
	var certificates [][]byte
	for _, t := range s.trusted {
		certificates = append(certificates, t.certificate.Raw)
	}
	text := bundle(certificates)
	if old, err := os.ReadFile(a.path(bundleFile)); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return atomicfile.Write(a.path(bundleFile), text, 0o644)
}

func (a *Authority) path(name string) string { return filepath.Join(a.cfg.Dir, name) }

// MintToken makes a join token that pins the active authority. The state keeps its hash.
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
func (s *set) sign(template *x509.Certificate, public crypto.PublicKey, life time.Duration, now time.Time) ([]byte, error) {
	by := s.trusted[0].certificate
	template.NotBefore, template.NotAfter = now.Add(-transport.DatedBack), now.Add(life)
	if template.NotAfter.After(by.NotAfter) {
		template.NotAfter = by.NotAfter
	}
	if !now.Before(template.NotAfter) {
		return nil, fmt.Errorf("pki: certificate authority %s expired at %s: add and activate another",
			s.trusted[0].row.ID, by.NotAfter.Format(time.RFC3339))
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, by, public, s.key)
}

// idOf names an authority as join tokens pin it.
func idOf(key *ecdsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}
