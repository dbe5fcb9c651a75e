package store

import (
	"github.com/hashicorp/raft"
)

// transporter is all that raft looks for in a transport. Embedding the whole of it keeps
// the optional parts, pre-vote and close, in sight.
type transporter interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// serial makes heartbeats pass through raft's main loop like every other call. Given a
// handler, the transport would call it from its own goroutine; raft v1.8.0 then raises the
// term while a leader still takes commands, stamps an entry with the term of another
// leader, and nodes apply different entries at one index.
type serial struct{ transporter }

// SetHeartbeatHandler ignores the handler.
func (serial) SetHeartbeatHandler(func(raft.RPC)) {}

func (s *Store) transport(logger logger) transporter {
	if s.cfg.Stream == nil {
		_, memory := raft.NewInmemTransport(raft.ServerAddress(s.cfg.NodeID))
		return serial{memory}
	}
	return serial{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          s.cfg.Stream,
		Logger:          logger.Named("transport"),
		MaxPool:         3,
		MaxRPCsInFlight: 1, // more is the pipeline, in which replication can stop for ever
		Timeout:         s.cfg.WriteDeadline,
	})}
}
