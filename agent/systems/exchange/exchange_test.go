package exchange

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
)

var now = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

func client(t *testing.T, server *httptest.Server, hosts ...string) (*Client, *url.URL) {
	t.Helper()
	c, err := New(Config{URLs: []string{server.URL}, Hosts: hosts, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return c, u
}

func TestStatusClasses(t *testing.T) {
	status, retry, where := 0, "", ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", retry)
		if where != "" {
			w.Header().Set("Location", where)
		}
		w.WriteHeader(status)
		w.Write([]byte("because\x00\x1b[31m of " + "canary-secret"))
	}))
	defer server.Close()
	c, u := client(t, server, "127.0.0.1")
	for _, x := range []struct {
		status int
		retry  string
		class  systems.Class
		wait   time.Duration
	}{
		{400, "", systems.Rejected, 0}, {404, "", systems.Rejected, 0}, {409, "", systems.Rejected, 0}, {422, "9", systems.Rejected, 0},
		{401, "", systems.Misconfigured, 0}, {403, "", systems.Misconfigured, 0}, {407, "", systems.Misconfigured, 0},
		{301, "", systems.Misconfigured, 0}, {302, "", systems.Misconfigured, 0}, {307, "", systems.Misconfigured, 0},
		{408, "", systems.Unavailable, 0}, {425, "", systems.Unavailable, 0}, {500, "", systems.Unavailable, 0},
		{502, "", systems.Unavailable, 0}, {503, "", systems.Unavailable, 0},
		{429, "", systems.Throttled, 0}, {429, "7", systems.Throttled, 7 * time.Second},
		{503, "7", systems.Throttled, 7 * time.Second},
		{503, "Mon, 04 May 2026 10:01:00 GMT", systems.Throttled, time.Minute},
	} {
		status, retry, where = x.status, x.retry, "http://169.254.169.254/latest?token=canary-secret"
		_, err := c.Do(t.Context(), Request{Method: "POST", URL: u, Effect: true, Secrets: [][]byte{[]byte("canary-secret")}})
		var e *systems.Error
		if !errors.As(err, &e) || e.Class != x.class || e.Status != x.status || e.RetryAfter != x.wait {
			t.Errorf("%d: got %+v, want %v after %v", x.status, err, x.class, x.wait)
			continue
		}
		if want := "because[31m of [secret]"; string(e.Body) != want {
			t.Errorf("%d: got body %q, want %q", x.status, e.Body, want)
		}
		if strings.Contains(err.Error(), "canary") {
			t.Errorf("%d: the error holds a secret: %v", x.status, err)
		}
	}
}

// A system that repeats what it was sent in places other than a body.
func TestEchoedSecretsAreCutOut(t *testing.T) {
	echo := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(echo))
	}))
	defer server.Close()
	c, u := client(t, server, "127.0.0.1")
	for _, text := range []string{
		"canary-secret\r\n\r\n",
		"HTTP/1.1 canary-secret Bad\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: canary-secret\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: canary-secret\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/canary-secret\r\nContent-Length: 0\r\n\r\n",
	} {
		echo = text
		_, err := c.Do(t.Context(), Request{Method: "POST", URL: u, Effect: true, Secrets: [][]byte{[]byte("canary-secret")}})
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), systems.Masked) {
			t.Errorf("%q: %v", text, err)
		}
		var coded *systems.Error
		if !errors.As(err, &coded) {
			t.Errorf("%q: %+v", text, err)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	var inner atomic.Int64
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inner.Add(1) }))
	defer target.Close()
	server := httptest.NewServer(http.RedirectHandler(target.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	c, u := client(t, server, "127.0.0.1")
	_, err := c.Do(t.Context(), Request{Method: "GET", URL: u})
	if systems.ClassOf(err) != systems.Misconfigured || !strings.Contains(err.Error(), "not followed") {
		t.Errorf("got %v", err)
	}
	if inner.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestProxyOfTheEnvironmentIsIgnored(t *testing.T) {
	var proxied, direct atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	defer proxy.Close()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { direct.Add(1) }))
	defer server.Close()
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	c, u := client(t, server, "127.0.0.1")
	if _, err := c.Do(t.Context(), Request{Method: "GET", URL: u}); err != nil {
		t.Fatal(err)
	}
	if c.transport.Proxy != nil || proxied.Load() != 0 || direct.Load() != 1 {
		t.Errorf("%d requests went through the proxy, %d direct", proxied.Load(), direct.Load())
	}
}

func TestGuardAndAnswerLimit(t *testing.T) {
	var count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		count.Add(1)
		w.Write(make([]byte, MaxAnswer+1))
	}))
	defer server.Close()
	c, u := client(t, server)
	if _, err := c.Do(t.Context(), Request{Method: "GET", URL: u}); systems.ClassOf(err) != systems.Misconfigured || count.Load() != 0 {
		t.Errorf("a host that is not named: got %v and %d requests", err, count.Load())
	}
	c, u = client(t, server, "127.0.0.1")
	if _, err := c.Do(t.Context(), Request{Method: "GET", URL: u}); systems.ClassOf(err) != systems.Rejected {
		t.Errorf("an answer over the limit: got %v", err)
	}
	reply, err := c.Do(t.Context(), Request{Method: "GET", URL: u, Partial: true})
	if err != nil || len(reply.Body) > systems.MaxBody {
		t.Errorf("a partial answer: got %d bytes, %v", len(reply.Body), err)
	}
	other, _ := url.Parse("http://127.0.0.1:1/")
	if _, err := c.Do(t.Context(), Request{Method: "GET", URL: other}); systems.ClassOf(err) != systems.Misconfigured {
		t.Errorf("an address that the document does not have: got %v", err)
	}
}

func TestNewRefusesURLs(t *testing.T) {
	for _, text := range []string{"", "erp.test", "ftp://erp.test", "https://user:canary@erp.test", "https://", "http://x/#y", "http://[::1", "unix:///run/x"} {
		_, err := New(Config{URLs: []string{text}})
		if systems.ClassOf(err) != systems.Misconfigured || err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: got %v, want misconfigured", text, err)
		}
	}
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", " 5 ", "-1", "1.5", "99999999999999999999", "Mon, 04 May 2026 10:01:00 GMT", "Monday, 04-May-26 10:01:00 GMT", "Sun Nov  6 08:49:37 1994", "soon"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait, ok := ParseRetryAfter(value, now)
		if wait < 0 || wait > MaxRetryAfter || !ok && wait != 0 {
			t.Errorf("%q: got %v %v", value, wait, ok)
		}
	})
}

// What does not leave the machine needs no encryption.
func TestLoopbackIsNoWarning(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	c, u := client(t, server, "127.0.0.1")
	for _, f := range c.Examine(t.Context(), u) {
		if !f.OK || f.Todo != "" {
			t.Errorf("got %+v", f)
		}
	}
}
