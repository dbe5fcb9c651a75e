package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
)

// Causes for which a call is refused before the service sees it. They are the labels of
// the metrics, and travel with the refusal in refusedHeader.
const (
	causeForeign  = "foreign_authority"
	causeCluster  = "other_cluster"
	causeIdentity = "no_identity"
	causeRevoked  = "revoked"
	causeExpired  = "expired"   // may still be renewed
	causeTooOld   = "untrusted" // expired longer ago than the trust age
	causeStranger = "no_certificate"
	causeProtocol = "protocol"

	refusedHeader = "Crossdock-Refused"
)

// refusal is a refused call: for whom, and under what it is counted.
type refusal struct {
	code  connect.Code
	cause string
	text  string
}

func refuse(code connect.Code, cause, format string, args ...any) *refusal {
	return &refusal{code: code, cause: cause, text: fmt.Sprintf(format, args...)}
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) wire() *connect.Error {
	err := connect.NewError(r.code, r)
	err.Meta().Set(refusedHeader, r.cause)
	return err
}

// verdict is what a server thinks of the certificate of one connection. It is reached at
// the first call and not in the handshake: an alert in the handshake has no words, and on
// TCP it often does not arrive. Nothing is given away by that, since callers without a
// certificate come through the handshake too, in order to enrol.
type verdict struct {
	once    sync.Once
	id      Identity
	refused *refusal
}

type verdictKey struct{}

func withVerdict(ctx context.Context) context.Context {
	return context.WithValue(ctx, verdictKey{}, &verdict{})
}

// judge checks a connection's chain and cluster, once, and time and standing always.
func (s *Server) judge(ctx context.Context, cs *tls.ConnectionState) (Identity, *refusal) {
	v, ok := ctx.Value(verdictKey{}).(*verdict)
	if !ok {
		v = &verdict{}
	}
	v.once.Do(func() {
		v.id, v.refused = s.verify(cs)
		result := "ok"
		if v.refused != nil {
			result = v.refused.cause
			s.cfg.Logger.Warn("agent's certificate refused", "cause", v.refused.cause, "error", v.refused.text)
		}
		s.cfg.Metrics.Connections.WithLabelValues(result).Inc()
	})
	id := v.id
	if v.refused != nil {
		return id, v.refused
	}
	if s.cfg.Revoked(id) {
		return id, refuse(connect.CodePermissionDenied, causeRevoked, "agent %s is revoked: enrol again with a new join token", id.Agent)
	}
	if past := s.cfg.Now().Sub(id.NotAfter); past > s.cfg.TrustAge {
		return id, refuse(connect.CodeUnauthenticated, causeTooOld, "certificate of %s expired at %s, longer ago than the trust age of %s: enrol again",
			id.Agent, id.NotAfter.Format(time.RFC3339), s.cfg.TrustAge)
	} else if past > 0 {
		return id, refuse(connect.CodeUnauthenticated, causeExpired, "certificate of %s expired at %s: renew it first",
			id.Agent, id.NotAfter.Format(time.RFC3339))
	}
	return id, nil
}

func (s *Server) verify(cs *tls.ConnectionState) (Identity, *refusal) {
	leaf := cs.PeerCertificates[0]
	id, err := ParseIdentity(leaf)
	if err != nil {
		return id, refuse(connect.CodeUnauthenticated, causeIdentity, "%v: enrol again", err)
	}
	// The chain is checked as of the certificate's own time; judge looks at the clock. A
	// certificate that begins in the future was given out by a clock that has gone back
	// since, and is none the worse for it.
	at := s.cfg.Now()
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter
	}
	if at.Before(leaf.NotBefore) {
		at = leaf.NotBefore
	}
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: s.cfg.Authorities(), Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return id, refuse(connect.CodeUnauthenticated, causeForeign, "certificate of %s is not of this cluster's authority (%v): enrol again", id.URI(), err)
	}
	if id.Cluster != s.cfg.Cluster {
		return id, refuse(connect.CodeUnauthenticated, causeCluster, "certificate of %s is of cluster %s, this is %s: enrol again", id.Agent, id.Cluster, s.cfg.Cluster)
	}
	return id, nil
}

func (s *Server) tlsConfig(protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.cfg.Certificate()
		},
		// The handshake proves that the caller has the key of the certificate that it
		// shows; judge decides about the certificate. No list of authorities is sent,
		// because an agent whose certificate does not match it would show none.
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
}
