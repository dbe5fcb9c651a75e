package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/peer"
)

// ErrLeftBehind marks a node whose data is of a life of the cluster that is over.
var ErrLeftBehind = errors.New("this node was left behind when the cluster began another life")

const (
	behindAfter = 10 * time.Second // without a leader: then other lives of the cluster are looked for
	behindPause = 3 * time.Second  // between two looks
)

// leftBehind ends a node that was started with the data of a life that is over, as after a
// recovery from another survivor. It would look for a leader for ever.
func (m *membership) leftBehind(ctx context.Context) error {
	if time.Since(m.silent) < behindAfter || time.Since(m.lives) < behindPause {
		return nil
	}
	m.lives = time.Now()
	answers, failed := m.c.cluster.statuses(ctx)
	voters := 0
	for _, one := range m.c.store.Members() {
		if one.Voter {
			voters++
		}
	}
	own, _ := m.c.store.Cluster()
	for _, err := range failed {
		var other *peer.OtherLife
		if errors.As(err, &other) && overtaken(own.Generation, voters, len(answers), &other.Status) {
			return fmt.Errorf("%w: node %s is in generation %d of it, begun by a %s on node %s at %s, and here is generation %d. "+
				"If that is right, empty %s and join this node again: crossdock cluster join. If it was a mistake, stop node %s, and start a majority "+
				"of the nodes of before together", ErrLeftBehind, other.Status.Identity.Node, other.Status.Generation, causeOf(&other.Status), other.Status.Rebuilt.Node,
				other.Status.Rebuilt.At.UTC().Format(time.RFC3339), own.Generation, m.c.config.Data, other.Status.Identity.Node)
		}
	}
	return nil
}

// overtaken decides by the word of a node of another life, which has proven to be of this
// cluster. That alone is not enough: a recovery by mistake must not end the others. So this
// node must have no leader, it and the fellows that answer must be too few to elect one, and
// the other life must be a later one, and go on.
func overtaken(generation uint64, voters, fellows int, other *peer.Status) bool {
	couldElect := voters > 0 && (fellows+1)*2 > voters
	return !couldElect && other.NotReady == "" && other.Generation > generation
}

func causeOf(s *peer.Status) string {
	if s.Rebuilt.Cause == model.RebuiltFromBackup {
		return "restore"
	}
	return "recovery"
}
