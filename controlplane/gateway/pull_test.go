package gateway_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

// mailTo puts events into a mailbox, from number first on.
func (n *node) mailTo(a *agent, destination string, first uint64, count int) {
	n.t.Helper()
	answer, err := a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(n.t, block.Origin{Agent: a.id.Agent, Epoch: 1}, destination, first, count)}})
	if err != nil || answer.Lanes[0].Highwater != first+uint64(count)-1 {
		n.t.Fatalf("push: %v %v", answer, err)
	}
}

// The revision comes first, then mail in order, and new mail as it comes; what is
// acknowledged does not come again, what is not does.
func TestPull(t *testing.T) {
	n := newNode(t)
	n.activate("one", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	n.mailTo(berlin, "paris", 1, 2)
	n.mailTo(berlin, "paris", 3, 1)
	stream := paris.pull(&syncpb.PullRequest{})
	policy := stream.next().GetPolicy()
	if string(policy.GetBundle()) != "one" || policy.GetRevision().GetNumber() == 0 {
		t.Fatalf("first is %v", policy)
	}
	if d := stream.mail(1); d.RelayedUnixMs == 0 || len(d.Block) == 0 {
		t.Errorf("mail %v", d)
	}
	stream.mail(2)
	n.mailTo(berlin, "paris", 4, 1)
	stream.mail(3)
	if _, err := berlin.push(&syncpb.PushRequest{Epoch: 1, Gaps: []*syncpb.Gap{{Destination: "paris", First: 5, Last: 9, Cause: "gone"}}}); err != nil {
		t.Fatal(err)
	}
	if d := stream.mail(4); d.Source != "berlin" || d.Epoch != 1 || d.Gap.GetFirst() != 5 || d.Gap.GetLast() != 9 || d.Gap.GetCause() != "gone" {
		t.Errorf("gap %v", d)
	}
	if err := paris.ack(&syncpb.AckRequest{Mailbox: 2}); err != nil {
		t.Fatal(err)
	}
	// What was never sent is not taken as acknowledged: it would remove mail unseen.
	says(t, paris.ack(&syncpb.AckRequest{Mailbox: 5}), connect.CodeFailedPrecondition, "not sent")

	n.activate("two", "berlin", "paris")
	newer := stream.next().GetPolicy()
	if string(newer.GetBundle()) != "two" {
		t.Errorf("after an approval came %v", newer)
	}
	again := paris.pull(&syncpb.PullRequest{Revision: newer.GetRevision()})
	again.mail(3)
	if stream.next() != nil {
		t.Error("the older stream goes on")
	}
	says(t, stream.Err(), connect.CodeAborted, "newer stream")
	if !n.gateway.Connected("paris") {
		t.Error("the newer stream went with the older one")
	}
	hint := paris.pull(&syncpb.PullRequest{Revision: newer.GetRevision(), Mailbox: 3})
	hint.mail(4)
	foreign := paris.pull(&syncpb.PullRequest{Revision: newer.GetRevision(), Mailbox: 99})
	foreign.mail(3)
}

// An agent that was away when a system of its site was replaced hears first what was in force
// before, and only then; every agent hears where the moves began.
func TestFormerRevision(t *testing.T) {
	n := newNode(t)
	sites := []string{"berlin", "paris"}
	move := model.Move{System: "erp2", Site: "paris", Old: "erp", OldSite: "berlin"}
	n.activate("one", sites...)
	n.activate("two", sites...)
	n.activate("three", sites...)
	n.move("four", move, sites...)
	n.move("five", move, sites...)
	berlin, paris := n.join("berlin"), n.join("paris")
	for _, tt := range []struct {
		at   *agent
		held uint64
		want []string
	}{
		{berlin, 0, []string{"former three", "five"}},
		{berlin, 1, []string{"former three", "five"}},
		{berlin, 2, []string{"former three", "five"}},
		{berlin, 3, []string{"five"}},
		{berlin, 4, []string{"five"}},
		{paris, 1, []string{"five"}}, // nothing of its own is replaced
	} {
		stream := tt.at.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: tt.held}})
		for _, want := range tt.want {
			m := stream.next()
			got := string(m.GetPolicy().GetBundle())
			if f := m.GetFormer(); f != nil {
				got = "former " + string(f.Bundle)
				if f.Revision.Number != 3 || f.Revision.Generation != 1 || len(f.Digest) == 0 {
					t.Errorf("former %v", f)
				}
			} else if b := m.GetPolicy().GetMoves(); len(b) != 1 || b[0].System != "erp2" || b[0].Revision.GetNumber() != 4 {
				t.Errorf("moves %v", b)
			}
			if got != want {
				t.Errorf("%s, which holds %d, is sent %q, want %q", tt.at.id.Agent, tt.held, got, want)
			}
		}
	}
}

