package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/release"
)

// content makes bytes for a file of a release, and names them.
func content(seed string, size int) (data []byte, file model.ReleaseFile) {
	for sum := sha256.Sum256([]byte(seed)); len(data) < size; sum = sha256.Sum256(sum[:]) {
		data = append(data, sum[:]...)
	}
	data = data[:size]
	return data, model.ReleaseFile{SHA256: fmt.Sprintf("%x", sha256.Sum256(data)), Size: int64(size)}
}

func (f *fixture) addition(version string, files ...model.ReleaseFile) *model.AddRelease {
	manifest := []byte("manifest of " + version)
	return &model.AddRelease{Asked: f.by("root"), Version: version, Manifest: manifest, Signature: []byte("signature"), Digest: sha256.Sum256(manifest), Key: "KEY", Files: files}
}

// pieces are the commands that bring a file.
func (f *fixture) pieces(data []byte, file model.ReleaseFile) (list []*model.PutReleasePiece) {
	for at := 0; at < len(data); at += model.ReleasePiece {
		list = append(list, &model.PutReleasePiece{Asked: f.by("root"), SHA256: file.SHA256, Offset: int64(at), Data: data[at:min(at+model.ReleasePiece, len(data))]})
	}
	return list
}

// ready adds a whole release with one small file.
func (f *fixture) ready(version string) {
	f.Helper()
	data, file := content(version, 100)
	f.must(f.addition(version, file))
	f.must(f.pieces(data, file)[0])
}

func (f *fixture) steer(by string, verb model.ReleaseVerb, version string, sites ...string) *model.SteerRelease {
	return &model.SteerRelease{Asked: f.by(by), Version: version, Verb: verb, Digest: sha256.Sum256([]byte("manifest of " + version)), Sites: sites}
}

func (f *fixture) releaseNow(version string) model.Release {
	f.Helper()
	for _, r := range f.Releases() {
		if r.Version == version {
			return r
		}
	}
	return model.Release{}
}

// wants checks which stage of which release each site is to run; empty: none.
func (f *fixture) wants(want map[string]string) {
	f.Helper()
	for site, stage := range want {
		got := f.WantedRelease(site)
		if got.Stage != stage || (stage != "") != (len(got.Manifest) > 0) || !strings.HasPrefix(stage, got.Version) {
			f.Errorf("site %s wants %q, want %q", site, got.Stage, stage)
		}
	}
}

func releaseFixture(t *testing.T) *fixture {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("second", model.Approver)
	f.principal("vera", model.Viewer)
	f.principal("oscar", model.Operator)
	return f
}

func TestReleaseIsUploadedInPieces(t *testing.T) {
	f := releaseFixture(t)
	data, file := content("a", 2*model.ReleasePiece+7)
	other, otherFile := content("b", 10)
	add := f.addition("1.4.0", file, otherFile)
	f.must(add)
	f.must(add) // again
	changed := f.addition("1.4.0", file)
	changed.Manifest = []byte("another")
	changed.Digest = sha256.Sum256(changed.Manifest)
	f.refused(model.Conflict, changed)
	parts := f.pieces(data, file)
	f.refused(model.Conflict, parts[1]) // before the first
	f.must(parts[0])
	f.must(parts[0])
	f.must(parts[1])
	if _, _, ok := f.ReleaseData(file.SHA256, 0, 1); ok {
		t.Error("a file that is not whole is given out")
	}
	f.reopen()
	if r := f.releaseNow("1.4.0"); r.State != model.ReleaseUploading || r.Files[0].Have != 2*model.ReleasePiece || r.Files[1].Have != 0 {
		t.Errorf("%+v", r)
	}
	f.refused(model.Conflict, f.steer("second", model.ReleaseApprove, "1.4.0"))
	f.must(parts[2])
	f.must(f.pieces(other, otherFile)[0])
	if r := f.releaseNow("1.4.0"); r.State != model.ReleaseReady || r.Author != "root" {
		t.Errorf("%+v", r)
	}
	var got []byte
	for {
		part, size, ok := f.ReleaseData(file.SHA256, int64(len(got)), 300_000)
		if !ok || size != file.Size || len(part) > 300_000 {
			t.Fatalf("%d bytes at %d of %d, %t", len(part), len(got), size, ok)
		}
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
	}
	if !bytes.Equal(got, data) {
		t.Error("the file comes out another than it went in")
	}
	f.wants(map[string]string{"eu": ""}) // nobody approved it
}

