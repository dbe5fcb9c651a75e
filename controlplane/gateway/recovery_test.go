package gateway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// opening is a hello that opens a session.
func opening(epoch, session uint64, nonce byte) *syncpb.HelloRequest {
	return &syncpb.HelloRequest{Protocol: 1, Epoch: epoch, Session: session, Nonce: make16(nonce)}
}

func make16(b byte) []byte { return append(make([]byte, 15), b) }

func (a *agent) open(m *syncpb.HelloRequest) (*syncpb.HelloResponse, error) {
	answer, err := a.Client.Hello(a.t.Context(), connect.NewRequest(m))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

func (a *agent) mustOpen(m *syncpb.HelloRequest) *syncpb.HelloResponse {
	a.t.Helper()
	answer, err := a.open(m)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer
}

// of marks a call as one of a session.
func of[T any](m *syncpb.HelloRequest, message *T) *connect.Request[T] {
	r := connect.NewRequest(message)
	r.Header().Set(transport.SessionHeader, transport.Mark{Epoch: m.Epoch, Number: m.Session, Nonce: [16]byte(m.Nonce)}.String())
	return r
}

func (n *node) exceptions(kind string) (texts []string) {
	for _, e := range n.store.Exceptions(100) {
		if e.Kind == kind {
			texts = append(texts, e.Text)
		}
	}
	return texts
}

// A copy that opens a session under a number that was used gets a new epoch, and the one
// it was copied from is fenced: whatever that has open ends, and people are told of both.
func TestCloneIsFenced(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	a := n.join("berlin")
	one := opening(1, 6, 1)
	if answer := a.mustOpen(one); answer.Stale || answer.Epoch != 1 || answer.Nodes[0] != "n1:7400" {
		t.Fatalf("first: %v", answer)
	}
	if answer := a.mustOpen(one); answer.Stale {
		t.Errorf("the same session on another path is stale: %v", answer)
	}
	ctx := t.Context()
	stream, err := a.Client.Pull(ctx, of(one, &syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	open := &pulling{stream, t}
	open.next() // policy

	two := opening(1, 6, 2)
	if answer := a.mustOpen(two); !answer.Stale || answer.Epoch != 1 {
		t.Fatalf("second copy: %v", answer)
	}
	if answer := a.mustOpen(opening(1, 5, 2)); !answer.Stale {
		t.Errorf("older number: %v", answer)
	}
	asking := opening(1, 0, 9)
	asking.NewEpoch, asking.Why = true, "a test"
	for range 2 { // the answer may be lost
		if answer := a.mustOpen(asking); answer.Epoch != 2 || answer.Stale {
			t.Fatalf("new epoch: %v", answer)
		}
	}
	if answer := a.mustOpen(opening(2, 7, 2)); answer.Stale || answer.Epoch != 2 {
		t.Fatalf("first session of the new epoch: %v", answer)
	}
	if open.next() != nil {
		t.Error("the fenced copy's stream goes on")
	}
	says(t, open.Err(), connect.CodePermissionDenied, "fenced")
	_, err = a.Client.Push(ctx, of(one, &syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "paris", 1, 1)}}))
	says(t, err, connect.CodePermissionDenied, "fenced")
	_, err = a.Client.Ack(ctx, of(one, &syncpb.AckRequest{Status: []byte("{}")}))
	says(t, err, connect.CodePermissionDenied, "fenced")
	if answer := a.mustOpen(opening(1, 8, 1)); answer.Epoch != 2 || answer.Stale {
		t.Errorf("fenced copy's hello: %v", answer)
	}
	again := opening(1, 0, 8)
	again.NewEpoch = true
	_, err = a.open(again)
	says(t, err, connect.CodePermissionDenied, "fenced")
	if len(n.exceptions("fenced")) != 1 || len(n.exceptions("old-copy")) != 1 {
		t.Errorf("exceptions: %v and %v", n.exceptions("fenced"), n.exceptions("old-copy"))
	}

	n.must(&model.AllowAgent{Asked: asked("root"), Agent: "berlin"})
	if answer := a.mustOpen(opening(1, 9, 1)); !answer.Stale {
		t.Errorf("allowed copy: %v", answer)
	}
	if answer := a.mustOpen(again); answer.Epoch != 3 {
		t.Errorf("allowed copy's new epoch: %v", answer)
	}
}

