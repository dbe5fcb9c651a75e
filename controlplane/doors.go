package controlplane

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/crossdock/crossdock/protocol/transport"
)

// doors are the addresses that a node has taken. What is behind those for agents and
// people comes later: until then they answer that the node is starting.
type doors struct {
	lock *os.File
	ops  *door
	api  *door
	sync *transport.Server
	peer net.Listener // nil: alone

	agents, people later
	revoked        atomic.Pointer[func(transport.Identity) bool]
}

// later is a handler that is not there yet.
type later struct {
	handler atomic.Pointer[http.Handler]
}

func (l *later) set(h http.Handler) { l.handler.Store(&h) }

func (l *later) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := l.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "this node is starting", http.StatusServiceUnavailable)
}

// enter makes sure that the data directory and all addresses are this process's own, and
// only then leaves something: a server that was started twice by mistake changes nothing.
func (c *ControlPlane) enter() (_ *doors, err error) {
	files := FilesIn(c.config.Data)
	d := &doors{}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	if d.lock, err = lockData(files, false); err != nil {
		return nil, err
	}
	id, found, err := c.identify(files)
	if err != nil {
		return nil, err
	}
	if !found {
		if err := beginsAs(c.config.Data, os.Geteuid(), user.Lookup); err != nil {
			return nil, err
		}
	}
	if slices.Contains(c.config.Sync.Names, exampleName) {
		c.log.Warn("sync.names has the name of the example, by which no site reaches this node: put this machine's own there and start again", "name", exampleName)
	}
	if err := c.take(d, id.Cluster); err != nil {
		return nil, err
	}
	if d.lock == nil {
		if d.lock, err = lockData(files, true); err != nil {
			return nil, err
		}
		if again, now, err := readNode(files); err != nil {
			return nil, err
		} else if now && (!found || again.Incarnation != id.Incarnation) {
			return nil, fmt.Errorf("data directory %s: %w: another server has just begun there; start this one again", c.config.Data, ErrInUse)
		}
	}
	if !found {
		if err := writeJSON(files.node, id); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	if err := sweep(c.config.Data); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	c.id = id
	return d, nil
}

// exampleName stands in the configuration that packages bring.
const exampleName = "crossdock.example.com"

// identify tells who this node is: as its directory says, or the first of a new cluster.
func (c *ControlPlane) identify(files Files) (id nodeFile, found bool, err error) {
	id, found, err = readNode(files)
	if err != nil {
		return id, false, err
	}
	if !found {
		return nodeFile{Cluster: newClusterID(), Incarnation: newIncarnation(), Node: c.config.Node}, false, nil
	}
	if id.Node != c.config.Node {
		return id, true, fmt.Errorf("%w: node: %s is asked for, but %s is the directory of node %s, and that never changes",
			ErrConfig, c.config.Node, c.config.Data, id.Node)
	}
	marker, err := readMarker(files)
	if err != nil {
		return id, true, err
	}
	if marker != nil && marker.Incarnation != id.Incarnation {
		return id, true, fmt.Errorf("a recovery of %s was cut short: run it again", c.config.Data)
	}
	return id, true, nil
}

// take takes all addresses.
func (c *ControlPlane) take(d *doors, cluster string) (err error) {
	if d.ops, err = openDoor(c.config.Ops.Listen, opsHandler(c.registry, c.readiness), nil, c.config.Limits.Shutdown, c.log); err != nil {
		return fmt.Errorf("ops: %w", inUse(err))
	}
	settings := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return c.authority.certificate()
		},
	}
	if d.api, err = openDoor(c.config.API.Listen, &d.people, settings, c.config.Limits.Shutdown, c.log.With("part", "api")); err != nil {
		return fmt.Errorf("api: %w", inUse(err))
	}
	d.sync, err = transport.Listen(transport.ServerConfig{
		Address: c.config.Sync.Listen, Cluster: cluster, Handler: &d.agents,
		Revoked: func(id transport.Identity) bool {
			revoked := d.revoked.Load()
			return revoked != nil && (*revoked)(id)
		},
		Certificate: func() (*tls.Certificate, error) { return c.authority.certificate() },
		Authorities: func() *x509.CertPool { return c.authority.Pool() },
		TrustAge:    c.config.TrustAge,
		Logger:      c.log.With("part", "sync"), Metrics: transport.NewMetrics(c.registry),
	})
	if err != nil {
		return fmt.Errorf("sync: %w", inUse(err))
	}
	if c.config.Cluster.Listen != "" {
		if d.peer, err = net.Listen("tcp", c.config.Cluster.Listen); err != nil {
			return fmt.Errorf("cluster: listen on %s: %w", c.config.Cluster.Listen, inUse(err))
		}
	}
	addresses := Addresses{Sync: d.sync.Addr(), API: localURL(d.api.listener.Addr()), Ops: d.ops.listener.Addr().String()}
	if d.peer != nil {
		addresses.Peer = d.peer.Addr().String()
	}
	c.mu.Lock()
	c.addresses = addresses
	c.mu.Unlock()
	return nil
}

// inUse marks an address that somebody else listens on.
func inUse(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w (%w): is another server running on this machine?", ErrInUse, err)
	}
	return err
}

// close gives back what no part has taken over. Closing twice does no harm.
func (d *doors) close() {
	for _, one := range []*door{d.ops, d.api} {
		if one != nil {
			one.listener.Close()
		}
	}
	if d.sync != nil {
		d.sync.Close()
	}
	if d.peer != nil {
		d.peer.Close()
	}
	if d.lock != nil {
		d.lock.Close() // and with it goes the lock
	}
}

// newClusterID makes a name that can stand in a SPIFFE id.
func newClusterID() string { return "xd-" + randomHex() }

// newIncarnation names one life of a cluster.
func newIncarnation() string { return randomHex() }

func randomHex() string {
	var id [8]byte
	rand.Read(id[:]) // never fails: the process ends when the system has no randomness
	return hex.EncodeToString(id[:])
}
