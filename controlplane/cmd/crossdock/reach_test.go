package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
)

// dead gives the address of a server that was there a moment ago.
func dead() string {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	return server.URL
}

func TestTheNextNodeIsAskedWhenOneDoesNotAnswer(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /agents": {`{"items":[]}`}, "POST /cluster/transfer": {`{"leaderNode":"n2"}`}})
	alive := c.flags[1]
	c.flags[1] = dead() + "," + alive
	c.run(0, "", "agents")
	c.run(0, "", "cluster", "transfer") // a change too: it has surely not been sent
	if len(c.asked) != 2 {
		t.Errorf("asked %q", c.asked)
	}
	c.flags[1] = dead() + "," + dead()
	_, said := c.run(exitUnreachable, "", "agents")
	for _, one := range strings.Split(c.flags[1], ",") {
		sees(t, said, one+": ")
	}
}

// A node may have done what it was asked before it went: nobody else is asked that.
func TestAChangeWithoutAnAnswerIsNotTakenElsewhere(t *testing.T) {
	c := newCanned(t, map[string][]string{"POST /cluster/transfer": {`{"leaderNode":"n2"}`}, "GET /agents": {`{"items":[]}`}})
	breaks := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	breaks.StartTLS()
	defer breaks.Close()
	trust(t, c, breaks)
	c.flags[1] = breaks.URL + "," + c.flags[1]
	c.run(exitUnreachable, "", "cluster", "transfer")
	if len(c.asked) != 0 {
		t.Errorf("asked %q", c.asked)
	}
	c.run(0, "", "agents")
}

// A node that runs and cannot serve yet is passed over.
func TestANodeThatStartsIsPassedOver(t *testing.T) {
	c := newCanned(t, map[string][]string{"GET /agents": {`{"items":[]}`}})
	starts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this node is starting", http.StatusServiceUnavailable)
	}))
	defer starts.Close()
	trust(t, c, starts)
	both := &app{stdin: strings.NewReader(""), stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}}
	reached, err := both.newClient([]string{starts.URL, c.flags[1]}, "t", c.flags[3])
	if err != nil {
		t.Fatal(err)
	}
	reached.pause = time.Nanosecond
	var out api.AgentList
	if err := reached.get(context.Background(), "/agents", nil, &out); err != nil {
		t.Error(err)
	}
	reached.bases = []string{starts.URL}
	if err := reached.get(context.Background(), "/agents", nil, &out); err == nil || !strings.Contains(err.Error(), "this node is starting") {
		t.Errorf("said %v", err)
	}
}

// trust adds a server's certificate to those that a test's commands know.
func trust(t *testing.T, c *canned, server *httptest.Server) {
	t.Helper()
	old, err := os.ReadFile(c.flags[3])
	if err != nil {
		t.Fatal(err)
	}
	one := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(c.flags[3], append(old, one...), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheWrongDoorIsNamed(t *testing.T) {
	n := startNode(t, testConfig(t, "single"))
	at := n.plane.Addresses()
	_, said := n.run(exitUsage, "status", "--server", "https://"+at.Sync)
	sees(t, said, at.Sync, "api.listen")
	_, said = n.run(exitUsage, "status", "--server", "https://"+at.Ops)
	sees(t, said, at.Ops, "api.listen")

	token := filepath.Join(n.config.Data, "admin.token")
	t.Setenv("CROSSDOCK_CA", "")
	var out, stderr bytes.Buffer
	code := run(context.Background(), []string{"status", "--server", at.API, "--token-file", token}, strings.NewReader(""), &out, &stderr)
	if code != exitUnreachable {
		t.Errorf("exit code %d without the authority", code)
	}
	sees(t, stderr.String(), "--ca-file")
}

// Who may not look is told so, and not that nothing has run; and the other way round.
func TestNoAddressSaysWhy(t *testing.T) {
	for err, want := range map[error]string{
		fs.ErrPermission:       "you are not allowed to look into /d",
		fs.ErrNotExist:         "no control plane has started with the data directory /d yet; to start it: crossdock server --data /d",
		errors.New("is empty"): "where the control plane of /d answers cannot be read: ",
	} {
		if got := noAddress("/d", &fs.PathError{Op: "open", Path: "/d/api.addr", Err: err}).Error(); !strings.HasPrefix(got, want) {
			t.Errorf("%v: %q, want %q at its beginning", err, got, want)
		}
	}
	here := t.TempDir()
	if got := []string{hasRun(here), hasRun(filepath.Join(here, "none"))}; got[0] != here || got[1] != "" {
		t.Errorf("hasRun gives %q", got)
	}
}
