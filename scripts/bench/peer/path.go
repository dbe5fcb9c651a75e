package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// Config says what a path is made of.
type Config struct {
	Programs world.Programs
	Dir      string
	Sync     Sync
	ERP      string // address of the system at the end
	Posts    int    // at once, to that system
	Batch    int    // messages that one of them may carry; 1: each alone, as an event and not as a batch

	Anywhere bool // the hub's doors for leaf nodes are at every address of this machine

	// Line gives the addresses by which the shop reaches the hub's; nil: the hub's own.
	Line func(hub []string) ([]string, error)
}

// Path is all of it, running.
type Path struct {
	Hub    []*Server
	Shop   *Server
	HQ     *Server
	Intake string // address of the door
	cfg    Config
	roles  []*world.Process
	nc     *nats.Conn // to head office
	inbox  jetstream.Stream
}

// Start puts up the path, from the hub outwards.
func Start(ctx context.Context, cfg Config) (*Path, error) {
	p := &Path{cfg: cfg}
	for _, step := range []func(context.Context) error{p.startServers, p.createStreams, p.startRoles} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, p.Close())
		}
	}
	return p, nil
}

func (p *Path) startServers(context.Context) (err error) {
	if p.Hub, err = startHub(p.cfg.Programs, p.cfg.Dir, p.cfg.Sync, p.cfg.Anywhere); err != nil {
		return err
	}
	direct := p.Leaves()
	lines := direct
	if p.cfg.Line != nil {
		if lines, err = p.cfg.Line(direct); err != nil {
			return err
		}
	}
	if p.Shop, err = startLeaf(p.cfg.Programs, p.cfg.Dir, shop, p.cfg.Sync, lines); err != nil {
		return err
	}
	p.HQ, err = startLeaf(p.cfg.Programs, p.cfg.Dir, hq, p.cfg.Sync, direct)
	return err
}

// Leaves are the addresses at which leaf nodes reach the hub.
func (p *Path) Leaves() (out []string) {
	for _, s := range p.Hub {
		out = append(out, s.leaf)
	}
	return out
}

// Routes are the addresses at which the hub's servers reach each other.
func (p *Path) Routes() (out []string) {
	for _, s := range p.Hub {
		out = append(out, s.route)
	}
	return out
}

func (p *Path) createStreams(ctx context.Context) error {
	if err := create(ctx, p.Shop, jetstream.StreamConfig{Name: stream, Subjects: []string{subject}, Replicas: 1}); err != nil {
		return err
	}
	if err := create(ctx, p.Hub[0], jetstream.StreamConfig{Name: stream, Replicas: 3,
		Sources: []*jetstream.StreamSource{{Name: stream, Domain: shop}}}); err != nil {
		return err
	}
	if err := create(ctx, p.HQ, jetstream.StreamConfig{Name: stream, Replicas: 1,
		Sources: []*jetstream.StreamSource{{Name: stream, Domain: hub}}}); err != nil {
		return err
	}
	nc, js, err := connect(p.HQ.URL())
	if err != nil {
		return err
	}
	p.nc = nc
	p.inbox, err = js.Stream(ctx, stream)
	return err
}

// startRoles starts the door and the forwarder, which are this program in another role.
func (p *Path) startRoles(ctx context.Context) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	policy := filepath.Join(p.cfg.Dir, "policy")
	if err := material.WritePolicy(policy, p.cfg.ERP, p.cfg.Batch); err != nil {
		return err
	}
	if p.Intake, err = world.FreeAddress(); err != nil {
		return err
	}
	for _, args := range [][]string{
		{DoorRole, p.Intake, policy, p.Shop.URL()},
		{ForwardRole, p.HQ.URL(), "http://" + p.cfg.ERP + "/events", fmt.Sprint(p.cfg.Posts), fmt.Sprint(p.cfg.Batch)},
	} {
		one, err := world.Start(args[0], world.Edge, filepath.Join(p.cfg.Dir, args[0]+".log"), append([]string{self}, args...)...)
		if err != nil {
			return err
		}
		p.roles = append(p.roles, one)
	}
	return nil
}

// Processes lists what runs.
func (p *Path) Processes() (out []*world.Process) {
	for _, s := range append([]*Server{p.Shop, p.HQ}, p.Hub...) {
		if s != nil && s.Process != nil {
			out = append(out, s.Process)
		}
	}
	return append(out, p.roles...)
}

// Received counts the events in the stream at head office.
func (p *Path) Received(ctx context.Context) (uint64, error) {
	info, err := p.inbox.Info(ctx)
	if err != nil {
		return 0, err
	}
	return info.State.Msgs, nil
}

// Close ends everything and removes its data.
func (p *Path) Close() error {
	if p.nc != nil {
		p.nc.Close()
	}
	for _, one := range p.Processes() {
		one.Kill()
	}
	return os.RemoveAll(p.cfg.Dir)
}
