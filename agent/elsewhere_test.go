package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/secrets"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// boundSecrets holds every name, each sealed for the same hosts.
type boundSecrets []string

func (b boundSecrets) Value(string) ([]byte, []string, error) {
	return []byte("whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnk="), b, nil
}

func (b boundSecrets) Former(string) ([]byte, []string, time.Time, bool) {
	return nil, nil, time.Time{}, false
}

// counted is an address that lets go of who connects, and says how many did.
func counted(t *testing.T) (address string, calls func() int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n, ours atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return l.Addr().String(), func() int64 {
		conn, err := net.Dial("tcp", l.Addr().String()) // behind all the others
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = io.ReadAll(conn) // until it is let go of
		return n.Load() - ours.Add(1)
	}
}

// boundPolicy has one system, with what is given.
func boundPolicy(t *testing.T, spec string) *policy.Set {
	t.Helper()
	text := `apiVersion: crossdock/v1
kind: Site
metadata: {name: eu}
spec: {owner: it, region: eu}
---
apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.captured}
spec: {owner: it, authority: erp, key: .orderId, versions: [{version: 1.0.0, state: active, schema: order.json}]}
---
apiVersion: crossdock/v1
kind: System
metadata: {name: erp}
spec: {owner: it, site: eu, role: erp, ` + spec + "}\n"
	set, problems := policy.Compile(policy.Bundle{"policy.yaml": []byte(text), "order.json": []byte(`{"type":"object","required":["orderId"],"properties":{"orderId":{"type":"string"}}}`)})
	if set == nil {
		t.Fatal(spec, problems)
	}
	return set
}

// A secret that is sealed for one host leads to no connection to another, whatever it is for.
func TestSecretGoesNowhereElse(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for what, driver := range map[string]string{
		"bearer":             `publishes: [order.captured], http: {url: "http://%s", hosts: [127.0.0.1], auth: {bearer: "secret:x"}, deliver: {path: /e}, publish: {path: /f}}`,
		"basic":              `http: {url: "http://%s", hosts: [127.0.0.1], auth: {basic: {user: me, password: "secret:x"}}, deliver: {path: /e}}`,
		"client certificate": `http: {url: "https://%s", hosts: [127.0.0.1], auth: {mtls: {certificate: "secret:x", key: "secret:x"}}, deliver: {path: /e}}`,
		"authority":          `http: {url: "https://%s", hosts: [127.0.0.1], ca: "secret:x", deliver: {path: /e}}`,
		"token server":       `http: {url: "http://OTHER", hosts: [127.0.0.1], auth: {oauth2: {tokenUrl: "http://%s/t", clientId: me, clientSecret: "secret:x"}}, deliver: {path: /e}}`,
		"with its token":     `http: {url: "http://%s", hosts: [127.0.0.1], auth: {oauth2: {tokenUrl: "http://OTHER/t", clientId: me, clientSecret: "secret:x"}}, deliver: {path: /e}}`,
		"signature":          `webhook: {url: "http://%s", hosts: [127.0.0.1], secret: "secret:x"}`,
	} {
		there, calls := counted(t)
		other, others := counted(t)
		text := strings.ReplaceAll(fmt.Sprintf(driver, there), "OTHER", other)
		set := boundPolicy(t, text)
		attempt := func(hosts ...string) (found []doctor.Finding, status string, delivered error) {
			store := secrets.New(secrets.Config{Sealed: boundSecrets(hosts)})
			options := systems.Options{Logger: log, Secrets: store}
			open, err := openDriver(set.Systems["erp"], options)
			if err != nil {
				t.Fatal(what, err)
			}
			defer open.Close()
			if publisher, is := open.(systems.Publisher); is && set.Systems["erp"].HTTP.Publish != nil {
				ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer stop()
				_ = publisher.Publish(ctx, func(context.Context, []*event.Event) error { return nil }) // it ends with ctx
			}
			_, delivered = open.(systems.Deliverer).Deliver(t.Context(), systems.Delivery{System: "erp", IdempotencyKey: "k", Event: &event.Event{ID: "1", Source: "/s", Type: "t"}})
			return examineSystem(t.Context(), set.Systems["erp"], options), elsewhere(store, set, "erp/x"), delivered
		}
		found, status, delivered := attempt("erp.example", other)
		if !errors.Is(delivered, systems.ErrElsewhere) || systems.ClassOf(delivered) != systems.Misconfigured || calls()+others() != 0 {
			t.Errorf("%s: %v after %d connections", what, delivered, calls()+others())
		}
		for _, part := range []string{"secret:erp/x", "erp.example, " + other, "policy sends it to " + there, "crossdock secret set erp/x --only-to " + there} {
			if !strings.Contains(status, part) || !strings.Contains(delivered.Error(), part) || found[0].Level != doctor.Fail || !strings.Contains(found[0].Seen, part) {
				t.Errorf("%s: %s is missing\nstatus   %s\ndelivery %v\ndoctor   %+v", what, part, status, delivered, found)
			}
		}
		// It is the host that was refused: the same goes out where that is allowed. What is no
		// certificate gets no further than before.
		if _, status, _ := attempt(there, other); status != "" || calls()+others() == 0 && what != "client certificate" && what != "authority" {
			t.Errorf("%s: refused where it is allowed: %s", what, status)
		}
	}
}

// Where no host is known, one that is sealed for some is of no use.
func TestSecretForHostsIsNoTokenOfIntake(t *testing.T) {
	store := secretStore(Config{}, nil)
	if _, err := store.Resolve("secret:erp/token"); !errors.Is(err, secrets.ErrNotFound) {
		t.Fatal(err)
	}
	set := boundPolicy(t, "publishes: [order.captured], intake: {token: 'secret:token'}")
	bound := secrets.New(secrets.Config{Sealed: boundSecrets{"erp.example"}})
	if why := elsewhere(bound, set, "erp/token"); !strings.Contains(why, "no host") || !strings.Contains(why, "--anywhere") {
		t.Errorf("got %q", why)
	}
	if why := elsewhere(secrets.New(secrets.Config{Sealed: boundSecrets{}}), set, "erp/token"); why != "" {
		t.Errorf("one for any host: %q", why)
	}
}
