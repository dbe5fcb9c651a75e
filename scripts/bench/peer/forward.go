package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/scripts/bench/world"
)

// ForwardRole is the word by which this program is told to be the forwarder at head office.
const ForwardRole = "nats-forward"

// A pull consumer asks for messages in large batches and well ahead, so that it never waits
// for the server; the server hands out as many without an acknowledgement.
const (
	pullBatch     = 1000
	maxAckPending = 8192

	ackWait = time.Minute

	// A system that does not take messages is asked again after a pause, which doubles up to
	// the one that our delivery makes.
	firstPause, longestPause = time.Second, 10 * time.Second
)

// forwarder posts messages to a system, and acknowledges those that the system has.
type forwarder struct {
	client *http.Client
	url    string
	batch  int // messages a post; 1: each alone
	queue  chan jetstream.Msg
}

// RunForward takes the stream to a system: URL of the server, URL of the system, posts at
// once, messages a post.
//
// Posts of different messages overtake each other. Nobody keeps the order of a key here,
// which spares it what our delivery does.
func RunForward(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%s takes two URLs and two numbers", ForwardRole)
	}
	posts, err1 := strconv.Atoi(args[2])
	batch, err2 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	nc, js, err := connect(args[0])
	if err != nil {
		return err
	}
	defer nc.Close()
	consumer, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "forward",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: maxAckPending})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullBatch))
	if err != nil {
		return err
	}
	f := &forwarder{url: args[1], batch: batch, queue: make(chan jetstream.Msg, posts*batch),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: posts}}}
	group, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, messages.Stop)
	for range posts {
		group.Go(func() error { return f.run(ctx) })
	}
	defer close(f.queue)
	for {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return context.Cause(ctx)
		}
		if err != nil {
			continue // a missed heartbeat: the library asks again
		}
		select {
		case f.queue <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// run posts what is there, and never waits for more of it.
func (f *forwarder) run(ctx context.Context) error {
	for m := range f.queue {
		messages := append(make([]jetstream.Msg, 0, f.batch), m)
		for len(messages) < f.batch && len(f.queue) > 0 {
			select {
			case m, ok := <-f.queue:
				if ok {
					messages = append(messages, m)
				}
			default: // another was faster
			}
		}
		if err := f.post(ctx, messages); err != nil {
			return err
		}
	}
	return nil
}

// post keeps what the system does not take, and pulls no more meanwhile: to hand it back would
// have the server send the same again and again.
func (f *forwarder) post(ctx context.Context, messages []jetstream.Msg) error {
	for wait := firstPause; !f.taken(ctx, messages); wait = min(2*wait, longestPause) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := all(messages, jetstream.Msg.InProgress); err != nil {
			return err
		}
	}
	return all(messages, jetstream.Msg.Ack)
}

func all(messages []jetstream.Msg, tell func(jetstream.Msg) error) error {
	for _, m := range messages {
		if err := tell(m); err != nil {
			return err
		}
	}
	return nil
}

// taken makes the request, and reports whether the system has what it carries.
func (f *forwarder) taken(ctx context.Context, messages []jetstream.Msg) bool {
	contentType, body := "application/cloudevents+json", messages[0].Data()
	if f.batch > 1 {
		contentType, body = world.BatchType, join(messages)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url, bytes.NewReader(body))
	if err != nil {
		return false
	}
	request.Header.Set("Content-Type", contentType)
	answer, err := f.client.Do(request)
	if err != nil {
		return false
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err == nil && answer.StatusCode < 300
}

// join makes a JSON array of messages that are JSON.
func join(messages []jetstream.Msg) []byte {
	size := 1
	for _, m := range messages {
		size += len(m.Data()) + 1
	}
	b := append(make([]byte, 0, size), '[')
	for i, m := range messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, m.Data()...)
	}
	return append(b, ']')
}
