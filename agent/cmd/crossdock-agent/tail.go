package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
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
			if last < 0 || since < 0 {
				return withCode(exitUsage, errors.New("-n and --since are not negative"))
			}
			if filter.Level.UnmarshalText([]byte(level)) != nil {
				return withCode(exitUsage, fmt.Errorf("--level is debug, info, warn or error; it is %q", level))
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
	if p.misnamed() {
		return err
	}
	if err != nil {
		fmt.Fprintf(p.err, "crossdock-agent: the configuration cannot be read, journald is looked at: %v\n", err)
	}
	if err != nil || cfg.Log.File == "" {
		return p.tailJournald(ctx, filter, follow, "")
	}
	if follow {
		err = logtail.Follow(ctx, cfg.Log.File, filter, p.printLine)
	} else {
		err = logtail.Read(cfg.Log.File, filter, p.printLine)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.tailJournald(ctx, filter, follow, p.unwritten(ctx, cfg))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the log is for the agent's own user: look as that, or as root", err)
	}
	return err
}

// unwritten says why there is no log file where the configuration has it.
func (p *program) unwritten(ctx context.Context, cfg agent.Config) string {
	status, err := p.status(ctx, cfg)
	switch {
	case err == nil && slices.Contains(status.Config.Restart, "log.file"):
		return fmt.Sprintf("log.file is %s, and the running agent writes there after a restart: crossdock-agent service restart", cfg.Log.File)
	case err == nil:
		return fmt.Sprintf("log.file is %s, and the running agent does not write there: crossdock-agent service restart has it do so, if it reads this configuration", cfg.Log.File)
	}
	return fmt.Sprintf("log.file is %s, and no agent has written there: it does when it is started with this configuration", cfg.Log.File)
}

// tailJournald shows what journald has, which is what the service writes to standard error.
// unwritten says why there is no log file, empty where none is configured.
func (p *program) tailJournald(ctx context.Context, filter logtail.Filter, follow bool, unwritten string) error {
	_, err := exec.LookPath("journalctl")
	switch {
	case err != nil && unwritten != "":
		return withCode(exitConflict, fmt.Errorf("%s; until then look where its standard error goes: there is no journald here", unwritten))
	case err != nil:
		return withCode(exitConflict, errors.New("log.file is not set and there is no journald here: set log.file, or look where the agent's standard error goes"))
	case unwritten != "":
		fmt.Fprintf(p.err, "crossdock-agent: %s; until then this is what journald has:\n", unwritten)
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
