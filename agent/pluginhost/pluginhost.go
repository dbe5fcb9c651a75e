// Package pluginhost starts, pins, watches and restarts the subprocesses that plugins are,
// and hands out what they serve.
//
// It owns their programs (a copy of each, named by its hash), their processes and the limits
// that these are held to. It refuses to know what a plugin is good for: a Kind says how it is
// asked. Its invariants: what runs is what was hashed; no plugin outlives the agent; what a
// plugin does harms its own callers only; and what a plugin says is never taken for more than
// its words. A process that a plugin starts by itself is bound by none of this, except on
// Windows, where it ends with the plugin's job.
package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Config is what a host is told.
type Config struct {
	Programs string   // the site's directory of plugin programs, which others may write to
	Shipped  string   // one that an installation has filled, looked at after it; may be empty or missing
	Dir      string   // the host's own: copies of programs, and sockets while they run. No other may write to it
	Env      []string // all that plugins see of the environment besides their limits; such as HTTPS_PROXY=...

	Kinds   map[string]Kind // by the name that they are dispensed under
	Specs   func() []Spec   // the plugins that should run; read again on Changed
	Changed <-chan struct{}
	// Resolve gives the secret that a reference names, when a plugin is configured. nil: there
	// are none.
	Resolve func(reference string) ([]byte, error)
	// Report tells that a plugin was given up and somebody has to look. It must not block for
	// long: the plugin's supervision waits for it.
	Report func(Exception)

	StartTimeout time.Duration // from the start of the process to its description, Configure included
	CallTimeout  time.Duration // of a call after that, where the Spec names none
	MaxCalls     int           // in flight at once, of one plugin
	StopTimeout  time.Duration // for calls in flight to end before a plugin is stopped
	Memory       int64         // bytes resident, where the Spec names none
	MemoryEvery  time.Duration // looked at

	HealthEvery   time.Duration // a ping is sent
	HealthTimeout time.Duration // of a ping
	HealthMisses  int           // in a row, after which the plugin is killed

	RestartMin   time.Duration // the first pause before a restart; doubles
	RestartMax   time.Duration
	HealthyAfter time.Duration // of running, the next pause is the first again
	CrashLimit   int           // crashes within CrashWindow deactivate
	CrashWindow  time.Duration

	Log     *slog.Logger
	Metrics *Metrics
}

// DefaultConfig has every limit, and nothing else.
func DefaultConfig() Config {
	return Config{
		StartTimeout: 2 * time.Minute, CallTimeout: 15 * time.Second, StopTimeout: 10 * time.Second, MaxCalls: 32,
		Memory: 512 << 20, MemoryEvery: time.Second,
		HealthEvery: 5 * time.Second, HealthTimeout: 5 * time.Second, HealthMisses: 3,
		RestartMin: time.Second, RestartMax: time.Minute, HealthyAfter: time.Minute,
		CrashLimit: 5, CrashWindow: 10 * time.Minute,
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(nil),
	}
}

// maxDir is the longest Dir: the path of a socket below it has to fit the 107 bytes that
// systems give it.
const maxDir = 107 - len("/run/plugin-dir1234567890/plugin1234567890")

// Validate says what is wrong with a configuration.
func (c *Config) Validate() error {
	switch {
	case c.Programs == "" || c.Dir == "":
		return errors.New("plugins: Programs and Dir are needed")
	case c.Specs == nil || len(c.Kinds) == 0:
		return errors.New("plugins: Specs and Kinds are needed")
	case runtime.GOOS != "windows" && len(c.Dir) > maxDir:
		return fmt.Errorf("plugins: the directory %s is longer than the %d bytes that leave room for the names of sockets: choose a shorter one",
			c.Dir, maxDir)
	case min(c.StartTimeout, c.CallTimeout, c.StopTimeout, c.MemoryEvery, c.HealthEvery, c.HealthTimeout, c.RestartMin, c.RestartMax,
		c.CrashWindow) <= 0 || c.HealthyAfter < 0:
		return errors.New("plugins: every duration has to be positive")
	case c.Memory <= 0 || c.MaxCalls <= 0 || c.HealthMisses <= 0 || c.CrashLimit <= 0:
		return errors.New("plugins: Memory, MaxCalls, HealthMisses and CrashLimit have to be positive")
	case c.Log == nil || c.Metrics == nil:
		return errors.New("plugins: Log and Metrics are needed")
	}
	return nil
}

// Exception says that a plugin was deactivated. It runs again when its Spec changes, or after
// Activate.
type Exception struct {
	Plugin  string
	Kind    string
	Program string
	SHA256  string
	Crashes int    // within the window
	Reason  string // the last one
	// Words are the last lines that the plugin wrote. They are its words, and may be anything.
	Words []string
	At    time.Time
}