// Two copies with fair numbers do not speak beside each other: the newest session counts.
func TestOnlyTheNewestSessionSpeaks(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	a := n.join("berlin")
	one, two := opening(1, 1, 1), opening(1, 2, 2)
	a.mustOpen(one)
	stream, err := a.Client.Pull(t.Context(), of(one, &syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	open := &pulling{stream, t}
	open.next()
	a.mustOpen(two)
	push := &syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "paris", 1, 1)}}
	_, err = a.Client.Push(t.Context(), of(one, push))
	says(t, err, connect.CodeAborted, "session 1 of agent berlin is over")
	_, err = a.Client.Ack(t.Context(), of(one, &syncpb.AckRequest{}))
	says(t, err, connect.CodeAborted, "is over")
	if open.next() != nil {
		t.Error("the older session's stream goes on")
	}
	says(t, open.Err(), connect.CodeAborted, "is over")
	if _, err := a.Client.Push(t.Context(), of(two, push)); err != nil {
		t.Error(err)
	}
	bad := connect.NewRequest(push)
	bad.Header().Set(transport.SessionHeader, "1.2.three")
	_, err = a.Client.Push(t.Context(), bad)
	says(t, err, connect.CodeInvalidArgument, "nonce")
}

// behindFixture has paris acknowledge three events of berlin.
func acknowledged(t *testing.T, n *node) (berlin, paris *agent) {
	n.activate("policy", "berlin", "paris")
	berlin, paris = n.join("berlin"), n.join("paris")
	berlin.mustOpen(opening(1, 1, 1))
	n.mailTo(berlin, "paris", 1, 3)
	n.mailTo(berlin, "paris", 4, 2)
	stream := paris.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	stream.mail(1)
	if err := paris.ack(&syncpb.AckRequest{Mailbox: 1}); err != nil {
		t.Fatal(err)
	}
	return berlin, paris
}

// A destination that lost what it had acknowledged gets it again: its lanes go back, and
// the source is sent to look.
func TestDestinationBehind(t *testing.T) {
	n := newNode(t)
	berlin, paris := acknowledged(t, n)
	session := opening(1, 2, 2)
	if got := berlin.mustOpen(session).Outbound[0].Highwater; got != 5 {
		t.Fatalf("the relay holds %d", got)
	}
	held := opening(1, 1, 1)
	held.Inbound = []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 3}}
	paris.mustOpen(held)
	if got := n.exceptions("behind"); len(got) != 0 {
		t.Fatalf("an agent that holds all is behind: %v", got)
	}
	lost := opening(1, 2, 2)
	lost.Inbound = []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 1}}
	paris.mustOpen(lost)
	if got := n.exceptions("behind"); len(got) != 1 {
		t.Fatalf("exceptions: %v", got)
	}
	// The lane went back between the source's hello and its pull, and it is told all the same.
	stream := berlin.pull(&syncpb.PullRequest{})
	if m := stream.next(); m.GetPolicy() == nil && m != nil {
		t.Errorf("got %v", m)
	}
	for stream.next() != nil {
	}
	says(t, stream.Err(), connect.CodeAborted, "gone back")
	if got := berlin.mustOpen(opening(1, 3, 3)).Outbound[0].Highwater; got != 1 {
		t.Errorf("the relay still holds %d", got)
	}
	open := berlin.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	open.Receive()
	n.mailTo(berlin, "paris", 2, 4)
	lost = opening(1, 3, 3)
	lost.Inbound = []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 0}}
	paris.mustOpen(lost)
	if open.next() != nil {
		t.Error("an open stream of the source goes on")
	}
	says(t, open.Err(), connect.CodeAborted, "gone back")
}

// A stale copy, a fenced one and a look move no lane.
func TestOnlyTheAgentMovesItsLanes(t *testing.T) {
	n := newNode(t)
	_, paris := acknowledged(t, n)
	held := opening(1, 5, 1)
	held.Inbound = []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 3}}
	paris.mustOpen(held)
	for _, m := range []*syncpb.HelloRequest{opening(1, 4, 2), {Protocol: 1, Epoch: 1}} {
		paris.mustOpen(m)
	}
	n.must(&model.NewEpoch{At: time.Now(), Agent: "paris", Epoch: 1, Nonce: [16]byte{7}})
	paris.mustOpen(opening(1, 9, 3))
	if got := n.exceptions("behind"); len(got) != 0 {
		t.Errorf("lanes were moved: %v", got)
	}
}