func TestReleaseRefuses(t *testing.T) {
	f := releaseFixture(t)
	_, file := content("a", 100)
	with := func(change func(*model.AddRelease)) *model.AddRelease {
		c := f.addition("1.4.0", file)
		change(c)
		return c
	}
	for name, c := range map[string]*model.AddRelease{
		"version":   with(func(c *model.AddRelease) { c.Version = "../x" }),
		"digest":    with(func(c *model.AddRelease) { c.Digest[0]++ }),
		"signature": with(func(c *model.AddRelease) { c.Signature = nil }),
		"no files":  with(func(c *model.AddRelease) { c.Files = nil }),
		"twice":     with(func(c *model.AddRelease) { c.Files = append(c.Files, file) }),
		"size": with(func(c *model.AddRelease) {
			c.Files = []model.ReleaseFile{{SHA256: file.SHA256, Size: release.MaxFile + 1}}
		}),
		"hash":       with(func(c *model.AddRelease) { c.Files = []model.ReleaseFile{{SHA256: "x", Size: 1}} }),
		"many files": with(func(c *model.AddRelease) { c.Files = make([]model.ReleaseFile, release.MaxFiles+1) }),
	} {
		if r := f.do(c); r.Err == nil || r.Err.Code != model.Invalid {
			t.Errorf("%s: %v", name, r.Err)
		}
	}
	f.refused(model.Forbidden, with(func(c *model.AddRelease) { c.By = "second" }))
	f.must(f.addition("1.4.0", file))
	piece := func(change func(*model.PutReleasePiece)) *model.PutReleasePiece {
		c := &model.PutReleasePiece{Asked: f.by("root"), SHA256: file.SHA256, Data: make([]byte, 100)}
		change(c)
		return c
	}
	f.refused(model.Forbidden, piece(func(c *model.PutReleasePiece) { c.By = "vera" }))
	f.refused(model.NotFound, piece(func(c *model.PutReleasePiece) { c.SHA256 = strings.Repeat("0", 64) }))
	f.refused(model.Invalid, piece(func(c *model.PutReleasePiece) { c.SHA256 = "x" }))
	f.refused(model.Invalid, piece(func(c *model.PutReleasePiece) { c.Data = c.Data[1:] }))
	f.refused(model.Invalid, piece(func(c *model.PutReleasePiece) { c.Offset = 1 }))
	f.refused(model.Invalid, piece(func(c *model.PutReleasePiece) { c.Offset = -model.ReleasePiece }))
	if err := f.refused(model.Invalid, piece(func(*model.PutReleasePiece) {})); !strings.Contains(err.Text, file.SHA256) { // other bytes
		t.Errorf("it does not name the hash: %v", err)
	}
	if r := f.releaseNow("1.4.0"); r.Files[0].Have != 0 || f.rows(tableReleasePieces) != 0 {
		t.Errorf("what is not of the file stays: %+v", r)
	}
	f.refused(model.NotFound, f.steer("second", model.ReleasePause, "9.9.9"))
	f.refused(model.Invalid, f.steer("second", "explode", "1.4.0"))
}

func TestReleasesKept(t *testing.T) {
	f := releaseFixture(t)
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		f.ready(version)
	}
	f.must(f.steer("second", model.ReleaseApprove, "1.0.0"))
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0")) // 1.0.0 is superseded
	f.ready("1.3.0")                                         // in the place of the one that nobody approved
	kept := func(want ...string) {
		t.Helper()
		var got []string
		for _, r := range f.Releases() {
			got = append(got, r.Version)
		}
		if !slices.Equal(got, want) || f.rows(tableReleaseFiles) != len(want) || f.rows(tableReleasePieces) != len(want) || f.rows(tableReleaseTexts) != len(want) {
			t.Errorf("kept are %v with %d files in %d pieces, want %v", got, f.rows(tableReleaseFiles), f.rows(tableReleasePieces), want)
		}
	}
	kept("1.0.0", "1.1.0", "1.3.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.3.0", "eu"))
	_, file := content("1.4.0", 100)
	f.refused(model.TooLarge, f.addition("1.4.0", file)) // withdraw would go back to 1.0.0
	f.must(f.steer("second", model.ReleasePromote, "1.3.0"))
	f.ready("1.4.0") // in the place of the one that was superseded before
	kept("1.1.0", "1.3.0", "1.4.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.4.0", "eu"))
	_, big := content("big", 1)
	big.Size = release.MaxFile
	_, bigger := content("bigger", 1)
	bigger.Size = release.MaxFile
	err := f.refused(model.TooLarge, f.addition("2.0.0", big, bigger)) // with the two in use that is too much
	if !strings.Contains(err.Text, "512 MB") {
		t.Errorf("it does not name the limit: %v", err)
	}
	kept("1.1.0", "1.3.0", "1.4.0") // a refusal removes nothing
	f.must(f.steer("root", model.ReleaseWithdraw, "1.4.0"))
	f.ready("1.5.0")
	kept("1.1.0", "1.3.0", "1.5.0")
	f.must(f.steer("oscar", model.ReleasePause, "1.3.0"))
	f.ready("1.6.0")
	kept("1.1.0", "1.3.0", "1.6.0")
	f.must(f.steer("second", model.ReleaseResume, "1.3.0"))
	f.must(f.steer("root", model.ReleaseWithdraw, "1.6.0")) // never approved: gone
	f.refused(model.TooLarge, f.addition("2.0.0", big, bigger))
	f.must(f.steer("root", model.ReleaseWithdraw, "1.1.0")) // superseded: gone, to make room
	kept("1.3.0")
}

