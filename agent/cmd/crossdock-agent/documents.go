package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
)

func (p *program) documentsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "documents", Short: "What is kept beside events at this site: labels, manifests; and what of it is on its way", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			var report agent.DocumentsReport
			if err := p.local(cfg).get(cmd.Context(), http.MethodGet, "/v1/documents", nil, &report); err != nil {
				return err
			}
			return p.print(report, func(w io.Writer) { showDocuments(w, &report) })
		},
	}
}

func showDocuments(out io.Writer, r *agent.DocumentsReport) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "documents\t%d\n", r.Count)
	fmt.Fprintf(w, "bytes\t%d of %d\n", r.Bytes, r.Quota)
	if !r.Oldest.IsZero() {
		fmt.Fprintf(w, "oldest\tlast named %s\n", r.Oldest.Local().Format(time.DateTime))
	}
	fmt.Fprintf(w, "on their way\t%d\n", len(r.OnTheirWay))
	fmt.Fprintf(w, "arriving\t%d\n", r.Arriving)
	fmt.Fprintf(w, "missing\t%d\n", r.Missing)
	for _, d := range r.OnTheirWay {
		fmt.Fprintf(w, "\n%s\ton its way to %s since %s", d.SHA256, strings.Join(d.To, ", "), d.Since.Local().Format(time.DateTime))
	}
	for _, d := range r.Documents {
		fmt.Fprintf(w, "\n%s\t%d bytes\tlast named %s", d.SHA256, d.Size, d.Named.Local().Format(time.DateTime))
	}
	if len(r.OnTheirWay)+len(r.Documents) > 0 {
		fmt.Fprintln(w)
	}
	if more := r.Count - len(r.Documents); more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
}
