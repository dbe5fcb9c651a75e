package usps

import (
	"context"
	"slices"
	"sync"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// busy makes those who work on the same reference take turns. Others do not wait for them: the
// provider may take a minute for each.
type busy struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is free
}

func newBusy() *busy { return &busy{held: map[string]chan struct{}{}} }

// hold waits for all names and gives what frees them. Names are taken in one order, so that two
// who want the same ones do not wait for each other.
func (b *busy) hold(ctx context.Context, names ...string) (func(), error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var got []string
	free := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, name := range got {
			close(b.held[name])
			delete(b.held, name)
		}
	}
	for _, name := range names {
		for {
			b.mu.Lock()
			wait, taken := b.held[name]
			if !taken {
				b.held[name] = make(chan struct{})
				got = append(got, name)
			}
			b.mu.Unlock()
			if !taken {
				break
			}
			select {
			case <-wait:
			case <-ctx.Done():
				free()
				// The one who was waited for may do just what was asked for here.
				return nil, sdk.Errorf(sdk.UnknownOutcome, "the call ended while another one worked on the same reference: %v", context.Cause(ctx))
			}
		}
	}
	return free, nil
}
