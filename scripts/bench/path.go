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
	lines     lines                                 // between shop and center, if asked for
	close     func() error
}

// lines can be cut, all at once.
type lines interface {
	Cut() error
	Restore() error
	Close() error
}

var (
	_ lines = (*world.Filter)(nil)
	_ lines = (*world.Lines)(nil)
)

// lineKindHere finds by what lines can be cut, and says it once.
func (r *run) lineKindHere() world.LineKind {
	r.cutting.Do(func() {
		r.lineKind = world.Filtered
		if err := world.CanFilter(); err != nil {
			r.lineKind = world.Relayed
			fmt.Fprintln(r.out, "lines are relays, which cost datagrams more than streams:", err)
			return
		}
		fmt.Fprintln(r.out, "lines are cut by rules of nftables; nothing else stands on them")
	})
	return r.lineKind
}

// openLines leads lines of a kind to targets, and gives the addresses by which the shop takes
// them. A relay listens where listen says, or anywhere if that is nil.
func (r *run) openLines(kind world.LineKind, listen, targets []string) (lines, []string, error) {
	if kind == world.Filtered {
		f, err := world.OpenFilter(targets)
		if err != nil {
			return nil, nil, err
		}
		return f, f.Addresses, nil
	}
	l, err := world.StartLines(r.dir, listen, targets)
	if err != nil {
		return nil, nil, err
	}
	return l, l.Addresses, nil
}

// closeLines ends them, if there are any.
func (p *path) closeLines() error {
	if p.lines == nil {
		return nil
	}
	return p.lines.Close()
}

// pathArms are those that openPath knows.
var pathArms = []string{ours, natsAlways, natsDefault}

// openPath starts the arm's path to a sink and sends the first events through it.
func (r *run) openPath(ctx context.Context, sink *world.Sink, lines bool) (p *path, err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	kind := world.NoLines
	if lines {
		kind = r.lineKindHere()
	}
	switch r.arm {
	case ours:
		p, err = r.openCrossdock(ctx, sink, kind)
	case natsAlways:
		p, err = r.openNATS(ctx, sink, peer.Always, kind)
	case natsDefault:
		p, err = r.openNATS(ctx, sink, peer.Default, kind)
	default:
		return nil, fmt.Errorf("no arm %q", r.arm)
	}
	return p, err
}

func (r *run) startCrossdock(ctx context.Context, erp string, lines world.LineKind) (*world.Crossdock, error) {
	return world.StartCrossdock(ctx, world.CrossdockConfig{Programs: r.programs, Dir: filepath.Join(r.dir, "crossdock"), Size: nodes, ERP: erp, Batch: r.batch, Lines: lines})
}

// openCrossdock starts three nodes and an agent at each of the two sites.
func (r *run) openCrossdock(ctx context.Context, sink *world.Sink, lines world.LineKind) (*path, error) {
	c, err := r.startCrossdock(ctx, sink.Address, lines)
	if err != nil {
		return nil, err
	}
	p := &path{site: c.Syncs(), center: c.Peers()}
	p.close = func() error { return errors.Join(p.closeLines(), c.Close()) }
	shopSide := c.Syncs()
	if lines != world.NoLines {
		if p.lines, shopSide, err = r.openLines(lines, c.LineAddresses(), c.Syncs()); err != nil {
			return nil, errors.Join(err, p.close())
		}
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
func (r *run) openNATS(ctx context.Context, sink *world.Sink, sync peer.Sync, lines world.LineKind) (*path, error) {
	set, err := material.Policy(filepath.Join(r.dir, "policy"), sink.Address)
	if err != nil {
		return nil, err
	}
	p := &path{}
	cfg := peer.Config{Programs: r.programs, Dir: filepath.Join(r.dir, "nats"), Sync: sync, ERP: sink.Address,
		Posts: set.Systems[material.ERP].Delivery.Concurrency, Batch: r.batch} // as many as our delivery
	if lines != world.NoLines {
		cfg.Anywhere = lines == world.Filtered
		cfg.Line = func(hub []string) (shopSide []string, err error) {
			p.lines, shopSide, err = r.openLines(lines, nil, hub)
			return shopSide, err
		}
	}
	n, err := peer.Start(ctx, cfg)
	p.close = func() error {
		if n == nil {
			return p.closeLines()
		}
		return errors.Join(p.closeLines(), n.Close())
	}
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	p.intake, p.site, p.center, p.processes, p.received = n.Intake, n.Leaves(), n.Routes(), n.Processes(), n.Received
	return p, nil
}
