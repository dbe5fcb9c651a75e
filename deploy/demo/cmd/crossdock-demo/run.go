package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/deploy/demo/audit"
	"github.com/crossdock/crossdock/deploy/demo/ledger"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	"github.com/crossdock/crossdock/deploy/demo/stage"
)

const settleWithin = 5 * time.Minute // after the last order

type options struct {
	stage.Config
	until   string
	outages []string
	kill    string
}

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	root := &cobra.Command{Use: "crossdock-demo", Short: "One control plane, four agents, and the orders of a trading company", SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(errors.New("it needs a command"), cmd.Help())
		}}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	root.AddCommand(runCommand(out, errOut), reconcileCommand(out), listenCommand(out))
	for _, c := range []struct{ verb, what, path, short string }{
		{"cut", "SITE", "/line", "cut the line of a site"},
		{"restore", "SITE", "/line", "let the line of a site carry everything again"},
		{"block-udp", "SITE", "/line", "drop UDP on the line of a site, as a firewall does"},
		{"stop", "SYSTEM", "/system", "close the port of a system"},
		{"start", "SYSTEM|NODE", "/system", "open the port of a system again, or start a node that was killed"},
		{"kill", "AGENT|NODE|leader", "/agent", "kill -9 an agent and start it again; kill -9 a node, or the one that leads"},
	} {
		root.AddCommand(&cobra.Command{Use: c.verb + " " + c.what, Short: "In a running demo: " + c.short,
			Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
				return tell(cmd.Context(), out, c.path+"/"+args[0]+"/"+c.verb)
			}})
	}
	return root.ExecuteContext(ctx)
}

func runCommand(out, errOut io.Writer) *cobra.Command {
	o := options{}
	c := &cobra.Command{Use: "run", Short: "Put the demo on", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Logger = slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
			return perform(cmd.Context(), o, out)
		}}
	f := c.Flags()
	f.StringVar(&o.Bin, "bin", "bin", "directory of the programs")
	f.StringVar(&o.Dir, "dir", filepath.Join("run", "demo"), "directory for data, logs and records; it is emptied")
	f.IntVar(&o.Nodes, "nodes", 1, "nodes of the control plane, 1 or 3")
	f.StringVar(&o.kill, "kill", "", "leader, or a node such as node-2: kill -9 it in the middle of the business, and start it again later")
	f.IntVar(&o.Orders, "orders", 0, "take the first so many of the data's 830 orders; 0 takes all")
	f.DurationVar(&o.Lasts, "lasts", 40*time.Second, "how long the shops take for them")
	f.DurationVar(&o.Day, "day", 40*time.Millisecond, "how long a day of the data takes in the warehouses")
	f.StringVar(&o.until, "until", "", "done: end by itself with the reconciliation")
	f.StringSliceVar(&o.outages, "outage", nil, "site:duration, such as eu:20s: cut this line a few seconds into the business")
	return c
}

// outage is a line that is cut for a while.
type outage struct {
	site  string
	lasts time.Duration
}

// check refuses what cannot be done, before anything is started or emptied.
func (o *options) check() (outages []outage, err error) {
	if o.until != "" && o.until != "done" {
		return nil, fmt.Errorf("--until %s: it is done, or nothing", o.until)
	}
	for _, text := range o.outages {
		site, length, ok := strings.Cut(text, ":")
		lasts, err := time.ParseDuration(length)
		if !ok || err != nil || lasts <= 0 {
			return nil, fmt.Errorf("--outage %s: write it like eu:20s", text)
		}
		if !slices.Contains(stage.SiteNames(), site) {
			return nil, fmt.Errorf("--outage %s: there is no site %q; there are %s", text, site, strings.Join(stage.SiteNames(), ", "))
		}
		outages = append(outages, outage{site, lasts})
	}
	if nodes := stage.NodeNames(max(o.Nodes, 1)); o.kill != "" && o.kill != stage.Leader && !slices.Contains(nodes, o.kill) {
		return nil, fmt.Errorf("--kill %s: there is no such node; it is leader, or one of %s", o.kill, strings.Join(nodes, ", "))
	}
	if o.kill != "" && o.Nodes < 3 {
		return nil, fmt.Errorf("--kill %s: a control plane of %d cannot do without one; add --nodes 3", o.kill, max(o.Nodes, 1))
	}
	return outages, nil
}

