package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
)

// wire is an agent as its node sees it: calls of the sync protocol in Connect's JSON form,
// written by hand, because the generated types stay at the two ends of the wire.
type wire struct {
	t    *testing.T
	base string
	http *http.Client
}

// enrol joins as an agent would, with the token that the command showed.
func (n *node) enrol(site string) *wire {
	n.t.Helper()
	token, _ := n.run(0, "token", "create", "--site", site)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		n.t.Fatal(err)
	}
	authority, err := os.ReadFile(controlplane.FilesIn(n.config.Data).Authority)
	if err != nil {
		n.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	settings := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	w := &wire{t: n.t, base: "https://" + n.plane.Addresses().Sync + "/crossdock.sync.v1.Sync/"}
	w.http = &http.Client{Transport: &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}}
	var answer struct{ Certificates [][]byte }
	if err := w.call("Enroll", map[string]any{"token": strings.TrimSpace(token), "certificateRequest": request}, &answer); err != nil {
		n.t.Fatalf("enrol at %s: %v", site, err)
	}
	w.http.CloseIdleConnections()
	settings = settings.Clone()
	settings.Certificates = []tls.Certificate{{Certificate: answer.Certificates, PrivateKey: key}}
	w.http = &http.Client{Transport: &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}}
	n.t.Cleanup(w.http.CloseIdleConnections)
	return w
}

func (w *wire) post(name, media string, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.base+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", media)
	r.Header.Set("Connect-Protocol-Version", "1")
	return w.http.Do(r)
}

func (w *wire) call(name string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := w.post(name, "application/json", body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s %w", name, answer.Status, text, err)
	}
	return json.Unmarshal(text, out)
}

// answerTraces pulls as the agent does and answers every trace with one text, until its
// stream ends.
func (w *wire) answerTraces(text string) (ended <-chan struct{}) {
	w.t.Helper()
	answer, err := w.post("Pull", "application/connect+json", []byte("\x00\x00\x00\x00\x02{}"))
	if err != nil {
		w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer answer.Body.Close()
		for {
			var head [5]byte // flags, length
			if _, err := io.ReadFull(answer.Body, head[:]); err != nil {
				return
			}
			frame := make([]byte, binary.BigEndian.Uint32(head[1:]))
			var item struct{ Command struct{ ID, Kind string } }
			if _, err := io.ReadFull(answer.Body, frame); err != nil || head[0] != 0 || json.Unmarshal(frame, &item) != nil {
				return
			}
			if item.Command.Kind != "trace" {
				continue
			}
			err := w.call("Ack", map[string]any{
				"answers": []any{map[string]any{"id": item.Command.ID, "result": []byte(text)}},
				"status":  []byte(`{"version":"1.2.3","transport":"tcp","delivered":42}`),
			}, &struct{}{})
			if err != nil {
				return
			}
		}
	}()
	return done
}

// until repeats a look until it finds what it waits for.
func until(t *testing.T, what string, look func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !look(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func TestAgentJoinsIsTracedAndRevoked(t *testing.T) {
	n := startNode(t, testConfig(t, "single"))
	eu := n.enrol("eu")
	n.enrol("na") // enrolled, never connected
	ended := eu.answerTraces(`{"now":"2026-05-04T10:00:00.000Z","hops":[
		{"event":"e1","type":"order.captured.v1","key":"10248","hop":"received","peer":"na","at":"2026-05-04T09:00:00.002Z"},
		{"event":"e1","hop":"dead","system":"erp","route":"orders","at":"2026-05-04T09:00:01.000Z","attempts":3,"status":422,
		 "detail":"no \u001b[31mcustomer"}]}`)
	var agent api.Agent
	until(t, "the agent's stream", func() bool {
		n.json(&agent, "agents", "show", "eu")
		return agent.Connected
	})

	var trace api.Trace
	n.json(&trace, "events", "trace", "10248")
	if len(trace.Hops) != 2 || trace.Hops[1].Hop != "dead" || trace.Hops[0].Agent != "eu" || trace.Complete {
		t.Errorf("trace = %+v", trace)
	}
	out, said := n.run(0, "events", "trace", "10248")
	if !strings.Contains(out, "from na") || !strings.Contains(out, "erp by orders") || strings.Contains(out, "\x1b") {
		t.Errorf("trace shows %q", out)
	}
	if !strings.Contains(said, "missing: na") {
		t.Errorf("the absent agent is not named: %q", said)
	}
	until(t, "the agent's status", func() bool {
		out, _ := n.run(0, "status")
		return strings.Contains(out, "42")
	})

	n.run(0, "agents", "revoke", "eu")
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("a revoked agent's stream stays open")
	}
	if out, _ := n.run(0, "agents"); !strings.Contains(out, "revoked") {
		t.Errorf("agents = %s", out)
	}
	if err := eu.call("Hello", map[string]any{"protocol": 1}, &struct{}{}); err == nil {
		t.Error("a revoked agent may still speak")
	}
}
