package controlplane

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
)

// Who is connected to other nodes is asked again after freshFor.
const (
	freshFor  = 2 * time.Second
	askOthers = 2 * time.Second
)

// agents reaches the agents that are connected, to whichever node.
type agents struct {
	c     *ControlPlane
	local atomic.Pointer[gateway.Gateway] // nil until there is one

	mu    sync.Mutex // guards what follows
	far   map[string]string
	asked time.Time
}

// here gives this node's own gateway if the agent is connected to it.
func (a *agents) here(agent string) *gateway.Gateway {
	if g := a.local.Load(); g != nil && g.Connected(agent) {
		return g
	}
	return nil
}

// Connected reports whether an agent is connected to any node that answers.
func (a *agents) Connected(agent string) bool {
	if a.here(agent) != nil {
		return true
	}
	return a.where()[agent] != ""
}

// where gives the nodes to which agents are connected, as of a moment ago. One asks for
// all who come meanwhile.
func (a *agents) where() map[string]string {
	if a.c.peers == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.asked) < freshFor {
		return a.far
	}
	ctx, cancel := context.WithTimeout(context.Background(), askOthers)
	defer cancel()
	far := map[string]string{}
	var mu sync.Mutex
	a.c.eachOther(ctx, func(ctx context.Context, node string) {
		names, err := a.c.peers.Connected(ctx, node)
		if err != nil {
			return // a node that does not answer has no agents that could be reached
		}
		mu.Lock()
		defer mu.Unlock()
		for _, name := range names {
			far[name] = node
		}
	})
	a.far, a.asked = far, time.Now()
	return far
}

// Ask puts a live command to an agent: here, or at the node that served it last, or at
// the others.
func (a *agents) Ask(ctx context.Context, agent, kind string, args json.RawMessage) (json.RawMessage, error) {
	local := a.local.Load()
	if local == nil {
		return nil, model.Errorf(model.Unavailable, "node %s is starting", a.c.id.Node)
	}
	if a.here(agent) != nil || a.c.peers == nil {
		return local.Ask(ctx, agent, kind, args)
	}
	row, known := a.c.store.Agent(agent)
	if !known {
		return local.Ask(ctx, agent, kind, args) // which says so
	}
	node := a.where()[agent]
	if node == "" {
		node = row.Node
	}
	if node == "" || node == a.c.id.Node || !a.c.knows(node) {
		return local.Ask(ctx, agent, kind, args)
	}
	out, err := a.c.peers.Ask(ctx, node, &peer.AskRequest{Agent: agent, Kind: kind, Arguments: args})
	if model.CodeOf(err) != model.Unavailable || a.here(agent) == nil {
		return out, err
	}
	return local.Ask(ctx, agent, kind, args) // it has come over meanwhile
}

// connected lists those that are connected to this node.
func (a *agents) connected() (names []string) {
	g := a.local.Load()
	if g == nil {
		return nil
	}
	for _, agent := range a.c.store.Agents() {
		if g.Connected(agent.Name) {
			names = append(names, agent.Name)
		}
	}
	return names
}
