package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// events is a list that many goroutines write.
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) add(text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, text)
}

func (e *events) part(name string) part {
	return part{name, func(ctx context.Context) error {
		<-ctx.Done()
		e.add(name + " told")
		time.Sleep(5 * time.Millisecond) // time for a neighbour to be told too early
		e.add(name + " ended")
		return ctx.Err()
	}}
}

var inOrder = []string{"door told", "door ended", "line told", "line ended", "store told", "store ended"}

func TestPartsEndInOrder(t *testing.T) {
	var seen events
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if err := runParts(ctx, []part{seen.part("door"), seen.part("line"), seen.part("store")}); err != nil {
		t.Errorf("an ordered end gave %v", err)
	}
	if !slices.Equal(seen.list, inOrder) {
		t.Errorf("got %v, want %v", seen.list, inOrder)
	}
}

func TestPartThatFailsEndsTheOthersInOrder(t *testing.T) {
	broken := errors.New("no disk")
	var seen events
	err := runParts(t.Context(), []part{seen.part("door"), seen.part("line"),
		{"broken", func(context.Context) error { return broken }}, seen.part("store")})
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "broken: ") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(seen.list, inOrder) {
		t.Errorf("got %v, want %v", seen.list, inOrder)
	}
}

func TestPartThatStopsWorkingIsAFailure(t *testing.T) {
	var seen events
	err := runParts(t.Context(), []part{seen.part("door"), {"lazy", func(context.Context) error { return nil }}})
	if err == nil || !strings.Contains(err.Error(), "lazy: ended by itself") {
		t.Errorf("got %v", err)
	}
}
