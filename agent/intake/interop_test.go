package intake

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

func sdkEvent(t *testing.T, id string, data any) cloudevents.Event {
	t.Helper()
	e := cloudevents.NewEvent()
	e.SetID(id)
	e.SetSource("https://shop.example/eu")
	e.SetType("order.captured.v1")
	e.SetSubject("Überweisung \"offen\"")
	e.SetTime(time.Date(2026, 5, 4, 10, 0, 0, 123456789, time.UTC))
	e.SetExtension("priority", 7)
	if err := e.SetData(cloudevents.ApplicationJSON, data); err != nil {
		t.Fatal(err)
	}
	return e
}

// The CloudEvents Go SDK speaks to the door in each mode, and what it said arrives.
func TestSDKClient(t *testing.T) {
	r := newRig(t)
	client, err := cloudevents.NewClientHTTP(cehttp.WithTarget(r.url+"/v1/events"), cehttp.WithHeader("Authorization", "Bearer shop-secret"))
	if err != nil {
		t.Fatal(err)
	}
	object := map[string]any{"orderId": "A-1", "lines": []any{}}
	for _, tt := range []struct {
		id         string
		structured bool
		data       any
	}{
		{"binary", false, object}, {"structured", true, object},
		{"binary-bytes", false, []byte(goodData)}, {"structured-bytes", true, []byte(goodData)},
	} {
		ctx := binding.WithForceBinary(t.Context())
		if tt.structured {
			ctx = binding.WithForceStructured(t.Context())
		}
		result := client.Send(ctx, sdkEvent(t, tt.id, tt.data))
		var answer *cehttp.Result
		if !cloudevents.IsACK(result) || !cloudevents.ResultAs(result, &answer) || answer.StatusCode != http.StatusAccepted {
			t.Errorf("%s: got %v", tt.id, result)
		}
	}
	q, err := cehttp.NewHTTPRequestFromEvents(t.Context(), r.url+"/v1/events",
		[]cloudevents.Event{sdkEvent(t, "batch-1", object), sdkEvent(t, "batch-2", []byte(goodData))})
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer shop-secret")
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		t.Errorf("batch: got %d", resp.StatusCode)
	}

	got := r.journal.held()
	if len(got) != 6 {
		t.Fatalf("the journal holds %d events, want 6", len(got))
	}
	for _, a := range got {
		e := a.Event
		if e.Source != "https://shop.example/eu" || e.Subject != "Überweisung \"offen\"" || e.Time.Nanosecond() != 123456789 ||
			e.Extensions["priority"] != "7" || e.Binary || a.Key != "A-1" {
			t.Errorf("%s: got %+v", e.ID, e)
		}
		// And the other way: the SDK reads the canonical encoding.
		var back cloudevents.Event
		if err := json.Unmarshal(a.Data, &back); err != nil || back.Validate() != nil || back.ID() != e.ID || back.Subject() != e.Subject {
			t.Errorf("%s: the SDK does not read %s: %v", e.ID, a.Data, err)
		}
	}
}

// What an SDK client gets for a refusal says that it is one.
func TestSDKRefused(t *testing.T) {
	r := newRig(t)
	client, err := cloudevents.NewClientHTTP(cehttp.WithTarget(r.url+"/v1/events"), cehttp.WithHeader("Authorization", "Bearer shop-secret"))
	if err != nil {
		t.Fatal(err)
	}
	result := client.Send(t.Context(), sdkEvent(t, "1", map[string]any{"orderId": 7}))
	var answer *cehttp.Result
	if cloudevents.IsACK(result) || !cloudevents.ResultAs(result, &answer) || answer.StatusCode != 422 {
		t.Errorf("got %v", result)
	}
}
