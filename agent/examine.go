package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/pluginhost"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

const (
	probeTimeout   = 12 * time.Second
	systemsTimeout = 20 * time.Second // for all systems together
	systemsAtOnce  = 8
)

// Found is who was found on the agent's port for operators, and where its configuration is.
type Found struct {
	Running bool   // the agent itself
	Other   string // another one, in words
	Config  string // file that was read; empty: there is none
	Denied  error  // why who asks may not look at the agent's data; nil: they may
}

// Denied finds out why whoever asks may not look at the agent's data.
func Denied(cfg Config) error {
	for _, path := range []string{cfg.Data, cfg.IdentityDir(), cfg.tokenFile()} {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		if err == nil {
			f.Close()
		}
	}
	return nil
}

// unitName is the agent's name for the service manager.
const unitName = "crossdock-agent"

// Examine looks at everything that the agent leans on, from outside the running agent, so
// that it also works when that is stopped.
func Examine(ctx context.Context, cfg Config, found Found) []doctor.Finding {
	log := slog.New(slog.DiscardHandler)
	findings := []doctor.Finding{examineConfig(found), doctor.Port("intake-port", cfg.Intake.Listen, found.Running)}
	if found.Other != "" {
		findings = append(findings, doctor.OtherAgent("ops-port", cfg.Ops.Listen, found.Other))
	} else {
		findings = append(findings, doctor.Port("ops-port", cfg.Ops.Listen, found.Running))
	}
	findings = append(findings, doctor.Service(ctx, "/run", unitName, found.Running), doctor.TimeZone(os.Getenv("TZ")))
	// What waits for others waits at the same time: in an outage each takes as long as it may.
	var clock, links, held []doctor.Finding
	var all sync.WaitGroup
	all.Go(func() { clock = doctor.NTP(cfg.Doctor.NTP, "/run") })
	if found.Denied != nil {
		all.Wait()
		return slices.Concat([]doctor.Finding{doctor.Stranger(cfg.Place(), found.Denied)}, findings, clock, []doctor.Finding{doctor.UDPBuffer("/proc")})
	}
	id, err := identity.Open(cfg.IdentityDir())
	if err != nil {
		todo := "see " + cfg.IdentityDir()
		if errors.Is(err, identity.ErrNotEnrolled) {
			todo = "the link, the policy and the systems can be looked at after that"
		}
		links = []doctor.Finding{{ID: "certificate", Level: doctor.Fail, Seen: err.Error(), Todo: todo}}
	} else {
		all.Go(func() { links = examineLinks(ctx, cfg, id, found) })
		all.Go(func() { held = examinePolicy(ctx, cfg, id, found, log) })
	}
	data := append(examineData(ctx, cfg, found), doctor.UDPBuffer("/proc"))
	all.Wait()
	return slices.Concat(findings, clock, data, links, held)
}

// ExamineStatus adds what only a running agent knows.
func ExamineStatus(s Status) (findings []doctor.Finding) {
	if s.Link.Fenced != "" {
		findings = append(findings, doctor.Fenced(s.Link.Fenced))
	}
	if c := s.Config; c.Refused != "" || len(c.Restart) > 0 {
		findings = append(findings, doctor.Configuration(c.Refused, c.RefusedAt, c.Restart))
	}
	findings = append(findings, examineDisk(s.Disk)...)
	waiting := waitingIn(s, time.Now())
	findings = append(findings, doctor.QueueLevel(waiting.Level, waiting.Bytes), doctor.QueueAge(waiting), doctor.DeadLetters(waiting))
	if s.Documents.Missing > 0 {
		findings = append(findings, doctor.Missing(s.Documents.Missing))
	}
	for _, y := range s.Systems {
		if y.Held != "" {
			findings = append(findings, doctor.Held(y.System, y.Held))
		}
	}
	for _, n := range s.Numbers {
		if n.Left < n.Low {
			findings = append(findings, doctor.FewNumbers(n.Range, n.Left, n.Low, n.Refused))
			continue
		}
		findings = append(findings, doctor.Finding{ID: "numbers-" + n.Range, Level: doctor.OK, Seen: doctor.Count(n.Left, "number") + " left"})
	}
	for _, one := range s.Secrets {
		if one.Refused != "" {
			f := doctor.Finding{ID: "secret-" + one.Name, Level: doctor.Fail, Seen: one.Refused, Todo: "have it set anew: crossdock secret set " + one.Name}
			if len(one.Only) > 0 {
				f.Todo = "see whether policy names the right host; if it does, have it set anew for that: crossdock secret set " + one.Name + " --only-to HOST"
			}
			findings = append(findings, f)
		}
	}
	for _, p := range s.Plugins {
		if p.State != pluginhost.StateRunning {
			findings = append(findings, doctor.Plugin(p.Plugin, p.State, p.LastError))
			continue
		}
		findings = append(findings, doctor.Finding{ID: "plugin-" + p.Plugin, Level: doctor.OK, Seen: "it serves, version " + p.Version})
	}
	return findings
}

// waitingIn takes from a status what has not left the agent.
func waitingIn(s Status, now time.Time) doctor.Waiting {
	w := doctor.Waiting{Level: s.Queue.Level, Bytes: s.Queue.Bytes, Outgoing: s.Queue.Outgoing}
	if !s.Link.Connected && !s.Link.Since.IsZero() {
		w.CutOff = now.Sub(s.Link.Since)
	}
	for _, y := range s.Systems {
		w.Systems = append(w.Systems, doctor.WaitingFor{System: y.System, Pending: y.Pending, Oldest: time.Duration(y.OldestAgeMs) * time.Millisecond,
			DeadLetters: uint64(y.DeadLetters), Parked: uint64(y.Parked), Why: y.LastError})
	}
	return w
}

