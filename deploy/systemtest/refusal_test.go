package systemtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// refusalWorld has two honest sites that trade all the time, and a third whose certificate
// is in the wrong hands.
func refusalWorld(t *testing.T) (*world, *rogue) {
	w := newWorld(t, nil, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq"), newSystem(t, h, "store", "na")}
	})
	for _, y := range w.systems[1:] {
		y.from = []string{"na"} // so that nothing waits for the agent that never comes
	}
	w.plane.approve(policyFor([]string{"eu", "hq", "na"}, w.systems))
	delete(w.shops, "na")
	w.sites["eu"].start()
	w.sites["hq"].start()
	return w, newRogue(w.sites["na"])
}

// wantCode checks how a call was refused, and that the error says what it should.
func wantCode(t *testing.T, what string, err error, code connect.Code, words ...string) {
	t.Helper()
	if connect.CodeOf(err) != code || err == nil {
		t.Errorf("%s: %v, want code %v", what, err, code)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q does not say %q", what, err, word)
		}
	}
}

// counted checks that a metric went up while something was done.
func (w *world) counted(what string, do func(), parts ...string) {
	w.t.Helper()
	before := w.plane.metric(parts...)
	do()
	if after := w.plane.metric(parts...); after <= before {
		w.t.Errorf("%s is not counted: %v stays at %v", what, parts, after)
	}
}

const (
	gatewayRefused   = "crossdock_gateway_refused_calls_total"
	transportRefused = "crossdock_transport_refused_calls_total"
	enrolments       = "crossdock_gateway_enrolments_total"
)

func TestNobodySpeaksForAnother(t *testing.T) {
	w, r := refusalWorld(t)
	stop := w.trade(2)
	defer stop()
	s := r.mustSession(transport.QUIC)
	w.counted("another site's lane", func() {
		_, err := r.push(s, r.id.Epoch(), r.block("eu", 1, 1, "hq"))
		wantCode(t, "another site's lane", err, connect.CodePermissionDenied, `"eu"`, "na")
	}, gatewayRefused, `"origin"`)
	w.counted("another epoch", func() {
		_, err := r.push(s, r.id.Epoch()+1, r.block("na", r.id.Epoch()+1, 1, "hq"))
		wantCode(t, "another epoch", err, connect.CodePermissionDenied, "epoch")
	}, gatewayRefused, `"epoch"`)
	if lanes, err := r.push(s, r.id.Epoch(), r.block("na", r.id.Epoch(), 1, "nowhere")); err != nil || lanes["nowhere"].GetRefused() == "" {
		t.Errorf("a destination that does not exist: %v, %v", lanes, err)
	}
	for _, c := range []struct {
		name, cause string
		conf        *tls.Config
	}{
		{"no certificate", "no_certificate", r.stranger()},
		{"a certificate of another authority for this site", "foreign_authority", r.foreign("na")},
		{"a certificate of another authority for another site", "foreign_authority", r.foreign("eu")},
	} {
		for _, mode := range []transport.Mode{transport.QUIC, transport.TCP} {
			w.counted(c.name, func() {
				_, err := r.session(c.conf, mode)
				wantCode(t, c.name+" by "+string(mode), err, connect.CodeUnauthenticated, "enrol")
			}, transportRefused, c.cause)
		}
	}
	stop()
	w.settle(0)
	// In its own lane it may say what it likes of an order: nobody believes it.
	var active struct{ Number uint64 }
	w.plane.must("GET", "/revisions/active", nil, &active)
	r.revision = active.Number
	lies := []struct{ key, system, contract, cause string }{
		{"forged", "shop-eu", orderCaptured, "agent na sent it as an event of system shop-eu"},
		{"of-nobody", "", orderCaptured, "as an event of no system"},
		{"of-a-stranger", "shop-xx", orderCaptured, "no revision held here had that system"},
		{"not-its-contract", "shop-na", "stock.counted.v1", "let that system publish stock.counted.v1"},
	}
	for i, lie := range lies {
		order := r.blockAs(lie.system, lie.contract, lie.key, "na", r.id.Epoch(), uint64(i+1), "hq")
		if lanes, err := r.push(s, r.id.Epoch(), order); err != nil || lanes["hq"].GetHighwater() != uint64(i+1) {
			t.Errorf("%s: %v, %v", lie.key, lanes, err)
		}
	}
	until(t, "the forged orders are dead letters", func() string {
		letters := w.plane.deadLetters("system=erp")
		for _, lie := range lies {
			if !slices.ContainsFunc(letters, func(l deadLetter) bool { return l.Key == lie.key && strings.Contains(l.Cause, lie.cause) }) {
				return fmt.Sprintf("%s: %+v", lie.key, letters)
			}
		}
		return ""
	})
	for _, lie := range lies {
		if n := w.systemNamed("erp").seen(ofKey(lie.key)); len(n) > 0 {
			t.Errorf("erp got %d orders %s", len(n), lie.key)
		}
	}
}

