package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const cluster = "c1"

// replica is the real state machine, fed without raft.
type replica struct {
	*state.Machine
	t testing.TB

	mu       sync.Mutex // guards what follows
	index    uint64
	watchers map[string][]chan struct{}
	down     error
	damaged  map[uint64]bool // positions of mail that cannot be read at this node
	others   bool            // other nodes have what this one cannot read
	onMail   func()          // called once, when mail is looked for
}

var _ gateway.Store = (*replica)(nil)

func newReplica(t testing.TB) *replica {
	m, err := state.Open(state.Config{Dir: t.TempDir(), MaxSize: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return &replica{Machine: m, t: t, watchers: map[string][]chan struct{}{}}
}

func (r *replica) Apply(_ context.Context, cmd model.Command) (any, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != nil {
		return nil, r.down
	}
	text, err := state.Encode(cmd)
	if err != nil {
		return nil, err
	}
	r.index++
	out, err := r.Machine.Apply([]state.Entry{{Index: r.index, Term: 1, Data: state.AppendToEntry(nil, text)}})
	if err != nil {
		r.t.Error(err)
		return nil, err
	}
	for _, topic := range out.Topics {
		r.publish(topic)
	}
	result := out.Results[0][0]
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Value, nil
}

func (r *replica) Mail(agent string, after uint64, maxBytes int) []model.Mail {
	r.mu.Lock()
	then := r.onMail
	r.onMail = nil
	r.mu.Unlock()
	if then != nil {
		then()
	}
	mail := r.Machine.Mail(agent, after, maxBytes)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range mail {
		if r.damaged[mail[i].Position] {
			mail[i].Block, mail[i].Damaged = nil, "bad checksum"
		}
	}
	return mail
}

func (r *replica) Spoiled(what string) error {
	if r.others {
		return model.Errorf(model.Unavailable, "%s", what)
	}
	return nil
}

func (r *replica) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.down
}

func (r *replica) setDown(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = err
	r.publish("ready")
}

// publish is called with the lock held.
func (r *replica) publish(topic string) {
	for _, w := range r.watchers[topic] {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (r *replica) Watch(topic string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers[topic] = append(r.watchers[topic], c)
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watchers[topic] = slices.DeleteFunc(r.watchers[topic], func(w chan struct{}) bool { return w == c })
	}
}

// node is a control plane without a network.
type node struct {
	t       testing.TB
	store   *replica
	pki     *pki.Authority
	gateway *gateway.Gateway
}

var roles = []model.Role{model.Viewer, model.Operator, model.Author, model.Approver, model.Admin}

func newNode(t testing.TB, change ...func(*gateway.Config)) *node {
	dir := t.TempDir()
	if err := pki.WriteSeal(dir, pki.NewSeal()); err != nil {
		t.Fatal(err)
	}
	first, err := pki.First(dir, cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	store := newReplica(t)
	ca, err := pki.New(pki.Config{Dir: dir, Cluster: cluster, Rows: store.Authorities})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, store: store, pki: ca}
	cfg := gateway.Config{Store: n.store, Authority: ca, Node: "n1", BeatEvery: 20 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	if n.gateway, err = gateway.New(cfg); err != nil {
		t.Fatal(err)
	}
	n.must(&model.Bootstrap{Asked: asked(""), Cluster: model.Cluster{ID: cluster, Approvals: model.ApprovalsSingle},
		Admin: model.Principal{Name: "root", Roles: roles, TokenHash: [32]byte{1}}, Authority: first, Node: model.Node{ID: "n1", Sync: []string{"n1:7400"}}})
	return n
}

func asked(by string) model.Asked { return model.Asked{By: by, At: time.Now()} }

func (n *node) must(cmd model.Command) any {
	n.t.Helper()
	result, err := n.store.Apply(n.t.Context(), cmd)
	if err != nil {
		n.t.Fatalf("%T: %v", cmd, err)
	}
	return result
}

// activate puts a bundle for the sites in force.
func (n *node) activate(bundle string, sites ...string) {
	n.t.Helper()
	n.enforce(&model.Propose{Asked: asked("root"), Bundle: []byte(bundle), Digest: sha256.Sum256([]byte(bundle)), Sites: sites})
}

// move is like activate, with a system that takes the place of another.
func (n *node) move(bundle string, move model.Move, sites ...string) {
	n.t.Helper()
	n.enforce(&model.Propose{Asked: asked("root"), Bundle: []byte(bundle), Digest: sha256.Sum256([]byte(bundle)), Sites: sites, Moves: []model.Move{move}})
}

func (n *node) enforce(proposal *model.Propose) {
	n.t.Helper()
	r := n.must(proposal).(*model.Revision)
	n.must(&model.Approve{Asked: asked("root"), Number: r.ID.Number, Digest: r.Digest})
}

func (n *node) token(site string, life time.Duration) transport.Token {
	n.t.Helper()
	token := n.pki.MintToken()
	n.must(&model.CreateJoinToken{Asked: asked("root"), Token: model.JoinToken{
		ID: token.ID, Hash: token.SecretHash(), Site: site, Created: time.Now(), Expires: time.Now().Add(life)}})
	return token
}

func newRequest(t testing.TB) (csr []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return requestFor(t, key), key
}

func requestFor(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// agent is an enrolled agent with an open session.
type agent struct {
	*transport.Session
	t    testing.TB
	node *node
	id   transport.Identity
	key  *ecdsa.PrivateKey
}

func (n *node) anonymous() *transport.Session { return n.session(transport.Identity{}) }

func (n *node) session(id transport.Identity) *transport.Session {
	n.t.Helper()
	s, err := transport.NewMemory(n.gateway.Handler(), id, transport.Faults{}).Session(n.t.Context(), silent)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.Close() })
	return s
}

func silent(context.Context, syncpbconnect.SyncClient) error { return nil }

// join enrols an agent and opens a session with the identity that it was given.
func (n *node) join(site string) *agent {
	n.t.Helper()
	csr, key := newRequest(n.t)
	answer, err := n.anonymous().Client.Enroll(n.t.Context(), connect.NewRequest(&syncpb.EnrollRequest{
		Token: n.token(site, time.Minute).String(), CertificateRequest: csr}))
	if err != nil {
		n.t.Fatal(err)
	}
	return n.as(answer.Msg.Certificates[0], key)
}

func (n *node) as(certificate []byte, key *ecdsa.PrivateKey) *agent {
	n.t.Helper()
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		n.t.Fatal(err)
	}
	id, err := transport.ParseIdentity(cert)
	if err != nil {
		n.t.Fatal(err)
	}
	return &agent{Session: n.session(id), t: n.t, node: n, id: id, key: key}
}

func (a *agent) hello() *syncpb.HelloResponse {
	a.t.Helper()
	answer, err := a.Client.Hello(a.t.Context(), connect.NewRequest(&syncpb.HelloRequest{Protocol: 1, Epoch: 1}))
	if err != nil {
		a.t.Fatal(err)
	}
	return answer.Msg
}

// block cuts a block of count events that begins with first on the lane to destination.
func cut(t testing.TB, origin block.Origin, destination string, first uint64, count int) []byte {
	t.Helper()
	items := make([]block.Item, count)
	for i := range items {
		items[i] = block.Item{Head: block.Head{Type: "order.captured.v1", Received: time.Now(), Occurred: time.Now()}, Body: []byte("body")}
	}
	text, err := block.Cut(origin, []block.Lane{{Agent: destination, First: first}}, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// factBlock cuts a block with one fact for the control plane.
func factBlock(t testing.TB, origin block.Origin, fact model.Fact) []byte {
	t.Helper()
	data, err := json.Marshal(fact)
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{ID: "1", Source: "/test", Type: model.FactType, Data: data}
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	out, err := block.Cut(origin, []block.Lane{{Agent: block.Control, First: 1}}, []block.Item{{
		Head: block.Head{Type: model.FactType, System: "s", Received: time.Now(), Occurred: time.Now()}, Body: block.AppendBody(nil, "", text)}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (a *agent) push(request *syncpb.PushRequest) (*syncpb.PushResponse, error) {
	answer, err := a.Client.Push(a.t.Context(), connect.NewRequest(request))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

func (a *agent) ack(request *syncpb.AckRequest) error {
	_, err := a.Client.Ack(a.t.Context(), connect.NewRequest(request))
	return err
}

// pulling is an open stream.
type pulling struct {
	*connect.ServerStreamForClient[syncpb.PullResponse]
	t testing.TB
}

func (a *agent) pull(request *syncpb.PullRequest) *pulling {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 20*time.Second)
	stream, err := a.Client.Pull(ctx, connect.NewRequest(request))
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { cancel(); stream.Close() })
	return &pulling{stream, a.t}
}

// next is the next message that is no beat; nil when the stream has ended.
func (p *pulling) next() *syncpb.PullResponse {
	for p.Receive() {
		if p.Msg().GetBeat() == nil {
			return p.Msg()
		}
	}
	return nil
}

func (p *pulling) mail(position uint64) *syncpb.Delivery {
	p.t.Helper()
	m := p.next()
	if m.GetDelivery().GetMailbox() != position {
		p.t.Fatalf("got %v, want mail %d (%v)", m, position, p.Err())
	}
	return m.GetDelivery()
}

// until waits for something that comes about by itself.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

// says checks an error's code and a part of its text.
func says(t testing.TB, err error, code connect.Code, text string) {
	t.Helper()
	coded := new(connect.Error)
	if !errors.As(err, &coded) || coded.Code() != code || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want code %v and %q", err, code, text)
	}
}
