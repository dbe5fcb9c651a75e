package controlplane

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/store"
)

type member = store.Member

// spoolPattern names a backup on its way out.
const spoolPattern = ".backup-*"

const (
	changeWait  = 40 * time.Second // of a change of who takes part, elections included
	leaderRetry = 200 * time.Millisecond
	leaderKnown = 5 * time.Second // for this node to hear who leads
	statusWait  = 2 * time.Second // of another node's word
)

// cluster describes and changes the cluster, from any of its nodes.
type cluster struct {
	c *ControlPlane

	members sync.Mutex // serialises changes of who takes part, at the leader
	backup  sync.Mutex // one at a time

	mu      sync.Mutex // guards what follows
	seen    map[string]time.Time
	limiter *rate.Limiter
}

func (k *cluster) joins() *rate.Limiter {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.limiter == nil {
		k.limiter = rate.NewLimiter(joins, joinBurst)
	}
	return k.limiter
}

// others lists the other nodes that this one has heard of.
func (c *ControlPlane) others() (nodes []string) {
	for _, n := range c.store.Nodes() {
		nodes = append(nodes, n.ID)
	}
	for _, m := range c.store.Members() {
		nodes = append(nodes, m.ID)
	}
	if len(nodes) == 0 {
		for node := range c.id.Seeds {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return slices.DeleteFunc(slices.Compact(nodes), func(node string) bool { return node == c.id.Node })
}

// eachOther does something with all other nodes at once.
func (c *ControlPlane) eachOther(ctx context.Context, do func(ctx context.Context, node string)) {
	if c.peers == nil {
		return
	}
	var group sync.WaitGroup
	for _, node := range c.others() {
		group.Go(func() { do(ctx, node) })
	}
	group.Wait()
}

// statuses asks all other nodes how they stand; an error stands for the one that does not say.
func (k *cluster) statuses(ctx context.Context) (answers map[string]*peer.Status, failed map[string]error) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	answers, failed = map[string]*peer.Status{}, map[string]error{}
	var mu sync.Mutex
	k.c.eachOther(ctx, func(ctx context.Context, node string) {
		status, err := k.c.peers.Status(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed[node] = err
			return
		}
		answers[node] = status
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.seen == nil {
		k.seen = map[string]time.Time{}
	}
	for node := range answers {
		k.seen[node] = time.Now()
	}
	return answers, failed
}

func (k *cluster) lastSeen(node string) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[node]
}

// freeBytes tells the room on the disks of the other nodes that answer.
func (k *cluster) freeBytes(ctx context.Context) map[string]int64 {
	answers, _ := k.statuses(ctx)
	out := map[string]int64{}
	for node, status := range answers {
		if status.FreeBytes >= 0 {
			out[node] = status.FreeBytes
		}
	}
	return out
}

// Status asks all nodes how they stand; one that does not answer is named.
func (k *cluster) Status(ctx context.Context) api.ClusterState {
	out := api.ClusterState{Node: k.c.id.Node}
	out.Cluster, _ = k.c.store.Cluster()
	out.Leader, _ = k.c.store.Leader()
	answers, failed := k.statuses(ctx)
	own, _ := services{k.c}.Status(ctx) // of this node: has no error
	answers[k.c.id.Node] = own
	rows, members := k.c.store.Nodes(), k.c.store.Members()
	for _, id := range append(k.c.others(), k.c.id.Node) {
		state := api.NodeState{Node: model.Node{ID: id}, Self: id == k.c.id.Node, Leader: id == out.Leader, FreeBytes: -1, Agents: -1, Seen: k.lastSeen(id)}
		if i := slices.IndexFunc(rows, func(n model.Node) bool { return n.ID == id }); i >= 0 {
			state.Node = rows[i]
		}
		if i := slices.IndexFunc(members, func(m member) bool { return m.ID == id }); i >= 0 {
			state.Member, state.Voter = true, members[i].Voter
		}
		if status := answers[id]; status != nil {
			state.Reached, state.Ready, state.Error = true, status.NotReady == "", status.NotReady
			state.Term, state.Committed, state.Applied, state.StateHash = status.Term, status.Committed, status.Applied, status.StateHash
			state.Incarnation, state.FreeBytes, state.Agents = status.Identity.Incarnation, status.FreeBytes, status.Agents
		} else if err := failed[id]; err != nil {
			state.Error = err.Error()
		} else {
			state.Error = "this node has no way to it: cluster.listen is not set"
		}
		if since := state.Leaving; !since.IsZero() {
			state.Error = strings.TrimSuffix("is being removed since "+since.Format(time.RFC3339)+"; "+state.Error, "; ")
		}
		out.Nodes = append(out.Nodes, state)
	}
	slices.SortFunc(out.Nodes, func(a, b api.NodeState) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// change asks the node that leads for a change of who takes part, whoever that comes to be.
func (c *ControlPlane) change(ctx context.Context, r *peer.MemberRequest) error {
	for {
		err := c.changeOnce(ctx, r)
		if model.CodeOf(err) != model.Unavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leaderRetry):
		}
	}
}

func (c *ControlPlane) changeOnce(ctx context.Context, r *peer.MemberRequest) error {
	leader, self := c.store.Leader()
	if self {
		return services{c}.Member(ctx, r)
	}
	if leader == "" {
		leader = c.cluster.leader(ctx)
	}
	if leader == "" || leader == c.id.Node || c.peers == nil {
		return model.Errorf(model.Unavailable, "no node leads the cluster at the moment")
	}
	return c.peers.Member(ctx, leader, r)
}

// leader finds the node that leads by asking the others.
func (k *cluster) leader(ctx context.Context) string {
	answers, _ := k.statuses(ctx)
	return leaderIn(answers)
}

// leaderIn believes the newest term: a node that was cut off may speak of an older one yet.
func leaderIn(answers map[string]*peer.Status) (leader string) {
	var term uint64
	for node, status := range answers {
		said := status.Leader
		if status.Leads {
			said = node
		}
		if said != "" && status.Term >= term {
			leader, term = said, status.Term
		}
	}
	return leader
}

// Remove takes a node out of the cluster.
func (k *cluster) Remove(ctx context.Context, asked model.Asked, node string) error {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	return k.c.change(ctx, &peer.MemberRequest{Change: peer.MemberRemove, Node: node, Asked: asked})
}

// Joinable says why no node can join: those that do must be able to reach this one.
func (k *cluster) Joinable() error {
	if k.c.peers != nil {
		return nil
	}
	return model.Errorf(model.Conflict, "node %s has no door for other nodes, so none could join: set cluster.listen, such as \":7460\", "+
		"in its configuration and start it again", k.c.id.Node)
}

// Transfer lets another node lead. It returns when this node knows which.
func (k *cluster) Transfer(ctx context.Context, asked model.Asked, to string) error {
	ctx, cancel := context.WithTimeout(ctx, changeWait)
	defer cancel()
	before, _ := k.c.store.Leader()
	if err := k.c.change(ctx, &peer.MemberRequest{Change: peer.MemberTransfer, Node: to, Asked: asked}); err != nil {
		return err
	}
	known, done := context.WithTimeout(ctx, leaderKnown)
	defer done()
	_ = k.c.store.AwaitLeader(known, func(id string) bool { // it is done, whether this node hears of it or not
		return id != "" && (id == to || to == "" && id != before)
	})
	return nil
}

// AddAuthority makes another certificate authority and has it trusted.
func (k *cluster) AddAuthority(ctx context.Context, asked model.Asked) (model.Authority, error) {
	if err := k.c.store.Fresh(ctx); err != nil {
		return model.Authority{}, err
	}
	next, err := k.c.authority.Next(asked.At)
	if err != nil {
		return model.Authority{}, model.Errorf(model.Unavailable, "node %s cannot make an authority: %v", k.c.id.Node, err)
	}
	made, err := k.c.store.Apply(ctx, &model.AddAuthority{Asked: asked, Authority: next})
	if err != nil {
		return model.Authority{}, err
	}
	return *made.(*model.Authority), nil // the first one's, if this is a repeat
}

// ActivateAuthority lets a certificate authority sign.
func (k *cluster) ActivateAuthority(ctx context.Context, asked model.Asked, id string) error {
	if err := k.allThere(ctx, &asked, "would not know what signs from then on"); err != nil {
		return err
	}
	_, err := k.c.store.Apply(ctx, &model.ActivateAuthority{Asked: asked, ID: id})
	return err
}

// RemoveAuthority ends the trust in a certificate authority. A node that is away would
// come back with a certificate that nobody trusts.
func (k *cluster) RemoveAuthority(ctx context.Context, asked model.Asked, id string) error {
	if err := k.allThere(ctx, &asked, "would be locked out"); err != nil {
		return err
	}
	_, err := k.c.store.Apply(ctx, &model.RemoveAuthority{Asked: asked, ID: id})
	return err
}

// allThere refuses what every node has to hear of while one does not answer. A repeat is
// answered all the same.
func (k *cluster) allThere(ctx context.Context, asked *model.Asked, why string) error {
	if err := k.c.store.Fresh(ctx); err != nil {
		return err
	}
	if k.c.store.Answered(asked) {
		return nil
	}
	for _, node := range k.Status(ctx).Nodes {
		if node.Member && !node.Ready {
			return model.Errorf(model.Conflict, "node %s is not there (%s) and %s: bring it back, or remove it first", node.ID, node.Error, why)
		}
	}
	return nil
}

// Backup writes the state and all that a node needs to go on from it.
func (k *cluster) Backup(ctx context.Context, _ model.Asked, w io.Writer) error {
	if !k.backup.TryLock() {
		return model.Errorf(model.Conflict, "node %s is at a backup already: try again later, or at another node", k.c.id.Node)
	}
	defer k.backup.Unlock()
	if err := k.c.store.Fresh(ctx); err != nil {
		return err
	}
	// The answer takes as long as its reader likes, and no read of the state may stay open
	// for that long: so it goes by way of the disk.
	spool, err := os.CreateTemp(k.c.config.Data, spoolPattern)
	if err != nil {
		return model.Errorf(model.Unavailable, "backup: %v", err)
	}
	defer os.Remove(spool.Name()) // what a crash leaves is removed at the next start
	defer spool.Close()
	if err := k.c.writeBackup(spool); err != nil {
		return model.Errorf(model.Unavailable, "backup: %v", err)
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return model.Errorf(model.Unavailable, "backup: %v", err)
	}
	if _, err := io.Copy(w, spool); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}