func TestRevokedAgentIsPutOut(t *testing.T) {
	w, r := refusalWorld(t)
	stop := w.trade(2)
	defer stop()
	s := r.mustSession(transport.QUIC)
	stream, err := s.Client.Pull(t.Context(), connect.NewRequest(&syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for stream.Receive() {
			continue
		}
	}()
	until(t, "the session lives", func() string {
		if !w.plane.agent("na").Connected {
			return "not connected"
		}
		return ""
	})
	w.plane.must("POST", "/agents/na/revoke", nil, nil)
	if !comes(ended) {
		t.Fatal("the stream of a revoked agent stays open")
	}
	w.counted("a call in the old session", func() {
		_, err := r.push(s, r.id.Epoch(), r.block("na", r.id.Epoch(), 1, "hq"))
		wantCode(t, "a call in the old session", err, connect.CodePermissionDenied, "revoked")
	}, "refused_calls_total", `"revoked"`)
	w.counted("a new session", func() {
		if _, err := r.session(r.id.TLS(), transport.TCP); !errors.Is(err, transport.ErrRefused) {
			t.Errorf("a new session: %v, want %v", err, transport.ErrRefused)
		}
	}, "refused_calls_total", `"revoked"`)
	if w.plane.agent("na").Revoked == nil {
		t.Error("the agent is not shown as revoked")
	}

	// The real agent with this identity says why it is alone, and works on for its site.
	na := w.sites["na"]
	a, err := agent.New(na.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- a.Run(ctx) }()
	na.awaitStatus("knows that it is revoked", func(s agent.Status) string {
		if s.Link.Connected || !strings.Contains(s.Link.LastError, "revoked") {
			return fmt.Sprintf("%+v", s.Link)
		}
		return ""
	})
	cancel()
	if err := <-over; err != nil {
		t.Error(err)
	}
	// A new join token brings the site back.
	na.enrol(w.plane.joinToken("na", ""))
	na.start()
	na.awaitLink("quic")
	stop()
	w.settle(0)
}

func TestJoinTokenWorksOnceAndInTime(t *testing.T) {
	w, _ := refusalWorld(t)
	stop := w.trade(1)
	defer stop()
	enrol := func(text string) error {
		token, err := transport.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		s := bareSite(t, "na", t.TempDir())
		s.cfg.ControlPlane.Addresses = w.sites["na"].cfg.ControlPlane.Addresses
		_, err = agent.Enroll(t.Context(), s.cfg, text, token.CAHash)
		return err
	}
	used := w.plane.joinToken("na", "")
	if err := enrol(used); err != nil {
		t.Fatal(err)
	}
	w.counted("a used token", func() {
		wantCode(t, "a used token", enrol(used), connect.CodePermissionDenied, "used", "new one")
	}, enrolments, "permission_denied")
	w.counted("an expired token", func() {
		wantCode(t, "an expired token", enrol(w.plane.joinToken("na", "1ns")), connect.CodePermissionDenied, "expired", "new one")
	}, enrolments, "permission_denied")
	w.counted("an unknown token", func() {
		token, err := transport.ParseToken(used)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, "an unknown token", enrol(transport.NewToken(token.CAHash).String()), connect.CodeUnauthenticated, "not known")
	}, enrolments, "unauthenticated")
	foreign := transport.NewToken([32]byte{1})
	if err := enrol(foreign.String()); !errors.Is(err, transport.ErrForeignIssuer) {
		t.Errorf("a token of another cluster: %v, want %v", err, transport.ErrForeignIssuer)
	}
	var tokens struct{ Items []struct{ Refused int } }
	w.plane.must("GET", "/tokens", nil, &tokens)
	refused := 0
	for _, one := range tokens.Items {
		refused += one.Refused
	}
	if refused != 2 {
		t.Errorf("%d attempts stand at the tokens, want 2", refused)
	}
	stop()
	w.settle(0)
}

