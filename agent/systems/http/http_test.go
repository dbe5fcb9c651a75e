package httpdriver

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/systemstest"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

type secrets map[string]string

func (s secrets) Resolve(ref string) ([]byte, error) {
	if value, ok := s[ref]; ok {
		return []byte(value), nil
	}
	return nil, errors.New("there is no " + ref)
}

const canary = "canary-5f1d0c"

func TestAuthorization(t *testing.T) {
	var tokens atomic.Int64
	var old atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := r.Header.Get("Authorization")
		if r.URL.Path == "/token" {
			_, secret, _ := r.BasicAuth()
			if secret != canary {
				http.Error(w, "bad "+secret, http.StatusUnauthorized)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"access_token":"t%d","token_type":"bearer","expires_in":3600}`, tokens.Add(1))
			return
		}
		if old.Load() && got == "Bearer t1" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, got)
	}))
	defer server.Close()
	for _, c := range []struct {
		name string
		auth policy.HTTPAuth
		want string
	}{
		{"none", policy.HTTPAuth{}, ""},
		{"basic", policy.HTTPAuth{Basic: &policy.HTTPBasic{User: "u", Password: "file:p"}}, "Basic [secret]"},
		{"bearer", policy.HTTPAuth{Bearer: "file:p"}, "Bearer [secret]"},
		{"oauth2", policy.HTTPAuth{OAuth2: &policy.OAuth2{TokenURL: server.URL + "/token", ClientID: "c", ClientSecret: "file:p"}}, "Bearer t1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sys := system(t, server.URL)
			sys.HTTP.Auth = c.auth
			d := open(t, sys, systems.Options{Secrets: secrets{"file:p": canary}})
			for range 2 {
				answer, err := d.Deliver(t.Context(), systemstest.NewDelivery("x"))
				if err != nil || string(answer.Body) != c.want {
					t.Errorf("got %q %v, want %q", answer.Body, err, c.want)
				}
			}
			if c.name != "oauth2" {
				return
			}
			if tokens.Load() != 1 {
				t.Errorf("%d tokens were fetched, want one for both calls", tokens.Load())
			}
			old.Store(true)
			if answer, err := d.Deliver(t.Context(), systemstest.NewDelivery("x")); err != nil || string(answer.Body) != "Bearer t2" {
				t.Errorf("after the token was withdrawn: got %q %v, want a new one", answer.Body, err)
			}
		})
	}
}

// Every failure, with a system that repeats whatever it is sent: no secret comes back.
func TestNoSecretInErrorsAndLogs(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, password, _ := r.BasicAuth()
		w.Header().Set("Location", "/x?"+r.Header.Get("Authorization"))
		w.WriteHeader(map[string]int{"/token": 400, "/deliver": 422, "/feed": 500}[r.URL.Path])
		fmt.Fprintf(w, "%s %s %s %s", r.Header, body, password, r.URL)
	}))
	defer server.Close()
	var log bytes.Buffer
	var mu sync.Mutex
	logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	for _, auth := range []policy.HTTPAuth{
		{Basic: &policy.HTTPBasic{User: "u", Password: "file:p"}},
		{Bearer: "file:p"},
		{OAuth2: &policy.OAuth2{TokenURL: server.URL + "/token", ClientID: "c", ClientSecret: "file:p"}},
		{Bearer: "file:broken"},
		{MTLS: &policy.MTLS{Certificate: "file:p", Key: "file:p"}},
	} {
		sys := system(t, server.URL)
		sys.HTTP.Auth = auth
		d := open(t, sys, systems.Options{Logger: logger, Secrets: secrets{"file:p": canary, "file:broken": canary + "\n" + canary}})
		var texts []string
		note := func(err error) {
			var e *systems.Error
			if errors.As(err, &e) {
				texts = append(texts, string(e.Body), e.Error(), fmt.Sprintf("%+v", *e))
			}
		}
		_, err := d.Deliver(t.Context(), systemstest.NewDelivery("x"))
		note(err)
		if err == nil && auth.MTLS == nil {
			t.Error("the delivery did not fail")
		}
		_, err = d.Query(t.Context(), "order", map[string]string{"id": "1", "lang": "x"})
		note(err)
		note(d.Check(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Publish(ctx, nil) }()
		for {
			mu.Lock()
			logged := strings.Contains(log.String(), "poll failed")
			mu.Unlock()
			if logged {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		<-done
		mu.Lock()
		texts = append(texts, log.String())
		log.Reset()
		mu.Unlock()
		for _, text := range texts {
			if strings.Contains(text, canary) || strings.Contains(text, "dTpjYW5hcnk") {
				t.Errorf("%+v: a secret in %q", auth, text)
			}
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// authority makes certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func certificate(t *testing.T, name string, from *authority) (*authority, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: from == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if from != nil {
		parent, signer = from.cert, from.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return &authority{cert, key, encode("CERTIFICATE", der)}, encode("PRIVATE KEY", keyDER)
}

func TestTLS(t *testing.T) {
	ca, _ := certificate(t, "ca", nil)
	other, _ := certificate(t, "other", nil)
	leaf, leafKey := certificate(t, "erp", ca)
	mine, mineKey := certificate(t, "agent", ca)
	foreign, foreignKey := certificate(t, "agent", other)
	pair, err := tls.X509KeyPair([]byte(leaf.pem), []byte(leafKey))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	var served atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	defer server.Close()
	have := secrets{
		"file:ca": ca.pem, "file:other": other.pem, "file:cert": mine.pem, "file:key": mineKey,
		"file:foreign": foreign.pem, "file:foreignkey": foreignKey, "file:junk": "junk",
	}
	for _, c := range []struct {
		name, ca string
		mtls     *policy.MTLS
		ok       bool
	}{
		{"both trust", "file:ca", &policy.MTLS{Certificate: "file:cert", Key: "file:key"}, true},
		{"no private authority", "", &policy.MTLS{Certificate: "file:cert", Key: "file:key"}, false},
		{"another authority", "file:other", &policy.MTLS{Certificate: "file:cert", Key: "file:key"}, false},
		{"no client certificate", "file:ca", nil, false},
		{"foreign client certificate", "file:ca", &policy.MTLS{Certificate: "file:foreign", Key: "file:foreignkey"}, false},
		{"key of another", "file:ca", &policy.MTLS{Certificate: "file:cert", Key: "file:foreignkey"}, false},
		{"junk authority", "file:junk", nil, false},
		{"missing authority", "file:none", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := served.Load()
			sys := system(t, server.URL)
			sys.HTTP.CA, sys.HTTP.Auth.MTLS = c.ca, c.mtls
			d := open(t, sys, systems.Options{Secrets: have})
			_, err := d.Deliver(t.Context(), systemstest.NewDelivery("x"))
			if c.ok != (err == nil) || err != nil && systems.ClassOf(err) != systems.Misconfigured {
				t.Errorf("got %v, want ok %v or misconfigured", err, c.ok)
			}
			if !c.ok && served.Load() != before {
				t.Error("a request was served")
			}
			if findings := d.Examine(t.Context()); c.ok {
				last := findings[len(findings)-1]
				if !last.OK || !strings.Contains(last.Seen, "valid for 29 more days") {
					t.Errorf("got %+v", last)
				}
			}
		})
	}
}

func TestEnvelopes(t *testing.T) {
	del := systemstest.NewDelivery("x")
	del.Event.Subject = "Ünï \"50%\""
	del.Event.DataSchema = "crossdock:order.captured/1.0.0"
	del.Event.Extensions = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "region": "eu"}
	del.Data, del.Shadow = []byte(`{"mapped":true}`), true
	for _, envelope := range []string{"structured", "binary", "data"} {
		t.Run(envelope, func(t *testing.T) {
			foreign := systemstest.NewHTTP(t)
			sys := system(t, foreign.URL())
			sys.HTTP.Deliver = &policy.HTTPCall{Method: "PUT", Path: "deliver", Envelope: envelope}
			if _, err := open(t, sys, systems.Options{}).Deliver(t.Context(), del); err != nil {
				t.Fatal(err)
			}
			request, effect := foreign.Requests()[0], foreign.Effects()[0]
			want := map[string]string{
				"Idempotency-Key": "idem-x", "Crossdock-Key": "order-x", "Crossdock-Route": "test", "Crossdock-Attempt": "1",
				"Crossdock-Shadow": "true", "Traceparent": del.Event.Extensions["traceparent"], "Content-Type": "application/json",
			}
			body := effect.Body
			switch envelope {
			case "structured":
				want["Content-Type"] = "application/cloudevents+json; charset=utf-8"
				got, err := event.Unmarshal([]byte(effect.Body))
				if err != nil || got.Subject != del.Event.Subject || got.DataSchema != "" {
					t.Fatalf("got %+v %v", got, err)
				}
				body = string(got.Data)
			case "binary":
				want["Ce-Specversion"], want["Ce-Id"], want["Ce-Source"], want["Ce-Region"] = "1.0", "x", "test", "eu"
				want["Ce-Type"], want["Ce-Time"], want["Ce-Dataschema"] = "order.captured.v1", "2026-05-04T10:00:00Z", ""
				want["Ce-Subject"] = "%C3%9Cn%C3%AF%20%2250%25%22"
			}
			for name, value := range want {
				if got := request.Header.Get(name); got != value {
					t.Errorf("%s: got %q, want %q", name, got, value)
				}
			}
			if body != string(del.Data) || request.Method != "PUT" {
				t.Errorf("got %s %s", request.Method, body)
			}
		})
	}
}

func TestQueryTemplate(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	d := open(t, system(t, foreign.URL()), systems.Options{})
	for _, c := range []struct {
		args map[string]string
		want string // path and query; empty: refused
	}{
		{map[string]string{"id": "A 1/ä?#", "lang": "a&b=c d"}, `{"path":"/orders/A%201%2F%C3%A4%3F%23","query":"lang=a%26b%3Dc+d"}`},
		{map[string]string{"id": "{lang}", "lang": ""}, `{"path":"/orders/%7Blang%7D","query":"lang="}`},
		{map[string]string{"id": "..", "lang": "x"}, ""},
		{map[string]string{"id": "", "lang": "x"}, ""},
		{map[string]string{"id": "a/../../admin", "lang": "x"}, ""},
		{map[string]string{"id": "1"}, ""},
		{map[string]string{"id": "1", "lang": "x", "more": "y"}, ""},
	} {
		before := len(foreign.Requests())
		got, err := d.Query(t.Context(), "order", c.args)
		if string(got) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%v: got %s %v, want %s", c.args, got, err, c.want)
		}
		if c.want == "" && len(foreign.Requests()) != before {
			t.Errorf("%v: a request was made", c.args)
		}
	}
}

func TestSnapshotRefusesStrangePages(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for name, page := range map[string]string{
		"elsewhere": `{"items":[1],"next":"` + other.URL + `/records"}`, "metadata": `{"items":[1],"next":"http://169.254.169.254/"}`,
		"other scheme": `{"items":[],"next":"file:///etc/passwd"}`, "scheme only": `{"items":[],"next":"//other.test/"}`,
		"loop": `{"items":[],"next":"/records"}`, "number": `{"items":[],"next":5}`, "no array": `{"items":{}}`, "nothing": `{}`,
		"list": `[1]`, "cut": `{"items":[1`, "html": `<html>`, "deep": `{"items":[` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `]}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) }))
		err := open(t, system(t, server.URL), systems.Options{}).Snapshot(t.Context(), "inventory", func(json.RawMessage) error { return nil })
		if systems.ClassOf(err) != systems.Rejected {
			t.Errorf("%s: got %v, want rejected", name, err)
		}
		server.Close()
	}
	if elsewhere.Load() != 0 {
		t.Error("a page of another host was read")
	}
}

