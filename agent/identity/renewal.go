package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

const (
	recoveriesFile = "recoveries"   // a number
	requestFile    = "renewal.json" // the request of a renewal that was not answered yet
)

// renewal is a request that waits for its answer.
type renewal struct {
	Serial  string `json:"serial"` // of the certificate in force when it was made
	Request []byte `json:"request"`
}

// Recoveries counts the renewals with an expired certificate, as the control plane does
// too: a second copy of the key shows by another count.
func (id *Identity) Recoveries() uint64 {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.recoveries
}

// loadRecoveries reads the count. One that cannot be read is for a person to look at: a wrong
// one makes this agent look like a second copy of its key.
func (id *Identity) loadRecoveries() error {
	text, err := os.ReadFile(filepath.Join(id.dir, recoveriesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if id.recoveries, err = strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64); err != nil {
		return fmt.Errorf("%s: %w: write the number there that the control plane shows for this agent, or enrol it again",
			filepath.Join(id.dir, recoveriesFile), err)
	}
	return nil
}

// Request asks for a new certificate for the registered key. Until Replace it is the same
// request, over restarts too: an answer may be lost after the control plane has counted a
// recovery, and it knows the repeat by its bytes.
func (id *Identity) Request() ([]byte, error) {
	serial := id.Certificate().SerialNumber.Text(16)
	var waiting renewal
	ok, err := readJSON(id.dir, requestFile, &waiting)
	if err != nil {
		return nil, err
	}
	if ok && waiting.Serial == serial {
		return waiting.Request, nil
	}
	request, err := requestFor(id.key)
	if err != nil {
		return nil, err
	}
	return request, writeJSON(id.dir, requestFile, renewal{Serial: serial, Request: request})
}

// Replace puts renewed certificates in force. The count of recoveries is written first: a
// crash before the certificate leaves a request whose repeat is answered with this count.
func (id *Identity) Replace(certificates, authorities [][]byte, recoveries uint64) error {
	if len(certificates) == 0 || len(authorities) == 0 {
		return errors.New("renewal gave no certificate")
	}
	leaf, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		return err
	}
	if public, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(&id.key.PublicKey) {
		return errors.New("renewal gave a certificate for another key")
	}
	if recoveries != id.Recoveries() {
		if err := write(id.dir, recoveriesFile, strconv.AppendUint(nil, recoveries, 10)); err != nil {
			return err
		}
		id.mu.Lock()
		id.recoveries = recoveries
		id.mu.Unlock()
	}
	if err := writeCertificates(id.dir, certificates, authorities); err != nil {
		return err
	}
	if err := id.load(); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(id.dir, requestFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
