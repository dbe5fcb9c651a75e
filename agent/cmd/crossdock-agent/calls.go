package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent/calls"
)

func (p *program) callsCommand() *cobra.Command {
	state := ""
	c := &cobra.Command{
		Use: "calls", Short: "Calls to carriers and tax engines that wait or are in doubt", Args: cobra.NoArgs,
		Long: "List the calls to carriers and tax engines that somebody still has to do something about, the oldest first.\n\n" +
			"queued waits for the line, unknown may have been done and is being found out, begun is being made. With --state also those\n" +
			"that are done, failed, or in retry, where nothing was done and the same request makes them again.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if state != "" && !calls.State(state).Known() {
				return withCode(exitUsage, fmt.Errorf("--state is begun, unknown, queued, done, failed or retry, and not %q", state))
			}
			cfg, err := p.load()
			if err != nil {
				return err
			}
			list := []calls.View{}
			if err := p.local(cfg).get(cmd.Context(), http.MethodGet, "/v1/calls", url.Values{"state": {state}}, &list); err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) { printCalls(w, list) })
		},
	}
	c.Flags().StringVar(&state, "state", "", "begun, unknown, queued, done, failed or retry; default: all that are open")
	return c
}

func printCalls(w io.Writer, list []calls.View) {
	if len(list) == 0 {
		fmt.Fprintln(w, "there are none")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "CALL\tPLUGIN\tOPERATION\tREFERENCE\tSYSTEM\tSTATE\tAGE\tTRIES\tDEADLINE\tLAST ERROR")
	for _, c := range list {
		deadline, why := "", ""
		if !c.Deadline.IsZero() {
			deadline = c.Deadline.Local().Format(time.DateTime)
		}
		if c.Late {
			deadline += " (late)"
		}
		if c.Failure != nil {
			why = c.Failure.Error()
		}
		age := (time.Duration(c.AgeMs) * time.Millisecond).Round(time.Second)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", c.ID, c.Plugin, c.Operation, oneLine(c.Reference), c.System, c.State, age, c.Attempts, deadline, oneLine(why))
	}
	_ = t.Flush() // standard output
}
