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
)

// ForwardRole is the word by which this program is told to be the forwarder at head office.
const ForwardRole = "nats-forward"

// A pull consumer asks for messages in large batches and well ahead, so that it never waits
// for the server; the server hands out as many without an acknowledgement.
const (
	pullBatch     = 1000
	maxAckPending = 8192
)

// RunForward takes the stream to a system: URL of the server, URL of the system, posts at once.
//
// Posts of different messages overtake each other. Nobody keeps the order of a key here,
// which spares it what our delivery does.
func RunForward(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s takes two URLs and a number", ForwardRole)
	}
	posts, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	nc, js, err := connect(args[0])
	if err != nil {
		return err
	}
	defer nc.Close()
	consumer, err := js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "forward",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute, MaxAckPending: maxAckPending})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullBatch))
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: posts}}
	group, ctx := errgroup.WithContext(ctx)
	context.AfterFunc(ctx, messages.Stop)
	queue := make(chan jetstream.Msg, posts)
	for range posts {
		group.Go(func() error {
			for m := range queue {
				if err := forward(ctx, client, args[1], m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	defer close(queue)
	for {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return context.Cause(ctx)
		}
		if err != nil {
			continue // a missed heartbeat: the library asks again
		}
		select {
		case queue <- m:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// forward posts one message, and acknowledges it when the system has it.
func forward(ctx context.Context, client *http.Client, url string, m jetstream.Msg) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(m.Data()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/cloudevents+json")
	answer, err := client.Do(request)
	if err != nil {
		return m.NakWithDelay(time.Second)
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil || answer.StatusCode >= 300 {
		return m.NakWithDelay(time.Second)
	}
	return m.Ack()
}