func TestFileOfTwoReleasesIsKeptOnce(t *testing.T) {
	f := releaseFixture(t)
	data, file := content("a", 100)
	f.must(f.addition("1.0.0", file))
	f.must(f.pieces(data, file)[0])
	f.must(f.addition("1.1.0", file))
	if r := f.releaseNow("1.1.0"); r.State != model.ReleaseReady {
		t.Errorf("all of its files are here, it is %s", r.State)
	}
	f.must(f.steer("root", model.ReleaseWithdraw, "1.0.0"))
	if _, _, ok := f.ReleaseData(file.SHA256, 0, 1); !ok {
		t.Error("the file went with the other release")
	}
}

func TestRollout(t *testing.T) {
	f := releaseFixture(t)
	f.ready("1.0.0")
	f.ready("1.1.0")
	wrong := f.steer("second", model.ReleaseApprove, "1.0.0")
	wrong.Digest[0]++
	f.refused(model.Conflict, wrong)
	f.refused(model.Forbidden, f.steer("root", model.ReleaseApprove, "1.0.0")) // who added it
	f.refused(model.Forbidden, f.steer("oscar", model.ReleaseApprove, "1.0.0"))
	f.refused(model.Conflict, f.steer("second", model.ReleasePromote, "1.0.0"))
	f.must(f.steer("second", model.ReleaseApprove, "1.0.0"))
	f.wants(map[string]string{"eu": "1.0.0/1.1", "na": "1.0.0/1.1"})

	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu"))
	f.wants(map[string]string{"eu": "1.1.0/1.1", "na": "1.0.0/1.1"})
	f.ready("1.2.0")
	f.refused(model.Conflict, f.steer("second", model.ReleaseApprove, "1.2.0")) // one at a time
	f.refused(model.Forbidden, f.steer("root", model.ReleasePromote, "1.1.0"))
	f.refused(model.Conflict, f.steer("second", model.ReleasePromote, "1.1.0", "eu")) // it has it
	f.must(f.steer("second", model.ReleasePromote, "1.1.0", "na", "eu"))
	f.wants(map[string]string{"eu": "1.1.0/1.2", "na": "1.1.0/1.2", "jp": "1.0.0/1.1"})
	f.refused(model.Forbidden, f.steer("vera", model.ReleasePause, "1.1.0"))
	f.must(f.steer("oscar", model.ReleasePause, "1.1.0"))
	f.refused(model.Conflict, f.steer("oscar", model.ReleasePause, "1.1.0"))
	f.refused(model.Conflict, f.steer("second", model.ReleasePromote, "1.1.0"))
	f.wants(map[string]string{"eu": "", "na": "", "jp": "1.0.0/1.1"})
	f.refused(model.Forbidden, f.steer("oscar", model.ReleaseResume, "1.1.0"))
	f.must(f.steer("second", model.ReleaseResume, "1.1.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.4", "na": "1.1.0/1.4"})
	f.must(f.steer("second", model.ReleasePromote, "1.1.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.5", "jp": "1.1.0/1.5"})
	if r := f.releaseNow("1.0.0"); r.State != model.ReleaseSuperseded {
		t.Errorf("the one before is %s", r.State)
	}

	f.refused(model.Forbidden, f.steer("oscar", model.ReleaseWithdraw, "1.1.0"))
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.wants(map[string]string{"eu": "1.0.0/1.2", "jp": "1.0.0/1.2"}) // a stage that no agent has tried
	f.refused(model.Conflict, f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "jp")) // once more
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.wants(map[string]string{"jp": "1.0.0/1.3"})
	if err := f.VerifyAudit(); err != nil {
		t.Error(err)
	}
	last := f.Audit(0, 1000)
	if e := last[len(last)-1]; e.Action != "release.withdraw" || e.By != "second" || e.Object != "1.1.0" {
		t.Errorf("%+v", e)
	}
}

