package main

import (
	"fmt"

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
	"github.com/crossdock/crossdock/protocol/release"
)

// topics is what help knows besides the commands: the handbook, and what stands beside the code.
func topics() []handbook.Topic {
	return handbook.Topics(
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
	)
}

// helpCommand explains commands, and the topics of this program.
func (p *program) helpCommand() *cobra.Command {
	return handbook.Command(p.out, topics(), func(format string, args ...any) error { return withCode(exitUsage, fmt.Errorf(format, args...)) })
}
