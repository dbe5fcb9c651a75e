package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

func (r *rig) status(t *testing.T, id, token string) int {
	t.Helper()
	return r.send(t, structured(id, goodData), "Content-Type", structuredType, "Authorization", "Bearer "+token).status
}

func TestTokens(t *testing.T) {
	t.Run("a new revision has them read again", func(t *testing.T) {
		r := newRig(t)
		if got := r.status(t, "1", "shop-secret"); got != 202 {
			t.Fatalf("got %d", got)
		}
		r.secrets.set("file:shop.token", "changed")
		if got := r.status(t, "2", "shop-secret"); got != 202 {
			t.Errorf("the old token before the new revision: got %d, want 202", got)
		}
		r.policy.p.Store(compilePolicy(t))
		if got := r.status(t, "3", "shop-secret"); got != 401 {
			t.Errorf("the old token: got %d, want 401", got)
		}
		if got := r.status(t, "4", "changed"); got != 202 {
			t.Errorf("the new token: got %d, want 202", got)
		}
	})
	t.Run("an unknown token has them read again after a while", func(t *testing.T) {
		r := newRig(t)
		r.status(t, "1", "shop-secret")
		r.secrets.set("file:shop.token", "changed")
		if got := r.status(t, "2", "changed"); got != 401 {
			t.Errorf("at once: got %d, want 401", got)
		}
		r.clock.advance(tokenReread)
		if got := r.status(t, "3", "changed"); got != 202 {
			t.Errorf("later: got %d, want 202", got)
		}
		if got := r.status(t, "4", "shop-secret"); got != 401 {
			t.Errorf("the old token: got %d, want 401", got)
		}
	})
	t.Run("an empty or missing secret opens nothing", func(t *testing.T) {
		r := newRig(t)
		r.secrets.set("file:shop.token", " \n")
		for _, token := range []string{"", " ", "shop-secret"} {
			if got := r.status(t, "1", token); got != 401 {
				t.Errorf("token %q: got %d, want 401", token, got)
			}
		}
	})
	t.Run("the same token twice opens neither", func(t *testing.T) {
		r := newRig(t)
		r.secrets.set("file:wms.token", "shop-secret")
		if got := r.status(t, "1", "shop-secret"); got != 401 {
			t.Errorf("got %d, want 401", got)
		}
		got := r.Closed()
		for name, other := range map[string]string{"shop": "wms", "wms": "shop"} {
			if want := "it has the same token as system " + other; got[name] != want {
				t.Errorf("%s: got %q, want %q", name, got[name], want)
			}
		}
	})
}

// While a token is rotated the former is taken as well: until it lapses, until somebody drops
// it, or without end.
func TestTwoTokensAtOnce(t *testing.T) {
	r := newRig(t)
	want := func(id, token string, status int) {
		t.Helper()
		if got := r.status(t, id, token); got != status {
			t.Errorf("event %s with %s: got %d, want %d", id, token, got, status)
		}
	}
	want("1", "shop-secret", 202)
	r.secrets.set("file:shop.token", "next")
	r.secrets.keep("shop-secret", r.clock.now().Add(time.Hour))
	r.SecretsChanged()
	want("2", "next", 202)
	want("3", "shop-secret", 202)
	r.clock.advance(time.Hour)
	want("4", "shop-secret", 401)
	want("5", "next", 202)
	r.secrets.keep("shop-secret", time.Time{})
	r.SecretsChanged()
	want("6", "shop-secret", 202)
	r.secrets.keep("", time.Time{})
	want("7", "shop-secret", 202) // nobody has said that it changed
	r.SecretsChanged()
	want("8", "shop-secret", 401)
	r.secrets.keep("wms-secret", time.Time{}) // of another system now
	r.SecretsChanged()
	if v, p := r.current(); p != nil || v.find(sha256.Sum256([]byte("wms-secret")), r.clock.now()) == v.byName["shop"] {
		t.Errorf("a former token that another system has is taken (%v)", p)
	}
}

func TestTokensOnABadDisk(t *testing.T) {
	t.Run("nobody is refused for good while a disk does not give the tokens", func(t *testing.T) {
		r := newRig(t)
		r.secrets.fail(fmt.Errorf("secret file:shop.token: %w", &fs.PathError{Op: "openat", Path: "shop.token", Err: syscall.EIO}))
		for _, token := range []string{"shop-secret", "another"} {
			if got := r.status(t, "1", token); got != 503 {
				t.Errorf("token %q: got %d, want 503", token, got)
			}
		}
		r.secrets.fail(nil)
		r.clock.advance(unreadReread)
		if got := r.status(t, "1", "another"); got != 401 {
			t.Errorf("when they are read: got %d, want 401", got)
		}
		if got := r.status(t, "1", "shop-secret"); got != 202 {
			t.Errorf("when they are read: got %d, want 202", got)
		}
	})
	t.Run("a token that was read holds while a disk does not give it", func(t *testing.T) {
		r := newRig(t)
		if got := r.status(t, "1", "shop-secret"); got != 202 {
			t.Fatalf("got %d", got)
		}
		r.secrets.fail(&fs.PathError{Op: "read", Path: "shop.token", Err: syscall.EIO})
		r.clock.advance(tokenReread)
		if got := r.status(t, "2", "another"); got != 503 {
			t.Errorf("a stranger: got %d, want 503", got)
		}
		if got := r.status(t, "3", "shop-secret"); got != 202 {
			t.Errorf("the system: got %d, want 202", got)
		}
		r.secrets.fail(errors.New("no such secret"))
		r.clock.advance(unreadReread)
		r.status(t, "4", "another")
		if got := r.status(t, "5", "shop-secret"); got != 401 {
			t.Errorf("the token was taken away: got %d, want 401", got)
		}
	})
}

