package agent

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/agent/sealed"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/secrets"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/policy"
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
	config := secrets.Config{Directory: cfg.Secrets, AllowAbsolute: true, Private: []string{cfg.Data}}
	if opened != nil { // else it would be an interface that is not nil around a pointer that is
		config.Sealed = opened
	}
	return secrets.New(config)
}

// private are the directories that no system exchanges files in.
func (c *Config) private() []string { return []string{c.Data, c.Secrets} }

// KnownSecrets gives the values that the configuration and the policy held here refer to, as
// far as whoever asks can read them: what only the agent's own process was given is not among
// them.
func KnownSecrets(cfg Config) (values [][]byte) {
	log := slog.New(slog.DiscardHandler)
	if cfg.Secrets == "" { // of a configuration that is wrong
		cfg.Secrets = filepath.Join(cfg.Data, "secrets")
	}
	refs := []string{cfg.ControlPlane.ProxyPassword}
	if dir := filepath.Join(cfg.Data, "policy"); isDir(dir) {
		if held, err := revision.Open(dir, log); err == nil && held.Set() != nil {
			refs = append(refs, held.Set().References()...)
		}
	}
	var opened *sealed.Store
	if isDir(filepath.Join(cfg.Data, sealedDir)) {
		if id, err := identity.Open(cfg.IdentityDir()); err == nil {
			if store, _, err := openSealed(cfg, id, log, nil); err == nil {
				opened = store
			}
		}
	}
	store := secretStore(cfg, opened)
	for _, ref := range refs {
		values = append(values, store.Known(ref)...)
	}
	return values
}

// secretsStatus is how the sealed secrets stand: also those that open and that policy would send
// to another host than they are sealed for.
func (a *Agent) secretsStatus() []sealed.Status {
	list, set := a.sealed.Status(), a.revision.Set()
	for i := range list {
		if one := &list[i]; set != nil && one.Refused == "" && len(one.Only) > 0 {
			one.Refused = elsewhere(secretStore(a.cfg, a.sealed), set, one.Name)
		}
	}
	return list
}

// elsewhere says why a secret cannot be used as policy has it; "" if it can, or is not used.
func elsewhere(store *secrets.Store, set *policy.Set, name string) string {
	for _, use := range set.Secrets() {
		if use.Owner+"/"+use.Name != name {
			continue
		}
		if _, err := store.For(use.To...).Resolve("secret:" + name); errors.Is(err, systems.ErrElsewhere) {
			return err.Error()
		}
	}
	return ""
}

// isDir keeps who only looks from making a directory.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

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
