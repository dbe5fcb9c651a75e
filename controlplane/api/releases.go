package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

// Rollouts reads releases of the agent, and what each site is to run.
type Rollouts interface {
	Releases() []model.Release // the oldest first
	ReleaseManifest(version string) ([]byte, bool)
	WantedStage(site string) (version, stage string)
}

// ListReleases lists what is kept.
func (s *Server) ListReleases(context.Context, ListReleasesRequestObject) (ListReleasesResponseObject, error) {
	releases := s.store.Releases()
	answer := ListReleases200JSONResponse{Items: make([]Release, len(releases))}
	for i := range releases {
		answer.Items[i] = toRelease(&releases[i])
	}
	return answer, nil
}

// AddRelease begins a release. What is wrong with it is found here, before it costs an entry;
// whether it may run at a site is for the agents to judge.
func (s *Server) AddRelease(ctx context.Context, r AddReleaseRequestObject) (AddReleaseResponseObject, error) {
	text, signature := []byte(r.Body.Manifest), []byte(r.Body.Signature)
	var manifest *release.Manifest
	var err error
	if len(s.releaseKeys) > 0 {
		manifest, err = release.Parse(text, signature, s.releaseKeys)
	} else {
		manifest, err = release.Read(text, signature)
	}
	if err != nil {
		return nil, model.Errorf(model.Invalid, "%v", err)
	}
	for _, r := range s.store.Releases() { // no agent would know which of the two it runs
		if r.Version != manifest.Version && sameVersion(r.Version, manifest.Version) {
			return nil, model.Errorf(model.Conflict, "release %s is here, and %s is the same version: sign it as that, or as a later one", r.Version, manifest.Version)
		}
	}
	cmd := &model.AddRelease{Asked: s.asked(ctx, r.Params.IdempotencyKey), Version: manifest.Version, Manifest: text, Signature: signature,
		Digest: sha256.Sum256(text), Key: release.SignedWith(signature), Files: filesOf(manifest)}
	out, err := s.changeRelease(ctx, cmd, manifest.Version)
	if err != nil {
		return nil, err
	}
	return AddRelease201JSONResponse(out), nil
}

// filesOf lists each content of a release once.
func filesOf(m *release.Manifest) (out []model.ReleaseFile) {
	sizes := map[string]int64{}
	for _, f := range m.Files {
		sizes[f.SHA256] = f.Size
	}
	for _, sha := range slices.Sorted(maps.Keys(sizes)) { // a repeat of a request is known by its bytes
		out = append(out, model.ReleaseFile{SHA256: sha, Size: sizes[sha]})
	}
	return out
}

// PutReleasePiece brings the next piece of a file.
func (s *Server) PutReleasePiece(ctx context.Context, r PutReleasePieceRequestObject) (PutReleasePieceResponseObject, error) {
	if row, known := s.releaseRow(r.Version); !known || !slices.ContainsFunc(row.Files, func(f model.ReleaseFile) bool { return f.SHA256 == r.Sha256 }) {
		return nil, model.Errorf(model.NotFound, "there is no release %s with a file %s", r.Version, r.Sha256)
	}
	cmd := &model.PutReleasePiece{Asked: s.asked(ctx, r.Params.IdempotencyKey), SHA256: r.Sha256, Offset: r.Body.Offset, Data: r.Body.Data}
	out, err := s.changeRelease(ctx, cmd, r.Version)
	return PutReleasePiece200JSONResponse(out), err
}

// ApproveRelease has sites run a release. Who may is for the state machine to say.
func (s *Server) ApproveRelease(ctx context.Context, r ApproveReleaseRequestObject) (ApproveReleaseResponseObject, error) {
	digest, err := fromDigest(r.Body.Digest)
	if err != nil {
		return nil, err
	}
	cmd := &model.SteerRelease{Verb: model.ReleaseApprove, Digest: digest, Asked: s.asked(ctx, r.Params.IdempotencyKey), Version: r.Version}
	if cmd.Sites, err = s.scope(ctx, r.Body.Sites, r.Body.Regions); err != nil {
		return nil, err
	}
	out, err := s.changeRelease(ctx, cmd, r.Version)
	return ApproveRelease200JSONResponse(out), err
}

