package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

func FuzzPreface(f *testing.F) {
	var good bytes.Buffer
	if err := writeFrame(&good, preface{"c1", "i1", "n1", "n2"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte{0xff, 0xff})
	f.Add([]byte{0, 1, 0xbf})
	f.Fuzz(func(t *testing.T, text []byte) {
		var said preface
		if err := readFrame(bytes.NewReader(text), &said); err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeFrame(&again, said); err != nil && again.Len() > maxPreface {
			t.Errorf("%+v was read but cannot be written: %v", said, err)
		}
	})
}

// Strangers and nodes have places of their own; who proves to be a node leaves the others'.
func TestTableLimits(t *testing.T) {
	table := &table{open: map[*conn]bool{}}
	take := func() *conn {
		one, two := net.Pipe()
		t.Cleanup(func() { two.Close() })
		return table.take(one)
	}
	var held []*conn
	for range maxStrangers {
		held = append(held, take())
	}
	late := take() // a newcomer always has a place: the oldest goes
	if late == nil || len(table.waiting) != maxStrangers || held[0].proven() {
		t.Error("there is no limit on strangers, or a newcomer is kept out")
	}
	held[1].Close()
	held[1].Close() // twice
	if len(table.waiting) != maxStrangers-1 {
		t.Errorf("%d strangers after one has gone", len(table.waiting))
	}
	if !late.proven() || len(table.waiting) != maxStrangers-2 {
		t.Error("a node keeps a stranger's place")
	}
	table.close()
	if len(table.waiting) != 0 || table.nodes != 0 || take() != nil || held[2].proven() {
		t.Errorf("after the end: %d strangers, %d nodes", len(table.waiting), table.nodes)
	}
}

// deaf counts what reaches it and does nothing.
type deaf struct {
	Services
	joins int
}

func (d *deaf) Join(context.Context, *JoinRequest) (*JoinAnswer, error) {
	d.joins++
	return nil, model.Errorf(model.Forbidden, "no")
}

// FuzzCall: who has no certificate of a node comes as far as the request to join, with
// whatever body; and what nodes say to each other is read or refused.
func FuzzCall(f *testing.F) {
	paths := []string{callJoin, callApply, callBarrier, callMember, callAsk, callConnected, callStatus}
	for i, v := range []any{JoinRequest{Token: "xd1", Node: "n2", Peer: "h:1", Request: []byte{1}}, []byte{1}, uint64(1),
		MemberRequest{Change: MemberAdd, Node: "n2"}, AskRequest{Agent: "eu", Kind: "trace", Arguments: []byte("{}")},
		[]string{"eu"}, Status{Version: "v", Members: []Member{{ID: "n1"}}}} {
		text, err := encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(i, text)
	}
	f.Add(0, []byte{0x9f, 0x9f, 0x9f})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { listener.Close() })
	p, err := New(Config{Listener: listener, Identity: Identity{"c", "i", "n1"},
		Certificate: func() (*tls.Certificate, error) { return nil, errors.New("none") }, Authorities: x509.NewCertPool,
		Node:    func(*x509.Certificate) (string, string, error) { return "", "", errors.New("none") },
		Address: func(string) (string, bool) { return "", false }})
	if err != nil {
		f.Fatal(err)
	}
	services := &deaf{}
	p.Serve(services)
	handler := p.server().Handler
	f.Fuzz(func(t *testing.T, at int, body []byte) {
		path := paths[uint(at)%uint(len(paths))]
		r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
		r.TLS = &tls.ConnectionState{HandshakeComplete: true}
		r.Header.Set(headerCluster, "c")
		r.Header.Set(headerIncarnation, "i")
		w := httptest.NewRecorder()
		before := services.joins
		handler.ServeHTTP(w, r) // anything but a join that came through would be a nil Services
		var said refusal
		if err := decode(w.Body.Bytes(), &said); err != nil || w.Code != http.StatusConflict || said.Text == "" {
			t.Fatalf("%s with %x = %d %q, %v", path, body, w.Code, w.Body, err)
		}
		if services.joins != before && path != callJoin {
			t.Fatalf("%s came through", path)
		}
		for _, v := range []any{new(JoinRequest), new(MemberRequest), new(AskRequest), new(JoinAnswer), new(Status), new(refusal), new(answer), new([]string)} {
			if decode(body, v) != nil {
				continue
			}
			if _, err := encode(v); err != nil {
				t.Fatalf("%x is read as %+v, which cannot be written: %v", body, v, err)
			}
		}
	})
}
