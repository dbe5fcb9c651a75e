package doctor

import (
	"crypto/x509"
	"fmt"
	"time"
)

const lowDays = 2 * time.Hour // of a certificate that renews itself

// Certificate checks what the agent proves its identity with: its chain, leaf first, against
// the authorities of its cluster.
func Certificate(chain []*x509.Certificate, authorities *x509.CertPool, now time.Time) Finding {
	leaf := chain[0]
	left := leaf.NotAfter.Sub(now)
	f := Finding{ID: "certificate", Level: OK, Seen: fmt.Sprintf("valid until %s, %.1f days, renewed by itself", leaf.NotAfter.Local().Format(time.DateTime), left.Hours()/24)}
	switch {
	case left <= 0:
		f.Level, f.Seen = Fail, "expired on "+leaf.NotAfter.Local().Format(time.DateTime)
		f.Todo = "is this clock right? it says " + now.Local().Format(time.DateTime) + "; if it is: it renews when the control plane is reached; after a very long outage enrol again with a new join token"
		return f
	case now.Before(leaf.NotBefore):
		f.Level, f.Seen = Fail, "valid from "+leaf.NotBefore.Local().Format(time.DateTime)+" on, and this clock says "+now.Local().Format(time.DateTime)
		f.Todo = "set this clock, and have it kept: crossdock-agent help clock"
		return f
	case left < lowDays:
		f.Level, f.Todo = Warn, "it should have been renewed by now: mend the link to the control plane"
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	// As of its own time: what the clock says of it stands above.
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: authorities, Intermediates: between, CurrentTime: leaf.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		f.Level, f.Seen = Fail, "it does not lead to the authorities that are stored beside it: "+Plain(err, 0)
		f.Todo = "put the identity directory back as one whole, or enrol again with a new join token"
	}
	return f
}
