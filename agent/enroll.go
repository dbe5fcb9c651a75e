package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
func Enroll(ctx context.Context, cfg Config, token string, authority [32]byte) (granted identity.Granted, err error) {
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return identity.Granted{}, err
	}
	fresh := absent(cfg.JournalDir(), cfg.IdentityDir(), cfg.Data)
	// A running agent goes on in its old epoch, and would find itself fenced.
	release, err := queue.Lock(cfg.JournalDir())
	if errors.Is(err, fs.ErrPermission) {
		return identity.Granted{}, fmt.Errorf("enrol as root, or as the user of the agent: %w", err)
	}
	if err != nil {
		return identity.Granted{}, fmt.Errorf("an agent must be stopped while it is enrolled: %w", err)
	}
	defer func() {
		_ = release() // nothing was written
		if err != nil && !mayBeGranted(err) {
			sweep(fresh)
		}
	}()
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
	if err != nil {
		return identity.Granted{}, usedHere(ofAnotherSite(err, name, cfg.Data), cfg)
	}
	granted = identity.Granted{Cluster: enrolled.Cluster, Agent: enrolled.Agent, Site: enrolled.Site, Epoch: enrolled.Epoch}
	return granted, identity.Accept(cfg.IdentityDir(), granted, enrolled.Certificates, enrolled.Authorities)
}

// ofAnotherSite adds to a token that is for another site what stands in the way here. One that
// was used or has expired is refused for that alone.
func ofAnotherSite(err error, name, data string) error {
	if name == "" || connect.CodeOf(err) != connect.CodePermissionDenied || !strings.Contains(err.Error(), "token is for site") {
		return err
	}
	return fmt.Errorf("%w (this was asked for agent %s, to which the data in %s belongs: the agent of another site needs a directory of its own, "+
		"data: in its configuration or --data)", err, name, data)
}

// usedHere tells who gives the same command twice that it has
// worked: the refusal alone speaks of a stranger who has this agent's identity.
func usedHere(err error, cfg Config) error {
	held, broken := identity.Held(cfg.IdentityDir())
	if broken != nil || held.Agent == "" || connect.CodeOf(err) != connect.CodePermissionDenied ||
		!strings.Contains(err.Error(), "token was used at") || !strings.Contains(err.Error(), " by agent "+held.Agent+",") {
		return err
	}
	return fmt.Errorf("this agent is enrolled with it already, if it was used here: %s holds the identity of agent %s, and nothing is to be done; "+
		"crossdock-agent status and doctor say how it is. If it was not: %w", cfg.IdentityDir(), held.Agent, err)
}

// mayBeGranted tells an enrolment whose answer may have been lost from one that was refused
// or never sent. The key of the first is kept, for its repeat is answered.
func mayBeGranted(err error) bool {
	if errors.Is(err, transport.ErrUnreachable) || errors.Is(err, ErrOtherAgent) {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodePermissionDenied, connect.CodeUnauthenticated, connect.CodeInvalidArgument, connect.CodeResourceExhausted:
		return !connect.IsWireError(err)
	}
	return true
}

// absent lists those of some directories that are not there.
func absent(dirs ...string) (out []string) {
	for _, dir := range dirs {
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			out = append(out, dir)
		}
	}
	return out
}

// sweep removes directories with the one file that an enrolment may have made in each, and
// leaves one with anything more: somebody else is at work there.
func sweep(dirs []string) {
	for _, dir := range dirs {
		if files, err := os.ReadDir(dir); err == nil && len(files) == 1 && !files[0].IsDir() {
			_ = os.Remove(filepath.Join(dir, files[0].Name())) // then the directory stays as well
		}
		_ = os.Remove(dir) // what cannot go does no harm
	}
}
