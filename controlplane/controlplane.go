// Package controlplane owns one node of the control plane: its configuration, the wiring
// of its parts, and the order in which they begin and end.
//
// It refuses to know what the parts do; each is a package of its own below, and they meet
// here only, through the interfaces that the one who needs something declares. Its
// invariant: nothing is served before the store is ready and the cluster has begun, and
// the store ends after everything that could still ask it for something.
package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/store"
)

// ControlPlane is one node.
type ControlPlane struct {
	config   Config
	log      *slog.Logger
	fatal    func(error)
	registry *prometheus.Registry
	ready    chan struct{}

	store *store.Store // set by Run before ready

	mu        sync.Mutex // guards what follows, which readyz and tests read while Run works
	addresses Addresses
	serving   bool
}

// Addresses are where a running node listens.
type Addresses struct {
	Sync string // host:port, UDP and TCP
	API  string // URL
	Ops  string // host:port
}

// New takes a valid configuration and starts nothing. When the store can neither go on nor
// end in order, fatal is called from any goroutine and must end the process; nil: only Run
// gives the error.
func New(config Config, log *slog.Logger, fatal func(error)) (*ControlPlane, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &ControlPlane{config: config, log: log, fatal: fatal, registry: registry, ready: make(chan struct{})}, nil
}

// Ready is closed when the node serves.
func (c *ControlPlane) Ready() <-chan struct{} { return c.ready }

// Addresses tells where the node listens, once it is ready.
func (c *ControlPlane) Addresses() Addresses {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addresses
}

// Cluster tells what was fixed when the cluster began, once the node is ready.
func (c *ControlPlane) Cluster() (model.Cluster, bool) { return c.store.Cluster() }

// Run serves until ctx ends or a part fails. It returns nil after an ordered end.
func (c *ControlPlane) Run(ctx context.Context) error {
	if err := os.MkdirAll(c.config.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	running := newParts()
	err := c.start(ctx, running)
	if err == nil {
		c.setServing(true)
		close(c.ready)
		c.log.Info("the node serves", "sync", c.addresses.Sync, "api", c.addresses.API, "ops", c.addresses.Ops)
		err = running.wait(ctx)
	}
	c.setServing(false)
	c.log.Info("stopping")
	// The reverse of the start: first the API, so that nobody begins a change that would be
	// cut off; then the agents' door, whose last acknowledgements still reach the store;
	// then the store; monitoring last, so that it sees the end.
	if stopped := running.stop(); err == nil {
		err = stopped
	}
	c.log.Info("stopped")
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // asked to end before it had begun
	}
	return err
}

func (c *ControlPlane) setServing(serving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving = serving
}

// readiness is what readyz says: starting and ending nodes are not ready.
func (c *ControlPlane) readiness() error {
	c.mu.Lock()
	serving := c.serving
	c.mu.Unlock()
	if !serving {
		return errors.New("starting or ending")
	}
	return c.store.Ready()
}

// start brings up the parts in the order in which they need each other.
func (c *ControlPlane) start(ctx context.Context, running *parts) error {
	ops, err := openDoor(c.config.Ops.Listen, opsHandler(c.registry, c.readiness), nil, c.config.Limits.Shutdown, c.log)
	if err != nil {
		return fmt.Errorf("ops: %w", err)
	}
	running.start("ops", ops.run)

	files := FilesIn(c.config.Data)
	c.store, err = store.New(store.Config{
		Dir: files.store, NodeID: c.config.Node, Fatal: c.fatal,
		Logger: c.log.With("part", "store"), Metrics: store.NewMetrics(c.registry),
	})
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	running.start("store", c.store.Run)
	if err := c.awaitStore(ctx, running); err != nil {
		return err
	}
	cluster, err := c.bootstrap(ctx)
	if err != nil {
		return err
	}
	authority, err := c.openAuthority(cluster)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	agents, syncAddress, err := c.startSync(running, cluster, authority)
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	apiAddress, err := c.startAPI(running, authority, agents)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	c.mu.Lock()
	c.addresses = Addresses{Sync: syncAddress, API: apiAddress, Ops: ops.listener.Addr().String()}
	c.mu.Unlock()
	if err := writeFile(files.Address, apiAddress+"\n", 0o644); err != nil {
		return fmt.Errorf("api: note the address: %w", err)
	}
	return nil
}

// awaitStore waits until the node leads and has applied its log, or the store fails.
func (c *ControlPlane) awaitStore(ctx context.Context, running *parts) error {
	wait, cancel := context.WithTimeout(ctx, c.config.Limits.Start)
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- c.store.WaitReady(wait) }()
	select {
	case one := <-running.ended:
		cancel()
		<-waited //nolint:errcheck // what ended is the cause
		return one.cause()
	case err := <-waited:
		if err != nil {
			return fmt.Errorf("store: not ready within %v: %w", c.config.Limits.Start, err)
		}
		return nil
	}
}

func (c *ControlPlane) startAPI(running *parts, authority *authority, agents api.Agents) (string, error) {
	log := c.log.With("part", "api")
	handler, err := api.New(api.Config{
		Store: c.store, Agents: agents, MintToken: authority.mintJoinToken,
		Logger: log, Metrics: api.NewMetrics(c.registry),
	})
	if err != nil {
		return "", err
	}
	settings := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return authority.certificate()
		},
	}
	door, err := openDoor(c.config.API.Listen, handler, settings, c.config.Limits.Shutdown, log)
	if err != nil {
		return "", err
	}
	running.start("api", door.run)
	return localURL(door.listener.Addr()), nil
}