// It is said which system cannot post, until its secret is there.
func TestClosed(t *testing.T) {
	r := newRig(t)
	var said bytes.Buffer
	r.log = slog.New(slog.NewTextHandler(&said, nil))
	if got := r.Closed(); len(got) > 0 {
		t.Errorf("all is well: %v", got)
	}
	r.secrets.set("file:shop.token", " \n")
	r.policy.p.Store(compilePolicy(t))
	for range 2 {
		if got := r.Closed(); len(got) != 1 || got["shop"] != "its token file:shop.token is empty" {
			t.Errorf("got %v", got)
		}
		r.clock.advance(tokenReread)
	}
	if got := strings.Count(said.String(), "cannot post"); got != 1 {
		t.Errorf("it was logged %d times, want once:\n%s", got, said.String())
	}
	r.secrets.set("file:shop.token", "shop-secret")
	r.clock.advance(tokenReread)
	if got := r.Closed(); len(got) > 0 {
		t.Errorf("the secret is there: %v", got)
	}
	if got := r.status(t, "1", "shop-secret"); got != 202 {
		t.Errorf("got %d, want 202", got)
	}
}

func TestRateLimit(t *testing.T) {
	r := newRig(t) // 10 a second, 20 at once
	a := r.send(t, structured("1", goodData), "Content-Type", structuredType)
	if got := a.header.Get("RateLimit-Policy"); got != `"events";q=20;w=2` {
		t.Errorf("RateLimit-Policy: got %s", got)
	}
	if got := a.header.Get("RateLimit"); got != `"events";r=19;t=1` {
		t.Errorf("RateLimit: got %s", got)
	}
	batch := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(structured("1", goodData)+",", n), ",") + "]"
	}
	a = r.send(t, batch(19), "Content-Type", batchType)
	if got := a.header.Get("RateLimit"); a.status != 202 || got != `"events";r=0;t=2` {
		t.Errorf("got %d, RateLimit %s", a.status, got)
	}
	calls := r.journal.calls
	a = r.send(t, structured("2", goodData), "Content-Type", structuredType)
	if p := a.problem(t); a.status != 429 || p.Code != CodeRateLimited || a.header.Get("Retry-After") != "1" || a.header.Get("RateLimit") != `"events";r=0;t=2` {
		t.Errorf("got %d %s %v", a.status, a.body, a.header)
	}
	r.clock.advance(500 * time.Millisecond) // five events
	a = r.send(t, batch(6), "Content-Type", batchType)
	if a.status != 429 || a.header.Get("Retry-After") != "1" {
		t.Errorf("got %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	if r.journal.calls != calls {
		t.Error("the journal was called")
	}
	if got := r.send(t, structured("1", goodData), "Content-Type", structuredType, "Authorization", "Bearer wms-secret").status; got != 403 {
		t.Errorf("another system: got %d, want 403, not 429", got)
	}

	// A new revision changes the limit and forgives nothing.
	set := compilePolicy(t)
	set.Systems["shop"].Intake.Rate, set.Systems["shop"].Intake.Burst = 1, 4
	r.policy.p.Store(set)
	r.clock.advance(time.Second)
	a = r.send(t, structured("1", goodData), "Content-Type", structuredType)
	if got := a.header.Get("RateLimit-Policy"); got != `"events";q=4;w=4` {
		t.Errorf("RateLimit-Policy: got %s", got)
	}
}

func newEvent(id, data string) *event.Event {
	return &event.Event{ID: id, Source: "/eu/shop", Type: "order.captured.v1", Data: []byte(data)}
}

