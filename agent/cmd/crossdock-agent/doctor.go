package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

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
			body, err := p.local(cfg).call(cmd.Context(), http.MethodGet, "/healthz", nil)
			if err == nil {
				body.Close()
			}
			running := err == nil
			findings := agent.Examine(cmd.Context(), cfg, running)
			var status agent.Status
			if running && p.local(cfg).get(cmd.Context(), http.MethodGet, "/v1/status", nil, &status) == nil {
				findings = append(findings, agent.ExamineStatus(status)...)
			}
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
