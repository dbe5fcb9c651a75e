package httpcall

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

var way = Way{Connect: 10 * time.Second}

func request(t *testing.T, method, to string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, to, strings.NewReader("order"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Idempotency-Key"] = []string{} // the transport may repeat it, where it would
	return r
}

// host serves and counts; its connections are counted too.
type host struct {
	*httptest.Server
	calls, connections atomic.Int64
}

func serve(t *testing.T, tls bool, answer http.HandlerFunc) *host {
	h := &host{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.calls.Add(1)
		_, _ = io.ReadAll(r.Body)
		answer(w, r)
	}))
	h.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			h.connections.Add(1)
		}
	}
	if h.EnableHTTP2 = tls; tls {
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(h.Close)
	return h
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// What buys is sent once and by a connection of its own; what asks takes another connection when
// the one that idled breaks.
func TestWhatBuysIsSentOnce(t *testing.T) {
	for name, c := range map[string]struct {
		via                *http.Client
		calls, connections int64
	}{"buying": {way.Buying(), 2, 2}, "asking": {way.Asking(), 3, 2}} {
		var breaks atomic.Bool
		h := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
			if breaks.Load() {
				cut(w, r)
			}
		})
		if a, sent, err := Do(c.via, request(t, http.MethodPost, h.URL), 10); err != nil || !sent || a.Status != http.StatusOK {
			t.Fatalf("%s: %+v, %v, %v", name, a, sent, err)
		}
		breaks.Store(true)
		if _, sent, err := Do(c.via, request(t, http.MethodPost, h.URL), 10); err == nil || !sent {
			t.Errorf("%s, cut off: sent %v, %v", name, sent, err)
		}
		if calls, connections := h.calls.Load(), h.connections.Load(); calls != c.calls || connections != c.connections {
			t.Errorf("%s: it came %d times by %d connections, want %d by %d", name, calls, connections, c.calls, c.connections)
		}
	}
}

func TestWhatCannotHaveBeenSent(t *testing.T) {
	h := serve(t, true, func(http.ResponseWriter, *http.Request) {})
	away := serve(t, false, cut)
	away.Close()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, r := range map[string]*http.Request{
		"nobody is there":           request(t, http.MethodPost, away.URL+"/?name=Ada"),
		"a host that is not theirs": request(t, http.MethodPost, h.URL+"/?name=Ada"), // of an authority that is not trusted
		"who asked has left":        request(t, http.MethodPost, h.URL+"/?name=Ada").WithContext(gone),
	} {
		for _, via := range []*http.Client{way.Asking(), way.Buying()} {
			a, sent, err := Do(via, r, 10)
			if err == nil || sent || a != nil {
				t.Errorf("%s: %+v, sent %v, %v", name, a, sent, err)
			} else if strings.Contains(err.Error(), "Ada") {
				t.Errorf("%s: the error shows the address: %v", name, err)
			}
		}
	}
	if n := h.calls.Load(); n != 0 {
		t.Errorf("%d calls arrived", n)
	}
}

func TestAuthoritiesAndProtocols(t *testing.T) {
	h := serve(t, true, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) })
	trusting := way
	trusting.Roots = x509.NewCertPool()
	trusting.Roots.AddCert(h.Certificate())
	for want, via := range map[string]*http.Client{"HTTP/2.0": trusting.Asking(), "HTTP/1.1": trusting.Buying()} {
		if a, _, err := Do(via, request(t, http.MethodPost, h.URL), 10); err != nil || string(a.Body) != want || a.Cut != nil {
			t.Errorf("%+v, %v, want %s", a, err, want)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	other := serve(t, false, func(http.ResponseWriter, *http.Request) {})
	for _, status := range []int{301, 302, 303, 307, 308} {
		h := serve(t, false, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, status) })
		for _, via := range []*http.Client{way.Asking(), way.Buying()} {
			if a, _, err := Do(via, request(t, http.MethodPost, h.URL), 10); err != nil || a.Status != status || a.Header.Get("Location") != other.URL {
				t.Errorf("%d: %+v, %v", status, a, err)
			}
		}
	}
	if n := other.calls.Load(); n != 0 {
		t.Errorf("they were followed %d times", n)
	}
}

func TestAnswersHaveLimits(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		body   string
		cut    string // "" if it is whole
	}{
		{"as long as it may be", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789") }, "0123456789", ""},
		{"longer", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "0123456789a") }, "0123456789", "it is longer than 10 bytes"},
		{"broken off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "012")
		}, "012", "it broke off: unexpected EOF"},
	} {
		a, sent, err := Do(way.Buying(), request(t, http.MethodPost, serve(t, false, c.answer).URL), 10)
		if err != nil || !sent || string(a.Body) != c.body || (a.Cut == nil) != (c.cut == "") || a.Cut != nil && a.Cut.Error() != c.cut {
			t.Errorf("%s: %+v, sent %v, %v", c.name, a, sent, err)
		}
	}
	h := serve(t, false, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) })
	if a, sent, err := Do(way.Asking(), request(t, http.MethodPost, h.URL), 10); err == nil || !sent {
		t.Errorf("a long header: %+v, sent %v", a, sent)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "-9223372036854775807": 0, "soon": 0, "1.5": 0, "9223372036854775807": sdk.MaxRetryAfter, "604801": sdk.MaxRetryAfter,
		"Thu, 26 Nov 2026 12:02:00 GMT": 2 * time.Minute, "Thu, 26 Nov 2026 11:02:00 GMT": 0, "Thu, 26 Nov 2099 11:02:00 GMT": sdk.MaxRetryAfter,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {text}}, now); time.Duration(got) != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	if got := RetryAfter(nil, now); got != 0 {
		t.Errorf("no header: %s", got)
	}
}

func TestWithoutAddress(t *testing.T) {
	plain := errors.New("plain")
	if got := WithoutAddress(plain); got != plain { //nolint:errorlint // it is the same one
		t.Error(got)
	}
}
