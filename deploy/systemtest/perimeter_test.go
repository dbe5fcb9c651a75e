package systemtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// document writes one policy document.
func document(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: crossdock/v1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n---\n", kind, name, spec)
}

// TestSystemsAreCalledNowhereElse puts targets into policy that an agent must not reach for
// anybody, directly, by a name, and by a redirect of a system that it may call.
func TestSystemsAreCalledNowhereElse(t *testing.T) {
	var inner atomic.Int64
	hidden := httptest.NewUnstartedServer(http.NotFoundHandler())
	hidden.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			inner.Add(1)
		}
	}
	hidden.Start()
	t.Cleanup(hidden.Close)
	_, port, err := net.SplitHostPort(hidden.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	hop := httptest.NewServer(http.RedirectHandler(hidden.URL+"/secret", http.StatusTemporaryRedirect))
	t.Cleanup(hop.Close)
	w := newWorld(t, nil, []string{"hq"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "erp", "hq")} })
	bundle := policyFor([]string{"hq"}, w.systems)
	targets := map[string]struct{ url, hosts, says string }{
		"loopback":  {"http://127.0.0.1:" + port, "", "loopback"},
		"by-a-name": {"http://localhost:" + port, "", "loopback"},
		"mapped":    {"http://[::ffff:127.0.0.1]:" + port, "", "loopback"},
		"metadata":  {"http://169.254.169.254", "169.254.169.254", "metadata"},
		"the-hop":   {hop.URL, "127.0.0.1", "redirect"},
	}
	for name, c := range targets {
		bundle["policy.yaml"] += document("System", name, fmt.Sprintf("{owner: it, site: hq, delivery: {timeout: 5s, breaker: {failures: 100000, pause: 200ms}},"+
			" http: {url: '%s', hosts: [%s], deliver: {path: /events}}}", c.url, c.hosts)) +
			document("Route", "to-"+name, fmt.Sprintf("{owner: it, from: {type: %s}, to: [{system: %s}], retry: {initial: 20ms, max: 50ms, attempts: 2}, onExhausted: skip}",
				orderCaptured, name))
	}
	w.plane.approve(bundle)
	hq := w.sites["hq"]
	hq.start()
	hq.awaitStatus("knows all systems", func(s agent.Status) string {
		if len(s.Systems) < len(targets)+1 {
			return fmt.Sprintf("%d systems", len(s.Systems))
		}
		return ""
	})
	w.shops["hq"].sellAll(t, "order", 1, 1)
	// What the policy may not name waits for the policy, and says why; what the system itself
	// does is a dead letter.
	for name, c := range targets {
		hq.awaitStatus(name+" is refused", func(s agent.Status) string {
			for _, letter := range w.plane.deadLetters("system=" + name) {
				if strings.Contains(letter.Cause+letter.Answer, c.says) {
					return ""
				}
			}
			for _, y := range s.Systems {
				if y.System == name && y.State == "misconfigured" && strings.Contains(y.LastError, c.says) {
					return ""
				}
			}
			return fmt.Sprintf("%+v", s.Systems)
		})
	}
	if n := inner.Load(); n != 0 {
		t.Errorf("%d connections came where none may", n)
	}
	w.awaitTaken("erp", 1)
}

