package main

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent/logtail"
)

// unitName is the agent's unit for systemd.
const unitName = "crossdock-agent"

func (p *program) tailCommand() *cobra.Command {
	var follow bool
	var last int
	var since time.Duration
	var level string
	c := &cobra.Command{
		Use: "tail", Short: "Show the end of the agent's log", Args: cobra.NoArgs,
		Long: "Show the end of the agent's log: of log.file, over rotations, or where none is configured of what\n" +
			"journald has. With -o json each line is one JSON object, as it was written.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter := logtail.Filter{Last: last}
			if since > 0 {
				filter.Since = time.Now().Add(-since)
				if !cmd.Flags().Changed("lines") {
					filter.Last = 0
				}
			}
			if last < 0 || since < 0 || filter.Level.UnmarshalText([]byte(level)) != nil {
				return withCode(exitUsage, fmt.Errorf("-n and --since are not negative, and --level is debug, info, warn or error; it is %q", level))
			}
			return p.tail(cmd.Context(), filter, follow)
		},
	}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is written, until interrupted")
	c.Flags().IntVarP(&last, "lines", "n", 50, "how many of the last lines; 0: all")
	c.Flags().DurationVar(&since, "since", 0, "not older than this, such as 2h; then of any number unless -n says one")
	c.Flags().StringVar(&level, "level", "debug", "this level and above: debug, info, warn or error")
	return c
}

func (p *program) tail(ctx context.Context, filter logtail.Filter, follow bool) error {
	cfg, _, err := p.loadUnchecked()
	if err != nil {
		fmt.Fprintf(p.err, "crossdock-agent: the configuration cannot be read, journald is looked at: %v\n", err)
	}
	switch {
	case err == nil && cfg.Log.File != "" && follow:
		return logtail.Follow(ctx, cfg.Log.File, filter, p.printLine)
	case err == nil && cfg.Log.File != "":
		return logtail.Read(cfg.Log.File, filter, p.printLine)
	}
	if _, err := exec.LookPath("journalctl"); err != nil {
		return withCode(exitConflict, fmt.Errorf("log.file is not set and there is no journald here: set log.file, or look where the agent's standard error goes"))
	}
	shown := false
	err = logtail.Journald(ctx, unitName, filter, follow, func(l logtail.Line) error {
		shown = true
		return p.printLine(l)
	})
	if err == nil && !shown {
		fmt.Fprintf(p.err, "journald has no such line of %s; where the agent does not run as that service, set log.file, or look where its standard error goes\n", unitName)
	}
	return err
}

func (p *program) printLine(l logtail.Line) error {
	text := l.String()
	if p.output == "json" {
		raw, err := l.MarshalJSON()
		if err != nil {
			return err
		}
		text = string(raw)
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}
