// Package direct is what a program does that has no agent: it starts plugins itself, with
// go-plugin, and calls them.
//
// It refuses to know what is measured. Its invariant: a plugin runs as it does beside an agent
// (mutual TLS over a socket, nothing of this process's environment, an end together with this
// process), and nothing is written down of a call but what the plugin writes itself.
package direct

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

// configured is what all contracts have.
type configured interface {
	Configure(ctx context.Context, s sdk.Settings) error
}

// Plugin is a plugin that runs.
type Plugin[T configured] struct {
	Serves  T
	Process world.Child

	client *goplugin.Client
	line   *os.File // which the plugin sees the end of
}

// StartCarrier starts a carrier's program.
func StartCarrier(ctx context.Context, program string, s sdk.Settings) (*Plugin[carrier.Carrier], error) {
	return start[carrier.Carrier](ctx, carrier.Kind, &carrier.Plugin{}, program, s)
}

// StartTax starts a tax engine's program.
func StartTax(ctx context.Context, program string, s sdk.Settings) (*Plugin[tax.Engine], error) {
	return start[tax.Engine](ctx, tax.Kind, &tax.Plugin{}, program, s)
}

func start[T configured](ctx context.Context, kind string, contract goplugin.Plugin, program string, s sdk.Settings) (*Plugin[T], error) {
	theirs, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirs.Close() // the process has its own
	const first = 3      // descriptor of what is handed down
	cmd := exec.Command(program)
	cmd.ExtraFiles, cmd.Env = []*os.File{theirs}, []string{fmt.Sprintf("%s=%d", sdk.Lifeline, first)}
	p := &Plugin[T]{line: ours, client: goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{kind: contract}, Cmd: cmd,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, AutoMTLS: true, SkipHostEnv: true, Logger: hclog.NewNullLogger()})}
	if err := p.begin(ctx, kind, s); err != nil {
		p.Close()
		return nil, fmt.Errorf("%s does not start as a plugin: %w", program, err)
	}
	p.Process = world.Child{Name: program, PID: cmd.Process.Pid}
	return p, nil
}

func (p *Plugin[T]) begin(ctx context.Context, kind string, s sdk.Settings) error {
	protocol, err := p.client.Client()
	if err != nil {
		return err
	}
	served, err := protocol.Dispense(kind)
	if err != nil {
		return err
	}
	p.Serves = served.(T) // by its contract's Plugin
	return p.Serves.Configure(ctx, s)
}

// Close ends the plugin.
func (p *Plugin[T]) Close() {
	p.client.Kill()
	_ = p.line.Close() // nothing was written to it
}
