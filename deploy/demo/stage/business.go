package stage

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/deploy/demo/systems"
)

// Trade runs the business until ctx ends: every shop captures its region's orders in the
// order and the rhythm of the data, every system answers. sold is closed when the last
// order is captured.
func (s *Stage) Trade(ctx context.Context, sold chan<- struct{}) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, system := range s.Systems() {
		group.Go(func() error { return system.Run(ctx) })
	}
	var selling sync.WaitGroup
	for region, orders := range s.orders() {
		selling.Go(func() {
			s.Shops[region].Sell(ctx, orders, s.cfg.Lasts/time.Duration(len(orders)))
		})
	}
	group.Go(func() error {
		selling.Wait()
		close(sold)
		return nil
	})
	return group.Wait()
}

func (s *Stage) orders() map[string][]*northwind.Order {
	out := map[string][]*northwind.Order{}
	for i := range s.company.Orders {
		o := &s.company.Orders[i]
		out[o.Region] = append(out[o.Region], o)
	}
	return out
}

// Flows lists what each system owes another, by the demo's policy and data.
func Flows() []ledger.Flow {
	of := func(typ string) func(ledger.Entry) bool { return func(e ledger.Entry) bool { return e.Type == typ } }
	var out []ledger.Flow
	for _, r := range regions {
		shop, warehouse, region := "shop-"+r.name, "wms-"+r.name, r.name
		out = append(out,
			ledger.Flow{Name: "orders", Source: shop, To: "erp", Owed: of(systems.OrderCaptured)},
			ledger.Flow{Name: "orders", Source: shop, To: warehouse, Owed: of(systems.OrderCaptured)},
			ledger.Flow{Name: "orders", Source: shop, To: "crm", Owed: of(systems.OrderCaptured)},
			ledger.Flow{Name: "answers", Source: "erp", To: shop, Owed: func(e ledger.Entry) bool {
				return e.Type == systems.OrderAccepted && e.Region == region
			}},
			ledger.Flow{Name: "shipments", Source: warehouse, To: "erp", Owed: of(systems.ShipmentMilestone)},
			ledger.Flow{Name: "dispatches", Source: warehouse, To: "crm", Owed: func(e ledger.Entry) bool {
				return e.Type == systems.ShipmentMilestone && e.Step == string(northwind.Shipping)
			}},
			ledger.Flow{Name: "stock", Source: warehouse, To: "erp", Owed: of(systems.InventoryPosition)},
			ledger.Flow{Name: "taxes", Source: shop, To: "erp", Owed: of(systems.TaxFinalised)},
			ledger.Flow{Name: "labels", Source: warehouse, To: "erp", Owed: of(systems.LabelCreated)},
			ledger.Flow{Name: "manifests", Source: warehouse, To: "erp", Owed: of(systems.Manifested)},
		)
	}
	return append(out, ledger.Flow{Name: "answers", Source: "erp", To: "crm", Owed: of(systems.OrderAccepted)})
}

// Records are the systems' own, as they stand.
func (s *Stage) Records() map[string][]ledger.Entry {
	entries := map[string][]ledger.Entry{}
	for name, l := range s.ledgers {
		entries[name] = l.Entries()
	}
	return entries
}

// Reconcile compares the systems' records as they stand.
func (s *Stage) Reconcile() []ledger.Outcome { return ledger.Reconcile(s.Records(), Flows()) }

// Settled reports whether the business has come to rest: every order went its whole way
// in the source systems' own records, and everything sent has been taken.
func (s *Stage) Settled() bool {
	expected := map[string]int{} // events that the data makes, by type
	parcels := map[string]int{}  // by region
	for i := range s.company.Orders {
		o := &s.company.Orders[i]
		expected[systems.OrderCaptured]++
		expected[systems.OrderAccepted]++
		expected[systems.TaxFinalised]++
		expected[systems.ShipmentMilestone] += 2
		if !o.Shipped.IsZero() {
			expected[systems.ShipmentMilestone]++
			expected[systems.InventoryPosition] += len(o.Lines)
			expected[systems.LabelCreated]++
			parcels[o.Region]++
		}
	}
	for _, n := range parcels {
		expected[systems.Manifested] += (n + systems.Truck - 1) / systems.Truck
	}
	sent := map[string]int{}
	for _, l := range s.ledgers {
		for _, e := range l.Entries() {
			if e.Act == ledger.Sent {
				sent[e.Type]++
			}
		}
	}
	for typ, n := range expected {
		if sent[typ] < n {
			return false
		}
	}
	for _, o := range s.Reconcile() {
		if len(o.Missing) > 0 {
			return false
		}
	}
	return true
}

