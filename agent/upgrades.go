package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/release"
)

// doorTimeout bounds one question to a door of this agent, or to a port of the control plane.
const doorTimeout = 5 * time.Second

// ErrRestart is what Run ends with when another version is to take over.
var ErrRestart = versions.ErrRestart

// Upgrades says how other versions of this program come to run here.
type Upgrades struct {
	Enabled  bool          `yaml:"enabled" doc:"from the control plane; by hand they always may"`
	Gate     time.Duration `yaml:"gate" doc:"that a new version has to show that it works"`
	Attempts int           `yaml:"attempts" doc:"starts that it has for it"`
	Keys     []string      `yaml:"keys" doc:"minisign public keys (RW...) of who may sign releases; none: those of the program"`
}

func defaultUpgrades() Upgrades { return Upgrades{Enabled: true, Gate: 10 * time.Minute, Attempts: 3} }

func (u *Upgrades) check(fault func(format string, args ...any)) {
	if u.Gate < time.Second || u.Attempts < 1 {
		fault("upgrades: gate is at least 1s, attempts at least 1")
	}
	if _, err := release.ParseKeys(u.Keys); err != nil {
		fault("upgrades.keys: %w", err)
	}
}

// VersionsDir is where versions beside the installed one are held.
func (c *Config) VersionsDir() string { return filepath.Join(c.Data, "versions") }

// Versions is the store of versions, with the keys that count here.
func (c *Config) Versions() (*versions.Store, error) {
	texts := c.Upgrades.Keys
	if len(texts) == 0 {
		texts = c.Keys
	}
	keys, err := release.ParseKeys(texts)
	if err != nil {
		return nil, fmt.Errorf("upgrades.keys: %w", err)
	}
	return versions.NewStore(c.VersionsDir(), keys, c.Hook), nil
}

func (a *Agent) openVersions() error {
	store, err := a.cfg.Versions()
	if err != nil {
		return err
	}
	start := a.cfg.Start
	if start.Version == "" {
		start = versions.Start{Version: a.cfg.Version, Installed: a.cfg.Version}
	}
	a.versions = versions.Open(versions.Config{Store: store, Start: start, Enabled: a.cfg.Upgrades.Enabled, Gate: a.cfg.Upgrades.Gate, Attempts: a.cfg.Upgrades.Attempts,
		Health: a.health, Ready: a.ready, Free: func() int64 { return a.queue.Usage().Free }, Alarm: a.alarms.raise, Log: a.log})
	return nil
}

// health is how a version on trial is: its stores are open, else nobody asks.
func (a *Agent) health(ctx context.Context) (h versions.Health) {
	ctx, cancel := context.WithTimeout(ctx, 2*doorTimeout)
	defer cancel()
	if err := errors.Join(a.ready(), a.doors(ctx)); err != nil {
		h.Fault = err.Error()
	}
	link := a.uplink.State()
	h.Linked, h.Link = link.Connected, link.LastError
	if h.Fault == "" && !h.Linked {
		h.Line = lineOf(link.Hindrance, func() bool { return a.reachable(ctx) })
	}
	return h
}

// lineOf says what is in the way of a session. Whether a node takes connections is asked only
// where none has answered.
func lineOf(h uplink.Hindrance, reachable func() bool) versions.Line {
	switch h {
	case uplink.Refused:
		return versions.Refused
	case uplink.Barred:
		return versions.Barred
	case uplink.Unavailable:
		return versions.Busy
	case uplink.Unanswered:
	}
	if reachable() {
		return versions.Silent
	}
	return versions.Cut
}

// doors asks both doors of this agent whether they answer.
func (a *Agent) doors(ctx context.Context) error {
	client := http.Client{Timeout: doorTimeout, Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // it asks itself, and only whether it answers
	scheme := "http"
	if a.cfg.Intake.Certificate != "" {
		scheme = "https"
	}
	for _, door := range []url.URL{
		{Scheme: "http", Host: a.ops.Addr(), Path: "/healthz"},
		{Scheme: scheme, Host: local(a.intakeAddress), Path: "/v1/contracts"}, // refused without a token, and that is an answer
	} {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, door.String(), nil)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		answer.Body.Close()
		if answer.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("%s answers %s", door.String(), answer.Status)
		}
	}
	return nil
}

// local is an address of this machine that reaches a listener on any of them.
func local(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// reachable says that a node of the control plane takes connections. Behind a proxy that
// cannot be told from here, and over UDP alone neither: then it is taken for a cut line.
func (a *Agent) reachable(ctx context.Context) bool {
	if a.cfg.Dialer != nil {
		return false
	}
	cfg := a.inForce() // addresses and proxy may have been changed since the start
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return false
	}
	if proxy == nil {
		proxy = func(target *url.URL) (*url.URL, error) { return http.ProxyFromEnvironment(&http.Request{URL: target}) }
	}
	dialer := net.Dialer{Timeout: doorTimeout}
	for _, address := range append(a.identity.Nodes(), cfg.ControlPlane.Addresses...) {
		if via, err := proxy(&url.URL{Scheme: "https", Host: address}); err != nil || via != nil {
			continue
		}
		if c, err := dialer.DialContext(ctx, "tcp", address); err == nil {
			c.Close()
			return true
		}
	}
	return false
}

// releases lets the uplink hand in what the control plane wants to run here.
type releases struct{ *versions.Manager }

var _ uplink.Releases = releases{}

func (r releases) Want(o uplink.ReleaseOffer) { r.Manager.Want(versions.Offer(o)) }

func (r releases) Next() (uplink.ReleasePiece, bool) {
	p, ok := r.Manager.Next()
	return uplink.ReleasePiece(p), ok
}

func (r releases) Took(p uplink.ReleasePiece, data []byte, size int64) error {
	return r.Manager.Took(versions.Piece(p), data, size)
}

// opsVersions shows versions to the people who operate this agent.
type opsVersions struct{ versions *versions.Manager }

var _ ops.Versions = opsVersions{}

func (o opsVersions) Report() (any, error) { return o.versions.Report() }

func (o opsVersions) Upgrade(in io.Reader) (string, error) {
	version, err := o.versions.Upgrade(in)
	return version, opsError(err)
}

func (o opsVersions) Rollback(why string) error { return opsError(o.versions.Rollback(why)) }

func opsError(err error) error {
	if refused := new(versions.ConflictError); errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", ops.ErrConflict, err)
	}
	return err
}
