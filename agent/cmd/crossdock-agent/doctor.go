package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
)

// diagnosisWait is for an agent that examines itself, another's turn before included.
const diagnosisWait = 90 * time.Second

func (p *program) doctorCommand() *cobra.Command {
	var strict, asJSON bool
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything the agent leans on and say what to do", Args: cobra.NoArgs,
		Long: "Look at everything the agent leans on and say what to do.\n\n" +
			"A running agent is asked to look itself, with its own user and environment. Nothing is changed.\n" +
			"What is not tested stands at the end. Exit codes: 0 no check failed, 1 one did, 2 the\n" +
			"configuration is wrong, 8 there are warnings and --strict was given.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				p.output = "json"
			}
			cfg, err := p.loadWhole()
			if err != nil {
				report := doctor.NewReport(version, time.Now(), []doctor.Finding{misconfigured(err)})
				return errors.Join(err, p.print(report, func(w io.Writer) { printFindings(w, report.Findings) }))
			}
			report := p.examine(cmd.Context(), cfg)
			if err := p.print(report, func(w io.Writer) { printDiagnosis(w, report) }); err != nil {
				return err
			}
			switch {
			case report.Worst == doctor.Fail:
				return errors.New(report.Summary)
			case report.Worst == doctor.Warn && strict:
				return withCode(exitWarnings, errors.New(report.Summary))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit with 8 if there are warnings")
	c.Flags().BoolVar(&asJSON, "json", false, "the same as -o json")
	return c
}

func misconfigured(err error) doctor.Finding {
	return doctor.Finding{ID: "config", Level: doctor.Fail, Seen: doctor.Plain(err, 0), Todo: "correct it; crossdock-agent config check says when it is right, and then the rest can be looked at"}
}

// examine has the running agent look, or looks from outside where there is none that answers.
func (p *program) examine(ctx context.Context, cfg agent.Config) doctor.Report {
	asked, cancel := context.WithTimeout(ctx, diagnosisWait)
	defer cancel()
	var report doctor.Report
	err := p.local(cfg).get(asked, http.MethodGet, "/v1/doctor", url.Values{"fresh": {"true"}}, &report)
	if err == nil && report.Version == doctor.ReportVersion {
		return report
	}
	found := agent.Found{Config: cfg.File, Denied: agent.Denied(cfg)}
	var other *otherAgent
	var further []doctor.Finding
	switch {
	case errors.As(err, &other):
		found.Other = other.who
	case errors.Is(err, errNotRunning):
	case err == nil, found.Denied != nil:
		found.Running = true // of a version with another report, or of another user
	default:
		found.Running = true
		further = append(further, doctor.Finding{ID: "agent", Level: doctor.Fail, Seen: err.Error(), Todo: "see the agent's log, and start it again"})
	}
	report = doctor.NewReport(version, time.Now(), append(agent.Examine(ctx, cfg, found), further...))
	if found.Denied != nil {
		report.NotTested = append(doctor.Unseen(), report.NotTested...)
	}
	if granted, err := identity.Held(cfg.IdentityDir()); err == nil {
		report.Agent, report.Site = granted.Agent, granted.Site
	}
	return report
}

func printDiagnosis(w io.Writer, r doctor.Report) {
	printFindings(w, r.Findings)
	fmt.Fprintln(w, "\nNot tested here:")
	for _, text := range r.NotTested {
		fmt.Fprintf(w, "- %s\n", text)
	}
	if r.Worst != doctor.Fail {
		fmt.Fprintf(w, "\n%s\n", r.Summary)
	}
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, f.ID, f.Seen)
		if f.Level == doctor.OK {
			continue
		}
		fmt.Fprintf(t, "\t\tto do: %s\n", f.Todo)
		if f.Doc != "" {
			fmt.Fprintf(t, "\t\tread on: crossdock-agent help %s\n", f.Doc)
		}
	}
	_ = t.Flush() // standard output
}
