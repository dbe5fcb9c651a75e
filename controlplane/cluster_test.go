package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/transport"
)

// patience is how long a test waits for what should come within seconds.
const patience = 30 * time.Second

// running is a node in this process.
type running struct {
	t      *testing.T
	config Config
	*ControlPlane
	cancel context.CancelFunc
	ended  chan error
}

// freePort picks a port that stays this test's over restarts of a node, outside of the
// range that the system gives to others.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+mathrand.IntN(12000))
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func nodeConfig(t *testing.T, name string) Config {
	t.Helper()
	config := NewConfig()
	config.Node, config.Data, config.Approvals = name, filepath.Join(t.TempDir(), "data"), model.ApprovalsSingle
	config.Sync.Listen, config.API.Listen, config.Ops.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	config.Cluster.Listen = freePort(t)
	config.tune = func(s *store.Config) { s.Timeout = 500 * time.Millisecond }
	return config
}

// start runs a node without waiting for it.
func start(t *testing.T, config Config) *running {
	t.Helper()
	c, err := New(config, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &running{t: t, config: config, ControlPlane: c, cancel: cancel, ended: make(chan error, 1)}
	gone := make(chan struct{})
	go func() { defer close(gone); n.ended <- c.Run(ctx) }()
	t.Cleanup(func() { // nothing may be written any more when the directory goes
		n.cancel()
		select {
		case <-gone:
		case <-time.After(patience):
			t.Errorf("node %s does not end", config.Node)
		}
	})
	return n
}

func run(t *testing.T, config Config) *running {
	t.Helper()
	n := start(t, config)
	n.awaitReady()
	return n
}

func (n *running) awaitReady() {
	n.t.Helper()
	select {
	case <-n.Ready():
	case err := <-n.ended:
		n.t.Fatalf("node %s ended: %v", n.config.Node, err)
	case <-time.After(patience):
		n.t.Fatalf("node %s is not ready: %v", n.config.Node, n.store.Ready())
	}
}

func (n *running) stop() {
	n.t.Helper()
	n.cancel()
	select {
	case err := <-n.ended:
		if err != nil {
			n.t.Errorf("node %s ended with %v", n.config.Node, err)
		}
	case <-time.After(patience):
		n.t.Fatalf("node %s does not end", n.config.Node)
	}
}

func (n *running) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	n.t.Cleanup(cancel)
	return ctx
}

func asked() model.Asked { return model.Asked{By: adminName, At: time.Now().UTC()} }

func (n *running) apply(cmd model.Command) {
	n.t.Helper()
	if _, err := n.store.Apply(n.ctx(), cmd); err != nil {
		n.t.Fatalf("%s: %T: %v", n.config.Node, cmd, err)
	}
}

// add adds a person; what every node must know afterwards.
func (n *running) add(name string) {
	n.t.Helper()
	n.apply(&model.PutPrincipal{Asked: asked(), New: true, Principal: model.Principal{
		Name: name, Roles: []model.Role{model.Viewer}, TokenHash: [32]byte([]byte(fmt.Sprintf("%-32s", name))), Created: time.Now()}})
}

func (n *running) knowsPerson(name string) bool {
	if err := n.store.Fresh(n.ctx()); err != nil {
		n.t.Errorf("%s: %v", n.config.Node, err)
	}
	_, ok := n.store.Principal([32]byte([]byte(fmt.Sprintf("%-32s", name))))
	return ok
}

func (n *running) token(node string) string {
	n.t.Helper()
	token := n.authority.MintToken()
	now := time.Now().UTC()
	n.apply(&model.CreateJoinToken{Asked: asked(), Token: model.JoinToken{
		ID: token.ID, Hash: token.SecretHash(), Node: node, Created: now, Expires: now.Add(time.Hour)}})
	return token.String()
}

// join adds a node and waits until it votes.
func (n *running) join(config Config) *running {
	n.t.Helper()
	if err := Join(n.ctx(), config, n.token(config.Node), n.config.Cluster.Listen, nil); err != nil {
		n.t.Fatal(err)
	}
	other := run(n.t, config)
	until(n.t, config.Node+" votes", func() bool {
		for _, m := range n.store.Members() {
			if m.ID == config.Node {
				return m.Voter
			}
		}
		return false
	})
	return other
}

