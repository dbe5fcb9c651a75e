package gateway_test

import (
	"encoding/json"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/sealing"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// announce has an agent say to which key its secrets are to be sealed.
func (a *agent) announce() {
	a.t.Helper()
	text, err := json.Marshal(model.AgentStatus{Sealing: sealing.Announcement{Recipient: "key-" + a.id.Agent}})
	if err != nil {
		a.t.Fatal(err)
	}
	if err := a.ack(&syncpb.AckRequest{Status: text}); err != nil {
		a.t.Fatal(err)
	}
}

func (n *node) secret(agent, name string, version uint64, text string, until time.Time) {
	n.t.Helper()
	n.must(&model.SetSecret{Asked: asked("root"), Agent: agent, Name: name, Version: version, Recipient: "key-" + agent, Sealed: []byte(text),
		KeepFormer: true, FormerUntil: until})
}

func (p *pulling) secret(name string, version uint64, text string) *syncpb.SealedSecret {
	p.t.Helper()
	m := p.next()
	if s := m.GetSecret(); s.GetName() != name || s.GetVersion() != version || string(s.GetSealed()) != text {
		p.t.Fatalf("got %v, want version %d of %s (%v)", m, version, name, p.Err())
	}
	return m.GetSecret()
}

func TestSecretsGoToTheirAgentOnly(t *testing.T) {
	n := newNode(t)
	berlin, paris := n.join("berlin"), n.join("paris")
	berlin.announce()
	paris.announce()
	n.secret("berlin", "erp/token", 1, "one", time.Time{})
	n.secret("berlin", "shop/token", 3, "three", time.Time{})
	n.activate("policy", "berlin", "paris")

	stream := berlin.pull(&syncpb.PullRequest{Secrets: []*syncpb.SecretMark{{Name: "shop/token", Version: 3}, {Name: "gone/token", Version: 9}}})
	stream.secret("erp/token", 1, "one") // what it holds does not come, and the secret is there before a policy that needs it
	if stream.next().GetPolicy() == nil {
		t.Errorf("got %v", stream.Msg())
	}
	other := paris.pull(&syncpb.PullRequest{})
	if m := other.next(); m.GetPolicy() == nil {
		t.Fatalf("another agent got %v", m)
	}
	until := time.UnixMilli(1_800_000_000_000)
	n.secret("berlin", "erp/token", 2, "two", until)
	if s := stream.secret("erp/token", 2, "two"); string(s.Former) != "one" || s.FormerUntilUnixMs != until.UnixMilli() {
		t.Errorf("got %v", s)
	}
	n.must(&model.DropSecret{Asked: asked("root"), Agent: "berlin", Name: "erp/token"})
	stream.secret("erp/token", 3, "")
	n.activate("newer", "berlin", "paris")
	if m := other.next(); string(m.GetPolicy().GetBundle()) != "newer" {
		t.Errorf("another agent got %v", m)
	}

	// One that holds newer ones, as this state is of an older backup, keeps them.
	ahead := berlin.pull(&syncpb.PullRequest{Secrets: []*syncpb.SecretMark{{Name: "shop/token", Version: 8}, {Name: "erp/token", Version: 8}}})
	if m := ahead.next(); m.GetPolicy() == nil {
		t.Errorf("got %v", m)
	}
	n.must(&model.Revoke{Asked: asked("root"), Agent: "berlin"})
	for m := ahead.next(); m != nil; m = ahead.next() {
		t.Errorf("a revoked agent got %v", m)
	}
	says(t, ahead.Err(), connect.CodePermissionDenied, "revoked")
	again := berlin.pull(&syncpb.PullRequest{})
	if m := again.next(); m != nil {
		t.Errorf("a revoked agent got %v", m)
	}
}

// A stream that begins when its agent was just revoked, or enrolled anew with another key,
// gives nothing away.
func TestSecretsAfterANewEnrolment(t *testing.T) {
	n := newNode(t)
	former := n.join("berlin")
	former.announce()
	n.secret("berlin", "erp/token", 1, "one", time.Time{})
	stream := former.pull(&syncpb.PullRequest{})
	stream.secret("erp/token", 1, "one")
	next := n.join("berlin")
	next.announce()
	n.secret("berlin", "erp/token", 2, "two", time.Time{})
	for m := stream.next(); m != nil; m = stream.next() {
		t.Errorf("the former agent got %v", m)
	}
	next.pull(&syncpb.PullRequest{}).secret("erp/token", 2, "two")
	tooMany := make([]*syncpb.SecretMark, 1001)
	for i := range tooMany {
		tooMany[i] = &syncpb.SecretMark{Name: "x"}
	}
	refused := next.pull(&syncpb.PullRequest{Secrets: tooMany})
	if refused.next() != nil {
		t.Error("taken")
	}
	says(t, refused.Err(), connect.CodeInvalidArgument, "the limit is")
}
