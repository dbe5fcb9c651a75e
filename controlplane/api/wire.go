package api

import (
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

const digestPrefix = "sha256:"

func toDigest(sum [32]byte) Digest { return digestPrefix + hex.EncodeToString(sum[:]) }

func fromDigest(text Digest) ([32]byte, error) {
	raw, err := hex.DecodeString(strings.TrimPrefix(text, digestPrefix))
	if err != nil || len(raw) != 32 || !strings.HasPrefix(text, digestPrefix) {
		return [32]byte{}, model.Errorf(model.Invalid, "a digest is sha256: and 64 hex digits")
	}
	return [32]byte(raw), nil
}

func toRoles(roles []model.Role) []Role {
	out := make([]Role, len(roles))
	for i, r := range roles {
		out[i] = Role(r)
	}
	return out
}

func toPrincipal(p *model.Principal) Principal {
	return Principal{Name: p.Name, Roles: toRoles(p.Roles), Created: p.Created, Disabled: p.Disabled}
}

func toToken(t *model.JoinToken) Token {
	return Token{ID: t.ID, Site: t.Site, Node: t.Node, Created: t.Created, Expires: t.Expires, By: t.By, Used: t.Used, Refused: t.Refused}
}

func toAgent(a *model.Agent, mailbox model.Mailbox, connected bool) Agent {
	return Agent{
		Name: a.Name, Site: a.Site, Epoch: a.Epoch, Enrolled: a.Enrolled, Revoked: a.Revoked, LastSeen: a.LastSeen,
		Node: a.Node, Authority: a.Authority, Recoveries: a.Recoveries, Allowed: a.Allowed,
		Connected: connected, MailboxEvents: mailbox.Events, MailboxBytes: mailbox.Bytes, Status: a.Status,
	}
}

func toRevision(r *model.Revision) Revision {
	return Revision{
		Generation: r.ID.Generation, Number: r.ID.Number, Digest: toDigest(r.Digest), State: RevisionState(r.State),
		Note: r.Note, Author: r.Author, Approver: r.Approver, Proposed: r.Proposed, Approved: r.Approved,
		Base: r.Base.Number, Sites: r.Sites, Canary: r.Canary, Promoted: r.Promoted, Moves: toSystemMoves(r.Moves),
	}
}

func toSystemMoves(moves []model.Move) []SystemMove {
	out := make([]SystemMove, len(moves))
	for i, m := range moves {
		out[i] = SystemMove{System: m.System, Site: m.Site, Old: m.Old, OldSite: m.OldSite}
	}
	return out
}

func toMove(m *model.MoveStatus) Move {
	waiting := m.Waiting
	if waiting == nil {
		waiting = []string{}
	}
	return Move{
		System: m.System, Site: m.Site, Old: m.Old, OldSite: m.OldSite, Since: m.Since, State: MoveState(m.State),
		Waiting: waiting, Released: m.Released, By: m.By,
	}
}

func toLint(problems policy.Problems) []LintProblem {
	out := make([]LintProblem, len(problems))
	for i, p := range problems {
		out[i] = LintProblem{
			File: p.File, Line: p.Line, Column: p.Column,
			Severity: string(p.Severity), Message: p.Message, Hint: p.Hint,
		}
	}
	return out
}

func toChanges(changes []policy.Change) []Change {
	out := make([]Change, len(changes))
	for i, c := range changes {
		out[i] = Change{Kind: c.Kind, Name: c.Name, Change: c.Change, Fields: c.Fields, Replaces: c.Replaces}
	}
	return out
}

func toDeadLetter(d *model.DeadLetter) DeadLetter {
	return DeadLetter{
		ID: d.ID, Agent: d.Agent, Ref: d.Ref, System: d.System, Route: d.Route, EventID: d.EventID, Source: d.Source,
		Type: d.Type, Key: d.Key, Cause: d.Cause, Status: d.Status, Answer: d.Answer, Attempts: d.Attempts,
		Waiting: d.Waiting, OnExhausted: d.OnExhausted, At: d.At, State: DeadLetterState(d.State), By: d.By,
		Reason: d.Reason, Event: d.Event,
	}
}

func toException(e *model.Exception) Exception {
	return Exception{
		ID: e.ID, Agent: e.Agent, Kind: e.Kind, Text: e.Text, At: e.At,
		Resolved: e.Resolved, By: e.By, Reason: e.Reason,
	}
}

func toAuditEntry(a *model.AuditEntry) AuditEntry {
	return AuditEntry{
		Number: a.Number, At: a.At, By: a.By, Action: a.Action, Object: a.Object,
		Detail: detailOf(a.Detail), Previous: toDigest(a.Previous), Hash: toDigest(a.Hash),
	}
}

// detailOf leaves out a detail that is not JSON: one bad row must not hide the others.
func detailOf(raw json.RawMessage) json.RawMessage {
	if !json.Valid(raw) {
		return nil
	}
	return raw
}

func fromBundle(documents Documents) policy.Bundle {
	out := make(policy.Bundle, len(documents))
	for path, text := range documents {
		out[path] = []byte(text)
	}
	return out
}

func toDocuments(bundle policy.Bundle) Documents {
	out := make(Documents, len(bundle))
	for path, content := range bundle {
		out[path] = string(content)
	}
	return out
}
