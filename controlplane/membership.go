package controlplane

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// ErrRemoved marks a node that the cluster has removed.
var ErrRemoved = errors.New("this node was removed from the cluster")

const (
	memberTick  = 250 * time.Millisecond
	memberWait  = 5 * time.Second // of one step
	silentSince = 3 * time.Second // without a leader: then the others are asked whether this node is still of the cluster
)

// membership keeps this node where it belongs: it has itself added and promoted, tells
// where it listens, begins the new life after a restore, and notices when it was removed.
type membership struct {
	c      *ControlPlane
	told   bool      // the state has this node's row
	silent time.Time // since when the store is not ready; zero: it is
	warned time.Time
	lives  time.Time // when other lives of the cluster were looked for last
}

func (m *membership) run(ctx context.Context) error {
	tick := time.NewTicker(memberTick)
	defer tick.Stop()
	m.warned = time.Now() // a start takes a moment
	for {
		if err := m.step(ctx); errors.Is(err, ErrRemoved) || errors.Is(err, ErrLeftBehind) {
			return err
		} else if err != nil && ctx.Err() == nil {
			m.warn(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// warn says what does not go on, now and then.
func (m *membership) warn(err error) {
	if time.Since(m.warned) < m.c.config.Limits.Start/4 {
		m.c.log.Debug("the node is not where it belongs yet", "error", err)
		return
	}
	m.warned = time.Now()
	m.c.log.Warn("the node is not where it belongs yet", "error", err)
}

func (m *membership) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, memberWait)
	defer cancel()
	own := m.c.id.Node
	members := m.c.store.Members()
	i := slices.IndexFunc(members, func(one member) bool { return one.ID == own })
	switch {
	case m.c.store.Ready() != nil:
		if m.silent.IsZero() {
			m.silent = time.Now()
		}
		if m.c.peers == nil || i >= 0 && time.Since(m.silent) < silentSince {
			return nil
		}
		if err := m.leftBehind(ctx); err != nil {
			return err
		}
		return m.belong(ctx, i >= 0)
	case i < 0:
		return m.belong(ctx, false)
	case !members[i].Voter:
		return m.promote(ctx)
	}
	m.silent = time.Time{}
	m.c.authority.Pool() // which keeps the file for commands on this machine up to date
	if err := m.beginLife(ctx); err != nil {
		return err
	}
	if err := m.tell(ctx); err != nil {
		return err
	}
	return m.goOn(ctx)
}

// goOn ends removals that were cut short, while this node leads.
func (m *membership) goOn(ctx context.Context) error {
	// While somebody else is at it there is nothing to go on with.
	if _, leads := m.c.store.Leader(); !leads || !m.c.cluster.members.TryLock() {
		return nil
	}
	defer m.c.cluster.members.Unlock()
	var failed []error // one that cannot be spared yet does not keep the others
	for _, node := range m.c.store.Nodes() {
		if node.Leaving.IsZero() {
			continue
		}
		if err := (services{m.c}).removed(ctx, node.ID); err != nil {
			failed = append(failed, err)
			continue
		}
		m.c.log.Info("a removal that was cut short is done", "node", node.ID)
	}
	return errors.Join(failed...)
}

// belong has this node added if the leader does not count on it. That one refuses a node
// that was removed.
func (m *membership) belong(ctx context.Context, believes bool) error {
	if believes {
		answers, _ := m.c.cluster.statuses(ctx)
		for _, status := range answers {
			if status.Leads && !slices.ContainsFunc(status.Members, func(one peer.Member) bool { return one.ID == m.c.id.Node }) {
				believes = false
			}
		}
		if believes {
			return nil // nobody leads, or the one that does will come back to this node
		}
	}
	err := m.c.changeOnce(ctx, &peer.MemberRequest{Change: peer.MemberAdd, Node: m.c.id.Node})
	if model.CodeOf(err) == model.Forbidden {
		return fmt.Errorf("%w: %w", ErrRemoved, err)
	}
	return err
}

// promote asks for a vote when this node has caught up.
func (m *membership) promote(ctx context.Context) error {
	if err := m.c.store.CaughtUp(ctx); err != nil {
		return err
	}
	return m.c.changeOnce(ctx, &peer.MemberRequest{Change: peer.MemberPromote, Node: m.c.id.Node})
}

// tell writes this node's row, once in a run: a node that is being removed must not write
// it again.
func (m *membership) tell(ctx context.Context) error {
	if _, begun := m.c.store.Cluster(); m.told || !begun {
		return nil
	}
	row := m.c.row()
	if old, known := m.c.store.Node(row.ID); known {
		row.Joined, row.Leaving = old.Joined, old.Leaving
		if reflect.DeepEqual(old, row) {
			m.told = true
			return nil
		}
	}
	if _, err := m.c.store.Apply(ctx, &model.PutNode{At: time.Now().UTC(), Node: row, Known: true}); err != nil {
		return err
	}
	m.told = true
	return nil
}

// beginLife begins another life of the cluster after a restore or a recovery. A repeat
// changes nothing.
func (m *membership) beginLife(ctx context.Context) error {
	files := FilesIn(m.c.config.Data)
	marker, err := readMarker(files)
	if marker == nil || err != nil {
		return err
	}
	if _, leads := m.c.store.Leader(); !leads {
		return nil
	}
	cluster, begun := m.c.store.Cluster()
	if !begun {
		return errors.New("the state that was restored holds no cluster")
	}
	if cluster.Incarnation != marker.Incarnation {
		now := time.Now().UTC()
		rebuilt := marker.Rebuilt
		rebuilt.At = now
		if _, err := m.c.store.Apply(ctx, &model.Rebuild{At: now, Incarnation: marker.Incarnation, Rebuilt: rebuilt}); err != nil {
			return err
		}
		m.c.log.Warn("another life of the cluster has begun", "cause", rebuilt.Cause, "from", rebuilt.From, "index", rebuilt.Index, "incarnation", marker.Incarnation)
	}
	// Whoever had the tokens may be where the other nodes were.
	if _, err := m.c.rescueAdmin(ctx); err != nil {
		return err
	}
	return atomicfile.Remove(files.rebuilding)
}

// rebuilt waits until no restore is left to be told to the state.
func (m *membership) rebuilt(ctx context.Context) error {
	for {
		if marker, err := readMarker(FilesIn(m.c.config.Data)); marker == nil || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(memberTick):
		}
	}
}
