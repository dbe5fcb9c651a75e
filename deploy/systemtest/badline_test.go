package systemtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// core is the store and the gateway of a control plane without its doors: agents reach it
// over lines in memory that do harm by seed.
type core struct {
	t         *testing.T
	store     *store.Store
	authority *pki.Authority
	counter   *callCounter
}

const coreCluster = "xd-memory"

func startCore(t *testing.T) *core {
	t.Helper()
	s, err := store.New(store.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the store ended with %v", err)
		}
	})
	wait, done := context.WithTimeout(ctx, patience)
	defer done()
	if err := s.WaitReady(wait); err != nil {
		t.Fatal(err)
	}
	first, ca := newAuthority(t, coreCluster)
	g, err := gateway.New(gateway.Config{Store: s, Authority: ca, Node: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	c := &core{t: t, store: s, authority: ca, counter: &callCounter{next: g.Handler(), seen: map[string]int{}, lanes: map[string]uint64{}}}
	c.apply(&model.Bootstrap{Asked: asked(), Cluster: model.Cluster{ID: coreCluster, Approvals: model.ApprovalsSingle, Created: time.Now(), Incarnation: "first"},
		Authority: first, Admin: model.Principal{Name: "root", TokenHash: [32]byte{1},
			Roles: []model.Role{model.Viewer, model.Operator, model.Author, model.Approver, model.Admin}}})
	return c
}

// newAuthority makes an authority of a cluster, without a control plane.
func newAuthority(t *testing.T, cluster string) (model.Authority, *pki.Authority) {
	t.Helper()
	dir := t.TempDir()
	if _, err := pki.OpenSeal(dir); err != nil {
		t.Fatal(err)
	}
	first, err := pki.First(dir, cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ca, err := pki.New(pki.Config{Dir: dir, Cluster: cluster, Rows: func() []model.Authority { return []model.Authority{first} }})
	if err != nil {
		t.Fatal(err)
	}
	return first, ca
}

func asked() model.Asked { return model.Asked{By: "root", At: time.Now()} }

func (c *core) apply(cmd model.Command) any {
	c.t.Helper()
	out, err := c.store.Apply(c.t.Context(), cmd)
	if err != nil {
		c.t.Fatalf("%T: %v", cmd, err)
	}
	return out
}

func (c *core) approve(sites []string, files map[string]string) {
	c.t.Helper()
	bundle := policy.Bundle{}
	for name, text := range files {
		bundle[name] = []byte(text)
	}
	if _, problems := policy.Compile(bundle); len(problems) > 0 {
		c.t.Fatal(problems)
	}
	revision, ok := c.apply(&model.Propose{Asked: asked(), Bundle: bundle.Encode(), Digest: bundle.Digest(), Sites: sites, Note: "test"}).(*model.Revision)
	if !ok {
		c.t.Fatal("no revision")
	}
	c.apply(&model.Approve{Asked: asked(), Number: revision.ID.Number, Digest: revision.Digest})
}

// join enrols a site over a line that does no harm, and gives its identity on the others.
func (c *core) join(s *site) transport.Identity {
	c.t.Helper()
	token := c.authority.MintToken()
	c.apply(&model.CreateJoinToken{Asked: asked(), Token: model.JoinToken{ID: token.ID, Hash: token.SecretHash(), Site: s.name,
		Created: time.Now(), Expires: time.Now().Add(time.Hour)}})
	request, err := identity.NewRequest(s.cfg.IdentityDir())
	if err != nil {
		c.t.Fatal(err)
	}
	session, err := transport.NewMemory(c.counter, transport.Identity{}, transport.Faults{}).Session(c.t.Context(),
		func(context.Context, syncpbconnect.SyncClient) error { return nil })
	if err != nil {
		c.t.Fatal(err)
	}
	defer session.Close()
	answer, err := session.Client.Enroll(c.t.Context(), connect.NewRequest(&syncpb.EnrollRequest{
		Token: token.String(), CertificateRequest: request, Version: "test"}))
	if err != nil {
		c.t.Fatal(err)
	}
	granted := identity.Granted{Cluster: answer.Msg.Cluster, Agent: answer.Msg.Agent, Site: answer.Msg.Site, Epoch: answer.Msg.Epoch}
	if err := identity.Accept(s.cfg.IdentityDir(), granted, answer.Msg.Certificates, answer.Msg.Authorities); err != nil {
		c.t.Fatal(err)
	}
	me, err := identity.Open(s.cfg.IdentityDir())
	if err != nil {
		c.t.Fatal(err)
	}
	id, err := transport.ParseIdentity(me.Certificate())
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// callCounter sees in which order pushes arrive.
type callCounter struct {
	next http.Handler

	mu    sync.Mutex // guards what follows
	seen  map[string]int
	lanes map[string]uint64 // highest number that has arrived
	early int               // blocks that arrived before one that belongs ahead of them
	again int               // pushes that arrived twice
}

func (c *callCounter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/Push") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		c.look(body)
	}
	c.next.ServeHTTP(w, r)
}

func (c *callCounter) look(body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[history.Hash(body)]++; c.seen[history.Hash(body)] > 1 {
		c.again++
	}
	var push syncpb.PushRequest
	if proto.Unmarshal(body, &push) != nil {
		return // the gateway will say so
	}
	for _, text := range push.Blocks {
		e, err := block.ParseEnvelope(text)
		if err != nil {
			continue
		}
		for _, to := range e.To {
			lane := e.Origin.Agent + " to " + to.Agent
			if to.First > c.lanes[lane]+1 {
				c.early++
			}
			c.lanes[lane] = max(c.lanes[lane], e.Last(to.First))
		}
	}
}

func (c *callCounter) counts() (early, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.early, c.again
}

// countingDialer counts the sessions: each one after the first tells of a call that failed.
type countingDialer struct {
	uplink.Dialer
	mu       sync.Mutex // guards sessions
	sessions int
}

func (d *countingDialer) Session(ctx context.Context, hello transport.Hello) (*transport.Session, error) {
	d.mu.Lock()
	d.sessions++
	d.mu.Unlock()
	return d.Dialer.Session(ctx, hello)
}

func (d *countingDialer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions
}

func TestBadLineLosesAndDoublesNothing(t *testing.T) {
	all := transport.Faults{Drop: 0.1, LoseAnswer: 0.1, Duplicate: 0.2, Delay: 0.3}
	for _, c := range []struct {
		name   string
		faults transport.Faults
	}{
		{"dropped", transport.Faults{Drop: 0.2}},
		{"answers-lost", transport.Faults{LoseAnswer: 0.2}},
		{"doubled", transport.Faults{Duplicate: 0.5}},
		{"reordered", transport.Faults{Delay: 0.5}},
		{"everything", all},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := range count(t, "CROSSDOCK_SEEDS", 2) {
				c.faults.Seed = uint64(n) + 1
				c.faults.MaxDelay = 20 * time.Millisecond
				badLine(t, c.faults)
			}
		})
	}
}

