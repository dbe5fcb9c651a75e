package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// maxReleaseWhy bounds what of an agent's reason stands in the reason of a pause.
const maxReleaseWhy = 300

// steerRelease does what a person wants of a rollout.
func (t *tx) steerRelease(c *model.SteerRelease) *model.Error {
	r, err := t.releaseRow(c.Version)
	if err != nil {
		return err
	}
	sites, err := siteNames(c.Sites)
	if err != nil {
		return err
	}
	if len(sites) > maxSites {
		return model.Errorf(model.TooLarge, "%d sites, the limit is %d", len(sites), maxSites)
	}
	was, own := r.State, false
	switch c.Verb {
	case model.ReleaseApprove:
		own, err = t.approveRelease(r, c, sites)
	case model.ReleasePromote:
		own, err = t.promoteRelease(r, c, sites)
	case model.ReleaseResume:
		own, err = t.resumeRelease(r, c)
	case model.ReleasePause:
		err = t.pauseRelease(r, c)
	case model.ReleaseWithdraw:
		err = t.withdrawRelease(r, c)
	default:
		err = model.Errorf(model.Invalid, "a release is approved, promoted, paused, resumed or withdrawn, not %q", clip(string(c.Verb), maxName))
	}
	if err != nil {
		return err
	}
	t.audit(c.At, c.By, "release."+string(c.Verb), r.Version, map[string]any{
		"digest": hexOf(r.Digest), "author": r.Author, "single": own, "from": was, "sites": sites, "reason": clip(c.Reason, maxText/2),
	})
	return nil
}

// rolling finds the release whose rollout is under way.
func (v view) rolling() *model.Release {
	for _, r := range v.releases() {
		if r.State == model.ReleaseCanary || r.State == model.ReleasePaused {
			return r
		}
	}
	return nil
}

// activeBeside finds the active release that is not r.
func (v view) activeBeside(r *model.Release) *model.Release {
	for _, other := range v.releases() {
		if other.State == model.ReleaseActive && other.Version != r.Version {
			return other
		}
	}
	return nil
}

// supersededBy finds the release in whose place r has come.
func (v view) supersededBy(r *model.Release) *model.Release {
	for _, old := range v.releases() {
		if old.State == model.ReleaseSuperseded && old.Version == r.Before {
			return old
		}
	}
	return nil
}

func (t *tx) releaseApprover(r *model.Release, by string) (bool, *model.Error) {
	return t.secondPerson(r.Author, by, "release "+r.Version+" was added")
}

func (t *tx) approveRelease(r *model.Release, c *model.SteerRelease, sites []string) (own bool, err *model.Error) {
	if own, err = t.releaseApprover(r, c.By); err != nil {
		return own, err
	}
	switch r.State {
	case model.ReleaseUploading:
		return own, model.Errorf(model.Conflict, "files of release %s are missing: add it again, that goes on where it ended", r.Version)
	case model.ReleaseCanary, model.ReleasePaused, model.ReleaseActive:
		return own, underWay(r)
	case model.ReleaseReady, model.ReleaseSuperseded, model.ReleaseWithdrawn:
	}
	if r.Digest != c.Digest {
		return own, model.Errorf(model.Conflict, "the manifest of release %s has the digest %s, not the one that was looked at", r.Version, hexOf(r.Digest))
	}
	if other := t.rolling(); other != nil {
		return own, underWay(other)
	}
	r.Approver, r.Approved, r.First, r.Sites, r.All = c.By, c.At, sites, sites, false
	if len(sites) == 0 {
		t.releaseEverywhere(r, c)
		return own, nil
	}
	t.stepRelease(r, model.ReleaseCanary, "", "", c.At)
	return own, nil
}

// underWay says where a rollout is, and what can be done with it there.
func underWay(r *model.Release) *model.Error {
	switch {
	case r.State == model.ReleasePaused:
		return model.Errorf(model.Conflict, "release %s is paused: resume or withdraw it first", r.Version)
	case r.State == model.ReleaseCanary:
		return model.Errorf(model.Conflict, "release %s is %s, wanted at some of the sites: promote or withdraw it first", r.Version, r.State)
	}
	return model.Errorf(model.Conflict, "release %s is %s, wanted at every site already", r.Version, r.State)
}

func (t *tx) promoteRelease(r *model.Release, c *model.SteerRelease, sites []string) (own bool, err *model.Error) {
	if own, err = t.releaseApprover(r, c.By); err != nil {
		return own, err
	}
	switch r.State {
	case model.ReleaseCanary:
	case model.ReleasePaused, model.ReleaseActive:
		return own, underWay(r)
	case model.ReleaseUploading, model.ReleaseReady, model.ReleaseSuperseded, model.ReleaseWithdrawn:
		return own, model.Errorf(model.Conflict, "release %s is %s, wanted at no site: approve it first", r.Version, r.State)
	}
	if len(sites) == 0 {
		t.releaseEverywhere(r, c)
		return own, nil
	}
	wider := slices.Compact(slices.Sorted(slices.Values(slices.Concat(r.Sites, sites))))
	if len(wider) == len(r.Sites) {
		return own, model.Errorf(model.Conflict, "release %s is wanted at all of these sites already", r.Version)
	}
	if len(wider) > maxSites {
		return own, model.Errorf(model.TooLarge, "%d sites, the limit is %d: promote it to all", len(wider), maxSites)
	}
	r.Sites = wider
	t.stepRelease(r, model.ReleaseCanary, "", "", c.At)
	return own, nil
}

