package api

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/spelling"
)

// The life of a join token.
const (
	DefaultTokenLifetime = 10 * time.Minute
	MaxTokenLifetime     = 24 * time.Hour
)

// GetHealth answers without a token, and so says nothing but whether the node serves.
func (s *Server) GetHealth(_ context.Context, _ GetHealthRequestObject) (GetHealthResponseObject, error) {
	_, leader := s.store.Leader()
	if err := s.store.Ready(); err != nil {
		return GetHealth503JSONResponse{Ready: false, Leader: leader, Detail: "not ready; the node's log says why"}, nil
	}
	return GetHealth200JSONResponse{Ready: true, Leader: leader}, nil
}

func (s *Server) cluster() (model.Cluster, error) {
	cluster, known := s.store.Cluster()
	if !known {
		return cluster, model.Errorf(model.Unavailable, "the cluster has not been bootstrapped yet")
	}
	return cluster, nil
}

// WhoAmI names the caller.
func (s *Server) WhoAmI(ctx context.Context, _ WhoAmIRequestObject) (WhoAmIResponseObject, error) {
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	p := principalFrom(ctx)
	return WhoAmI200JSONResponse{Name: p.Name, Roles: toRoles(p.Roles), Approvals: Approvals(cluster.Approvals)}, nil
}

// ListPrincipals lists people and programs.
func (s *Server) ListPrincipals(_ context.Context, _ ListPrincipalsRequestObject) (ListPrincipalsResponseObject, error) {
	principals := s.store.Principals()
	slices.SortFunc(principals, func(a, b model.Principal) int { return cmp.Compare(a.Name, b.Name) })
	answer := ListPrincipals200JSONResponse{Items: make([]Principal, len(principals))}
	for i := range principals {
		answer.Items[i] = toPrincipal(&principals[i])
	}
	return answer, nil
}

func (s *Server) principal(name string) (model.Principal, bool) {
	for _, p := range s.store.Principals() {
		if p.Name == name {
			return p, true
		}
	}
	return model.Principal{}, false
}

// CreatePrincipal adds a principal with a new token.
func (s *Server) CreatePrincipal(ctx context.Context, r CreatePrincipalRequestObject) (CreatePrincipalResponseObject, error) {
	if _, known := s.principal(r.Body.Name); known {
		return nil, model.Errorf(model.Conflict, "there is a principal %s already; names are never used again", r.Body.Name)
	}
	asked := s.asked(ctx, r.Params.IdempotencyKey)
	text, hash := MintPrincipalToken()
	p := model.Principal{Name: r.Body.Name, TokenHash: hash, Created: asked.At}
	for _, role := range r.Body.Roles {
		p.Roles = append(p.Roles, model.Role(role))
	}
	if _, err := s.store.Apply(ctx, &model.PutPrincipal{Asked: asked, Principal: p, New: true}); err != nil {
		return nil, err
	}
	return CreatePrincipal201JSONResponse{Principal: toPrincipal(&p), Token: text}, nil
}

// DisablePrincipal ends a principal's access.
func (s *Server) DisablePrincipal(ctx context.Context, r DisablePrincipalRequestObject) (DisablePrincipalResponseObject, error) {
	p, known := s.principal(r.Name)
	if !known {
		return nil, model.Errorf(model.NotFound, "there is no principal %s", r.Name)
	}
	p.Disabled = true
	cmd := &model.PutPrincipal{Asked: s.asked(ctx, r.Params.IdempotencyKey), Principal: p}
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return nil, err
	}
	return DisablePrincipal200JSONResponse(toPrincipal(&p)), nil
}

