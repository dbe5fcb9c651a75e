package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/deploy/runbooks"
)

// helpCommand explains a command, or prints a runbook: what the doctor leads to.
func (p *program) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND | TOPIC]", Short: "Explain a command, or what to do about something that does not work",
		Long: "Explain a command, or what to do about something that does not work.\n\n" + topicList(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				if text, ok := runbooks.Text(args[0]); ok {
					_, err := io.WriteString(p.out, text)
					return err
				}
			}
			found, _, err := cmd.Root().Find(args)
			if err != nil || found == nil || len(args) > 0 && found == cmd.Root() {
				return withCode(exitUsage, fmt.Errorf("there is no command and no topic %q; crossdock-agent help help lists the topics", strings.Join(args, " ")))
			}
			return found.Help()
		},
	}
}

func topicList() string {
	var b strings.Builder
	b.WriteString("Topics:\n")
	for _, topic := range runbooks.Topics() {
		fmt.Fprintf(&b, "  %-26s %s\n", topic, runbooks.Title(topic))
	}
	return b.String()
}
