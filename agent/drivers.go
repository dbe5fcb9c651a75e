package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/systems"
	filesystem "github.com/crossdock/crossdock/agent/systems/file"
	httpsystem "github.com/crossdock/crossdock/agent/systems/http"
	"github.com/crossdock/crossdock/agent/systems/secrets"
	webhooksystem "github.com/crossdock/crossdock/agent/systems/webhook"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// drivers keeps one open driver for each system of the site, as the policy in force says.
type drivers struct {
	site    string
	options systems.Options
	log     *slog.Logger
	accept  func(ctx context.Context, system string, events []*event.Event) error
	ready   chan struct{} // closed when the policy has been applied once

	mu   sync.Mutex // guards open
	open map[string]*attached
}

// attached is a system with its driver. A driver that could not be opened keeps its error.
type attached struct {
	system *policy.System
	driver systems.Driver
	err    error
	cancel context.CancelFunc // of its publisher
	done   chan struct{}      // closed when its publisher has ended
}

var _ delivery.Target = (*drivers)(nil)

// openDriver opens the driver that a System document asks for, nil if it has none.
func openDriver(system *policy.System, options systems.Options) (systems.Driver, error) {
	options.Logger = options.Logger.With("system", system.Name)
	if store, is := options.Secrets.(*secrets.Store); is { // what is sealed for certain hosts is for no other driver
		options.Secrets = store.For(system.Calls()...)
	}
	switch {
	case system.HTTP != nil:
		return asDriver(httpsystem.New(system, options))
	case system.Webhook != nil:
		return asDriver(webhooksystem.New(system, options))
	case system.File != nil:
		return asDriver(filesystem.New(system, options))
	}
	return nil, nil
}

// asDriver keeps a driver that could not be made from becoming an interface that is not
// nil around a pointer that is.
func asDriver[D systems.Driver](driver D, err error) (systems.Driver, error) {
	if err != nil {
		return nil, err
	}
	return driver, nil
}