// ListTokens lists join tokens, never their secrets.
func (s *Server) ListTokens(_ context.Context, _ ListTokensRequestObject) (ListTokensResponseObject, error) {
	tokens := s.store.JoinTokens()
	slices.SortFunc(tokens, func(a, b model.JoinToken) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	answer := ListTokens200JSONResponse{Items: make([]Token, len(tokens))}
	for i := range tokens {
		answer.Items[i] = toToken(&tokens[i])
	}
	return answer, nil
}

// CreateToken mints a join token for one agent of a site, or for one node.
func (s *Server) CreateToken(ctx context.Context, r CreateTokenRequestObject) (CreateTokenResponseObject, error) {
	lifetime, err := tokenLifetime(r.Body.Lifetime)
	if err != nil {
		return nil, err
	}
	if err := s.admits(ctx, r.Body); err != nil {
		return nil, err
	}
	minted, err := s.mint(r.Body.Site)
	if err != nil {
		return nil, err
	}
	asked := s.asked(ctx, r.Params.IdempotencyKey)
	token := model.JoinToken{
		ID: minted.ID, Hash: minted.Hash, Site: r.Body.Site, Node: r.Body.Node, By: asked.By,
		Created: asked.At, Expires: asked.At.Add(lifetime),
	}
	if _, err := s.store.Apply(ctx, &model.CreateJoinToken{Asked: asked, Token: token}); err != nil {
		return nil, err
	}
	_, policed := s.store.Active()
	answer := CreateToken201JSONResponse{
		ID: token.ID, Site: token.Site, Node: token.Node, Expires: token.Expires, Token: minted.Text, Policy: policed,
	}
	if token.Site != "" {
		answer.ControlPlane = s.reached()
	}
	return answer, nil
}

func tokenLifetime(text string) (time.Duration, error) {
	if text == "" {
		return DefaultTokenLifetime, nil
	}
	lifetime, err := time.ParseDuration(text)
	if err != nil || lifetime <= 0 || lifetime > MaxTokenLifetime {
		return 0, &itemError{
			cause: model.Errorf(model.Invalid, "lifetime %q is not a duration such as 10m, at most %v", text, MaxTokenLifetime),
			items: []ProblemItem{{Pointer: "/lifetime", Detail: "a duration such as 10m, at most 24h"}},
		}
	}
	return lifetime, nil
}

// admits says whether a token may be made for what it names.
func (s *Server) admits(ctx context.Context, in *NewToken) error {
	if (in.Site == "") == (in.Node == "") {
		return &itemError{
			cause: model.Errorf(model.Invalid, "a token is for an agent of a site or for a node: name the site or the node"),
			items: []ProblemItem{{Pointer: "/site", Detail: "name a site or a node, and not both"}},
		}
	}
	if in.Node != "" {
		if err := needAdmin(ctx, "make a token for a node"); err != nil {
			return err
		}
		return s.control.Joinable()
	}
	return s.hasSite(in.Site)
}

// hasSite refuses a site that no revision has which is in force there. A canary may bring one.
func (s *Server) hasSite(site string) error {
	active, inForce := s.store.Active()
	if !inForce || slices.Contains(active.Sites, site) {
		return nil
	}
	canary, _ := s.canary()
	switch {
	case !slices.Contains(canary.Sites, site):
		return model.Errorf(model.Invalid, "revision %d, which is in force, has no site %q; %s", active.ID.Number, site, meant("sites", site, active.Sites))
	case !slices.Contains(canary.Canary, site):
		return model.Errorf(model.Conflict, "only revision %d has the site %q, and is in force at %s so far: promote it first",
			canary.ID.Number, site, strings.Join(canary.Canary, ", "))
	}
	return nil
}

// meant helps who named what there is not: with the name that is likely meant, else with all.
func meant(what, name string, names []string) string {
	if near := spelling.Nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "its " + what + " are " + strings.Join(names, ", ")
}

// ListAgents lists agents by name, and the sites for whose agent something waits that does not exist.
func (s *Server) ListAgents(_ context.Context, _ ListAgentsRequestObject) (ListAgentsResponseObject, error) {
	agents := s.store.Agents()
	slices.SortFunc(agents, func(a, b model.Agent) int { return cmp.Compare(a.Name, b.Name) })
	unattended := s.store.Unattended()
	answer := ListAgents200JSONResponse{Items: make([]Agent, len(agents)), Unattended: make([]Unattended, len(unattended))}
	for i := range agents {
		answer.Items[i] = s.agent(&agents[i])
	}
	for i, u := range unattended {
		answer.Unattended[i] = Unattended{Site: u.Site, Events: u.Events, Bytes: u.Bytes, Since: u.Since, Next: s.attend(u.Site)}
	}
	return answer, nil
}

func (s *Server) agent(a *model.Agent) Agent {
	return toAgent(a, s.store.Mailbox(a.Name), s.agents.Connected(a.Name))
}

// GetAgent gives one agent.
func (s *Server) GetAgent(_ context.Context, r GetAgentRequestObject) (GetAgentResponseObject, error) {
	a, known := s.store.Agent(r.Name)
	if !known {
		return nil, model.Errorf(model.NotFound, "there is no agent %s", r.Name)
	}
	return GetAgent200JSONResponse(s.agent(&a)), nil
}

// RevokeAgent ends an agent's right to speak.
func (s *Server) RevokeAgent(ctx context.Context, r RevokeAgentRequestObject) (RevokeAgentResponseObject, error) {
	a, err := s.changeAgent(ctx, r.Name, &model.Revoke{Asked: s.asked(ctx, r.Params.IdempotencyKey), Agent: r.Name})
	return RevokeAgent200JSONResponse(a), err
}

// AllowAgent lets an old copy of an agent in once.
func (s *Server) AllowAgent(ctx context.Context, r AllowAgentRequestObject) (AllowAgentResponseObject, error) {
	if s.agents.Connected(r.Name) && !s.copyWaits(r.Name) {
		return nil, model.Errorf(model.Conflict, "agent %s is connected, and no other copy of it was refused: nothing is to be allowed", r.Name)
	}
	a, err := s.changeAgent(ctx, r.Name, &model.AllowAgent{Asked: s.asked(ctx, r.Params.IdempotencyKey), Agent: r.Name})
	return AllowAgent200JSONResponse(a), err
}

// copyWaits reports whether a copy of an agent was refused and nobody has settled that, by
// the newest of the open exceptions.
func (s *Server) copyWaits(agent string) bool {
	return slices.ContainsFunc(s.store.Exceptions(model.MaxPage), func(e model.Exception) bool {
		return e.Agent == agent && e.Resolved.IsZero() && (e.Kind == "fenced" || e.Kind == "key-copy")
	})
}

// ForgetAgent gives up what waits for a revoked agent.
func (s *Server) ForgetAgent(ctx context.Context, r ForgetAgentRequestObject) (ForgetAgentResponseObject, error) {
	a, err := s.changeAgent(ctx, r.Name, &model.ForgetAgent{Asked: s.asked(ctx, r.Params.IdempotencyKey), Agent: r.Name})
	return ForgetAgent200JSONResponse(a), err
}

func (s *Server) changeAgent(ctx context.Context, name string, cmd model.Command) (Agent, error) {
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return Agent{}, err
	}
	a, known := s.store.Agent(name)
	if !known {
		return Agent{}, model.Errorf(model.NotFound, "there is no agent %s", name)
	}
	return s.agent(&a), nil
}
