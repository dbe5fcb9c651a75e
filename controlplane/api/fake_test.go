package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// fakeStore keeps rows in memory and notes commands. What the state machine decides is
// tested where it lives; here it answers what a test wants.
type fakeStore struct {
	mu         sync.Mutex
	cluster    model.Cluster
	people     []model.Principal
	tokens     []model.JoinToken
	agents     []model.Agent
	revisions  []model.Revision
	bundles    map[uint64][]byte
	letters    []model.DeadLetter
	exceptions []model.Exception
	audit      []model.AuditEntry
	auditErr   error
	ready      error
	applied    []model.Command
	answer     func(model.Command) (any, error)
	filter     model.DeadLetterFilter
	next       uint64
	stale      error                     // what Fresh answers
	freshened  int                       // calls of Fresh
	freshen    func(ctx context.Context) // what Fresh does first
	verdict    model.Verdict
	authority  []model.Authority
	moves      []model.MoveStatus
	ranges     []model.RangeStatus
	releases   []model.Release
	wanted     map[string]string // by site: the stage
	secrets    []model.Secret
	unattended []model.Unattended
	relayed    map[string]time.Time // by what waits: "destination source number"
}

func (f *fakeStore) Fresh(ctx context.Context) error {
	f.freshened++
	if f.freshen != nil {
		f.freshen(ctx)
	}
	return f.stale
}
func (f *fakeStore) Verdict() model.Verdict         { return f.verdict }
func (f *fakeStore) Authorities() []model.Authority { return slices.Clone(f.authority) }
func (f *fakeStore) Moves() []model.MoveStatus      { return slices.Clone(f.moves) }
func (f *fakeStore) Ranges() []model.RangeStatus    { return slices.Clone(f.ranges) }

func (f *fakeStore) SecretMarks(agent string) (marks []model.SecretMark) {
	for _, s := range f.secrets {
		if agent == "" || s.Agent == agent {
			marks = append(marks, s.Mark())
		}
	}
	return marks
}

func (f *fakeStore) Apply(_ context.Context, cmd model.Command) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.applied = append(f.applied, cmd)
	if f.answer != nil {
		return f.answer(cmd)
	}
	return nil, nil
}
func (f *fakeStore) Ready() error                   { return f.ready }
func (f *fakeStore) Leader() (string, bool)         { return "a", f.ready == nil }
func (f *fakeStore) Cluster() (model.Cluster, bool) { return f.cluster, f.cluster.ID != "" }
func (f *fakeStore) Principal(hash [32]byte) (model.Principal, bool) {
	for _, p := range f.people {
		if p.TokenHash == hash {
			return p, true
		}
	}
	return model.Principal{}, false
}
func (f *fakeStore) Principals() []model.Principal {
	return append([]model.Principal(nil), f.people...)
}
func (f *fakeStore) JoinTokens() []model.JoinToken {
	return append([]model.JoinToken(nil), f.tokens...)
}
func (f *fakeStore) Agents() []model.Agent { return append([]model.Agent(nil), f.agents...) }
func (f *fakeStore) Agent(name string) (model.Agent, bool) {
	for _, a := range f.agents {
		if a.Name == name {
			return a, true
		}
	}
	return model.Agent{}, false
}
func (f *fakeStore) Mailbox(agent string) model.Mailbox {
	return model.Mailbox{Agent: agent, Events: 7}
}
func (f *fakeStore) Unattended() []model.Unattended { return slices.Clone(f.unattended) }
func (f *fakeStore) Relayed(destination string, wanted []model.LaneNumber) []time.Time {
	out := make([]time.Time, len(wanted))
	for i, w := range wanted {
		out[i] = f.relayed[fmt.Sprint(destination, " ", w.Source, " ", w.Number)]
	}
	return out
}
func (f *fakeStore) Active() (model.Revision, bool) {
	for _, r := range f.revisions {
		if r.State == model.RevisionActive {
			return r, true
		}
	}
	return model.Revision{}, false
}
func (f *fakeStore) Revisions(before uint64, limit int) (out []model.Revision) {
	for _, r := range f.revisions {
		if (before == 0 || r.ID.Number < before) && len(out) < limit {
			out = append(out, r)
		}
	}
	return out
}
func (f *fakeStore) Revision(number uint64) (model.Revision, bool) {
	for _, r := range f.revisions {
		if r.ID.Number == number {
			return r, true
		}
	}
	return model.Revision{}, false
}
func (f *fakeStore) RevisionBundle(number uint64) ([]byte, bool) {
	b, known := f.bundles[number]
	return b, known
}
func (f *fakeStore) DeadLetters(filter model.DeadLetterFilter) ([]model.DeadLetter, uint64) {
	f.filter = filter
	return append([]model.DeadLetter(nil), f.letters...), f.next
}
func (f *fakeStore) DeadLetter(id string) (model.DeadLetter, bool) {
	for _, d := range f.letters {
		if d.ID == id {
			return d, true
		}
	}
	return model.DeadLetter{}, false
}
func (f *fakeStore) Exceptions(limit int) []model.Exception {
	return f.exceptions[:min(limit, len(f.exceptions))]
}
func (f *fakeStore) Audit(after uint64, limit int) []model.AuditEntry {
	var out []model.AuditEntry
	for _, e := range f.audit {
		if e.Number > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out
}
func (f *fakeStore) AuditBefore(before uint64, limit int) []model.AuditEntry {
	var out []model.AuditEntry
	for _, e := range slices.Backward(f.audit) {
		if (before == 0 || e.Number < before) && len(out) < limit {
			out = append(out, e)
		}
	}
	return out
}
func (f *fakeStore) VerifyAudit() error { return f.auditErr }

var _ Store = (*fakeStore)(nil)

// fakeControl notes what it is asked and answers what a test wants.
type fakeControl struct {
	state  ClusterState
	called []string
	alone  error // what Joinable answers
	err    error
	backup func(w io.Writer) error
}

func (f *fakeControl) note(what string, asked model.Asked, which string) error {
	f.called = append(f.called, fmt.Sprintf("%s %s by %s %s", what, which, asked.By, asked.RequestID))
	return f.err
}
func (f *fakeControl) Status(context.Context) ClusterState { return f.state }
func (f *fakeControl) Joinable() error                     { return f.alone }
func (f *fakeControl) Remove(_ context.Context, asked model.Asked, node string) error {
	return f.note("remove", asked, node)
}
func (f *fakeControl) Transfer(_ context.Context, asked model.Asked, to string) error {
	return f.note("transfer", asked, to)
}
func (f *fakeControl) AddAuthority(_ context.Context, asked model.Asked) (model.Authority, error) {
	return model.Authority{ID: strings.Repeat("b", 64), State: model.AuthorityNext, Created: testNow}, f.note("add", asked, "")
}
func (f *fakeControl) ActivateAuthority(_ context.Context, asked model.Asked, id string) error {
	return f.note("activate", asked, id[:1])
}
func (f *fakeControl) RemoveAuthority(_ context.Context, asked model.Asked, id string) error {
	return f.note("end", asked, id[:1])
}
func (f *fakeControl) Backup(_ context.Context, asked model.Asked, w io.Writer) error {
	if err := f.note("backup", asked, ""); err != nil {
		return err
	}
	return f.backup(w)
}

var _ ClusterControl = (*fakeControl)(nil)

// fakeAgents answers what a test wrote for each agent; others are not connected.
type fakeAgents map[string]func(ctx context.Context, kind string, args json.RawMessage) (json.RawMessage, error)

func (f fakeAgents) Connected(agent string) bool { return f[agent] != nil }
func (f fakeAgents) Ask(ctx context.Context, agent, kind string, args json.RawMessage) (json.RawMessage, error) {
	if f[agent] == nil {
		return nil, errors.New("not connected")
	}
	return f[agent](ctx, kind, args)
}

var testNow = time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)

