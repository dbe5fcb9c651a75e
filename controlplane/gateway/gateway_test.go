package gateway_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

func TestEnroll(t *testing.T) {
	metrics := gateway.NewMetrics(nil)
	n := newNode(t, func(c *gateway.Config) { c.Metrics, c.EnrollRate, c.EnrollBurst = metrics, 1e-9, 20 })
	csr, key := newRequest(t)
	other, _ := newRequest(t)
	good := n.token("berlin", time.Minute)
	foreign := good
	foreign.CAHash[0]++
	wrong := n.token("berlin", time.Minute)
	wrong.Secret[0]++
	tests := []struct {
		name  string
		token string
		agent string
		csr   []byte
		code  connect.Code
		want  string
	}{
		{"no token", "", "", csr, connect.CodeInvalidArgument, "xd1.<id>"},
		{"token of another cluster", foreign.String(), "", csr, connect.CodeInvalidArgument, "another cluster"},
		{"no request", good.String(), "", nil, connect.CodeInvalidArgument, "certificate request"},
		{"wrong secret", wrong.String(), "", csr, connect.CodeUnauthenticated, "not known"},
		{"unknown", n.pki.MintToken().String(), "", csr, connect.CodeUnauthenticated, "not known"},
		{"another site", good.String(), "paris", csr, connect.CodePermissionDenied, "for site berlin"},
		{"expired", n.token("berlin", time.Nanosecond).String(), "", csr, connect.CodePermissionDenied, "expired"},
		{"good", good.String(), "berlin", csr, 0, ""},
		{"repeated, as the answer was lost", good.String(), "", csr, 0, ""},
		{"used", good.String(), "", other, connect.CodePermissionDenied, "was used"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			answer, err := n.anonymous().Client.Enroll(t.Context(), connect.NewRequest(&syncpb.EnrollRequest{
				Token: test.token, Agent: test.agent, CertificateRequest: test.csr}))
			if test.code != 0 {
				says(t, err, test.code, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := n.as(answer.Msg.Certificates[0], key)
			if row, _ := n.store.Agent("berlin"); row.Serial != a.id.Serial || row.Key != a.id.Key || answer.Msg.Epoch != 1 || answer.Msg.Cluster != cluster {
				t.Errorf("row %+v, identity %+v, answer %v", row, a.id, answer.Msg)
			}
		})
	}
	if got := testutil.ToFloat64(metrics.Enrolled.WithLabelValues("ok")); got != 2 {
		t.Errorf("%v enrolments counted", got)
	}
	if got := testutil.ToFloat64(metrics.Enrolled.WithLabelValues("permission_denied")); got != 3 {
		t.Errorf("%v refusals counted, want 3", got)
	}
	for range 20 {
		_, err := n.anonymous().Client.Enroll(t.Context(), connect.NewRequest(&syncpb.EnrollRequest{}))
		if connect.CodeOf(err) == connect.CodeResourceExhausted {
			return
		}
	}
	t.Error("enrolment has no limit")
}

func TestRenew(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	renew := func(csr []byte) error {
		answer, err := a.Client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: csr}))
		if err != nil {
			return err
		}
		renewed := n.as(answer.Msg.Certificates[0], a.key)
		if row, _ := n.store.Agent("berlin"); row.Serial != renewed.id.Serial || renewed.id.Serial == a.id.Serial {
			t.Errorf("serial %s, the state has %s", renewed.id.Serial, row.Serial)
		}
		return nil
	}
	if err := renew(requestFor(t, a.key)); err != nil {
		t.Error(err)
	}
	other, _ := newRequest(t)
	says(t, renew(other), connect.CodePermissionDenied, "another key")
	says(t, renew([]byte("x")), connect.CodeInvalidArgument, "certificate request")
	// Every renewal stays in the record for ever, so none may renew without end.
	for range 30 {
		if err := renew(requestFor(t, a.key)); err != nil {
			says(t, err, connect.CodeResourceExhausted, "too often")
			return
		}
	}
	t.Error("renewal has no limit")
}

// An agent speaks for itself only, whatever its messages claim.
func TestOnlyForItself(t *testing.T) {
	metrics := gateway.NewMetrics(nil)
	n := newNode(t, func(c *gateway.Config) { c.Metrics = metrics })
	n.activate("policy", "berlin", "paris")
	a := n.join("berlin")
	n.join("paris")
	mine := block.Origin{Agent: "berlin", Epoch: 1}
	tests := []struct {
		name   string
		epoch  uint64
		origin block.Origin
		code   connect.Code
		want   string
	}{
		{"own", 1, mine, 0, ""},
		{"another's block", 1, block.Origin{Agent: "paris", Epoch: 1}, connect.CodePermissionDenied, `of agent "paris"`},
		{"block of another epoch", 1, block.Origin{Agent: "berlin", Epoch: 2}, connect.CodePermissionDenied, "epoch 2"},
		{"another epoch", 2, block.Origin{Agent: "berlin", Epoch: 2}, connect.CodePermissionDenied, "fenced"},
	}
	for _, test := range tests {
		_, err := a.push(&syncpb.PushRequest{Epoch: test.epoch, Blocks: [][]byte{
			cut(t, mine, "paris", 1, 1), cut(t, test.origin, "paris", 2, 1)}})
		if test.code != 0 {
			says(t, err, test.code, test.want)
		} else if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if got := testutil.ToFloat64(metrics.Refused.WithLabelValues("origin")); got != 2 {
		t.Errorf("%v false origins counted, want 2", got)
	}
	if box := n.store.Mailbox("paris"); box.Events != 2 {
		t.Errorf("%d events in the mailbox, want 2", box.Events)
	}
	_, err := a.push(&syncpb.PushRequest{Epoch: 1})
	says(t, err, connect.CodeInvalidArgument, "0 blocks")
	_, err = a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{[]byte("garbage")}})
	says(t, err, connect.CodeInvalidArgument, "corrupt block")
	_, err = a.push(&syncpb.PushRequest{Epoch: 1, Gaps: []*syncpb.Gap{{Destination: "paris", First: 5, Last: 4}}})
	says(t, err, connect.CodeInvalidArgument, "5 to 4")
	impostor := n.session(transport.Identity{Cluster: cluster, Site: "berlin", Agent: "berlin", Key: [32]byte{9}})
	_, err = impostor.Client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 1}))
	says(t, err, connect.CodePermissionDenied, "another key")
	_, err = n.anonymous().Client.Push(t.Context(), connect.NewRequest(&syncpb.PushRequest{}))
	says(t, err, connect.CodeUnauthenticated, "enrol first")
}

