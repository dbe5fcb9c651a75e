package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Causes of a crash, as they are counted.
const (
	causeStart  = "start"
	causeExit   = "exit"
	causeHealth = "health"
	causeMemory = "memory"
)

// crash says that a plugin ended and nobody asked for it.
type crash struct {
	cause string
	err   error
}

func (c *crash) Error() string { return c.err.Error() }
func (c *crash) Unwrap() error { return c.err }

// life is one run of a plugin, from the start of its process to its end.
type life struct {
	plugin *plugin
	cfg    *Config
	spec   Spec
	proc   *process
	client *goplugin.Client
	served any

	mu       sync.Mutex
	conn     *grpc.ClientConn // as soon as something was asked through it
	serving  bool             // it has begun: a call has a limit of its own
	over     bool             // no more calls
	inFlight int
	idle     chan struct{} // closed when it is over and nothing is in flight
}

// memory is the limit that a plugin is held to.
func (c *Config) memory(s Spec) int64 {
	if s.Memory > 0 {
		return s.Memory
	}
	return c.Memory
}

// live runs the plugin once: until ctx ends, with nil, or until it crashes. It gives the time
// that it served.
func (p *plugin) live(ctx context.Context, spec Spec) (served time.Duration, failed *crash) {
	cfg := &p.host.cfg
	file, err := p.host.store.open(spec.Program, spec.SHA256)
	if err != nil {
		return 0, &crash{causeStart, err}
	}
	defer file.Close() // opened for reading
	l := p.newLife(spec, file)
	defer l.end()
	description, err := l.start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, &crash{causeStart, err}
	}
	p.begin(l, description)
	began := time.Now()
	failed = l.watch(ctx)
	p.lost(l)
	if failed == nil {
		l.drain(cfg.StopTimeout)
	}
	return time.Since(began), failed
}

func (p *plugin) newLife(spec Spec, file *os.File) *life {
	cfg := &p.host.cfg
	env := append([]string{}, cfg.Env...)
	// Somewhat below the limit, so that the collector has a chance before the plugin is killed.
	env = append(env, "GOMEMLIMIT="+strconv.FormatInt(cfg.memory(spec)/10*9, 10))
	l := &life{plugin: p, cfg: cfg, spec: spec, idle: make(chan struct{})}
	l.proc = newProcess(file, spec.Program, env, p.words)
	l.proc.born, l.proc.memory = p.born, cfg.memory(spec)
	l.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake,
		Plugins:          goplugin.PluginSet{spec.Kind: cfg.Kinds[spec.Kind].Plugin},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		RunnerFunc:       l.proc.fit,
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     2 * cfg.StartTimeout, // never comes: start has its own
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.host.sockets()},
		SyncStdout:       l.proc.synced[0],
		SyncStderr:       l.proc.synced[1],
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  l.dialOptions(),
	})
	return l
}

// start starts the process, and asks it what it serves.
func (l *life) start(ctx context.Context) (*sdk.Description, error) {
	starting, cancel := context.WithTimeoutCause(ctx, l.cfg.StartTimeout, fmt.Errorf("it did not start within %s", l.cfg.StartTimeout))
	defer cancel()
	// go-plugin waits for a plugin without a limit here and there; for none that is dead.
	giveUp := context.AfterFunc(starting, func() { l.proc.kill(context.Cause(starting)) })
	defer giveUp()
	defer l.watchStart(starting)()
	l.plugin.starting()
	protocol, err := l.client.Client()
	if err != nil {
		return nil, l.startFault(starting, "", err)
	}
	l.served, err = protocol.Dispense(l.spec.Kind)
	if err != nil {
		return nil, l.startFault(starting, "", err)
	}
	settings, err := l.settings()
	if err != nil {
		return nil, err
	}
	description, err := l.cfg.Kinds[l.spec.Kind].Begin(starting, l.served, settings)
	if err != nil {
		return nil, l.startFault(starting, "its first calls failed: ", err)
	}
	if !giveUp() {
		return nil, context.Cause(starting)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.serving = true
	return description, nil
}

// watchStart holds the plugin to its memory while it starts, which for one that reads a book of
// years is when it takes most.
func (l *life) watchStart(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	ill := make(chan *crash, 1)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		l.watchMemory(ctx, ill)
		select {
		case c := <-ill:
			l.proc.kill(c.err)
		default:
		}
	})
	return func() { stop(); watcher.Wait() }
}

