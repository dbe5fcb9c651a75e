package gateway_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// release adds a release with one file, and makes it wanted at sites.
func (n *node) release(version string, data []byte, sites ...string) (sha string) {
	n.t.Helper()
	sha = fmt.Sprintf("%x", sha256.Sum256(data))
	manifest := []byte("manifest of " + version)
	n.must(&model.AddRelease{Asked: asked("root"), Version: version, Manifest: manifest, Signature: []byte("signature"),
		Digest: sha256.Sum256(manifest), Files: []model.ReleaseFile{{SHA256: sha, Size: int64(len(data))}}})
	for at := 0; at < len(data); at += model.ReleasePiece {
		n.must(&model.PutReleasePiece{Asked: asked("root"), SHA256: sha, Offset: int64(at), Data: data[at:min(len(data), at+model.ReleasePiece)]})
	}
	n.steer(model.ReleaseApprove, version, sites...)
	return sha
}

func (n *node) steer(verb model.ReleaseVerb, version string, sites ...string) {
	n.t.Helper()
	n.must(&model.SteerRelease{Asked: asked("root"), Version: version, Verb: verb, Sites: sites, Digest: sha256.Sum256([]byte("manifest of " + version))})
}

func (p *pulling) wanted(stage, version string) {
	p.t.Helper()
	m := p.next()
	if w := m.GetWanted(); w == nil || w.GetStage() != stage || w.GetVersion() != version {
		p.t.Fatalf("got %v, want stage %q (%v)", m, stage, p.Err())
	} else if version != "" && (string(w.GetManifest()) != "manifest of "+version || string(w.GetSignature()) != "signature") {
		p.t.Errorf("it came with %v", w)
	}
}

// TestWantedReleaseIsSent: each site hears what it is to run when that changes, and an agent
// that has heard of it does not hear it again.
func TestWantedReleaseIsSent(t *testing.T) {
	n := newNode(t)
	berlin, paris := n.join("berlin"), n.join("paris")
	berlin.hello()
	paris.hello()
	n.release("1.0.0", []byte("one"))
	at := berlin.pull(&syncpb.PullRequest{})
	at.wanted("1.0.0/1.1", "1.0.0")
	other := paris.pull(&syncpb.PullRequest{Stage: "1.0.0/1.1"})
	n.release("1.1.0", []byte("two"), "berlin")
	at.wanted("1.1.0/1.1", "1.1.0")
	n.steer(model.ReleasePause, "1.1.0")
	at.wanted("", "")
	n.steer(model.ReleaseResume, "1.1.0")
	at.wanted("1.1.0/1.3", "1.1.0")
	n.steer(model.ReleasePromote, "1.1.0")
	at.wanted("1.1.0/1.4", "1.1.0")
	other.wanted("1.1.0/1.4", "1.1.0") // the first that it hears: the canary was not for it
	n.steer(model.ReleaseWithdraw, "1.1.0")
	at.wanted("1.0.0/1.2", "1.0.0")
	again := berlin.pull(&syncpb.PullRequest{Stage: "9.9.9/1.1"}) // of a control plane that was restored
	again.wanted("1.0.0/1.2", "1.0.0")
}

// TestWithdrawnReleaseIsSent: without another in its place its sites hear that it is to go, once.
func TestWithdrawnReleaseIsSent(t *testing.T) {
	n := newNode(t)
	berlin := n.join("berlin")
	berlin.hello()
	n.release("1.1.0", []byte("two"), "berlin")
	at := berlin.pull(&syncpb.PullRequest{})
	at.wanted("1.1.0/1.1", "1.1.0")
	n.steer(model.ReleaseWithdraw, "1.1.0")
	m := at.next().GetWanted()
	if m.GetStage() != "1.1.0/1.2" || m.GetVersion() != "" || !slices.Equal(m.GetWithdrawn(), []string{"1.1.0"}) {
		t.Errorf("%v", m)
	}
	again := berlin.pull(&syncpb.PullRequest{Stage: "1.1.0/1.2"})
	n.activate("policy", "berlin")
	if m := again.next(); m.GetPolicy() == nil { // it is not said twice
		t.Errorf("got %v", m)
	}
}

func TestNothingIsWanted(t *testing.T) {
	n := newNode(t)
	berlin := n.join("berlin")
	berlin.hello()
	at := berlin.pull(&syncpb.PullRequest{Stage: "1.0.0/1.1"}) // a former one
	at.wanted("", "")
	n.activate("policy", "berlin")
	if m := at.next(); m.GetPolicy() == nil { // nothing is said twice
		t.Errorf("got %v", m)
	}
}

func TestFetchRelease(t *testing.T) {
	n := newNode(t)
	berlin := n.join("berlin")
	data := bytes.Repeat([]byte("0123456789abcde"), 100_000)
	sha := n.release("1.0.0", data)
	fetch := func(request *syncpb.FetchReleaseRequest) (*syncpb.FetchReleaseResponse, error) {
		answer, err := berlin.Client.FetchRelease(t.Context(), connect.NewRequest(request))
		if err != nil {
			return nil, err
		}
		return answer.Msg, nil
	}
	var got []byte
	for {
		answer, err := fetch(&syncpb.FetchReleaseRequest{Sha256: sha, Offset: uint64(len(got)), Max: 400_000})
		if err != nil || answer.Size != uint64(len(data)) || len(answer.Data) > 400_000 {
			t.Fatalf("%d bytes of %d, %v", len(answer.GetData()), answer.GetSize(), err)
		}
		if len(answer.Data) == 0 {
			break
		}
		got = append(got, answer.Data...)
	}
	if !bytes.Equal(got, data) {
		t.Error("the file came out another")
	}
	if answer, err := fetch(&syncpb.FetchReleaseRequest{Sha256: sha, Max: 1 << 31}); err != nil || len(answer.Data) == 0 || len(answer.Data) > 1<<20 {
		t.Errorf("%d bytes, %v", len(answer.GetData()), err)
	}
	_, err := fetch(&syncpb.FetchReleaseRequest{Sha256: sha})
	says(t, err, connect.CodeInvalidArgument, "no bytes")
	_, err = fetch(&syncpb.FetchReleaseRequest{Sha256: sha, Offset: uint64(len(data)) + 1, Max: 1})
	says(t, err, connect.CodeInvalidArgument, "none at")
	_, err = fetch(&syncpb.FetchReleaseRequest{Sha256: sha, Offset: 1 << 63, Max: 1})
	says(t, err, connect.CodeNotFound, sha)
	_, err = fetch(&syncpb.FetchReleaseRequest{Sha256: "../x", Max: 1})
	says(t, err, connect.CodeNotFound, "../x")
	_, err = n.anonymous().Client.FetchRelease(t.Context(), connect.NewRequest(&syncpb.FetchReleaseRequest{Sha256: sha, Max: 1}))
	says(t, err, connect.CodeUnauthenticated, "enrol")
	n.must(&model.Revoke{Asked: asked("root"), Agent: "berlin"})
	_, err = fetch(&syncpb.FetchReleaseRequest{Sha256: sha, Max: 1})
	says(t, err, connect.CodePermissionDenied, "revoked")
}
