// Package identity owns who the agent is: its private key, the certificate that the
// control plane gave it, the authorities that it trusts, its epoch, the number of its
// newest session, and what it remembers of the control plane.
//
// It refuses to know how certificates and epochs are asked for and what they are used on.
// Its invariant: the key never leaves the directory, the directory always holds a
// certificate for exactly that key, and what a method has returned as done is on disk.
package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/transport"
)

// ErrNotEnrolled says that the directory holds no identity.
var ErrNotEnrolled = errors.New("this agent is not enrolled: run crossdock-agent enroll with a join token")

// Granted is what enrolment gives.
type Granted struct {
	Cluster string `json:"cluster"`
	Agent   string `json:"agent"`
	Site    string `json:"site"`
	Epoch   uint64 `json:"epoch"`
}

const (
	keyFile       = "key.pem"
	newKeyFile    = "key.new.pem"
	agentFile     = "agent.json" // written last: an identity without it is not complete
	chainFile     = "certificate.pem"
	authorityFile = "authorities.pem"
)

// Files that come and go with an identity. A new enrolment begins without them.
var ofOneIdentity = []string{recoveriesFile, requestFile, epochFile, baselineFile, knownFile, sealingFile}

// Identity is an enrolled agent's. It is safe for concurrent use.
type Identity struct {
	Granted
	dir string
	key *ecdsa.PrivateKey

	mu          sync.RWMutex // guards what follows, and Granted.Epoch
	certificate tls.Certificate
	leaf        *x509.Certificate
	authorities *x509.CertPool
	recoveries  uint64
	session     uint64 // newest number given; 0: not read yet
	known       known
}

// NewRequest makes a key in dir and a certificate request for it. An identity that is
// there already stays in force until Accept. A key whose request was never answered is
// used again: the control plane answers a repeat of one token for one key.
func NewRequest(dir string) (request []byte, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, newKeyFile)
	if key, err := readKey(path); err == nil {
		return requestFor(key)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := write(dir, newKeyFile, text); err != nil {
		return nil, err
	}
	return requestFor(key)
}

func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: not a key in PEM form", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an ECDSA key", path)
	}
	return key, nil
}

func requestFor(key *ecdsa.PrivateKey) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "crossdock-agent"}}, key)
}

// Accept stores what enrolment gave for the request that NewRequest made.
func Accept(dir string, granted Granted, certificates, authorities [][]byte) error {
	if len(certificates) == 0 || len(authorities) == 0 {
		return errors.New("enrolment gave no certificate")
	}
	if err := os.Remove(filepath.Join(dir, agentFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(filepath.Join(dir, newKeyFile), filepath.Join(dir, keyFile)); err != nil {
		return err
	}
	for _, name := range ofOneIdentity {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := writeCertificates(dir, certificates, authorities); err != nil {
		return err
	}
	if err := writeJSON(dir, agentFile, granted); err != nil {
		return err
	}
	keepSpare(dir)
	return nil
}

func writeJSON(dir, name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return write(dir, name, text)
}

// readJSON reads a file of this directory; ok is false when there is none, or it is damaged.
func readJSON(dir, name string, value any) (ok bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return json.Unmarshal(text, value) == nil, nil
}

func writeCertificates(dir string, certificates, authorities [][]byte) error {
	if err := write(dir, authorityFile, encode(authorities)); err != nil {
		return err
	}
	return write(dir, chainFile, encode(certificates))
}

func encode(ders [][]byte) []byte {
	var b bytes.Buffer
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.Bytes()
}

// Open reads the identity in dir. ErrNotEnrolled if there is none.
func Open(dir string) (*Identity, error) {
	text, err := os.ReadFile(filepath.Join(dir, agentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	} else if err != nil {
		return nil, err
	}
	id := &Identity{dir: dir}
	if err := json.Unmarshal(text, &id.Granted); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, agentFile), err)
	}
	if err := id.load(); err != nil {
		return nil, err
	}
	if _, err := readJSON(dir, knownFile, &id.known); err != nil {
		return nil, err
	}
	return id, id.loadRecoveries()
}

func (id *Identity) load() error {
	chain, err := os.ReadFile(filepath.Join(id.dir, chainFile))
	if err != nil {
		return err
	}
	keyText, err := os.ReadFile(filepath.Join(id.dir, keyFile))
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(chain, keyText)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(id.dir, chainFile), err)
	}
	key, ok := certificate.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return fmt.Errorf("%s: not an ECDSA key", filepath.Join(id.dir, keyFile))
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return err
	}
	authorityText, err := os.ReadFile(filepath.Join(id.dir, authorityFile))
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorityText) {
		return fmt.Errorf("%s: no certificate in it", filepath.Join(id.dir, authorityFile))
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.key, id.certificate, id.leaf, id.authorities = key, certificate, leaf, pool
	return nil
}

// Held tells whose identity is in dir, complete or not; nobody's if there is none, or it
// cannot be read any more.
func Held(dir string) (granted Granted, err error) {
	if ok, err := readJSON(dir, agentFile, &granted); err != nil || !ok {
		return Granted{}, err
	}
	return granted, nil
}

// TLS gives the client side of the mutual handshake, as of now.
func (id *Identity) TLS() *tls.Config {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return transport.AgentTLS(id.certificate, id.authorities)
}

// Certificate is the one in force.
func (id *Identity) Certificate() *x509.Certificate {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.leaf
}

// Chain is the certificate in force, and those that lead from it to the authorities.
func (id *Identity) Chain() (chain []*x509.Certificate) {
	id.mu.RLock()
	defer id.mu.RUnlock()
	for _, der := range id.certificate.Certificate {
		if c, err := x509.ParseCertificate(der); err == nil { // the leaf was parsed when it was loaded
			chain = append(chain, c)
		}
	}
	return chain
}

// RenewAt is when two thirds of the certificate's life are over.
func (id *Identity) RenewAt() time.Time {
	leaf := id.Certificate()
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) * 2 / 3)
}
