package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
)

func (p *program) pluginsCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "plugins", Short: "Show the carrier and tax plugins of the running agent", Args: cobra.NoArgs,
		Long: "Show the carrier and tax plugins of the running agent: which run, and what went wrong last.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			status, err := p.status(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if status.Plugins == nil {
				status.Plugins = []agent.PluginStatus{} // an array in JSON, never null
			}
			return p.print(status.Plugins, func(w io.Writer) { printPlugins(w, status.Plugins) })
		},
	}
	c.AddCommand(&cobra.Command{
		Use: "activate NAME", Short: "Start a plugin again that was deactivated", Args: one("the NAME of a plugin, as plugins lists them"),
		Long: "Start a plugin again that was deactivated.\n\n" +
			"An agent gives a plugin up that crashes again and again, or whose program is not the one that policy names. Mend the cause\n" +
			"first. A new revision that changes the plugin starts it as well.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := p.load()
			if err != nil {
				return err
			}
			var answer struct {
				State string `json:"state"`
			}
			if err := p.local(cfg).get(cmd.Context(), http.MethodPost, "/v1/plugins/activate", url.Values{"name": {args[0]}}, &answer); err != nil {
				return err
			}
			return p.print(answer, func(w io.Writer) { fmt.Fprintf(w, "plugin %s is started again, unless it runs\n", args[0]) })
		},
	})
	return c
}

func printPlugins(w io.Writer, list []agent.PluginStatus) {
	if len(list) == 0 {
		fmt.Fprintln(w, "this site has no plugins")
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "PLUGIN\tKIND\tSTATE\tVERSION\tDATA\tPID\tMEMORY MB\tCALLS\tFAILED\tCRASHES\tLAST ERROR")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%.1f\t%d\t%d\t%d\t%s\n", s.Plugin, s.Kind, s.State, dash(s.Version), dash(s.Data), s.PID, megabytes(s.Memory),
			s.Calls, s.Failed, s.Crashes, pluginError(s))
	}
	_ = t.Flush() // standard output
}

// pluginError says what went wrong last, and when.
func pluginError(s agent.PluginStatus) string {
	if s.LastError == "" || s.LastErrorAt.IsZero() {
		return oneLine(s.LastError)
	}
	return s.LastErrorAt.Local().Format(time.DateTime) + ": " + oneLine(s.LastError)
}

// dash stands for what is not known, so that columns stay where they are.
func dash(text string) string {
	if text = oneLine(text); text == "" {
		return "-"
	}
	return text
}
