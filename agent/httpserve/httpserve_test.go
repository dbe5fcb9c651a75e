package httpserve

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server under Run.
type served struct {
	address string
	came    chan struct{} // a connection was accepted
	stop    func() error
}

func serve(t *testing.T, grace time.Duration, handler http.HandlerFunc) *served {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{address: listener.Addr().String(), came: make(chan struct{}, 1)}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		s.came <- struct{}{}
		return ctx
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, server, listener, grace) }()
	s.stop = func() error { cancel(); return <-ended }
	return s
}

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	<-s.came
	return conn
}

// http.Server.Shutdown alone waits for such a connection for five seconds.
func TestUnusedConnectionIsNotWaitedFor(t *testing.T) {
	s := serve(t, time.Second, nil)
	conn := s.dial(t)
	if err := s.stop(); err != nil {
		t.Errorf("ended with %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection: %v", err)
	}
}

func TestRequestInFlightIsAnswered(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	s := serve(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-answer
		_, _ = io.WriteString(w, "done")
	})
	conn := s.dial(t)
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-came
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	close(answer)
	if text, err := io.ReadAll(conn); err != nil || string(text[len(text)-4:]) != "done" {
		t.Errorf("answered %q, %v", text, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestRequestWithoutEndIsCutOff(t *testing.T) {
	came := make(chan struct{})
	s := serve(t, 10*time.Millisecond, func(_ http.ResponseWriter, r *http.Request) {
		close(came)
		<-r.Context().Done()
	})
	if _, err := io.WriteString(s.dial(t), "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-came
	if err := s.stop(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

func TestListenerThatIsGone(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := Run(t.Context(), &http.Server{ReadHeaderTimeout: time.Second}, listener, time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}