func TestDriverAccept(t *testing.T) {
	for _, tt := range []struct {
		name      string
		prepare   func(*rig)
		system    string
		events    []*event.Event
		code      Code
		pointer   string
		permanent bool
	}{
		{"good", nil, "shop", []*event.Event{newEvent("1", goodData), newEvent("2", goodData)}, "", "", false},
		{"none", nil, "shop", nil, "", "", false},
		{"invalid data", nil, "shop", []*event.Event{newEvent("1", goodData), newEvent("2", `{}`)}, CodeInvalidData, "/1/data/lines", true},
		{"no event", nil, "shop", []*event.Event{newEvent("", goodData)}, CodeInvalidEvent, "/0", true},
		{"too deep", nil, "shop", []*event.Event{newEvent("1", strings.Repeat("[", 65)+strings.Repeat("]", 65))}, CodeTooDeep, "/0/data", true},
		{"other publisher", nil, "wms", []*event.Event{newEvent("1", goodData)}, CodeNotPublisher, "/0/type", true},
		{"other site", nil, "shop-hq", []*event.Event{newEvent("1", goodData)}, CodeNotPublisher, "", true},
		{"conflict", func(r *rig) { r.Accept(context.Background(), "shop", []*event.Event{newEvent("2", goodData)}) },
			"shop", []*event.Event{newEvent("1", goodData), newEvent("2", `{"orderId":"B","lines":[]}`)}, CodeConflict, "/1/id", true},
		{"full", func(r *rig) { r.journal.full = true }, "shop", []*event.Event{newEvent("1", goodData)}, CodeQueueFull, "", false},
		{"no policy", func(r *rig) { r.policy.p.Store(nil) }, "shop", []*event.Event{newEvent("1", goodData)}, CodeNotReady, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			if tt.prepare != nil {
				tt.prepare(r)
			}
			err := r.Accept(t.Context(), tt.system, tt.events)
			if tt.code == "" {
				if err != nil || len(r.journal.held()) != len(tt.events) {
					t.Errorf("got %v and %d events", err, len(r.journal.held()))
				}
				return
			}
			var p *Problem
			var permanent interface{ Permanent() bool }
			if !errors.As(err, &p) || !errors.As(err, &permanent) {
				t.Fatalf("got %v", err)
			}
			pointer := ""
			if len(p.Errors) > 0 {
				pointer = p.Errors[0].Pointer
			}
			if p.Code != tt.code || pointer != tt.pointer || permanent.Permanent() != tt.permanent {
				t.Errorf("got %s at %q, permanent %t: %v", p.Code, pointer, permanent.Permanent(), err)
			}
		})
	}
}

// A driver's many events go to the journal in parts that the limiter can ever let through.
func TestDriverAcceptsMany(t *testing.T) {
	r := newRig(t)
	set := compilePolicy(t)
	set.Systems["shop"].Intake.Rate, set.Systems["shop"].Intake.Burst = 1e6, 1500
	r.policy.p.Store(set)
	var events []*event.Event
	for i := range 2500 {
		events = append(events, newEvent(strings.Repeat("x", i%9)+time.Duration(i).String(), goodData))
	}
	if err := r.Accept(t.Context(), "shop", events); err != nil {
		t.Fatal(err)
	}
	if r.journal.calls != 3 || len(r.journal.held()) != 2500 {
		t.Errorf("%d commits of %d events, want 3 of 2500", r.journal.calls, len(r.journal.held()))
	}
	events[2400] = newEvent("bad", `{}`)
	calls := r.journal.calls
	if err := r.Accept(t.Context(), "shop", events); err == nil || r.journal.calls != calls {
		t.Errorf("got %v and %d commits more, want an error and none", err, r.journal.calls-calls)
	}
}

// Parts are bounded by bytes too: a journal that cannot take one in a commit would refuse
// it each time that the driver tries again.
func TestPartsAreBoundedByBytes(t *testing.T) {
	events := make([]admission, 50)
	for i := range events {
		events[i].Data = make([]byte, 200<<10)
	}
	if n := partOf(events, MaxBatchEvents); n != MaxBatchBytes/(200<<10) {
		t.Errorf("%d events in a part", n)
	}
	events[0].Data = make([]byte, MaxBatchBytes+1)
	if n := partOf(events, MaxBatchEvents); n != 1 {
		t.Errorf("%d events with one that is too large by itself, want that one", n)
	}
	if n := partOf(events[1:], 3); n != 3 {
		t.Errorf("%d events, want the 3 that the limiter lets through", n)
	}
}

func TestDriverLearnsWhichEventIsAtFault(t *testing.T) {
	r := newRig(t)
	set := compilePolicy(t)
	set.Systems["shop"].Intake.Burst = 2 // parts of two
	r.policy.p.Store(set)
	events := []*event.Event{newEvent("1", goodData), newEvent("2", goodData), newEvent("3", goodData), newEvent("4", goodData)}
	if err := r.Accept(t.Context(), "shop", events[3:]); err != nil {
		t.Fatal(err)
	}
	events[3] = newEvent("4", `{"orderId":"B","lines":[]}`)
	var index interface{ EventIndex() int }
	if err := r.Accept(t.Context(), "shop", events); !errors.As(err, &index) || index.EventIndex() != 3 {
		t.Errorf("%v does not name event 3", err)
	}
	r.journal.full = true
	if err := r.Accept(t.Context(), "shop", events[:1]); !errors.As(err, &index) || index.EventIndex() != -1 {
		t.Errorf("%v names an event", err)
	}
}
