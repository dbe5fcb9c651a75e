package world

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

// node listens for streams anywhere, and for datagrams at each of its two addresses, so that it
// answers by the one that it was asked at, as QUIC does.
type node struct {
	address     string
	tcp         net.Listener
	direct, far net.PacketConn
}

func openNode(t *testing.T) *node {
	t.Helper()
	address, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{address: address}
	if n.tcp, err = net.Listen("tcp4", Anywhere(address)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.tcp.Close() })
	for at, c := range map[string]*net.PacketConn{address: &n.direct, LineTo(address): &n.far} {
		if *c, err = net.ListenPacket("udp4", at); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*c).Close() })
	}
	return n
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// stream is one through the line, with its other end at the node.
func (n *node) stream(t *testing.T, line string) (site, center net.Conn) {
	t.Helper()
	site = dial(t, "tcp", line)
	center, err := n.tcp.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { center.Close() })
	return site, center
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

// hear reads what comes; the deadline only ends a test that waits in vain.
func hear(t *testing.T, c net.Conn) (string, error) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// heard reads the next datagram, and says from whom it is.
func heard(t *testing.T, c net.PacketConn, want string) net.Addr {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, from, err := c.ReadFrom(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("the node heard %q, %v; want %q", b[:n], err, want)
	}
	return from
}

// openFilter needs the kernel's packet filter.
func openFilter(t *testing.T, n *node) *Filter {
	t.Helper()
	if err := CanFilter(); err != nil {
		t.Skip("lines cannot be cut by nftables here: ", err)
	}
	f, err := OpenFilter([]string{n.address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := nft("", "list", "table", "inet", f.table); err == nil {
			t.Error("the table is still there")
		}
	})
	return f
}

func (n *node) cut(t *testing.T, f *Filter) {
	t.Helper()
	if err := f.Cut(); err != nil {
		t.Fatal(err)
	}
}

func TestFilterLosesDatagramsBothWaysUntilRestored(t *testing.T) {
	n := openNode(t)
	f := openFilter(t, n)
	line, other := dial(t, "udp", f.Addresses[0]), dial(t, "udp", n.address)
	say(t, line, "before")
	site := heard(t, n.far, "before")
	n.cut(t, f)
	answer := func(text string) {
		t.Helper()
		if _, err := n.far.WriteTo([]byte(text), site); err != nil {
			t.Fatal(err)
		}
	}
	say(t, line, "lost") // of which no sender is told
	answer("lost")
	say(t, other, "other")
	heard(t, n.direct, "other")
	if err := f.Restore(); err != nil {
		t.Fatal(err)
	}
	// Datagrams on loopback keep their order: what had passed would come first.
	say(t, line, "after")
	heard(t, n.far, "after")
	answer("after")
	if got, err := hear(t, line); err != nil || got != "after" {
		t.Errorf("the site heard %q, %v; want what was said after the cut", got, err)
	}
}

func TestFilterResetsStreamsAtWhoeverSpeaks(t *testing.T) {
	n := openNode(t)
	f := openFilter(t, n)
	there, _ := n.stream(t, f.Addresses[0])
	_, back := n.stream(t, f.Addresses[0])
	direct, directCenter := n.stream(t, n.address)
	n.cut(t, f)
	for name, c := range map[string]net.Conn{"the site": there, "the node": back} {
		say(t, c, "lost")
		if got, err := hear(t, c); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %q, %v; want a reset", name, got, err)
		}
	}
	if c, err := net.DialTimeout("tcp", f.Addresses[0], patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, %v: a line that is cut was taken", c, err)
	}
	say(t, direct, "other")
	if got, err := hear(t, directCenter); err != nil || got != "other" {
		t.Errorf("%q, %v: another site was cut off", got, err)
	}
	if err := f.Restore(); err != nil {
		t.Fatal(err)
	}
	site, center := n.stream(t, f.Addresses[0])
	say(t, site, "after")
	if got, err := hear(t, center); err != nil || got != "after" {
		t.Errorf("%q, %v after the line's return", got, err)
	}
}