// Mail never overtakes the revision that it was routed by.
func TestRevisionComesBeforeItsMail(t *testing.T) {
	n := newNode(t)
	n.activate("one", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	n.store.mu.Lock()
	n.store.onMail = func() {
		n.activate("two", "berlin", "paris")
		n.mailTo(berlin, "paris", 1, 1)
	}
	n.store.mu.Unlock()
	stream := paris.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 1}})
	if p := stream.next().GetPolicy(); string(p.GetBundle()) != "two" {
		t.Errorf("first comes %v (%v)", p, stream.Err())
	}
	stream.mail(1)
}

func TestStreamEnds(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	stream := a.pull(&syncpb.PullRequest{})
	for range 3 {
		if !stream.Receive() || stream.Msg().GetBeat().GetNowUnixMs() == 0 {
			t.Fatalf("beat: %v %v", stream.Msg(), stream.Err())
		}
	}
	n.store.setDown(model.Errorf(model.Unavailable, "this node does not lead"))
	if stream.next() != nil {
		t.Error("stream of a node without leader goes on")
	}
	says(t, stream.Err(), connect.CodeUnavailable, "does not lead")
	n.store.setDown(nil)
	stream = a.pull(&syncpb.PullRequest{})
	stream.Receive()
	n.must(&model.Revoke{Asked: asked("root"), Agent: "berlin"})
	if stream.next() != nil {
		t.Error("stream of a revoked agent goes on")
	}
	says(t, stream.Err(), connect.CodePermissionDenied, "revoked")
	until(t, "end of the stream", func() bool { return !n.gateway.Connected("berlin") })
}

// A node that has lost the leader says so after ten seconds; its streams end with that, and
// give away nothing that came since.
func TestStreamEndsWithItsNode(t *testing.T) {
	n := newNode(t, func(c *gateway.Config) { c.BeatEvery = time.Hour })
	n.activate("policy", "berlin", "paris")
	a, _ := n.join("berlin"), n.join("paris")
	if _, err := a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(t, block.Origin{Agent: "berlin", Epoch: 1}, "berlin", 1, 1)}}); err != nil {
		t.Fatal(err)
	}
	stream := a.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 1}})
	stream.mail(1)
	n.store.setDown(model.Errorf(model.Unavailable, "not in touch"))
	if m := stream.next(); m != nil {
		t.Errorf("the stream goes on: %v", m)
	}
	says(t, stream.Err(), connect.CodeUnavailable, "not in touch")
	again := a.pull(&syncpb.PullRequest{})
	if again.Receive() {
		t.Errorf("another one begins: %v", again.Msg())
	}
	says(t, again.Err(), connect.CodeUnavailable, "not in touch")
	n.store.setDown(nil)
	a.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 1}}).mail(1)
}

