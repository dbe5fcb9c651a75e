package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane/api"
)

func (a *app) agentDoctorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "doctor NAME", Short: "Have an agent look at all that it leans on", Args: cobra.ExactArgs(1),
		Long: `Have an agent look at all that it leans on.

It shows what crossdock-agent doctor shows at the site, and ends with 1 if a check failed. An agent that is
cut off cannot be asked: look at the site.`,
		RunE: a.ask(func(ctx context.Context, c *client, args []string) error {
			var out api.Diagnosis
			if err := c.get(ctx, "/agents/"+url.PathEscape(args[0])+"/doctor", nil, &out); err != nil {
				return err
			}
			if err := a.show(out, func(w io.Writer) { a.writeDiagnosis(w, &out) }); err != nil {
				return err
			}
			if out.Worst == api.FindingLevelFail {
				return &exitError{exitFailed, errors.New(clean(out.Agent) + ": " + oneLine(out.Summary))}
			}
			return nil
		}),
	}
}

func (a *app) writeDiagnosis(w io.Writer, d *api.Diagnosis) {
	for _, f := range d.Findings {
		row(w, string(f.Level), f.ID, oneLine(f.Seen))
		if f.Level == api.FindingLevelOk {
			continue
		}
		fmt.Fprintf(w, "\t\tto do: %s\n", clean(oneLine(f.Todo)))
		if f.Doc != "" {
			fmt.Fprintf(w, "\t\tread on: crossdock-agent help %s\n", clean(oneLine(f.Doc)))
		}
	}
	for _, text := range d.NotTested {
		fmt.Fprintf(a.stderr, "not tested: %s\n", clean(oneLine(text)))
	}
}
