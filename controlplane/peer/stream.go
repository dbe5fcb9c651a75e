package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// preface opens a stream: who calls whom, in which life of the cluster.
type preface struct {
	Cluster     string
	Incarnation string
	From        string
	To          string
}

// answer to a preface; no text: the stream is open.
type answer struct {
	Refused string
}

// Addr is how streams are addressed: by the node's name.
type Addr string

// Network names the kind of address.
func (Addr) Network() string { return "crossdock" }

func (a Addr) String() string { return string(a) }

// Accept gives the next stream of another node.
func (p *Peers) Accept() (net.Conn, error) {
	select {
	case conn := <-p.streams:
		return conn, nil
	case <-p.noStreams:
	case <-p.ended:
	}
	return nil, net.ErrClosed
}

// Close ends Accept. Calls go on.
func (p *Peers) Close() error {
	p.closeStreams.Do(func() { close(p.noStreams) })
	return nil
}

// Addr is this node's name.
func (p *Peers) Addr() net.Addr { return Addr(p.cfg.Identity.Node) }

// DialNode opens a stream to a node.
func (p *Peers) DialNode(ctx context.Context, node string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := p.dial(ctx, node, protoStream)
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx, conn, node); err != nil {
		conn.NetConn().Close() // without waiting for a side that may be gone
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	return conn, nil
}

func (p *Peers) open(ctx context.Context, conn *tls.Conn, node string) error {
	deadline, _ := ctx.Deadline() // set by DialNode
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	own := p.cfg.Identity
	if err := writeFrame(conn, preface{own.Cluster, own.Incarnation, own.Node, node}); err != nil {
		return err
	}
	var said answer
	if err := readFrame(conn, &said); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if said.Refused != "" {
		return errors.New(clipText(said.Refused))
	}
	return conn.SetDeadline(time.Time{})
}

// dial connects to a node and proves that it is that one.
func (p *Peers) dial(ctx context.Context, node, protocol string) (*tls.Conn, error) {
	address, ok := p.cfg.Address(node)
	if !ok || address == "" {
		return nil, fmt.Errorf("node %s: where it listens for other nodes is not known", node)
	}
	raw, err := p.cfg.Dial(ctx, node, address)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	conn := tls.Client(raw, p.clientTLS(node, protocol))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, fmt.Errorf("node %s at %s: %w", node, address, err)
	}
	return conn, nil
}

func (p *Peers) clientTLS(node, protocol string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{protocol},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.cfg.Certificate()
		},
		SessionTicketsDisabled: true,
		// A node is known by its name in the cluster and not by that of its host:
		// VerifyConnection does the whole check.
		InsecureSkipVerify: true, // #nosec G402
		VerifyConnection: func(state tls.ConnectionState) error {
			got, err := p.verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth)
			if err != nil {
				return err
			}
			if got != node {
				return fmt.Errorf("node %s answers there: correct the address", got)
			}
			if state.NegotiatedProtocol != protocol {
				return fmt.Errorf("it does not speak %s", protocol)
			}
			return nil
		},
	}
}

// greet reads a caller's preface and answers it.
func (p *Peers) greet(ctx context.Context, conn *tls.Conn, state *tls.ConnectionState) error {
	var said preface
	if err := readFrame(conn, &said); err != nil {
		return err
	}
	refused := p.judge(ctx, state.PeerCertificates, &said)
	out := answer{}
	if refused != nil {
		out.Refused = refused.Error()
	}
	if err := writeFrame(conn, out); err != nil {
		return errors.Join(refused, err)
	}
	return refused
}

func (p *Peers) judge(ctx context.Context, chain []*x509.Certificate, said *preface) error {
	node, err := p.verify(chain, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return err
	}
	if node != said.From || said.To != p.cfg.Identity.Node {
		return model.Errorf(model.Forbidden, "a stream from %s to %s came from %s to %s", clip(said.From), clip(said.To), node, p.cfg.Identity.Node)
	}
	if err := p.sameLife(said.Cluster, said.Incarnation); err != nil {
		return err
	}
	return p.cfg.Refuse(ctx, node)
}

// A frame of a preface is its length in two bytes and CBOR.
func writeFrame(w io.Writer, v any) error {
	text, err := encode(v)
	if err != nil {
		return err
	}
	if len(text) > maxPreface {
		return fmt.Errorf("a preface of %d bytes, the limit is %d", len(text), maxPreface)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(text))), text...))
	return err
}

func readFrame(r io.Reader, v any) error {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint16(head[:])
	if size > maxPreface {
		return fmt.Errorf("a preface of %d bytes, the limit is %d", size, maxPreface)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return err
	}
	return decode(text, v)
}
