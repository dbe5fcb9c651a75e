package api

import (
	"context"
	"strconv"
	"strings"

	"github.com/crossdock/crossdock/controlplane/model"
)

// ListDeadLetters lists a page of dead letters, newest first, without their events.
func (s *Server) ListDeadLetters(_ context.Context, r ListDeadLettersRequestObject) (ListDeadLettersResponseObject, error) {
	before, err := fromCursor(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	letters, next := s.store.DeadLetters(model.DeadLetterFilter{
		Agent: r.Params.Agent, System: r.Params.System, State: model.DeadLetterState(r.Params.State), Key: r.Params.Key,
		Before: before, Limit: limitOf(r.Params.Limit),
	})
	answer := ListDeadLetters200JSONResponse{Items: make([]DeadLetter, len(letters))}
	for i := range letters {
		answer.Items[i] = toDeadLetter(&letters[i])
		answer.Items[i].Event = nil // a page of events could have a hundred megabytes
	}
	if next != 0 {
		answer.NextCursor = strconv.FormatUint(next, 10)
	}
	return answer, nil
}

func (s *Server) deadLetter(id string) (DeadLetter, error) {
	letter, known := s.store.DeadLetter(id)
	if !known {
		return DeadLetter{}, model.Errorf(model.NotFound, "there is no dead letter %s", id)
	}
	return toDeadLetter(&letter), nil
}

// GetDeadLetter gives one dead letter with its event.
func (s *Server) GetDeadLetter(_ context.Context, r GetDeadLetterRequestObject) (GetDeadLetterResponseObject, error) {
	letter, err := s.deadLetter(r.ID)
	if err != nil {
		return nil, err
	}
	return GetDeadLetter200JSONResponse(letter), nil
}

// ReplayDeadLetter asks its agent to deliver it again.
func (s *Server) ReplayDeadLetter(ctx context.Context, r ReplayDeadLetterRequestObject) (ReplayDeadLetterResponseObject, error) {
	_, err := s.store.Apply(ctx, &model.Resolve{
		Asked: s.asked(ctx, r.Params.IdempotencyKey), DeadLetter: r.ID,
		Replay: true, Confirm: r.Body.Confirm, Reason: r.Body.Reason,
	})
	if err != nil {
		return nil, err
	}
	letter, err := s.deadLetter(r.ID)
	if err != nil {
		return nil, err
	}
	return ReplayDeadLetter202JSONResponse(letter), nil
}

// DiscardDeadLetter asks its agent to give it up.
func (s *Server) DiscardDeadLetter(ctx context.Context, r DiscardDeadLetterRequestObject) (DiscardDeadLetterResponseObject, error) {
	_, err := s.store.Apply(ctx, &model.Resolve{
		Asked: s.asked(ctx, r.Params.IdempotencyKey), DeadLetter: r.ID, Reason: r.Body.Reason,
	})
	if err != nil {
		return nil, err
	}
	letter, err := s.deadLetter(r.ID)
	if err != nil {
		return nil, err
	}
	return DiscardDeadLetter202JSONResponse(letter), nil
}

// ListExceptions lists what a person must look at.
func (s *Server) ListExceptions(_ context.Context, r ListExceptionsRequestObject) (ListExceptionsResponseObject, error) {
	limit := limitOf(r.Params.Limit)
	exceptions := append(s.unattended(), s.store.Exceptions(limit)...)
	exceptions = exceptions[:min(len(exceptions), limit)]
	answer := ListExceptions200JSONResponse{Items: make([]Exception, len(exceptions))}
	for i := range exceptions {
		answer.Items[i] = toException(&exceptions[i])
	}
	return answer, nil
}

// ResolveException notes that a person has looked.
func (s *Server) ResolveException(ctx context.Context, r ResolveExceptionRequestObject) (ResolveExceptionResponseObject, error) {
	if site, ok := strings.CutPrefix(r.ID, unattendedID); ok {
		return nil, model.Errorf(model.Conflict,
			"exception %s goes by itself once an agent has been enrolled at %s: %s", r.ID, site, s.attend(site))
	}
	_, err := s.store.Apply(ctx, &model.ResolveException{
		Asked: s.asked(ctx, r.Params.IdempotencyKey), Exception: r.ID, Reason: r.Body.Reason,
	})
	if err != nil {
		return nil, err
	}
	return ResolveException204Response{}, nil
}

// ListAudit lists a page of the record, oldest first unless the newest are asked for.
func (s *Server) ListAudit(_ context.Context, r ListAuditRequestObject) (ListAuditResponseObject, error) {
	from, err := fromCursor(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	list := s.store.Audit
	if r.Params.Newest {
		list = s.store.AuditBefore
	}
	limit := limitOf(r.Params.Limit)
	entries := list(from, limit)
	answer := ListAudit200JSONResponse{Items: make([]AuditEntry, len(entries))}
	for i := range entries {
		answer.Items[i] = toAuditEntry(&entries[i])
	}
	if n := len(entries); n == limit && (!r.Params.Newest || entries[n-1].Number > 1) {
		answer.NextCursor = strconv.FormatUint(entries[n-1].Number, 10)
	}
	return answer, nil
}

// VerifyAudit computes the record's chain anew.
func (s *Server) VerifyAudit(_ context.Context, _ VerifyAuditRequestObject) (VerifyAuditResponseObject, error) {
	err := s.store.VerifyAudit()
	answer := VerifyAudit200JSONResponse{Ok: err == nil}
	if err != nil {
		answer.Detail = err.Error()
	}
	last := s.lastAudit()
	answer.Entries, answer.Head = last.Number, toDigest(last.Hash)
	return answer, nil
}

// lastAudit gives the newest entry.
func (s *Server) lastAudit() model.AuditEntry {
	if newest := s.store.AuditBefore(0, 1); len(newest) == 1 {
		return newest[0]
	}
	return model.AuditEntry{}
}
