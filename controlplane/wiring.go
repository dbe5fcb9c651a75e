package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/release"
)

// Version is that of this program, as nodes tell each other; the build sets it.
var Version = "dev"

// authority is the internal CA as the API and the agents' door need it.
type authority struct {
	*pki.Authority
	certificate func() (*tls.Certificate, error) // of this node, renewed in time
}

// openStore makes the store, and what it and this node's certificates stand on.
func (c *ControlPlane) openStore(running *parts, d *doors) error {
	files := FilesIn(c.config.Data)
	authority, err := pki.New(pki.Config{
		Dir: files.pki, Cluster: c.id.Cluster, Logger: c.log.With("part", "pki"),
		Rows: func() []model.Authority {
			if c.store == nil {
				return nil
			}
			return c.store.Authorities()
		},
	})
	if err != nil {
		return err
	}
	c.authority = newAuthority(authority, c.id.Node, c.names())
	settings := store.Config{
		Dir: files.store, NodeID: c.id.Node, Begin: !c.id.Joined, Fatal: c.fatal,
		Logger: c.log.With("part", "store"), Metrics: store.NewMetrics(c.registry),
	}
	c.cluster = &cluster{c: c}
	if d.peer != nil {
		c.peers, err = peer.New(peer.Config{
			Listener: d.peer, Identity: peer.Identity{Cluster: c.id.Cluster, Incarnation: c.id.Incarnation, Node: c.id.Node},
			Certificate: c.authority.certificate, Authorities: authority.Pool, Node: pki.ParseNode,
			Address: c.addressOf, Refuse: c.refuse, Dial: c.config.Dial, Logger: c.log.With("part", "peer"),
		})
		if err != nil {
			return err
		}
		settings.Peers, settings.Others = c.peers, c.cluster.freeBytes
	}
	if c.config.tune != nil {
		c.config.tune(&settings)
	}
	if c.store, err = store.New(settings); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	c.agents = &agents{c: c}
	if c.peers != nil {
		c.peers.Serve(services{c})
		running.start("peer", c.peers.Run)
	}
	return nil
}

func newAuthority(a *pki.Authority, node string, names []string) *authority {
	return &authority{Authority: a, certificate: a.Node(node, names, time.Now)}
}

// furnish puts behind the doors for agents and people what answers there.
func (c *ControlPlane) furnish(d *doors) error {
	doorman, err := gateway.New(gateway.Config{
		Store: c.store, Authority: c.authority, Node: c.id.Node, AgentLife: c.config.AgentLife,
		Logger: c.log.With("part", "sync"), Metrics: gateway.NewMetrics(c.registry),
	})
	if err != nil {
		return err
	}
	c.agents.local.Store(doorman)
	keys, err := release.ParseKeys(c.config.Releases.Keys)
	if err != nil {
		return fmt.Errorf("releases.keys: %w", err)
	}
	handler, err := api.New(api.Config{
		Store: c.store, Agents: c.agents, Cluster: c.cluster, MintToken: c.authority.mintJoinToken, ReleaseKeys: keys, Addresses: c.syncAddresses,
		Logger: c.log.With("part", "api"), Metrics: api.NewMetrics(c.registry),
	})
	if err != nil {
		return err
	}
	revoked := doorman.Revoked
	d.revoked.Store(&revoked)
	d.agents.set(doorman.Handler())
	d.people.set(handler)
	return nil
}

