package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/deploy/handbook"
	"github.com/crossdock/crossdock/plugins"
	"github.com/crossdock/crossdock/protocol/release"
)

// topics is what help knows besides the commands: the handbook, and what stands beside the code.
func topics() []handbook.Topic {
	own := []handbook.Topic{
		handbook.NewTopic("api", api.APIReference),
		handbook.NewTopic("commands", commandsReference),
		handbook.NewTopic("metrics", controlplane.MetricsReference),
		handbook.NewTopic("releases", release.README),
	}
	for name, text := range plugins.Guides() {
		own = append(own, handbook.NewTopic(name, text))
	}
	return handbook.Topics(own...)
}

// helpCommand explains a command as cobra does, and a topic by its text. A topic that has a command's name is
// shown below it.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND | TOPIC]", Short: "Explain a command or a topic; without one, list both",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.started = true
			if len(args) == 0 {
				if err := cmd.Root().Help(); err != nil {
					return err
				}
				fmt.Fprint(a.stdout, "\nTopics of help:\n")
				handbook.List(a.stdout, topics())
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
					fmt.Fprintln(a.stdout)
				}
				fmt.Fprint(a.stdout, found.Text)
			case isCommand:
			case len(near) > 0:
				return usageError("no command or topic %q; did you mean %s?", strings.Join(args, " "), strings.Join(near, " or "))
			default:
				return usageError("no command or topic %q; crossdock help lists them", strings.Join(args, " "))
			}
			return nil
		},
	}
}
