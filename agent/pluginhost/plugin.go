package pluginhost

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"google.golang.org/grpc/codes"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// The states of a plugin.
const (
	StateStarting    = "starting"
	StateRunning     = "running"
	StateStopping    = "stopping"
	StateWaiting     = "waiting" // it crashed, and is started again after a pause
	StateStopped     = "stopped"
	StateDeactivated = "deactivated" // it crashed too often, or its Spec is wrong
)

// Status is what one plugin looks like.
type Status struct {
	Plugin      string    `json:"plugin"`
	Kind        string    `json:"kind"`
	State       string    `json:"state"`
	Since       time.Time `json:"since"` // of the state
	PID         int       `json:"pid,omitempty"`
	Version     string    `json:"version,omitempty"` // as it says of itself, as is Data
	Data        string    `json:"data,omitempty"`
	Program     string    `json:"program"`
	SHA256      string    `json:"sha256"`
	Starts      uint64    `json:"starts"`
	Crashes     uint64    `json:"crashes"`
	LastError   string    `json:"lastError,omitempty"`
	LastErrorAt time.Time `json:"lastErrorAt,omitzero"`
	Memory      int64     `json:"memory"` // bytes resident; 0: not seen
	Calls       uint64    `json:"calls"`
	Failed      uint64    `json:"failed"`  // calls without an answer
	Dropped     uint64    `json:"dropped"` // lines that it wrote and that were not logged
}

// plugin keeps one plugin running, through as many lives as it takes.
type plugin struct {
	host  *Host
	name  string
	end   context.CancelFunc // of the plugin
	log   *slog.Logger
	words *words

	mu     sync.Mutex
	spec   Spec
	turn   context.CancelFunc // ends what is done for the spec at hand, so that the new one is taken up
	life   *life              // that serves; nil: none
	status Status
}

func newPlugin(h *Host, s Spec, end context.CancelFunc) *plugin {
	p := &plugin{host: h, name: s.Name, end: end, log: h.cfg.Log.With("plugin", s.Name), spec: s}
	p.words = newWords(p.log, p.droppedLine)
	p.status = Status{Plugin: s.Name, State: StateStarting, Since: time.Now()}
	return p
}

// run keeps the plugin running until ctx ends.
func (p *plugin) run(ctx context.Context) {
	for ctx.Err() == nil {
		turn, cancel := context.WithCancel(ctx)
		p.attend(turn, p.take(cancel))
		cancel()
	}
	p.enterState(StateStopped)
}

// take gives the spec to run. Another one, or activation, calls cancel.
func (p *plugin) take(cancel context.CancelFunc) Spec {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn = cancel
	p.status.Kind, p.status.Program, p.status.SHA256 = p.spec.Kind, p.spec.Program, p.spec.SHA256
	return p.spec
}

// renew gives the plugin a spec. The same again changes nothing.
func (p *plugin) renew(s Spec) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spec.same(s) {
		return
	}
	p.spec = s
	if p.turn != nil {
		p.turn()
	}
}

func (p *plugin) activate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status.State == StateDeactivated {
		p.turn()
	}
}

