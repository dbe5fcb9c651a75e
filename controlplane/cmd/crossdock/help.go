package main

import (
	"github.com/spf13/cobra"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/deploy/handbook"
	"github.com/crossdock/crossdock/protocol/release"
)

// topics is what help knows besides the commands: the handbook, and what stands beside the code.
func topics() []handbook.Topic {
	return handbook.Topics(
		handbook.NewTopic("api", api.APIReference),
		handbook.NewTopic("commands", commandsReference),
		handbook.NewTopic("metrics", controlplane.MetricsReference),
		handbook.NewTopic("releases", release.README),
	)
}

// helpCommand explains commands, and the topics of this program.
func (a *app) helpCommand() *cobra.Command {
	return handbook.Command(a.stdout, topics(), usageError)
}
