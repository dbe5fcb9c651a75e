package gateway

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// Live commands have ids of their own kind, so that their answers never reach the state.
const livePrefix = "live-"

func isLive(id string) bool { return strings.HasPrefix(id, livePrefix) }

// Connected reports whether an agent has a stream open at this node.
func (g *Gateway) Connected(agent string) bool { return g.stream(agent) != nil }

// Connection tells how and since when.
func (g *Gateway) Connection(agent string) (transport, address string, since time.Time, ok bool) {
	s := g.stream(agent)
	if s == nil {
		return "", "", time.Time{}, false
	}
	return s.peer.Transport, s.peer.Address, s.since, true
}

// Ask sends a command to a connected agent and waits for its answer. The command lives no
// longer than ctx. Errors are *model.Error: NotFound for an agent that does not exist,
// Unavailable for one that is not connected or does not answer, Invalid for what the
// agent itself says.
func (g *Gateway) Ask(ctx context.Context, agent, kind string, args json.RawMessage) (json.RawMessage, error) {
	s := g.stream(agent)
	if s == nil {
		return nil, g.absent(agent)
	}
	id, answer := livePrefix+rand.Text(), make(chan *syncpb.CommandAnswer, 1)
	switch s.expect(id, answer) {
	case ended:
		return nil, g.absent(agent)
	case busy:
		return nil, model.Errorf(model.Unavailable, "agent %s is busy with %d commands: try again", agent, maxAsks)
	case expected:
	}
	defer s.forget(id)
	select {
	case s.asks <- &syncpb.Command{Id: id, Kind: kind, Arguments: args}:
	case <-ctx.Done():
		return nil, late(agent, kind)
	}
	select {
	case a, ok := <-answer:
		switch {
		case !ok:
			return nil, g.absent(agent)
		case a.GetError() != "":
			return nil, model.Errorf(model.Invalid, "agent %s: %s", agent, clip(a.GetError()))
		}
		return a.GetResult(), nil
	case <-ctx.Done():
		return nil, late(agent, kind)
	}
}

func late(agent, kind string) error {
	return model.Errorf(model.Unavailable, "agent %s is connected but has not answered %q in time", agent, kind)
}

func (g *Gateway) absent(name string) error {
	agent, ok := g.cfg.Store.Agent(name)
	switch {
	case !ok:
		return model.Errorf(model.NotFound, "there is no agent %q", clip(name))
	case agent.LastSeen.IsZero():
		return model.Errorf(model.Unavailable, "agent %s has not been connected yet", name)
	}
	return model.Errorf(model.Unavailable, "agent %s is not connected to node %s; it was last seen %s ago, at %s",
		name, g.cfg.Node, g.cfg.Now().Sub(agent.LastSeen).Round(time.Second), agent.LastSeen.Format(time.RFC3339))
}

type expectation int

const (
	expected expectation = iota
	busy                 // with too many
	ended                // the stream, meanwhile
)

// expect notes that an answer is awaited.
func (s *stream) expect(id string, answer chan<- *syncpb.CommandAnswer) expectation {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.waiting == nil:
		return ended
	case len(s.waiting) >= maxAsks:
		return busy
	}
	s.waiting[id] = answer
	return expected
}

func (s *stream) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, id)
}

// answered hands over an answer that somebody waits for; a second one is dropped.
func (s *stream) answered(a *syncpb.CommandAnswer) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answer := s.waiting[a.GetId()]; answer != nil {
		delete(s.waiting, a.GetId())
		answer <- a // has room for one
	}
}

// hangUp tells all who wait that there will be no answer.
func (s *stream) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, answer := range s.waiting {
		close(answer)
	}
	s.waiting = nil
}
