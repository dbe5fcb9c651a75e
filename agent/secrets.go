package agent

import (
	"log/slog"
	"path/filepath"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/sealed"
	"github.com/crossdock/crossdock/agent/systems/secrets"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// sealedDir holds the secrets that were sealed to this agent, as they are.
const sealedDir = "sealed"

// openSecrets opens what was sealed to this agent. A key that is damaged is no reason not to
// start: what needs no sealed secret goes on.
func (a *Agent) openSecrets() (err error) {
	if err := a.identity.MakeSealing(); err != nil {
		a.log.Error("there is no key to which secrets could be sealed", "err", err)
	}
	a.sealed, a.sealing, err = openSealed(a.cfg, a.identity, a.log, a.secretsChanged)
	return err
}

func openSealed(cfg Config, id *identity.Identity, log *slog.Logger, changed func()) (*sealed.Store, *sealing.Announcement, error) {
	key, said, fault := id.Sealing()
	if fault != nil {
		log.Error("sealed secrets cannot be opened", "err", fault)
	}
	store, err := sealed.Open(sealed.Config{Dir: filepath.Join(cfg.Data, sealedDir), Cluster: id.Cluster, Agent: id.Agent,
		Key: key, Fault: fault, Logger: log, Changed: changed})
	return store, &said, err
}

// secretsChanged has what keeps a secret for a while look again.
func (a *Agent) secretsChanged() {
	a.intake.SecretsChanged()
	a.plugins.PolicyChanged()
}

func secretStore(cfg Config, opened *sealed.Store) *secrets.Store {
	return secrets.New(secrets.Config{Directory: cfg.Secrets, AllowAbsolute: true, Private: []string{cfg.Data}, Sealed: opened})
}

// private are the directories that no system exchanges files in.
func (c *Config) private() []string { return []string{c.Data, c.Secrets} }

// keeper shows the sealed secrets to the uplink.
type keeper struct{ *sealed.Store }

var _ uplink.Secrets = keeper{}

func (k keeper) Marks() (out []uplink.SecretMark) {
	for _, m := range k.Store.Marks() {
		out = append(out, uplink.SecretMark(m))
	}
	return out
}

func (k keeper) Take(s uplink.Secret) error { return k.Store.Take(sealed.Secret(s)) }