// bench is an API over a fake store with one principal.
type bench struct {
	t       *testing.T
	store   *fakeStore
	agents  fakeAgents
	control *fakeControl
	server  *Server
	token   string

	operations operations
}

func newBench(t *testing.T) *bench {
	t.Helper()
	token, hash := MintPrincipalToken()
	b := &bench{t: t, token: token, agents: fakeAgents{}, control: &fakeControl{}, store: &fakeStore{
		cluster: model.Cluster{ID: "c1", Generation: 1, Approvals: model.ApprovalsDual, Created: testNow},
		people:  []model.Principal{{Name: "ann", Roles: []model.Role{model.Admin}, TokenHash: hash, Created: testNow}},
		bundles: map[uint64][]byte{},
	}}
	server, err := New(Config{
		Store: b.store, Agents: b.agents, Cluster: b.control, Now: func() time.Time { return testNow },
		Addresses: func() []string { return []string{"hub1.example:7443", "hub2.example:7443"} },
		MintToken: func(site string) (JoinToken, error) {
			return JoinToken{ID: "id1", Hash: [32]byte{1}, Text: "xd1." + site}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.server = server
	if b.operations, err = loadOperations(); err != nil {
		t.Fatal(err)
	}
	return b
}

// do sends a request with ann's token; header pairs follow.
func (b *bench) do(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	b.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = bytes.NewReader([]byte(body))
	}
	r := httptest.NewRequest(method, path, reader)
	r.Header.Set("Authorization", "Bearer "+b.token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.server.ServeHTTP(w, r)
	b.fits(r, w)
	return w
}

// want checks the status and decodes the answer.
func (b *bench) want(w *httptest.ResponseRecorder, status int, out any) {
	b.t.Helper()
	if w.Code != status {
		b.t.Fatalf("status = %d, want %d: %s", w.Code, status, w.Body)
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
		b.t.Fatalf("answer %s: %v", w.Body, err)
	}
}

// refused checks that the answer is a whole problem with this code.
func (b *bench) refused(w *httptest.ResponseRecorder, status int, code string) Problem {
	b.t.Helper()
	var p Problem
	b.want(w, status, &p)
	if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
		b.t.Errorf("content type = %q", got)
	}
	if p.Code != code || p.Type != "https://crossdock.dev/problems/"+code || p.Status != status || p.Title == "" || p.TraceID == "" {
		b.t.Errorf("problem = %+v, want code %s", p, code)
	}
	return p
}

func testRevision(number uint64, state model.RevisionState) model.Revision {
	return model.Revision{ID: block.Revision{Generation: 1, Number: number}, State: state, Author: "bob", Proposed: testNow, Digest: [32]byte{byte(number)}}
}

var _ http.Handler = (*Server)(nil)

func (f *fakeStore) Releases() []model.Release { return slices.Clone(f.releases) }
func (f *fakeStore) ReleaseManifest(version string) ([]byte, bool) {
	return []byte("manifest of " + version), slices.ContainsFunc(f.releases, func(r model.Release) bool { return r.Version == version })
}
func (f *fakeStore) WantedStage(site string) (version, stage string) {
	version, _, _ = strings.Cut(f.wanted[site], "/")
	if slices.ContainsFunc(f.releases, func(r model.Release) bool { return r.Version == version && r.Left(site) }) {
		version = "" // nothing is wanted there, and this one is to go
	}
	return version, f.wanted[site]
}
