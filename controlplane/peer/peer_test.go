package peer_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/transport"
)

const patience = 20 * time.Second

// fake answers calls as a test wants.
type fake struct {
	apply func(ctx context.Context, command []byte) ([]byte, error)
	join  func(r *peer.JoinRequest) (*peer.JoinAnswer, error)
}

func (f *fake) Apply(ctx context.Context, command []byte) ([]byte, error) {
	return f.apply(ctx, command)
}
func (f *fake) Barrier(context.Context) (uint64, error) { return 1 << 40, nil }
func (f *fake) Join(_ context.Context, r *peer.JoinRequest) (*peer.JoinAnswer, error) {
	return f.join(r)
}
func (f *fake) Member(_ context.Context, r *peer.MemberRequest) error {
	return model.Errorf(model.Conflict, "%s %s", r.Change, r.Node)
}
func (f *fake) Ask(_ context.Context, r *peer.AskRequest) (json.RawMessage, error) {
	return json.RawMessage(r.Arguments), nil
}
func (f *fake) Connected(context.Context) ([]string, error)  { return []string{"eu", "na"}, nil }
func (f *fake) Status(context.Context) (*peer.Status, error) { return &peer.Status{Applied: 7}, nil }

// net of nodes of one cluster.
type nodes struct {
	t         *testing.T
	authority *pki.Authority
	at        map[string]string
	dial      func(ctx context.Context, node, address string) (net.Conn, error)
	life      string // of the nodes that are run from now on; default i1
}

