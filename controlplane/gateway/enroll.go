package gateway

import (
	"context"
	"crypto/sha256"
	"net"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Enroll trades a join token and a certificate request for an identity. The request is
// checked first and signed last: what can fail must not use up the token.
func (g *Gateway) Enroll(ctx context.Context, r *connect.Request[syncpb.EnrollRequest]) (*connect.Response[syncpb.EnrollResponse], error) {
	answer, result, err := g.enroll(ctx, r.Msg)
	g.cfg.Metrics.Enrolled.WithLabelValues(result).Inc()
	if err != nil {
		peer, _ := transport.PeerFrom(ctx)
		g.cfg.Logger.Warn("enrolment refused", "cause", result, "from", peer.Address, "agent", clip(r.Msg.GetAgent()), "error", err)
		return nil, err
	}
	g.cfg.Logger.Info("agent enrolled", "agent", answer.Agent, "site", answer.Site, "epoch", answer.Epoch)
	return connect.NewResponse(answer), nil
}

func (g *Gateway) enroll(ctx context.Context, r *syncpb.EnrollRequest) (answer *syncpb.EnrollResponse, result string, err error) {
	peer, _ := transport.PeerFrom(ctx)
	if !g.enrolls.allow(peer.Address) {
		return nil, "rate", g.refuse("enrol_rate", connect.CodeResourceExhausted, "too many attempts to enrol: wait a minute and try again")
	}
	token, err := transport.ParseToken(r.GetToken())
	if err != nil {
		return nil, "token", connect.NewError(connect.CodeInvalidArgument, err)
	}
	if !g.cfg.Authority.Trusts(token.CAHash) {
		return nil, "cluster", g.refuse("enrol_cluster", connect.CodeInvalidArgument, "the join token is of another cluster: ask this one for a token")
	}
	key, err := g.cfg.Authority.CheckRequest(r.GetCertificateRequest())
	if err != nil {
		return nil, "request", connect.NewError(connect.CodeInvalidArgument, err)
	}
	cluster, ok := g.cfg.Store.Cluster()
	if !ok {
		return nil, "cluster", g.refuse("no_cluster", connect.CodeUnavailable, "this node holds no cluster yet")
	}
	now, serial := g.cfg.Now(), g.cfg.Authority.NewSerial()
	applied, err := g.apply(ctx, &model.Enroll{
		At: now, Token: token.ID, Secret: token.SecretHash(), Agent: r.GetAgent(), Key: key, Serial: serial,
		Authority: g.cfg.Authority.ID(),
	})
	if err != nil {
		return nil, connect.CodeOf(err).String(), err
	}
	enrolled, ok := applied.(*model.EnrollResult)
	if !ok {
		return nil, "internal", g.refuse("internal", connect.CodeInternal, "the state answered an enrolment with %T", applied)
	}
	agent := enrolled.Agent
	chain, err := g.cfg.Authority.SignAgent(r.GetCertificateRequest(), agent.Site, agent.Name, serial, g.cfg.AgentLife, now)
	if err != nil {
		return nil, "internal", connect.NewError(connect.CodeInternal, err)
	}
	return &syncpb.EnrollResponse{
		Cluster: cluster.ID, Agent: agent.Name, Site: agent.Site, Epoch: agent.Epoch,
		Certificates: chain, Authorities: g.cfg.Authority.Certificates(),
	}, "ok", nil
}

// Renew gives a new certificate for the key that the agent registered. The transport lets
// an expired certificate come this far within the trust age; the handshake has proven the
// key once more. The state decides, and knows the repeat of a request whose answer was lost.
func (g *Gateway) Renew(ctx context.Context, r *connect.Request[syncpb.RenewRequest]) (*connect.Response[syncpb.RenewResponse], error) {
	agent, err := g.admit(ctx, 0)
	if err != nil {
		return nil, err
	}
	id, _ := transport.IdentityFrom(ctx)
	if !g.renews.allowOne(agent.Name) {
		return nil, g.refuse("renew_rate", connect.CodeResourceExhausted, "agent %s renews its certificate too often: wait a minute and try again", agent.Name)
	}
	key, err := g.cfg.Authority.CheckRequest(r.Msg.GetCertificateRequest())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if key != agent.Key {
		return nil, g.refuse("other_key", connect.CodePermissionDenied,
			"agent %s asks for a certificate for another key than it registered: enrol again to change the key", agent.Name)
	}
	now, serial, authority := g.cfg.Now(), g.cfg.Authority.NewSerial(), g.cfg.Authority.ID()
	chain, err := g.cfg.Authority.SignAgent(r.Msg.GetCertificateRequest(), agent.Site, agent.Name, serial, g.cfg.AgentLife, now)
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	applied, err := g.apply(ctx, &model.Renew{
		At: now, Agent: agent.Name, Key: key, Serial: serial, Authority: authority,
		Expired: id.Expired, Recoveries: r.Msg.GetRecoveries(), Request: sha256.Sum256(r.Msg.GetCertificateRequest()),
	})
	if err != nil {
		return nil, err
	}
	renewed, ok := applied.(*model.RenewResult)
	if !ok {
		return nil, g.refuse("internal", connect.CodeInternal, "the state answered a renewal with %T", applied)
	}
	if id.Expired {
		g.cfg.Metrics.Recoveries.WithLabelValues("certificate").Inc()
		g.cfg.Logger.Warn("agent renewed an expired certificate", "agent", agent.Name, "expired", id.NotAfter, "recoveries", renewed.Recoveries)
	}
	return connect.NewResponse(&syncpb.RenewResponse{
		Certificates: chain, Authorities: g.cfg.Authority.Certificates(), Recoveries: renewed.Recoveries,
	}), nil
}

// limiter bounds attempts by address or name, and in all.
type limiter struct {
	each  rate.Limit
	burst int
	all   *rate.Limiter

	mu   sync.Mutex // guards from
	from map[string]*rate.Limiter
}

const (
	maxLimited = 4096 // addresses remembered
	allOverOne = 10   // what all may do, over what one may
)

func newLimiter(each rate.Limit, burst int) *limiter {
	return &limiter{each: each, burst: burst, all: rate.NewLimiter(each*allOverOne, burst*allOverOne), from: map[string]*rate.Limiter{}}
}

func (l *limiter) allow(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return l.allowOne(host) && l.all.Allow()
}

// allowOne looks at what one may do, and not at what all may.
func (l *limiter) allowOne(host string) bool {
	l.mu.Lock()
	one := l.from[host]
	if one == nil {
		if len(l.from) >= maxLimited {
			clear(l.from) // all begin anew; the limit over all still holds
		}
		one = rate.NewLimiter(l.each, l.burst)
		l.from[host] = one
	}
	l.mu.Unlock()
	return one.Allow()
}
