// Package agent is the process at a site: it connects intake, journal, delivery, drivers, plugins
// and uplink, each of which knows nothing of the others, and runs them as one.
//
// It holds wiring only. Its invariant is the order: stores open first and close last, and
// the doors open last and close first, so that nothing is accepted that cannot be kept.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/page"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/revision"
	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/agent/sealed"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/tracing"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/policy"
	"github.com/crossdock/crossdock/protocol/sealing"
	"github.com/crossdock/crossdock/protocol/transport"
)

const (
	// attemptTimeout bounds one attempt to open a session. An attempt begun while the line was
	// down finds out late that it is up, for TCP repeats ever more rarely: a new one is sooner
	// there. It still leaves room for a handshake over 2 s of delay.
	attemptTimeout = 10 * time.Second
)

// Agent is one agent. New opens its stores; Run runs it.
type Agent struct {
	cfg      Config
	log      *slog.Logger
	registry *prometheus.Registry

	identity  *identity.Identity
	revision  *revision.Holder
	queue     *queue.Log
	journal   *journal.Journal
	delivery  *delivery.Engine
	numbers   *numbers.Store
	sealed    *sealed.Store
	sealing   *sealing.Announcement // of the key to which secrets are sealed; without one its fields are empty
	documents *documents.Store
	plugins   *plugins
	calls     *calls.Service
	drivers   *drivers
	intake    *intake.Service
	outbox    *outbox
	facts     *facts
	alarms    *alarms
	tracer    *tracing.Tracer // nil: nothing is traced
	uplink    *uplink.Uplink
	versions  *versions.Manager
	disk      *space.Watch
	ops       *ops.Server
	page      *page.Page
	warned    *warnings
	started   time.Time
	flushing  flushing
	reloads   *reloads
	diagnosis *diagnosis

	dataUntil time.Time // when the journal was last written to before this start; zero: never

	addresses     func(nodes []string) // tells the dialer of further nodes; nil where a test brings its own
	intakeAddress string               // set by Run
	opened        chan struct{}        // closed when the doors are open
}

// New opens the agent's stores and binds its ports. It starts nothing; Close if Run is
// never called.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, reloads: newReloads(cfg), log: cfg.Logger, registry: prometheus.NewRegistry(), started: time.Now(), opened: make(chan struct{}), diagnosis: newDiagnosis()}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.warned = &warnings{}
	a.log = slog.New(&keeping{Handler: a.log.Handler(), warnings: a.warned})
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, open := range []func() error{
		a.openIdentity, a.openSecrets, a.openStores, a.openNumbers, a.openDocuments, a.openPlugins, a.openCalls, a.openDelivery, a.openDisk, a.openTelemetry, a.openIntake, a.openVersions, a.openUplink, a.openPage, a.openOps,
	} {
		if err := open(); err != nil {
			return nil, errors.Join(err, a.Close())
		}
	}
	return a, nil
}

func (a *Agent) openIdentity() (err error) {
	a.identity, err = identity.Open(a.cfg.IdentityDir())
	if err != nil {
		return err
	}
	a.log = a.log.With("agent", a.identity.Agent)
	if a.tracer, err = tracing.New(tracing.Config{Endpoint: a.cfg.Tracing.Endpoint, Sample: a.cfg.Tracing.Sample,
		Agent: a.identity.Agent, Version: a.cfg.Version, Logger: a.log}); err != nil {
		return err
	}
	a.revision, err = revision.Open(filepath.Join(a.cfg.Data, "policy"), a.log)
	return err
}

