package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/peer"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// nodes of the control plane, as of the hub.
const nodes = 3

// path is an arm's whole way from the shop's intake to the sink.
type path struct {
	intake    string                                // address
	site      []string                              // addresses by which sites reach the center
	center    []string                              // and the center's nodes each other
	processes []*world.Process                      // all that it consists of
	received  func(context.Context) (uint64, error) // events stored at head office
	lines     *world.Lines                          // between shop and center, if asked for
	close     func() error
}

// pathArms are those that openPath knows.
var pathArms = []string{ours, natsAlways, natsDefault}

// openPath starts the arm's path to a sink and sends the first events through it.
func (r *run) openPath(ctx context.Context, sink *world.Sink, lines bool) (p *path, err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	switch r.arm {
	case ours:
		p, err = r.openCrossdock(ctx, sink, lines)
	case natsAlways:
		p, err = r.openNATS(ctx, sink, peer.Always, lines)
	case natsDefault:
		p, err = r.openNATS(ctx, sink, peer.Default, lines)
	default:
		return nil, fmt.Errorf("no arm %q", r.arm)
	}
	return p, err
}

func (r *run) startCrossdock(ctx context.Context, erp string, lines bool) (*world.Crossdock, error) {
	return world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: filepath.Join(r.dir, "crossdock"), Size: nodes, ERP: erp, Batch: r.batch, Lines: lines})
}

// openCrossdock starts three nodes and an agent at each of the two sites.
func (r *run) openCrossdock(ctx context.Context, sink *world.Sink, lines bool) (*path, error) {
	c, err := r.startCrossdock(ctx, sink.Address, lines)
	if err != nil {
		return nil, err
	}
	p := &path{site: c.Syncs(), center: c.Peers()}
	p.close = func() error {
		if p.lines != nil {
			p.lines.Close()
		}
		return c.Close()
	}
	shopSide := c.Syncs()
	if lines {
		if p.lines, err = world.StartLines(r.dir, c.LineAddresses(), c.Syncs()); err != nil {
			return nil, errors.Join(err, p.close())
		}
		shopSide = p.lines.Addresses
	}
	var agents []*world.Agent
	for _, a := range []struct {
		site      string
		addresses []string
	}{{material.ShopSite, shopSide}, {material.ERPSite, c.Syncs()}} {
		one, err := c.Enrol(ctx, a.site, a.addresses)
		if err == nil {
			err = one.Start(ctx)
		}
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		agents = append(agents, one)
	}
	p.intake, p.processes = agents[0].Intake, c.Processes()
	p.received = func(ctx context.Context) (uint64, error) {
		status, err := agents[1].Status(ctx)
		return status.Queue.Received, err
	}
	return p, nil
}

// openNATS starts the same of nats-servers, with a door and a forwarder.
func (r *run) openNATS(ctx context.Context, sink *world.Sink, sync peer.Sync, lines bool) (*path, error) {
	set, err := material.Policy(filepath.Join(r.dir, "policy"), sink.Address)
	if err != nil {
		return nil, err
	}
	p := &path{}
	cfg := peer.Config{Programs: r.programs, Dir: filepath.Join(r.dir, "nats"), Sync: sync, ERP: sink.Address,
		Posts: set.Systems[material.ERP].Delivery.Concurrency, Batch: r.batch} // as many as our delivery
	if lines {
		cfg.Line = func(hub []string) (_ []string, err error) {
			if p.lines, err = world.StartLines(r.dir, nil, hub); err != nil {
				return nil, err
			}
			return p.lines.Addresses, nil
		}
	}
	n, err := peer.Start(ctx, cfg)
	p.close = func() error {
		if p.lines != nil {
			p.lines.Close()
		}
		if n == nil {
			return nil
		}
		return n.Close()
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.intake, p.site, p.center, p.processes, p.received = n.Intake, n.Leaves(), n.Routes(), n.Processes(), n.Received
	return p, nil
}
