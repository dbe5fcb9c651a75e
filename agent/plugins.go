package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/policy"
)

const (
	// pluginsDir holds copies of programs and the sockets of plugins, in the data directory.
	pluginsDir = "pluginhost"
	// pluginsRetry is how long the host rests when its directory could not be had.
	pluginsRetry = 30 * time.Second

	// Of what a plugin wrote, an exception shows the end.
	shownWords = 3
	shownWord  = 200
)

// PluginStatus is what a plugin looks like.
type PluginStatus = pluginhost.Status

// plugins runs the plugins of the policy in force. Nothing that is wrong with them ends the
// agent: what cannot be run is shown, and told as an exception.
type plugins struct {
	site    string
	log     *slog.Logger
	alarms  *alarms
	set     func() *policy.Set
	open    func() (*pluginhost.Host, error)
	changed chan struct{} // one slot
	version func(secret string) uint64

	mu    sync.Mutex       // guards what follows
	host  *pluginhost.Host // nil: there is none, see fault
	fault error            // why no plugin can be run
}

func (a *Agent) openPlugins() error {
	p := &plugins{site: a.identity.Site, log: a.log, alarms: a.alarms, set: a.revision.Set, changed: make(chan struct{}, 1), version: a.sealed.Version}
	config := pluginhost.DefaultConfig()
	config.Programs, config.Dir, config.Kinds = a.cfg.Plugins.Dir, filepath.Join(a.cfg.Data, pluginsDir), pluginhost.Kinds()
	config.Shipped = shippedPlugins()
	config.Specs, config.Changed, config.Resolve, config.Report = p.specs, p.changed, secretStore(a.cfg, a.sealed).Resolve, p.deactivated
	config.Log, config.Metrics = a.log, pluginhost.NewMetrics(a.registry)
	if err := os.MkdirAll(config.Programs, 0o755); err != nil { // people should find a place to put programs
		a.log.Warn("the directory of plugin programs cannot be made", "err", err)
	}
	p.open = func() (*pluginhost.Host, error) { return pluginhost.New(config) }
	p.retry()
	a.plugins = p
	return nil
}

// shippedPlugins is where the packages put plugins. What runs is pinned by policy, wherever it
// lies.
func shippedPlugins() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramFiles"), "Crossdock", "plugins")
	}
	return "/usr/lib/crossdock-agent/plugins"
}

// specs are the plugins of this site as they should run.
func (p *plugins) specs() []pluginhost.Spec {
	specs := pluginSpecs(p.set(), p.site)
	for i := range specs {
		for _, ref := range specs[i].Secrets {
			name, sealed := strings.CutPrefix(ref, "secret:")
			if !sealed {
				continue
			}
			if specs[i].Versions == nil {
				specs[i].Versions = map[string]uint64{}
			}
			specs[i].Versions[name] = p.version(name)
		}
	}
	return specs
}

func pluginSpecs(set *policy.Set, site string) (out []pluginhost.Spec) {
	if set == nil {
		return nil
	}
	for _, one := range set.PluginsAt(site) {
		spec := pluginhost.Spec{
			Name: one.Name, Kind: one.Kind, Program: one.Program, SHA256: one.SHA256[runtime.GOOS+"/"+runtime.GOARCH],
			Settings: one.Settings, Secrets: one.Secrets, CallTimeout: one.CallTimeout, Memory: one.Memory,
		}
		if runtime.GOOS == "windows" && !strings.Contains(spec.Program, ".") {
			spec.Program += ".exe"
		}
		out = append(out, spec)
	}
	return out
}

// run runs plugins until ctx ends.
func (p *plugins) run(ctx context.Context) error {
	for {
		host, err := p.running()
		if err == nil {
			err = host.Run(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		p.failed(err)
		again := time.NewTimer(pluginsRetry)
		select {
		case <-ctx.Done():
		case <-again.C:
		case <-p.changed:
		}
		again.Stop()
		p.retry()
	}
}

// running gives the host, or why there is none that runs plugins.
func (p *plugins) running() (*pluginhost.Host, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.host, p.fault
}

// failed notes that no plugin can be run, and tells it where there should be some.
func (p *plugins) failed(err error) {
	p.mu.Lock()
	p.fault = err
	p.mu.Unlock()
	if n := len(p.specs()); n > 0 {
		p.log.Error("no plugin can be run", "plugins", n, "err", err)
		p.alarms.raise("plugins-not-run", "host", fmt.Sprintf("site %s runs none of its %d plugins: %v", p.site, n, err))
	}
}

// retry forgets what may be mended by now.
func (p *plugins) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = nil
	if p.host == nil {
		p.host, p.fault = p.open()
	}
}

// PolicyChanged has the host look at the policy again.
func (p *plugins) PolicyChanged() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// deactivated tells that a plugin was given up.
func (p *plugins) deactivated(e pluginhost.Exception) {
	sum := e.SHA256
	if len(sum) > 12 {
		sum = sum[:12]
	}
	text := fmt.Sprintf("plugin %s (%s, program %s) is deactivated at site %s", e.Plugin, e.Kind, e.Program, p.site)
	if e.Crashes > 0 {
		text += fmt.Sprintf(" after %d crashes", e.Crashes)
	}
	text += ": " + e.Reason + "; mend it, then change it in policy or let crossdock-agent plugins activate " + e.Plugin + " start it again"
	if words := e.Words[max(0, len(e.Words)-shownWords):]; len(words) > 0 {
		text += "; its last words were: " + shownPlugin(words)
	}
	p.alarms.raise("plugin-deactivated", e.Plugin+"/"+sum, text)
}

// shownPlugin makes little of what a plugin says.
func shownPlugin(words []string) string {
	out := make([]string, len(words))
	for i, word := range words {
		if len(word) > shownWord {
			word = strings.ToValidUTF8(word[:shownWord], "") + " ..."
		}
		out[i] = fmt.Sprintf("%q", word)
	}
	return strings.Join(out, ", ")
}

// status lists the plugins by name.
func (p *plugins) status() []PluginStatus {
	host, fault := p.running()
	if fault == nil {
		return host.Status()
	}
	var out []PluginStatus
	for _, s := range p.specs() {
		out = append(out, PluginStatus{Plugin: s.Name, Kind: s.Kind, Program: s.Program, SHA256: s.SHA256, State: pluginhost.StateDeactivated, LastError: fault.Error()})
	}
	return out
}

// activate starts a plugin that was given up.
func (p *plugins) activate(name string) error {
	host, fault := p.running()
	if fault != nil {
		return fmt.Errorf("%w: %w", ops.ErrConflict, fault)
	}
	err := host.Activate(name)
	if errors.Is(err, pluginhost.ErrNoPlugin) {
		return fmt.Errorf("%w: %w", ops.ErrNotFound, err)
	}
	return err
}

// Carrier gives a carrier. Ask anew for each call. Errors are *sdk.Error.
func (p *plugins) Carrier(name string) (carrier.Carrier, error) {
	host, err := p.available()
	if err != nil {
		return nil, err
	}
	return host.Carrier(name)
}

// Tax gives a tax engine. Ask anew for each call. Errors are *sdk.Error.
func (p *plugins) Tax(name string) (tax.Engine, error) {
	host, err := p.available()
	if err != nil {
		return nil, err
	}
	return host.Tax(name)
}

func (p *plugins) available() (*pluginhost.Host, error) {
	host, fault := p.running()
	if fault == nil {
		return host, nil
	}
	e := sdk.Errorf(sdk.Unavailable, "this site runs no plugins: %v", fault)
	e.Fault = sdk.FaultPlugin
	return nil, e
}
