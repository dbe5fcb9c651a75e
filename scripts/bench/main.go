// Command bench measures the durable path side by side with what users would take instead:
// NATS JetStream, as the same path or as the same journal, the least file that could do, and
// a plugin that is called without an agent.
//
// It owns the sections and their interleaving, and refuses to know how one measures. Its
// invariant: in each round every arm of a section is measured once, in an order that
// changes from round to round, so that all see the same machine; what is printed are
// medians. It asserts nothing: speed is for people to judge.
//
// It is a module of its own, so that what it compares with is in nobody's build.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/peer"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// section measures some cells for each of its arms. measure is called for one arm in one
// round, with nothing else running.
type section struct {
	report.Section
	measure func(ctx context.Context, r *run) error
	batch   int  // events that a request to the system may carry; 0: as many as usual
	long    bool // one round of it is enough: it takes minutes, and what it measures does not scatter as rates do
}

// sections in the order in which they run.
func sections() []section {
	return []section{intakeSection(), queueSection(), relaySection(), endToEndSection(), singleSection(), drainSection(),
		pluginsSection(), footprintSection(), scaleSection(), slopeSection(), burstSection()}
}

// roles are what this program is when it is started by itself.
var roles = map[string]func(ctx context.Context, args []string) error{
	peer.DoorRole:    peer.RunDoor,
	peer.ForwardRole: peer.RunForward,
	world.LinesRole: func(ctx context.Context, args []string) error {
		return world.RunLines(ctx, args, os.Stdin, os.Stdout)
	},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && roles[args[0]] != nil {
		return roles[args[0]](ctx, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.within, fmt.Errorf("not done within %s; take fewer rounds or more time with -within", o.within))
	defer cancel()
	return measure(ctx, o, out)
}

// options are the flags.
type options struct {
	only   []string // sections
	arms   []string
	rounds int
	lasts  time.Duration
	events int
	slow   int
	drain  int
	idle   time.Duration
	queued int
	agents int
	burst  time.Duration
	dir    string
	out    string
	within time.Duration
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := flags.String("only", "", "sections, with commas between; empty: all")
	arms := flags.String("arms", "", "arms, likewise")
	flags.IntVar(&o.rounds, "rounds", 5, "of every arm")
	flags.DurationVar(&o.lasts, "lasts", 5*time.Second, "of a measurement at a fixed rate; one of intake takes a fifth of it")
	flags.IntVar(&o.events, "events", 50_000, "of a measurement end to end and of the relay")
	flags.IntVar(&o.slow, "slow-events", 20_000, "the same where every message is synced by itself")
	flags.IntVar(&o.drain, "drain-events", 200_000, "accepted while the line is cut, and half as many a second time; an eighth where every message is synced by itself")
	flags.DurationVar(&o.idle, "idle", 30*time.Second, "before the memory of an agent that does nothing is read")
	flags.IntVar(&o.queued, "backlog", 1_000_000, "events of 1 KB queued when an agent's memory and start are measured; 5000000 make the backlog of 5 GB")
	flags.IntVar(&o.agents, "agents", 1000, "on one control plane; they join at 10 a second, which is its limit")
	flags.DurationVar(&o.burst, "burst", time.Minute, "of ten times what the shops may send; 10m for the whole test")
	flags.StringVar(&o.dir, "dir", "", "for what is stored meanwhile, on a real disk; empty: the system's temporary one")
	flags.StringVar(&o.out, "out", "", "file for the tables, and beside it one with the name's end .jsonl for all values; empty: run/bench-DATE.md")
	flags.DurationVar(&o.within, "within", 75*time.Minute, "all must be done")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.events < 1 || o.slow < 1 || o.drain < 1 || o.queued < 1 || o.agents < 2 || o.idle <= 0 || o.burst <= 0 || o.lasts <= 0 || flags.NArg() > 0 {
		return o, errors.New("numbers are positive, and there are no arguments beside flags")
	}
	if o.out == "" {
		o.out = filepath.Join("..", "..", "run", "bench-"+time.Now().Format("2006-01-02-1504")+".md")
	}
	o.only, o.arms = list(*only), list(*arms)
	var names, known []string
	for _, s := range sections() {
		names, known = append(names, s.Name), append(known, s.Arms...)
	}
	return o, errors.Join(allKnown("section", o.only, names), allKnown("arm", o.arms, known))
}

func allKnown(what string, given, known []string) error {
	for _, name := range given {
		if !slices.Contains(known, name) {
			slices.Sort(known)
			return fmt.Errorf("%s %q: there are %s", what, name, strings.Join(slices.Compact(known), ", "))
		}
	}
	return nil
}

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// among says whether a list that was given names something; none given names all.
func among(given []string, name string) bool { return len(given) == 0 || slices.Contains(given, name) }

// bench is what all measurements share.
type bench struct {
	options
	programs world.Programs
	orders   *material.Orders
	book     *report.Book
	out      io.Writer
	notWired sync.Once // says why bytes on the wire are not counted
	cutting  sync.Once // finds and says by what lines are cut
	lineKind world.LineKind
}

// run is one measurement: one arm in one round.
type run struct {
	*bench
	section string
	arm     string
	batch   int
	round   int
	dir     string // does not exist yet; removed afterwards
}

// note keeps a value of the arm.
func (r *run) note(cell, unit string, value float64) {
	r.book.Note(report.Line{Section: r.section, Arm: r.arm, Cell: cell, Unit: unit, Round: r.round, Value: value})
}

func measure(ctx context.Context, o options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "crossdock-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(filepath.Dir(o.out), 0o700); err != nil {
		return err
	}
	tables, err := os.Create(o.out)
	if err != nil {
		return err
	}
	defer tables.Close()
	lines, err := os.Create(strings.TrimSuffix(o.out, filepath.Ext(o.out)) + ".jsonl")
	if err != nil {
		return err
	}
	defer lines.Close()
	head := report.NewHead(dir, "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/hashicorp/go-plugin")
	b := &bench{options: o, orders: material.NewOrders(1), book: report.NewBook(lines, head), out: io.MultiWriter(out, tables)}
	fmt.Fprint(b.out, head)
	if strings.HasSuffix(head.Disk, "tmpfs") {
		fmt.Fprintln(b.out, "the data lies in memory, where an fsync costs nothing: name a directory on a real disk with -dir")
	}
	if b.programs, err = world.Build(ctx, dir); err != nil {
		return err
	}
	for _, s := range sections() {
		if !among(o.only, s.Name) {
			continue
		}
		// What was measured before a failure is told, too.
		err = errors.Join(err, b.rounds(ctx, s, dir), b.book.Print(b.out, s.Section))
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(err, b.book.Err())
}

// rounds measures all arms of a section again and again. An arm that fails is left out of
// its round.
func (b *bench) rounds(ctx context.Context, s section, dir string) (failed error) {
	rounds := b.options.rounds
	if s.long {
		rounds = 1
	}
	for round := range rounds {
		for i := range s.Arms {
			arm := s.Arms[(i+round)%len(s.Arms)]
			if !among(b.arms, arm) {
				continue
			}
			r := &run{bench: b, section: s.Name, arm: arm, batch: cmp.Or(s.batch, material.Batch), round: round, dir: filepath.Join(dir, fmt.Sprintf("%s-%d-%d", s.Name, round, i))}
			err := r.once(ctx, s)
			if err != nil {
				err = fmt.Errorf("%s, %s, round %d: %w", s.Name, arm, round+1, err)
				fmt.Fprintln(b.out, err)
			}
			failed = errors.Join(failed, err, os.RemoveAll(r.dir))
			if ctx.Err() != nil {
				return failed
			}
		}
	}
	return failed
}

// How long one arm may take in one round. One that takes longer stands still.
const (
	armLimit  = 8 * time.Minute
	longLimit = 40 * time.Minute
)

// once makes the measurement; why it was ended counts for more than what came of that.
func (r *run) once(ctx context.Context, s section) error {
	limit := armLimit
	if s.long {
		limit = longLimit
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done within %s", limit))
	defer cancel()
	err := s.measure(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