// names are all by which this node may be reached.
func (c *ControlPlane) names() []string {
	names := append([]string{"localhost", "127.0.0.1", "::1"}, c.config.Sync.Names...)
	if host, err := os.Hostname(); err == nil && host != "" {
		names = append(names, strings.ToLower(host))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// syncAddresses are those by which agents are told to reach the nodes.
func (c *ControlPlane) syncAddresses() (addresses []string) {
	for _, node := range c.store.Nodes() {
		addresses = append(addresses, node.Sync...)
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}

// row is what this node tells the others about itself.
func (c *ControlPlane) row() model.Node {
	at := c.Addresses()
	row := model.Node{ID: c.id.Node, API: at.API, Version: Version}
	row.Sync = slices.Clone(c.config.Sync.Advertise)
	if _, port, err := net.SplitHostPort(at.Sync); err == nil && len(row.Sync) == 0 {
		for _, name := range c.config.Sync.Names {
			row.Sync = append(row.Sync, net.JoinHostPort(name, port))
		}
	}
	if len(row.Sync) == 0 {
		row.Sync = []string{reachable(at.Sync)}
	}
	if _, port, err := net.SplitHostPort(strings.TrimPrefix(at.API, "https://")); err == nil && len(c.config.Sync.Names) > 0 && !loopback(c.config.API.Listen) {
		row.API = "https://" + net.JoinHostPort(c.config.Sync.Names[0], port)
	}
	if at.Peer != "" {
		row.Peer = c.peerAddress(at.Peer)
	}
	return row
}

// peerAddress is where other nodes reach this one, given what it listens on.
func (c *ControlPlane) peerAddress(listens string) string {
	if c.config.Cluster.Address != "" {
		return c.config.Cluster.Address
	}
	return reachable(listens)
}

// reachable puts this host's name in the place of "any address".
func reachable(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil || host == "" {
			host = "localhost"
		}
	}
	return net.JoinHostPort(strings.ToLower(host), port)
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// addressOf tells where a node listens for others: as the state says, or what this node was
// told when it joined.
func (c *ControlPlane) addressOf(node string) (string, bool) {
	if c.store != nil {
		if row, known := c.store.Node(node); known && row.Peer != "" {
			return row.Peer, true
		}
	}
	address, ok := c.id.Seeds[node]
	return address, ok
}

// refuse keeps out a node that is not of the cluster any more. That it was removed is for the
// leader to say, having made sure that it leads: a node that is cut off, even one that takes
// itself for the leader yet, does not know who has joined since.
func (c *ControlPlane) refuse(ctx context.Context, node string) error {
	if c.store.Ready() != nil || c.knows(node) {
		return nil
	}
	if _, err := c.store.ServeBarrier(ctx); err != nil {
		return model.Errorf(model.Unavailable, "node %s is not known at node %s, which cannot tell whether it was removed: %v", node, c.id.Node, err)
	}
	if c.knows(node) {
		return nil
	}
	return c.notOfUs(node)
}

// notOfUs is what a node that was removed is told, and ends by.
func (c *ControlPlane) notOfUs(node string) error {
	return model.Errorf(model.Forbidden, "node %s is not of cluster %s, or not any more: join it again with an empty data directory", node, c.id.Cluster)
}

// counted says why a node must neither be added nor get a vote.
func (c *ControlPlane) counted(node string) error {
	if row, known := c.store.Node(node); !known || !row.Leaving.IsZero() {
		return c.notOfUs(node)
	}
	return nil
}

func (c *ControlPlane) knows(node string) bool {
	_, known := c.store.Node(node)
	return known || c.isMember(node)
}

func (c *ControlPlane) isMember(node string) bool {
	return slices.ContainsFunc(c.store.Members(), func(m member) bool { return m.ID == node })
}

func (a *authority) mintJoinToken(string) (api.JoinToken, error) {
	token := a.MintToken()
	return api.JoinToken{ID: token.ID, Hash: token.SecretHash(), Text: token.String()}, nil
}

// What the siblings declare of each other, said here where they meet.
var (
	_ api.Store          = (*store.Store)(nil)
	_ api.Agents         = (*agents)(nil)
	_ api.ClusterControl = (*cluster)(nil)
	_ gateway.Store      = (*store.Store)(nil)
	_ gateway.Authority  = (*authority)(nil)
	_ peer.Services      = services{}
	_ store.Peers        = (*peer.Peers)(nil)
)
