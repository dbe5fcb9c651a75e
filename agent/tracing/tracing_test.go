package tracing

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func tracer(t *testing.T, sample float64) *Tracer {
	t.Helper()
	made, err := New(Config{Endpoint: "http://127.0.0.1:1", Sample: sample, Agent: "eu", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return made // never sends: nothing is ended in these tests
}

// Agents agree on which events are traced, and under which ids, without a word between them.
func TestAgentsAgree(t *testing.T) {
	eu, hq := tracer(t, 0.25), tracer(t, 0.25)
	traced := 0
	for i := range 4000 {
		e := &event.Event{ID: fmt.Sprint(i), Source: "/shop", Type: "order.captured.v1"}
		a := Attempt{System: "erp", Key: "k", Number: 1}
		if eu.Parent(e, a) != hq.Parent(e, a) {
			t.Fatalf("%q here, %q there", eu.Parent(e, a), hq.Parent(e, a))
		}
		if eu.Parent(e, a) != "" {
			traced++
		}
	}
	if traced < 800 || traced > 1200 {
		t.Errorf("%d of 4000 events are traced, want about a quarter", traced)
	}
}

func TestParentOfTheProducerDecides(t *testing.T) {
	none := tracer(t, 0)
	for text, want := range map[string]bool{
		parent: true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00":      false, // not sampled
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more": true,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more": false,
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":      false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":      false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":      false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-zz":      false,
		"nonsense": false, "": false,
	} {
		e := &event.Event{ID: "1", Source: "/shop", Type: "t", Extensions: map[string]string{"traceparent": text}}
		if got := none.Parent(e, Attempt{System: "erp"}) != ""; got != want {
			t.Errorf("%q is traced: %v, want %v", text, got, want)
		}
	}
}

func TestWithoutACollectorNothingIsTraced(t *testing.T) {
	off, err := New(Config{Sample: 1})
	if err != nil || off != nil {
		t.Fatalf("%v %v", off, err)
	}
	e := &event.Event{ID: "1", Source: "/shop", Type: "t", Extensions: map[string]string{"traceparent": parent}}
	off.Accepted(e, "shop", time.Now(), time.Now())
	off.Attempted(e, Attempt{})
	if off.Parent(e, Attempt{}) != "" || off.Close(t.Context()) != nil {
		t.Error("a tracer that is off gives a trace")
	}
	for _, endpoint := range []string{"collector:4318", "ftp://x", "http://", "http://x/v1/traces"} {
		if CheckEndpoint(endpoint) == nil {
			t.Errorf("%q passed", endpoint)
		}
	}
}