func perform(ctx context.Context, o options, out io.Writer) error {
	outages, err := o.check()
	if err != nil {
		return err
	}
	s, err := stage.New(o.Config)
	if err != nil {
		return err
	}
	defer s.TearDown()
	fmt.Fprintf(out, "starting a control plane of %d and four agents, and enrolling them ...\n", o.Nodes)
	if err := s.SetUp(ctx); err != nil {
		return err
	}
	introduce(out, o, s)
	defer listen(s)()
	for _, one := range outages {
		go one.happen(ctx, out, s)
	}
	if o.kill != "" {
		go fell(ctx, out, s, o.kill)
	}
	if err := watch(ctx, o, s, out); err != nil {
		return err
	}
	if o.Nodes > 1 && ctx.Err() == nil {
		if err := s.AwaitEqual(ctx); err != nil {
			return fmt.Errorf("the nodes do not come to the same state: %w", err)
		}
		fmt.Fprintf(out, "\nthe state is the same on all %d nodes\n", o.Nodes)
	}
	fmt.Fprintln(out, "\nreconciliation, from the systems' own records in "+filepath.Join(o.Dir, "records")+":")
	return judge(out, s.Records())
}

// judge compares the systems' records with each other, and with what the orders come to.
func judge(out io.Writer, records map[string][]ledger.Entry) error {
	company, err := northwind.Load()
	if err != nil {
		return err
	}
	clean := ledger.Print(out, ledger.Reconcile(records, stage.Flows()))
	if clean {
		fmt.Fprintln(out, "missing 0, duplicated 0, out of order 0")
	}
	report, err := audit.Compare(company, records)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "\ntaxes and freight, recomputed from the orders and from rates written down apart from the plugins' (all are examples):")
	if !report.Print(out) || !clean {
		return errors.New("the reconciliation is not clean")
	}
	return nil
}

func introduce(out io.Writer, o options, s *stage.Stage) {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "\nwhere things are:")
	fmt.Fprintf(t, "  control plane\t%s --data %s status\n", filepath.Join(o.Bin, "crossdock"), filepath.Join(o.Dir, "controlplane"))
	for _, n := range s.Nodes {
		fmt.Fprintf(t, "  %s\tapi %s\tagents %s\n", n.Name, n.API, n.Sync)
	}
	for _, site := range s.Sites {
		fmt.Fprintf(t, "  agent %s\tevents http://%s/v1/events\tmetrics http://%s/metrics\n", site.Name, site.Intake, site.Ops)
	}
	for _, system := range s.Systems() {
		fmt.Fprintf(t, "  %s\thttp://%s\n", system.Name, system.Listen)
	}
	fmt.Fprintf(t, "  logs\t%s\n", filepath.Join(o.Dir, "logs"))
	_ = t.Flush() // the reader is gone if this fails
	fmt.Fprintf(out, "\nfrom a second terminal:\n  %[1]s cut eu    %[1]s restore eu    %[1]s block-udp na\n  %[1]s stop erp   %[1]s start erp     %[1]s kill hq\n"+
		"  %[2]s --data %[3]s events trace 10248\n\n", filepath.Join(o.Bin, "crossdock-demo"), filepath.Join(o.Bin, "crossdock"), filepath.Join(o.Dir, "controlplane"))
}

// happen cuts the line a few seconds into the business, and restores it.
func (o outage) happen(ctx context.Context, out io.Writer, s *stage.Stage) {
	const after = 8 * time.Second
	for _, step := range []struct {
		wait time.Duration
		act  string
	}{{after, "cut"}, {o.lasts, "restore"}} {
		select {
		case <-ctx.Done():
			return
		case <-time.After(step.wait):
		}
		if err := s.Cut(o.site, step.act); err == nil {
			fmt.Fprintf(out, "*** line of %s: %s\n", o.site, step.act)
		}
	}
}

