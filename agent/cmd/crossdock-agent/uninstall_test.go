package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// keepEvent leaves the journal of a stopped agent with an event for another site.
func keepEvent(t *testing.T, data string) {
	t.Helper()
	dir := filepath.Join(data, "journal")
	log, err := queue.Open(queue.Config{Dir: dir, Quota: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(journal.Config{Log: log, Self: "eu", Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	_, err = j.Submit(ctx, []journal.Admitted{{
		Event: &event.Event{ID: "1", Source: "/shop", Type: "order.captured.v1", Data: []byte(`{}`)}, Key: "1",
		Targets: []block.Target{{Agent: "hq", System: "erp", Route: "orders"}},
	}})
	cancel()
	if err := errors.Join(err, <-ended, log.Close(), os.WriteFile(filepath.Join(dir, "agent"), []byte("eu\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// What waits is counted, and whoever must not remove it hears so by the exit code.
func TestQueueLeft(t *testing.T) {
	data := t.TempDir()
	count := func(want int, flags ...string) string {
		t.Helper()
		var out, said bytes.Buffer
		if got := run(t.Context(), append([]string{"queue", "left", "--data", data}, flags...), strings.NewReader(""), &out, &said); got != want {
			t.Errorf("%q: exit code %d, want %d: %s%s", flags, got, want, &out, &said)
		}
		return out.String()
	}
	if said := count(0); !strings.HasPrefix(said, "0 to be sent") {
		t.Errorf("of an agent that never ran: %q", said)
	}
	keepEvent(t, data)
	if said := count(exitConflict); !strings.HasPrefix(said, "1 to be sent, 0 to be delivered here") {
		t.Errorf("%q", said)
	}
	if said := count(exitConflict, "-o", "json"); !strings.Contains(said, `"outgoing": 1`) {
		t.Errorf("%q", said)
	}
	if err := os.Remove(filepath.Join(data, "journal", "agent")); err != nil {
		t.Fatal(err)
	}
	if said := count(exitConflict); said != "" {
		t.Errorf("of nobody knows whom: %q", said)
	}
}

// Events that were not passed on are not removed unless that is what is meant. Who uninstalls
// is told what is lost.
func TestUninstallKeepsEventsThatWait(t *testing.T) {
	image := t.TempDir()
	data := filepath.Join(image, "var/lib/crossdock-agent")
	keepEvent(t, data)
	uninstall := func(want int, answer string, flags ...string) string {
		t.Helper()
		var out, said bytes.Buffer
		got := run(t.Context(), append([]string{"uninstall", "--purge", "--root", image}, flags...), strings.NewReader(answer), &out, &said)
		if got != want {
			t.Errorf("%q: exit code %d, want %d: %s%s", flags, got, want, &out, &said)
		}
		return said.String()
	}
	if said := uninstall(exitConflict, "y\n"); !strings.Contains(said, "1 to be sent, 0 to be delivered here") {
		t.Errorf("%q", said)
	}
	if said := uninstall(exitConflict, "", "--yes"); !strings.Contains(said, "--force") {
		t.Errorf("%q", said)
	}
	if said := uninstall(exitFailed, "n\n", "--force"); !strings.Contains(said, "LOSE events and calls that were not passed on: 1 to be sent") {
		t.Errorf("%q", said)
	}
	release, err := queue.Lock(filepath.Join(data, "journal"))
	if err != nil {
		t.Fatal(err)
	}
	if said := uninstall(exitConflict, "", "--yes", "--force"); !strings.Contains(said, "that is not this service; stop it") {
		t.Errorf("while an agent runs: %q", said)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(data); err != nil {
		t.Fatal(err)
	}
	uninstall(0, "y\n", "--force")
	if _, err := os.Stat(data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data is there: %v", err)
	}
}
