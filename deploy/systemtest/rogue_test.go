package systemtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// rogue holds a true certificate of a site and says what it likes.
type rogue struct {
	t        *testing.T
	id       *identity.Identity
	address  string
	revision uint64 // by which its orders were accepted, as it says
}

func newRogue(s *site) *rogue {
	s.t.Helper()
	id, err := identity.Open(s.cfg.IdentityDir())
	if err != nil {
		s.t.Fatal(err)
	}
	return &rogue{s.t, id, s.line.Addr(), 1}
}

// session opens one with a certificate.
func (r *rogue) session(conf *tls.Config, mode transport.Mode) (*transport.Session, error) {
	r.t.Helper()
	d, err := transport.NewDialer(transport.DialerConfig{Addresses: []string{r.address}, Mode: mode,
		TLS: func() (*tls.Config, error) { return conf, nil }})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	s, err := d.Session(ctx, func(ctx context.Context, client syncpbconnect.SyncClient) error {
		_, err := client.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{Protocol: 1, Epoch: r.id.Epoch()}))
		return err
	})
	if err == nil {
		r.t.Cleanup(func() { s.Close() })
	}
	return s, err
}

func (r *rogue) mustSession(mode transport.Mode) *transport.Session {
	r.t.Helper()
	s, err := r.session(r.id.TLS(), mode)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// push gives the answers by destination, or how the call was refused.
func (r *rogue) push(s *transport.Session, epoch uint64, blocks ...[]byte) (map[string]*syncpb.LaneAnswer, error) {
	r.t.Helper()
	answer, err := s.Client.Push(r.t.Context(), connect.NewRequest(&syncpb.PushRequest{Epoch: epoch, Blocks: blocks}))
	if err != nil {
		return nil, err
	}
	out := map[string]*syncpb.LaneAnswer{}
	for _, l := range answer.Msg.Lanes {
		out[l.Destination] = l
	}
	return out, nil
}

// block cuts a block of the order "forged" for the erp at hq, as if from an agent.
func (r *rogue) block(from string, epoch, first uint64, to string) []byte {
	r.t.Helper()
	return r.blockOf("forged", from, epoch, first, to)
}

// blockOf cuts a block of one order of a key.
func (r *rogue) blockOf(key, from string, epoch, first uint64, to string) []byte {
	r.t.Helper()
	return r.blockAs("shop-"+from, orderCaptured, key, from, epoch, first, to)
}

// blockAs says which system the order came from, and of what type it is.
func (r *rogue) blockAs(system, contract, key, from string, epoch, first uint64, to string) []byte {
	r.t.Helper()
	e := &event.Event{ID: key, Source: "/shops/" + from, Type: contract, Time: time.Now(),
		DataContentType: event.JSONType, Data: fmt.Appendf(nil, `{"orderId":%q}`, key)}
	text, err := e.Marshal()
	if err != nil {
		r.t.Fatal(err)
	}
	head := block.Head{ID: e.Hash(), Key: block.KeyHash(key), Type: e.Type, System: system, Occurred: e.Time, Received: e.Time,
		Revision: block.Revision{Generation: 1, Number: r.revision}, Targets: []block.Target{{Agent: "hq", System: "erp", Route: "to-erp"}}}
	out, err := block.Cut(block.Origin{Agent: from, Epoch: epoch}, []block.Lane{{Agent: to, First: first}},
		[]block.Item{{Head: head, Body: block.AppendBody(nil, key, text)}})
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// bombSize is what a bomb opens to.
const bombSize = 1 << 30

// bomb gives a block a payload that opens to far more than any block may, with checksums
// that are right.
func bomb(t *testing.T, text []byte) []byte {
	t.Helper()
	const frame = 12 // magic, checksum of the header, length of the header
	end := frame + binary.BigEndian.Uint32(text[8:])
	payload := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38} // zstd, no size given, a window of 128 KiB
	const run = 128 << 10
	for left := bombSize; left > 0; left -= run {
		header := uint32(run<<3 | 1<<1) // a block that says: so many times this byte
		if left == run {
			header |= 1 // the last one
		}
		payload = append(payload, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	out := binary.BigEndian.AppendUint32(append([]byte(nil), text[:end]...), crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
	out = append(out, payload...)
	if _, err := block.ParseEnvelope(out); err != nil {
		t.Fatalf("the bomb is refused for its form already: %v", err)
	}
	return out
}

// foreign is a certificate that says the same as the rogue's, signed by somebody else.
func (r *rogue) foreign(agent string) *tls.Config {
	r.t.Helper()
	_, ca := newAuthority(r.t, r.id.Cluster)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		r.t.Fatal(err)
	}
	chain, err := ca.SignAgent(request, agent, agent, ca.NewSerial(), time.Hour, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return transport.AgentTLS(tls.Certificate{Certificate: chain, PrivateKey: key}, r.id.TLS().RootCAs)
}

// stranger is a caller without a certificate.
func (r *rogue) stranger() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: r.id.TLS().RootCAs}
}

// bareClient speaks the protocol without the limits that our own clients keep to.
func (r *rogue) bareClient(conf *tls.Config) syncpbconnect.SyncClient {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	carrier := &http.Transport{TLSClientConfig: conf, Protocols: protocols}
	r.t.Cleanup(carrier.CloseIdleConnections)
	return syncpbconnect.NewSyncClient(&http.Client{Transport: carrier}, "https://"+r.address)
}