func (a *Agent) openStores() (err error) {
	if err := os.MkdirAll(a.cfg.Secrets, 0o700); err != nil {
		return err
	}
	a.alarms = newAlarms(a.identity.Agent, a.log)
	damaged := func(first, last uint64, err error) {
		a.log.Error("events in the journal cannot be read and are set aside", "first", first, "last", last, "err", err)
		var foreign *journal.ForeignError
		if errors.As(err, &foreign) {
			a.alarms.raise("unreadable-block", fmt.Sprint(first), fmt.Sprintf(
				"agent %s sent a block (position %d of the journal here) that cannot be opened; it is not this disk: %v; its events are lost here: look at agent %s",
				foreign.Agent, first, foreign.Err, foreign.Agent))
			return
		}
		a.alarms.raise("journal-damage", fmt.Sprint(first), fmt.Sprintf(
			"positions %d to %d of the journal cannot be read; events there that this site was still to get or to send are lost: %v", first, last, err))
	}
	a.queue, err = queue.Open(queue.Config{Dir: a.cfg.JournalDir(), SegmentBytes: int64(a.cfg.Journal.Segment),
		Quota: int64(a.cfg.Journal.Quota), Logger: a.log, OnDamage: damaged})
	if err != nil {
		return err
	}
	if err := claim(a.cfg.JournalDir(), a.identity.Agent); err != nil {
		return err
	}
	a.journal, err = journal.Open(journal.Config{Log: a.queue, Self: a.identity.Agent, Epoch: a.identity.Epoch(), Clock: time.Now,
		Logger: a.log, Metrics: journal.NewMetrics(a.registry), OnDamage: damaged, Hook: a.cfg.Hook, Admit: a.admit})
	if err != nil {
		return err
	}
	a.facts = &facts{agent: a.identity.Agent, journal: a.journal}
	a.alarms.report = a.facts.Report
	a.outbox = newOutbox(a.journal, a.queue, a.identity.Epoch())
	return a.noteEpoch()
}

func (a *Agent) openDelivery() (err error) {
	a.drivers = &drivers{site: a.identity.Site, log: a.log, open: map[string]*attached{}, ready: make(chan struct{}),
		options: systems.Options{Secrets: secretStore(a.cfg, a.sealed), Private: a.cfg.private(), Logger: a.log, Metrics: systems.NewMetrics(a.registry)}}
	a.delivery, err = delivery.Open(delivery.Config{
		Agent: a.identity.Agent, Path: filepath.Join(a.cfg.Data, deliveryFile), Journal: a.identity.Agent, Source: localSource{a.journal}, Target: traced{a.drivers, a.tracer},
		Policy: a.revision.Set, Facts: a.facts, Logger: a.log,
		Metrics: delivery.NewMetrics(a.registry), ParkAfter: a.cfg.Tuning.ParkAfter, Hook: a.cfg.Hook,
		Check: queue.CheckPages, Salvage: queue.SalvagePages, Floor: a.queue.Cursor(settledCursor), OnDamage: a.deliveryDamaged,
		Lacking: a.lacking,
		Space:   func() int64 { u := a.queue.Usage(); return u.Bytes + u.Free },
	})
	if err == nil {
		a.revision.First(a.delivery.Announce) // no event is routed by a revision, nor comes after it, before what it holds is held
	}
	return err
}

func (a *Agent) openIntake() (err error) {
	config := intake.Config{Site: a.identity.Site, Listen: a.cfg.Intake.Listen}
	if a.cfg.Intake.Certificate != "" {
		certificate, err := tls.LoadX509KeyPair(a.cfg.Intake.Certificate, a.cfg.Intake.Key)
		if err != nil {
			return fmt.Errorf("intake.certificate: %w", err)
		}
		a.reloads.certificate.Store(&certificate)
		config.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return a.reloads.certificate.Load(), nil
		}}
	}
	a.intake, err = intake.New(config, intake.Parts{
		Policy: policyOf{a.revision}, Journal: submitter{a.identity.Agent, a.journal, a.documents, a.tracer}, Secrets: secretStore(a.cfg, a.sealed), Numbers: printer{a.numbers},
		Calls: caller{a.calls}, Documents: shelf{a.documents}, Logger: a.log,
		Metrics:   intake.NewMetrics(a.registry),
		NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, a.identity.Site) },
	})
	if err != nil {
		return err
	}
	a.drivers.accept = a.intake.Accept
	return nil
}

