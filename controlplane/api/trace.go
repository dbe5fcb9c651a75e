package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The limits of a trace.
const (
	traceTimeout = 10 * time.Second // for all agents together: they are asked at once
	traceAsked   = 32               // agents asked at the same time
	traceHops    = 1000             // hops wanted of one agent
	maxHops      = 5000             // hops taken of one agent, and events that it has sent on
)

// traceArguments is what an agent is asked.
type traceArguments struct {
	Key   string `json:"key"`
	Limit int    `json:"limit"`
}

// traceAnswer is what an agent answers.
type traceAnswer struct {
	Now       time.Time  `json:"now"`
	Hops      []agentHop `json:"hops"`
	Truncated bool       `json:"truncated"`
}

// agentHop is one step of an event as its agent tells it.
type agentHop struct {
	Event    string    `json:"event"`
	Source   string    `json:"source"`
	Type     string    `json:"type"`
	Key      string    `json:"key"`
	Hop      string    `json:"hop"`
	Peer     string    `json:"peer"`
	System   string    `json:"system"`
	Route    string    `json:"route"`
	Shadow   bool      `json:"shadow"`
	At       time.Time `json:"at"`
	Attempts int       `json:"attempts"`
	Status   int       `json:"status"`
	Detail   string    `json:"detail"`
	Revision string    `json:"revision"`
	Ref      string    `json:"ref"`
	Sent     []struct {
		To     string `json:"to"`
		Number uint64 `json:"number"`
	} `json:"sent"`
}

// hopOrder decides between the hops of one event in the same millisecond: the way that it goes.
var hopOrder = []string{"accepted", "unrouted", "relayed", "received", "pending", "parked", "dead", "discarded", "delivered"}

// hopRank gives a hop's place on the way; one that this node does not know comes last.
func hopRank(hop string) int {
	if i := slices.Index(hopOrder, hop); i >= 0 {
		return i
	}
	return len(hopOrder)
}

// TraceEvents asks every connected agent what it knows of a key.
func (s *Server) TraceEvents(ctx context.Context, r TraceEventsRequestObject) (TraceEventsResponseObject, error) {
	args, err := json.Marshal(traceArguments{Key: r.Params.Key, Limit: traceHops})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, traceTimeout)
	defer cancel()

	agents := slices.DeleteFunc(s.store.Agents(), func(a model.Agent) bool { return !a.Revoked.IsZero() })
	slices.SortFunc(agents, func(a, b model.Agent) int { return cmp.Compare(a.Name, b.Name) })
	answer := TraceEvents200JSONResponse{
		Key: r.Params.Key, At: s.now().UTC(), Complete: true, Hops: []Hop{}, Agents: make([]TraceAgent, len(agents)),
	}
	hops, post := make([][]Hop, len(agents)), make([][]posted, len(agents))
	var group sync.WaitGroup
	slots := make(chan struct{}, traceAsked)
	for i := range agents {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			hops[i], post[i], answer.Agents[i] = s.traceAt(ctx, &agents[i], args)
		})
	}
	group.Wait()
	for i := range agents {
		answer.Hops = append(answer.Hops, hops[i]...)
		answer.Complete = answer.Complete && answer.Agents[i].Answered && !answer.Agents[i].Truncated
	}
	answer.Hops = append(answer.Hops, s.unfetched(answer.Hops, slices.Concat(post...))...)
	sortHops(answer.Hops)
	return answer, nil
}

func (s *Server) traceAt(ctx context.Context, a *model.Agent, args json.RawMessage) ([]Hop, []posted, TraceAgent) {
	told := TraceAgent{Agent: a.Name, LastSeen: a.LastSeen}
	answer, err := s.askTrace(ctx, a.Name, args)
	if err != nil {
		told.Detail = err.Error()
		if !a.LastSeen.IsZero() {
			told.AgeSeconds = int64(max(0, s.now().Sub(a.LastSeen)).Seconds())
		}
		return nil, nil, told
	}
	told.Answered, told.Truncated = true, answer.Truncated
	if !answer.Now.IsZero() {
		told.SkewMs = answer.Now.Sub(s.now()).Milliseconds()
	}
	if len(answer.Hops) > maxHops {
		answer.Hops, told.Truncated = answer.Hops[:maxHops], true
	}
	hops, post := make([]Hop, len(answer.Hops)), []posted(nil)
	for i, h := range answer.Hops {
		hops[i] = Hop{
			Agent: a.Name, // an agent speaks for itself only, whatever it wrote
			Event: h.Event, Source: h.Source, Type: h.Type, Key: h.Key, Hop: h.Hop, Peer: h.Peer,
			System: h.System, Route: h.Route, Shadow: h.Shadow, At: h.At.UTC(), Attempts: h.Attempts,
			Status: h.Status, Detail: h.Detail, Revision: h.Revision, Ref: h.Ref,
		}
		for _, sent := range h.Sent[:min(len(h.Sent), maxHops-len(post))] {
			post = append(post, posted{hop: hops[i], to: sent.To, number: sent.Number})
		}
	}
	return hops, post, told
}

func (s *Server) askTrace(ctx context.Context, agent string, args json.RawMessage) (traceAnswer, error) {
	var answer traceAnswer
	text, err := s.agents.Ask(ctx, agent, "trace", args)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("%s gave an answer that is not understood: %w", agent, err)
	}
	return answer, nil
}

// sortHops orders by time; a hop without a time comes last, because it is where things are now.
// Of one time, the hops of an event stay together and go its way.
func sortHops(hops []Hop) {
	slices.SortStableFunc(hops, func(a, b Hop) int {
		if a.At.IsZero() != b.At.IsZero() {
			if a.At.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Event, b.Event),
			cmp.Compare(hopRank(a.Hop), hopRank(b.Hop)), cmp.Compare(a.Agent, b.Agent))
	})
}
