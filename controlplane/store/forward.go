package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// forward hands a command to the node that leads. It returns when this node's state has
// the answer's entry too, so that the caller reads here what it has written there.
func (s *Store) forward(ctx context.Context, leader string, cmd model.Command) answer {
	text, refused := encode(cmd)
	if refused != nil {
		return answer{Result: state.Result{Err: refused}}
	}
	if s.cfg.Peers == nil {
		return failed(model.Unavailable, fmt.Errorf("node %s leads and this node is not connected to it", leader))
	}
	call, cancel := context.WithTimeout(ctx, forwardWait)
	defer cancel()
	reply, err := s.cfg.Peers.Apply(call, leader, text)
	if err != nil {
		code := model.CodeOf(err)
		return answer{Result: failed(code, fmt.Errorf("by way of node %s: %w", leader, err)).Result, again: code == model.Unavailable}
	}
	a, err := decodeAnswer(reply)
	if err != nil {
		return failed(model.Unknown, fmt.Errorf("by way of node %s: %w", leader, err))
	}
	own, done := context.WithTimeout(ctx, ownWait)
	defer done()
	if err := s.progress.wait(own, a.index); err != nil {
		s.cfg.Logger.Warn("a command was answered that is not in this node's state yet", "entry", a.index, "error", err)
	}
	return a
}

// ServeApply applies a command that another node has encoded, and encodes the answer. It is
// for the leader only. An error is always a *model.Error; Unavailable means: surely not
// done. What the state refuses is an answer, not an error.
func (s *Store) ServeApply(ctx context.Context, command []byte) ([]byte, error) {
	if s.leads.Load() == 0 {
		return nil, s.notLeading()
	}
	// What this node cannot read it must not put into the log: every node would end there.
	cmd, err := state.Decode(command)
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%v", err)
	}
	a := s.offer(ctx, cmd, command)()
	if a.Err != nil && a.index == 0 {
		return nil, a.Err
	}
	reply, err := encodeAnswer(a)
	if err != nil {
		return nil, model.Errorf(model.Unknown, "it was done, but its answer cannot be told: %v", err)
	}
	return reply, nil
}

// An answer travels as its entry's index and what the state makes of the rest.
func encodeAnswer(a answer) ([]byte, error) {
	text, err := state.EncodeResult(a.Value, a.Err)
	if err != nil {
		return nil, err
	}
	return append(binary.AppendUvarint(nil, a.index), text...), nil
}

func decodeAnswer(reply []byte) (answer, error) {
	index, n := binary.Uvarint(reply)
	if n <= 0 {
		return answer{}, errors.New("an answer is cut short")
	}
	value, refused, err := state.DecodeResult(reply[n:])
	if err != nil {
		return answer{}, fmt.Errorf("an answer cannot be read: %w", err)
	}
	return answer{Result: state.Result{Value: value, Err: refused}, index: index}, nil
}
