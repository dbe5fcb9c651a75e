// Package stage puts the demo on: it starts the real programs as processes of their own, a
// control plane and four agents, enrols the agents, gives each site a line that can be
// cut, and runs the demo's systems beside them.
//
// It uses the programs as a person would, by their commands and files. Its invariant: it
// takes nothing of Crossdock into its own process that the outcome depends on.
package stage

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/line"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/deploy/demo/systems"
)

// Ports of the demo; all on 127.0.0.1.
const (
	ControlAddr = "127.0.0.1:17000" // of the demo itself: cut, restore, stop, start

	// The first of several: one for each node, and for the lines one for each node and site.
	syncPort    = 17443
	linePort    = 17451
	peerPort    = 17470
	apiPort     = 17480
	nodeOpsPort = 17490
)

// Site is one agent with its line, which is cut for all nodes at once.
type Site struct {
	Name   string
	Intake string // address
	Ops    string // address
	lines  []*line.Line
	agent  *process
	dir    string
}

// Up reports whether the site's line carries.
func (s *Site) Up() bool { return s.lines[0].Up() }

// Config says how to put the demo on.
type Config struct {
	Bin    string        // directory of the programs
	Dir    string        // for data, logs and records; emptied first
	Nodes  int           // of the control plane; 0: one
	Orders int           // how many of the data's orders; 0: all
	Lasts  time.Duration // how long the shops take to capture them
	Day    time.Duration // of the data, in the warehouses
	Logger *slog.Logger
}

// Stage is the demo.
type Stage struct {
	cfg     Config
	company *northwind.Company

	Control    net.Listener // where a person tells the demo what to do; it marks this machine as taken
	Nodes      []*Node
	Sites      []*Site
	Shops      map[string]*systems.Shop
	Warehouses map[string]*systems.Warehouse
	ERP        *systems.ERP
	CRM        *systems.CRM
	ledgers    map[string]*ledger.Ledger
	secrets    map[string]string // of a system: intake and deliver token by file name
}

// regions that have a shop and a warehouse, with the first port of their systems.
var regions = []struct {
	name string
	port int
}{{northwind.Europe, 17100}, {northwind.NorthAmerica, 17200}, {northwind.LatinAmerica, 17300}}

// SiteNames lists the sites of the demo.
func SiteNames() []string {
	names := []string{"hq"}
	for _, r := range regions {
		names = append(names, r.name)
	}
	return names
}

// New makes sure that no other demo runs on this machine, reads the data and empties the
// directory.
func New(cfg Config) (*Stage, error) {
	if cfg.Nodes < 0 || cfg.Nodes > MaxNodes || cfg.Nodes == 2 {
		return nil, fmt.Errorf("the demo has 1 or %d nodes, not %d", MaxNodes, cfg.Nodes)
	}
	company, err := northwind.Load()
	if err != nil {
		return nil, err
	}
	control, err := net.Listen("tcp", ControlAddr)
	if err != nil {
		return nil, fmt.Errorf("a demo seems to be running on this machine already: %w", err)
	}
	s, err := prepare(cfg, company)
	if err != nil {
		return nil, errors.Join(err, control.Close())
	}
	s.Control = control
	return s, nil
}

