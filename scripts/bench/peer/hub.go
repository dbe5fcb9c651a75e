package peer

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/scripts/bench/world"
)

// Hub is the three servers alone, with a stream that clients publish to.
type Hub struct{ servers []*Server }

// StartHub starts them.
func StartHub(ctx context.Context, programs world.Programs, dir string, sync Sync) (*Hub, error) {
	servers, err := startHub(programs, dir, sync, false)
	h := &Hub{servers}
	if err == nil {
		err = create(ctx, servers[0], jetstream.StreamConfig{Name: stream, Subjects: []string{subject}, Replicas: len(servers)})
	}
	if err != nil {
		h.Kill()
		return nil, err
	}
	return h, nil
}

// Processes lists what runs.
func (h *Hub) Processes() (out []*world.Process) {
	for _, s := range h.servers {
		if s.Process != nil {
			out = append(out, s.Process)
		}
	}
	return out
}

// Kill ends all.
func (h *Hub) Kill() {
	for _, p := range h.Processes() {
		p.Kill()
	}
}

// Carry publishes so many messages and returns when all were pulled: published with Window
// of them under way, pulled in large batches, acknowledged once a batch.
func (h *Hub) Carry(ctx context.Context, count int, message func(int) []byte) error {
	out, to, err := connect(h.servers[0].URL())
	if err != nil {
		return err
	}
	defer out.Close()
	in, from, err := connect(h.servers[1].URL())
	if err != nil {
		return err
	}
	defer in.Close()
	consumer, err := from.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{Durable: "carry",
		AckPolicy: jetstream.AckAllPolicy, MaxAckPending: maxAckPending})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return publish(ctx, to, count, message) })
	group.Go(func() error { return pull(ctx, consumer, count) })
	return group.Wait()
}

func publish(ctx context.Context, js jetstream.JetStream, count int, message func(int) []byte) error {
	futures := make([]jetstream.PubAckFuture, count)
	for i := range futures {
		var err error
		if futures[i], err = js.PublishAsync(subject, message(i), stall); err != nil {
			return err
		}
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func pull(ctx context.Context, consumer jetstream.Consumer, count int) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(pullBatch))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, messages.Stop)()
	for i := 1; i <= count; {
		m, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return context.Cause(ctx)
		}
		if err != nil {
			continue // a missed heartbeat: the library asks again
		}
		if i%(pullBatch/4) == 0 || i == count {
			if err := m.Ack(); err != nil {
				return err
			}
		}
		i++
	}
	messages.Stop()
	return nil
}
