package agent

import (
	"context"
	"fmt"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Enroll gives this machine an identity: it makes a key, trades the join token for a
// certificate, and stores both below the data directory. authority is the hash that the
// token pins; the token is sent to nobody else.
func Enroll(ctx context.Context, cfg Config, token string, authority [32]byte) (identity.Granted, error) {
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return identity.Granted{}, err
	}
	// A running agent goes on in its old epoch, and would find itself fenced.
	release, err := queue.Lock(cfg.JournalDir())
	if err != nil {
		return identity.Granted{}, fmt.Errorf("an agent must be stopped while it is enrolled: %w", err)
	}
	defer func() { _ = release() }() // nothing was written
	request, err := identity.NewRequest(cfg.IdentityDir())
	if err != nil {
		return identity.Granted{}, err
	}
	enrolled, err := uplink.Enroll(ctx, transport.EnrollConfig{
		Addresses: cfg.ControlPlane.Addresses, CAHash: authority, Mode: transport.Mode(cfg.ControlPlane.Transport),
		Proxy: proxy, Logger: cfg.Logger,
	}, token, cfg.Version, request)
	if err != nil {
		return identity.Granted{}, err
	}
	granted := identity.Granted{Cluster: enrolled.Cluster, Agent: enrolled.Agent, Site: enrolled.Site, Epoch: enrolled.Epoch}
	return granted, identity.Accept(cfg.IdentityDir(), granted, enrolled.Certificates, enrolled.Authorities)
}
