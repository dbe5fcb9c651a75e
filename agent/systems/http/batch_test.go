package httpdriver

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/systemstest"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// kept is a delivery as the courier hands it over: with the text that is stored.
func kept(t testing.TB, name string, change ...func(*systems.Delivery)) systems.Delivery {
	t.Helper()
	d := systemstest.NewDelivery(name)
	for _, c := range change {
		c(&d)
	}
	text, err := d.Event.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	d.Text = text
	return d
}

func extension(name, value string) func(*systems.Delivery) {
	return func(d *systems.Delivery) {
		d.Event.Extensions = maps.Clone(d.Event.Extensions)
		if err := d.Event.SetAttribute(name, value); err != nil {
			panic(err)
		}
	}
}

// TestBatchFormat reads the batch back as a system would: each event is what it is anywhere
// else, with our attributes beside.
func TestBatchFormat(t *testing.T) {
	ours := map[string]string{AttributeIdempotencyKey: "idem-x", AttributeKey: "order-x", AttributeRoute: "test"}
	with := func(further ...string) map[string]string {
		out := maps.Clone(ours)
		for i := 0; i < len(further); i += 2 {
			out[further[i]] = further[i+1]
		}
		return out
	}
	mapped := func(d *systems.Delivery) { d.Data = []byte(`{"mapped":true}`) }
	for _, c := range []struct {
		name   string
		change []func(*systems.Delivery)
		want   map[string]string
	}{
		{"plain", nil, ours},
		{"mapped", []func(*systems.Delivery){mapped}, ours},
		{"shadow", []func(*systems.Delivery){func(d *systems.Delivery) { d.Shadow = true }}, with(AttributeShadow, "true")},
		{"with extensions", []func(*systems.Delivery){extension("partitionkey", "p"), extension("tax", `"<ü>"`)}, with("partitionkey", "p", "tax", `"<ü>"`)},
		{"with ours already", []func(*systems.Delivery){extension(AttributeRoute, "elsewhere"), extension(AttributeIdempotencyKey, "k")},
			with("ownidempotencykey", "k", "owncrossdockroute", "elsewhere")},
		{"mapped with ours already", []func(*systems.Delivery){extension(AttributeKey, "z"), mapped}, with("owncrossdockkey", "z")},
		{"a key to escape", []func(*systems.Delivery){func(d *systems.Delivery) { d.Key = "a\"b\\<\u00fc" }}, with(AttributeKey, "a\"b\\<\u00fc")},
		{"no key, no route", []func(*systems.Delivery){func(d *systems.Delivery) { d.Key, d.Route = "", "" }}, map[string]string{AttributeIdempotencyKey: "idem-x"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, stored := range []bool{true, false} {
				d, other := kept(t, "x", c.change...), kept(t, "y")
				if !stored {
					d.Text = nil
				}
				body, err := EncodeBatch([]systems.Delivery{other, d, other})
				if err != nil {
					t.Fatal(err)
				}
				var parts []json.RawMessage
				if err := json.Unmarshal(body, &parts); err != nil || len(parts) != 3 {
					t.Fatalf("%d events, %v: %s", len(parts), err, body)
				}
				got, err := event.Unmarshal(parts[1])
				if err != nil {
					t.Fatalf("%v: %s", err, parts[1])
				}
				if !maps.Equal(got.Extensions, c.want) {
					t.Errorf("got attributes %v, want %v", got.Extensions, c.want)
				}
				want := *d.Mapped()
				if got.ID != want.ID || got.Source != want.Source || !got.Time.Equal(want.Time) || string(got.Data) != string(want.Data) || got.DataSchema != want.DataSchema {
					t.Errorf("got %+v, want %+v", got, want)
				}
				d.Attempt = 7
				if again, err := EncodeBatch([]systems.Delivery{other, d, other}); err != nil || string(again) != string(body) {
					t.Errorf("the next attempt has another body: %v\n%s\n%s", err, again, body)
				}
			}
		})
	}
}

// An event that leaves no name for ours, or cannot be written, is refused: alone, it will be
// a dead letter that says why.
func TestBatchRefusesWhatCannotBeSaid(t *testing.T) {
	for name, d := range map[string]systems.Delivery{
		"crossdockkey": kept(t, "x", extension(AttributeKey, "a"), extension(AttributeOwn+AttributeKey, "b")),
		"not JSON":     kept(t, "x", func(d *systems.Delivery) { d.Data = []byte("{") }),
	} {
		_, err := EncodeBatch([]systems.Delivery{kept(t, "good"), d})
		var coded *systems.Error
		if !errors.As(err, &coded) || coded.Class != systems.Rejected || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "event x") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestBatchRequest(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	d := open(t, system(t, foreign.URL()), systems.Options{})
	answer, err := d.DeliverBatch(t.Context(), []systems.Delivery{kept(t, "a"), kept(t, "b")})
	if err != nil || answer.Status != 200 || string(answer.Body) != `{"taken":true}` {
		t.Fatalf("got %+v, %v", answer, err)
	}
	r := foreign.Requests()[0]
	if got := r.Header.Get("Content-Type"); got != "application/cloudevents-batch+json; charset=utf-8" || r.Method != "POST" || r.URL.Path != "/deliver" {
		t.Errorf("got %s %s of %s", r.Method, r.URL, got)
	}
	for name := range r.Header { // what is of one event would be wrong for the others
		if strings.HasPrefix(name, "Crossdock") || name == HeaderIdempotencyKey {
			t.Errorf("header %s", name)
		}
	}
	var keys []string
	for _, e := range foreign.Effects() {
		keys = append(keys, e.Key)
	}
	if !slices.Equal(keys, []string{"idem-a", "idem-b"}) {
		t.Errorf("effects %q", keys)
	}
}

func TestBatchNeedsAnEnvelopeThatHasOne(t *testing.T) {
	for _, envelope := range []string{"binary", "data"} {
		foreign := systemstest.NewHTTP(t)
		sys := system(t, foreign.URL())
		sys.HTTP.Deliver = &policy.HTTPCall{Path: "/deliver", Envelope: envelope}
		_, err := open(t, sys, systems.Options{}).DeliverBatch(t.Context(), []systems.Delivery{kept(t, "a")})
		if systems.ClassOf(err) != systems.Misconfigured || len(foreign.Effects()) != 0 {
			t.Errorf("%s: got %v", envelope, err)
		}
	}
	sys := system(t, "http://127.0.0.1:9")
	sys.HTTP.Deliver = nil
	if _, err := open(t, sys, systems.Options{}).DeliverBatch(t.Context(), []systems.Delivery{kept(t, "a")}); !errors.Is(err, systems.ErrNotOffered) {
		t.Errorf("without deliver: got %v", err)
	}
}

// BenchmarkEncode writes what goes to a system, for one event: alone with headers, and as
// its part of a batch, from what is stored and with mapped data.
func BenchmarkEncode(b *testing.B) {
	data := []byte(`{"orderId":"O-000000001","note":"` + strings.Repeat("x", 900) + `"}`)
	d := kept(b, "x", func(d *systems.Delivery) { d.Event.Data = data })
	ds := make([]systems.Delivery, 64)
	for i := range ds {
		ds[i] = d
	}
	mapped := slices.Clone(ds)
	for i := range mapped {
		mapped[i].Data = data
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			header, _, err := Encode(d.Mapped(), "")
			if err != nil {
				b.Fatal(err)
			}
			addHeaders(header, d)
		}
	})
	for name, ds := range map[string][]systems.Delivery{"batch as kept": ds, "batch mapped": mapped} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N/len(ds) + 1 { // b.N events
				if _, err := EncodeBatch(ds); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