// PromoteRelease widens a rollout.
func (s *Server) PromoteRelease(ctx context.Context, r PromoteReleaseRequestObject) (PromoteReleaseResponseObject, error) {
	cmd := &model.SteerRelease{Verb: model.ReleasePromote, Asked: s.asked(ctx, r.Params.IdempotencyKey), Version: r.Version}
	var err error
	if cmd.Sites, err = s.scope(ctx, r.Body.Sites, r.Body.Regions); err != nil {
		return nil, err
	}
	out, err := s.changeRelease(ctx, cmd, r.Version)
	return PromoteRelease200JSONResponse(out), err
}

// PauseRelease holds a rollout.
func (s *Server) PauseRelease(ctx context.Context, r PauseReleaseRequestObject) (PauseReleaseResponseObject, error) {
	out, err := s.changeRelease(ctx, &model.SteerRelease{Verb: model.ReleasePause, Asked: s.asked(ctx, r.Params.IdempotencyKey),
		Version: r.Version, Reason: r.Body.Reason}, r.Version)
	return PauseRelease200JSONResponse(out), err
}

// ResumeRelease goes on with a paused rollout.
func (s *Server) ResumeRelease(ctx context.Context, r ResumeReleaseRequestObject) (ResumeReleaseResponseObject, error) {
	out, err := s.changeRelease(ctx, &model.SteerRelease{Verb: model.ReleaseResume, Asked: s.asked(ctx, r.Params.IdempotencyKey),
		Version: r.Version, Reason: r.Body.Reason}, r.Version)
	return ResumeRelease200JSONResponse(out), err
}

// WithdrawRelease takes a release back, or removes one that was never approved, or was superseded.
func (s *Server) WithdrawRelease(ctx context.Context, r WithdrawReleaseRequestObject) (WithdrawReleaseResponseObject, error) {
	row, _ := s.releaseRow(r.Version) // as it was, if it is gone then
	_, err := s.store.Apply(ctx, &model.SteerRelease{Verb: model.ReleaseWithdraw, Asked: s.asked(ctx, r.Params.IdempotencyKey),
		Version: r.Version, Reason: r.Body.Reason})
	if err != nil {
		return nil, err
	}
	row.Version, row.State = r.Version, model.ReleaseWithdrawn
	if now, kept := s.releaseRow(r.Version); kept {
		row = now
	}
	return WithdrawRelease200JSONResponse(toRelease(&row)), nil
}

// changeRelease applies a command and gives the release as it is then.
func (s *Server) changeRelease(ctx context.Context, cmd model.Command, version string) (Release, error) {
	if _, err := s.store.Apply(ctx, cmd); err != nil {
		return Release{}, err
	}
	row, known := s.releaseRow(version)
	if !known {
		return Release{}, model.Errorf(model.NotFound, "there is no release %s", version)
	}
	return toRelease(&row), nil
}

func (s *Server) releaseRow(version string) (model.Release, bool) {
	for _, r := range s.store.Releases() {
		if r.Version == version {
			return r, true
		}
	}
	return model.Release{}, false
}

// scope is the sites of a stage: those that are named, and those of the regions as the policy
// in force has them now. A site that comes into a region later is not of it.
func (s *Server) scope(ctx context.Context, sites, regions []string) ([]string, error) {
	for _, site := range sites { // one that does not exist would be a stage in which nothing can fail
		if err := s.hasSite(site); err != nil {
			return nil, err
		}
	}
	if len(regions) == 0 {
		return sites, nil
	}
	active, inForce := s.store.Active()
	if !inForce {
		return nil, model.Errorf(model.Conflict, "no policy is in force that could tell which sites a region has: name sites")
	}
	_, set, err := s.compiled(ctx, active.ID.Number)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for name, site := range set.Sites {
		found[site.Region] = true
		if slices.Contains(regions, site.Region) {
			sites = append(sites, name)
		}
	}
	for _, region := range regions {
		if !found[region] {
			return nil, model.Errorf(model.Invalid, "revision %d, which is in force, has no site in region %q; %s",
				active.ID.Number, region, meant("regions", region, slices.Sorted(maps.Keys(found))))
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(sites))), nil
}

