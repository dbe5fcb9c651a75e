package handbook

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Command is a program's help. It explains a command as cobra does, and a topic by its text; a
// topic that has a command's name is shown below it. misuse makes the error for a name that is
// neither.
func Command(w io.Writer, topics []Topic, misuse func(format string, args ...any) error) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND | TOPIC]", Short: "Explain a command or a topic; without one, list both",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			if len(args) == 0 {
				if err := root.Help(); err != nil {
					return err
				}
				fmt.Fprint(w, "\nTopics of help:\n")
				List(w, topics)
				return nil
			}
			found, near := Find(topics, args[0])
			of, rest, err := root.Find(args)
			isCommand := err == nil && len(rest) == 0 && of != root
			if isCommand {
				if err := of.Help(); err != nil {
					return err
				}
			}
			switch {
			case found.Name != "" && len(args) == 1:
				if isCommand {
					fmt.Fprintln(w)
				}
				fmt.Fprint(w, onTerminal(found.Text, root.Name(), topics))
			case isCommand:
			case len(near) > 0:
				return misuse("no command or topic %q; did you mean %s?", strings.Join(args, " "), strings.Join(near, " or "))
			default:
				return misuse("no command or topic %q; %s help lists them", strings.Join(args, " "), root.Name())
			}
			return nil
		},
	}
}
