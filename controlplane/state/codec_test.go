package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

func everyCommand() []model.Command {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	a := model.Asked{By: "anna", At: at, RequestID: "r"}
	return []model.Command{
		&model.Bootstrap{Asked: a, Cluster: model.Cluster{ID: "c", Generation: 1, Created: at}, Admin: model.Principal{Name: "x", Roles: everyRole, TokenHash: hashOf("x")}},
		&model.PutPrincipal{Asked: a, Principal: model.Principal{Name: "x", Disabled: true}},
		&model.CreateJoinToken{Asked: a, Token: model.JoinToken{ID: "t", Expires: at}},
		&model.Enroll{At: at, Token: "t", Secret: hashOf("s"), Agent: "eu", Key: hashOf("k"), Serial: "1"},
		&model.Renew{At: at, Agent: "eu", Key: hashOf("k"), Serial: "2"},
		&model.Revoke{Asked: a, Agent: "eu"},
		&model.Propose{Asked: a, Bundle: []byte{0, 255}, Digest: hashOf("d"), Sites: []string{"eu"}, Note: "n", Ranges: []model.NumberRange{testRange("sscc", "1", 1, 9, "eu")}},
		&model.Approve{Asked: a, Number: 1 << 60, Digest: hashOf("d")},
		&model.Push{At: at, Agent: "eu", Epoch: 3, Blocks: [][]byte{{1}, {2, 3}}, Gaps: []model.Gap{{Destination: "ho", First: 1, Last: 2, Cause: "bad \xff text"}}},
		&model.Ack{At: at, Agent: "eu", Mailbox: 9, Answers: []model.CommandAnswer{{ID: "c1", Error: "e"}}, Status: json.RawMessage(`{"a":1}`)},
		&model.Resolve{Asked: a, DeadLetter: "eu/1/erp", Replay: true, Confirm: true, Reason: "why"},
		&model.ResolveException{Asked: a, Exception: "eu/x", Reason: "why"},
		&model.PutNode{At: at, Node: model.Node{ID: "n1", Peer: "h:1", Sync: []string{"h:2"}, Joined: at}},
		&model.AdmitNode{At: at, Token: "t", Secret: hashOf("s"), Node: "n2"},
		&model.RemoveNode{Asked: a, Node: "n2"},
		&model.Beacon{At: at, Voters: []string{"n1", "n2"}},
		&model.BeaconReport{Node: "n1", Index: 1 << 50, Hash: hashOf("h")},
		&model.Rebuild{At: at, Incarnation: "i", Rebuilt: model.Rebuilt{At: at, Cause: model.RebuiltFromBackup, From: at, Index: 9, Node: "n1"}},
		&model.RaiseGeneration{At: at, Above: 3, Agent: "eu"},
		&model.Greet{At: at, Agent: "eu", Epoch: 2, Session: 7, Nonce: [16]byte{1}, Node: "n1", Told: true, Numbers: []model.NumberMark{{Range: "sscc", Highest: 8}}},
		&model.NewEpoch{At: at, Agent: "eu", Epoch: 2, Nonce: [16]byte{2}, Why: "image"},
		&model.Behind{At: at, Agent: "eu", Epoch: 2, Inbound: []model.Lane{{Source: "na", Epoch: 1, Highwater: 5}}},
		&model.LoseMail{At: at, Agent: "eu", Position: 4, Node: "n1", Why: "crc"},
		&model.Readmit{At: at, Agent: "eu", Site: "eu", Key: hashOf("k"), Serial: "3", Issued: at, Epoch: 4},
		&model.AllowAgent{Asked: a, Agent: "eu"},
		&model.ForgetAgent{Asked: a, Agent: "eu"},
		&model.Promote{Asked: a, Number: 2},
		&model.Withdraw{Asked: a, Number: 2, Reason: "why"},
		&model.ReleaseSystem{Asked: a, System: "erp2"},
		&model.AddAuthority{Asked: a, Authority: model.Authority{ID: "x", Certificate: []byte{1}, State: model.AuthorityNext}},
		&model.ActivateAuthority{Asked: a, ID: "x"},
		&model.RemoveAuthority{Asked: a, ID: "x"},
		&model.ForgetNode{At: at, Node: "n2", By: "n1"},
		&model.RescueAdmin{At: at, Node: "n1", Roles: []model.Role{model.Admin}, TokenHash: hashOf("x")},
		&model.LeaseNumbers{At: at, Agent: "eu", Epoch: 1, Range: "sscc", Request: [16]byte{3}, Have: 7, Want: 100, Highest: 1 << 60},
		&model.ReleaseRange{Asked: a, Range: "sscc", Next: 9},
		&model.AddRelease{Asked: a, Version: "1.2", Manifest: []byte("{}"), Signature: []byte("s"), Digest: hashOf("{}"), Key: "K", Files: []model.ReleaseFile{{SHA256: "ab", Size: 9}}},
		&model.PutReleasePiece{Asked: a, SHA256: "ab", Offset: 1 << 20, Data: []byte{0, 255}},
		&model.SteerRelease{Asked: a, Version: "1.2", Verb: model.ReleaseApprove, Digest: hashOf("{}"), Sites: []string{"eu"}, Reason: "why"},
		&model.SetSecret{Asked: a, Agent: "eu", Name: "erp/token", Version: 3, Recipient: "age1", Sealed: []byte{0, 255}, KeepFormer: true, FormerUntil: at},
		&model.DropSecret{Asked: a, Agent: "eu", Name: "erp/token", Former: true},
	}
}

