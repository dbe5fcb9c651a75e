package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"
)

func (p *program) numbersCommand() *cobra.Command {
	c := &cobra.Command{Use: "numbers", Short: "The numbers that were leased to this site", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
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