// releaseEverywhere makes a release what every site is to run. It also takes the place of one
// that was paused when every site was to run it.
func (t *tx) releaseEverywhere(r *model.Release, c *model.SteerRelease) {
	r.Before = ""
	for _, old := range t.releases() {
		everywhere := old.State == model.ReleaseActive || old.State == model.ReleasePaused && old.All
		if everywhere && old.Version != r.Version {
			r.Before = old.Version
			old.State = model.ReleaseSuperseded
			t.putRelease(old)
		}
	}
	r.All = true
	t.stepRelease(r, model.ReleaseActive, "", "", c.At)
}

func (t *tx) pauseRelease(r *model.Release, c *model.SteerRelease) *model.Error {
	if err := t.need(c.By, model.Operator, model.Author, model.Approver, model.Admin); err != nil {
		return err
	}
	if r.State != model.ReleaseCanary && r.State != model.ReleaseActive {
		return model.Errorf(model.Conflict, "release %s is %s: there is nothing to pause", r.Version, r.State)
	}
	t.stepRelease(r, model.ReleasePaused, c.By, c.Reason, c.At)
	return nil
}

// resumeRelease goes on with a stage. Agents that failed in it try again.
func (t *tx) resumeRelease(r *model.Release, c *model.SteerRelease) (own bool, err *model.Error) {
	if own, err = t.releaseApprover(r, c.By); err != nil {
		return own, err
	}
	if r.State != model.ReleasePaused {
		return own, model.Errorf(model.Conflict, "release %s is %s, not paused", r.Version, r.State)
	}
	state := model.ReleaseCanary
	if r.All {
		if other := t.activeBeside(r); other != nil {
			return own, model.Errorf(model.Conflict, "release %s is active, and only one can be: withdraw %s, or that one first", other.Version, r.Version)
		}
		state = model.ReleaseActive
	}
	t.stepRelease(r, state, "", "", c.At)
	return own, nil
}

// withdrawRelease takes a release back. Its sites get the active one, which agents of these
// sites may have tried before: so that one goes to a stage of its own. Where none is active they
// stay noted, and leave it for what each of them ran before. One that was never approved is
// simply gone.
func (t *tx) withdrawRelease(r *model.Release, c *model.SteerRelease) *model.Error {
	if err := t.need(c.By, model.Approver, model.Author, model.Admin); err != nil {
		return err
	}
	switch r.State {
	case model.ReleaseUploading, model.ReleaseReady, model.ReleaseSuperseded:
		t.dropRelease(r)
		return nil
	case model.ReleaseWithdrawn:
		return model.Errorf(model.Conflict, "release %s is %s: no site is to run it", r.Version, r.State)
	case model.ReleaseCanary, model.ReleasePaused, model.ReleaseActive:
	}
	again := t.activeBeside(r)
	if again == nil && r.All {
		again = t.supersededBy(r)
	}
	if again != nil {
		t.stepRelease(again, model.ReleaseActive, "", fmt.Sprintf("again, as %s was withdrawn", r.Version), c.At)
		r.Sites, r.All = nil, false
	}
	t.stepRelease(r, model.ReleaseWithdrawn, c.By, c.Reason, c.At)
	return nil
}

// releaseReport looks at what an agent says of the release that its site is to run, before
// that becomes its status. One that has given up pauses the rollout, however far that has come:
// what harms one site may harm the next, and a person decides that it does not.
func (t *tx) releaseReport(agent *model.Agent, status json.RawMessage, at time.Time) {
	wanted := t.wantedRelease(agent.Site)
	if wanted == nil {
		return
	}
	stage := wanted.Stage()
	now := releaseOf(status)
	if !now.Failing(stage) || releaseOf(agent.Status).Failing(stage) {
		return
	}
	reason := fmt.Sprintf("agent %s has failed: %s: %s", agent.Name, now.State, clip(now.Why, maxReleaseWhy))
	t.stepRelease(wanted, model.ReleasePaused, "", reason, at)
	t.audit(at, "agent:"+agent.Name, "release.pause", wanted.Version, map[string]any{"stage": stage, "reason": reason})
}

// releaseOf reads what a status says of releases; nil if it says nothing.
func releaseOf(status json.RawMessage) *model.AgentRelease {
	var s struct {
		Release *model.AgentRelease `json:"release"`
	}
	if len(status) == 0 || json.Unmarshal(status, &s) != nil { // an agent may say anything
		return nil
	}
	return s.Release
}
