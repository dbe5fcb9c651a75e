package doctor

import (
	"errors"
	"net"
	"path/filepath"
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
	check(t, Policy("1.4", "", time.Hour), OK)
	check(t, Policy("", "", 0), Warn)
	check(t, Policy("1.4", "1.5 does not compile", 0), Fail)
	check(t, Clock([]Path{{Err: errors.New("cut")}, {Skew: -time.Second}}, time.Now()), OK)
	check(t, Clock([]Path{{Skew: -time.Minute}}, time.Now()), Warn)
	check(t, Clock([]Path{{Err: errors.New("cut")}}, time.Now()), Warn)
	check(t, Refused("it is revoked", "eu"), Fail)
	check(t, OtherAgent("ops-port", "127.0.0.1:7090", "agent home"), Fail)
	check(t, Disk(t.TempDir(), 100<<30, 10<<30)[0], OK)
	check(t, Disk(t.TempDir(), 1<<20, 10<<30)[0], Warn)
	check(t, Disk(filepath.Join(t.TempDir(), "none"), 100<<30, 10<<30)[1], Fail)
}

func TestWords(t *testing.T) {
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

func TestOneIsNotSeveral(t *testing.T) {
	for got, want := range map[string]string{
		Count(0, "file"): "0 files", Count(1, "file"): "1 file", Count(uint64(2), "file"): "2 files",
		since(time.Minute): "1 minute", since(61 * time.Minute): "61 minutes", since(50 * time.Hour): "2 days",
		FewNumbers("a", 1, 5, "").Seen: "1 number left, fewer than 5", Missing(1).Seen: "not here yet: 1 document that events name",
		Summary([]Finding{{Level: Warn}}): "0 failed, 1 warning", Summary(nil): "0 failed, 0 warnings",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
