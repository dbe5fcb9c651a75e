package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/report"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

const (
	pluginAlone = "plugin alone"
	pluginKills = 3          // each of an agent that has just started
	pluginSpan  = 10_000_000 // serials of one load; more than it can use up

	opRate     = "rate"
	opShip     = "ship"
	opFinalise = "tax finalise"
)

var (
	pluginCalls   = []string{opRate, opShip, opFinalise}
	pluginClients = []int{1, 16}
)

// pluginsSection is what a call to a plugin costs through the agent, with HTTP, the site's
// number, the journal that keeps a label from being bought twice, its paper among the site's
// documents and its event, beside the same program called over go-plugin with none of that.
// Both sides have the plugin's own book, which syncs each label and each finalised document; a
// rate leaves nothing on either.
//
// A plugin that is killed is started again by the agent after a pause, 1 s on average at the
// first time and 2 s at the second, so that one that crashes at once does not take the machine.
// The other side starts it at once.
func pluginsSection() section {
	return section{Section: report.Section{Name: "plugins", Title: "calls to a carrier and a tax engine beside the agent, against the same programs over go-plugin alone",
		Arms: []string{ours, pluginAlone}}, measure: measurePlugins}
}

// pluginWay is one way to a carrier and a tax engine.
type pluginWay interface {
	// up starts them, and says what memory they take before anything is asked of them.
	up(ctx context.Context) ([]pluginMemory, error)
	// call asks for one thing; the same serial is the same thing.
	call(ctx context.Context, what string, serial int) error
	// settle waits until nothing is being done any more about a load of calls.
	settle(ctx context.Context, name string) error
	// anew has crashes of before not count.
	anew(ctx context.Context) error
	// running gives the carrier's process.
	running(ctx context.Context) (world.Child, error)
	// mend does what nobody else does about a carrier that is gone.
	mend(ctx context.Context) error
	close()
}

// pluginMemory is what one process takes.
type pluginMemory struct {
	what  string
	usage world.Usage
}

func measurePlugins(ctx context.Context, r *run) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	var way pluginWay = &throughAgent{run: r}
	if r.arm != ours {
		way = &alone{run: r}
	}
	defer way.close()
	taken, err := way.up(ctx)
	if err != nil {
		return err
	}
	for i, what := range pluginCalls {
		for j, clients := range pluginClients {
			first, name := (len(pluginClients)*i+j)*pluginSpan, fmt.Sprintf("%s, %s", what, callers{clients, 1})
			answered, took, err := load.For(ctx, clients, r.lasts/2, func(ctx context.Context, number int) error {
				return way.call(ctx, what, first+number)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.note(name, "calls/s", float64(answered)/took.Seconds())
			if err := way.settle(ctx, name); err != nil {
				return err
			}
		}
	}
	if err := r.killedPlugins(ctx, way); err != nil {
		return err
	}
	for _, m := range taken {
		r.note("memory of "+m.what, "MB", megabytes(m.usage.RSS))
		r.note("of it, not pages of files, "+m.what, "MB", megabytes(m.usage.Anon))
	}
	return nil
}

// killedPlugins kills the carrier, and kills the one that comes instead as soon as that answers.
func (r *run) killedPlugins(ctx context.Context, way pluginWay) error {
	var first, second []time.Duration
	for range pluginKills {
		if err := way.anew(ctx); err != nil {
			return err
		}
		for _, list := range []*[]time.Duration{&first, &second} {
			child, err := way.running(ctx)
			if err != nil {
				return err
			}
			begun := time.Now()
			if err := errors.Join(child.Kill(ctx), way.mend(ctx)); err != nil {
				return err
			}
			err = world.Await(ctx, "the carrier answers again", nil, func(ctx context.Context) error { return way.call(ctx, opRate, 0) })
			if err != nil {
				return err
			}
			*list = append(*list, time.Since(begun))
		}
	}
	r.note("killed, until a call is answered", "ms", millis(load.Quantile(first, 0.5)))
	r.note("killed again at once, until a call is answered", "ms", millis(load.Quantile(second, 0.5)))
	return nil
}