func TestHello(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	a := n.join("berlin")
	answer, err := a.push(&syncpb.PushRequest{Epoch: 1,
		Blocks: [][]byte{cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "paris", 1, 3), cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "paris", 9, 1)},
		Gaps:   []*syncpb.Gap{{Destination: "paris", First: 4, Last: 6, Cause: "damaged"}, {Destination: "nowhere", First: 1, Last: 1}}})
	if err != nil || len(answer.Lanes) != 2 || answer.Lanes[0].Highwater != 6 || answer.Lanes[1].Refused == "" {
		t.Fatalf("push: %v %v", answer, err)
	}
	hello := a.hello()
	if hello.Epoch != 1 || hello.Cluster != cluster || hello.Node != "n1" || hello.Protocol != 1 || hello.Generation == 0 ||
		len(hello.Outbound) != 1 || hello.Outbound[0].Highwater != 6 || hello.Outbound[0].Destination != "paris" {
		t.Errorf("hello: %v", hello)
	}
	_, err = a.Client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{}))
	says(t, err, connect.CodeFailedPrecondition, "upgrade the agent")
	a.node.store.setDown(model.Errorf(model.Unavailable, "no leader"))
	says(t, a.ack(&syncpb.AckRequest{Status: []byte("{}")}), connect.CodeUnavailable, "no leader")
	a.node.store.setDown(nil)
}

// An agent enrolled again fences its former copy, stream included.
func TestEnrolledAgain(t *testing.T) {
	n := newNode(t)
	old := n.join("berlin")
	stream := old.pull(&syncpb.PullRequest{})
	stream.Receive()
	fresh := n.join("berlin")
	if stream.next() != nil {
		t.Error("the former copy's stream goes on")
	}
	says(t, stream.Err(), connect.CodePermissionDenied, "another copy")
	if _, err := old.Client.Hello(t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 1})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("former copy's hello: %v", err)
	}
	if !n.gateway.Revoked(old.id) || n.gateway.Revoked(fresh.id) {
		t.Error("the former copy is not seen as revoked, or the new one is")
	}
	if hello := fresh.hello(); hello.Epoch != 2 {
		t.Errorf("epoch %d after the second enrolment", hello.Epoch)
	}
}

// The whole way over real connections: enrol, connect, push, pull, be revoked.
func TestOverTheNetwork(t *testing.T) {
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
		t.Run(string(mode), func(t *testing.T) {
			n := newNode(t)
			n.activate("policy", "berlin")
			server, err := transport.Listen(transport.ServerConfig{
				Address: "127.0.0.1:0", Cluster: cluster, Handler: n.gateway.Handler(), Revoked: n.gateway.Revoked,
				Certificate: n.pki.Node("n1", []string{"127.0.0.1"}, time.Now), Authorities: n.pki.Pool,
			})
			if err != nil {
				t.Fatal(err)
			}
			serve(t, server)
			token := n.token("berlin", time.Minute)
			csr, key := newRequest(t)
			enrolled, err := transport.Enroll(t.Context(), transport.EnrollConfig{Addresses: []string{server.Addr()}, Mode: mode, CAHash: token.CAHash},
				&syncpb.EnrollRequest{Token: token.String(), CertificateRequest: csr})
			if err != nil {
				t.Fatal(err)
			}
			dialer, err := transport.NewDialer(transport.DialerConfig{Addresses: []string{server.Addr()}, Mode: mode, TLS: func() (*tls.Config, error) {
				return transport.AgentTLS(tls.Certificate{Certificate: enrolled.Certificates, PrivateKey: key}, n.pki.Pool()), nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			session, err := dialer.Session(t.Context(), silent)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			a := &agent{Session: session, t: t, node: n}
			a.hello()
			stream := a.pull(&syncpb.PullRequest{})
			if got := stream.next().GetPolicy(); string(got.GetBundle()) != "policy" {
				t.Errorf("policy %v", got)
			}
			if _, err := a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "berlin", 1, 2)}}); err != nil {
				t.Fatal(err)
			}
			stream.mail(1)
			if got, address, _, ok := n.gateway.Connection("berlin"); got != string(mode) || !strings.HasPrefix(address, "127.0.0.1:") || !ok {
				t.Errorf("connection by %s from %s", got, address)
			}
			n.must(&model.Revoke{Asked: asked("root"), Agent: "berlin"})
			if m := stream.next(); m != nil {
				t.Errorf("revoked agent was sent %v", m)
			}
			says(t, stream.Err(), connect.CodePermissionDenied, "revoked")
			_, err = dialer.Session(t.Context(), func(ctx context.Context, c syncpbconnect.SyncClient) error {
				_, err := c.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{Protocol: 1}))
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "revoked") {
				t.Errorf("revoked agent's hello: %v", err)
			}
		})
	}
}

func serve(t *testing.T, server *transport.Server) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}
