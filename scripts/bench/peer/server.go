// Package peer is the same path built from NATS JetStream as its users build it: a server
// at each site as a leaf node with a JetStream domain and a stream of its own, and a hub of
// three servers between them.
//
//	HTTP door ─▶ stream ORDERS at the shop's leaf (one replica)
//	          ─▶ stream ORDERS at the hub (three replicas), sourcing the shop's
//	          ─▶ stream ORDERS at head office's leaf, sourcing the hub's
//	          ─▶ forwarder: a durable pull consumer, posts to the system, then acknowledges
//
// Sourcing is how JetStream carries a stream over a line that may be cut: each side keeps
// what it has and asks for the rest by sequence. All streams are on files and keep what
// passed for a week, as an agent's journal does. The duplicate window stays at its default
// and no message carries an id, so that nothing is spent on recognising repeats, which our
// side does do. Compression between servers stays at its default, which is off at the round
// trip of loopback.
//
// It refuses to know what is measured. Its invariant: its door is our own intake with our
// validation, and an event is answered with 202 after JetStream acknowledged it.
package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/crossdock/crossdock/scripts/bench/world"
)

// Sync says when a server calls fsync.
type Sync string

// The two ways: before it acknowledges, or every two minutes.
const (
	Always  Sync = "always"
	Default Sync = "default"
)

const (
	stream  = "ORDERS"
	subject = "orders.captured"
	hub     = "hub" // domains
	shop    = "shop"
	hq      = "hq"

	retain = 7 * 24 * time.Hour

	// Window is how many publications one program has under way: nats.go's default is 4000.
	Window = 4096
)

// stall lets a publication wait for room in the window; the default gives up after 200 ms.
var stall = jetstream.WithStallWait(time.Minute)

// Server is one nats-server.
type Server struct {
	Client  string // address for clients
	leaf    string // and for leaf nodes
	route   string // and for the other servers of the hub
	Process *world.Process
}

// URL for clients.
func (s *Server) URL() string { return "nats://" + s.Client }

// launch writes a configuration and starts the program by it. store is the directory of
// JetStream, more what is special about this server.
func launch(programs world.Programs, dir, name, domain string, place world.Place, sync Sync, s *Server, more string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	always := ""
	if sync == Always {
		always = ", sync_interval: always"
	}
	config := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream: {store_dir: %q, domain: %s%s}\n%s",
		name, s.Client, filepath.Join(dir, name), domain, always, more)
	file := filepath.Join(dir, name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	var err error
	s.Process, err = world.Start(name, place, filepath.Join(dir, name+".log"), programs.Path("nats-server"), "-c", file)
	return err
}

// StartServer starts a server that is alone, with JetStream on files, and makes the stream.
func StartServer(ctx context.Context, programs world.Programs, dir string, sync Sync) (*Server, error) {
	address, err := world.FreeAddress()
	if err != nil {
		return nil, err
	}
	s := &Server{Client: address}
	if err := launch(programs, dir, "alone", shop, world.Edge, sync, s, ""); err != nil {
		return nil, err
	}
	if err := create(ctx, s, jetstream.StreamConfig{Name: stream, Subjects: []string{subject}, Replicas: 1}); err != nil {
		s.Process.Kill()
		return nil, err
	}
	return s, nil
}

// Again starts a server that was alone, and has ended, with what it has stored, and returns
// when it tells of the stream.
func (s *Server) Again(ctx context.Context, programs world.Programs, dir string, sync Sync) error {
	if err := launch(programs, dir, "alone", shop, world.Edge, sync, s, ""); err != nil {
		return err
	}
	return s.await(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.Stream(ctx, stream)
		return err
	})
}

// await tries until the server and its cluster are ready for it.
func (s *Server) await(ctx context.Context, do func(context.Context, jetstream.JetStream) error) error {
	return world.Await(ctx, "stream at "+s.Process.Name, []*world.Process{s.Process}, func(ctx context.Context) error {
		nc, js, err := connect(s.URL())
		if err != nil {
			return err
		}
		defer nc.Close()
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return do(ctx, js)
	})
}

// startHub starts three servers as one cluster. Leaf nodes reach them on loopback alone, or
// by every address of this machine.
func startHub(programs world.Programs, dir string, sync Sync, anywhere bool) ([]*Server, error) {
	const size = 3
	var servers []*Server
	var routes []string
	for range size {
		s := &Server{}
		for _, to := range []*string{&s.Client, &s.leaf, &s.route} {
			var err error
			if *to, err = world.FreeAddress(); err != nil {
				return nil, err
			}
		}
		servers = append(servers, s)
		routes = append(routes, fmt.Sprintf("%q", "nats-route://"+s.route))
	}
	for i, s := range servers {
		// Leaf nodes are told of no other way to the hub than the one that they know: a line
		// that is cut must not be passed by.
		listen := s.leaf
		if anywhere {
			listen = world.Anywhere(s.leaf)
		}
		more := fmt.Sprintf("cluster: {name: hub, listen: %q, routes: [%s]}\nleafnodes: {listen: %q, no_advertise: true}\n", s.route, strings.Join(routes, ", "), listen)
		if err := launch(programs, dir, fmt.Sprint("hub-", i+1), hub, world.Center, sync, s, more); err != nil {
			return servers, err
		}
	}
	return servers, nil
}

// startLeaf starts the server of a site, which reaches the hub at addresses.
func startLeaf(programs world.Programs, dir, site string, sync Sync, addresses []string) (*Server, error) {
	client, err := world.FreeAddress()
	if err != nil {
		return nil, err
	}
	var urls []string
	for _, a := range addresses {
		urls = append(urls, fmt.Sprintf("%q", "nats-leaf://"+a))
	}
	s := &Server{Client: client}
	return s, launch(programs, dir, site, site, world.Edge, sync, s, fmt.Sprintf("leafnodes: {remotes: [{urls: [%s]}]}\n", strings.Join(urls, ", ")))
}

// create makes a stream.
func create(ctx context.Context, s *Server, config jetstream.StreamConfig) error {
	config.Storage, config.Retention, config.MaxAge = jetstream.FileStorage, jetstream.LimitsPolicy, retain
	return s.await(ctx, func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, config)
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return nil // made by an attempt whose answer was lost
		}
		return err
	})
}

// connect opens a connection that comes back by itself.
func connect(url string) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(Window))
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}
