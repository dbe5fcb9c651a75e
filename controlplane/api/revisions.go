package api

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/policy"
)

// ListRevisions lists the history, newest first.
func (s *Server) ListRevisions(_ context.Context, r ListRevisionsRequestObject) (ListRevisionsResponseObject, error) {
	before, err := fromCursor(r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := limitOf(r.Params.Limit)
	answer := ListRevisions200JSONResponse{Items: []Revision{}}
	for _, one := range s.store.Revisions(before, limit) {
		answer.Items = append(answer.Items, toRevision(&one))
	}
	if len(answer.Items) == limit && answer.Items[limit-1].Number > 1 {
		answer.NextCursor = strconv.FormatUint(answer.Items[limit-1].Number, 10)
	}
	return answer, nil
}

// fromCursor reads a cursor. Callers take it as it came; that it is a number is ours to know.
func fromCursor(text Cursor) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, model.Errorf(model.Invalid, "cursor %q is not a nextCursor of this list", text)
	}
	return n, nil
}

// defaultLimit is the length of a page when nobody says; the document says the same.
const defaultLimit = 100

func limitOf(asked Limit) int {
	if asked == 0 {
		return defaultLimit
	}
	return asked
}

func (s *Server) revision(number uint64) (model.Revision, error) {
	r, known := s.store.Revision(number)
	if !known {
		return r, model.Errorf(model.NotFound, "there is no revision %d", number)
	}
	return r, nil
}

func (s *Server) bundle(number uint64) (policy.Bundle, error) {
	encoded, known := s.store.RevisionBundle(number)
	if !known {
		return nil, model.Errorf(model.NotFound, "there is no revision %d", number)
	}
	bundle, err := policy.DecodeBundle(encoded)
	if err != nil {
		return nil, fmt.Errorf("bundle of revision %d: %w", number, err)
	}
	return bundle, nil
}

// GetActiveRevision gives the revision in force.
func (s *Server) GetActiveRevision(_ context.Context, _ GetActiveRevisionRequestObject) (GetActiveRevisionResponseObject, error) {
	active, known := s.store.Active()
	if !known {
		return nil, model.Errorf(model.NotFound, "no revision is in force yet: propose one and have it approved")
	}
	return GetActiveRevision200JSONResponse(toRevision(&active)), nil
}

// GetRevision gives one revision.
func (s *Server) GetRevision(_ context.Context, r GetRevisionRequestObject) (GetRevisionResponseObject, error) {
	revision, err := s.revision(r.Number)
	if err != nil {
		return nil, err
	}
	return GetRevision200JSONResponse(toRevision(&revision)), nil
}

// GetBundle gives the documents of a revision.
func (s *Server) GetBundle(_ context.Context, r GetBundleRequestObject) (GetBundleResponseObject, error) {
	revision, err := s.revision(r.Number)
	if err != nil {
		return nil, err
	}
	bundle, err := s.bundle(r.Number)
	if err != nil {
		return nil, err
	}
	return GetBundle200JSONResponse{Revision: toRevision(&revision), Bundle: toDocuments(bundle)}, nil
}

// compile compiles a bundle, a few at a time: it is the most costly thing that a caller
// can ask of a node.
func (s *Server) compile(ctx context.Context, bundle policy.Bundle, how func(policy.Bundle) (*policy.Set, policy.Problems)) (*policy.Set, policy.Problems, error) {
	select {
	case s.lints <- struct{}{}:
		defer func() { <-s.lints }()
	case <-ctx.Done():
		return nil, nil, model.Errorf(model.Unavailable, "too many bundles are being checked; nothing was done")
	}
	set, problems := how(bundle)
	return set, problems, nil
}

