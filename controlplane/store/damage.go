package store

import (
	"errors"
	"fmt"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// Spoiled is told of data that this node cannot read. Where others vote they have it whole:
// this node must neither decide about it nor hand it on, so it ends, and does not start again
// as it is. Without an error there is no other, and what cannot be read is lost.
func (s *Store) Spoiled(what string) error {
	switch members := s.Members(); {
	case len(members) == 0:
		return model.Errorf(model.Unavailable, "node %s does not know the nodes of its cluster yet", s.cfg.NodeID)
	case !s.othersVote(members):
		return nil
	}
	text := fmt.Sprintf("this node cannot read a part of its data (%s), which the other nodes have: check its disk, remove it from the cluster, "+
		"empty its data directory and let it join again", what)
	s.fail(s.setAside(damagedName, text))
	return model.Errorf(model.Unavailable, "node %s: %s", s.cfg.NodeID, text)
}

func (s *Store) othersVote(members []Member) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Voter && m.ID != s.cfg.NodeID })
}

// Sound reads all of a snapshot before others get it, so that what one disk has damaged
// never becomes what several nodes hold. A node that is alone gives what it has.
func (s *Store) Sound(snap *state.Snapshot) error {
	if !s.othersVote(s.Members()) {
		return nil
	}
	switch err := snap.Check(); {
	case errors.Is(err, state.ErrReplaced):
		return err // nothing is wrong with it but its age
	case err != nil:
		return s.Spoiled(err.Error())
	}
	return nil
}
