package intake

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/policy"
)

// started runs a service on a socket of its own and gives its address and its end.
func started(t *testing.T, cfg Config, j *journal) (addr string, stop func() error) {
	t.Helper()
	r := newRig(t)
	cfg.Site, cfg.Listen = "eu", "127.0.0.1:0"
	s, err := New(cfg, Parts{
		Policy: r.policy, Journal: j, Secrets: r.secrets,
		NewRouter: func(*policy.Set) Router { return toERP{} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if addr, err = s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return addr, func() error { cancel(); return <-done }
}

func request(body string) string {
	return fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-secret\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		structuredType, len(body), body)
}

// A request that is in the journal's hands when the end comes gets its answer.
func TestRunLetsRequestsFinish(t *testing.T) {
	j := &journal{hold: make(chan struct{}), came: make(chan struct{})}
	addr, stop := started(t, Config{}, j)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, request(structured("1", goodData)))
	<-j.came
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(j.hold)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 202") {
		t.Errorf("got %q, %v", line, err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// A sender that never finishes is cut off and leaves nothing.
func TestSlowSender(t *testing.T) {
	j := &journal{}
	addr, stop := started(t, Config{ReadTimeout: 50 * time.Millisecond}, j)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := request(structured("1", goodData))
	fmt.Fprint(conn, text[:len(text)-5])
	buffer := make([]byte, 4096)
	n, _ := conn.Read(buffer)
	if got := string(buffer[:n]); !strings.HasPrefix(got, "HTTP/1.1 400") || !strings.Contains(got, "did not arrive whole") {
		t.Errorf("got %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if j.calls != 0 {
		t.Error("the journal was called")
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{}, Parts{}); err == nil {
		t.Error("no site: no error")
	}
	if _, err := New(Config{Site: "eu"}, Parts{}); err == nil {
		t.Error("no parts: no error")
	}
}

func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newRig(t)
	s, err := New(Config{Site: "eu", Listen: l.Addr().String()}, r.parts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v, want an error that names the address", err)
	}
}
