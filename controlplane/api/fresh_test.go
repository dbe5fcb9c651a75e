package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

func TestReadsAreCurrentOrSaySo(t *testing.T) {
	b := newBench(t)
	w := b.do("GET", BasePath+"/agents", "")
	if b.store.freshened != 1 || w.Header().Get(StaleHeader) != "" {
		t.Errorf("Fresh was called %d times, header %q", b.store.freshened, w.Header().Get(StaleHeader))
	}
	// What Fresh brought is what is read.
	b.store.freshen = func(ctx context.Context) {
		if until, bounded := ctx.Deadline(); !bounded || time.Until(until) > freshTimeout {
			t.Errorf("Fresh may take until %v", until)
		}
		b.store.agents = []model.Agent{{Name: "eu"}}
	}
	var list AgentList
	b.want(b.do("GET", BasePath+"/agents", ""), 200, &list)
	if len(list.Items) != 1 {
		t.Errorf("agents = %+v", list)
	}
	b.store.stale = errors.New("no leader\r\nX-Evil: 1 \u00e9" + strings.Repeat("x", 500))
	w = b.do("GET", BasePath+"/agents", "")
	b.want(w, 200, &list)
	if got := w.Header().Get(StaleHeader); !strings.HasPrefix(got, "no leader  X-Evil") || len(got) > maxStale || len(list.Items) != 1 {
		t.Errorf("header = %q, agents = %+v", got, list)
	}
	before := b.store.freshened
	b.do("GET", BasePath+"/health", "")
	if b.store.freshened != before {
		t.Error("health waits for a leader")
	}
}

func TestChangesAreNotMadeFromOldRows(t *testing.T) {
	b := newBench(t)
	b.store.stale = errors.New("no leader is known")
	p := b.refused(b.do("POST", BasePath+"/principals/ann/disable", ""), 503, "unavailable")
	if len(b.store.applied) != 0 || !strings.Contains(p.Detail, "nothing was done") || !strings.Contains(p.Detail, "no leader is known") {
		t.Errorf("problem = %+v, applied %v", p, b.store.applied)
	}
	b.refused(b.do("DELETE", BasePath+"/cluster/nodes/b", ""), 503, "unavailable")
	// Checking documents changes nothing and needs nobody.
	w := b.do("POST", BasePath+"/policy/lint", `{"bundle":{"policy.yaml":""}}`)
	b.want(w, 200, nil)
	if w.Header().Get(StaleHeader) == "" {
		t.Error("the answer does not say that it may be old")
	}
}

// Every call that changes something takes an Idempotency-Key; the others do not.
func TestTheDocumentSaysWhatChanges(t *testing.T) {
	ops, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	for key, op := range ops {
		want := !strings.HasPrefix(key, "GET ") && !strings.HasSuffix(key, "/policy/lint")
		if op.changes != want {
			t.Errorf("%s changes = %v", key, op.changes)
		}
	}
}

// A token that was made on another node a moment ago is good here too.
func TestATokenIsLookedForBeforeItIsRefused(t *testing.T) {
	b := newBench(t)
	token, hash := MintPrincipalToken()
	b.refused(b.do("GET", BasePath+"/whoami", "", "Authorization", "Bearer "+token), 401, "unauthorized")
	b.store.freshen = func(context.Context) {
		b.store.people = append(b.store.people, model.Principal{Name: "new", TokenHash: hash})
	}
	var me WhoAmI
	b.want(b.do("GET", BasePath+"/whoami", "", "Authorization", "Bearer "+token), 200, &me)
	if me.Name != "new" {
		t.Errorf("me = %+v", me)
	}
	// Strangers cannot keep the leader busy: beyond a few they are refused at once.
	for range maxDoubts {
		b.server.doubts <- struct{}{}
	}
	before := b.store.freshened
	stranger, _ := MintPrincipalToken()
	b.refused(b.do("GET", BasePath+"/whoami", "", "Authorization", "Bearer "+stranger), 401, "unauthorized")
	if b.store.freshened != before {
		t.Error("the leader was asked for one stranger too many")
	}
}

func TestUnknownOutcomesSayWhatToDo(t *testing.T) {
	b := newBench(t)
	b.store.answer = func(model.Command) (any, error) { return nil, model.Errorf(model.Unknown, "leadership was lost") }
	p := b.refused(b.do("POST", BasePath+"/agents/eu/revoke", "", "Idempotency-Key", "k"), 504, "unknown")
	if !strings.Contains(p.Detail, "may or may not") || !strings.Contains(p.Detail, "with the same Idempotency-Key") {
		t.Errorf("with a key: %q", p.Detail)
	}
	p = b.refused(b.do("POST", BasePath+"/agents/eu/revoke", ""), 504, "unknown")
	if !strings.Contains(p.Detail, "may or may not") || !strings.Contains(p.Detail, "look before") {
		t.Errorf("without a key: %q", p.Detail)
	}
}