func prepare(cfg Config, company *northwind.Company) (*Stage, error) {
	if cfg.Orders > 0 && cfg.Orders < len(company.Orders) {
		company.Orders = company.Orders[:cfg.Orders]
	}
	if err := os.RemoveAll(cfg.Dir); err != nil {
		return nil, err
	}
	for _, d := range []string{"logs", "records"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	return &Stage{cfg: cfg, company: company, Shops: map[string]*systems.Shop{}, Warehouses: map[string]*systems.Warehouse{},
		ledgers: map[string]*ledger.Ledger{}, secrets: map[string]string{}}, nil
}

func (s *Stage) path(parts ...string) string {
	return filepath.Join(append([]string{s.cfg.Dir}, parts...)...)
}

func (s *Stage) program(name string) string { return filepath.Join(s.cfg.Bin, name) }

// SetUp starts everything but the business: when it returns, every agent runs the approved
// policy and every system listens.
func (s *Stage) SetUp(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"start the control plane", s.startControlPlane},
		{"propose and approve the policy", s.approvePolicy},
		{"enrol the agents", s.startAgents},
		{"open the systems", s.openSystems},
		{"wait for the policy at the agents", s.awaitAgents},
		{"wait for the plugins and their numbers", s.awaitPlugins},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// quote writes a path so that YAML reads it back, a Windows one too.
func quote(path string) string {
	text, err := json.Marshal(path)
	if err != nil { // a string always marshals
		panic(err)
	}
	return string(text)
}

// await polls an address until it answers 200, or the program behind it has ended.
func (s *Stage) await(ctx context.Context, url string, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if answer, err := http.DefaultClient.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := p.running(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s", p.name, tail(p.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// approvePolicy has one person propose and another approve, as central IT would.
func (s *Stage) approvePolicy(ctx context.Context) error {
	if err := s.writePolicy(); err != nil {
		return err
	}
	tokens := map[string]string{}
	for _, p := range []struct{ name, role string }{{"maria", "author"}, {"ben", "approver"}} {
		token, err := s.Crossdock(ctx, "", "principals", "add", p.name, "--role", p.role)
		if err != nil {
			return err
		}
		tokens[p.name] = strings.TrimSpace(token)
	}
	if _, err := s.Crossdock(ctx, tokens["maria"], "policy", "propose", s.path("policy"), "-m", "the demo"); err != nil {
		return err
	}
	_, err := s.Crossdock(ctx, tokens["ben"], "policy", "approve", "1")
	return err
}

func (s *Stage) startAgents(ctx context.Context) error {
	names := SiteNames()
	for i, name := range names {
		site := &Site{Name: name, dir: s.path(name), Intake: fmt.Sprintf("127.0.0.1:%d", 17081+i), Ops: fmt.Sprintf("127.0.0.1:%d", 17091+i)}
		for n, node := range s.Nodes {
			l, err := line.Listen(fmt.Sprintf("127.0.0.1:%d", linePort+len(names)*n+i), node.Sync)
			if err != nil {
				return err
			}
			site.lines = append(site.lines, l)
			go func() { _ = l.Run(ctx) }() // ends with ctx
		}
		s.Sites = append(s.Sites, site)
		if err := s.enrol(ctx, site); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *Stage) enrol(ctx context.Context, site *Site) error {
	if err := os.MkdirAll(filepath.Join(site.dir, "secrets"), 0o700); err != nil {
		return err
	}
	if err := s.installPlugins(site); err != nil {
		return err
	}
	var addresses []string
	for _, l := range site.lines {
		addresses = append(addresses, strconv.Quote(l.Addr()))
	}
	config := fmt.Sprintf("data: %s\ncontrolplane: {addresses: [%s]}\nintake: {listen: %q}\nops: {listen: %q}\n",
		quote(site.dir), strings.Join(addresses, ", "), site.Intake, site.Ops)
	file := filepath.Join(site.dir, "agent.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	token, err := s.Crossdock(ctx, "", "token", "create", "--site", site.Name)
	if err != nil {
		return err
	}
	if _, err := call(ctx, nil, strings.NewReader(token), s.program("crossdock-agent"), "enroll", "-c", file); err != nil {
		return err
	}
	site.agent = &process{name: "agent " + site.Name, log: s.path("logs", site.Name+".log"),
		args: []string{s.program("crossdock-agent"), "run", "-c", file}}
	return nil
}

// secret makes a token for a system and puts it where its agent looks for it.
func (s *Stage) secret(site *Site, name string) (string, error) {
	token := rand.Text()
	return token, os.WriteFile(filepath.Join(site.dir, "secrets", name), []byte(token+"\n"), 0o600)
}

func (s *Stage) openSystems(ctx context.Context) error {
	bySite := map[string]*Site{}
	for _, site := range s.Sites {
		bySite[site.Name] = site
	}
	address := func(site *Site, name string, port int) (a systems.Address, l *ledger.Ledger, err error) {
		a = systems.Address{Name: name, Listen: fmt.Sprintf("127.0.0.1:%d", port), Agent: "http://" + site.Intake}
		if a.IntakeToken, err = s.secret(site, name+".token"); err != nil {
			return a, nil, err
		}
		if a.DeliverToken, err = s.secret(site, name+".deliver.token"); err != nil {
			return a, nil, err
		}
		l, err = ledger.Create(s.path("records", name+".jsonl"))
		s.ledgers[name] = l
		return a, l, err
	}
	for _, r := range regions {
		site := bySite[r.name]
		a, l, err := address(site, "shop-"+r.name, r.port+1)
		if err != nil {
			return err
		}
		s.Shops[r.name] = systems.NewShop(ctx, a, l, s.cfg.Logger)
		if a, l, err = address(site, "wms-"+r.name, r.port+2); err != nil {
			return err
		}
		s.Warehouses[r.name] = systems.NewWarehouse(ctx, a, l, s.cfg.Logger, r.name, s.company, s.cfg.Day)
	}
	a, l, err := address(bySite["hq"], "erp", 17001)
	if err != nil {
		return err
	}
	s.ERP = systems.NewERP(a, l, s.cfg.Logger)
	if a, l, err = address(bySite["hq"], "crm", 17002); err != nil {
		return err
	}
	s.CRM = systems.NewCRM(a, l, s.cfg.Logger)
	for _, system := range s.Systems() {
		if err := system.Start(); err != nil {
			return err
		}
	}
	return nil
}

// Systems lists all systems of the demo.
func (s *Stage) Systems() []*systems.System {
	out := []*systems.System{s.ERP.System, s.CRM.System}
	for _, r := range regions {
		out = append(out, s.Shops[r.name].System, s.Warehouses[r.name].System)
	}
	return out
}

func (s *Stage) awaitAgents(ctx context.Context) error {
	for _, site := range s.Sites {
		if err := site.agent.start(); err != nil {
			return err
		}
	}
	for _, site := range s.Sites {
		if err := s.await(ctx, "http://"+site.Ops+"/readyz", site.agent); err != nil {
			return err
		}
	}
	return nil
}

// Health says which program has ended that should run.
func (s *Stage) Health() error {
	var errs []error
	for _, n := range s.Nodes {
		errs = append(errs, n.run.running())
	}
	for _, site := range s.Sites {
		errs = append(errs, site.agent.running())
	}
	return errors.Join(errs...)
}

// TearDown ends everything, the doors first.
func (s *Stage) TearDown() {
	const grace = 15 * time.Second
	_ = s.Control.Close() // whoever served it has ended
	for _, site := range s.Sites {
		for _, l := range site.lines {
			l.Restore()
		}
		if site.agent != nil {
			site.agent.stop(grace)
		}
	}
	for _, n := range s.Nodes {
		n.run.stop(grace)
	}
	if s.ERP == nil || s.CRM == nil {
		return
	}
	for _, system := range s.Systems() {
		_ = system.Stop() // nothing is left to lose
	}
	for _, l := range s.ledgers {
		_ = l.Close()
	}
}
