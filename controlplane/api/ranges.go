package api

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

// rangesOf lists the number ranges of a policy.
func rangesOf(set *policy.Set) (out []model.NumberRange) {
	for _, name := range slices.Sorted(maps.Keys(set.Ranges)) { // a repeat of a request is known by its bytes
		r := set.Ranges[name]
		out = append(out, model.NumberRange{Name: r.Name, Span: r.Span, Sites: r.Sites, Block: r.Block, Low: r.Low, Hourly: r.Hourly})
	}
	return out
}

// ListRanges lists number ranges with what was leased of them, and what agents have of it as
// they last said.
func (s *Server) ListRanges(_ context.Context, _ ListRangesRequestObject) (ListRangesResponseObject, error) {
	ranges, reports := s.store.Ranges(), s.numberReports()
	answer := ListRanges200JSONResponse{Items: make([]NumberRange, len(ranges))}
	for i := range ranges {
		answer.Items[i] = toRange(&ranges[i], reports)
	}
	return answer, nil
}

// ReleaseRange has a range go on at a serial, by an operator's word.
func (s *Server) ReleaseRange(ctx context.Context, r ReleaseRangeRequestObject) (ReleaseRangeResponseObject, error) {
	cmd := &model.ReleaseRange{Asked: s.asked(ctx, r.Params.IdempotencyKey), Range: r.Name, Next: r.Body.Next}
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return nil, err
	}
	for _, one := range s.store.Ranges() {
		if one.Name == r.Name {
			return ReleaseRange200JSONResponse(toRange(&one, s.numberReports())), nil
		}
	}
	return nil, model.Errorf(model.NotFound, "there is no number range %s", r.Name)
}

// numberReports is what the agents say in their status, by agent.
func (s *Server) numberReports() map[string]model.AgentStatus {
	out := map[string]model.AgentStatus{}
	for _, a := range s.store.Agents() {
		var status model.AgentStatus
		if len(a.Status) > 0 && json.Unmarshal(a.Status, &status) == nil { // an agent may say anything
			out[a.Name] = status
		}
	}
	return out
}

func toRange(r *model.RangeStatus, reports map[string]model.AgentStatus) NumberRange {
	out := NumberRange{
		Name: r.Name, InForce: r.InForce, Lead: r.Span.Form.Lead, Trail: r.Span.Form.Trail, Digits: r.Span.Form.Digits, Check: r.Span.Form.Check,
		First: r.Span.First, Last: r.Span.Last, Next: r.Next, Block: r.Block, Low: r.Low, Hourly: r.Hourly, Sites: orEmpty(r.Sites), Held: r.Held,
		Leases: make([]RangeLease, len(r.Leases)),
	}
	if r.Sure < r.Next {
		out.Sure = r.Sure
	}
	if r.Next <= r.Span.Last {
		out.Left = r.Span.Last - r.Next + 1
	}
	for i, l := range r.Leases {
		lease := RangeLease{Agent: l.Agent, Epoch: l.Epoch, Blocks: make([]NumberBlock, len(l.Blocks)), Leased: l.Leased, Forfeited: l.Forfeited, At: l.At}
		for j, b := range l.Blocks {
			lease.Blocks[j] = NumberBlock{First: b.First, Last: b.Last}
		}
		status := reports[l.Agent]
		for _, n := range status.Numbers {
			if n.Range == r.Name {
				lease.Reported, lease.Left, lease.Used, lease.Refused = status.At, n.Left, n.Used, n.Refused
			}
		}
		out.Leases[i] = lease
	}
	return out
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
