package purchases

import (
	"context"
	"slices"
	"sync"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// turns makes those who work on the same key take turns. Others do not wait for them: a
// provider may take a minute for each.
type turns struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when it is free
}

// Hold waits until no other call works on these keys, and gives what frees them. They are taken
// in one order, so that two who want the same ones do not wait for each other. Its error says
// that the caller left; the one who was waited for may do just what was asked for here.
func (r *Record) Hold(ctx context.Context, keys ...string) (free func(), err error) {
	return r.turns.hold(ctx, slices.Compact(slices.Sorted(slices.Values(keys))))
}

func (t *turns) hold(ctx context.Context, keys []string) (func(), error) {
	for i, key := range keys {
		for wait := t.try(key); wait != nil; wait = t.try(key) {
			select {
			case <-wait:
			case <-ctx.Done():
				t.free(keys[:i])
				return nil, sdk.Errorf(sdk.UnknownOutcome, "the call ended while another one worked on the same reference: %v", context.Cause(ctx))
			}
		}
	}
	return func() { t.free(keys) }, nil
}

// try takes a key, or gives what is closed when it is worth trying again.
func (t *turns) try(key string) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait, taken := t.held[key]; taken {
		return wait
	}
	if t.held == nil {
		t.held = map[string]chan struct{}{}
	}
	t.held[key] = make(chan struct{})
	return nil
}

func (t *turns) free(keys []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range keys {
		close(t.held[key])
		delete(t.held, key)
	}
}