// fell kills a node a few seconds into the business, and starts it again some later.
func fell(ctx context.Context, out io.Writer, s *stage.Stage, name string) {
	const after, down = 12 * time.Second, 12 * time.Second
	for _, step := range []struct {
		wait time.Duration
		do   func() error
	}{
		{after, func() (err error) {
			name, err = s.KillNode(ctx, name)
			fmt.Fprintf(out, "*** %s: kill -9 %v\n", name, errorText(err))
			return err
		}},
		{down, func() error {
			err := s.StartNode(ctx, name)
			fmt.Fprintf(out, "*** %s: started again %v\n", name, errorText(err))
			return err
		}},
	} {
		select {
		case <-ctx.Done():
			return
		case <-time.After(step.wait):
		}
		if step.do() != nil {
			return
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// watch runs the business with the table until it is over.
func watch(ctx context.Context, o options, s *stage.Stage, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sold := make(chan struct{})
	trade := make(chan error, 1)
	go func() { trade <- s.Trade(ctx, sold) }()
	ticker := time.NewTicker(2 * time.Second)
	defer ticker.Stop()
	var deadline <-chan time.Time
	selling := sold
	begun := time.Now()
	for {
		select {
		case err := <-trade:
			if ctx.Err() != nil && err == nil {
				return nil // told to stop: show what there is
			}
			return errors.Join(errors.New("the business ended early"), err)
		case <-deadline:
			printTable(ctx, out, s, begun)
			fmt.Fprintf(out, "not settled %s after the last order\n", settleWithin)
			return nil // the reconciliation says what is missing
		case <-selling:
			selling, deadline = nil, time.After(settleWithin)
			fmt.Fprintln(out, "*** all orders are captured; what is on the way goes on")
		case <-ticker.C:
			printTable(ctx, out, s, begun)
			if err := s.Health(); err != nil {
				return err
			}
			if selling == nil && o.until == "done" && s.Settled() && linesUp(s) && s.NodesUp() {
				return nil
			}
		}
	}
}

func linesUp(s *stage.Stage) bool {
	for _, site := range s.Sites {
		if !site.Up() {
			return false
		}
	}
	return true
}

func printTable(ctx context.Context, out io.Writer, s *stage.Stage, begun time.Time) {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "%4.0fs  site\tline\tlink\taccepted\tto send\tto deliver\tdelivered\tparked\tdead\t\n", time.Since(begun).Seconds())
	for _, r := range s.Table(ctx) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.Site, r.Line, r.Link, r.Accepted, r.Outgoing, r.Pending, r.Delivered, r.Parked, r.DeadLetters)
	}
	_ = t.Flush()
}

func reconcileCommand(out io.Writer) *cobra.Command {
	dir := filepath.Join("run", "demo")
	c := &cobra.Command{Use: "reconcile", Short: "Compare the systems' records of the last demo", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			ledgers := map[string][]ledger.Entry{}
			files, err := filepath.Glob(filepath.Join(dir, "records", "*.jsonl"))
			if err != nil {
				return err
			}
			for _, f := range files {
				name := strings.TrimSuffix(filepath.Base(f), ".jsonl")
				if ledgers[name], err = ledger.Read(f); err != nil {
					return err
				}
			}
			return judge(out, ledgers)
		}}
	c.Flags().StringVar(&dir, "dir", dir, "directory of the demo")
	return c
}

// listen takes what a person tells the demo from a second terminal.
func listen(s *stage.Stage) (stop func()) {
	mux := http.NewServeMux()
	handle := func(kind string, do func(name, act string) error) {
		mux.HandleFunc("POST /"+kind+"/{name}/{act}", func(w http.ResponseWriter, r *http.Request) {
			if err := do(r.PathValue("name"), r.PathValue("act")); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			fmt.Fprintf(w, "%s: %s\n", r.PathValue("name"), r.PathValue("act"))
		})
	}
	handle("line", s.Cut)
	handle("system", s.Switch)
	handle("agent", func(name, _ string) error { return s.Kill(name) })
	server := &http.Server{Handler: http.NewCrossOriginProtection().Handler(mux), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(s.Control) }() // ends with stop
	return func() { _ = server.Close() }
}

// tell sends a word to the running demo.
func tell(ctx context.Context, out io.Writer, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+stage.ControlAddr+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("no demo is running here: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(text)))
	}
	_, err = fmt.Fprint(out, string(text))
	return err
}
