package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/sealed"
	"github.com/crossdock/crossdock/agent/space"
)

// queueless answers for an agent that has nothing.
type queueless struct{}

func (queueless) Inspect() (any, error)                     { return queue.Report{Dir: "of the running agent"}, nil }
func (queueless) Verify() (any, error)                      { return []queue.Damage{}, nil }
func (queueless) Export(io.Writer, uint64) error            { return nil }
func (queueless) DeadLetters() (any, error)                 { return []string{}, nil }
func (queueless) Retry(context.Context, string, bool) error { return ops.ErrNotFound }

// openOps opens the operators' port of an agent with its data in a directory.
func openOps(t *testing.T, data string, status agent.Status) *ops.Server {
	t.Helper()
	cfg := agent.Config{Data: data}
	status.Data = cfg.Place()
	s, err := ops.New(ops.Config{Listen: "127.0.0.1:0", TokenFile: filepath.Join(data, "ops.token"), Gatherer: prometheus.NewRegistry(),
		Logger: slog.New(slog.DiscardHandler), Status: func() any { return status }, Queue: queueless{},
		Page: http.NotFoundHandler(), Code: func() string { return "ONCE" }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// configFor writes a configuration file for an agent.
func configFor(t *testing.T, data, opsAddress string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	text := fmt.Sprintf("data: %q\ncontrolplane: {addresses: [\"127.0.0.1:1\"]}\nintake: {listen: \"127.0.0.1:0\"}\nops: {listen: %q}\n", data, opsAddress)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func command(t *testing.T, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// The address is of the running agent, and nobody but who may read its data gets one.
func TestPageCommand(t *testing.T) {
	home := t.TempDir()
	door := openOps(t, home, agent.Status{Agent: "home", Site: "home"})
	file := configFor(t, home, door.Addr())
	if code, out, said := command(t, "page", "-c", file); code != 0 || out != "http://"+door.Addr()+"/login?code=ONCE\n" {
		t.Errorf("%d %q %s", code, out, said)
	}
	if err := os.WriteFile(filepath.Join(home, "ops.token"), []byte("another-token-that-is-long-enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, said := command(t, "page", "-c", file); code != exitDenied || out != "" {
		t.Errorf("with another token: %d %q %s", code, out, said)
	}
	if code, _, said := command(t, "page", "-c", configFor(t, home, "127.0.0.1:1")); code != exitNotRunning {
		t.Errorf("of no running agent: %d %s", code, said)
	}
}

// Two agents of one machine were given one port: nobody may be shown the wrong one.
func TestPortOfAnotherAgent(t *testing.T) {
	home, away := t.TempDir(), t.TempDir()
	door := openOps(t, home, agent.Status{Agent: "home", Site: "home"})
	config := configFor(t, away, door.Addr())
	check := func(what string) {
		t.Helper()
		for _, args := range [][]string{{"status"}, {"queue", "dead"}, {"queue", "retry", "x"}} {
			code, out, said := command(t, append(args, "-c", config)...)
			if code != exitNotRunning || out != "" || !strings.Contains(said, "is the port of agent home of site home") || !strings.Contains(said, away) {
				t.Errorf("%s: %v: %d %s %s", what, args, code, out, said)
			}
		}
		if code, out, said := command(t, "queue", "inspect", "-c", config); strings.Contains(out, "of the running agent") || !strings.Contains(said, away) {
			t.Errorf("%s: queue inspect: %d %s %s", what, code, out, said)
		}
		if code, out, said := command(t, "doctor", "-c", config); code != exitFailed ||
			!strings.Contains(out, "is the port of agent home of site home, with its data in") || !strings.Contains(out, "ports of its own") {
			t.Errorf("%s: doctor: %d %s %s", what, code, out, said)
		}
	}
	check("it has never run")
	if err := os.WriteFile(filepath.Join(away, "ops.token"), []byte("a-token-that-is-long-enough-for-it"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("it has run before")

	own := configFor(t, home, door.Addr())
	if code, out, said := command(t, "status", "-c", own); code != 0 || !strings.HasPrefix(out, "agent ") {
		t.Errorf("the right one: %d %s %s", code, out, said)
	}
	token := filepath.Join(home, "ops.token")
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if code, _, said := command(t, "status", "-c", own); code != 0 {
		t.Errorf("without its token: %d %s", code, said)
	}
	if err := os.WriteFile(token, []byte("another-token-that-is-long-enough"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, said := command(t, "status", "-c", own); code != exitDenied || !strings.Contains(said, token) {
		t.Errorf("with a token that was replaced: %d %s", code, said)
	}
}

func TestOtherAgentIsNotOurs(t *testing.T) {
	l := &local{address: "127.0.0.1:7090", data: "/b"}
	if err := withCode(exitNotRunning, l.other(agent.Status{})); !errors.Is(err, errNotRunning) || !strings.Contains(err.Error(), "another agent or program") {
		t.Errorf("%v", err)
	}
}

// A row of the table is a row, whatever an error says; and a system that cannot post is not
// well.
func TestStatusIsATable(t *testing.T) {
	s := agent.Status{Systems: []agent.SystemStatus{
		{SystemStatus: delivery.SystemStatus{System: "erp", State: delivery.SystemOpen, LastError: "first\nsecond\tthird", LastErrorAt: time.Now(), NextTry: time.Now().Add(time.Hour)}},
		{SystemStatus: delivery.SystemStatus{System: "shop", State: delivery.SystemOK}, Intake: "its token is empty"},
		{SystemStatus: delivery.SystemStatus{System: "wms", State: delivery.SystemHeld, Held: "for the old one"}, Intake: "its token is empty"},
	}}
	s.Link.LastError = "quic: a\ntcp: b"
	s.Disk = space.Status{State: space.Stopped, Why: "somebody\nelse", Free: 100 << 20, Outage: space.Outage{State: space.Known, Hours: 30.4, BytesPerHour: 3 << 20}}
	var out bytes.Buffer
	printStatus(&out, s)
	text := out.String()
	if got := strings.Count(text, "\n"); got != 12 {
		t.Errorf("%d lines, want 12", got)
	}
	for _, want := range []string{"quic: a tcp: b\n", "first second third\n", "shop    cannot post              0 ", "its token is empty\n", "stopped, 100 MB free. At the present rate (3.0 MB an hour) there is room for 30 hours of a cut line. Since", "somebody else\n",
		"open: next try " + s.Systems[0].NextTry.Local().Format(time.TimeOnly) + " ", "held, cannot post", "its token is empty; held: for the old one\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// What was dropped, or was never taken, is not held here.
func TestStatusCountsTheSecretsThatAreHeld(t *testing.T) {
	s := agent.Status{SealingKey: "a245-5684", Secrets: []sealed.Status{
		{Name: "erp/token", Version: 3}, {Name: "shop/token", Version: 2, Dropped: true}, {Name: "wms/token", Refused: "it does not open"},
		{Name: "zone/key", Version: 1, Refused: "version 2 was not taken"},
	}}
	var out bytes.Buffer
	printStatus(&out, s)
	for _, want := range []string{"2 held; the key of this agent is a245-5684\n", "wms/token: it does not open\n", "zone/key: version 2 was not taken\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "shop/token") {
		t.Error(out.String())
	}
}

// Numbers without a further word lists them, as plugins and calls do.
func TestNumbersAreListed(t *testing.T) {
	some, none := t.TempDir(), t.TempDir()
	held := agent.Status{Agent: "home", Numbers: []agent.NumbersStatus{{Range: "pallets", Left: 3, Low: 200, Used: 997, Refused: "used\nup"}}}
	file := configFor(t, some, openOps(t, some, held).Addr())
	if code, out, said := command(t, "numbers", "-c", file); code != 0 || !strings.HasPrefix(out, "NUMBERS") || !strings.Contains(out, "pallets  3 ") || !strings.Contains(out, "997   used up\n") {
		t.Errorf("%d %s %s", code, out, said)
	}
	if code, out, said := command(t, "numbers", "-c", file, "-o", "json"); code != 0 || !strings.Contains(out, `"range": "pallets"`) {
		t.Errorf("%d %s %s", code, out, said)
	}
	file = configFor(t, none, openOps(t, none, agent.Status{Agent: "away"}).Addr())
	if code, out, said := command(t, "numbers", "-c", file); code != 0 || out != "the policy has no number range for this site\n" {
		t.Errorf("%d %s %s", code, out, said)
	}
	if code, out, said := command(t, "numbers", "-c", file, "-o", "json"); code != 0 || out != "[]\n" {
		t.Errorf("%d %s %s", code, out, said)
	}
}

// Who may not read the agent's token learns that, and not only that it is wanted.
func TestTokenThatCannotBeRead(t *testing.T) {
	if os.Getuid() <= 0 {
		t.Skip("root reads everything, and Windows has no such modes: nothing can be made unreadable here")
	}
	home := t.TempDir()
	door := openOps(t, home, agent.Status{Agent: "home", Site: "home"})
	if err := os.Chmod(filepath.Join(home, "ops.token"), 0); err != nil {
		t.Fatal(err)
	}
	code, _, said := command(t, "queue", "dead", "-c", configFor(t, home, door.Addr()))
	if code != exitDenied || !strings.Contains(said, "ops.token: permission denied; who may read it may do this: run it as root") {
		t.Errorf("%d %s", code, said)
	}
}