func TestAsk(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	if _, err := n.gateway.Ask(t.Context(), "nowhere", "trace", nil); model.CodeOf(err) != model.NotFound {
		t.Errorf("unknown agent: %v", err)
	}
	if _, err := n.gateway.Ask(t.Context(), "berlin", "trace", nil); model.CodeOf(err) != model.Unavailable || !strings.Contains(err.Error(), "not been connected yet") {
		t.Errorf("agent that never came: %v", err)
	}
	stream := a.pull(&syncpb.PullRequest{})
	stream.Receive()
	type answer struct {
		result json.RawMessage
		err    error
	}
	ask := func(ctx context.Context, args string) <-chan answer {
		out := make(chan answer, 1)
		go func() {
			result, err := n.gateway.Ask(ctx, "berlin", "trace", json.RawMessage(args))
			out <- answer{result, err}
		}()
		return out
	}
	got := ask(t.Context(), `{"key":1}`)
	command := stream.next().GetCommand()
	if command.GetKind() != "trace" || string(command.GetArguments()) != `{"key":1}` {
		t.Fatalf("command %v", command)
	}
	reply := &syncpb.AckRequest{Answers: []*syncpb.CommandAnswer{{Id: command.Id, Result: []byte(`[1]`)}}}
	for range 2 { // the second finds nobody
		if err := a.ack(reply); err != nil {
			t.Fatal(err)
		}
	}
	if r := <-got; r.err != nil || string(r.result) != `[1]` {
		t.Errorf("answer %s, %v", r.result, r.err)
	}

	got = ask(t.Context(), "{}")
	reply.Answers[0] = &syncpb.CommandAnswer{Id: stream.next().GetCommand().GetId(), Error: "no such key"}
	if err := a.ack(reply); err != nil {
		t.Fatal(err)
	}
	if r := <-got; model.CodeOf(r.err) != model.Invalid || !strings.Contains(r.err.Error(), "agent berlin: no such key") {
		t.Errorf("refusal of the agent: %v", r.err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	got = ask(ctx, "{}")
	stream.next()
	cancel()
	if r := <-got; model.CodeOf(r.err) != model.Unavailable || !strings.Contains(r.err.Error(), "not answered") {
		t.Errorf("late agent: %v", r.err)
	}

	if err := a.ack(&syncpb.AckRequest{Status: []byte(`{"version":"1"}`)}); err != nil {
		t.Fatal(err)
	}
	got = ask(t.Context(), "{}")
	stream.next()
	a.Close()
	if r := <-got; model.CodeOf(r.err) != model.Unavailable || !strings.Contains(r.err.Error(), "last seen") {
		t.Errorf("agent that went away: %v", r.err)
	}
}

// A durable command goes with every stream until its answer is in the state.
func TestDurableCommand(t *testing.T) {
	n := newNode(t)
	a := n.join("berlin")
	n.deadLetter(a)
	stream := a.pull(&syncpb.PullRequest{})
	stream.Receive()
	n.must(&model.Resolve{Asked: asked("root"), DeadLetter: "berlin/1.0/erp", Replay: true, Confirm: true, Reason: "repaired"})
	command := stream.next().GetCommand()
	if command.GetKind() != "replay" || command.GetId() == "" {
		t.Fatalf("command %v (%v)", command, stream.Err())
	}
	again := a.pull(&syncpb.PullRequest{})
	if got := again.next().GetCommand(); got.GetId() != command.GetId() {
		t.Fatalf("on the next stream: %v", got)
	}
	if err := a.ack(&syncpb.AckRequest{Answers: []*syncpb.CommandAnswer{{Id: command.GetId(), Error: "gone"}}}); err != nil {
		t.Fatal(err)
	}
	if left := n.store.Commands("berlin"); len(left) != 0 {
		t.Errorf("commands left: %v", left)
	}
}

// deadLetter reports one as a fact of the agent.
func (n *node) deadLetter(a *agent) {
	n.t.Helper()
	text := factBlock(n.t, block.Origin{Agent: a.id.Agent, Epoch: 1}, model.Fact{DeadLetter: &model.DeadLetter{
		ID: "berlin/1.0/erp", Agent: "berlin", Ref: "1.0", System: "erp", OnExhausted: "park", State: model.DeadLetterOpen, At: time.Now()}})
	if _, err := a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{text}}); err != nil {
		n.t.Fatal(err)
	}
	if _, ok := n.store.DeadLetter("berlin/1.0/erp"); !ok {
		n.t.Fatal(errors.New("the fact has not become a dead letter"))
	}
}

// bulky mails an agent to itself blocks that do not compress.
func (a *agent) bulky(blocks uint64, size int) {
	a.t.Helper()
	for i := range blocks {
		body := make([]byte, size)
		if _, err := rand.Read(body); err != nil {
			a.t.Fatal(err)
		}
		text, err := block.Cut(block.Origin{Agent: a.id.Agent, Epoch: 1}, []block.Lane{{Agent: a.id.Agent, First: i + 1}},
			[]block.Item{{Head: block.Head{Type: "order.captured.v1", Received: time.Now(), Occurred: time.Now()}, Body: body}})
		if err != nil {
			a.t.Fatal(err)
		}
		if _, err := a.push(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{text}}); err != nil {
			a.t.Fatal(err)
		}
	}
}

// An agent that is far behind still hears what somebody waits for.
func TestAskBeforeMailWithoutEnd(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin", "paris")
	a := n.join("berlin")
	n.join("paris")
	const blocks = 8
	a.bulky(blocks, 700<<10)
	stream := a.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 1}})
	stream.mail(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, err := n.gateway.Ask(ctx, "berlin", "trace", nil)
		if err == nil {
			t.Error("nobody answered, and an answer came")
		}
	}()
	time.Sleep(50 * time.Millisecond) // it waits to be sent
	mail := 1
	for stream.next().GetCommand() == nil {
		mail++
	}
	if mail == blocks {
		t.Error("the command came after all mail")
	}
	cancel()
	<-asked
}

// An agent hears of a node that joins while it is connected: should its own end, it has only
// those that it was told of.
func TestBeatTellsOfNodes(t *testing.T) {
	n := newNode(t)
	paris := n.join("paris")
	put := func(id, address string) {
		t.Helper()
		if _, err := n.store.Apply(t.Context(), &model.PutNode{At: time.Now(), Node: model.Node{ID: id, Sync: []string{address}}}); err != nil {
			t.Fatal(err)
		}
	}
	put("n1", "n1:7443")
	stream := paris.pull(&syncpb.PullRequest{})
	heard := func(want ...string) {
		t.Helper()
		for stream.Receive() {
			if nodes := stream.Msg().GetBeat().GetNodes(); len(nodes) > 0 {
				if !slices.Equal(nodes, want) {
					t.Errorf("told of %v, want %v", nodes, want)
				}
				return
			}
		}
		t.Fatalf("the stream ended: %v", stream.Err())
	}
	heard("n1:7443")
	put("n2", "n2:7443")
	heard("n1:7443", "n2:7443")
}