// apply opens, reopens and closes drivers so that they are those of the policy.
func (d *drivers) apply(ctx context.Context, set *policy.Set) {
	wanted := map[string]*policy.System{}
	if set != nil {
		for _, system := range set.SystemsAt(d.site) {
			wanted[system.Name] = system
		}
	}
	d.mu.Lock()
	old := maps.Clone(d.open)
	d.mu.Unlock()
	for name, a := range old {
		if system := wanted[name]; system == nil || a.err != nil || !sameDriver(system, a.system) {
			d.detach(name, a)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		d.mu.Lock()
		a := d.open[name]
		d.mu.Unlock()
		if a == nil {
			d.attach(ctx, wanted[name])
		}
	}
}

// sameDriver reports whether a driver can stay open under a new revision.
func sameDriver(a, b *policy.System) bool {
	return reflect.DeepEqual(driverSpec(a), driverSpec(b))
}

func driverSpec(s *policy.System) []any {
	return []any{s.HTTP, s.Webhook, s.File, s.Delivery.Timeout, s.Delivery.InBatches()}
}

func (d *drivers) attach(ctx context.Context, system *policy.System) {
	a := &attached{system: system, done: make(chan struct{})}
	a.driver, a.err = openDriver(system, d.options)
	if a.err != nil {
		d.log.Error("system cannot be attached", "system", system.Name, "err", a.err)
	}
	ctx, a.cancel = context.WithCancel(ctx)
	var publisher systems.Publisher
	if a.driver != nil && slices.Contains(a.driver.Operations(), systems.OpPublish) {
		publisher, a.err = systems.As[systems.Publisher](a.driver, systems.OpPublish)
	}
	go func() {
		defer close(a.done)
		if publisher != nil {
			d.publish(ctx, system.Name, publisher)
		}
	}()
	d.mu.Lock()
	d.open[system.Name] = a
	d.mu.Unlock()
}

// publish runs a driver's publisher, again and again when it fails.
func (d *drivers) publish(ctx context.Context, system string, publisher systems.Publisher) {
	retry := backoff.NewExponentialBackOff(backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
	for {
		begun := time.Now()
		err := publisher.Publish(ctx, func(ctx context.Context, events []*event.Event) error { return d.accept(ctx, system, events) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > time.Minute {
			retry.Reset()
		}
		pause := retry.NextBackOff()
		d.log.Warn("a system's events cannot be read; trying again", "system", system, "pause", pause, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (d *drivers) detach(name string, a *attached) {
	d.mu.Lock()
	delete(d.open, name)
	d.mu.Unlock()
	a.cancel()
	<-a.done
	if a.driver != nil {
		if err := a.driver.Close(); err != nil {
			d.log.Warn("closing a system's driver", "system", name, "err", err)
		}
	}
}

// run follows the policy until ctx ends, then closes everything.
func (d *drivers) run(ctx context.Context, set func() *policy.Set, changed func() <-chan struct{}, applied func()) error {
	ready := sync.OnceFunc(func() { close(d.ready) })
	for {
		change := changed() // taken first: a change during apply is seen by the next turn
		d.apply(ctx, set())
		ready()
		applied()
		select {
		case <-ctx.Done():
			d.apply(ctx, nil)
			return nil
		case <-change:
		}
	}
}

// Deliver makes one attempt through the system's driver. Deliveries begin as early as
// drivers are opened; one that comes first waits, for else its system would seem to have none.
func (d *drivers) Deliver(ctx context.Context, ds []delivery.Delivery) (delivery.Answer, error) {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return delivery.Answer{}, &delivery.Failure{Class: delivery.Unavailable, Err: errors.New("the site's drivers are still being opened")}
	}
	d.mu.Lock()
	a := d.open[ds[0].System]
	d.mu.Unlock()
	if a == nil || a.driver == nil && a.err == nil {
		return delivery.Answer{}, &delivery.Failure{Class: delivery.NoDriver, Err: errors.New("the system has no driver at this site")}
	}
	if a.err != nil {
		return delivery.Answer{}, &delivery.Failure{Class: delivery.Misconfigured, Err: a.err}
	}
	if len(ds) > 1 && !a.system.Delivery.InBatches() { // the revision in force asked for one at a time while these were got together
		return delivery.Answer{}, fmt.Errorf("the system takes one event a request by now, and %d were to go: %w", len(ds), delivery.ErrNotSent)
	}
	answer, err := a.deliver(ctx, ds)
	if err != nil {
		return delivery.Answer{}, failure(err)
	}
	return delivery.Answer(answer), nil
}

// deliver takes one event, or several, to a system in the form that its document asks for.
func (a *attached) deliver(ctx context.Context, ds []delivery.Delivery) (systems.Answer, error) {
	if !a.system.Delivery.InBatches() {
		deliverer, err := systems.As[systems.Deliverer](a.driver, systems.OpDeliver)
		if err != nil {
			return systems.Answer{}, err
		}
		return deliverer.Deliver(ctx, systems.Delivery(ds[0]))
	}
	deliverer, err := systems.As[systems.BatchDeliverer](a.driver, systems.OpDeliver)
	if err != nil {
		return systems.Answer{}, err
	}
	batch := make([]systems.Delivery, len(ds))
	for i := range ds {
		batch[i] = systems.Delivery(ds[i])
	}
	return deliverer.DeliverBatch(ctx, batch)
}

// failure puts a driver's error into the words of delivery.
func failure(err error) error {
	classes := map[systems.Class]delivery.Class{
		systems.Unavailable: delivery.Unavailable, systems.Throttled: delivery.Throttled, systems.Rejected: delivery.Rejected,
		systems.Unknown: delivery.Unknown, systems.Misconfigured: delivery.Misconfigured,
	}
	out := &delivery.Failure{Class: classes[systems.ClassOf(err)], Err: err}
	var coded *systems.Error
	if errors.As(err, &coded) {
		out.Status, out.RetryAfter, out.Body = coded.Status, coded.RetryAfter, coded.Body
	}
	return out
}