// Cut cuts or restores a site's line, or blocks its UDP.
func (s *Stage) Cut(site, act string) error {
	for _, x := range s.Sites {
		if x.Name != site {
			continue
		}
		for _, l := range x.lines {
			switch act {
			case "cut":
				l.Cut()
			case "restore":
				l.Restore()
				l.BlockUDP(false)
			case "block-udp":
				l.BlockUDP(true)
			default:
				return fmt.Errorf("a line can be cut, restored, or have its UDP blocked; not %q", act)
			}
		}
		return nil
	}
	return fmt.Errorf("there is no site %q; there are %s", site, strings.Join(SiteNames(), ", "))
}

// Switch stops or starts a system by its name, or starts a node that was killed.
func (s *Stage) Switch(name, act string) error {
	if strings.HasPrefix(name, "node-") && act == "start" {
		return s.StartNode(context.Background(), name)
	}
	for _, system := range s.Systems() {
		if system.Name != name {
			continue
		}
		switch act {
		case "stop":
			return system.Stop()
		case "start":
			return system.Start()
		}
		return fmt.Errorf("a system can be stopped or started; not %q", act)
	}
	return fmt.Errorf("there is no system %q; there are erp, crm, and a shop- and a wms- of eu, na and latam", name)
}

// Kill ends an agent as a crash does, and starts it again; or it ends a node.
func (s *Stage) Kill(name string) error {
	if strings.HasPrefix(name, "node-") || name == Leader {
		_, err := s.KillNode(context.Background(), name)
		return err
	}
	for _, site := range s.Sites {
		if site.Name == name {
			site.agent.kill()
			return site.agent.start()
		}
	}
	return fmt.Errorf("there is no agent or node %q; there are hq, eu, na, latam, the nodes node-1 and on, and leader", name)
}

// Row is what the table shows of a site.
type Row struct {
	Site                                   string
	Line                                   string // as the demo set it
	Link                                   string // as the agent sees it
	Accepted, Outgoing, Pending, Delivered uint64
	Parked, DeadLetters                    int
}

// Table asks every agent how it is.
func (s *Stage) Table(ctx context.Context) []Row {
	var out []Row
	for _, site := range s.Sites {
		row := Row{Site: site.Name, Line: "up", Link: "not running"}
		switch {
		case !site.Up():
			row.Line = "cut"
		case site.lines[0].UDPBlocked():
			row.Line = "no udp"
		}
		if err := fill(ctx, site, &row); err != nil && site.agent.running() != nil {
			row.Link = "ended"
		}
		out = append(out, row)
	}
	return out
}

func fill(ctx context.Context, site *Site, row *Row) error {
	var status struct {
		Link struct {
			Connected bool
			Transport string
		}
		Queue   struct{ Accepted, Outgoing uint64 }
		Systems []struct {
			Pending, Delivered  uint64
			Parked, DeadLetters int
		}
	}
	if err := ask(ctx, site, &status); err != nil {
		return err
	}
	row.Link = "alone"
	if status.Link.Connected {
		row.Link = status.Link.Transport
	}
	row.Accepted, row.Outgoing = status.Queue.Accepted, status.Queue.Outgoing
	for _, y := range status.Systems {
		row.Pending, row.Delivered = row.Pending+y.Pending, row.Delivered+y.Delivered
		row.Parked, row.DeadLetters = row.Parked+y.Parked, row.DeadLetters+y.DeadLetters
	}
	return nil
}
