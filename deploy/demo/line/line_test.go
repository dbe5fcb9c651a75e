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

func TestOneWayIsCut(t *testing.T) {
	for _, w := range []Way{There, Back} {
		l := start(t)
		stream, datagrams := dial(t, "tcp", l), dial(t, "udp", l)
		if !answered(t, stream, "one", long) || !answered(t, datagrams, "one", long) {
			t.Fatal("a line that carries does not answer")
		}
		l.CutWay(w)
		if l.Up() || answered(t, stream, "two", short) || answered(t, datagrams, "two", short) {
			t.Errorf("cut %s: there is an answer", w)
		}
		if !l.carries(map[Way]Way{There: Back, Back: There}[w]) {
			t.Errorf("cut %s: the other way is cut too", w)
		}
		l.Restore()
		if !answered(t, datagrams, "three", long) {
			t.Errorf("cut %s: UDP does not come back", w)
		}
	}
}

func TestWeather(t *testing.T) {
	const sent = 1000
	for _, c := range []struct {
		weather Weather
		least   int
		most    int
		swapped bool
	}{
		{Weather{}, sent, sent, false},
		{Weather{Lose: 0.2}, sent * 70 / 100, sent * 90 / 100, false},
		{Weather{Double: 0.2}, sent * 110 / 100, sent * 130 / 100, false},
		{Weather{Delay: 0.5, Most: time.Millisecond}, sent, sent, true},
	} {
		l := start(t)
		l.SetWeather(c.weather, 1)
		got := make(chan byte, 3*sent)
		for i := range sent {
			buffer := []byte{byte(i)}
			l.carry(There, buffer, func(b []byte) { got <- b[0] })
			buffer[0] = 0xff // the caller's again
			if c.swapped && i%10 == 0 {
				time.Sleep(100 * time.Microsecond)
			}
		}
		count, swapped, last := 0, false, byte(0)
		for done := false; !done; {
			wait := time.After(long)
			if count >= c.least {
				wait = time.After(short)
			}
			select {
			case b := <-got:
				swapped = swapped || int8(b-last) < 0
				count, last = count+1, b
			case <-wait:
				done = true
			}
		}
		if count < c.least || count > c.most || swapped != c.swapped {
			t.Errorf("%+v: %d came of %d, out of order %v", c.weather, count, sent, swapped)
		}
	}
}

// TestRebindChangesThePort: the far end sees another address, and its answers still come.
func TestRebindChangesThePort(t *testing.T) {
	far, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 10)
	go func() {
		defer close(seen)
		b := make([]byte, 2048)
		for {
			n, from, err := far.ReadFrom(b)
			if err != nil {
				return
			}
			seen <- from.String()
			_, _ = far.WriteTo(b[:n], from)
		}
	}()
	l, err := Listen("127.0.0.1:0", far.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	defer func() { far.Close(); cancel(); <-done }()
	c := dial(t, "udp", l)
	if !answered(t, c, "one", long) {
		t.Fatal("no answer")
	}
	if n := l.Rebind(); n != 1 {
		t.Errorf("%d flows were bound anew, want 1", n)
	}
	if !answered(t, c, "two", long) {
		t.Error("no answer after the port has changed")
	}
	if one, two := <-seen, <-seen; one == two {
		t.Errorf("both came from %s", one)
	}
}