func TestSnapshotKeepsNumbersExactAndTakesExpressions(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"d":{"rows":[{"price":12.10,"big":12345678901234567890.5}]}}`)
	}))
	defer server.Close()
	for _, items := range []string{".d.rows", ".d | .rows"} {
		sys := system(t, server.URL)
		sys.HTTP.Snapshot["inventory"] = policy.HTTPPage{Path: "/x", Items: compile(t, items)}
		var got []string
		err := open(t, sys, systems.Options{}).Snapshot(t.Context(), "inventory", func(r json.RawMessage) error {
			got = append(got, string(r))
			return nil
		})
		if err != nil || len(got) != 1 || !strings.Contains(got[0], "12.10") || !strings.Contains(got[0], "12345678901234567890.5") {
			t.Errorf("%s: got %v %v", items, got, err)
		}
	}
}

type forGood struct{}

func (forGood) Error() string   { return "unknown contract" }
func (forGood) Permanent() bool { return true }

// One event that is none, and one that the journal never takes, do not hold up the others.
func TestFeedSetsRefusedEventsAside(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	foreign.Offer(t, 1)
	foreign.OfferRaw(`{"specversion":"0.3","id":"old"}`)
	foreign.Offer(t, 2)
	d := open(t, system(t, foreign.URL()), systems.Options{})
	var mu sync.Mutex
	taken := map[string]bool{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- d.Publish(ctx, func(_ context.Context, events []*event.Event) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				if e.ID == "e2" {
					return forGood{}
				}
			}
			for _, e := range events {
				taken[e.ID] = true
			}
			return nil
		})
	}()
	for foreign.Unconfirmed(t) > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if len(taken) != 2 || !taken["e1"] || !taken["e3"] || foreign.Unconfirmed(t) != 0 {
		t.Errorf("took %v, %d are left", taken, foreign.Unconfirmed(t))
	}
}

func TestGuardStandsBeforeEveryOperation(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	sys := system(t, foreign.URL())
	sys.HTTP.Hosts = nil
	d := open(t, sys, systems.Options{})
	_, err := d.Deliver(t.Context(), systemstest.NewDelivery("x"))
	_, err2 := d.Query(t.Context(), "order", map[string]string{"id": "1", "lang": "x"})
	_, err3 := d.Command(t.Context(), "reserve", "k", nil)
	err4 := d.Snapshot(t.Context(), "inventory", nil)
	for _, err := range []error{err, err2, err3, err4, d.Check(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "hosts") {
			t.Errorf("got %v, want a refusal that says what to do", err)
		}
	}
	if n := len(foreign.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, change := range map[string]func(*policy.HTTPDriver){
		"no url":        func(h *policy.HTTPDriver) { h.URL = "" },
		"user in url":   func(h *policy.HTTPDriver) { h.URL = "https://u:p@erp.test" },
		"full path":     func(h *policy.HTTPDriver) { h.Deliver.Path = "https://evil.test/x" },
		"host path":     func(h *policy.HTTPDriver) { h.Deliver.Path = "//evil.test/x" },
		"climbing path": func(h *policy.HTTPDriver) { h.Deliver.Path = "/a/%2e%2e/b" },
		"brace":         func(h *policy.HTTPDriver) { h.Query["order"] = policy.HTTPCall{Path: "/x/{id"} },
		"envelope":      func(h *policy.HTTPDriver) { h.Deliver.Envelope = "xml" },
		"token url":     func(h *policy.HTTPDriver) { h.Auth.OAuth2 = &policy.OAuth2{TokenURL: "ftp://x"} },
	} {
		sys := system(t, "https://erp.test")
		change(sys.HTTP)
		if _, err := New(sys, systems.Options{}); systems.ClassOf(err) != systems.Misconfigured || err == nil {
			t.Errorf("%s: got %v, want misconfigured", name, err)
		}
	}
}

func FuzzFeed(f *testing.F) {
	for _, seed := range []string{`[]`, `[{"specversion":"1.0","id":"1","source":"s","type":"t"}]`, `[1,null,"x"]`, `{}`, `[`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		events, _, err := readFeed(text)
		if err != nil && len(events) > 0 {
			t.Fatal("events beside an error")
		}
		for _, e := range events {
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzFill(f *testing.F) {
	f.Add("/orders/{id}?x={id}", "a/../b")
	f.Fuzz(func(t *testing.T, template, value string) {
		filled, err := fill(template, map[string]string{"id": value})
		if err != nil {
			return
		}
		if strings.Count(filled, "/") != strings.Count(placeholder.ReplaceAllString(template, ""), "/") {
			t.Fatalf("%q in %q added a segment: %q", value, template, filled)
		}
	})
}

// FuzzPage: a system may answer anything when it is asked for its records. What is taken is
// JSON, and the next page is at the system's own host.
func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"items":[{"a":1.10},2],"next":"/p?2"}`), "items")
	f.Add([]byte(`{"a":{"items":null,"next":"http://evil.test/"}}`), "a.items")
	f.Add([]byte(`{"items":[],"next":"http://erp.test/"}`), "items")
	f.Add([]byte(`[1]`), "")
	next, err := expr.Compile(".next?")
	if err != nil {
		f.Fatal(err)
	}
	base, err := url.Parse("https://erp.test/records")
	if err != nil {
		f.Fatal(err)
	}
	d := &Driver{base: base}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		items, err := expr.Compile("." + path)
		if err != nil || !plainPath.MatchString(items.Source()) && items.Source() != "." {
			return
		}
		records, after, err := readPage(t.Context(), text, items, next)
		if err != nil {
			return
		}
		for _, r := range records {
			if err := event.CheckJSON(r); err != nil {
				t.Fatalf("%q in %q: %v", r, text, err)
			}
		}
		if u, err := d.nextPage(base, after); err == nil && u != nil && (u.Host != base.Host || u.Scheme != base.Scheme || u.User != nil) {
			t.Fatalf("%q leads to %s", after, u)
		}
	})
}