// TestWhatIsToBeDoneFirstCanBeDone: a refusal names verbs that the release takes as it is.
func TestWhatIsToBeDoneFirstCanBeDone(t *testing.T) {
	f := releaseFixture(t)
	f.ready("1.1.0")
	f.ready("1.2.0")
	says := func(want string, verb model.ReleaseVerb, version string) {
		t.Helper()
		if err := f.refused(model.Conflict, f.steer("second", verb, version)); !strings.Contains(err.Text, want) {
			t.Errorf("%s of %s is refused with %q, want %q", verb, version, err.Text, want)
		}
	}
	says("release 1.1.0 is ready, wanted at no site: approve it first", model.ReleasePromote, "1.1.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu"))
	atSome := "release 1.1.0 is canary, wanted at some of the sites: promote or withdraw it first"
	says(atSome, model.ReleaseApprove, "1.1.0")
	says(atSome, model.ReleaseApprove, "1.2.0")
	f.must(f.steer("oscar", model.ReleasePause, "1.1.0"))
	paused := "release 1.1.0 is paused: resume or withdraw it first"
	says(paused, model.ReleaseApprove, "1.1.0")
	says(paused, model.ReleaseApprove, "1.2.0")
	says(paused, model.ReleasePromote, "1.1.0")
	f.must(f.steer("second", model.ReleaseResume, "1.1.0"))
	f.must(f.steer("second", model.ReleasePromote, "1.1.0"))
	says("wanted at every site already", model.ReleaseApprove, "1.1.0")
	says("wanted at every site already", model.ReleasePromote, "1.1.0")
}

// leaves checks which releases a site is to leave for what ran before, and in which stage.
func (f *fixture) leaves(site, stage string, versions ...string) {
	f.Helper()
	got := f.WantedRelease(site)
	version, heard := f.WantedStage(site)
	if got.Version != "" || version != "" || got.Stage != stage || heard != stage || len(got.Manifest) > 0 || !slices.Equal(got.Withdrawn, versions) {
		f.Errorf("site %s: %+v, heard of as %q of %q; it is to leave %q in stage %q", site, got, heard, version, versions, stage)
	}
}

// TestWithdrawnWithoutAnother: where no release is active, the sites of one that is taken back
// are told to leave it, and no others; another that is wanted there says more.
func TestWithdrawnWithoutAnother(t *testing.T) {
	f := releaseFixture(t)
	f.ready("1.1.0")
	f.ready("1.2.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu", "na"))
	f.leaves("jp", "")
	f.must(f.steer("oscar", model.ReleasePause, "1.1.0"))
	f.leaves("eu", "") // a pause takes nothing back
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.leaves("eu", "1.1.0/1.3", "1.1.0")
	f.leaves("na", "1.1.0/1.3", "1.1.0")
	f.leaves("jp", "")
	if r := f.releaseNow("1.1.0"); !slices.Equal(r.Sites, []string{"eu", "na"}) || r.Left("jp") || !r.Left("na") {
		t.Errorf("it is not seen which sites go back: %+v", r)
	}

	f.must(f.steer("second", model.ReleaseApprove, "1.2.0", "eu"))
	f.wants(map[string]string{"eu": "1.2.0/1.1"})
	f.leaves("na", "1.1.0/1.3", "1.1.0")
	f.must(f.steer("second", model.ReleaseWithdraw, "1.2.0"))
	f.leaves("eu", "1.2.0/1.2", "1.1.0", "1.2.0") // a site that was away for all of this may run either
	f.leaves("na", "1.1.0/1.3", "1.1.0")

	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu")) // once more
	f.wants(map[string]string{"eu": "1.1.0/1.4"})
	f.leaves("na", "")
	f.must(f.steer("second", model.ReleasePromote, "1.1.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.5", "jp": "1.1.0/1.5"})
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0")) // no other was active before it
	f.leaves("jp", "1.1.0/1.6", "1.1.0")
	f.leaves("eu", "1.1.0/1.6", "1.1.0", "1.2.0")
}