func until(t *testing.T, what string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !look(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func leaderOf(t *testing.T, nodes ...*running) *running {
	t.Helper()
	var found *running
	until(t, "a leader", func() bool {
		for _, n := range nodes {
			if _, self := n.store.Leader(); self {
				found = n
				return true
			}
		}
		return false
	})
	return found
}

func TestThreeNodes(t *testing.T) {
	one := run(t, nodeConfig(t, "node-1"))
	two, three := one.join(nodeConfig(t, "node-2")), one.join(nodeConfig(t, "node-3"))
	nodes := []*running{one, two, three}

	for _, n := range nodes {
		n.add("by-" + n.config.Node)
	}
	for _, n := range nodes {
		for _, m := range nodes {
			if !n.knowsPerson("by-" + m.config.Node) {
				t.Errorf("%s does not know what was written at %s", n.config.Node, m.config.Node)
			}
		}
	}
	until(t, "one state on all nodes, seen from a follower", func() bool {
		status := three.cluster.Status(three.ctx())
		for _, s := range status.Nodes {
			first := status.Nodes[0]
			if !s.Reached || !s.Ready || !s.Voter || s.Peer == "" || s.API == "" || s.Applied != first.Applied || s.StateHash != first.StateHash || s.StateHash == [32]byte{} {
				return false
			}
		}
		return len(status.Nodes) == 3 && status.Leader != ""
	})

	// From a node that need not lead, to one by name.
	if err := three.cluster.Transfer(three.ctx(), asked(), "node-2"); err != nil {
		t.Fatal(err)
	}
	if leader, _ := three.store.Leader(); leader != "node-2" {
		t.Errorf("after the transfer the node that was asked knows %q as leader", leader)
	}
	until(t, "node-2 leads", func() bool { _, self := two.store.Leader(); return self })
	if err := one.cluster.Transfer(one.ctx(), asked(), ""); err != nil {
		t.Fatal(err)
	}
	if leader, _ := one.store.Leader(); leader == "" || leader == "node-2" {
		t.Errorf("after a transfer to any the node that was asked knows %q as leader", leader)
	}

	two.stop()
	one.add("while-one-is-away")
	if !three.knowsPerson("while-one-is-away") {
		t.Error("a write is not on the other node")
	}
	two = run(t, two.config)
	if !two.knowsPerson("while-one-is-away") {
		t.Error("the node that was away has not caught up")
	}

	rotate(t, two, three)

	left := removeLeader(t, one, two, three)
	for _, n := range left {
		n.stop()
	}
	a, b := start(t, left[0].config), start(t, left[1].config)
	a.awaitReady()
	b.awaitReady()
	a.add("after-all")
	if !b.knowsPerson("after-all") || len(b.store.Members()) != 2 {
		t.Errorf("after a restart of all: members %v", b.store.Members())
	}
}

// removeLeader has the one that leads remove itself, by way of another, and gives the rest.
func removeLeader(t *testing.T, nodes ...*running) (left []*running) {
	t.Helper()
	gone := leaderOf(t, nodes...)
	var refused string
	until(t, "the leader can be spared", func() bool { // it hears again from those that have just renewed their certificates
		err := gone.cluster.Remove(gone.ctx(), asked(), gone.config.Node)
		if err != nil && err.Error() != refused {
			refused = err.Error()
			t.Logf("not yet: %v", err)
		}
		return err == nil
	})
	for _, n := range []*running{gone, nil} {
		if n == nil {
			n = start(t, gone.config) // it notices at its next start too
		}
		select {
		case err := <-n.ended:
			if !errors.Is(err, ErrRemoved) {
				t.Errorf("the removed node ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the removed node does not notice")
		}
	}
	for _, n := range nodes {
		if n != gone {
			left = append(left, n)
		}
	}
	return left
}

// rotate changes the authority under a running cluster.
func rotate(t *testing.T, two, three *running) {
	t.Helper()
	before := two.authority.ID()
	begin, activate := asked(), asked()
	begin.RequestID, activate.RequestID = "begin", "activate"
	made, err := two.cluster.AddAuthority(two.ctx(), begin)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := three.cluster.AddAuthority(three.ctx(), begin); err != nil || again.ID != made.ID {
		t.Errorf("a repeat, at another node, made %s, %v, want %s", again.ID, err, made.ID)
	}
	if err := three.cluster.ActivateAuthority(three.ctx(), activate, made.ID); err != nil {
		t.Fatal(err)
	}
	if three.authority.ID() != made.ID || before == made.ID {
		t.Errorf("%s signs, want %s", three.authority.ID(), made.ID)
	}
	// A node that does not answer would be locked out.
	three.stop()
	if err := two.cluster.RemoveAuthority(two.ctx(), asked(), before); model.CodeOf(err) != model.Conflict {
		t.Errorf("removed while a node is away: %v", err)
	}
	if err := two.cluster.ActivateAuthority(two.ctx(), activate, made.ID); err != nil {
		t.Errorf("a repeat of what was done is refused for a node that went away after: %v", err)
	}
	fresh := run(t, three.config)
	*three = *fresh
	if err := three.cluster.RemoveAuthority(three.ctx(), asked(), before); err != nil {
		t.Fatal(err)
	}
	until(t, "the old authority is gone from all", func() bool { return len(two.authority.Certificates()) == 1 })
	three.add("after-rotation")
	if !two.knowsPerson("after-rotation") {
		t.Error("nodes do not go on after a rotation")
	}
}

// The port of the nodes is for nodes of this very life of this cluster.
func TestPeerPortRefusesOthers(t *testing.T) {
	n := run(t, nodeConfig(t, "node-1"))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	node, err := n.authority.SignNode(csr, "node-2", nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	agent, err := n.authority.SignAgent(csr, "eu", "eu", n.authority.NewSerial(), time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := peer.Identity{Cluster: n.id.Cluster, Incarnation: n.id.Incarnation, Node: "node-2"}
	with := func(change func(*peer.Identity)) peer.Identity { id := good; change(&id); return id }
	n.apply(&model.PutNode{At: time.Now(), Node: model.Node{ID: "node-2", Peer: "127.0.0.1:1"}})
	for name, c := range map[string]struct {
		id    peer.Identity
		chain [][]byte
		want  string
	}{
		"good":          {good, node, ""},
		"agent":         {good, agent, "only nodes may speak here"},
		"cluster":       {with(func(id *peer.Identity) { id.Cluster = "c2" }), node, "is of"},
		"incarnation":   {with(func(id *peer.Identity) { id.Incarnation = "old" }), node, "another life"},
		"other's name":  {with(func(id *peer.Identity) { id.Node = "node-3" }), node, "node-3"},
		"not a member":  {with(func(id *peer.Identity) { id.Node = "node-9" }), signNode(t, n, csr, "node-9"), "not of cluster"},
		"nothing shown": {good, nil, "no certificate"},
	} {
		p := otherPeer(t, n, c.id, c.chain, key)
		conn, err := p.DialNode(n.ctx(), "node-1")
		if conn != nil {
			conn.Close()
		}
		_, called := p.Connected(n.ctx(), "node-1")
		for kind, err := range map[string]error{"stream": err, "call": called} {
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				if name == "other's name" && kind == "call" {
					continue // calls go by the certificate alone
				}
				t.Errorf("%s, %s: %v, want %q", name, kind, err, c.want)
			}
		}
	}
}

func signNode(t *testing.T, n *running, csr []byte, name string) [][]byte {
	t.Helper()
	chain, err := n.authority.SignNode(csr, name, nil, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// otherPeer speaks to a node as whoever it says it is. It checks the node by any cluster.
func otherPeer(t *testing.T, n *running, id peer.Identity, chain [][]byte, key *ecdsa.PrivateKey) *peer.Peers {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p, err := peer.New(peer.Config{
		Listener: listener, Identity: id, Authorities: n.authority.Pool,
		Node: func(c *x509.Certificate) (string, string, error) {
			_, node, err := pki.ParseNode(c)
			return id.Cluster, node, err
		},
		Certificate: func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil
		},
		Address: func(string) (string, bool) { return n.Addresses().Peer, true },
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A server that is started twice by mistake changes nothing.
func TestSecondServerLeavesNothing(t *testing.T) {
	n := run(t, nodeConfig(t, "node-1"))
	list := func() (names []string) {
		err := filepath.Walk(n.config.Data, func(path string, info os.FileInfo, err error) error {
			if err == nil && !info.IsDir() && !strings.Contains(path, "/log/") {
				names = append(names, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := list()
	if err := <-start(t, n.config).ended; !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), n.config.Data) {
		t.Errorf("on the same data: %v", err)
	}
	if after := list(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("files before: %v, after: %v", before, after)
	}
	for name, change := range map[string]func(*Config){
		"cluster": func(c *Config) { c.Cluster.Listen = n.Addresses().Peer },
		"ops":     func(c *Config) { c.Ops.Listen = n.Addresses().Ops },
		"api":     func(c *Config) { c.API.Listen = strings.TrimPrefix(n.Addresses().API, "https://") },
		"sync":    func(c *Config) { c.Sync.Listen = n.Addresses().Sync },
	} {
		other := nodeConfig(t, "node-1")
		change(&other)
		if err := <-start(t, other).ended; !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), name) {
			t.Errorf("on the same address of %s: %v", name, err)
		}
		if _, err := os.Stat(other.Data); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the data directory was made: %v", name, err)
		}
	}
	other := n.config
	other.Node = "node-7"
	n.stop()
	if err := <-start(t, other).ended; !errors.Is(err, ErrConfig) {
		t.Errorf("under another name: %v", err)
	}
}

func TestJoinRefuses(t *testing.T) {
	n := run(t, nodeConfig(t, "node-1"))
	used := nodeConfig(t, "node-2")
	if err := os.MkdirAll(filepath.Join(used.Data, "photos"), 0o700); err != nil {
		t.Fatal(err)
	}
	token := n.token("node-2")
	if err := Join(n.ctx(), used, token, n.config.Cluster.Listen, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into a directory with something in it: %v", err)
	}
	if err := Join(n.ctx(), nodeConfig(t, "node-3"), token, n.config.Cluster.Listen, nil); model.CodeOf(err) != model.Forbidden {
		t.Errorf("under another name than the token's: %v", err)
	}
	stranger := run(t, nodeConfig(t, "node-1"))
	if err := Join(n.ctx(), nodeConfig(t, "node-2"), stranger.token("node-2"), n.config.Cluster.Listen, nil); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("with a token of another cluster: %v", err)
	}
	joinLeavesNothing(t, n, token)
	if err := Join(n.ctx(), stranger.config, token, n.config.Cluster.Listen, nil); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "a life of its own") {
		t.Errorf("into the directory of a node that began its own cluster: %v", err)
	}
	// A lost answer costs nobody the token.
	config := nodeConfig(t, "node-2")
	for range 2 {
		if err := os.RemoveAll(config.Data); err != nil {
			t.Fatal(err)
		}
		if err := Join(n.ctx(), config, token, n.config.Cluster.Listen, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := Join(n.ctx(), config, token, n.config.Cluster.Listen, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("into the directory of a node: %v", err)
	}
}

// joinLeavesNothing: whatever keeps a node from joining, its data directory is as it was.
func joinLeavesNothing(t *testing.T, n *running, token string) {
	t.Helper()
	gone := freePort(t)
	for _, test := range []struct {
		at, token string
		want      error
		code      model.Code
	}{
		{n.Addresses().Sync, token, peer.ErrAddress, ""},
		{strings.TrimPrefix(n.Addresses().API, "https://"), token, peer.ErrAddress, ""},
		{n.Addresses().Ops, token, peer.ErrAddress, ""},
		{"127.0.0.1", token, peer.ErrAddress, ""},
		{gone, token, nil, model.Unavailable},
		{n.config.Cluster.Listen, "xd1.damaged", transport.ErrToken, ""},
		{n.config.Cluster.Listen, n.siteToken("eu"), nil, model.Forbidden},
		{n.config.Cluster.Listen, transport.NewToken([32]byte{1}).String(), peer.ErrForeign, ""},
	} {
		for _, made := range []bool{false, true} {
			config := nodeConfig(t, "node-2")
			if made {
				if err := os.Mkdir(config.Data, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			err := Join(n.ctx(), config, test.token, test.at, nil)
			if err == nil || test.want != nil && !errors.Is(err, test.want) || test.code != "" && model.CodeOf(err) != test.code {
				t.Errorf("join at %s: %v, want %v %s", test.at, err, test.want, test.code)
			}
			if err != nil && strings.Contains(err.Error(), "/v1/join") {
				t.Errorf("it names a URL that nobody knows: %v", err)
			}
			left, err := os.ReadDir(config.Data)
			if made != (err == nil) || len(left) > 0 {
				t.Errorf("join at %s, with a directory %v: it leaves %v, %v", test.at, made, left, err)
			}
		}
	}
}

func (n *running) siteToken(site string) string {
	n.t.Helper()
	token := n.authority.MintToken()
	now := time.Now().UTC()
	n.apply(&model.CreateJoinToken{Asked: asked(), Token: model.JoinToken{
		ID: token.ID, Hash: token.SecretHash(), Site: site, Created: now, Expires: now.Add(time.Hour)}})
	return token.String()
}
