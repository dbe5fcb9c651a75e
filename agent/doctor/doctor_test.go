package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func check(t *testing.T, f Finding, want Level) {
	t.Helper()
	if f.Level != want || f.ID == "" || f.Seen == "" || (f.Todo == "") != (want == OK) {
		t.Errorf("got %+v, want level %s, and what to do unless that is ok", f, want)
	}
}

func TestFindings(t *testing.T) {
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	until := func(left time.Duration) *x509.Certificate { return &x509.Certificate{NotAfter: now.Add(left)} }
	reached := func(err error) func(context.Context) (Reached, error) {
		return func(context.Context) (Reached, error) {
			return Reached{Address: "cp:7443", Took: 3 * time.Millisecond}, err
		}
	}
	ctx, cut := t.Context(), errors.New("refused")
	check(t, Certificate(until(12*time.Hour), now), OK)
	check(t, Certificate(until(time.Hour), now), Warn)
	check(t, Certificate(until(-time.Second), now), Fail)
	check(t, Policy("1.4", ""), OK)
	check(t, Policy("", ""), Warn)
	check(t, Policy("1.4", "1.5 does not compile"), Fail)
	check(t, Clock([]Reached{{Skew: -time.Second}}), OK)
	check(t, Clock([]Reached{{Skew: -time.Minute}}), Warn)
	check(t, Clock(nil), Warn)
	check(t, Link(ctx, "quic", reached(nil)), OK)
	check(t, Link(ctx, "quic", reached(cut)), Warn)
	check(t, Link(ctx, "tcp", reached(cut)), Fail)
	check(t, Disk(t.TempDir(), 100<<30, 10<<30)[0], OK)
	check(t, Disk(t.TempDir(), 1<<20, 10<<30)[0], Warn)
	check(t, Disk(filepath.Join(t.TempDir(), "none"), 100<<30, 10<<30)[1], Fail)
}

func TestWords(t *testing.T) {
	probe := func(err error) func(context.Context) (Reached, error) {
		return func(context.Context) (Reached, error) { return Reached{}, err }
	}
	f := Link(t.Context(), "tcp", probe(errors.New("dial tcp 10.0.0.1:7443: connect: connection refused")))
	if !strings.HasPrefix(f.Todo, "does the control plane run there?") {
		t.Errorf("refused: %+v", f)
	}
	f = Link(t.Context(), "tcp", probe(fmt.Errorf("hello: %w", context.DeadlineExceeded)))
	if f.Seen != "no answer within 1s" || strings.Contains(f.Todo, "run there") {
		t.Errorf("silent: %+v", f)
	}
	if got := Plain(errors.New("quic: a\ntcp: b"), 0); got != "quic: a; tcp: b" {
		t.Errorf("got %q", got)
	}
	if got := Summary([]Finding{{Level: Fail}, {Level: Warn}, {Level: OK}}); got != "1 failed, 1 warning" {
		t.Errorf("got %q", got)
	}
}

func TestPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	check(t, Port("ops-port", address, true), OK)
	check(t, Port("ops-port", address, false), Fail)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, Port("ops-port", address, true), Fail)
	check(t, Port("ops-port", address, false), OK)
}

func TestWorst(t *testing.T) {
	ok, warn, fail := Finding{Level: OK}, Finding{Level: Warn}, Finding{Level: Fail}
	for _, tt := range []struct {
		findings []Finding
		want     Level
	}{{nil, OK}, {[]Finding{ok, warn, ok}, Warn}, {[]Finding{fail, warn}, Fail}, {[]Finding{warn, fail, ok}, Fail}} {
		if got := Worst(tt.findings); got != tt.want {
			t.Errorf("worst of %v is %s, want %s", tt.findings, got, tt.want)
		}
	}
}