// examinePlugins looks at what plugins need to be started. It starts none.
func examinePlugins(cfg Config, specs []pluginhost.Spec, resolve func(string) ([]byte, error)) (findings []doctor.Finding) {
	host := pluginhost.DefaultConfig()
	host.Programs, host.Dir, host.Kinds = cfg.Plugins.Dir, filepath.Join(cfg.Data, pluginsDir), pluginhost.Kinds()
	host.Shipped = shippedPlugins()
	for _, spec := range specs {
		f := doctor.Finding{ID: "plugin-" + spec.Name, Level: doctor.OK, Seen: "its program is the one that policy names"}
		if err := host.Examine(spec); err != nil {
			f.Level, f.Seen, f.Todo = doctor.Fail, err.Error(), "put the program that policy names into "+cfg.Plugins.Dir+"; crossdock plugin verify compares it"
		}
		findings = append(findings, f)
		for _, setting := range slices.Sorted(maps.Keys(spec.Secrets)) {
			if _, err := resolve(spec.Secrets[setting]); err != nil {
				findings = append(findings, doctor.Finding{ID: f.ID, Level: doctor.Fail, Seen: setting + ": " + err.Error(), Todo: "put the secret there; it is read when the plugin is started"})
			}
		}
	}
	return findings
}

func examinePolicy(ctx context.Context, cfg Config, id *identity.Identity, found Found, log *slog.Logger) []doctor.Finding {
	dir := filepath.Join(cfg.Data, "policy")
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) { // to open it would make it
		return []doctor.Finding{doctor.Policy("", "", 0)}
	}
	holder, err := revision.Open(dir, log)
	if err != nil {
		return []doctor.Finding{{ID: "policy", Level: doctor.Fail, Seen: err.Error(), Todo: "make the data directory readable"}}
	}
	held := ""
	if r := holder.Held(); r != (block.Revision{}) {
		held = r.String()
	}
	findings := []doctor.Finding{doctor.Policy(held, holder.Refused(), since(holder.Since()))}
	if holder.Set() == nil {
		return findings
	}
	if !found.Running { // a running agent says it itself
		if held, err := delivery.ReadHolding(filepath.Join(cfg.Data, deliveryFile)); err == nil {
			for _, h := range held {
				findings = append(findings, doctor.Held(h.System, h.Why()))
			}
		}
	}
	opened, _, err := openSealed(cfg, id, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return append(findings, doctor.Finding{ID: "secrets", Level: doctor.Fail, Seen: err.Error(), Todo: "make the data directory readable"})
	}
	options := systems.Options{Logger: log, Secrets: secretStore(cfg, opened), Private: cfg.private()}
	findings = append(findings, examinePlugins(cfg, pluginSpecs(holder.Set(), id.Site), options.Secrets.Resolve)...)
	return append(findings, examineSystems(ctx, holder.Set().SystemsAt(id.Site), options)...)
}

// examineSystems looks at several systems at a time: each may take as long as a probe.
func examineSystems(ctx context.Context, list []*policy.System, options systems.Options) (findings []doctor.Finding) {
	ctx, cancel := context.WithTimeout(ctx, systemsTimeout)
	defer cancel()
	of := make([][]doctor.Finding, len(list))
	slots := make(chan struct{}, systemsAtOnce)
	var all sync.WaitGroup
	for i, system := range list {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			of[i] = examineSystem(ctx, system, options)
		})
	}
	all.Wait()
	return slices.Concat(of...)
}

func examineSystem(ctx context.Context, system *policy.System, options systems.Options) (findings []doctor.Finding) {
	driver, err := openDriver(system, options)
	if err != nil {
		return []doctor.Finding{{ID: "system-" + system.Name, Level: doctor.Fail, Seen: err.Error(), Todo: "see the System document and this server's secrets"}}
	}
	if system.Intake.Token != "" {
		if _, err := options.Secrets.Resolve(system.Intake.Token); err != nil {
			findings = append(findings, doctor.Finding{ID: "system-" + system.Name, Level: doctor.Fail, Seen: err.Error(), Todo: "put the token that this system sends there; a running agent takes it within 30 s"})
		}
	}
	if driver != nil {
		findings = append(findings, examineDriver(ctx, system.Name, driver)...)
		driver.Close()
	}
	return findings
}

func examineDriver(ctx context.Context, name string, driver systems.Driver) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	examiner, ok := driver.(systems.Examiner)
	if !ok {
		f := doctor.Finding{ID: "system-" + name, Level: doctor.OK, Seen: "it could be reached"}
		begun := time.Now()
		if err := driver.Check(ctx); err != nil {
			f.Level, f.Seen, f.Todo = doctor.Fail, doctor.Plain(err, time.Since(begun)), "see whether the system runs and the System document names it rightly"
		}
		return []doctor.Finding{f}
	}
	var out []doctor.Finding
	for _, seen := range examiner.Examine(ctx) {
		f := doctor.Finding{ID: "system-" + name, Level: doctor.OK, Seen: seen.Name + ": " + seen.Seen, Todo: seen.Todo}
		switch {
		case !seen.OK:
			f.Level = doctor.Fail
		case seen.Todo != "":
			f.Level = doctor.Warn
		}
		out = append(out, f)
	}
	return out
}

// since is how long ago a time was; zero for one that never was.
func since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	return time.Since(t)
}