// Mail that this node cannot read is sent again by its source; nothing behind it on its lane
// comes before it.
func TestDamagedMail(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	berlin.mustOpen(opening(1, 1, 1))
	n.mailTo(berlin, "paris", 1, 2)
	n.mailTo(berlin, "paris", 3, 2)
	n.mailTo(berlin, "paris", 5, 2)
	n.mailTo(paris, "paris", 1, 1)
	n.store.damaged = map[uint64]bool{2: true}
	source := berlin.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	source.Receive()
	stream := paris.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	stream.mail(1)
	stream.mail(4)
	if source.next() != nil {
		t.Error("the source's stream goes on")
	}
	says(t, source.Err(), connect.CodeAborted, "gone back")
	if got := berlin.mustOpen(opening(1, 2, 2)).Outbound[0].Highwater; got != 2 {
		t.Errorf("the relay holds %d, want 2", got)
	}
	n.mailTo(berlin, "paris", 3, 4)
	if d := stream.mail(5); len(d.Block) == 0 {
		t.Errorf("got %v", d)
	}
	if len(n.exceptions("lost-mail")) != 1 {
		t.Errorf("exceptions: %v", n.exceptions("lost-mail"))
	}
}

// A node of several does not give up what the others can read: the destination is sent to
// them.
func TestDamagedMailOfOneNode(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	berlin.mustOpen(opening(1, 1, 1))
	n.mailTo(berlin, "paris", 1, 2)
	n.mailTo(berlin, "paris", 3, 2)
	n.store.damaged, n.store.others = map[uint64]bool{2: true}, true
	stream := paris.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	stream.mail(1)
	if m := stream.next(); m != nil {
		t.Errorf("got %v", m)
	}
	says(t, stream.Err(), connect.CodeUnavailable, "mail 2 of paris")
	if got := berlin.mustOpen(opening(1, 2, 2)).Outbound[0].Highwater; got != 4 {
		t.Errorf("the relay holds %d, want 4", got)
	}
	if len(n.exceptions("lost-mail")) != 0 {
		t.Errorf("exceptions: %v", n.exceptions("lost-mail"))
	}
}

// rebuild makes the cluster one that was restored from a backup of an hour ago.
func (n *node) rebuild() {
	n.must(&model.Rebuild{At: time.Now(), Incarnation: "second life", Rebuilt: model.Rebuilt{
		At: time.Now(), Cause: model.RebuiltFromBackup, From: time.Now().Add(-time.Hour), Node: "n1"}})
}

// Agents of the life that a restore has lost are known again, by what their certificates say.
func TestReadmit(t *testing.T) {
	n := newNode(t)
	paris := n.join("paris")
	issued := time.Now().Add(-10 * time.Minute)
	id := func(name string, key byte, issued time.Time) *agent {
		id := transport.Identity{Cluster: cluster, Site: name, Agent: name, Serial: "1", Key: [32]byte{key}, Issued: issued}
		return &agent{Session: n.session(id), t: t, node: n, id: id}
	}
	berlin := id("berlin", 1, issued)
	_, err := berlin.open(opening(3, 1, 1))
	says(t, err, connect.CodeUnavailable, "not known")
	_, err = paris.open(opening(2, 1, 1))
	says(t, err, connect.CodePermissionDenied, "never restored")
	n.rebuild()
	if answer := berlin.mustOpen(opening(3, 1, 1)); answer.Epoch != 3 || answer.Stale {
		t.Errorf("readmitted: %v", answer)
	}
	old := id("rome", 1, time.Now().Add(-24*time.Hour))
	_, err = old.open(opening(1, 1, 1))
	says(t, err, connect.CodeUnavailable, "not known")
	// An epoch granted in that life counts, for the same key.
	if answer := paris.mustOpen(opening(2, 1, 1)); answer.Epoch != 2 || answer.Stale {
		t.Errorf("epoch of the lost life: %v", answer)
	}
	// Enrolled again in that life: with another key and a later epoch. The copy that it
	// replaced is out.
	n.must(&model.Readmit{At: time.Now(), Agent: "oslo", Site: "oslo", Key: [32]byte{1}, Issued: time.Now().Add(-30 * time.Minute), Epoch: 1})
	former, newer := id("oslo", 1, time.Now().Add(-30*time.Minute)), id("oslo", 2, issued)
	if n.gateway.Revoked(newer.id) {
		t.Error("the newer enrolment is refused at the door")
	}
	former.mustOpen(opening(1, 1, 1))
	if answer := newer.mustOpen(opening(2, 1, 1)); answer.Epoch != 2 {
		t.Errorf("newer enrolment: %v", answer)
	}
	_, err = former.open(opening(1, 2, 2))
	says(t, err, connect.CodePermissionDenied, "another key")
	if !n.gateway.Revoked(former.id) {
		t.Error("the former copy passes the door")
	}
}