// policyOf shows the revision in force to intake.
type policyOf struct{ holder *revision.Holder }

func (p policyOf) Policy() *policy.Set { return p.holder.Set() }

func (a *Agent) openUplink() error {
	dialer := a.cfg.Dialer
	if dialer == nil {
		network, err := NewDialer(a.cfg, a.identity, a.log)
		if err != nil {
			return err
		}
		network.SetAddresses(a.identity.Nodes())
		a.addresses, a.reloads.dialer = network.SetAddresses, network
		dialer = network
	}
	config := uplink.DefaultConfig()
	config.Agent, config.Version = a.identity.Agent, a.cfg.Version
	config.Dialer, config.Outbox, config.Inbox = dialer, a.outbox, &inbox{journal: a.journal, facts: a.facts, alarms: a.alarms, tracer: a.tracer}
	config.Policy, config.Identity = revisions{a.revision, a.delivery}, a.identity
	config.Command, config.Status, config.Numbers = a.command, a.report, leases{a.numbers}
	config.Releases, config.Secrets = releases{a.versions}, keeper{a.sealed}
	a.agree(&config)
	config.Logger, config.Metrics = a.log, uplink.NewMetrics(a.registry)
	for _, t := range []struct{ field, value *time.Duration }{
		{&config.Silence, &a.cfg.Tuning.Silence}, {&config.StatusEvery, &a.cfg.Tuning.StatusEvery},
		{&config.FullRetry, &a.cfg.Tuning.FullRetry}, {&config.LeaseRetry, &a.cfg.Tuning.LeaseRetry}, {&config.ReconnectMax, &a.cfg.Tuning.ReconnectMax}, {&config.PushPause, &a.cfg.Tuning.PushPause},
	} {
		if *t.value > 0 {
			*t.field = *t.value
		}
	}
	config.ReconnectMin = min(config.ReconnectMin, config.ReconnectMax)
	a.uplink = uplink.New(config)
	return a.uplink.Begin() // before intake accepts anything
}

// NewDialer makes the dialer that an agent's configuration asks for.
func NewDialer(cfg Config, id *identity.Identity, log *slog.Logger) (*transport.Dialer, error) {
	config := transport.DialerConfig{
		Addresses: cfg.ControlPlane.Addresses, Mode: transport.Mode(cfg.ControlPlane.Transport), Logger: log,
		RetryQUIC: cfg.Tuning.RetryQUIC, AttemptTimeout: attemptTimeout,
		TLS: func() (*tls.Config, error) { return id.TLS(), nil },
	}
	proxy, err := ProxyOf(cfg)
	if err != nil {
		return nil, err
	}
	config.Proxy = proxy
	return transport.NewDialer(config)
}

// ProxyOf gives the proxy function of a configuration: without a proxy in it the
// environment's, and where that names none the system's, if it keeps one. The password is
// looked up at every connection, so that a new one is used at once.
func ProxyOf(cfg Config) (func(*url.URL) (*url.URL, error), error) {
	if cfg.ControlPlane.Proxy == "" {
		return func(target *url.URL) (*url.URL, error) {
			through, err := through(cfg, target.Host)
			return through.Proxy, err
		}, nil
	}
	proxy, err := parseProxy(cfg.ControlPlane.Proxy)
	if err != nil {
		return nil, err
	}
	store := secretStore(cfg, nil)
	return func(*url.URL) (*url.URL, error) {
		if cfg.ControlPlane.ProxyPassword == "" {
			return proxy, nil
		}
		password, err := store.Resolve(cfg.ControlPlane.ProxyPassword)
		if err != nil {
			return nil, fmt.Errorf("controlplane.proxyPassword: %w", err)
		}
		whole := *proxy
		whole.User = url.UserPassword(proxy.User.Username(), string(password))
		return &whole, nil
	}, nil
}