func TestBrokenFramesHarmNobody(t *testing.T) {
	w, r := refusalWorld(t)
	stop := w.trade(2)
	defer stop()
	garbage(t, w.plane.addresses.Sync, r)
	s := r.mustSession(transport.TCP)
	good := r.block("na", r.id.Epoch(), 1, "hq")
	for name, text := range map[string][]byte{
		"no block at all": []byte("hello"), "a cut block": good[:len(good)-1], "an empty one": {},
		"a flipped bit": func() []byte { b := bytes.Clone(good); b[len(b)/2] ^= 1; return b }(),
	} {
		w.counted(name, func() {
			_, err := r.push(s, r.id.Epoch(), text)
			wantCode(t, name, err, connect.CodeInvalidArgument, "corrupt")
		}, gatewayRefused, `"corrupt"`)
	}
	large := &syncpb.PushRequest{Epoch: r.id.Epoch(), Blocks: [][]byte{make([]byte, transport.MaxMessage+1)}}
	_, err := r.bareClient(r.id.TLS()).Push(t.Context(), connect.NewRequest(large))
	wantCode(t, "an oversized message", err, connect.CodeResourceExhausted)
	_, err = r.bareClient(r.stranger()).Enroll(t.Context(), connect.NewRequest(&syncpb.EnrollRequest{Token: strings.Repeat("x", 1<<20)}))
	wantCode(t, "an oversized enrolment", err, connect.CodeResourceExhausted)

	// Bombs with good checksums: the relay does not open what is for agents, the destination
	// does; the control plane opens what is for itself.
	hq, control := bomb(t, good), bomb(t, r.block("na", r.id.Epoch(), 1, block.Control))
	before := allocated()
	lanes, err := r.push(s, r.id.Epoch(), hq, control)
	if err != nil || lanes["hq"].GetHighwater() != 1 || lanes[block.Control].GetHighwater() != 1 {
		t.Errorf("push of the bombs: %v, %v", lanes, err)
	}
	until(t, "the bomb at hq is a dead letter", func() string {
		letters := w.plane.deadLetters("system=erp")
		if len(letters) != 1 || !strings.Contains(letters[0].Cause, "corrupt") {
			return fmt.Sprintf("%+v", letters)
		}
		return ""
	})
	type exception struct{ Agent, Kind string }
	until(t, "the bomb at the control plane is an exception", func() string {
		var list struct{ Items []exception }
		w.plane.must("GET", "/exceptions", nil, &list)
		if !slices.Contains(list.Items, exception{"na", "malformed-fact"}) {
			return fmt.Sprintf("%+v", list.Items)
		}
		return ""
	})
	if grown := allocated() - before; grown > bombSize/2 {
		t.Errorf("the bombs made all of this process take %d MiB", grown>>20)
	}
	if n := w.plane.metric("crossdock_transport_panics_total"); n != 0 {
		t.Errorf("%v calls panicked", n)
	}
	w.sites["hq"].damage = 1
	stop()
	w.settle(0)
}

// allocated is what this process has ever taken from its heap.
func allocated() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.TotalAlloc
}