func newNodes(t *testing.T) *nodes {
	t.Helper()
	dir := t.TempDir()
	if _, err := pki.OpenSeal(dir); err != nil {
		t.Fatal(err)
	}
	row, err := pki.First(dir, "c1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a, err := pki.New(pki.Config{Dir: dir, Cluster: "c1", Rows: func() []model.Authority { return []model.Authority{row} }})
	if err != nil {
		t.Fatal(err)
	}
	return &nodes{t: t, authority: a, at: map[string]string{}}
}

// run serves a node until the test ends.
func (n *nodes) run(name string, s peer.Services) (p *peer.Peers, stop func()) {
	n.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	life := n.life
	if life == "" {
		life = "i1"
	}
	p, err = peer.New(peer.Config{
		Listener: listener, Identity: peer.Identity{Cluster: "c1", Incarnation: life, Node: name}, Node: pki.ParseNode,
		Certificate: n.authority.Node(name, nil, time.Now), Authorities: n.authority.Pool, Dial: n.dial,
		Address: func(node string) (string, bool) { at, ok := n.at[node]; return at, ok },
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.at[name] = listener.Addr().String()
	if s != nil {
		p.Serve(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				n.t.Errorf("%s ended with %v", name, err)
			}
		case <-time.After(patience):
			n.t.Errorf("%s does not end", name)
		}
	}
	n.t.Cleanup(stop)
	return p, stop
}

// A node that was left behind learns of it by the status of the others, and of nothing else.
func TestAnotherLifeTellsItsStatusOnly(t *testing.T) {
	n := newNodes(t)
	one, _ := n.run("n1", nil)
	n.life = "i2"
	n.run("n2", &fake{})
	var other *peer.OtherLife
	status, err := one.Status(t.Context(), "n2")
	if status != nil || !errors.As(err, &other) || model.CodeOf(err) != model.Conflict {
		t.Fatalf("status %+v, %v", status, err)
	}
	if other.Status.Identity.Incarnation != "i2" || other.Status.Applied != 7 || other.Own.Incarnation != "i1" {
		t.Errorf("told of %+v", other)
	}
	if _, err := one.Barrier(t.Context(), "n2"); model.CodeOf(err) != model.Conflict {
		t.Errorf("a call to another life: %v", err)
	}
}

func TestStreams(t *testing.T) {
	n := newNodes(t)
	one, _ := n.run("n1", nil)
	two, stop := n.run("n2", nil)
	taken := make(chan net.Conn, 1)
	go func() {
		if c, err := two.Accept(); err == nil {
			taken <- c
		}
	}()
	out, err := one.DialNode(t.Context(), "n2")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in := <-taken
	text := bytes.Repeat([]byte("entry"), 100_000)
	go func() {
		_, err := out.Write(text)
		if err == nil {
			err = out.Close()
		}
		if err != nil {
			t.Error(err)
		}
	}()
	if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes came of %d, %v", len(got), len(text), err)
	}
	if one.Addr().String() != "n1" {
		t.Errorf("the address of a stream is %s", one.Addr())
	}
	// Who ends Accept goes on answering calls, and takes no streams.
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := two.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	two.Serve(&fake{})
	if names, err := one.Connected(t.Context(), "n2"); err != nil || len(names) != 2 {
		t.Errorf("connected %v, %v", names, err)
	}
	stop() // with a connection for calls open
	if _, err := one.DialNode(t.Context(), "n2"); err == nil {
		t.Error("a stream to a node that has ended")
	}
}

// A node that listens somewhere else than another is taken for itself only.
func TestDialNodeWantsThatNode(t *testing.T) {
	n := newNodes(t)
	one, _ := n.run("n1", nil)
	n.run("n2", nil)
	n.at["n3"] = n.at["n2"]
	if _, err := one.DialNode(t.Context(), "n3"); err == nil || !strings.Contains(err.Error(), "n2 answers there") {
		t.Errorf("dial n3 at the address of n2: %v", err)
	}
	if _, err := one.DialNode(t.Context(), "n9"); err == nil || !strings.Contains(err.Error(), "not known") {
		t.Errorf("dial of a node without an address: %v", err)
	}
}

func TestCallsTellWhatWasNotDone(t *testing.T) {
	n := newNodes(t)
	one, _ := n.run("n1", nil)
	began := make(chan struct{}, 1)
	f := &fake{apply: func(ctx context.Context, command []byte) ([]byte, error) {
		switch string(command) {
		case "hang":
			began <- struct{}{}
			<-ctx.Done()
			return nil, model.Errorf(model.Unknown, "late")
		case "follower":
			return nil, model.Errorf(model.Unavailable, "n2 does not lead")
		}
		return command, nil
	}}
	_, stop := n.run("n2", nil)
	if _, err := one.Apply(t.Context(), "n2", nil); model.CodeOf(err) != model.Unavailable || !strings.Contains(err.Error(), "starting") {
		t.Errorf("before there are services: %v", err)
	}
	stop()
	_, stop = n.run("n2", f)
	big := bytes.Repeat([]byte{7}, 2<<20)
	if got, err := one.Apply(t.Context(), "n2", big); err != nil || !bytes.Equal(got, big) {
		t.Errorf("a command of 2 MiB: %v", err)
	}
	if _, err := one.Apply(t.Context(), "n2", make([]byte, peer.MaxCommand+1)); model.CodeOf(err) != model.Invalid && model.CodeOf(err) != model.Unknown {
		t.Errorf("a command that is too large: %v", err)
	}
	if _, err := one.Apply(t.Context(), "n2", []byte("follower")); model.CodeOf(err) != model.Unavailable {
		t.Errorf("at a follower: %v", err)
	}
	if index, err := one.Barrier(t.Context(), "n2"); err != nil || index != 1<<40 {
		t.Errorf("barrier %d, %v", index, err)
	}
	if err := one.Member(t.Context(), "n2", &peer.MemberRequest{Change: peer.MemberAdd, Node: "n1"}); model.CodeOf(err) != model.Conflict || err.Error() != "add n1" {
		t.Errorf("a refusal came as %v", err)
	}
	if out, err := one.Ask(t.Context(), "n2", &peer.AskRequest{Arguments: []byte(`{"a":1}`)}); err != nil || string(out) != `{"a":1}` {
		t.Errorf("ask: %s, %v", out, err)
	}
	if status, err := one.Status(t.Context(), "n2"); err != nil || status.Applied != 7 {
		t.Errorf("status: %+v, %v", status, err)
	}
	// Cut while it is under way: it may have been done.
	cut := make(chan error, 1)
	go func() { _, err := one.Apply(context.Background(), "n2", []byte("hang")); cut <- err }()
	<-began
	stop()
	if err := <-cut; model.CodeOf(err) != model.Unknown {
		t.Errorf("cut while under way: %v", err)
	}
	if _, err := one.Apply(t.Context(), "n2", []byte("x")); model.CodeOf(err) != model.Unavailable {
		t.Errorf("to a node that is gone: %v", err)
	}
	// The caller's patience is the callee's too.
	n.run("n2", f)
	short, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := one.Apply(short, "n2", []byte("hang")); model.CodeOf(err) != model.Unknown {
		t.Errorf("given up while under way: %v", err)
	}
}

// A node that takes packets and says nothing holds nobody for long.
func TestDialIsBounded(t *testing.T) {
	n := newNodes(t)
	n.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done() // for ever, if nobody bounds it
		return nil, ctx.Err()
	}
	one, _ := n.run("n1", nil)
	n.at["n2"] = "192.0.2.1:7460"
	if _, err := one.DialNode(context.Background(), "n2"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stream: %v", err)
	}
	if _, err := one.Barrier(context.Background(), "n2"); model.CodeOf(err) != model.Unavailable {
		t.Errorf("call: %v", err)
	}
}