// LintBundle checks documents without keeping them.
func (s *Server) LintBundle(ctx context.Context, r LintBundleRequestObject) (LintBundleResponseObject, error) {
	if err := mayCompile(ctx); err != nil {
		return nil, err
	}
	bundle, err := takeBundle(r.Body.Bundle)
	if err != nil {
		return nil, err
	}
	_, problems, err := s.compile(ctx, bundle, policy.Compile)
	if err != nil {
		return nil, err
	}
	return LintBundle200JSONResponse{Ok: !problems.Failed(), Digest: toDigest(bundle.Digest()), Problems: toLint(problems)}, nil
}

// mayCompile keeps those who only read from making the node work. Who may propose is for
// the state machine to say.
func mayCompile(ctx context.Context) error {
	p := principalFrom(ctx)
	for _, role := range []model.Role{model.Author, model.Approver, model.Admin} {
		if slices.Contains(p.Roles, role) {
			return nil
		}
	}
	return model.Errorf(model.Forbidden, "%s is neither author, approver nor admin, so no documents are checked for it", p.Name)
}

// takeBundle refuses what is not text before anything reads it.
func takeBundle(documents Documents) (policy.Bundle, error) {
	for path, text := range documents {
		if !utf8.ValidString(path) || !utf8.ValidString(text) {
			return nil, model.Errorf(model.Invalid, "document %q is not UTF-8 text", path)
		}
	}
	return fromBundle(documents), nil
}

