// Package controlplane owns one node of the control plane: its configuration, who it is in
// which cluster, the wiring of its parts, and the order in which they begin and end.
//
// It refuses to know what the parts do; each is a package of its own below, and they meet
// here only, through the interfaces that the one who needs something declares. Its
// invariant: nothing is written before every address is taken and the data directory is
// this process's own, nothing is served before the state holds this life of the cluster,
// and the store ends after everything that could still ask it for something.
package controlplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// ControlPlane is one node.
type ControlPlane struct {
	config   Config
	log      *slog.Logger
	fatal    func(error)
	registry *prometheus.Registry
	refused  prometheus.Gauge // 1: the configuration that was read last is refused
	ready    chan struct{}

	// Set by Run before ready.
	id        nodeFile
	store     *store.Store
	peers     *peer.Peers // nil: alone
	authority *authority
	agents    *agents
	cluster   *cluster

	mu        sync.Mutex // guards what follows, which readyz and tests read while Run works
	addresses Addresses
	serving   bool
}

// Addresses are where a running node listens.
type Addresses struct {
	Sync string // host:port, UDP and TCP
	API  string // URL
	Ops  string // host:port
	Peer string // host:port; empty: alone
}

// handOver bounds the wait at the end for another node to lead.
const handOver = 3 * time.Second

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
	refused := promauto.With(registry).NewGauge(prometheus.GaugeOpts{Name: "crossdock_configuration_refused",
		Help: "1 while the configuration as it was read last is refused, and the one before is in force."})
	return &ControlPlane{config: config, log: log, fatal: fatal, registry: registry, refused: refused, ready: make(chan struct{})}, nil
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
	doors, err := c.enter()
	if err != nil {
		return err
	}
	defer doors.close()
	running := newParts()
	err = c.start(ctx, running, doors)
	if err == nil {
		c.setServing(true)
		close(c.ready)
		c.log.Info("the node serves", "node", c.id.Node, "sync", c.addresses.Sync, "api", c.addresses.API, "ops", c.addresses.Ops, "peer", c.addresses.Peer)
		err = running.wait(ctx)
	}
	c.setServing(false)
	c.log.Info("stopping")
	c.yield()
	// The reverse of the start: first the API, so that nobody begins a change that would be
	// cut off; then the agents' door, whose last acknowledgements still reach the store;
	// then the store; then the way to other nodes, which the store needs to the last;
	// monitoring last, so that it sees the end.
	if stopped := running.stop(); err == nil {
		err = stopped
	}
	c.log.Info("stopped")
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil // asked to end before it had begun
	}
	return err
}

// yield lets another node lead, if one can: sooner than it would by this one's silence.
func (c *ControlPlane) yield() {
	if c.store == nil || c.peers == nil {
		return
	}
	if _, leads := c.store.Leader(); !leads {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), handOver)
	defer cancel()
	if err := c.store.Transfer(ctx, ""); err != nil && model.CodeOf(err) != model.Conflict {
		c.log.Warn("no other node has taken the lead before this one ends", "error", err)
	}
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
func (c *ControlPlane) start(ctx context.Context, running *parts, d *doors) error {
	running.start("ops", d.ops.run)
	if err := c.openStore(running, d); err != nil {
		return err
	}
	running.start("store", c.store.Run)
	member := &membership{c: c}
	running.start("cluster", member.run)
	running.start("sync", d.sync.Run)
	running.start("api", d.api.run)

	marker, err := readMarker(FilesIn(c.config.Data))
	if err != nil {
		return err
	}
	// Agents must not see the generation of a life that is over, nor people a state that is
	// not there yet. A state of this life can be shown before there is a leader.
	if _, begun := c.store.Cluster(); !begun || marker != nil {
		if err := c.awaitStore(ctx, running, c.store.WaitReady); err != nil {
			return err
		}
		if err := c.bootstrap(ctx); err != nil {
			return err
		}
		if err := c.awaitStore(ctx, running, member.rebuilt); err != nil {
			return err
		}
	}
	if err := c.checkState(); err != nil {
		return err
	}
	if err := c.furnish(d); err != nil {
		return err
	}
	running.start("machine", c.attend)
	if err := atomicfile.Write(FilesIn(c.config.Data).Address, []byte(c.addresses.API+"\n"), 0o644); err != nil {
		return fmt.Errorf("api: note the address: %w", err)
	}
	return c.awaitStore(ctx, running, c.store.WaitReady)
}

// awaitStore waits for the store, or for a part to fail. A node that is alone has nobody
// to wait for but its disk; among several it waits for as long as the others need.
func (c *ControlPlane) awaitStore(ctx context.Context, running *parts, ready func(context.Context) error) error {
	wait, cancel := context.WithCancel(ctx)
	if c.peers == nil {
		wait, cancel = context.WithTimeout(ctx, c.config.Limits.Start)
	}
	defer cancel()
	waited := make(chan error, 1)
	go func() { waited <- ready(wait) }()
	remind := time.NewTicker(c.config.Limits.Start)
	defer remind.Stop()
	for {
		select {
		case one := <-running.ended:
			cancel()
			<-waited //nolint:errcheck // what ended is the cause
			return one.cause()
		case err := <-waited:
			if err != nil && c.peers == nil {
				return fmt.Errorf("store: not ready within %v: %w", c.config.Limits.Start, err)
			}
			return err
		case <-remind.C:
			c.log.Warn("this node waits for the others: it has no leader, or is not where the cluster is", "node", c.id.Node, "known", c.store.Members())
		}
	}
}