// attend runs a spec until ctx ends, again after each crash, unless there are too many.
func (p *plugin) attend(ctx context.Context, spec Spec) {
	cfg := &p.host.cfg
	if err := spec.check(cfg.Kinds); err != nil {
		p.note(err)
		p.deactivate(ctx, spec, 0, err)
		return
	}
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(cfg.RestartMin), backoff.WithMaxInterval(cfg.RestartMax),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.5), backoff.WithMaxElapsedTime(0))
	var crashes []time.Time // within the window
	for ctx.Err() == nil {
		p.enterState(StateStarting)
		served, failed := p.live(ctx, spec)
		if failed == nil {
			return
		}
		if served >= cfg.HealthyAfter {
			pause.Reset()
		}
		now := time.Now()
		crashes = append(crashes, now)
		for now.Sub(crashes[0]) > cfg.CrashWindow {
			crashes = crashes[1:]
		}
		p.crashed(failed)
		if len(crashes) >= cfg.CrashLimit {
			p.deactivate(ctx, spec, len(crashes), failed)
			return
		}
		p.enterState(StateWaiting)
		wait := time.NewTimer(pause.NextBackOff())
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// deactivate gives the plugin up until ctx ends.
func (p *plugin) deactivate(ctx context.Context, spec Spec, crashes int, reason error) {
	if ctx.Err() != nil { // there is something else to run
		return
	}
	p.host.cfg.Metrics.Deactivated.WithLabelValues(p.name).Inc()
	p.log.Error("a plugin was deactivated: change it in policy, or activate it again", "crashes", crashes, "error", reason)
	p.enterState(StateDeactivated)
	if p.host.cfg.Report != nil {
		p.host.cfg.Report(Exception{
			Plugin: p.name, Kind: spec.Kind, Program: spec.Program, SHA256: spec.SHA256,
			Crashes: crashes, Reason: reason.Error(), Words: p.words.tail(), At: time.Now(),
		})
	}
	<-ctx.Done()
}

// What follows tells of the plugin's lives, and keeps the status.

func (p *plugin) look() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

func (p *plugin) enterState(state string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setState(state)
}

// setState is called with mu held.
func (p *plugin) setState(state string) {
	p.status.State, p.status.Since = state, time.Now()
	if state != StateRunning && state != StateStopping {
		p.status.PID, p.status.Memory = 0, 0
		p.host.cfg.Metrics.Memory.WithLabelValues(p.name).Set(0)
	}
	running := 0.
	if state == StateRunning {
		running = 1
	}
	p.host.cfg.Metrics.Running.WithLabelValues(p.name).Set(running)
}

// starting says that a process is about to be started.
func (p *plugin) starting() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Starts++
	p.host.cfg.Metrics.Starts.WithLabelValues(p.name).Inc()
}

// born says that a process runs, which does not serve yet.
func (p *plugin) born(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.PID = pid
}

// begin hands a life out.
func (p *plugin) begin(l *life, d *sdk.Description) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.life = l
	p.status.Version, p.status.Data = bounded(d.Version), bounded(d.Data)
	p.setState(StateRunning)
	p.log.Info("a plugin runs", "pid", p.status.PID, "version", p.status.Version, "sha256", l.spec.SHA256)
}

// lost takes a life back: it ends, or has.
func (p *plugin) lost(l *life) {
	p.mu.Lock()
	p.life = nil
	p.setState(StateStopping)
	p.mu.Unlock()
	l.close()
}

func (p *plugin) crashed(c *crash) {
	p.host.cfg.Metrics.Crashes.WithLabelValues(p.name, c.cause).Inc()
	p.log.Warn("a plugin crashed", "cause", c.cause, "error", c.err)
	p.note(c)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Crashes++
}

func (p *plugin) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.LastError, p.status.LastErrorAt = err.Error(), time.Now()
}

func (p *plugin) remember(memory int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Memory = memory
	p.host.cfg.Metrics.Memory.WithLabelValues(p.name).Set(float64(memory))
}

func (p *plugin) called(code codes.Code, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Calls++
	if code != codes.OK {
		p.status.Failed++
	}
	p.host.cfg.Metrics.Calls.WithLabelValues(p.name, code.String()).Inc()
	p.host.cfg.Metrics.Duration.WithLabelValues(p.name).Observe(took.Seconds())
}

func (p *plugin) droppedLine() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Dropped++
	p.host.cfg.Metrics.Dropped.WithLabelValues(p.name).Inc()
}

// served gives what the plugin hands out.
func (p *plugin) served(kind string) (any, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.life != nil && p.life.spec.Kind == kind:
		return p.life.served, nil
	case p.spec.Kind != kind:
		return nil, sdk.Errorf(sdk.NotSupported, "plugin %s is not of kind %s but of kind %s", p.name, kind, p.spec.Kind)
	case p.status.LastError != "":
		return nil, unavailable("plugin %s is %s; its last error: %s", p.name, p.status.State, p.status.LastError)
	}
	return nil, unavailable("plugin %s is %s", p.name, p.status.State)
}

// unavailable says that a call was surely not made.
func unavailable(format string, args ...any) *sdk.Error {
	e := sdk.Errorf(sdk.Unavailable, format, args...)
	e.Fault = sdk.FaultPlugin
	return e.Bounded()
}