func TestCommandsRoundTrip(t *testing.T) {
	seen := map[byte]bool{}
	for _, cmd := range everyCommand() {
		text, err := Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, cmd) {
			t.Errorf("%T: got %+v, want %+v", cmd, got, cmd)
		}
		seen[text[0]] = true
	}
	if len(seen) != int(kindsEnd)-1 {
		t.Errorf("%d of %d kinds are tested", len(seen), kindsEnd-1)
	}
}

// The numbers of the kinds stand in logs that are read for ever.
func TestKindsAreFixed(t *testing.T) {
	if kindBootstrap != 1 || kindPush != 9 || kindAck != 10 || kindResolveException != 12 || kindPutNode != 13 ||
		kindGreet != 20 || kindForgetAgent != 26 || kindRemoveAuthority != 32 || kindForgetNode != 33 || kindRescueAdmin != 34 || kindLeaseNumbers != 35 || kindReleaseRange != 36 ||
		kindAddRelease != 37 || kindPutReleasePiece != 38 || kindSteerRelease != 39 ||
		kindSetSecret != 40 || kindDropSecret != 41 {
		t.Error("a kind has got another number")
	}
}

func TestTooLargeCommand(t *testing.T) {
	_, err := Encode(&model.Propose{Bundle: make([]byte, MaxCommand+1)})
	if model.CodeOf(err) != model.TooLarge {
		t.Errorf("got %v", err)
	}
}

func sealed(kind byte, body []byte) []byte {
	head := binary.BigEndian.AppendUint32([]byte{kind, version}, crc32.Checksum(body, castagnoli))
	return append(head, body...)
}

func FuzzDecode(f *testing.F) {
	for _, cmd := range everyCommand() {
		text, err := Encode(cmd)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text[0], text[6:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		if _, err := Decode(body); err == nil && len(body) < 6 {
			t.Fatal("decoded a command without a head")
		}
		cmd, err := Decode(sealed(kind, body))
		if err != nil {
			if !errors.Is(err, ErrFatal) {
				t.Fatalf("not fatal: %v", err)
			}
			return
		}
		text, err := Encode(cmd)
		if err != nil {
			t.Fatalf("what was decoded cannot be encoded: %v", err)
		}
		again, err := Decode(text)
		if err != nil {
			t.Fatalf("what was encoded cannot be decoded: %v", err)
		}
		if third, err := Encode(again); err != nil || !bytes.Equal(text, third) {
			t.Fatalf("the encoding is not stable: %x and %x, %v", text, third, err)
		}
	})
}

func FuzzSplitEntry(f *testing.F) {
	f.Add(AppendToEntry(AppendToEntry(nil, []byte("one")), nil))
	f.Fuzz(func(t *testing.T, entry []byte) {
		parts, err := splitEntry(entry)
		if err != nil {
			return
		}
		var again []byte
		for _, p := range parts {
			again = AppendToEntry(again, p)
		}
		if got, err := splitEntry(again); err != nil || len(got) != len(parts) {
			t.Fatalf("%d parts became %d: %v", len(parts), len(got), err)
		}
	})
}

// Facts are the only foreign bytes that the machine itself looks into.
func FuzzFact(f *testing.F) {
	m := openMachine(f)
	m.begin(model.ApprovalsDual, model.Limits{Exceptions: 3, DeadLetters: 3})
	m.join("eu")
	f.Add(factBody(f, model.Fact{DeadLetter: &model.DeadLetter{ID: "eu/1/erp", State: "open"}}))
	f.Add(factBody(f, model.Fact{Exception: &model.Exception{ID: "1", Kind: "x"}}))
	f.Add([]byte("rubbish"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m.TB = t
		before := uint64(0)
		for _, l := range m.Lanes("eu", 1) {
			before = l.Highwater
		}
		text := cut(t, "eu", 1, []block.Lane{{Agent: block.Control, First: before + 1}}, body)
		r := m.do(&model.Push{At: start, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
		if r.Err != nil || r.Value.(*model.PushResult).Lanes[0].Highwater != before+1 {
			t.Fatalf("the lane did not move: %+v", r)
		}
	})
}
