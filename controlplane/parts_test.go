package controlplane

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestPartsStopInReverseEachBeforeTheNext(t *testing.T) {
	var ended []string // written by one part at a time, which is what is tested
	p := newParts()
	for _, name := range []string{"store", "sync", "api"} {
		p.start(name, func(ctx context.Context) error {
			<-ctx.Done()
			ended = append(ended, name)
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"api", "sync", "store"}; !slices.Equal(ended, want) {
		t.Errorf("ended = %v, want %v", ended, want)
	}
}

func TestThePartThatEndsGivesTheCause(t *testing.T) {
	broken := errors.New("no space left on device")
	for name, run := range map[string]func(context.Context) error{
		"store: no space left on device": func(context.Context) error { return broken },
		"store: ended by itself":         func(context.Context) error { return nil },
	} {
		p := newParts()
		p.start("api", func(ctx context.Context) error { <-ctx.Done(); return errors.New("cut") })
		p.start("store", run)
		err := p.wait(context.Background())
		if err == nil || err.Error() != name {
			t.Errorf("wait = %v, want %s", err, name)
		}
		if err := p.stop(); err == nil || !strings.Contains(err.Error(), "api: cut") {
			t.Errorf("stop = %v", err)
		}
	}
}
