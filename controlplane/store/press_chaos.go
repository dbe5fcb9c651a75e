//go:build chaos

package store

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	metrics "github.com/hashicorp/go-metrics"
	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

const (
	restName   = "rest"                // in a node's directory: it is pressed no more
	pressPause = 50 * time.Millisecond // of a writer between two commands
	stallStep  = 10 * time.Millisecond
)

// press has CROSSDOCK_PRESS writers hand commands to raft while this node leads, past the
// loop that fills entries: that has two entries on their way at most, and hands over none
// while a leader that was paused waits for what became of them. Nobody waits for these. The
// commands change no table: they come from an agent that does not exist.
func (s *Store) press(ctx context.Context, r *raft.Raft) {
	writers, err := strconv.Atoi(os.Getenv("CROSSDOCK_PRESS"))
	if err != nil {
		return
	}
	s.stall(r)
	var all sync.WaitGroup
	defer all.Wait()
	for w := range writers {
		all.Go(func() {
			for i := uint64(1); ctx.Err() == nil; i++ {
				time.Sleep(pressPause)
				if _, err := os.Stat(s.path(restName)); err == nil {
					return
				}
				if r.State() != raft.Leader {
					continue
				}
				text, err := encode(&model.Ack{At: time.Now(), Agent: fmt.Sprintf("press-%s-%d", s.cfg.NodeID, w), Mailbox: i})
				if err != nil {
					s.fail(err)
					return
				}
				r.Apply(state.AppendToEntry(nil, text), enqueueWait)
			}
		})
	}
}

// stall has raft's main loop stand still for CROSSDOCK_STALL about once in a second while
// this node leads, as when the machine gives its thread no processor. Raft's own measure of
// how busy the loop is, is taken after the loop has found that it leads, and before it
// stamps a command with its term: between the two is where another goroutine must not
// raise the term.
func (s *Store) stall(r *raft.Raft) {
	length, err := time.ParseDuration(os.Getenv("CROSSDOCK_STALL"))
	if err != nil {
		return
	}
	config := metrics.DefaultConfig("")
	config.EnableRuntimeMetrics, config.EnableHostname = false, false
	if _, err := metrics.NewGlobal(config, &stalls{raft: r, steps: int(length / stallStep)}); err != nil {
		s.fail(err)
	}
}

// stalls is where raft tells its measures.
type stalls struct {
	metrics.BlackholeSink
	raft  *raft.Raft
	steps int
}

// AddSampleWithLabels stands still in many steps, so that a pause of the whole process ends
// one of them and not all.
func (s *stalls) AddSampleWithLabels(key []string, _ float32, _ []metrics.Label) {
	if s.raft.State() != raft.Leader || !strings.HasSuffix(strings.Join(key, "."), "raft.thread.main.saturation") {
		return
	}
	for range s.steps {
		time.Sleep(stallStep)
	}
}

// AddSample is AddSampleWithLabels without labels.
func (s *stalls) AddSample(key []string, value float32) { s.AddSampleWithLabels(key, value, nil) }
