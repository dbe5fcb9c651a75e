package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// What is left in the directory of a node that must not go on beside the others.
const (
	divergedName = "diverged" // its state differs from theirs
	damagedName  = "damaged"  // it cannot read what they have
)

// beacon is the comparing of the nodes' states: the leader proposes one, every node tells
// its hash at that entry, and the state says who is wrong.
type beacon struct {
	last   atomic.Uint64           // entry of the newest one applied
	dirty  atomic.Bool             // something but beacons and reports was offered since the last
	due    chan struct{}           // one token: enough entries came
	report chan model.BeaconReport // the newest that is not sent yet
}

// applied follows what the state has applied. It is called between two batches and must
// not wait.
func (s *Store) applied(out *state.Outcome) {
	s.progress.advance(out.Index)
	if out.Diverged != "" {
		s.fail(s.setAside(divergedName, out.Diverged))
		return
	}
	if out.Beacon != 0 {
		s.beacon.last.Store(out.Beacon)
		select {
		case <-s.beacon.report:
		default:
		}
		s.beacon.report <- model.BeaconReport{Node: s.cfg.NodeID, Index: out.Beacon, Hash: out.Hash} // this is the only writer
	}
	if out.Index >= s.beacon.last.Load()+s.cfg.BeaconEvery {
		select {
		case s.beacon.due <- struct{}{}:
		default: // it is known
		}
	}
}

// setAside makes sure that this node does not start again as it is.
func (s *Store) setAside(name, text string) error {
	err := atomicfile.Write(s.path(name), []byte(text+"\n"), 0o600)
	return errors.Join(fmt.Errorf("store: %s", text), err)
}

// beacons proposes one whenever it is time, while this node leads.
func (s *Store) beacons(ctx context.Context) {
	tick := time.NewTicker(s.cfg.BeaconAfter)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.beacon.due:
			if s.progress.at() < s.beacon.last.Load()+s.cfg.BeaconEvery {
				continue // a beacon came between
			}
		case <-tick.C:
			if !s.beacon.dirty.Load() {
				continue
			}
		}
		if s.leads.Load() == 0 {
			continue
		}
		s.beacon.dirty.Store(false)
		var voters []string
		for _, m := range s.Members() {
			if m.Voter {
				voters = append(voters, m.ID)
			}
		}
		if len(voters) < 2 {
			continue // nobody to compare with
		}
		if _, err := s.Apply(ctx, &model.Beacon{At: time.Now(), Voters: voters}); err != nil {
			s.beacon.dirty.Store(true)
			s.cfg.Logger.Warn("no comparison of the nodes' states this time", "error", err)
		}
	}
}

// reports tells this node's hash at the newest beacon until it is taken.
func (s *Store) reports(ctx context.Context) {
	var report *model.BeaconReport
	for {
		var retry <-chan time.Time
		if report != nil {
			once, cancel := context.WithTimeout(ctx, reportWait)
			_, err := s.Apply(once, report)
			cancel()
			code := model.CodeOf(err)
			if err == nil || code != model.Unavailable && code != model.Unknown {
				report = nil
			} else {
				retry = time.After(recheck)
			}
		}
		select {
		case <-ctx.Done():
			return
		case r := <-s.beacon.report:
			report = &r
		case <-retry:
		}
	}
}
