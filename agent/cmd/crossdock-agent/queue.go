package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/queue"
)

func (p *program) queueCommand() *cobra.Command {
	c := &cobra.Command{
		RunE: p.group, Use: "queue", Short: "Look into the journal, check it, export it, replay dead letters",
		Long: "Look into the journal, check it, export it, replay dead letters.\n\n" +
			"inspect, left, verify and export work on a running and on a stopped agent.",
	}
	c.AddCommand(
		&cobra.Command{Use: "inspect", Short: "Show the journal's files, positions and lanes", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return p.inspect(cmd.Context()) }},
		&cobra.Command{Use: "left", Short: "Count what was taken over and not yet passed on", Args: cobra.NoArgs,
			Long: `Count what was taken over and not yet passed on.

It ends with code 6 if there is any, or if it cannot be counted: then the data must not be removed.`,
			RunE: func(cmd *cobra.Command, _ []string) error { return p.countLeft(cmd.Context()) }},
		&cobra.Command{Use: "verify", Short: "Read every record and check its checksum", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return p.verify(cmd.Context()) }},
		p.exportCommand(), p.deadCommand(), p.retryCommand(),
	)
	return c
}

// whether asks the running agent, and if there is none does the work on its stopped data.
func (p *program) whether(ctx context.Context, method, path string, into any, stopped func(dir string) error) error {
	cfg, err := p.load()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute) // a large journal takes its time
	defer cancel()
	err = p.local(cfg).get(ctx, method, path, nil, into)
	if errors.Is(err, errNotRunning) {
		if err := journalIn(cfg.JournalDir()); err != nil {
			return err
		}
		return stopped(cfg.JournalDir())
	}
	return err
}

// journalIn says what it means that there is no journal.
func journalIn(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no journal %s: no agent was enrolled here, or -c or --data name another one", dir)
	}
	return nil
}

func (p *program) inspect(ctx context.Context) error {
	var report queue.Report
	err := p.whether(ctx, http.MethodGet, "/v1/queue", &report, func(dir string) (err error) {
		report, err = queue.Inspect(dir)
		return err
	})
	if err != nil {
		return err
	}
	return p.print(report, func(w io.Writer) { printReport(w, report) })
}

func (p *program) verify(ctx context.Context) error {
	damages := []queue.Damage{} // an array in JSON, never null
	err := p.whether(ctx, http.MethodPost, "/v1/queue/verify", &damages, func(dir string) error {
		found, err := queue.Verify(dir)
		damages = append(damages, found...)
		return err
	})
	if err != nil {
		return err
	}
	if damages == nil { // a running agent may say null
		damages = []queue.Damage{}
	}
	if err := p.print(damages, func(w io.Writer) {
		for _, d := range damages {
			fmt.Fprintf(w, "%s: positions %d to %d: %s\n", d.File, d.First, d.Last, d.Cause)
		}
		if len(damages) == 0 {
			fmt.Fprintln(w, "every record is as it was written")
		}
	}); err != nil {
		return err
	}
	if len(damages) > 0 {
		return errors.New(doctor.Count(len(damages), "damaged range"))
	}
	return nil
}

func (p *program) countLeft(ctx context.Context) error {
	left, _, err := p.left(ctx, p.whatIsLeft(p.machine()))
	if err != nil {
		return withCode(exitConflict, fmt.Errorf("what waits here cannot be counted: %w", err))
	}
	if err := p.print(left, func(w io.Writer) { fmt.Fprintln(w, left) }); err != nil {
		return err
	}
	if left.Any() {
		return withCode(exitConflict, errors.New("events or calls wait here that were not passed on"))
	}
	return nil
}

func (p *program) exportCommand() *cobra.Command {
	var from uint64
	c := &cobra.Command{
		Use: "export", Short: "Write the events of the journal to standard output as JSON Lines", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			query := url.Values{"from": {strconv.FormatUint(from, 10)}}
			body, err := p.local(cfg).call(cmd.Context(), http.MethodGet, "/v1/queue/export", query)
			if errors.Is(err, errNotRunning) {
				if err := journalIn(cfg.JournalDir()); err != nil {
					return err
				}
				return queue.Export(cfg.JournalDir(), from, func(r queue.Record) error { return agent.ExportRecord(p.out, r) })
			} else if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.Copy(p.out, body)
			return err
		},
	}
	c.Flags().Uint64Var(&from, "from", 0, "journal position to begin with")
	return c
}

func (p *program) deadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dead", Short: "List the dead letters of this agent", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			var letters []delivery.DeadLetter
			if err := p.local(cfg).get(cmd.Context(), http.MethodGet, "/v1/deadletters", nil, &letters); err != nil {
				return err
			}
			if letters == nil { // another version of the agent may say null
				letters = []delivery.DeadLetter{}
			}
			return p.print(letters, func(w io.Writer) {
				if len(letters) == 0 {
					fmt.Fprintln(w, "no dead letters")
				}
				for _, l := range letters {
					fmt.Fprintf(w, "%s  %s  key %s  %s: %s (%s, %d waiting)\n", l.ID, l.Type, l.Key, l.State, l.Cause, doctor.Count(l.Attempts, "attempt"), l.Waiting)
				}
			})
		},
	}
}

func (p *program) retryCommand() *cobra.Command {
	var confirm bool
	c := &cobra.Command{
		Use: "retry ID", Short: "Replay a dead letter of this agent", Args: one("the ID of a dead letter, as queue dead lists them"),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			query := url.Values{"id": {args[0]}, "confirm": {strconv.FormatBool(confirm)}}
			var answer struct{ State string }
			if err := p.local(cfg).get(cmd.Context(), http.MethodPost, "/v1/deadletters/retry", query, &answer); err != nil {
				return err
			}
			return p.print(answer, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", args[0], answer.State) })
		},
	}
	c.Flags().BoolVar(&confirm, "confirm-out-of-order", false, "replay although later events of the key were delivered")
	return c
}
