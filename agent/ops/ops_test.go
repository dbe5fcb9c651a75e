package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

type queue struct{ retried []string }

func (*queue) Inspect() (any, error)     { return map[string]int{"records": 3}, nil }
func (*queue) Verify() (any, error)      { return []string{}, nil }
func (*queue) DeadLetters() (any, error) { return []string{"eu/4.0/erp"}, nil }
func (*queue) Export(w io.Writer, from uint64) error {
	fmt.Fprintf(w, "from %d\n", from)
	if from == 13 {
		return errors.New("the disk is gone")
	}
	return nil
}

func (q *queue) Retry(_ context.Context, id string, confirm bool) error {
	switch {
	case id == "none":
		return fmt.Errorf("%w: none", ErrNotFound)
	case id == "late" && !confirm:
		return fmt.Errorf("%w: late", ErrConflict)
	}
	q.retried = append(q.retried, id)
	return nil
}

type door struct {
	*Server
	queue *queue
	ready error
	http  *httptest.Server
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{queue: &queue{}}
	var err error
	d.Server, err = New(Config{
		Listen: "127.0.0.1:0", TokenFile: filepath.Join(t.TempDir(), "ops.token"), Gatherer: prometheus.NewRegistry(),
		Logger: slog.New(slog.DiscardHandler), Queue: d.queue, Vouch: func() error { return fmt.Errorf("%w: no doubt", ErrConflict) },
		Reload: func() (any, error) {
			if d.ready != nil {
				return nil, fmt.Errorf("%w: a key", ErrInvalid)
			}
			return map[string]string{"changed": "log.level"}, nil
		},
		Status: func() any { return map[string]string{"agent": "eu"} }, Ready: func() error { return d.ready },
		Activate: func(plugin string) error {
			if plugin == "none" {
				return ErrNotFound
			}
			return nil
		},
		Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page ", r.Method, r.URL.Path) }),
		Code: func() string { return "once" },
	})
	if err != nil {
		t.Fatal(err)
	}
	d.http = httptest.NewServer(d.handler())
	t.Cleanup(func() {
		d.http.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *door) ask(t *testing.T, method, path, token string, header ...string) (status int, body string, whole error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.http.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

func TestWhoMayAskWhat(t *testing.T) {
	d := newDoor(t)
	token := string(d.token)
	for _, tt := range []struct {
		method, path string
		open         bool // to everybody on this machine
		status       int
		says         string
	}{
		{"GET", "/healthz", true, 200, "ok"},
		{"GET", "/readyz", true, 200, "ready"},
		{"GET", "/metrics", true, 200, ""},
		{"GET", "/", true, 200, "page GET/"},
		{"GET", "/doctor", true, 200, "page GET/doctor"},
		{"POST", "/login", true, 200, "page POST/login"},
		{"GET", "/nothing", true, 404, ""},
		{"POST", "/v1/page/code", false, 200, "once"},
		{"GET", "/v1/status", true, 200, `"agent":"eu"`},
		{"GET", "/v1/queue", true, 200, `"records":3`},
		{"GET", "/v1/deadletters", false, 200, "eu/4.0/erp"},
		{"POST", "/v1/queue/verify", false, 200, "[]"},
		{"GET", "/v1/queue/export", false, 200, "from 0"},
		{"GET", "/v1/queue/export?from=7", false, 200, "from 7"},
		{"GET", "/v1/queue/export?from=-7", false, 400, "whole number"},
		{"POST", "/v1/deadletters/retry?id=x", false, 200, "replaying"},
		{"POST", "/v1/deadletters/retry?id=none", false, 404, "not found"},
		{"POST", "/v1/deadletters/retry?id=late", false, 409, "not possible"},
		{"POST", "/v1/deadletters/retry?id=late&confirm=true", false, 200, "replaying"},
		{"GET", "/v1/deadletters/retry?id=x", false, 405, ""},
		{"POST", "/v1/numbers/vouch", false, 409, "no doubt"},
		{"GET", "/v1/numbers/vouch", false, 405, ""},
		{"POST", "/v1/plugins/activate?name=zone", false, 200, "activated"},
		{"POST", "/v1/plugins/activate?name=none", false, 404, "not found"},
		{"GET", "/v1/plugins/activate?name=zone", false, 405, ""},
		{"POST", "/v1/reload", false, 200, "log.level"},
		{"GET", "/v1/reload", false, 405, ""},
	} {
		status, body, err := d.ask(t, tt.method, tt.path, token)
		if err != nil || status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: %d %s %v, want %d with %q", tt.method, tt.path, status, body, err, tt.status, tt.says)
		}
		if tt.open {
			if status, _, err := d.ask(t, tt.method, tt.path, ""); err != nil || status != tt.status {
				t.Errorf("%s %s without a token: %d %v", tt.method, tt.path, status, err)
			}
		}
		if tt.open && !strings.HasPrefix(tt.path, "/v1/") || tt.status == 405 {
			continue
		}
		for _, wrong := range []string{"", "wrong", token + "x", token[1:]} {
			if wrong == "" && tt.open {
				continue // nobody in particular asks; who has a wrong one means another agent
			}
			if status, body, err := d.ask(t, tt.method, tt.path, wrong); err != nil || status != 401 || strings.Contains(body, token) {
				t.Errorf("%s %s with token %q: %d %s %v", tt.method, tt.path, wrong, status, body, err)
			}
		}
	}
	if got := strings.Join(d.queue.retried, " "); got != "x late" {
		t.Errorf("retried %s", got)
	}
	if status, _, err := d.ask(t, "POST", "/v1/deadletters/retry?id=x", token, "Sec-Fetch-Site", "cross-site"); err != nil || status != 403 {
		t.Errorf("a page of another site: %d %v", status, err)
	}
}

// A reader must see that an export is not whole.
func TestExportThatEndsEarly(t *testing.T) {
	d := newDoor(t)
	if _, body, err := d.ask(t, "GET", "/v1/queue/export?from=13", string(d.token)); err == nil {
		t.Errorf("a cut export looks whole: %q", body)
	}
}

// A page of somebody else's that has its name mean this machine gets nothing.
func TestOnlyByTheNameOfThisMachine(t *testing.T) {
	d := newDoor(t)
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:7090": 200, "localhost": 200, "LOCALHOST:1": 200, "[::1]:7090": 200, "[::1]": 200, "127.8.9.10": 200,
		"evil.example": 421, "evil.example:7090": 421, "localhost.evil.example": 421, "10.0.0.1": 421, "127.0.0.1.evil.example": 421, "::ffff:10.0.0.1": 421,
	} {
		for _, path := range []string{"/", "/login", "/v1/status", "/metrics", "/style.css"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.http.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if answer.StatusCode != want {
				t.Errorf("%s as %s: %d, want %d", path, host, answer.StatusCode, want)
			}
		}
	}
}

func TestNotReady(t *testing.T) {
	d := newDoor(t)
	d.ready = errors.New("no policy")
	if status, body, err := d.ask(t, "POST", "/v1/reload", string(d.token)); err != nil || status != 422 || !strings.Contains(body, "a key") {
		t.Errorf("%d %s %v", status, body, err)
	}
	if status, body, err := d.ask(t, "GET", "/readyz", ""); err != nil || status != 503 || !strings.Contains(body, "no policy") {
		t.Errorf("%d %s %v", status, body, err)
	}
}

func TestTokenIsMadeOnceForTheOwnerOnly(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ops.token")
	first, err := token(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := token(file)
	if err != nil || string(again) != string(first) || len(first) < 26 {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if fresh, err := token(file); err != nil || len(fresh) < 26 {
		t.Errorf("a token that is too short stays: %q %v", fresh, err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	d := newDoor(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	answer, err := http.Get("http://" + d.Addr() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