// TestDropFolderEndsAtItsDirectory puts links into a drop folder that lead out of it, and
// files whose names are more than names.
func TestDropFolderEndsAtItsDirectory(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("making links takes a privilege on Windows")
	}
	w := newWorld(t, nil, []string{"hq"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "erp", "hq")} })
	top := t.TempDir()
	folder, shelf, outside := filepath.Join(top, "drop"), filepath.Join(top, "shelf"), filepath.Join(top, "outside")
	write := func(file, text string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "secret.json"), `{"orderId":"secret"}`)
	write(filepath.Join(folder, "honest.json"), `{"orderId":"honest"}`)
	for name, to := range map[string]string{
		"absolute.json": filepath.Join(outside, "secret.json"), "relative.json": "../outside/secret.json", "chain.json": "absolute.json",
	} {
		if err := os.Symlink(to, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(shelf, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(shelf, "out")); err != nil {
		t.Fatal(err)
	}
	bundle := policyFor([]string{"hq"}, w.systems)
	bundle["policy.yaml"] += document("System", "wms", fmt.Sprintf("{owner: it, site: hq, role: shop, publishes: [order.captured],"+
		" file: {directory: '%s', publish: {pattern: '*.json', format: json, type: %s, interval: 100ms}}}", folder, orderCaptured)) +
		document("System", "carrier", fmt.Sprintf("{owner: it, site: hq, delivery: {breaker: {failures: 100000, pause: 200ms}}, file: {directory: '%s', deliver: {folder: out}}}", shelf)) +
		document("Route", "to-carrier", fmt.Sprintf("{owner: it, from: {type: %s, when: '.data.text == \"out\"'}, to: [{system: carrier}], retry: {initial: 20ms, max: 50ms, attempts: 2}, onExhausted: skip}", orderCaptured))
	w.plane.approve(bundle)
	hq := w.sites["hq"]
	hq.start()
	erp := w.systemNamed("erp")
	until(t, "the honest file is delivered", func() string {
		if len(erp.seen(ofKey("honest"))) == 0 {
			return "not yet"
		}
		return ""
	})
	write(filepath.Join(folder, "later.json"), `{"orderId":"later"}`) // after this round all others were looked at
	until(t, "the later file is delivered", func() string {
		if len(erp.seen(ofKey("later"))) == 0 {
			return "not yet"
		}
		return ""
	})
	if err := w.shops["hq"].sell(t.Context(), newOrder("x", "../../../escape", 1, "out")); err != nil {
		t.Fatal(err)
	}
	hq.awaitStatus("the delivery over a link is refused", func(s agent.Status) string {
		for _, y := range s.Systems {
			if y.System == "carrier" && y.LastError != "" {
				return ""
			}
		}
		return fmt.Sprintf("%+v", s.Systems)
	})
	if n := len(erp.seen(ofKey("secret"))); n != 0 {
		t.Errorf("a file outside was read %d times", n)
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 1 {
		t.Errorf("outside there are %v, %v", left, err)
	}
}

// TestExpressionsHaveAnEnd puts expressions in force that want all time and all memory. Who
// sends the event is not kept by that, and the delivery that cannot be decided is not lost.
func TestExpressionsHaveAnEnd(t *testing.T) {
	w := newWorld(t, nil, []string{"hq"}, func(h *history.History) []*system {
		crm := newSystem(t, h, "crm", "hq")
		crm.unrouted = true
		return []*system{newSystem(t, h, "erp", "hq"), crm}
	})
	hq, shop := w.sites["hq"], w.shops["hq"]
	hq.start()
	for i, trap := range []string{`[range(1e9)] | length > 0`, `def f: f; f`, `reduce range(60) as $i ("x"; . + .) | length > 0`, `[recurse(. + 1; . < 1e9)] | length > 0`} {
		bundle := policyFor([]string{"hq"}, w.systems)
		bundle["policy.yaml"] += document("Route", "trap", fmt.Sprintf("{owner: it, from: {type: %s, when: '0 | %s'}, to: [{system: crm}]}", orderCaptured, trap))
		w.plane.approve(bundle)
		hq.awaitRevision(fmt.Sprintf("1.%d", i+2))
		before, id := allocated(), fmt.Sprint("trap-", i)
		if err := shop.sell(t.Context(), newOrder(id, id, i, "")); err != nil {
			t.Errorf("%s: %v", trap, err)
		}
		until(t, "the delivery that could not be decided is a dead letter", func() string {
			letters := w.plane.deadLetters("system=crm")
			for _, letter := range letters {
				if letter.EventID == id && strings.Contains(letter.Cause, "route trap: when") {
					return ""
				}
			}
			return fmt.Sprintf("%+v", letters)
		})
		if grown := allocated() - before; grown > 256<<20 {
			t.Errorf("%s took %d MiB", trap, grown>>20)
		} else if testing.Verbose() {
			t.Logf("%s took %d MiB in all", trap, grown>>20)
		}
	}
	w.awaitTaken("erp", 4)
}

// TestAgentsDoorsAskForTheirToken: what changes or shows events on the agent's own page, and
// what a system may not publish.
func TestAgentsDoorsAskForTheirToken(t *testing.T) {
	w := newWorld(t, nil, []string{"hq"}, func(h *history.History) []*system { return []*system{newSystem(t, h, "erp", "hq")} })
	bundle := policyFor([]string{"hq"}, w.systems)
	bundle["policy.yaml"] += document("Contract", "order.accepted", "{owner: it, authority: erp, key: .orderId, versions: [{version: 1.0.0, state: active, schema: schemas/order.json}]}") +
		document("System", "slow", "{owner: it, site: hq, role: shop, publishes: [order.captured], intake: {token: 'file:slow', rate: 0.001, burst: 1}}")
	w.plane.approve(bundle)
	hq := w.sites["hq"]
	hq.secret("slow", "slow-and-steady")
	hq.start()
	hq.awaitRevision("1.2")
	ask := func(method, path string, header map[string]string, body []byte, address string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range header {
			request.Header.Set(name, value)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	token := "Bearer " + strings.TrimSpace(read(t, filepath.Join(hq.cfg.Data, "ops.token")))
	for _, c := range [][2]string{{"GET", "/v1/queue/export"}, {"GET", "/v1/deadletters"}, {"POST", "/v1/queue/verify"}, {"POST", "/v1/deadletters/retry?id=x"}, {"POST", "/v1/numbers/vouch"}} {
		for _, shown := range []string{"", "Bearer " + shopToken, token + "x", "Basic " + token} {
			if status, text := ask(c[0], c[1], map[string]string{"Authorization": shown}, nil, hq.cfg.Ops.Listen); status != http.StatusUnauthorized {
				t.Errorf("%s with %.12q: %d %.200s", c[1], shown, status, text)
			}
		}
	}
	status, _ := ask("POST", "/v1/deadletters/retry?id=x", map[string]string{"Authorization": token, "Sec-Fetch-Site": "cross-site"}, nil, hq.cfg.Ops.Listen)
	if status != http.StatusForbidden {
		t.Errorf("a retry from another site's page: %d", status)
	}

	event := func(id, kind string, number int) []byte {
		text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": id, "source": "/x", "type": kind, "data": map[string]any{"orderId": "o", "number": number}})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	post := func(what, bearer string, body []byte, want int, code string) {
		t.Helper()
		status, text := ask("POST", "/v1/events", map[string]string{"Authorization": "Bearer " + bearer, "Content-Type": "application/cloudevents+json"}, body, hq.cfg.Intake.Listen)
		var said problem
		if status != want || code != "" && (json.Unmarshal([]byte(text), &said) != nil || said.Code != code) {
			t.Errorf("%s: %d %.300s, want %d %s", what, status, text, want, code)
		}
	}
	post("a contract of another authority", shopToken, event("1", "order.accepted.v1", 1), http.StatusForbidden, "not-publisher")
	post("an order", shopToken, event("2", orderCaptured, 1), http.StatusAccepted, "")
	post("the same id with other data", shopToken, event("2", orderCaptured, 2), http.StatusConflict, "conflict")
	post("the first of a slow system", "slow-and-steady", event("3", orderCaptured, 1), http.StatusAccepted, "")
	post("the second of a slow system", "slow-and-steady", event("4", orderCaptured, 1), http.StatusTooManyRequests, "rate-limited")
	status, text := ask("POST", "/v1/events", map[string]string{"Authorization": "Bearer " + shopToken, "Content-Type": "application/cloudevents+json", "Content-Encoding": "gzip"},
		[]byte("\x1f\x8b"), hq.cfg.Intake.Listen)
	if status != http.StatusUnsupportedMediaType {
		t.Errorf("a compressed body: %d %s", status, text)
	}
}
