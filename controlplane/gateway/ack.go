package gateway

import (
	"context"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// Ack releases mail and commands, and takes the agent's status and what goes with it.
func (g *Gateway) Ack(ctx context.Context, r *connect.Request[syncpb.AckRequest]) (*connect.Response[syncpb.AckResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	mark, err := g.current(agent, r.Header())
	if err != nil {
		return nil, err
	}
	if err := g.checkAck(r.Msg); err != nil {
		return nil, err
	}
	live := g.stream(agent.Name)
	ack := &model.Ack{At: g.cfg.Now(), Agent: agent.Name, Epoch: mark.Epoch, Node: g.cfg.Node, Mailbox: r.Msg.GetMailbox(), Status: r.Msg.GetStatus()}
	// A position is a number in one history of the mailbox. What was not sent on the open
	// stream is of another one, and would remove mail that the agent has never seen.
	if ack.Mailbox > 0 && (live == nil || ack.Mailbox > live.sent.Load()) {
		return nil, g.refuse("position", connect.CodeFailedPrecondition,
			"agent %s acknowledges mail %d, which was not sent to it on an open stream: pull again and acknowledge what comes", agent.Name, ack.Mailbox)
	}
	for _, a := range r.Msg.GetAnswers() {
		if isLive(a.GetId()) {
			live.answered(a) // one that nobody waits for any more is dropped
			continue
		}
		ack.Answers = append(ack.Answers, model.CommandAnswer{ID: a.GetId(), Error: clip(a.GetError())})
	}
	for _, l := range r.Msg.GetSettled() {
		ack.Settled = append(ack.Settled, model.Lane{Source: l.GetSource(), Epoch: l.GetEpoch(), Destination: agent.Name, Settled: l.GetHighwater()})
	}
	for _, m := range r.Msg.GetMoves() {
		ack.Moves = append(ack.Moves, model.MoveReport{System: m.GetSystem(), Pending: m.GetPending(), Holding: m.GetHolding()})
	}
	ack.Flushed = block.Revision{Generation: r.Msg.GetFlushed().GetGeneration(), Number: r.Msg.GetFlushed().GetNumber()}
	if ack.Mailbox > 0 || len(ack.Answers)+len(ack.Status)+len(ack.Settled)+len(ack.Moves) > 0 || ack.Flushed != (block.Revision{}) {
		if _, err := g.apply(ctx, ack); err != nil {
			return nil, err
		}
	}
	live.settled(ack.Answers)
	// Last: what was acknowledged with it is no part of the next turn.
	live.take(mark, turn{number: r.Msg.GetTurn(), full: r.Msg.GetFull()})
	return connect.NewResponse(&syncpb.AckResponse{}), nil
}

func (g *Gateway) checkAck(m *syncpb.AckRequest) error {
	if len(m.GetAnswers()) > maxAnswers || len(m.GetStatus()) > maxStatus {
		return g.refuse("size", connect.CodeInvalidArgument, "ack with %d answers and a status of %d bytes; the limits are %d and %d",
			len(m.GetAnswers()), len(m.GetStatus()), maxAnswers, maxStatus)
	}
	if len(m.GetSettled()) > maxSettled || len(m.GetMoves()) > maxMoves {
		return g.refuse("size", connect.CodeInvalidArgument, "ack with %d settled lanes and %d moves; the limits are %d and %d",
			len(m.GetSettled()), len(m.GetMoves()), maxSettled, maxMoves)
	}
	for _, l := range m.GetSettled() {
		if len(l.GetSource()) > maxName {
			return g.refuse("size", connect.CodeInvalidArgument, "ack: source of a settled lane has %d bytes; the limit is %d", len(l.GetSource()), maxName)
		}
	}
	for _, move := range m.GetMoves() {
		if len(move.GetSystem()) > maxName {
			return g.refuse("size", connect.CodeInvalidArgument, "ack: system of a move has %d bytes; the limit is %d", len(move.GetSystem()), maxName)
		}
	}
	return nil
}