// GetRelease shows a release and how far each site has come.
func (s *Server) GetRelease(_ context.Context, r GetReleaseRequestObject) (GetReleaseResponseObject, error) {
	row, known := s.releaseRow(r.Version)
	manifest, kept := s.store.ReleaseManifest(r.Version)
	if !known || !kept {
		return nil, model.Errorf(model.NotFound, "there is no release %s", r.Version)
	}
	answer := GetRelease200JSONResponse{Release: toRelease(&row), Manifest: string(manifest), Items: []ReleaseSite{}}
	for _, a := range s.store.Agents() {
		if a.Revoked.IsZero() && a.Forgotten.IsZero() {
			answer.Items = append(answer.Items, s.releaseSite(&row, &a))
		}
	}
	return answer, nil
}

func (s *Server) releaseSite(r *model.Release, a *model.Agent) ReleaseSite {
	var status model.AgentStatus
	if len(a.Status) > 0 && json.Unmarshal(a.Status, &status) != nil { // an agent may say anything
		status = model.AgentStatus{}
	}
	version, stage := s.store.WantedStage(a.Site)
	out := ReleaseSite{Site: a.Site, Agent: a.Name, Connected: s.agents.Connected(a.Name), LastSeen: a.LastSeen, Running: status.Version, Wanted: version,
		State: ReleaseSiteStateNone}
	said := status.Release
	if version == "" && sameVersion(out.Running, r.Version) && r.Left(a.Site) && (said == nil || said.Stage != stage) {
		out.State, out.Why = ReleaseSiteStateWaiting, "it was withdrawn: the site goes back to what ran there before"
		return out
	}
	if said == nil {
		switch {
		case version == "":
		case sameVersion(status.Version, version):
			out.State = ReleaseSiteStateCurrent
		case status.Version == "":
			out.State = ReleaseSiteStateWaiting
		default:
			out.State = ReleaseSiteStateUnsupported
		}
		return out
	}
	// Of an earlier stage: who failed before it was paused, and who is still on trial.
	ofThis := said.Stage == stage || strings.HasPrefix(said.Stage, r.Version+"/") &&
		(version == "" || version == r.Version && ReleaseSiteState(said.State) == ReleaseSiteStateTrial)
	switch state := ReleaseSiteState(said.State); {
	case said.Stage != "" && ofThis && state.Valid():
		out.State, out.Why, out.Since = state, said.Why, said.Since
	case version == "":
	case sameVersion(said.Running, version):
		out.State, out.Since = ReleaseSiteStateCurrent, said.Since
	default:
		out.State = ReleaseSiteStateWaiting
	}
	if said.Running != "" {
		out.Running = said.Running
	}
	return out
}

// sameVersion compares what a program says of itself with the name of a release, as its agent
// does: a build from a tag may have its leading v, where the release was signed without, and a
// release of 1.4.0 may be signed as 1.4.
func sameVersion(a, b string) bool { return release.Compare(a, b) == 0 }

func toRelease(r *model.Release) Release {
	out := Release{Version: r.Version, Digest: toDigest(r.Digest), Key: r.Key, State: ReleaseState(r.State), Author: r.Author, Added: r.Added,
		Approver: r.Approver, Approved: r.Approved, Files: make([]ReleaseFile, len(r.Files)), Sites: orEmpty(r.Sites), First: orEmpty(r.First),
		Everywhere: r.All, Stepped: r.Stepped, By: r.By, BySelf: r.State == model.ReleasePaused && r.By == "", Reason: r.Reason, Before: r.Before}
	if r.Step > 0 {
		out.Stage = r.Stage()
	}
	for i, f := range r.Files {
		out.Files[i] = ReleaseFile{Sha256: f.SHA256, Size: f.Size, Have: f.Have}
	}
	return out
}
