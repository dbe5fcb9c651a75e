package peer

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// message notes what the server is told of it; all but that would panic.
type message struct {
	jetstream.Msg
	told []string
}

func (*message) Data() []byte { return []byte("{}") }

func (m *message) InProgress() error {
	m.told = append(m.told, "in progress")
	return nil
}

func (m *message) Ack() error {
	m.told = append(m.told, "done")
	return nil
}

func TestForwarderKeepsWhatTheSystemDoesNotTake(t *testing.T) {
	var posts atomic.Int64
	system := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if posts.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer system.Close()
	f := &forwarder{client: system.Client(), url: system.URL, batch: 64}
	messages := []jetstream.Msg{&message{}, &message{}}
	if err := f.post(t.Context(), messages); err != nil || posts.Load() != 2 {
		t.Fatalf("%d posts, %v; want 2", posts.Load(), err)
	}
	for i, m := range messages {
		if told := m.(*message).told; len(told) != 2 || told[0] != "in progress" || told[1] != "done" {
			t.Errorf("of message %d the server was told %v", i, told)
		}
	}
}
