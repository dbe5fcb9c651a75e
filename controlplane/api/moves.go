package api

import (
	"cmp"
	"context"
	"slices"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

// movesOf lists the systems of a policy that replace another.
func movesOf(set *policy.Set) []model.Move {
	moves := set.Moves()
	out := make([]model.Move, len(moves))
	for i, m := range moves {
		out[i] = model.Move{System: m.System, Site: m.Site, Old: m.Old, OldSite: m.OldSite}
	}
	return out
}

// ListMoves lists the moves of systems, those under way first.
func (s *Server) ListMoves(_ context.Context, _ ListMovesRequestObject) (ListMovesResponseObject, error) {
	moves := s.store.Moves()
	slices.SortFunc(moves, func(a, b model.MoveStatus) int {
		if done := b.State == model.MoveReleased; done != (a.State == model.MoveReleased) {
			if done {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.System, b.System))
	})
	answer := ListMoves200JSONResponse{Items: make([]Move, len(moves))}
	for i := range moves {
		answer.Items[i] = toMove(&moves[i])
	}
	return answer, nil
}

// ReleaseSystem ends a move by an operator's word.
func (s *Server) ReleaseSystem(ctx context.Context, r ReleaseSystemRequestObject) (ReleaseSystemResponseObject, error) {
	cmd := &model.ReleaseSystem{Asked: s.asked(ctx, r.Params.IdempotencyKey), System: r.Name}
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return nil, err
	}
	for _, m := range s.store.Moves() {
		if m.System == r.Name {
			return ReleaseSystem200JSONResponse(toMove(&m)), nil
		}
	}
	return nil, model.Errorf(model.NotFound, "no system %s takes the place of another", r.Name)
}
