package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// ErrCut ends the sessions of a Memory that was cut or is down.
var ErrCut = errors.New("memory transport: cut")

// Link is a control plane in the same process: the handler is called directly, with the
// identity that it would else have proven. It gives the same sessions as a Dialer.
type Link struct {
	handler http.Handler
	id      Identity
	faults  *injector

	mu   sync.Mutex // guards what follows
	open map[*Session]context.CancelCauseFunc
	down bool
}

// NewMemory makes a link over which id calls handler. The zero Identity stands for a
// caller without a certificate.
func NewMemory(handler http.Handler, id Identity, faults Faults) *Link {
	return &Link{handler: handler, id: id, faults: newInjector(faults), open: map[*Session]context.CancelCauseFunc{}}
}

// Session opens a session, unless the link is down. The hello meets no faults.
func (l *Link) Session(ctx context.Context, hello Hello) (*Session, error) {
	l.mu.Lock()
	down := l.down
	l.mu.Unlock()
	if down {
		return nil, ErrCut
	}
	over, cut := context.WithCancelCause(context.Background())
	m := &memoryPath{link: l, over: over, greeting: true}
	p := &path{
		client: m,
		base:   "http://memory",
		done:   over.Done(),
		err:    func() error { return context.Cause(over) },
		close: func() {
			cut(ErrClosed)
			m.mu.Lock()
			m.closed = true // no call begins beside the wait
			m.mu.Unlock()
			m.calls.Wait()
		},
	}
	if err := hello(ctx, p.service()); err != nil {
		p.close()
		return nil, err
	}
	m.greeting = false
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		p.close()
		return nil, ErrCut
	}
	s := newSession(p, Memory, "memory", "memory transport", l.ended)
	l.open[s] = cut
	return s, nil
}

func (l *Link) ended(s *Session, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, s)
}

// Cut ends all open sessions, as a lost line does.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, cut := range l.open {
		cut(ErrCut)
	}
}

// SetDown takes the link down, which cuts it, or up.
func (l *Link) SetDown(down bool) {
	l.mu.Lock()
	l.down = down
	l.mu.Unlock()
	if down {
		l.Cut()
	}
}

// memoryPath is the RoundTripper of one session.
type memoryPath struct {
	link     *Link
	over     context.Context
	calls    sync.WaitGroup
	greeting bool // the hello is under way

	mu     sync.Mutex // guards closed, and the beginning of calls
	closed bool
}

// begin runs a call, unless the path is closed.
func (m *memoryPath) begin(call func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.calls.Go(call)
	return true
}

var _ http.RoundTripper = (*memoryPath)(nil)

func (m *memoryPath) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxMessage+maxHeader))
	r.Body.Close() // a reader of bytes
	if err != nil {
		return nil, err
	}
	if m.over.Err() != nil {
		return nil, context.Cause(m.over)
	}
	if isStream(r) {
		return m.stream(r, body)
	}
	if m.greeting {
		return m.unary(r, body)
	}
	return m.link.faults.call(r.Context(), func() (*http.Response, error) { return m.unary(r, body) })
}

// serve runs the handler as a server would: its context ends with the caller's, and with
// the session.
func (m *memoryPath) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(m.over, cancel)()
	ctx = WithPeer(ctx, Peer{Transport: string(Memory), Address: "memory"})
	if m.link.id != (Identity{}) {
		ctx = WithIdentity(ctx, m.link.id)
	}
	served := r.Clone(ctx)
	served.Proto, served.ProtoMajor, served.ProtoMinor = "HTTP/2.0", 2, 0
	served.RemoteAddr, served.RequestURI = "memory", r.URL.Path
	served.Body = io.NopCloser(bytes.NewReader(body))
	m.link.handler.ServeHTTP(w, served)
}

func (m *memoryPath) unary(r *http.Request, body []byte) (*http.Response, error) {
	var answer bytes.Buffer
	w := &memoryWriter{header: http.Header{}, status: http.StatusOK, body: &answer}
	done := make(chan struct{})
	if !m.begin(func() {
		defer close(done)
		m.serve(w, r, body)
	}) {
		return nil, ErrClosed
	}
	select {
	case <-done:
		return w.response(r, io.NopCloser(&answer)), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-m.over.Done():
		return nil, context.Cause(m.over)
	}
}

func (m *memoryPath) stream(r *http.Request, body []byte) (*http.Response, error) {
	read, write := io.Pipe()
	w := &memoryWriter{header: http.Header{}, status: http.StatusOK, body: write, started: make(chan struct{})}
	// A stream that its reader has left, or whose session is over, writes to nobody.
	stop := context.AfterFunc(r.Context(), func() { write.CloseWithError(r.Context().Err()) })
	cut := context.AfterFunc(m.over, func() { write.CloseWithError(context.Cause(m.over)) })
	if !m.begin(func() {
		defer stop()
		defer cut()
		m.serve(w, r, body)
		w.WriteHeader(http.StatusOK)
		write.Close()
	}) {
		stop()
		cut()
		return nil, ErrClosed
	}
	select {
	case <-w.started:
		return w.response(r, read), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-m.over.Done():
		return nil, context.Cause(m.over)
	}
}

// memoryWriter is the handler's end of an answer.
type memoryWriter struct {
	header  http.Header
	sent    http.Header
	status  int
	body    io.Writer
	once    sync.Once
	started chan struct{} // nil for a unary call
}

var _ http.Flusher = (*memoryWriter)(nil)

func (w *memoryWriter) Header() http.Header { return w.header }

func (w *memoryWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		if w.started != nil {
			close(w.started)
		}
	})
}

func (w *memoryWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}

func (w *memoryWriter) Flush() { w.WriteHeader(http.StatusOK) }

func (w *memoryWriter) response(r *http.Request, body io.ReadCloser) *http.Response {
	w.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)), StatusCode: w.status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: w.sent, Body: body, ContentLength: -1, Request: r,
	}
}