// TestPauseOfTheActiveReleaseHoldsNoOther: a rollout goes on while what was active is paused,
// and takes its place for good.
func TestPauseOfTheActiveReleaseHoldsNoOther(t *testing.T) {
	f := releaseFixture(t)
	f.ready("1.0.0")
	f.ready("1.1.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.0.0"))
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu"))
	f.must(f.steer("oscar", model.ReleasePause, "1.0.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.1", "na": ""})
	f.must(f.steer("second", model.ReleaseResume, "1.0.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.1", "na": "1.0.0/1.3"})
	f.must(f.steer("oscar", model.ReleasePause, "1.0.0"))
	f.must(f.steer("oscar", model.ReleasePause, "1.1.0"))
	f.wants(map[string]string{"eu": "", "na": ""})
	f.must(f.steer("second", model.ReleaseResume, "1.1.0"))
	f.must(f.steer("second", model.ReleasePromote, "1.1.0"))
	f.wants(map[string]string{"eu": "1.1.0/1.4", "na": "1.1.0/1.4"})
	if r := f.releaseNow("1.0.0"); r.State != model.ReleaseSuperseded {
		t.Errorf("the one before is %s", r.State)
	}
	f.refused(model.Conflict, f.steer("second", model.ReleaseResume, "1.0.0"))
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.wants(map[string]string{"eu": "1.0.0/1.5", "na": "1.0.0/1.5"})
}

// TestOneReleaseIsActive: of two that every site is to run, the paused one is not resumed, and
// taking it back leaves the other.
func TestOneReleaseIsActive(t *testing.T) {
	f := releaseFixture(t)
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		f.ready(version)
		f.must(f.steer("second", model.ReleaseApprove, version))
	}
	beside := f.releaseNow("1.1.0")
	beside.State = model.ReleasePaused
	err := f.db.Update(func(b *bolt.Tx) error {
		put(&tx{view: view{b}}, tableReleases, releaseKey(beside.Version), &beside)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.refused(model.Conflict, f.steer("second", model.ReleaseResume, "1.1.0")); !strings.Contains(err.Text, "1.2.0") {
		t.Errorf("it does not name the other: %v", err)
	}
	f.must(f.steer("second", model.ReleaseWithdraw, "1.1.0"))
	f.wants(map[string]string{"eu": "1.2.0/1.2"})
	for version, want := range map[string]model.ReleaseState{"1.0.0": model.ReleaseSuperseded, "1.1.0": model.ReleaseWithdrawn, "1.2.0": model.ReleaseActive} {
		if r := f.releaseNow(version); r.State != want {
			t.Errorf("%s is %s, want %s", version, r.State, want)
		}
	}
}

// tells has an agent report on the release that it was told of.
func (f *fixture) tells(agent, stage, state, why string) {
	f.Helper()
	text, err := json.Marshal(model.AgentStatus{Version: "1.0.0", Release: &model.AgentRelease{Running: "1.0.0", Stage: stage, State: state, Why: why}})
	if err != nil {
		f.Fatal(err)
	}
	f.must(&model.Ack{At: f.now, Agent: agent, Status: text})
}

func TestRolloutPausesByItself(t *testing.T) {
	f := releaseFixture(t)
	f.join("eu", "na", "jp", "br", "uk")
	f.ready("1.1.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu", "na"))
	f.tells("na", "1.1.0/1.1", "trial", "")
	f.tells("eu", "1.1.0/1.1", model.AgentReleaseNewer, "1.2.0 runs here") // neither speaks against it
	f.tells("na", "1.1.0/1.1", model.AgentReleaseOff, "upgrades.enabled is false")
	f.tells("jp", "1.1.0/1.1", model.AgentReleaseFailed, "not of this stage")
	f.tells("eu", "1.0.0/1.7", model.AgentReleaseFailed, "of another stage")
	f.must(&model.Ack{At: f.now, Agent: "eu", Status: json.RawMessage(`{"release":7}`)})
	f.wants(map[string]string{"na": "1.1.0/1.1"})
	f.tells("eu", "1.1.0/1.1", model.AgentReleaseRolledBack, "no round trip in 5m")
	r := f.releaseNow("1.1.0")
	if r.State != model.ReleasePaused || r.By != "" || !strings.Contains(r.Reason, "no round trip") || !strings.Contains(r.Reason, "eu") {
		t.Errorf("%+v", r)
	}
	f.wants(map[string]string{"eu": "", "na": ""})
	f.must(f.steer("second", model.ReleaseResume, "1.1.0"))
	f.tells("eu", "1.1.0/1.1", model.AgentReleaseRolledBack, "old news")
	f.wants(map[string]string{"eu": "1.1.0/1.3"})
	f.must(f.steer("second", model.ReleasePromote, "1.1.0"))
	f.tells("uk", "1.1.0/1.4", "trial", "")
	f.wants(map[string]string{"jp": "1.1.0/1.4"})
	f.tells("jp", "1.1.0/1.4", model.AgentReleaseFailed, "disk full") // no canary site
	f.wants(map[string]string{"uk": ""})
	f.must(f.steer("second", model.ReleaseResume, "1.1.0"))
	f.tells("jp", "1.1.0/1.4", model.AgentReleaseFailed, "disk full, still") // of the stage before the pause
	f.wants(map[string]string{"uk": "1.1.0/1.6"})
}

