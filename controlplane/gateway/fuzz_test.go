package gateway_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/controlplane/gateway"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// procedures are the calls with one answer.
var procedures = []string{syncpbconnect.SyncEnrollProcedure, syncpbconnect.SyncRenewProcedure, syncpbconnect.SyncHelloProcedure,
	syncpbconnect.SyncPushProcedure, syncpbconnect.SyncAckProcedure, syncpbconnect.SyncLeaseNumbersProcedure}

// hearsay is a store that takes no command and remembers what it was told.
type hearsay struct {
	*replica
	told []model.Command
}

func (h *hearsay) Apply(_ context.Context, cmd model.Command) (any, error) {
	h.told = append(h.told, cmd)
	return nil, model.Errorf(model.Forbidden, "no")
}

// FuzzCall: an agent may say anything. It is refused in words, and no command reaches the
// state under another name than the one that its certificate proves.
func FuzzCall(f *testing.F) {
	n := newNode(f)
	n.activate("policy", "berlin", "paris")
	csr, key := newRequest(f)
	berlin := n.joinWith(csr, "berlin")
	n.joinWith(csr, "paris")
	token := n.token("berlin", time.Hour).String()
	nonce := make16(1)
	for i, m := range []proto.Message{
		&syncpb.EnrollRequest{Token: token, Agent: "paris", CertificateRequest: csr},
		&syncpb.RenewRequest{CertificateRequest: requestFor(f, key), Recoveries: 1},
		&syncpb.HelloRequest{Protocol: 2, Epoch: 1, Session: 2, Nonce: nonce, Inbound: []*syncpb.Lane{{Source: "paris", Epoch: 1, Highwater: 3}}, Incarnation: "x", Generation: 2, Why: "w",
			Numbers: &syncpb.Numbers{Marks: []*syncpb.NumberMark{{Range: "sscc", Highest: 9}}}},
		&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(f, block.Origin{Agent: "berlin", Epoch: 1}, "paris", 1, 2)}, Gaps: []*syncpb.Gap{{Destination: "paris", First: 1, Last: 2, Cause: "c"}}},
		&syncpb.AckRequest{Status: []byte(`{"a":1}`), Settled: []*syncpb.Lane{{Source: "paris", Epoch: 1, Highwater: 1}}, Answers: []*syncpb.CommandAnswer{{Id: "c", Error: "e"}}, Moves: []*syncpb.Move{{System: "s"}}},
		&syncpb.LeaseNumbersRequest{Epoch: 1, Range: "sscc", Request: nonce, Have: 1, Want: 2, Highest: 3},
	} {
		text, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, "1.2."+strings.Repeat("0", 32), text)
		f.Add(i, "", text)
	}
	other, err := proto.Marshal(&syncpb.PushRequest{Epoch: 1, Blocks: [][]byte{cut(f, block.Origin{Agent: "paris", Epoch: 1}, "berlin", 1, 1)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(3, "", other)
	store := &hearsay{replica: n.store}
	g, err := gateway.New(gateway.Config{Store: store, Authority: n.pki, Node: "n1", EnrollRate: 1e9, EnrollBurst: 1 << 30, RenewRate: 1e9, RenewBurst: 1 << 30})
	if err != nil {
		f.Fatal(err)
	}
	handler := g.Handler()
	f.Fuzz(func(t *testing.T, procedure int, session string, body []byte) {
		name := procedures[uint(procedure)%uint(len(procedures))]
		r := httptest.NewRequest("POST", name, strings.NewReader(string(body)))
		r.Header = http.Header{"Content-Type": {"application/proto"}, "Connect-Protocol-Version": {"1"}, transport.SessionHeader: {session}}
		if name != syncpbconnect.SyncEnrollProcedure {
			r = r.WithContext(transport.WithIdentity(r.Context(), berlin))
		}
		store.told = nil
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError || w.Code == http.StatusNotImplemented {
			t.Fatalf("%s with %x = %d %s", name, body, w.Code, w.Body)
		}
		for _, cmd := range store.told {
			_, enrol := cmd.(*model.Enroll)
			if name := reflect.ValueOf(cmd).Elem().FieldByName("Agent"); !enrol && name.IsValid() && name.String() != "berlin" {
				t.Fatalf("berlin had %T done for %q", cmd, name.String())
			}
			if push, ok := cmd.(*model.Push); ok {
				for _, text := range push.Blocks {
					if e, err := block.ParseEnvelope(text); err != nil || e.Origin.Agent != "berlin" {
						t.Fatalf("berlin pushed a block of %+v, %v", e, err)
					}
				}
			}
		}
	})
}

// joinWith enrols an agent by a command and gives the identity that its certificate proves.
func (n *node) joinWith(csr []byte, site string) transport.Identity {
	n.t.Helper()
	key, err := n.pki.CheckRequest(csr)
	if err != nil {
		n.t.Fatal(err)
	}
	token := n.token(site, time.Minute)
	n.must(&model.Enroll{At: time.Now(), Token: token.ID, Secret: token.SecretHash(), Key: key, Serial: "1"})
	return transport.Identity{Cluster: cluster, Site: site, Agent: site, Serial: "1", Key: key, Issued: time.Now().Add(-time.Second), NotAfter: time.Now().Add(1e6 * time.Hour)}
}
