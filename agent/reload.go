package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/protocol/settings"
	"github.com/crossdock/crossdock/protocol/transport"
)

// ConfigStatus tells which configuration is in force.
type ConfigStatus struct {
	Read      time.Time `json:"read"`              // when what is in force was read
	Refused   string    `json:"refused,omitempty"` // why a later one is not
	RefusedAt time.Time `json:"refusedAt,omitzero"`
	Restart   []string  `json:"restart,omitempty"` // keys that were changed and wait for a restart
}

// Reloaded tells what a reload did.
type Reloaded struct {
	Changed []string `json:"changed"` // keys whose new values are in force
	Restart []string `json:"restart"` // keys whose new values wait for a restart
}

// ErrConfigRefused marks a configuration that a reload does not take over; the one before
// stays in force.
var ErrConfigRefused = errors.New("the configuration is refused, the one before stays in force")

// reloads is what a running agent can be told anew. A key that changes while the agent runs
// has change:"reload" in its tag, and is taken over in apply.
type reloads struct {
	certificate atomic.Pointer[tls.Certificate] // of intake; nil: plain HTTP
	dialer      *transport.Dialer               // nil where a test brings its own
	config      atomic.Pointer[Config]          // as read last; of it hold the keys that a reload takes over

	mu   sync.Mutex // one reload at a time; guards what follows
	told ConfigStatus
}

func newReloads(cfg Config) *reloads {
	r := &reloads{told: ConfigStatus{Read: time.Now()}}
	r.config.Store(&cfg)
	return r
}

func (r *reloads) now() *Config { return r.config.Load() }

func (r *reloads) status() ConfigStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told
}

// Reload reads the configuration again and takes over what can change while the agent runs:
// all of it, or nothing where anything is wrong.
func (a *Agent) Reload() (Reloaded, error) {
	r := a.reloads
	if a.cfg.Reread == nil {
		return Reloaded{}, errors.New("this agent's configuration does not come from where it could be read again: restart it")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	next, err := a.cfg.Reread()
	if err == nil {
		err = a.apply(next)
	}
	if err != nil {
		r.told.Refused, r.told.RefusedAt = settings.Mask(err.Error()), time.Now()
		a.log.Error("the configuration is refused, the one before stays in force", "err", r.told.Refused)
		return Reloaded{}, fmt.Errorf("%w: %w", ErrConfigRefused, err)
	}
	done := Reloaded{Changed: []string{}, Restart: a.needRestart(next)}
	for _, k := range settings.Changed(r.now(), &next) {
		if k.Reload && !slices.Contains(done.Restart, k.Name) {
			done.Changed = append(done.Changed, k.Name)
		}
	}
	r.config.Store(&next)
	r.told = ConfigStatus{Read: time.Now(), Restart: done.Restart}
	a.log.Info("the configuration was read again", "changed", done.Changed, "restart", done.Restart)
	return done, nil
}

// apply takes over what a running agent can change. What can fail comes first.
func (a *Agent) apply(next Config) error {
	r := a.reloads
	next.Secrets = a.cfg.Secrets // a change of it waits for a restart
	var certificate *tls.Certificate
	if r.certificate.Load() != nil && next.Intake.Certificate != "" {
		fresh, err := tls.LoadX509KeyPair(next.Intake.Certificate, next.Intake.Key)
		if err != nil {
			return fmt.Errorf("intake.certificate: %w", err)
		}
		certificate = &fresh
	}
	proxy, err := ProxyOf(next)
	if err != nil {
		return err
	}
	if _, err := secretStore(next, nil).Resolve(next.ControlPlane.ProxyPassword); err != nil && next.ControlPlane.ProxyPassword != "" {
		return fmt.Errorf("controlplane.proxyPassword: %w", err)
	}
	if r.dialer != nil {
		if err := r.dialer.Configure(next.ControlPlane.Addresses, proxy); err != nil {
			return fmt.Errorf("controlplane.addresses: %w", err)
		}
	}
	if certificate != nil {
		r.certificate.Store(certificate)
	}
	next.Log.form().SetLevel(a.cfg.Level)
	a.queue.SetQuota(int64(next.Journal.Quota))
	a.calls.Limit(next.Calls.Deadline, int64(next.Calls.Quota))
	a.documents.Limit(int64(next.Documents.Quota), next.Documents.Retain)
	return nil
}

// inForce is the configuration of this process, with what reloads have taken over.
func (a *Agent) inForce() Config {
	cfg, last := a.cfg, a.reloads.now()
	settings.Take(&cfg, last, a.needRestart(*last)...)
	return cfg
}

// needRestart lists the keys in which this process is not what a configuration says.
func (a *Agent) needRestart(next Config) []string {
	out := []string{}
	for _, k := range settings.Changed(&a.cfg, &next) {
		// From plain HTTP to TLS and back is another door.
		other := (k.Name == "intake.certificate" || k.Name == "intake.key") && (a.cfg.Intake.Certificate == "") != (next.Intake.Certificate == "")
		if !k.Reload || other {
			out = append(out, k.Name)
		}
	}
	return out
}

func (a *Agent) reloadForOps() (any, error) {
	done, err := a.Reload()
	if errors.Is(err, ErrConfigRefused) {
		return nil, fmt.Errorf("%w: %w", ops.ErrInvalid, err)
	}
	return done, err
}
