package intake

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// desk is who makes calls, as a test tells it to.
type desk struct {
	got    Call
	answer *CallAnswer
	err    error
}

var _ Calls = (*desk)(nil)

func (d *desk) Do(_ context.Context, c Call) (*CallAnswer, error) {
	d.got = c
	return d.answer, d.err
}

func (d *desk) Call(system, id string) (any, error) { return map[string]string{system: id}, d.err }

func (d *desk) Calls(system, state string, limit int, cursor string) (any, string, error) {
	return []string{system, state, strconv.Itoa(limit)}, cursor, d.err
}

func TestCallPasses(t *testing.T) {
	r := newRig(t)
	r.desk.answer = &CallAnswer{ID: "c1", State: "done", Body: json.RawMessage(`{"a":1}`)}
	a := r.do(t, http.MethodPost, "/v1/carriers/zone/ship", `{"reference":"R"}`, "Idempotency-Key", `"k1"`, "Crossdock-Deadline", "2026-11-26T17:00:00+02:00")
	if a.status != http.StatusOK || string(a.body) != `{"a":1}` || a.header.Get("Crossdock-Call") != "c1" {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	g := r.desk.got
	if g.System != "shop" || g.Kind != "carrier" || g.Plugin != "zone" || g.Operation != "ship" || g.Key != "k1" || string(g.Body) != `{"reference":"R"}` ||
		!g.Deadline.Equal(time.Date(2026, 11, 26, 15, 0, 0, 0, time.UTC)) {
		t.Fatalf("got %+v", g)
	}
	r.desk.answer = &CallAnswer{ID: "c2", State: "queued", Deadline: g.Deadline}
	a = r.do(t, http.MethodPost, "/v1/tax/void", `{}`, "Idempotency-Key", "k2")
	if a.status != http.StatusAccepted || string(a.body) != `{"deadline":"2026-11-26T15:00:00Z","id":"c2","state":"queued"}`+"\n" || a.header.Get("Location") != "/v1/calls/c2" {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if g := r.desk.got; g.Kind != "tax" || g.Plugin != "" || g.Operation != "void" {
		t.Fatalf("got %+v", g)
	}
	if a := r.do(t, http.MethodGet, "/v1/calls/c1", ""); a.status != http.StatusOK || string(a.body) != `{"shop":"c1"}`+"\n" {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for query, want := range map[string]string{
		"state=queued":                 `{"calls":["shop","queued","0"]}`,
		"state=done&limit=7&cursor=at": `{"calls":["shop","done","7"],"next":"at"}`,
	} {
		if a := r.do(t, http.MethodGet, "/v1/calls?"+query, ""); string(a.body) != want+"\n" {
			t.Errorf("%s: got %d %s", query, a.status, a.body)
		}
	}
	for _, limit := range []string{"0", "-1", "many", "99999999999"} {
		if a := r.do(t, http.MethodGet, "/v1/calls?limit="+limit, ""); a.status != http.StatusBadRequest || a.problem(t).Code != CodeInvalidRequest {
			t.Errorf("limit %s: got %d %s", limit, a.status, a.body)
		}
	}
}

func TestCallRefused(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name    string
		err     error
		headers []string
		status  int
		code    Code
	}{
		{"no token", nil, []string{"Authorization", ""}, 401, CodeUnauthenticated},
		{"two keys", nil, []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, CodeInvalidRequest},
		{"a blank in the key", nil, []string{"Idempotency-Key", "a b"}, 400, CodeInvalidRequest},
		{"no deadline", nil, []string{"Crossdock-Deadline", "noon"}, 400, CodeInvalidRequest},
		{"a deadline that JSON has not", nil, []string{"Crossdock-Deadline", "9999-12-31T23:00:00-14:00"}, 400, CodeInvalidRequest},
		{"one before all time", nil, []string{"Crossdock-Deadline", "0000-01-01T00:00:00+14:00"}, 400, CodeInvalidRequest},
		{"in doubt", &CallError{Code: CodeInDoubt, ID: "c", RetryAfter: 1500 * time.Millisecond}, nil, 503, CodeInDoubt},
		{"other body", &CallError{Code: CodeOtherBody, ID: "c"}, nil, 422, CodeOtherBody},
		{"anything", errors.New("secret"), nil, 500, CodeInternal},
	} {
		r.desk.answer, r.desk.err = &CallAnswer{Body: json.RawMessage(`{}`)}, c.err
		a := r.do(t, http.MethodPost, "/v1/carriers/zone/ship", `{}`, c.headers...)
		if p := a.problem(t); a.status != c.status || p.Code != c.code {
			t.Errorf("%s: got %d %s", c.name, a.status, a.body)
		}
		if after := a.header.Get("Retry-After"); c.code == CodeInDoubt && (after != "2" || a.header.Get("Crossdock-Call") != "c") {
			t.Errorf("%s: got Retry-After %q", c.name, after)
		}
	}
	r.desk.err = &CallError{Code: CodeCallRefused, Detail: "too heavy", Field: "parcels[1].labelDpi", Failure: map[string]string{"class": "validation"}}
	a := r.do(t, http.MethodPost, "/v1/carriers/zone/ship", `{}`)
	p := a.problem(t)
	if a.status != 422 || p.Errors[0].Pointer != "/parcels/1/labelDpi" || p.Failure.(map[string]any)["class"] != "validation" {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestPublish(t *testing.T) {
	r := newRig(t)
	e := &event.Event{ID: "1", Source: "/sites/eu/calls", Type: "tag.made.v1", Time: time.Unix(1, 0), Data: []byte(`{"reference":"R"}`)}
	for range 2 {
		if err := r.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	held := r.journal.held()
	if len(held) != 1 || held[0].System != policy.AgentRole || held[0].Key != "R" || len(held[0].Targets) != 1 {
		t.Fatalf("got %+v", held)
	}
	bad := *e
	bad.ID, bad.Data = "2", []byte(`{"reference":7}`)
	var final interface{ Permanent() bool }
	if err := r.Publish(t.Context(), &bad); !errors.As(err, &final) || !final.Permanent() {
		t.Errorf("got %v", err)
	}
	for _, kind := range []string{"order.captured.v1", "none.such.v1"} { // another's, and nobody's
		other := *e
		other.ID, other.Type = kind, kind
		if err := r.Publish(t.Context(), &other); !errors.Is(err, ErrNoContract) {
			t.Errorf("%s: got %v", kind, err)
		}
	}
	r.journal.full = true
	other := *e
	other.ID = "3"
	if err := r.Publish(t.Context(), &other); !errors.As(err, &final) || final.Permanent() {
		t.Errorf("full: got %v", err)
	}
}
