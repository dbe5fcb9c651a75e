package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

const filesPolicy = `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: files}
spec:
  owner: it
  site: eu
  role: wms
  file:
    directory: /srv/exchange
    deliver: {folder: in}
`

// A revision that begins or ends batches has the next request in the other format. What was
// got together before it goes again, and is not sent in a format that is not asked for.
func TestFormatFollowsTheRevision(t *testing.T) {
	types := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { types <- r.Header.Get("Content-Type") }))
	defer server.Close()
	log := slog.New(slog.DiscardHandler)
	d := &drivers{site: "eu", log: log, open: map[string]*attached{}, ready: make(chan struct{}), options: systems.Options{Logger: log}}
	close(d.ready)
	defer d.apply(context.Background(), nil)
	one := delivery.Delivery{System: "erp", IdempotencyKey: "k", Event: &event.Event{ID: "1", Source: "/s", Type: "t"}}
	for _, c := range []struct {
		batch int
		want  string
	}{{1, "application/cloudevents+json"}, {4, "application/cloudevents-batch+json"}, {5, "application/cloudevents-batch+json"}, {1, "application/cloudevents+json"}} {
		text := fmt.Sprintf(`
apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: erp}
spec: {owner: it, site: eu, delivery: {batch: %d}, http: {url: %q, hosts: [127.0.0.1], deliver: {path: /x}}}
`, c.batch, server.URL)
		set, problems := policy.Compile(policy.Bundle{"policy.yaml": []byte(text)})
		if set == nil {
			t.Fatal(problems)
		}
		d.apply(t.Context(), set)
		if _, err := d.Deliver(t.Context(), []delivery.Delivery{one}); err != nil {
			t.Fatal(err)
		}
		if got := <-types; !strings.HasPrefix(got, c.want+";") {
			t.Errorf("batch %d: sent as %s, want %s", c.batch, got, c.want)
		}
	}
	if _, err := d.Deliver(t.Context(), []delivery.Delivery{one, one}); !errors.Is(err, delivery.ErrNotSent) || len(types) != 0 {
		t.Errorf("two events for a system that takes one: %v", err)
	}
}

// A document that only this server can refuse must not stop the site's other systems.
func TestDriverThatCannotBeOpened(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	d := &drivers{site: "eu", log: log, open: map[string]*attached{}, ready: make(chan struct{}), options: systems.Options{Logger: log}}
	set, problems := policy.Compile(policy.Bundle{"policy.yaml": []byte(filesPolicy)})
	if set == nil {
		t.Fatal(problems)
	}
	relative := set.Systems["files"]
	relative.File.Directory = "relative" // as a path of another operating system is
	if driver, err := openDriver(relative, d.options); driver != nil || err == nil {
		t.Fatalf("got %v, %v", driver, err)
	}
	answered := make(chan error, 1)
	go func() { // a delivery that is earlier than the drivers
		_, err := d.Deliver(t.Context(), []delivery.Delivery{{System: "files"}})
		answered <- err
	}()
	time.Sleep(10 * time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	applied, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		never := make(chan struct{})
		ended <- d.run(ctx, func() *policy.Set { return set }, func() <-chan struct{} { return never }, func() { close(applied) })
	}()
	<-applied
	err := <-answered
	var failure *delivery.Failure
	if !errors.As(err, &failure) || failure.Class != delivery.Misconfigured {
		t.Errorf("got %v", err)
	}
	if _, err = d.Deliver(t.Context(), []delivery.Delivery{{System: "other"}}); !errors.As(err, &failure) || failure.Class != delivery.NoDriver {
		t.Errorf("a system without a driver: %v", err)
	}
	d.apply(ctx, set) // a new revision tries again
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(d.open) != 0 {
		t.Errorf("%d still open", len(d.open))
	}
}
