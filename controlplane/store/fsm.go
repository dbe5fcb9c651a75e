package store

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/state"
)

// fsm shows the state machine to raft. An error of the machine ends the process: a node
// that has not applied an entry must not apply the next.
type fsm struct{ s *Store }

var (
	_ raft.BatchingFSM = fsm{}
	_ raft.FSMSnapshot = snapshot{}
)

func (f fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f fsm) ApplyBatch(logs []*raft.Log) []any {
	if n := f.s.node.Load(); n != nil {
		n.teller.tell() // there is a commit
	}
	entries := make([]state.Entry, len(logs))
	for i, l := range logs {
		entries[i] = entryOf(l)
	}
	responses := make([]any, len(logs))
	guard := f.s.deadline("apply entries to the state")
	out, err := f.s.machine.Apply(entries)
	guard.Stop()
	if err != nil {
		f.s.fail(err)
		for i := range responses {
			responses[i] = err
		}
		return responses
	}
	for i, results := range out.Results {
		responses[i] = results
	}
	f.s.applied(&out)
	f.s.cfg.Metrics.entries.Add(float64(len(logs)))
	for _, topic := range out.Topics {
		f.s.hub.publish(topic)
	}
	return responses
}

func entryOf(l *raft.Log) state.Entry {
	return state.Entry{Index: l.Index, Term: l.Term, Type: uint8(l.Type), Data: l.Data, Empty: l.Type != raft.LogCommand}
}

func (f fsm) Snapshot() (raft.FSMSnapshot, error) {
	snap, err := f.s.machine.Snapshot()
	if err != nil {
		return nil, err
	}
	return snapshot{snap, f.s}, nil
}

func (f fsm) Restore(from io.ReadCloser) error {
	defer from.Close()
	if err := f.s.machine.Restore(from); err != nil {
		f.s.fail(err)
		return err
	}
	f.s.cfg.Metrics.restores.Inc()
	f.s.progress.advance(f.s.AppliedIndex())
	f.s.hub.publishAll()
	return nil
}

// snapshot is one of a store; nil: of a node that does not run.
type snapshot struct {
	*state.Snapshot
	s *Store
}

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if s.s != nil {
		if err := s.s.Sound(s.Snapshot); err != nil {
			_ = sink.Cancel() // likewise
			return fmt.Errorf("persist: %w", err)
		}
	}
	if _, err := s.WriteTo(sink); err != nil {
		_ = sink.Cancel() // the error that matters is the one before
		return fmt.Errorf("persist: %w", err)
	}
	return sink.Close()
}