// Strangers cannot keep nodes out: they have places of their own, and few.
func TestStrangersAreFew(t *testing.T) {
	n := newNodes(t)
	one, _ := n.run("n1", nil)
	n.run("n2", &fake{})
	if _, err := one.Status(t.Context(), "n2"); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{}, 100)
	for range 100 {
		c, err := net.Dial("tcp", n.at["n2"])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			c.Read(make([]byte, 1)) // its end is what counts
			closed <- struct{}{}
		}()
	}
	for range 60 { // those beyond the limit go at once, long before they would be late
		select {
		case <-closed:
		case <-time.After(patience):
			t.Fatal("more strangers are kept than the limit")
		}
	}
	if _, err := one.Status(t.Context(), "n2"); err != nil {
		t.Errorf("a node while strangers are there: %v", err)
	}
	fresh, _ := n.run("n3", nil) // has no connection yet
	if _, err := fresh.Status(t.Context(), "n2"); err != nil {
		t.Errorf("a node that comes while strangers are there: %v", err)
	}
}

func TestJoinPinsTheAuthority(t *testing.T) {
	n := newNodes(t)
	asked := 0
	n.run("n1", &fake{join: func(r *peer.JoinRequest) (*peer.JoinAnswer, error) {
		asked++
		return &peer.JoinAnswer{Cluster: "c1", Node: r.Node, Authorities: n.authority.Certificates()}, nil
	}})
	request := &peer.JoinRequest{Node: "n2", Token: "secret"}
	answer, err := peer.Join(t.Context(), n.at["n1"], n.authority.MintToken(), request)
	if err != nil || answer.Node != "n2" || asked != 1 {
		t.Fatalf("%+v, %v", answer, err)
	}
	if _, err := peer.Join(t.Context(), n.at["n1"], transport.NewToken([32]byte{1}), request); err == nil || asked != 1 {
		t.Errorf("a token left for a foreign cluster: %v", err)
	}
	// A self-made certificate beside the right authority proves nothing.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: n.leaf("n1").URIs, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{
		{Certificate: append([][]byte{der}, n.authority.Certificates()...), PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	heard := make(chan int, 1)
	go func() {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got, _ := io.ReadAll(c) // whatever came before the other side left
		heard <- len(got)
	}()
	if _, err := peer.Join(t.Context(), listener.Addr().String(), n.authority.MintToken(), request); !errors.Is(err, peer.ErrForeign) {
		t.Errorf("with a self-made certificate: %v", err)
	}
	if said := <-heard; said != 0 {
		t.Errorf("%d bytes were sent to it", said)
	}
}

func (n *nodes) leaf(name string) *x509.Certificate {
	n.t.Helper()
	c, err := n.authority.NodeCertificate(name, nil, time.Hour, time.Now())
	if err != nil {
		n.t.Fatal(err)
	}
	return c.Leaf
}
