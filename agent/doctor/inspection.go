package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"time"
)

// Direct opens the way to an address without a proxy.
func Direct(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: proxyTimeout}).DialContext(ctx, "tcp", address)
}

// Inspection looks at whose certificate is shown at the end of the TCP way to an address. An
// agent trusts the authorities of its cluster alone, so that a proxy that looks into TLS
// shows here, however well this machine trusts it. It closes the connection. Where no
// handshake comes about there is no finding: link-tcp tells of that.
func Inspection(ctx context.Context, conn net.Conn, address string, authorities *x509.CertPool, quic bool) []Finding {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	// What is shown is looked at below, and nothing is sent.
	secured := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, NextProtos: []string{"h2"}, InsecureSkipVerify: true}) // #nosec G402
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil
	}
	chain := secured.ConnectionState().PeerCertificates
	f := Finding{ID: "tls-inspection", Level: OK, Seen: address + " shows a certificate of this cluster's authority: nobody looks into the traffic"}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	at := time.Now()
	if leaf := chain[0]; at.After(leaf.NotAfter) || at.Before(leaf.NotBefore) {
		at = leaf.NotBefore // who gave it out is the question here, and not when
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, CurrentTime: at}); err == nil {
		return []Finding{f}
	}
	f.Level = Fail
	f.Seen = fmt.Sprintf("%s shows a certificate of %q that was issued by %q, and not by this cluster's authority", address, named(chain[0].Subject.CommonName, chain[0].DNSNames), chain[0].Issuer.CommonName)
	f.Todo = "most likely a proxy or firewall looks into TLS: have its people exempt " + address + " from inspection, by name; else another cluster answers there, and controlplane.addresses is wrong"
	if quic {
		f.Level = Warn
		f.Todo += "; until then the agent works over QUIC alone"
	}
	return []Finding{f}
}

func named(common string, names []string) string {
	if common == "" && len(names) > 0 {
		return names[0]
	}
	return common
}
