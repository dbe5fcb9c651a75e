package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/transport"
)

// First makes the authority of a new cluster: active from the start. The sealing key must
// be in the directory.
func First(dir, cluster string, now time.Time) (model.Authority, error) {
	if !nameForm.MatchString(cluster) {
		return model.Authority{}, fmt.Errorf("pki: cluster id %q: use small letters, digits, dot, dash and underscore", cluster)
	}
	row, _, err := makeAuthority(dir, cluster, now)
	row.State, row.Activated = model.AuthorityActive, now
	return row, err
}

// Next makes an authority to be added: trusted, and cross-signed by the active one, so that
// whoever knows only that one verifies what the new one signs.
func (a *Authority) Next(now time.Time) (model.Authority, error) {
	s, err := a.signing()
	if err != nil {
		return model.Authority{}, err
	}
	row, key, err := makeAuthority(a.cfg.Dir, a.cfg.Cluster, now)
	if err != nil {
		return row, err
	}
	by := s.trusted[0].certificate
	template := authorityTemplate(a.cfg.Cluster, row.ID, now)
	if template.NotAfter.After(by.NotAfter) {
		template.NotAfter = by.NotAfter
	}
	row.State = model.AuthorityNext
	row.Cross, err = x509.CreateCertificate(rand.Reader, template, by, key.Public(), s.key)
	return row, err
}

func makeAuthority(dir, cluster string, now time.Time) (row model.Authority, key *ecdsa.PrivateKey, err error) {
	seal, err := ReadSeal(dir)
	if err != nil {
		return row, nil, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return row, nil, err
	}
	if row.ID, err = idOf(key); err != nil {
		return row, nil, err
	}
	row.Created = now
	template := authorityTemplate(cluster, row.ID, now)
	if row.Certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), crypto.Signer(key)); err != nil {
		return row, nil, err
	}
	row.SealedKey, err = seal.close(cluster, row.ID, key)
	return row, key, err
}

func authorityTemplate(cluster, id string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          newSerial(),
		Subject:               pkix.Name{CommonName: "Crossdock " + cluster + " " + id[:8]},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: cluster}},
		NotBefore:             now.Add(-transport.DatedBack),
		NotAfter:              now.Add(AuthorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLen:            maxPath,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}
