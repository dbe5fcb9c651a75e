package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// enrol joins as an agent would, with the token that the command showed.
func (n *node) enrol(site string) *transport.Dialer {
	n.t.Helper()
	text, _ := n.run(0, "token", "create", "--site", site)
	token, err := transport.ParseToken(strings.TrimSpace(text))
	if err != nil {
		n.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		n.t.Fatal(err)
	}
	addresses := []string{n.plane.Addresses().Sync}
	answer, err := transport.Enroll(n.t.Context(),
		transport.EnrollConfig{Addresses: addresses, CAHash: token.CAHash, Mode: transport.TCP},
		&syncpb.EnrollRequest{Token: token.String(), CertificateRequest: request, Version: "test"})
	if err != nil {
		n.t.Fatalf("enrol at %s: %v", site, err)
	}
	pool := x509.NewCertPool()
	for _, der := range answer.GetAuthorities() {
		authority, err := x509.ParseCertificate(der)
		if err != nil {
			n.t.Fatal(err)
		}
		pool.AddCert(authority)
	}
	certificate := tls.Certificate{Certificate: answer.GetCertificates(), PrivateKey: key}
	dialer, err := transport.NewDialer(transport.DialerConfig{
		Addresses: addresses, Mode: transport.TCP,
		TLS: func() (*tls.Config, error) { return transport.AgentTLS(certificate, pool), nil },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return dialer
}

func noHello(context.Context, syncpbconnect.SyncClient) error { return nil }

// answerTraces pulls as the agent does and answers every trace with one text, until its
// stream ends. It gives the stream's end.
func answerTraces(t *testing.T, session *transport.Session, text string) <-chan error {
	t.Helper()
	stream, err := session.Client.Pull(t.Context(), connect.NewRequest(&syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for stream.Receive() {
			command := stream.Msg().GetCommand()
			if command.GetKind() != "trace" {
				continue
			}
			_, err := session.Client.Ack(t.Context(), connect.NewRequest(&syncpb.AckRequest{
				Answers: []*syncpb.CommandAnswer{{Id: command.GetId(), Result: []byte(text)}},
				Status:  []byte(`{"version":"1.2.3","transport":"tcp","delivered":42}`),
			}))
			if err != nil {
				break
			}
		}
		ended <- stream.Err()
	}()
	return ended
}

// until repeats a look until it finds what it waits for.
func until(t *testing.T, what string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !look(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func TestAgentJoinsIsTracedAndRevoked(t *testing.T) {
	n := startNode(t, testConfig(t, "single"))
	eu := n.enrol("eu")
	n.enrol("na") // enrolled, never connected
	session, err := eu.Session(t.Context(), noHello)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ended := answerTraces(t, session, `{"now":"2026-05-04T10:00:00.000Z","hops":[
		{"event":"e1","type":"order.captured.v1","key":"10248","hop":"received","peer":"na","at":"2026-05-04T09:00:00.002Z"},
		{"event":"e1","hop":"dead","system":"erp","route":"orders","at":"2026-05-04T09:00:01.000Z","attempts":3,"status":422,
		 "detail":"no \u001b[31mcustomer"}]}`)
	var agent api.Agent
	until(t, "the agent's stream", func() bool {
		n.json(&agent, "agents", "show", "eu")
		return agent.Connected
	})

	var trace api.Trace
	n.json(&trace, "events", "trace", "10248")
	if len(trace.Hops) != 2 || trace.Hops[1].Hop != "dead" || trace.Hops[0].Agent != "eu" || trace.Complete {
		t.Errorf("trace = %+v", trace)
	}
	out, said := n.run(0, "events", "trace", "10248")
	if !strings.Contains(out, "from na") || !strings.Contains(out, "erp by orders") || strings.Contains(out, "\x1b") {
		t.Errorf("trace shows %q", out)
	}
	if !strings.Contains(said, "missing: na") {
		t.Errorf("the absent agent is not named: %q", said)
	}
	until(t, "the agent's status", func() bool {
		out, _ := n.run(0, "status")
		return strings.Contains(out, "42")
	})

	n.run(0, "agents", "revoke", "eu")
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("a revoked agent's stream stays open")
	}
	if out, _ := n.run(0, "agents"); !strings.Contains(out, "revoked") {
		t.Errorf("agents = %s", out)
	}
	if _, err := session.Client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 1})); err == nil {
		t.Error("a revoked agent may still speak")
	}
}
