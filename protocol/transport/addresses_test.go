package transport_test

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// nobody is an address at which nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// deafAddress takes packets and connections and answers none.
func deafAddress(t *testing.T) string {
	t.Helper()
	return newGate(t).address
}

func at(addresses ...string) func(*transport.DialerConfig) {
	return func(c *transport.DialerConfig) { c.Addresses = addresses }
}

func TestAddressesRotate(t *testing.T) {
	b := newBench(t)
	other := b.start(b.config("127.0.0.1:0"))
	dead := nobody(t)
	d := b.dialer(transport.TCP, b.tls("berlin"), at(dead, b.server.Addr(), other.Addr()))
	s := b.session(d)
	first, second := b.server.Addr(), other.Addr()
	if s.Address == second {
		first, second = second, first
	}
	s.Close()
	if s = b.session(d); s.Address != first {
		t.Errorf("session after a closed one at %s, want %s", s.Address, first)
	}
	s.Leave(errors.New("no leader"))
	if s = b.session(d); s.Address != second {
		t.Errorf("session after one that was left at %s, want %s", s.Address, second)
	}
	s.Abandon(errors.New("silent"))
	if s = b.session(d); s.Address != first {
		t.Errorf("session after an abandoned one at %s, want %s", s.Address, first)
	}
	alone := b.dialer(transport.Auto, b.tls("berlin"), at(dead), func(c *transport.DialerConfig) { c.AttemptTimeout = time.Second })
	if _, err := alone.Session(t.Context(), hello); err == nil || !strings.Contains(err.Error(), dead) ||
		!strings.Contains(err.Error(), "; quic: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("dial to nobody: %q", err)
	}
}

// Agents with one configuration do not all begin with the same node.
func TestAddressesBeginAnywhere(t *testing.T) {
	b := newBench(t)
	other := b.start(b.config("127.0.0.1:0"))
	seen := map[string]bool{}
	for range 200 {
		d := b.dialer(transport.TCP, b.tls("berlin"), at(b.server.Addr(), other.Addr()))
		s, err := d.Session(t.Context(), hello)
		if err != nil {
			t.Fatal(err)
		}
		seen[s.Address] = true
		s.Close()
		if len(seen) == 2 {
			return
		}
	}
	t.Errorf("all begin at %v", seen)
}

// Addresses heard of later stand behind the configured ones, and help when those are gone.
func TestSetAddresses(t *testing.T) {
	b := newBench(t)
	d := b.dialer(transport.TCP, b.tls("berlin"), at(nobody(t)))
	if _, err := d.Session(t.Context(), hello); err == nil {
		t.Fatal("a session with nobody")
	}
	d.SetAddresses([]string{"no address", ":1", b.server.Addr(), b.server.Addr()})
	s := b.session(d)
	if s.Address != b.server.Addr() {
		t.Errorf("session at %s", s.Address)
	}
	d.SetAddresses(nil)
	s.Close()
	if _, err := d.Session(t.Context(), hello); err == nil {
		t.Error("an address that was taken back is tried")
	}
	configured := b.dialer(transport.TCP, b.tls("berlin"), at(b.server.Addr()))
	configured.SetAddresses([]string{nobody(t)})
	if s := b.session(configured); s.Address != b.server.Addr() {
		t.Errorf("session at %s, which was not configured", s.Address)
	}
}

// Other addresses and another proxy hold from the next session on, before what was heard of.
func TestConfigure(t *testing.T) {
	b := newBench(t)
	d := b.dialer(transport.TCP, b.tls("berlin"), at(nobody(t)))
	d.SetAddresses([]string{nobody(t)})
	for _, wrong := range [][]string{nil, {"no address"}, make([]string, 1000)} {
		if err := d.Configure(wrong, nil); err == nil {
			t.Errorf("%d addresses were taken", len(wrong))
		}
	}
	if _, err := d.Session(t.Context(), hello); err == nil {
		t.Fatal("a session with nobody")
	}
	if err := d.Configure([]string{b.server.Addr()}, nil); err != nil {
		t.Fatal(err)
	}
	s := b.session(d)
	if s.Address != b.server.Addr() {
		t.Errorf("session at %s", s.Address)
	}
	s.Close()
	asked := errors.New("no way out")
	if err := d.Configure([]string{b.server.Addr()}, func(*url.URL) (*url.URL, error) { return nil, asked }); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Session(t.Context(), hello); err == nil || !strings.Contains(err.Error(), asked.Error()) {
		t.Errorf("the proxy was not asked: %v", err)
	}
}

// An address that does not answer at all is left for the next, however long an attempt
// may take; one that is merely slow gets its time when there is no faster one.
func TestDeafAddressIsLeft(t *testing.T) {
	b := newBench(t)
	for _, mode := range []transport.Mode{transport.QUIC, transport.TCP, transport.Auto} {
		d := b.dialer(mode, b.tls("berlin"), at(deafAddress(t)), func(c *transport.DialerConfig) { c.AttemptTimeout = time.Hour })
		d.SetQuickAttempt(300 * time.Millisecond)
		d.SetAddresses([]string{b.server.Addr()})
		if s := b.session(d); s.Address != b.server.Addr() {
			t.Errorf("%s: session at %s", mode, s.Address)
		}
	}
}

func TestSlowAddressGetsItsTime(t *testing.T) {
	b := newBench(t)
	for _, mode := range bothModes {
		d := b.dialer(mode, b.tls("berlin"), func(c *transport.DialerConfig) { c.AttemptTimeout = time.Minute })
		d.SetQuickAttempt(500 * time.Millisecond)
		d.SetAddresses([]string{nobody(t)})
		var tries atomic.Int64
		s, err := d.Session(t.Context(), func(ctx context.Context, c syncpbconnect.SyncClient) error {
			if tries.Add(1) == 1 {
				<-ctx.Done()
				return connect.NewError(connect.CodeDeadlineExceeded, ctx.Err())
			}
			return hello(ctx, c)
		})
		if err != nil || tries.Load() != 2 {
			t.Fatalf("%s: %v after %d tries", mode, err, tries.Load())
		}
		s.Close()
	}
}
