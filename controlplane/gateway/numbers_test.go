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

// An agent leases for its own site, in its newest session only, and a hello that tells what it
// holds ends the wait after a restore.
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

	n.must(&model.Rebuild{At: asked("").At, Incarnation: "second", Rebuilt: model.Rebuilt{Node: "n1", From: asked("").At, At: asked("").At}})
	third, fourth := opening(1, 3, 3), opening(1, 4, 4)
	third.Numbers = &syncpb.Numbers{Marks: []*syncpb.NumberMark{{Range: "sscc", Highest: 40}}}
	berlin.mustOpen(third)
	_, err = berlin.lease(third, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(3), Highest: 40})
	says(t, err, connect.CodeFailedPrecondition, "paris")
	paris.mustOpen(opening(1, 3, 3)) // an agent that knows of no ranges
	_, err = berlin.lease(third, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(3), Highest: 40})
	says(t, err, connect.CodeFailedPrecondition, "paris")
	fourth.Numbers = &syncpb.Numbers{}
	paris.mustOpen(fourth)
	if got, err := berlin.lease(third, &syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: make16(3), Highest: 40}); err != nil || got.First != 41 {
		t.Errorf("%v, %v", got, err)
	}
	fourth.Numbers.Marks = make([]*syncpb.NumberMark, 501)
	_, err = paris.open(fourth)
	says(t, err, connect.CodeInvalidArgument, "501 number ranges")
}
