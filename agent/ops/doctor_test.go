package ops

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// What looks into the process needs the token.
func TestDoctorAndGoroutinesNeedTheToken(t *testing.T) {
	fails, afresh := false, false
	s, err := New(Config{Listen: "127.0.0.1:0", TokenFile: filepath.Join(t.TempDir(), "ops.token"), Gatherer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler),
		Doctor: func(_ context.Context, fresh bool) (any, error) {
			afresh = fresh
			if fails {
				return nil, errors.New("broken off")
			}
			return map[string]int{"version": 1}, nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s.handler())
	defer server.Close()
	get := func(path, token string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	for path, want := range map[string]string{"/v1/doctor": `{"version":1}`, "/v1/goroutines": "goroutine profile: total"} {
		if code, _ := get(path, "another"); code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", path, code)
		}
		if code, body := get(path, string(s.token)); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if afresh {
		t.Error("a fresh look was taken that nobody asked for")
	}
	if code, body := get("/v1/doctor?fresh=true", string(s.token)); code != http.StatusOK || !afresh {
		t.Errorf("fresh: %d %s", code, body)
	}
	fails = true
	if code, body := get("/v1/doctor", string(s.token)); code != http.StatusInternalServerError || !strings.Contains(body, "broken off") {
		t.Errorf("%d %s", code, body)
	}
}