// An agent was enrolled again in the lost life, within the hour, and its certificate has
// ended before the restored control plane was there: it renews first.
func TestReadmitByRenewal(t *testing.T) {
	n := newNode(t)
	former := n.join("berlin")
	csr, key := newRequest(t)
	chain, err := n.pki.SignAgent(csr, "berlin", "berlin", n.pki.NewSerial(), time.Hour, time.Now().Add(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	n.must(&model.Rebuild{At: time.Now(), Incarnation: "second life", Rebuilt: model.Rebuilt{
		At: time.Now().Add(time.Minute), Cause: model.RebuiltFromBackup, From: time.Now(), Node: "n1"}})
	id := n.as(chain[0], key).id
	if n.gateway.Revoked(id) {
		t.Fatal("the newer enrolment is refused at the door")
	}
	id.Expired = true
	newer := &agent{Session: n.session(id), t: t, node: n, id: id, key: key}
	if _, err := newer.Client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: csr})); err != nil {
		t.Fatal(err)
	}
	if answer := newer.mustOpen(opening(2, 1, 1)); answer.Epoch != 2 || answer.Stale {
		t.Errorf("after the renewal: %v", answer)
	}
	if !n.gateway.Revoked(former.id) {
		t.Error("the former copy passes the door")
	}
}

// Two lives of a cluster never share a generation: an agent tells of the other one.
func TestGenerationSeenElsewhere(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	before := a.mustOpen(opening(1, 1, 1))
	session := uint64(1)
	tell := func(generation uint64, incarnation string) (*syncpb.HelloResponse, error) {
		session++
		m := opening(1, session, byte(session))
		m.Generation, m.Incarnation = generation, incarnation
		return a.open(m)
	}
	for _, test := range []struct {
		generation  uint64
		incarnation string
		want        uint64
	}{
		{before.Generation, before.Incarnation, before.Generation},
		{before.Generation - 1, "another", before.Generation},
		{before.Generation + 4, "another", before.Generation + 5},
		{before.Generation + 5, "another", before.Generation + 6},
	} {
		answer, err := tell(test.generation, test.incarnation)
		if err != nil || answer.Generation != test.want || answer.Incarnation != before.Incarnation {
			t.Errorf("%+v: %v %v", test, answer, err)
		}
	}
	_, err := tell(1<<40, "another")
	says(t, err, connect.CodeInvalidArgument, "generation")
}

// A renewal with an expired certificate is counted once, however often it is asked for; a
// second copy of the key shows by its count and waits for an operator.
func TestRecoveryOfCertificates(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	id := a.id
	id.Expired = true
	expired := &agent{Session: n.session(id), t: t, node: n, id: id, key: a.key}
	renew := func(csr []byte, recoveries uint64) (uint64, error) {
		answer, err := expired.Client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: csr, Recoveries: recoveries}))
		if err != nil {
			return 0, err
		}
		if len(answer.Msg.Certificates) == 0 || len(answer.Msg.Authorities) == 0 {
			t.Error("a renewal without certificates")
		}
		return answer.Msg.Recoveries, nil
	}
	first := requestFor(t, a.key)
	for range 3 {
		if got, err := renew(first, 0); err != nil || got != 1 {
			t.Fatalf("recovery: %d, %v", got, err)
		}
	}
	copied := requestFor(t, a.key)
	_, err := renew(copied, 0)
	says(t, err, connect.CodePermissionDenied, "second copy")
	if got := n.exceptions("key-copy"); len(got) != 1 {
		t.Errorf("exceptions: %v", got)
	}
	if got, err := renew(requestFor(t, a.key), 1); err != nil || got != 2 {
		t.Errorf("the agent itself: %d, %v", got, err)
	}
	n.must(&model.AllowAgent{Asked: asked("root"), Agent: "berlin"})
	if got, err := renew(copied, 0); err != nil || got != 3 {
		t.Fatalf("allowed copy: %d, %v", got, err)
	}
	if answer := a.mustOpen(opening(1, 1, 1)); !answer.Stale {
		t.Errorf("the allowed copy has to begin a new epoch: %v", answer)
	}
	// Not expired: nothing is counted.
	answer, err := a.Client.Renew(t.Context(), connect.NewRequest(&syncpb.RenewRequest{CertificateRequest: requestFor(t, a.key), Recoveries: 3}))
	if err != nil || answer.Msg.Recoveries != 3 {
		t.Errorf("renewal in time: %v, %v", answer, err)
	}
}