// TestAnyFailurePausesARollout: at every stage one agent that gives a release up is enough, also
// where the canary sites have none that could have failed. What others say was not asked of them.
func TestAnyFailurePausesARollout(t *testing.T) {
	canary, further, all := []string{"nowhere"}, []string{"na", "jp"}, []string(nil)
	for _, c := range []struct {
		name, agent, stage string
		first              []string
		stages             [][]string
		paused             bool
	}{
		{"canary", "eu", "1.1.0/1.1", []string{"eu"}, nil, true},
		{"further sites", "jp", "1.1.0/1.2", canary, [][]string{further}, true},
		{"further once more", "na", "1.1.0/1.3", canary, [][]string{further, {"uk"}}, true},
		{"all", "uk", "1.1.0/1.2", canary, [][]string{all}, true},
		{"all at once", "uk", "1.1.0/1.1", nil, nil, true},
		{"not of the stage", "uk", "1.1.0/1.2", canary, [][]string{further}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := releaseFixture(t)
			f.join("eu", "na", "jp", "br", "uk")
			f.ready("1.1.0")
			f.must(f.steer("second", model.ReleaseApprove, "1.1.0", c.first...))
			for _, sites := range c.stages {
				f.must(f.steer("second", model.ReleasePromote, "1.1.0", sites...))
			}
			f.tells(c.agent, c.stage, model.AgentReleaseRolledBack, "no round trip")
			r := f.releaseNow("1.1.0")
			if (r.State == model.ReleasePaused) != c.paused {
				t.Errorf("it is %s", r.State)
			}
			if c.paused && r.Reason != "agent "+c.agent+" has failed: rolled-back: no round trip" {
				t.Errorf("the reason is %q", r.Reason)
			}
		})
	}
}

// TestReleasesAreReplicated: the same log gives the same rows, and a snapshot carries them.
func TestReleasesAreReplicated(t *testing.T) {
	f := releaseFixture(t)
	f.join("eu", "na")
	data, file := content("a", model.ReleasePiece+9)
	f.must(f.addition("1.4.0", file))
	for _, p := range f.pieces(data, file) {
		f.must(p)
	}
	f.must(f.steer("second", model.ReleaseApprove, "1.4.0", "eu", "na"))
	f.tells("na", "1.4.0/1.1", model.AgentReleaseFailed, "x")
	f.ready("1.5.0")
	again := openMachine(t)
	if _, err := again.Apply(f.log); err != nil {
		t.Fatal(err)
	}
	if f.dump() != again.dump() {
		t.Error("the same log gave other rows")
	}
	snapshot, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snapshot.Release()
	var text bytes.Buffer
	if _, err := snapshot.WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	third := openMachine(t)
	if err := third.Restore(&text); err != nil {
		t.Fatal(err)
	}
	if part, _, ok := third.ReleaseData(file.SHA256, model.ReleasePiece, 100); !ok || !bytes.Equal(part, data[model.ReleasePiece:]) {
		t.Error("the file is not in the snapshot")
	}
	if third.dump() != f.dump() {
		t.Error("the snapshot has other rows")
	}
}

// TestStagesAfterARestoreAreNew: what agents tried in a life that was lost does not stand in
// the way of what is wanted in this one.
func TestStagesAfterARestoreAreNew(t *testing.T) {
	f := releaseFixture(t)
	f.ready("1.1.0")
	f.must(f.steer("second", model.ReleaseApprove, "1.1.0", "eu"))
	f.rebuild("later")
	f.wants(map[string]string{"eu": "1.1.0/1.1"})
	f.must(f.steer("second", model.ReleasePromote, "1.1.0", "na"))
	f.wants(map[string]string{"eu": "1.1.0/2.2"})
}