// Host runs plugins.
type Host struct {
	cfg   Config
	store *store

	mu      sync.Mutex
	plugins map[string]*plugin       // that should run
	ended   map[string]chan struct{} // of the last plugin of each name: closed when it has
	gone    chan struct{}            // a plugin that should no longer run has ended; one slot
}

// New makes a host; it starts nothing.
func New(cfg Config) (*Host, error) {
	for _, dir := range []*string{&cfg.Dir, &cfg.Programs} {
		if *dir == "" {
			continue // Validate says so
		}
		path, err := filepath.Abs(*dir)
		if err != nil {
			return nil, fmt.Errorf("plugins: %w", err)
		}
		*dir = path
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Host{
		cfg: cfg, store: &store{programs: cfg.Programs, shipped: cfg.Shipped, dir: cfg.Dir, log: cfg.Log},
		plugins: map[string]*plugin{}, ended: map[string]chan struct{}{}, gone: make(chan struct{}, 1),
	}, nil
}

// sockets is where running plugins listen, and have their working directories.
func (h *Host) sockets() string { return filepath.Join(h.cfg.Dir, "run") }

// Run runs the plugins until ctx ends and they have.
func (h *Host) Run(ctx context.Context) error {
	if err := os.RemoveAll(h.sockets()); err != nil { // of a host that was killed
		return fmt.Errorf("plugins: %w", err)
	}
	if err := os.MkdirAll(h.sockets(), 0o700); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	if err := h.store.clean(); err != nil {
		return fmt.Errorf("plugins: %w", err)
	}
	if err := guard(h.cfg.Dir); err != nil {
		return fmt.Errorf("plugins: %w: others must not write to where programs are kept", err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		h.apply(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-h.cfg.Changed:
		case <-h.gone:
		}
	}
}

// apply makes what runs what should run.
func (h *Host) apply(ctx context.Context, running *sync.WaitGroup) {
	wanted, programs := map[string]Spec{}, map[string]bool{}
	for _, s := range h.cfg.Specs() {
		if _, twice := wanted[s.Name]; twice {
			h.cfg.Log.Error("two plugins have the same name: the first is run", "plugin", s.Name)
			continue
		}
		wanted[s.Name] = s.clone()
		programs[s.SHA256] = true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, p := range h.plugins {
		if _, ok := wanted[name]; !ok {
			p.end()
			delete(h.plugins, name)
		}
	}
	for name, s := range wanted {
		if p := h.plugins[name]; p != nil {
			p.renew(s)
			continue
		}
		own, end := context.WithCancel(ctx)
		p := newPlugin(h, s, end)
		h.plugins[name] = p
		before, ended := h.ended[name], make(chan struct{})
		h.ended[name] = ended
		running.Go(func() {
			defer end()
			if before != nil {
				<-before // two of one name would have the same book
			}
			p.run(own)
			h.forget(p, ended)
		})
	}
	h.store.sweep(programs)
}

// forget takes away what is counted of a plugin that has ended, unless another has taken its
// place.
func (h *Host) forget(p *plugin, ended chan struct{}) {
	h.mu.Lock()
	close(ended)
	if h.ended[p.name] == ended {
		delete(h.ended, p.name)
	}
	if h.plugins[p.name] == nil {
		h.cfg.Metrics.forget(p.name)
	}
	h.mu.Unlock()
	select {
	case h.gone <- struct{}{}: // its program can go, which on Windows it could not while it ran
	default:
	}
}

func (h *Host) plugin(name string) *plugin {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plugins[name]
}

// Served gives what a plugin of a kind hands out. Ask anew for each call: what is given serves
// one run of the plugin only. Errors are *sdk.Error, of class Unavailable while it does not run.
func (h *Host) Served(kind, name string) (any, error) {
	p := h.plugin(name)
	switch {
	case p == nil && slices.ContainsFunc(h.cfg.Specs(), func(s Spec) bool { return s.Name == name }):
		return nil, sdk.Errorf(sdk.Unavailable, "plugin %s is not started yet", name)
	case p == nil:
		return nil, sdk.Errorf(sdk.NotSupported, "this site has no plugin %q: add it to the policy", name)
	}
	return p.served(kind)
}

// ErrNoPlugin is what Activate says of a name that policy does not have here.
var ErrNoPlugin = errors.New("this site has no such plugin")

// Activate starts a plugin that was deactivated. One that was not is left alone. ErrNoPlugin.
func (h *Host) Activate(name string) error {
	p := h.plugin(name)
	if p == nil {
		return fmt.Errorf("%w: %q", ErrNoPlugin, name)
	}
	p.activate()
	return nil
}

// Status lists the plugins, sorted by name.
func (h *Host) Status() []Status {
	h.mu.Lock()
	out := make([]Status, 0, len(h.plugins))
	for _, p := range h.plugins {
		out = append(out, p.look())
	}
	h.mu.Unlock()
	slices.SortFunc(out, func(a, b Status) int { return strings.Compare(a.Plugin, b.Plugin) })
	return out
}
