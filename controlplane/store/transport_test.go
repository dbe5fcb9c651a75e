package store

import (
	"context"
	"net"
	"testing"

	"github.com/hashicorp/raft"
)

// tcpPeers reaches nodes by their addresses as IDs.
type tcpPeers struct{ net.Listener }

func (tcpPeers) DialNode(ctx context.Context, node string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", node)
}

func (tcpPeers) Apply(context.Context, string, []byte) ([]byte, error) { panic("not asked for") }

func (tcpPeers) Barrier(context.Context, string) (uint64, error) { panic("not asked for") }

func tcpTransport(t *testing.T) transporter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t.TempDir())
	cfg.Peers, cfg.NodeID = tcpPeers{l}, l.Addr().String()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	tr, links, _ := s.transport(newLogger(s.cfg.Logger))
	t.Cleanup(func() { links.close(); tr.Close() })
	return tr
}

// A heartbeat that came past raft's main loop would let nodes diverge.
func TestHeartbeatsGoThroughTheMainLoop(t *testing.T) {
	from, to := tcpTransport(t), tcpTransport(t)
	past := make(chan struct{}, 1)
	to.SetHeartbeatHandler(func(rpc raft.RPC) {
		past <- struct{}{}
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	})
	sent := make(chan error, 1)
	go func() {
		heartbeat := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: 3, Addr: []byte("a")}, Term: 1}
		sent <- from.AppendEntries("b", to.LocalAddr(), heartbeat, &raft.AppendEntriesResponse{})
	}()
	select {
	case rpc := <-to.Consumer():
		rpc.Respond(&raft.AppendEntriesResponse{}, nil)
	case <-past:
		t.Error("a heartbeat came past the main loop")
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// Raft uses the pipeline only when the transport offers one.
func TestNoPipeline(t *testing.T) {
	from, to := tcpTransport(t), tcpTransport(t)
	if p, err := from.AppendEntriesPipeline("b", to.LocalAddr()); err == nil {
		p.Close()
		t.Error("the transport offers a pipeline")
	}
}

func TestAloneIsSerialToo(t *testing.T) {
	s := &Store{cfg: testConfig("")}
	tr, _, _ := s.transport(newLogger(nil))
	if _, ok := tr.(serial); !ok {
		t.Error("the transport of a single node is not wrapped")
	}
}
