package transport_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

func memory(t *testing.T, faults transport.Faults) (*service, *transport.Link, *transport.Session) {
	b := &bench{t: t, service: &service{}}
	link := transport.NewMemory(b.handler(), transport.Identity{Agent: "berlin"}, faults)
	s, err := link.Session(t.Context(), hello)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return b.service, link, s
}

func push(t *testing.T, s *transport.Session, n uint64) error {
	_, err := s.Client.Push(t.Context(), connect.NewRequest(&syncpb.PushRequest{Epoch: n}))
	return err
}

func TestFaults(t *testing.T) {
	tests := []struct {
		name   string
		faults transport.Faults
		fails  bool
		done   []uint64
	}{
		{"none", transport.Faults{}, false, []uint64{1, 2}},
		{"drop", transport.Faults{Drop: 1}, true, nil},
		{"lose the answer", transport.Faults{LoseAnswer: 1}, true, []uint64{1, 2}},
		{"duplicate", transport.Faults{Duplicate: 1}, false, []uint64{1, 1, 2, 2}},
		{"delay", transport.Faults{Delay: 1, MaxDelay: time.Millisecond}, false, []uint64{1, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			service, _, s := memory(t, test.faults)
			for n := uint64(1); n <= 2; n++ {
				if err := push(t, s, n); (err != nil) != test.fails || err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
					t.Errorf("push %d: %v", n, err)
				}
			}
			if !slices.Equal(service.order, test.done) {
				t.Errorf("done %v, want %v", service.order, test.done)
			}
		})
	}
}

// The same seed does the same, another one something else.
func TestFaultsBySeed(t *testing.T) {
	history := func(seed uint64) string {
		service, _, s := memory(t, transport.Faults{Seed: seed, Drop: 0.3, LoseAnswer: 0.3, Duplicate: 0.3})
		var out []string
		for n := uint64(1); n <= 50; n++ {
			out = append(out, fmt.Sprint(push(t, s, n) != nil))
		}
		return fmt.Sprint(out, service.order)
	}
	if first, again := history(1), history(1); first != again || first == history(2) {
		t.Error("faults do not follow the seed")
	}
}

func TestFaultsReorder(t *testing.T) {
	// Only the calls that are delayed are overtaken, hence a probability below one.
	service, _, s := memory(t, transport.Faults{Seed: 3, Delay: 0.5, MaxDelay: time.Second})
	var calls sync.WaitGroup
	for n := uint64(1); n <= 20; n++ {
		calls.Go(func() {
			if err := push(t, s, n); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	if len(service.order) != 20 || slices.IsSorted(service.order) {
		t.Errorf("order %v", service.order)
	}
}

func TestCutAndDown(t *testing.T) {
	_, link, s := memory(t, transport.Faults{})
	stream, err := s.Client.Pull(t.Context(), connect.NewRequest(&syncpb.PullRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range 3 {
		stream.Receive()
	}
	link.SetDown(true)
	if stream.Receive() {
		t.Error("stream goes on after the cut")
	}
	closed(t, s.Done(), "end of the session")
	if !errors.Is(s.Err(), transport.ErrCut) {
		t.Errorf("session ended with %v", s.Err())
	}
	if err := push(t, s, 1); err == nil {
		t.Error("call on a cut session")
	}
	if _, err := link.Session(t.Context(), hello); !errors.Is(err, transport.ErrCut) {
		t.Errorf("session while down: %v", err)
	}
	link.SetDown(false)
	again, err := link.Session(t.Context(), hello)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := push(t, again, 2); err != nil {
		t.Error(err)
	}
}
