package gateway_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// While an agent has no room nothing but mail is held back; its next turn begins with the
// oldest that it has not acknowledged.
func TestAgentWithoutRoom(t *testing.T) {
	n := newNode(t)
	n.activate("one", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	for i := range uint64(3) {
		n.mailTo(berlin, "paris", i+1, 1)
	}
	stream := paris.pull(&syncpb.PullRequest{})
	if stream.next().GetPolicy() == nil {
		t.Fatal("no revision")
	}
	for i := range uint64(3) {
		if d := stream.mail(i + 1); d.Turn != 0 {
			t.Errorf("mail %d is of turn %d", i+1, d.Turn)
		}
	}
	for range 2 { // the second is a repeat
		if err := paris.ack(&syncpb.AckRequest{Mailbox: 1, Turn: 1, Full: true}); err != nil {
			t.Fatal(err)
		}
	}
	n.mailTo(berlin, "paris", 4, 1)
	n.activate("two", "berlin", "paris")
	if p := stream.next().GetPolicy(); string(p.GetBundle()) != "two" {
		t.Errorf("a new revision: %v (%v)", p, stream.Err())
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		_, _ = n.gateway.Ask(ctx, "paris", "trace", nil) // nobody answers
	}()
	if c := stream.next().GetCommand(); c.GetKind() != "trace" {
		t.Errorf("a command: %v (%v)", c, stream.Err())
	}
	cancel()
	<-asked
	if !stream.Receive() || stream.Msg().GetBeat() == nil {
		t.Errorf("a beat: %v (%v)", stream.Msg(), stream.Err())
	}

	if err := paris.ack(&syncpb.AckRequest{Mailbox: 2, Turn: 1}); err != nil {
		t.Fatal(err)
	}
	for _, position := range []uint64{3, 4} {
		if d := stream.mail(position); d.Turn != 1 {
			t.Errorf("mail %d is of turn %d", position, d.Turn)
		}
	}
	// Two turns in one: nothing says when the first of them ended.
	if err := paris.ack(&syncpb.AckRequest{Turn: 3}); err != nil {
		t.Fatal(err)
	}
	if d := stream.mail(3); d.Turn != 3 {
		t.Errorf("mail 3 is of turn %d", d.Turn)
	}
	stream.mail(4)
	n.mailTo(berlin, "paris", 5, 1)
	stream.mail(5)
}

// What a session says of its room is nothing to another one's stream.
func TestRoomIsOfItsSession(t *testing.T) {
	n := newNode(t)
	n.activate("one", "berlin", "paris")
	berlin, paris := n.join("berlin"), n.join("paris")
	paris.mustOpen(opening(1, 1, 1))
	marked := func(number uint64, nonce byte) transport.Mark {
		return transport.Mark{Epoch: 1, Number: number, Nonce: [16]byte(make16(nonce))}
	}
	request := connect.NewRequest(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 99}})
	request.Header().Set(transport.SessionHeader, marked(1, 1).String())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	opened, err := paris.Client.Pull(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	stream := &pulling{opened, t}
	stream.Receive()
	if err := paris.ack(&syncpb.AckRequest{Turn: 1, Full: true}); err != nil { // of no session in particular
		t.Fatal(err)
	}
	n.mailTo(berlin, "paris", 1, 1)
	stream.mail(1)
}

// An agent that runs out of room in the middle of much mail is sent little more of it.
func TestNoRoomAmidMuchMail(t *testing.T) {
	n := newNode(t)
	n.activate("policy", "berlin")
	a := n.join("berlin")
	const blocks = 24
	a.bulky(blocks, 40<<10)
	stream := a.pull(&syncpb.PullRequest{Revision: &syncpb.Revision{Generation: 1, Number: 1}})
	stream.mail(1)
	if err := a.ack(&syncpb.AckRequest{Turn: 1, Full: true}); err != nil {
		t.Fatal(err)
	}
	n.activate("newer", "berlin")
	mail := 1
	for stream.next().GetPolicy() == nil {
		mail++
	}
	if mail == blocks {
		t.Error("the revision came after all mail")
	}
	if err := a.ack(&syncpb.AckRequest{Turn: 1}); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(blocks) {
		if d := stream.mail(i + 1); d.Turn != 1 {
			t.Fatalf("mail %d of turn %d", i+1, d.Turn)
		}
	}
}
