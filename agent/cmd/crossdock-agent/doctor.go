package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
)

func (p *program) doctorCommand() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything the agent leans on and say what to do", Args: cobra.NoArgs,
		Long: "Look at everything the agent leans on and say what to do.\n\n" +
			"It does not test whether events pass from end to end, and it changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.loadWhole()
			if err != nil {
				return err
			}
			findings := p.examine(cmd.Context(), cfg)
			var outcome error
			switch worst := doctor.Worst(findings); {
			case worst == doctor.Fail:
				outcome = errors.New(doctor.Summary(findings))
			case worst == doctor.Warn && strict:
				outcome = withCode(exitWarnings, errors.New(doctor.Summary(findings)))
			}
			err = p.print(findings, func(w io.Writer) {
				printFindings(w, findings)
				if outcome == nil {
					fmt.Fprintln(w, doctor.Summary(findings))
				}
			})
			if err != nil {
				return err
			}
			return outcome
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit with 8 if there are warnings")
	return c
}

// examine looks at the running agent, if there is one, and at what it leans on.
func (p *program) examine(ctx context.Context, cfg agent.Config) []doctor.Finding {
	asked, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var status agent.Status
	err := p.local(cfg).get(asked, http.MethodGet, "/v1/status", nil, &status)
	var other *otherAgent
	switch {
	case err == nil:
		return append(agent.Examine(ctx, cfg, agent.Found{Running: true}), agent.ExamineStatus(status)...)
	case errors.As(err, &other):
		return agent.Examine(ctx, cfg, agent.Found{Other: other.who})
	case errors.Is(err, errNotRunning):
		return agent.Examine(ctx, cfg, agent.Found{})
	}
	return append(agent.Examine(ctx, cfg, agent.Found{Running: true}),
		doctor.Finding{ID: "agent", Level: doctor.Fail, Seen: err.Error(), Todo: "see the agent's log, and start it again"})
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, f.ID, f.Seen)
		if f.Level != doctor.OK {
			fmt.Fprintf(t, "\t\tto do: %s\n", f.Todo)
		}
	}
	_ = t.Flush() // standard output
}
