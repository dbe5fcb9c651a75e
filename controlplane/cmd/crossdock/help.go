package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/deploy/handbook"
)

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
				handbook.List(a.stdout, handbook.Topics())
				return nil
			}
			found, near := handbook.Find(handbook.Topics(), args[0])
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
