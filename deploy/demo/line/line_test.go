package line

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
	"time"
)

// echo answers every line and every datagram that it gets.
func echo(t *testing.T) string {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tcp.Close(); udp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintf(c, "%s\n", in.Text())
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(b[:n], from)
		}
	}()
	return tcp.Addr().String()
}

func start(t *testing.T) *Line {
	t.Helper()
	l, err := Listen("127.0.0.1:0", echo(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func dial(t *testing.T, network string, l *Line) net.Conn {
	t.Helper()
	c, err := net.Dial(network, l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// answered sends a line and reports whether it comes back within the wait.
func answered(t *testing.T, c net.Conn, text string, wait time.Duration) bool {
	t.Helper()
	if _, err := fmt.Fprintf(c, "%s\n", text); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, err := c.Read(b)
	return err == nil && string(b[:n]) == text+"\n"
}

const (
	long  = 10 * time.Second
	short = 50 * time.Millisecond // long enough to see that nothing comes on loopback
)

func TestCutStopsBothAndRestoreLetsStreamsGoOn(t *testing.T) {
	l := start(t)
	stream, datagrams := dial(t, "tcp", l), dial(t, "udp", l)
	if !answered(t, stream, "one", long) || !answered(t, datagrams, "one", long) {
		t.Fatal("a line that carries does not answer")
	}
	l.Cut()
	if answered(t, stream, "two", short) || answered(t, datagrams, "two", short) {
		t.Fatal("a line that is cut answers")
	}
	l.Restore()
	if err := stream.SetReadDeadline(time.Now().Add(long)); err != nil {
		t.Fatal(err)
	}
	if got, err := bufio.NewReader(stream).ReadString('\n'); err != nil || got != "two\n" {
		t.Errorf("what stood still comes after the cut: got %q, %v", got, err)
	}
	if !answered(t, datagrams, "three", long) {
		t.Error("UDP does not come back")
	}
}

func TestBlockUDPLeavesTCP(t *testing.T) {
	l := start(t)
	l.BlockUDP(true)
	if answered(t, dial(t, "udp", l), "one", short) {
		t.Error("blocked UDP answers")
	}
	if !answered(t, dial(t, "tcp", l), "one", long) {
		t.Error("TCP is blocked too")
	}
}