// startFault says why a plugin did not start, in few words: what go-plugin says may repeat
// what the plugin wrote.
func (l *life) startFault(starting context.Context, what string, err error) error {
	if starting.Err() != nil {
		return context.Cause(starting)
	}
	if why := l.proc.sentence(); why != nil {
		return why
	}
	text := what + bounded(err.Error())
	select {
	case <-l.proc.done:
		if why := l.proc.why(); !errors.Is(why, errGivenUp) {
			text += ": " + why.Error()
		}
	default:
	}
	return errors.New(text)
}

// settings are those of the Spec, with the secrets that it refers to.
func (l *life) settings() (sdk.Settings, error) {
	out := sdk.Settings{}
	maps.Copy(out, l.spec.Settings)
	for name, reference := range l.spec.Secrets {
		if l.cfg.Resolve == nil {
			return nil, fmt.Errorf("secret %s: this agent has none", name)
		}
		secret, err := l.cfg.Resolve(reference)
		if err != nil {
			return nil, fmt.Errorf("secret %s: %w", name, err)
		}
		out[name] = string(secret)
	}
	return out, nil
}

// watch waits until ctx ends, the process does, or it has to be killed.
func (l *life) watch(ctx context.Context) *crash {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	ill := make(chan *crash, 2)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop() // before it waits
	watchers.Go(func() { l.watchHealth(watching, ill) })
	watchers.Go(func() { l.watchMemory(watching, ill) })
	select {
	case <-ctx.Done():
		return nil
	case <-l.proc.done:
		return &crash{causeExit, l.proc.why()}
	case c := <-ill:
		l.proc.kill(c.err)
		<-l.proc.done
		return c
	}
}

// watchHealth pings the plugin.
func (l *life) watchHealth(ctx context.Context, ill chan<- *crash) {
	tick := time.NewTicker(l.cfg.HealthEvery)
	defer tick.Stop()
	for misses := 0; misses < l.cfg.HealthMisses; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.ping(ctx); err != nil {
			misses++
			l.plugin.log.Warn("a plugin does not answer a ping", "misses", misses, "error", bounded(err.Error()))
		} else {
			misses = 0
		}
	}
	ill <- &crash{causeHealth, fmt.Errorf("killed: it did not answer %d pings in a row, each within %s", l.cfg.HealthMisses, l.cfg.HealthTimeout)}
}

func (l *life) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HealthTimeout)
	defer cancel()
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName})
	if err != nil {
		return err
	}
	if s := answer.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("it says %s", s)
	}
	return nil
}

// watchMemory looks at how much memory the process has, where that can be seen.
func (l *life) watchMemory(ctx context.Context, ill chan<- *crash) {
	limit := l.cfg.memory(l.spec)
	tick := time.NewTicker(l.cfg.MemoryEvery)
	defer tick.Stop()
	for {
		bytes, err := l.resident()
		if ctx.Err() != nil { // the number may be another's by now
			return
		}
		if err == nil {
			l.plugin.remember(bytes)
		}
		if bytes > limit {
			ill <- &crash{causeMemory, fmt.Errorf("killed: it has %d MiB of memory, at most %d MiB are allowed", bytes>>20, limit>>20)}
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// resident gives the memory of the process, 0 before it has started.
func (l *life) resident() (int64, error) {
	pid := l.proc.pid()
	if pid == 0 {
		return 0, nil
	}
	bytes, err := resident(pid)
	select {
	case <-l.proc.done: // the number may be another's by now
		return 0, err
	default:
	}
	return bytes, err
}

// drain lets calls end that are in flight.
func (l *life) drain(limit time.Duration) {
	wait := time.NewTimer(limit)
	defer wait.Stop()
	select {
	case <-l.idle:
	case <-wait.C:
	case <-l.proc.done:
	}
}

// end ends the process, kindly if it can, and lets go of all that belongs to it.
func (l *life) end() {
	l.close()
	l.client.Kill()
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // go-plugin forgets it when it fails half way
	}
	l.proc.ended()
}