// garbage throws what no protocol knows at the sync port.
func garbage(t *testing.T, address string, r *rogue) {
	t.Helper()
	udp, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	junk := make([]byte, 1400)
	for i := range 300 {
		_, _ = rand.Read(junk) // never fails
		if i%2 == 0 {
			junk[0] |= 0xc0 // the long header of QUIC's first packets
		}
		_, _ = udp.Write(junk[:1+i*4]) // a full buffer loses it
	}
	frame := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0) // settings of 16 MiB
	for name, dial := range map[string]func() (net.Conn, error){
		"bytes that are no TLS": func() (net.Conn, error) { return net.Dial("tcp", address) },
		"a frame of 16 MiB": func() (net.Conn, error) {
			conf := r.id.TLS()
			conf.NextProtos, conf.ServerName = []string{"h2"}, "127.0.0.1"
			return tls.Dial("tcp", address, conf)
		},
	} {
		c, err := dial()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := c.Write(append(frame, junk...)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection stays open", name)
		}
		c.Close()
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestIntakeRefusesWhatIsNoOrder(t *testing.T) {
	w, _ := refusalWorld(t)
	stop := w.trade(2)
	defer stop()
	envelope := func(typ, data string) []byte {
		text, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "x", "source": "/x", "type": typ, "data": json.RawMessage("0")})
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Replace(text, []byte(`"data":0`), []byte(`"data":`+data), 1)
	}
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	deepObject := strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000)
	for _, c := range []struct {
		name   string
		body   []byte
		status int
		code   string
	}{
		{"arrays nested 10,000 deep", envelope(orderCaptured, deep), 400, "too-deep"},
		{"objects nested 10,000 deep", envelope(orderCaptured, deepObject), 400, "too-deep"},
		{"an envelope nested 10,000 deep", []byte(deep), 400, "too-deep"},
		{"no JSON", []byte("{"), 400, "invalid-event"},
		{"an unknown contract", envelope("order.imagined.v1", "{}"), 422, "unknown-contract"},
		{"an unknown major version", envelope("order.captured.v9", "{}"), 422, "unknown-contract"},
		{"a retired contract", envelope("order.legacy.v1", `{"orderId":"1"}`), 410, "retired-contract"},
		{"data that breaks the contract", envelope(orderCaptured, `{"orderId":1}`), 422, "invalid-data"},
		{"an event of 8 MiB", envelope(orderCaptured, `"`+strings.Repeat("x", 8<<20)+`"`), 413, "too-large"},
	} {
		before := scrape(t, w.sites["eu"].cfg.Ops.Listen, "crossdock_intake_refused_requests_total", `"`+c.code+`"`)
		status, answer, err := w.shops["eu"].send("application/cloudevents+json", c.body)
		var p problem
		if err != nil || status != c.status || json.Unmarshal(answer, &p) != nil || p.Code != c.code || p.Status != c.status || p.Title == "" {
			t.Errorf("%s: %d %.300s (%v), want %d %s", c.name, status, answer, err, c.status, c.code)
		}
		after := scrape(t, w.sites["eu"].cfg.Ops.Listen, "crossdock_intake_refused_requests_total", `"`+c.code+`"`)
		if after != before+1 {
			t.Errorf("%s: counted %v, then %v", c.name, before, after)
		}
	}
	w.refuseStrangers()
	stop()
	w.settle(0)
}

// refuseStrangers: without the token of a system nothing is read, however many ask.
func (w *world) refuseStrangers() {
	w.t.Helper()
	var all sync.WaitGroup
	for _, token := range []string{"", "Bearer wrong", "Basic c2hvcDpzaG9w", "Bearer " + shopToken + "x"} {
		all.Go(func() {
			request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost,
				"http://"+w.sites["eu"].cfg.Intake.Listen+"/v1/events", strings.NewReader("{}"))
			if err != nil {
				w.t.Error(err)
				return
			}
			request.Header.Set("Authorization", token)
			answer, err := http.DefaultClient.Do(request)
			if err != nil {
				w.t.Error(err)
				return
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized {
				w.t.Errorf("%q gives %s", token, answer.Status)
			}
		})
	}
	all.Wait()
}
