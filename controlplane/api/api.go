// Package api owns the control plane's REST API: the OpenAPI document beside it, who is
// asking, what a request may look like, and how an answer or a refusal is written.
//
// It refuses to know how state is kept or replicated, how agents are connected, and who
// may change what: it passes on who asked, and the state machine decides. Its invariant:
// no route but health answers without a known principal's token, and generated types do
// not leave this package.
package api

//go:generate go tool -modfile=../../scripts/generate/go.mod oapi-codegen -config oapi-codegen.yaml openapi.yaml

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

// BasePath is where every route begins.
const BasePath = "/api/v1"

// The limits of a request.
const (
	MaxBody       = 64 << 10  // bytes of a body that holds no documents
	MaxBundleBody = 16 << 20  // bytes of a body with a bundle, whose text JSON makes longer
	MaxPieceBody  = 1 << 20   // bytes of a body with a manifest, or a piece of a file
	MaxSecretBody = 128 << 10 // bytes of a body with a sealed secret
	MaxHeader     = 32 << 10
	maxLints      = 2 // bundles compiled at once on one node
	maxDoubts     = 4 // strangers at once for whose sake the leader is asked
	freshTimeout  = 2 * time.Second
)

// Writer changes the state. An error is a *model.Error; Unknown says that it may have been done.
type Writer interface {
	Apply(ctx context.Context, cmd model.Command) (result any, err error)
}

// Standing tells how this node stands in the cluster.
type Standing interface {
	Ready() error // nil: it can serve
	Leader() (id string, self bool)
	// Fresh returns when what is read here is as new as anything answered before, anywhere.
	Fresh(ctx context.Context) error
	Verdict() model.Verdict
	Cluster() (model.Cluster, bool)
}

// Access reads people, tokens, agents and who signs their certificates.
type Access interface {
	Principal(tokenHash [32]byte) (model.Principal, bool)
	Principals() []model.Principal
	JoinTokens() []model.JoinToken
	Authorities() []model.Authority
	Agents() []model.Agent
	Agent(name string) (model.Agent, bool)
	Mailbox(agent string) model.Mailbox
	Unattended() []model.Unattended
	// Relayed tells when the relay took what waits in a mailbox; zero: it does not wait there.
	Relayed(destination string, wanted []model.LaneNumber) []time.Time
}

// Policy reads revisions, the systems that take the place of others, number ranges and sealed secrets.
type Policy interface {
	Active() (model.Revision, bool)
	Revisions(before uint64, limit int) []model.Revision // newest first; before 0 begins
	Revision(number uint64) (model.Revision, bool)
	RevisionBundle(number uint64) ([]byte, bool)
	Moves() []model.MoveStatus
	Ranges() []model.RangeStatus
	SecretMarks(agent string) []model.SecretMark // with "" of all agents
}

// Records reads what must be repaired and what was done.
type Records interface {
	DeadLetters(filter model.DeadLetterFilter) (letters []model.DeadLetter, next uint64)
	DeadLetter(id string) (model.DeadLetter, bool)
	Exceptions(limit int) []model.Exception
	Audit(after uint64, limit int) []model.AuditEntry
	AuditBefore(before uint64, limit int) []model.AuditEntry
	VerifyAudit() error
}

// Store is the replicated state.
type Store interface {
	Writer
	Standing
	Access
	Policy
	Rollouts
	Records
}

// Agents reaches the agents that are connected, to whichever node.
type Agents interface {
	Connected(agent string) bool
	// Ask waits for the agent's answer or the end of ctx.
	Ask(ctx context.Context, agent, kind string, args json.RawMessage) (json.RawMessage, error)
}

// JoinToken is a freshly minted join token; Text is what a person is shown.
type JoinToken struct {
	ID   string
	Hash [32]byte
	Text string
}

// Config is what the API is made of.
type Config struct {
	Store     Store
	Agents    Agents
	Cluster   ClusterControl
	MintToken func(site string) (JoinToken, error)
	Addresses func() []string  // host:port by which agents are told to reach the nodes
	Now       func() time.Time // default time.Now
	Logger    *slog.Logger     // default: none
	Metrics   *Metrics         // default: none

	ReleaseKeys release.Keys // that releases must be signed with to be taken; none: any
}

// Server is the API as an http.Handler.
type Server struct {
	store   Store
	agents  Agents
	control ClusterControl
	mint    func(site string) (JoinToken, error)
	reached func() []string
	now     func() time.Time
	log     *slog.Logger
	metrics *Metrics

	releaseKeys release.Keys

	echo    *echo.Echo
	handler http.Handler
	lints   chan struct{} // one token for each bundle being compiled
	doubts  chan struct{} // one for each unknown token that is looked for on the leader
}

var (
	_ StrictServerInterface = (*Server)(nil)
	_ http.Handler          = (*Server)(nil)
)

// New makes the API ready to serve.
func New(config Config) (*Server, error) {
	if config.Store == nil || config.Agents == nil || config.Cluster == nil || config.MintToken == nil {
		return nil, errors.New("api: Store, Agents, Cluster and MintToken are required")
	}
	s := &Server{
		store: config.Store, agents: config.Agents, control: config.Cluster, mint: config.MintToken, reached: config.Addresses,
		now: config.Now, log: config.Logger, metrics: config.Metrics, releaseKeys: config.ReleaseKeys,
		lints: make(chan struct{}, maxLints), doubts: make(chan struct{}, maxDoubts),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	operations, err := loadOperations()
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Logger.SetOutput(io.Discard)         // this package logs what matters itself
	e.IPExtractor = echo.ExtractIPDirect() // without it anyone may claim any address by a header
	e.HTTPErrorHandler = s.writeProblem
	e.Use(s.observe, s.recover, s.security) // outermost first
	group := e.Group(BasePath, s.authenticate(operations), s.validate(operations), s.refresh(operations))
	RegisterHandlers(group, NewStrictHandler(s, nil))
	s.echo = e

	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(s.denyCrossOrigin))
	s.handler = guard.Handler(e)
	return s, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// asked says who asks for a change, and under which id.
func (s *Server) asked(ctx context.Context, key IdempotencyKey) model.Asked {
	p := principalFrom(ctx)
	asked := model.Asked{By: p.Name, At: s.now().UTC()}
	if key != "" {
		// Two people may choose the same id; neither may get the other's answer.
		asked.RequestID = p.Name + "/" + key
	}
	return asked
}
