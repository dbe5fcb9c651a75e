package gateway_test

import (
	"crypto/sha256"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/serial"
	"github.com/crossdock/crossdock/protocol/syncpb"
)

func (a *agent) lease(m *syncpb.HelloRequest, request *syncpb.LeaseNumbersRequest) (*syncpb.LeaseNumbersResponse, error) {
	answer, err := a.Client.LeaseNumbers(a.t.Context(), of(m, request))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}

// An agent leases for its own site, in its newest session only; a hello tells what it holds and
// has used.
func TestLeaseNumbers(t *testing.T) {
	n := newNode(t)
	berlin, paris := n.join("berlin"), n.join("paris")
	n.enforce(&model.Propose{Asked: asked("root"), Bundle: []byte("ranges"), Digest: sha256.Sum256([]byte("ranges")), Sites: []string{"berlin", "paris"},
		Ranges: []model.NumberRange{{Name: "sscc", Sites: []string{"berlin"}, Block: 10,
			Span: serial.Span{Form: serial.Form{Lead: "3", Digits: 9, Check: serial.CheckMod10}, First: 1, Last: 99}}}})
	first, second := opening(1, 1, 1), opening(1, 2, 2)
	berlin.mustOpen(first)
	paris.mustOpen(first)
	got, err := berlin.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(1), Want: 7})
	if err != nil || got.First != 1 || got.Last != 7 {
		t.Fatalf("%v, %v", got, err)
	}
	_, err = paris.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(1)})
	says(t, err, connect.CodeNotFound, "paris")
	_, err = berlin.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 2, Range: "sscc", Request: make16(2)})
	says(t, err, connect.CodePermissionDenied, "fenced")
	_, err = berlin.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(2)[:9]})
	says(t, err, connect.CodeInvalidArgument, "9 bytes")
	_, err = n.anonymous().Client.LeaseNumbers(t.Context(), connect.NewRequest(&syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(2)}))
	says(t, err, connect.CodeUnauthenticated, "enrol")
	berlin.mustOpen(second)
	_, err = berlin.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(2)})
	says(t, err, connect.CodeAborted, "session 1")

	// Refused, and asked again and again: nothing of it comes into the log.
	before := n.store.AppliedIndex()
	_, err = paris.lease(first, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(1)})
	says(t, err, connect.CodeNotFound, "paris")
	if got := n.store.AppliedIndex(); got != before {
		t.Errorf("a refusal is entry %d", got)
	}

	third, fourth := opening(1, 3, 3), opening(1, 4, 4)
	used := uint64(3)
	third.Numbers = &syncpb.Numbers{Marks: []*syncpb.NumberMark{{Range: "sscc", Highest: 7, Used: &used, Form: &syncpb.NumberForm{Lead: "3", Digits: 9, Check: serial.CheckMod10}}}}
	berlin.mustOpen(third)
	status := &syncpb.AckRequest{Status: []byte(`{"numbers":[{"range":"sscc","used":4}]}`)}
	if _, err := berlin.Client.Ack(t.Context(), of(third, status)); err != nil {
		t.Fatal(err)
	}
	fourth.Numbers = third.Numbers
	if answer, err := berlin.open(fourth); err != nil || !answer.Stale {
		t.Errorf("an image that has used fewer numbers: %v, %v", answer, err)
	}
	_, err = berlin.lease(third, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(3), Highest: 40})
	says(t, err, connect.CodeFailedPrecondition, "up to 40")
	fourth.Numbers = &syncpb.Numbers{}
	fourth.Numbers.Marks = make([]*syncpb.NumberMark, 501)
	_, err = paris.open(fourth)
	says(t, err, connect.CodeInvalidArgument, "501 number ranges")
}
