package systemtest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/delivery"
)

// gateTo counts the connections that reach an address, and hands them on to a parrot.
func gateTo(t *testing.T, p *parrot) (address string, came *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came = new(atomic.Int64)
	server := &http.Server{Handler: p.handler, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			came.Add(1)
		}
	}}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-ended })
	return l.Addr().String(), came
}

// newOnlyToRun is one site that sells to a system, and how to have policy put that at a host.
func newOnlyToRun(t *testing.T, host, shop string) (x *secretsRun, approve func(host string)) {
	t.Helper()
	x = &secretsRun{T: t, canaries: canaries{}, c: startCluster(t, 1, clusterOptions{advertise: nowhere})}
	approve = func(host string) {
		t.Helper()
		bundle := policyFor([]string{"eu"}, nil)
		bundle["policy.yaml"] += fmt.Sprintf("apiVersion: crossdock/v1\nkind: System\nmetadata: {name: erp}\nspec: {owner: it, site: eu, delivery: {breaker: {failures: 100000, pause: 200ms}},"+
			" http: {url: 'http://%s', hosts: [127.0.0.1], auth: {bearer: 'secret:token'}, deliver: {path: /events}}}\n---\n"+
			"apiVersion: crossdock/v1\nkind: Route\nmetadata: {name: to-erp}\nspec: {owner: it, from: {type: %s}, to: [{system: erp}]}\n---\n", host, orderCaptured)
		x.c.plane.approve(bundle)
	}
	approve(host)
	x.eu = newSite(t, x.c.plane, "eu")
	x.eu.secret("shop-eu", shop)
	x.config = filepath.Join(t.TempDir(), "agent.yaml")
	text := fmt.Sprintf("data: %q\ncontrolplane: {addresses: [%q]}\nintake: {listen: %q}\nops: {listen: %q}\n",
		x.eu.cfg.Data, x.eu.cfg.ControlPlane.Addresses[0], x.eu.cfg.Intake.Listen, x.eu.cfg.Ops.Listen)
	if err := os.WriteFile(x.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	x.eu.startProgram()
	return x, approve
}

// waitsFor waits until an order waits for the system, and everybody who asks is told why.
func (x *secretsRun) waitsFor(why string) {
	x.Helper()
	x.eu.awaitStatus("the order waits", func(s agent.Status) string {
		for _, y := range s.Systems {
			if y.System == "erp" && y.State == delivery.SystemMisconfigured && y.Pending+uint64(y.Parked) == 1 && strings.Contains(y.LastError, why) {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Systems)
	})
	for _, command := range []string{"status", "doctor"} {
		if said := string(x.crossdockAgent(command)); !strings.Contains(said, why) {
			x.Errorf("crossdock-agent %s does not say it: %s", command, said)
		}
	}
	until(x.T, "secret list says it", func() string {
		list, err := x.c.nodes[0].crossdock("", "secret", "list")
		if err != nil || !strings.Contains(list, why) || !strings.Contains(list, "refused") {
			return fmt.Sprint(list, err)
		}
		return ""
	})
	if letters := x.c.plane.deadLetters(""); len(letters) != 0 {
		x.Errorf("dead letters: %+v", letters)
	}
}

// hears waits until a system has taken an order with a token.
func (x *secretsRun) hears(p *parrot, token string) {
	x.Helper()
	until(x.T, "an order is delivered with its token", func() string {
		if !p.took("Bearer " + token) {
			return "nothing yet"
		}
		return ""
	})
}

// TestSecretGoesToItsHostOnly has policy move a system to another host than its secret was
// sealed for: nothing arrives there, not even a connection, the event waits, and everybody who
// asks is told why. Whoever sets the secret anew for that host has it delivered.
func TestSecretGoesToItsHostOnly(t *testing.T) {
	const shop, token, next = "token-of-a-shop", "token-of-the-erp", "token-of-the-other"
	first, other := newParrot(t), newParrot(t)
	first.take()
	other.take()
	home, homeCame := gateTo(t, first)
	elsewhere, came := gateTo(t, other)
	x, approve := newOnlyToRun(t, home, shop)
	x.set("erp/token", token, "--only-to", home)
	x.inUse(1)
	x.sells("k1", shop, http.StatusAccepted)
	x.hears(first, token)
	if homeCame.Load() == 0 {
		t.Error("no connection is counted where an order arrived")
	}

	approve(elsewhere)
	why := fmt.Sprintf("policy sends it to %s, and it is sealed for %s only", elsewhere, home)
	x.eu.awaitStatus("the secret is refused", func(s agent.Status) string {
		if len(s.Secrets) != 1 || !strings.Contains(s.Secrets[0].Refused, why) {
			return fmt.Sprintf("%+v", s.Secrets)
		}
		return ""
	})
	x.sells("k2", shop, http.StatusAccepted)
	x.waitsFor(why)
	if n := came.Load(); n != 0 {
		t.Errorf("%d connections reached the other host", n)
	}

	x.set("erp/token", next, "--only-to", elsewhere)
	x.hears(other, next)
	x.inUse(1)
	if other.took("Bearer "+token) || first.took("Bearer "+next) {
		t.Error("a token was sent to the host of the other")
	}
}