func TestLimitsOfHelloAndAck(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	long := strings.Repeat("x", 5000)
	for name, change := range map[string]func(*syncpb.HelloRequest){
		"why":         func(m *syncpb.HelloRequest) { m.Why = long },
		"incarnation": func(m *syncpb.HelloRequest) { m.Incarnation = long },
		"nonce":       func(m *syncpb.HelloRequest) { m.Nonce = []byte("short") },
		"lanes":       func(m *syncpb.HelloRequest) { m.Inbound = make([]*syncpb.Lane, 5000) },
		"source":      func(m *syncpb.HelloRequest) { m.Inbound = []*syncpb.Lane{{Source: long}} },
	} {
		m := opening(1, 1, 1)
		change(m)
		if _, err := a.open(m); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range map[string]*syncpb.AckRequest{
		"settled": {Settled: make([]*syncpb.Lane, 4097)},
		"moves":   {Moves: make([]*syncpb.Move, 257)},
		"source":  {Settled: []*syncpb.Lane{{Source: long}}},
		"system":  {Moves: []*syncpb.Move{{System: long}}},
	} {
		if err := a.ack(m); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.store.setDown(model.Errorf(model.Unavailable, "no leader"))
	_, err := a.open(opening(1, 1, 1))
	says(t, err, connect.CodeUnavailable, "no leader")
	_, err = a.open(&syncpb.HelloRequest{Protocol: 1, Epoch: 1})
	says(t, err, connect.CodeUnavailable, "no leader")
	n.store.setDown(nil)
}

// What an agent tells with its status reaches the state.
func TestAckCarries(t *testing.T) {
	n := newNode(t)
	_, paris := acknowledged(t, n)
	m := opening(1, 1, 1)
	m.Inbound = []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 3}}
	paris.mustOpen(m)
	if _, err := paris.Client.Ack(t.Context(), of(m, &syncpb.AckRequest{Status: []byte(`{}`), Settled: []*syncpb.Lane{{Source: "berlin", Epoch: 1, Highwater: 2}},
		Flushed: &syncpb.Revision{Generation: 1, Number: 1}})); err != nil {
		t.Fatal(err)
	}
	lanes := n.store.InboundLanes("paris")
	row, _ := n.store.Agent("paris")
	if len(lanes) != 1 || lanes[0].Settled != 2 || row.Flushed.Number != 1 || row.Node != "n1" {
		t.Errorf("lanes %+v, flushed %v at %s", lanes, row.Flushed, row.Node)
	}
}

// A canary revision goes to its sites alone.
func TestPolicyBySite(t *testing.T) {
	n := newNode(t)
	n.activate("one", "berlin", "paris")
	r := n.must(&model.Propose{Asked: asked("root"), Bundle: []byte("two"), Digest: [32]byte{2}, Sites: []string{"berlin", "paris"}}).(*model.Revision)
	n.must(&model.Approve{Asked: asked("root"), Number: r.ID.Number, Digest: r.Digest, Canary: []string{"paris"}})
	for site, want := range map[string]string{"berlin": "one", "paris": "two"} {
		if got := n.join(site).pull(&syncpb.PullRequest{}).next().GetPolicy(); string(got.GetBundle()) != want {
			t.Errorf("%s got %s, want %s", site, got.GetBundle(), fmt.Sprint(want))
		}
	}
}

// A join token of an authority that is still trusted is good after a rotation.
func TestEnrollAfterRotation(t *testing.T) {
	n := newNode(t)
	token := n.token("berlin", time.Minute)
	next, err := n.pki.Next(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	n.must(&model.AddAuthority{Asked: asked("root"), Authority: next})
	n.must(&model.ActivateAuthority{Asked: asked("root"), ID: next.ID})
	csr, _ := newRequest(t)
	answer, err := n.anonymous().Client.Enroll(t.Context(), connect.NewRequest(&syncpb.EnrollRequest{Token: token.String(), CertificateRequest: csr}))
	if err != nil || len(answer.Msg.Authorities) != 2 {
		t.Fatalf("%v, %v", answer, err)
	}
	if row, _ := n.store.Agent("berlin"); row.Authority != next.ID {
		t.Errorf("signed by %q, want %q", row.Authority, next.ID)
	}
}

// A generation that one agent has raised ends the streams of the others: they learn it by a
// new session.
func TestRaisedGenerationEndsStreams(t *testing.T) {
	n := newNode(t, func(c *gateway.Config) { c.BeatEvery = time.Hour }) // no beat wakes the stream
	n.activate("policy", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	paris.mustOpen(opening(1, 1, 1))
	stream := paris.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 9}})
	stream.Receive()
	other := opening(1, 1, 1)
	other.Incarnation, other.Generation = "another copy", 4
	berlin.mustOpen(other)
	for stream.next() != nil {
	}
	says(t, stream.Err(), connect.CodeAborted, "another generation")
	if got := paris.mustOpen(opening(1, 2, 2)).Generation; got != 5 {
		t.Errorf("generation %d", got)
	}
}