func badLine(t *testing.T, faults transport.Faults) {
	const keys, each = 6, 25
	c, h := startCore(t), &history.History{}
	names := []string{"eu", "hq", "na"}
	systems := []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "store", "na"), newSystem(t, h, "wms", "eu")}
	systems[1].from = []string{"eu"} // so that the sets of destinations differ
	c.approve(names, policyFor(names, systems))
	sites, shops, dialers := map[string]*site{}, map[string]*shop{}, map[string]*countingDialer{}
	for i, name := range names {
		s := bareSite(t, name, t.TempDir())
		s.cfg.ControlPlane.Addresses = []string{"memory:1"} // never dialled
		s.cfg.Tuning.ReconnectMax = 5 * time.Millisecond
		s.cfg.Tuning.PushPause = time.Nanosecond // many pushes at a time, to be put out of order
		bad := faults
		bad.Seed = faults.Seed*10 + uint64(i)
		dialers[name] = &countingDialer{Dialer: transport.NewMemory(c.counter, c.join(s), bad)}
		s.cfg.Dialer = dialers[name]
		s.start()
		sites[name], shops[name] = s, &shop{s, h}
	}
	var selling sync.WaitGroup
	for _, name := range names {
		selling.Go(func() { shops[name].sellAll(t, name, keys, each) })
	}
	selling.Wait()

	rules := history.Rules{Owed: owed(systems)}
	awaitDelivered(t, h, rules)
	for _, s := range sites {
		s.awaitIdle()
		s.journal(h)
	}
	judge(t, h, rules)
	c.checkLanes(names, keys*each)
	broken := -len(names)
	for _, d := range dialers {
		broken += d.count()
	}
	early, again := c.counter.counts()
	t.Logf("%d sessions broke, %d blocks came early, %d pushes came again", broken, early, again)
	if faults.Drop+faults.LoseAnswer > 0 && broken == 0 || faults.Delay > 0 && early == 0 || faults.Duplicate > 0 && again == 0 {
		t.Error("the line was not bad")
	}
}

// checkLanes: each lane holds exactly the numbers that its source gave, without a gap.
func (c *core) checkLanes(names []string, orders int) {
	c.t.Helper()
	want := map[string]uint64{} // by lane; wms takes from all, erp too, the store from eu only
	for _, from := range names {
		for _, to := range []string{"eu", "hq"} {
			if from != to {
				want[from+" to "+to] = uint64(orders)
			}
		}
	}
	want["eu to na"] = uint64(orders)
	got := map[string]uint64{}
	for _, name := range names {
		agent, ok := c.store.Agent(name)
		if !ok {
			c.t.Fatalf("no agent %s", name)
		}
		for _, l := range c.store.Lanes(name, agent.Epoch) {
			if !strings.HasPrefix(l.Destination, "@") {
				got[name+" to "+l.Destination] = l.Highwater
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("lanes stand at %v, want %v", got, want)
	}
	if list := c.store.Exceptions(10); len(list) > 0 {
		c.t.Errorf("exceptions: %+v", list)
	}
}