// ProposeRevision offers a bundle for approval.
func (s *Server) ProposeRevision(ctx context.Context, r ProposeRevisionRequestObject) (ProposeRevisionResponseObject, error) {
	if err := mayCompile(ctx); err != nil {
		return nil, err
	}
	bundle, err := takeBundle(r.Body.Bundle)
	if err != nil {
		return nil, err
	}
	revision, err := s.propose(ctx, bundle, r.Body.Note, r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return ProposeRevision201JSONResponse(toRevision(revision)), nil
}

func (s *Server) propose(ctx context.Context, bundle policy.Bundle, note string, key IdempotencyKey) (*model.Revision, error) {
	set, problems, err := s.compile(ctx, bundle, policy.Compile)
	if err != nil {
		return nil, err
	}
	if set == nil || problems.Failed() {
		return nil, lintRefusal(problems)
	}
	if active, known := s.store.Active(); known {
		if err := s.checkFixed(ctx, active.ID.Number, bundle); err != nil {
			return nil, err
		}
	}
	encoded := bundle.Encode()
	if len(encoded) > policy.MaxBundle {
		return nil, model.Errorf(model.TooLarge, "the bundle has %d bytes compressed, the limit is %d", len(encoded), policy.MaxBundle)
	}
	result, err := s.store.Apply(ctx, &model.Propose{
		Asked: s.asked(ctx, key), Bundle: encoded, Digest: bundle.Digest(),
		Sites: slices.Sorted(maps.Keys(set.Sites)), Moves: movesOf(set), Ranges: rangesOf(set), Note: note,
	})
	if err != nil {
		return nil, err
	}
	return asRevision(result)
}

// checkFixed refuses a bundle that changes what never changes from one revision to the next:
// the site of a system, by which agents tell who may send as it, the numbers that a range
// makes, of which some were given, and the schema behind the version of a contract, by which
// events say what they are: also of a version that is not in force now and was before.
func (s *Server) checkFixed(ctx context.Context, before uint64, bundle policy.Bundle) error {
	old, err := s.bundle(before)
	if err != nil {
		return err
	}
	select {
	case s.lints <- struct{}{}:
		defer func() { <-s.lints }()
	case <-ctx.Done():
		return model.Errorf(model.Unavailable, "too many bundles are being checked; nothing was done")
	}
	var faults []string
	for _, r := range policy.Relocated(old, bundle) {
		faults = append(faults, r.String())
	}
	for _, r := range policy.Reissued(old, bundle) {
		faults = append(faults, r.String())
	}
	if !s.wasInForce(bundle.Digest()) { // a rollback brings back the schema of then
		for _, r := range policy.Rewritten(old, bundle, s.approvedBundles(ctx, before)) {
			faults = append(faults, r.String())
		}
		if ctx.Err() != nil { // not with all of them
			return model.Errorf(model.Unavailable, "comparing with earlier revisions took too long; nothing was done")
		}
	}
	if len(faults) == 0 {
		return nil
	}
	items := make([]ProblemItem, 0, min(len(faults), maxItems))
	for _, fault := range faults[:cap(items)] {
		items = append(items, ProblemItem{Pointer: "/bundle", Detail: fault})
	}
	return &itemError{cause: model.Errorf(model.Invalid, "%s", faults[0]), items: items}
}

// wasInForce says whether a revision with these documents was approved once.
func (s *Server) wasInForce(digest [32]byte) bool {
	for r := range s.approvedRevisions() {
		if r.Digest == digest {
			return true
		}
	}
	return false
}

// approvedRevisions gives the revisions that were approved once, at least at canary sites, the
// newest first.
func (s *Server) approvedRevisions() iter.Seq[*model.Revision] {
	const page = 100
	return func(yield func(*model.Revision) bool) {
		for before := uint64(0); ; {
			list := s.store.Revisions(before, page)
			for i := range list {
				if !list[i].Approved.IsZero() && !yield(&list[i]) {
					return
				}
				before = list[i].ID.Number
			}
			if len(list) < page {
				return
			}
		}
	}
}

// comparedRevisions bounds how many approved revisions a proposal is compared with beside the
// one in force; the handbook says so, too.
const comparedRevisions = 50

// approvedBundles gives the documents of the newest approved revisions but one, as long as they
// are kept and can be read.
func (s *Server) approvedBundles(ctx context.Context, but uint64) iter.Seq[policy.Bundle] {
	return func(yield func(policy.Bundle) bool) {
		left := comparedRevisions
		for r := range s.approvedRevisions() {
			if r.ID.Number == but {
				continue
			}
			if left--; left < 0 || ctx.Err() != nil {
				return
			}
			if bundle, err := s.bundle(r.ID.Number); err == nil && !yield(bundle) {
				return
			}
		}
	}
}

// checkProposal looks at a proposal again, which may be older than that rule or have been
// made while another was approved. The state machine approves it only while its base is in
// force, and keeps the documents of that: so this compares with what is in force then.
func (s *Server) checkProposal(ctx context.Context, number uint64) error {
	r, err := s.revision(number)
	if err != nil {
		return err
	}
	if _, kept := s.store.RevisionBundle(r.Base.Number); !kept || r.State != model.RevisionProposed || mayCompile(ctx) != nil {
		return nil // the first one, or for the state machine to refuse
	}
	bundle, err := s.bundle(number)
	if err != nil {
		return err
	}
	return s.checkFixed(ctx, r.Base.Number, bundle)
}

func asRevision(result any) (*model.Revision, error) {
	revision, ok := result.(*model.Revision)
	if !ok || revision == nil {
		return nil, fmt.Errorf("the state answered %T where a revision was due", result)
	}
	return revision, nil
}

func lintRefusal(problems policy.Problems) error {
	items := make([]ProblemItem, 0, len(problems))
	first := ""
	for _, p := range problems {
		if p.Severity != policy.SeverityError {
			continue
		}
		if len(items) == maxItems {
			items = append(items, ProblemItem{Detail: "and more"})
			break
		}
		if first == "" {
			first = p.String()
		}
		items = append(items, ProblemItem{Pointer: "/bundle/" + pointerEscape.Replace(p.File), Detail: p.String()})
	}
	return &itemError{cause: model.Errorf(model.Invalid, "the policy has errors: %s", first), items: items}
}

// ApproveRevision puts a proposal in force, everywhere or at its canary sites. Who may is
// for the state machine to say.
func (s *Server) ApproveRevision(ctx context.Context, r ApproveRevisionRequestObject) (ApproveRevisionResponseObject, error) {
	digest, err := fromDigest(r.Body.Digest)
	if err != nil {
		return nil, err
	}
	if err := s.checkProposal(ctx, r.Number); err != nil {
		return nil, err
	}
	revision, err := s.changeRevision(ctx, &model.Approve{
		Asked: s.asked(ctx, r.Params.IdempotencyKey), Number: r.Number, Digest: digest, Canary: r.Body.Canary,
	})
	return ApproveRevision200JSONResponse(revision), err
}

// PromoteRevision puts a canary revision in force everywhere.
func (s *Server) PromoteRevision(ctx context.Context, r PromoteRevisionRequestObject) (PromoteRevisionResponseObject, error) {
	revision, err := s.changeRevision(ctx, &model.Promote{Asked: s.asked(ctx, r.Params.IdempotencyKey), Number: r.Number})
	return PromoteRevision200JSONResponse(revision), err
}

// WithdrawRevision takes a canary revision back.
func (s *Server) WithdrawRevision(ctx context.Context, r WithdrawRevisionRequestObject) (WithdrawRevisionResponseObject, error) {
	revision, err := s.changeRevision(ctx, &model.Withdraw{
		Asked: s.asked(ctx, r.Params.IdempotencyKey), Number: r.Number, Reason: r.Body.Reason,
	})
	return WithdrawRevision200JSONResponse(revision), err
}

func (s *Server) changeRevision(ctx context.Context, cmd model.Command) (Revision, error) {
	result, err := s.store.Apply(ctx, cmd)
	if err != nil {
		return Revision{}, err
	}
	revision, err := asRevision(result)
	if err != nil {
		return Revision{}, err
	}
	return toRevision(revision), nil
}

// RollbackRevision proposes old documents anew, so that history only grows and a rollback
// is seen by a second person like any other change.
func (s *Server) RollbackRevision(ctx context.Context, r RollbackRevisionRequestObject) (RollbackRevisionResponseObject, error) {
	old, err := s.revision(r.Number)
	if err != nil {
		return nil, err
	}
	if old.State == model.RevisionProposed {
		return nil, model.Errorf(model.Conflict, "revision %d has never been in force; approve it instead", r.Number)
	}
	bundle, err := s.bundle(r.Number)
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("rollback to revision %d", r.Number)
	if r.Body.Note != "" {
		note += ": " + r.Body.Note
	}
	revision, err := s.propose(ctx, bundle, note, r.Params.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return RollbackRevision201JSONResponse(toRevision(revision)), nil
}

// DiffRevision tells what a revision changes.
func (s *Server) DiffRevision(ctx context.Context, r DiffRevisionRequestObject) (DiffRevisionResponseObject, error) {
	revision, err := s.revision(r.Number)
	if err != nil {
		return nil, err
	}
	from := r.Params.From
	if from == 0 {
		from = revision.Base.Number
	}
	newBundle, newSet, err := s.compiled(ctx, r.Number)
	if err != nil {
		return nil, err
	}
	oldBundle, oldSet := policy.Bundle{}, &policy.Set{}
	if from != 0 {
		if oldBundle, oldSet, err = s.compiled(ctx, from); err != nil {
			return nil, err
		}
	}
	changes := policy.Diff(oldSet, newSet, oldBundle, newBundle)
	return DiffRevision200JSONResponse{From: from, To: r.Number, Changes: toChanges(changes)}, nil
}

func (s *Server) compiled(ctx context.Context, number uint64) (policy.Bundle, *policy.Set, error) {
	bundle, err := s.bundle(number)
	if err != nil {
		return nil, nil, err
	}
	set, problems, err := s.compile(ctx, bundle, policy.Load)
	if err != nil {
		return nil, nil, err
	}
	if set == nil { // it passed when it was proposed: this program is stricter than the one of then
		return nil, nil, model.Errorf(model.Conflict, "revision %d does not pass this version's checks: %s", number, problems.Error())
	}
	return bundle, set, nil
}