// parseProxy names no part of what it was given: there may be a password in it.
func parseProxy(text string) (*url.URL, error) {
	proxy, err := url.Parse(text)
	if err != nil || proxy.Host == "" || proxy.Scheme != "http" && proxy.Scheme != "https" {
		return nil, errors.New("controlplane.proxy: it is not an address such as http://proxy.example.com:3128")
	}
	return proxy, nil
}

func (a *Agent) openOps() (err error) {
	a.ops, err = ops.New(ops.Config{Listen: a.cfg.Ops.Listen, TokenFile: a.cfg.tokenFile(), Gatherer: a.registry,
		Logger: a.log, Status: func() any { return a.Status() }, Ready: a.ready, Queue: opsQueue{a}, Calls: a.listCalls, Vouch: a.vouch,
		Documents: func(ctx context.Context) (any, error) { return a.documentsReport(ctx) }, Activate: a.plugins.activate, Reload: a.reloadForOps,
		Versions: opsVersions{a.versions}, Page: a.page, Code: a.page.Code,
		Doctor: func(ctx context.Context, fresh bool) (any, error) { return a.Diagnose(ctx, fresh) }})
	return listening("ops.listen", err)
}

// ready says why the agent cannot do its work, nil if it can. A cut line is no reason.
func (a *Agent) ready() error {
	if gone := a.disk.Gone(); gone != "" {
		return errors.New("events are refused: " + gone)
	}
	if a.revision.Set() == nil {
		return errors.New("no policy revision yet: the control plane has not been reached or has none approved")
	}
	return nil
}

// Run runs the agent until ctx ends or a part fails, and closes it.
func (a *Agent) Run(ctx context.Context) error {
	address, err := a.intake.Listen()
	if err != nil {
		return errors.Join(listening("intake.listen", err), a.Close())
	}
	a.intakeAddress = address
	defer context.AfterFunc(ctx, func() { a.log.Info("stopping") })()
	err = runParts(ctx, []part{
		{"intake", a.intake.Run},     // first: nothing new is accepted
		{"calls", a.calls.Run},       // who asked has been answered; what is being made is broken off and found out later
		{"delivery", a.delivery.Run}, // attempts in flight finish while their drivers are open
		{"drivers", a.runDrivers},    // publishers stop handing in
		{"plugins", a.plugins.run},   // calls have ended
		{"uplink", a.uplink.Run},     // what is committed could still be taken until here
		{"retention", a.runTrim},
		{"disk", a.disk.Run},
		{"numbers", a.numbers.Run},
		{"documents", a.documents.Run},
		{"versions", a.versions.Run}, // ends all when another one takes over
		{"alarms", a.alarms.run},
		{"ops", a.ops.Run},         // people can watch up to here
		{"journal", a.journal.Run}, // commits what the parts above have handed in
		{"queue", a.queue.Run},
	})
	err = errors.Join(err, a.Close())
	a.log.Info("stopped")
	return err
}

func (a *Agent) runDrivers(ctx context.Context) error {
	told, opened := false, sync.OnceFunc(func() { close(a.opened) })
	return a.drivers.run(ctx, a.revision.Set, a.revision.Changed, func() {
		a.delivery.PolicyChanged()
		a.numbers.PolicyChanged()
		a.plugins.PolicyChanged()
		opened()
		if told || a.revision.Set() == nil {
			return
		}
		told = true
		a.log.Info("ready to accept events", "intake", a.intakeAddress, "ops", a.ops.Addr(), "revision", a.revision.Held().String(), "version", a.cfg.Version)
	})
}

// Close closes what New opened. Run does it by itself.
func (a *Agent) Close() error {
	var errs []error
	if a.ops != nil {
		errs = append(errs, a.ops.Close())
	}
	if a.calls != nil {
		errs = append(errs, a.calls.Close())
	}
	if a.delivery != nil {
		errs = append(errs, a.delivery.Close())
	}
	if a.numbers != nil {
		errs = append(errs, a.numbers.Close())
	}
	if a.queue != nil {
		errs = append(errs, a.queue.Close())
	}
	a.endTraces()
	return errors.Join(errs...)
}
