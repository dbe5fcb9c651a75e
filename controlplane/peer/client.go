package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// clientNow gives the client whose connections show this node's present certificate: one
// of a former authority may have ended since, and a connection shows one for good.
func (p *Peers) clientNow() (*http.Client, error) {
	certificate, err := p.cfg.Certificate()
	if err != nil {
		return nil, err
	}
	shown := bytes.Join(certificate.Certificate, nil)
	p.clientMu.Lock()
	defer p.clientMu.Unlock()
	if p.client == nil || !bytes.Equal(p.clientOf, shown) {
		if p.client != nil {
			p.client.CloseIdleConnections() // those with calls under way go when they are idle
		}
		p.client, p.clientOf = p.newClient(), shown
	}
	return p.client, nil
}

func (p *Peers) newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			// The host of a URL is a node's name.
			DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				node, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				ctx, cancel := context.WithTimeout(ctx, dialTimeout)
				defer cancel()
				return p.dial(ctx, node, protoCalls)
			},
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        idleTimeout,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Apply hands an encoded command to a node that should lead. Errors are *model.Error;
// Unavailable: surely not done.
func (p *Peers) Apply(ctx context.Context, node string, command []byte) (out []byte, err error) {
	return out, p.call(ctx, node, callApply, MaxCommand, command, &out)
}

// Barrier asks a node that should lead for the entry up to which a reader has to have applied.
func (p *Peers) Barrier(ctx context.Context, node string) (index uint64, err error) {
	return index, p.call(ctx, node, callBarrier, maxSmall, nil, &index)
}

// Member asks a node that should lead to change who takes part.
func (p *Peers) Member(ctx context.Context, node string, r *MemberRequest) error {
	return p.callWith(ctx, node, callMember, maxSmall, r, nil)
}

// Ask puts a live command to an agent that is connected to another node.
func (p *Peers) Ask(ctx context.Context, node string, r *AskRequest) (json.RawMessage, error) {
	var out []byte
	return out, p.callWith(ctx, node, callAsk, MaxAsk, r, &out)
}

// Connected lists the agents that are connected to another node.
func (p *Peers) Connected(ctx context.Context, node string) (agents []string, err error) {
	return agents, p.call(ctx, node, callConnected, MaxAsk, nil, &agents)
}

// Status asks another node how it stands. One in another life of the cluster is an error,
// an *OtherLife.
func (p *Peers) Status(ctx context.Context, node string) (*Status, error) {
	out, own := &Status{}, p.cfg.Identity
	if err := p.call(ctx, node, callStatus, maxSmall, nil, out); err != nil {
		return nil, err
	}
	if out.Identity.Node != node || out.Identity.Cluster != own.Cluster {
		return nil, model.Errorf(model.Conflict, "node %s says that it is node %s of cluster %s", node, clip(out.Identity.Node), clip(out.Identity.Cluster))
	}
	if out.Identity.Incarnation != own.Incarnation {
		return nil, &OtherLife{Own: own, Status: *out}
	}
	return out, nil
}

func (p *Peers) callWith(ctx context.Context, node, path string, most int64, in, out any) error {
	body, err := encode(in)
	if err != nil {
		return model.Errorf(model.Invalid, "call to node %s: %v", node, err)
	}
	return p.call(ctx, node, path, most, body, out)
}

// call makes one call and tells what was surely not done from what may have been.
func (p *Peers) call(ctx context.Context, node, path string, most int64, body []byte, out any) error {
	own := p.cfg.Identity
	if node == own.Node {
		return model.Errorf(model.Unavailable, "node %s does not call itself", node)
	}
	header := http.Header{}
	header.Set(headerCluster, own.Cluster)
	header.Set(headerIncarnation, own.Incarnation)
	client, err := p.clientNow()
	if err != nil {
		return model.Errorf(model.Unavailable, "call to node %s: %v", node, err)
	}
	return post(ctx, client, node, path, header, most, body, out)
}

func post(ctx context.Context, client *http.Client, node, path string, header http.Header, most int64, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	var sent atomic.Bool // the headers are on their way, so that it may be done
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	host := node // a name, but for a join, which knows an address only
	if named, _, err := net.SplitHostPort(node); err == nil {
		host = named
	}
	r, err := http.NewRequestWithContext(traced, http.MethodPost, "https://"+net.JoinHostPort(host, "1")+path, bytes.NewReader(body))
	if err != nil {
		return model.Errorf(model.Invalid, "call to node %s: %v", node, err)
	}
	r.Header = header
	if deadline, ok := ctx.Deadline(); ok {
		header.Set(headerDeadline, time.Until(deadline).String())
	}
	answer, err := client.Do(r)
	if err != nil {
		return failed(sent.Load(), node, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, most+1))
	if err != nil || int64(len(text)) > most {
		return failed(true, node, errors.Join(err, errors.New("its answer could not be read")))
	}
	if answer.StatusCode == http.StatusOK {
		if out == nil {
			return nil
		}
		if err := decode(text, out); err != nil {
			return failed(true, node, fmt.Errorf("its answer cannot be understood: %w", err))
		}
		return nil
	}
	var refused refusal
	if err := decode(text, &refused); err != nil || refused.Code == "" {
		return failed(true, node, fmt.Errorf("%w: it answered %s", errNoPeer, answer.Status))
	}
	return &model.Error{Code: refused.Code, Text: clipText(refused.Text)}
}

// errNoPeer marks an answer that no node's port for others gives.
var errNoPeer = errors.New("not a node's port for other nodes")

// failure is a call without an answer: its code and what was said, and the cause.
type failure struct {
	said  *model.Error
	cause error
}

func (f *failure) Error() string   { return f.said.Text }
func (f *failure) Unwrap() []error { return []error{f.said, f.cause} }

func failed(sent bool, node string, err error) error {
	var request *url.Error // names a URL that nobody knows
	if errors.As(err, &request) {
		err = request.Err
	}
	why := strings.TrimPrefix(err.Error(), "node "+node+": ") // which is said here
	if sent {
		return &failure{model.Errorf(model.Unknown, "node %s: no answer, it may have been done: %s", node, why), err}
	}
	return &failure{model.Errorf(model.Unavailable, "node %s cannot be reached: %s", node, why), err}
}
