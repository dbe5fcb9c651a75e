package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/protocol/policy"
)

// An event that no route wanted says so in the trace; one that has somewhere to go does not.
func TestTraceSaysUnrouted(t *testing.T) {
	b := openBooks(t, t.TempDir(), 1)
	deliveries, err := delivery.Open(delivery.Config{Agent: "here", Path: filepath.Join(t.TempDir(), "delivery.db"), Source: localSource{b.Journal},
		Target: &drivers{}, Policy: func() *policy.Set { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deliveries.Close() })
	a := &Agent{log: slog.New(slog.DiscardHandler), identity: &identity.Identity{Granted: identity.Granted{Agent: "here"}}, journal: b.Journal,
		outbox: newOutbox(b.Journal, b.log, 1), delivery: deliveries}
	b.add(t, "nowhere")
	b.add(t, "somewhere", "here")
	text, err := a.trace(t.Context(), []byte(`{"key":"k"}`))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Hops []Hop }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range answer.Hops {
		got = append(got, h.Event+" "+h.Hop)
	}
	if want := []string{"nowhere accepted", "nowhere unrouted", "somewhere accepted", "somewhere pending"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Where the relay has an event for another agent, the trace says its place on that lane; what
// the relay has not taken is pending.
func TestTraceSaysWhatTheRelayHas(t *testing.T) {
	b := openBooks(t, t.TempDir(), 1)
	deliveries, err := delivery.Open(delivery.Config{Agent: "here", Path: filepath.Join(t.TempDir(), "delivery.db"), Source: localSource{b.Journal},
		Target: &drivers{}, Policy: func() *policy.Set { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = deliveries.Close() })
	a := &Agent{log: slog.New(slog.DiscardHandler), identity: &identity.Identity{Granted: identity.Granted{Agent: "here"}}, journal: b.Journal,
		outbox: newOutbox(b.Journal, b.log, 1), delivery: deliveries}
	b.add(t, "e1", "hq", "eu")
	b.add(t, "e2", "hq")
	a.outbox.Taken("hq", 1)
	text, err := a.trace(t.Context(), []byte(`{"key":"k"}`))
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Hops []Hop }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range answer.Hops {
		got = append(got, fmt.Sprintf("%s %s %s%v", h.Event, h.Hop, h.Peer, h.Sent))
	}
	if want := []string{"e1 accepted [{hq 1}]", "e1 pending eu[]", "e2 accepted []", "e2 pending hq[]"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
