package agent

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Enroll gives this machine an identity: it makes a key, trades the join token for a
// certificate, and stores both below the data directory. authority is the hash that the
// token pins; the token is sent to nobody else. Where the directory holds an agent's
// identity or journal, a token for any other is refused before it is used up: it would
// revoke the agent that runs there.
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
	name, err := holder(cfg)
	if err != nil {
		return identity.Granted{}, err
	}
	request, err := identity.NewRequest(cfg.IdentityDir())
	if err != nil {
		return identity.Granted{}, err
	}
	enrolled, err := uplink.Enroll(ctx, transport.EnrollConfig{
		Addresses: cfg.ControlPlane.Addresses, CAHash: authority, Mode: transport.Mode(cfg.ControlPlane.Transport),
		Proxy: proxy, Logger: cfg.Logger,
	}, token, name, cfg.Version, request)
	if name != "" && connect.CodeOf(err) == connect.CodePermissionDenied {
		err = fmt.Errorf("%w (this was asked for agent %s, to which the data in %s belongs: the agent of another site needs a directory of its own, "+
			"data: in its configuration or --data)", err, name, cfg.Data)
	}
	if err != nil {
		return identity.Granted{}, err
	}
	granted := identity.Granted{Cluster: enrolled.Cluster, Agent: enrolled.Agent, Site: enrolled.Site, Epoch: enrolled.Epoch}
	return granted, identity.Accept(cfg.IdentityDir(), granted, enrolled.Certificates, enrolled.Authorities)
}
