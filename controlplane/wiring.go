package controlplane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/transport"
)

// authority is the internal CA as the API and the agents' door need it.
type authority struct {
	*pki.Authority
	certificate func() (*tls.Certificate, error) // of this node, renewed in time
}

// openAuthority opens the CA, or makes it when the cluster is new.
func (c *ControlPlane) openAuthority(cluster model.Cluster) (*authority, error) {
	dir := FilesIn(c.config.Data).pki
	ca, err := pki.Open(dir)
	if errors.Is(err, pki.ErrNone) {
		ca, err = pki.Create(dir, cluster.ID, time.Now())
	}
	if err != nil {
		return nil, err
	}
	if ca.Cluster() != cluster.ID {
		return nil, fmt.Errorf("%s holds the authority of cluster %s, the store is that of %s: restore both from one backup",
			dir, ca.Cluster(), cluster.ID)
	}
	return &authority{Authority: ca, certificate: ca.Node(c.config.Node, c.names(), time.Now)}, nil
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

func (a *authority) mintJoinToken(string) (api.JoinToken, error) {
	token := a.MintToken()
	return api.JoinToken{ID: token.ID, Hash: token.SecretHash(), Text: token.String()}, nil
}

// startSync opens the agents' door: the gateway behind the transport's listener.
func (c *ControlPlane) startSync(running *parts, cluster model.Cluster, a *authority) (*gateway.Gateway, string, error) {
	log := c.log.With("part", "sync")
	doorman, err := gateway.New(gateway.Config{
		Store: c.store, Authority: a, Node: c.config.Node, Logger: log, Metrics: gateway.NewMetrics(c.registry),
	})
	if err != nil {
		return nil, "", err
	}
	server, err := transport.Listen(transport.ServerConfig{
		Address: c.config.Sync.Listen, Cluster: cluster.ID, Handler: doorman.Handler(), Revoked: doorman.Revoked,
		Certificate: a.certificate, Authorities: a.Pool, Logger: log, Metrics: transport.NewMetrics(c.registry),
	})
	if err != nil {
		return nil, "", err
	}
	running.start("sync", server.Run)
	return doorman, server.Addr(), nil
}

// What the siblings declare of each other, said here where they meet.
var (
	_ api.Store         = (*store.Store)(nil)
	_ api.Agents        = (*gateway.Gateway)(nil)
	_ gateway.Store     = (*store.Store)(nil)
	_ gateway.Authority = (*authority)(nil)
)
