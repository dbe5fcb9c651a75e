package main

import (
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
)

func (p *program) numbersCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "numbers", Short: "Show the numbers that were leased to this site, and what is left of them", Args: cobra.NoArgs,
		Long: "Show the numbers that were leased to this site, and what is left of them. Below LOW the agent asks for more.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			status, err := p.status(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if status.Numbers == nil {
				status.Numbers = []agent.NumbersStatus{} // an array in JSON, never null
			}
			return p.print(status.Numbers, func(w io.Writer) {
				if len(status.Numbers) == 0 {
					fmt.Fprintln(w, "the policy has no number range for this site")
				}
				printNumbers(w, status.Numbers)
			})
		},
	}
	c.AddCommand(&cobra.Command{
		Use: "vouch", Short: "Say that this data is no copy, so that its numbers are given in an outage", Args: cobra.NoArgs,
		Long: "Say that this data is no copy, so that its numbers are given in an outage.\n\n" +
			"An agent that was off for more than 15 minutes gives none before it has reached the control plane: its data could be an\n" +
			"image that was put back, and what the image holds may have been printed since it was made. Where the machine was only\n" +
			"switched off, and nothing was put back, say so with this command. The control plane is told.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			var answer struct{ State string }
			if err := p.local(cfg).get(cmd.Context(), http.MethodPost, "/v1/numbers/vouch", nil, &answer); err != nil {
				return err
			}
			return p.print(answer, func(w io.Writer) { fmt.Fprintln(w, "the numbers that are held here are given again") })
		},
	})
	return c
}

// printNumbers writes nothing where there are none.
func printNumbers(w io.Writer, list []agent.NumbersStatus) {
	if len(list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "NUMBERS\tLEFT\tLOW\tUSED\tNO MORE BECAUSE")
	for _, n := range list {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%s\n", n.Range, n.Left, n.Low, n.Used, oneLine(n.Refused))
	}
	_ = t.Flush() // standard output
}
