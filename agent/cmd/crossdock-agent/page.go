package main

import (
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent/page"
)

func (p *program) pageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "page", Short: "Print the address of the running agent's own page, with a login", Args: cobra.NoArgs,
		Long: "Print the address of the running agent's own page, with a login.\n\n" +
			"The address works once, within two minutes, in a browser on this machine. From another one, forward the port:\n" +
			"ssh -L 7090:127.0.0.1:7090 SERVER. The page shows what waits for whom, the last errors and the doctor; it works cut off.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			agent := p.local(cfg)
			var answer struct{ Code string }
			if err := agent.get(cmd.Context(), http.MethodPost, "/v1/page/code", nil, &answer); err != nil {
				return err
			}
			out := struct {
				Address string `json:"address"`
			}{page.Address(agent.address, answer.Code)}
			return p.print(out, func(w io.Writer) { fmt.Fprintln(w, out.Address) })
		},
	}
}
