package model

import (
	"slices"
	"strconv"
	"time"
)

// Limits on releases.
const (
	MaxReleases     = 3         // kept at a time
	MaxReleaseBytes = 512 << 20 // of the files of all that are kept
	ReleasePiece    = 512 << 10 // bytes of every piece of a file but its last
)

// ReleaseState is the life of a release.
type ReleaseState string

// The states of a release.
const (
	ReleaseUploading  ReleaseState = "uploading"  // files are missing
	ReleaseReady      ReleaseState = "ready"      // all is here; it waits for approval
	ReleaseCanary     ReleaseState = "canary"     // wanted at some sites only
	ReleasePaused     ReleaseState = "paused"     // what has not begun does not begin
	ReleaseActive     ReleaseState = "active"     // wanted at every site
	ReleaseSuperseded ReleaseState = "superseded" // it was, until another came
	ReleaseWithdrawn  ReleaseState = "withdrawn"  // taken back from its sites
)

// Release is a version of the agent's program, and how far its rollout has come. Manifest
// and signature are kept apart, and the files too.
type Release struct {
	Version  string
	Digest   [32]byte // of the manifest
	Key      string   // that signed it, as it says itself
	Files    []ReleaseFile
	State    ReleaseState
	Author   string
	Added    time.Time
	Approver string
	Approved time.Time
	Sites    []string  // that are to run it, until all are; once it is withdrawn and no other is wanted: that are to leave it
	First    []string  // its canary sites
	All      bool      // every site is to run it; once it is withdrawn: to leave it
	Step     uint64    // counts what was done to the rollout
	Life     uint64    // generation of the cluster in which the last step was
	Stepped  time.Time // when
	By       string    // who paused or took it back; empty: it paused by itself
	Reason   string
	Before   string // version that was active when this one became so
}

// ReleaseFile is the content of one or more programs of a release.
type ReleaseFile struct {
	SHA256 string
	Size   int64
	Have   int64 // bytes that are here; filled in when it is read
}

// Stage names the step of a rollout. An agent tries a release once in each.
// After a restore of the control plane no stage is one that agents know from the life that was lost.
func (r *Release) Stage() string {
	return r.Version + "/" + strconv.FormatUint(r.Life, 10) + "." + strconv.FormatUint(r.Step, 10)
}

// Left says that a site is to leave the release: it was taken back from there without another
// in its place.
func (r *Release) Left(site string) bool {
	return r.State == ReleaseWithdrawn && (r.All || slices.Contains(r.Sites, site))
}

// WantedRelease is what a site is to run. It is zero where nothing is wanted, and has no
// version but those withdrawn and a stage where the site is to leave them for what ran before.
type WantedRelease struct {
	Version   string
	Withdrawn []string
	Stage     string
	Manifest  []byte
	Signature []byte
}

// AgentRelease is what an agent says of releases in its status.
type AgentRelease struct {
	Running string    `json:"running"`
	Wanted  string    `json:"wanted,omitempty"`
	Stage   string    `json:"stage,omitempty"`
	State   string    `json:"state"`
	Why     string    `json:"why,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// The states in which an agent has not come to what is wanted, and will not by itself.
const (
	AgentReleaseFailed     = "failed"      // not begun
	AgentReleaseRolledBack = "rolled-back" // tried, and gone back
	AgentReleaseNewer      = "newer"       // it runs a newer version, and keeps it
	AgentReleaseOff        = "off"         // upgrades are switched off at the site
)

// Failing says that the agent has given up on the release of a stage. One that somebody has
// put on a newer version, or has switched upgrades off at, says nothing against the release.
func (a *AgentRelease) Failing(stage string) bool {
	return a != nil && a.Stage == stage && (a.State == AgentReleaseFailed || a.State == AgentReleaseRolledBack)
}

// AddRelease begins a release: its files come after it, piece by piece. A repeat changes nothing.
type AddRelease struct {
	Asked
	Version   string
	Manifest  []byte
	Signature []byte
	Digest    [32]byte
	Key       string
	Files     []ReleaseFile // each content once
}

// PutReleasePiece brings the next piece of a file. A repeat changes nothing. The last piece
// is refused, and the file begins anew, if all together is not what the manifest says.
type PutReleasePiece struct {
	Asked
	SHA256 string
	Offset int64
	Data   []byte
}

// ReleaseVerb is something that a person does to a rollout.
type ReleaseVerb string

// The verbs.
const (
	ReleaseApprove  ReleaseVerb = "approve"
	ReleasePromote  ReleaseVerb = "promote"
	ReleasePause    ReleaseVerb = "pause"
	ReleaseResume   ReleaseVerb = "resume"
	ReleaseWithdraw ReleaseVerb = "withdraw"
)

// SteerRelease moves a rollout on, holds it, or takes it back.
type SteerRelease struct {
	Asked
	Version string
	Verb    ReleaseVerb
	Digest  [32]byte // of the manifest that was looked at; to approve
	Sites   []string // to approve or promote: these and no others yet; empty: every site
	Reason  string
}

func (*AddRelease) command()      {}
func (*PutReleasePiece) command() {}
func (*SteerRelease) command()    {}
