package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/page"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/agent/service"
	"github.com/crossdock/crossdock/agent/space"
	httpdriver "github.com/crossdock/crossdock/agent/systems/http"
	"github.com/crossdock/crossdock/agent/systems/secrets"
	"github.com/crossdock/crossdock/agent/tracing"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/deploy/handbook"
	"github.com/crossdock/crossdock/plugins"
	"github.com/crossdock/crossdock/protocol/release"
)

// topics is what help knows besides the commands: the handbook, and what stands beside the code.
func topics() []handbook.Topic {
	own := []handbook.Topic{
		handbook.NewTopic("api", intake.APIReference),
		handbook.NewTopic("calls", calls.README),
		handbook.NewTopic("commands", commandsReference),
		handbook.NewTopic("disk", space.README),
		handbook.NewTopic("doctor", doctor.README),
		handbook.NewTopic("documents", documents.README),
		handbook.NewTopic("http", httpdriver.README),
		handbook.NewTopic("metrics", agent.MetricsReference),
		handbook.NewTopic("numbers", numbers.README),
		handbook.NewTopic("ops", ops.APIReference),
		handbook.NewTopic("page", page.README),
		handbook.NewTopic("plugins", pluginhost.README),
		handbook.NewTopic("releases", release.README),
		handbook.NewTopic("sealed-secrets", secrets.README),
		handbook.NewTopic("service", service.README),
		handbook.NewTopic("tracing", tracing.README),
		handbook.NewTopic("versions", versions.README),
	}
	for name, text := range plugins.Guides() {
		own = append(own, handbook.NewTopic(name, text))
	}
	return handbook.Topics(own...)
}

// helpCommand explains a command as cobra does, and a topic by its text. A topic that has a command's name is
// shown below it.
func (p *program) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND | TOPIC]", Short: "Explain a command or a topic; without one, list both",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				if err := cmd.Root().Help(); err != nil {
					return err
				}
				fmt.Fprint(p.out, "\nTopics of help:\n")
				handbook.List(p.out, topics())
				return nil
			}
			found, near := handbook.Find(topics(), args[0])
			of, rest, err := cmd.Root().Find(args)
			isCommand := err == nil && len(rest) == 0 && of != cmd.Root()
			if isCommand {
				if err := of.Help(); err != nil {
					return err
				}
			}
			switch {
			case found.Name != "" && len(args) == 1:
				if isCommand {
					fmt.Fprintln(p.out)
				}
				fmt.Fprint(p.out, found.Text)
			case isCommand:
			case len(near) > 0:
				return withCode(exitUsage, fmt.Errorf("no command or topic %q; did you mean %s?", strings.Join(args, " "), strings.Join(near, " or ")))
			default:
				return withCode(exitUsage, fmt.Errorf("no command or topic %q; crossdock-agent help lists them", strings.Join(args, " ")))
			}
			return nil
		},
	}
}
