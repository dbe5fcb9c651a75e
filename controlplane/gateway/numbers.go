package gateway

import (
	"context"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/serial"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// Limits on what an agent says of number ranges.
const maxMarks = 500

// LeaseNumbers gives an agent a block of a number range. A repeat of a request gets the same.
func (g *Gateway) LeaseNumbers(ctx context.Context, r *connect.Request[syncpb.LeaseNumbersRequest]) (*connect.Response[syncpb.LeaseNumbersResponse], error) {
	agent, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := g.current(agent, r.Header()); err != nil {
		return nil, err
	}
	cmd := &model.LeaseNumbers{At: g.cfg.Now(), Agent: agent.Name, Epoch: r.Msg.GetEpoch(), Range: r.Msg.GetRange(),
		Have: r.Msg.GetHave(), Want: r.Msg.GetWant(), Highest: r.Msg.GetHighest()}
	switch {
	case cmd.Epoch != agent.Epoch:
		return nil, g.refuse("epoch", connect.CodePermissionDenied,
			"epoch %d of agent %s is fenced, its epoch is %d: another copy of this agent has a later one", cmd.Epoch, agent.Name, agent.Epoch)
	case len(r.Msg.GetRequest()) != len(cmd.Request) || len(cmd.Range) > maxName:
		return nil, g.refuse("size", connect.CodeInvalidArgument, "a lease of numbers with a request id of %d bytes and a range of %d; it takes %d and at most %d",
			len(r.Msg.GetRequest()), len(cmd.Range), len(cmd.Request), maxName)
	}
	cmd.Request = [16]byte(r.Msg.GetRequest())
	if why := g.cfg.Store.MayLease(cmd); why != nil { // agents ask again and again: not each time the cluster
		return nil, toWire(why)
	}
	result, err := g.apply(ctx, cmd)
	if err != nil {
		return nil, err
	}
	given, ok := result.(*model.NumberBlock)
	if !ok {
		return nil, g.refuse("internal", connect.CodeInternal, "the state answered a lease of numbers with %T", result)
	}
	return connect.NewResponse(&syncpb.LeaseNumbersResponse{First: given.First, Last: given.Last}), nil
}

func marksOf(numbers *syncpb.Numbers) (marks []model.NumberMark) {
	for _, m := range numbers.GetMarks() {
		mark := model.NumberMark{Range: m.GetRange(), Highest: m.GetHighest(), Used: m.GetUsed(), Counted: m.Used != nil}
		if f := m.GetForm(); f != nil {
			mark.Form = serial.Form{Lead: f.GetLead(), Digits: int(f.GetDigits()), Check: f.GetCheck(), Trail: f.GetTrail()}
		}
		marks = append(marks, mark)
	}
	return marks
}
