package store

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane/state"
)

// gatedSink is where a snapshot goes, as slowly as the test wants.
type gatedSink struct {
	bytes.Buffer
	reached chan struct{} // closed by the first write
	gate    chan struct{} // writes wait for its end
	once    sync.Once
}

func (g *gatedSink) Write(b []byte) (int, error) {
	g.once.Do(func() { close(g.reached) })
	<-g.gate
	return g.Buffer.Write(b)
}

func (*gatedSink) ID() string    { return "" }
func (*gatedSink) Close() error  { return nil }
func (*gatedSink) Cancel() error { return nil }

// Commands are applied while a snapshot is written, however long that takes, and it holds
// the moment at which it was begun.
func TestSnapshotStallsNothing(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	join(s, "eu", "ho")
	hash, index := s.StateHash(), s.AppliedIndex()
	snap, err := fsm{s.Store}.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	sink := &gatedSink{reached: make(chan struct{}), gate: make(chan struct{})}
	persisted := make(chan error, 1)
	go func() { persisted <- snap.Persist(sink) }()
	<-sink.reached
	for i := range 200 {
		s.must(tokenOf("t" + strconv.Itoa(i)))
	}
	select {
	case err := <-persisted:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	close(sink.gate)
	if err := <-persisted; err != nil {
		t.Fatal(err)
	}
	snap.Release()
	m, err := state.Open(state.Config{Dir: t.TempDir(), MaxSize: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Restore(&sink.Buffer); err != nil {
		t.Fatal(err)
	}
	if m.StateHash() != hash || m.AppliedIndex() != index {
		t.Errorf("the snapshot is of entry %d, begun at %d", m.AppliedIndex(), index)
	}
}

// behindBytes is how far the follower is behind in TestFarBehindUnderLoad, in MiB.
const behindBytes = "CROSSDOCK_STORE_BEHIND"

// A node that was away for longer than the log is kept comes back by a snapshot, while the
// cluster takes load.
func TestFarBehindUnderLoad(t *testing.T) {
	mib := 2
	if text := os.Getenv(behindBytes); text != "" {
		var err error
		if mib, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	c := newCluster(t, func(cfg *Config) {
		cfg.State.MaxSize, cfg.TrailingBytes = 8<<30, 1
	})
	join(c.leader(), "a1", "a2")
	away := c.followers()[0].cfg.NodeID
	last := c.up[away].Status().LastIndex
	c.kill(away)
	c.fill("a2", int64(mib)<<20)
	for _, r := range c.up { // either may lead when the node comes back
		r.snapshot(r.node.Load(), 0)
		if first, err := r.node.Load().log.FirstIndex(); err != nil || first <= last+1 {
			t.Fatalf("the log still begins with %d (%v)", first, err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	one := &sender{c: c, name: "a1", tally: &tally{}}
	group.Go(func() { one.run(ctx, 0) })
	c.start(away)
	before := one.acked.Load()
	c.awaitReady(away)
	c.until("load goes on", func() bool { return one.acked.Load() > before })
	stop()
	group.Wait()
	c.agree()
	first, err := c.up[away].node.Load().log.FirstIndex()
	if err != nil || first <= last+1 {
		t.Errorf("its log begins with %d, it ended with %d: no snapshot came (%v)", first, last, err)
	}
	checkLane(t, c.up[away], "a1", one.acked.Load())
}

// fill puts so many bytes into the state.
func (c *cluster) fill(agent string, size int64) {
	c.Helper()
	first, body := uint64(1), 100_000
	for done := int64(0); done < size; done += eventsOfPush * int64(body) {
		push := pushOf(c.T, agent, first, body)
		c.until("a push is taken", func() bool { // a repeat is harmless, and a slow leader may lose its place
			_, err := c.leader().Apply(c.Context(), push)
			return err == nil
		})
		first += eventsOfPush
	}
}

// The sizes of the log are those of a list of all entries, but for a mark.
func TestSizes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		index uint64
		size  int64
	}
	var list []entry
	var z sizes
	next := uint64(1)
	const biggest = 400_000
	for range 20_000 {
		switch n := rnd.IntN(1000); {
		case n < 990 || len(list) < 3:
			size := rnd.IntN(biggest)
			list = append(list, entry{next, int64(size) + entryOverhead})
			z.add(next, size)
			next++
		case n < 995: // a snapshot lets go of the head
			cut := rnd.IntN(len(list) - 1)
			z.remove(list[0].index, list[cut].index)
			list = list[cut+1:]
		case n < 999: // a new leader's entries take the place of the tail
			cut := len(list) - 1 - rnd.IntN(min(3, len(list)))
			z.remove(list[cut].index, list[len(list)-1].index)
			next, list = list[cut].index, list[:cut]
		default: // a snapshot came
			z.remove(list[0].index, list[len(list)-1].index)
			list, next = nil, next+uint64(rnd.IntN(1000))
		}
		if len(list) == 0 {
			continue
		}
		from := rnd.IntN(len(list))
		var want int64
		for _, e := range list[from+1:] {
			want += e.size
		}
		if got := z.since(list[from].index); got < want-4*markBytes || got > want+2*markBytes {
			t.Fatalf("%d bytes since entry %d, want %d", got, list[from].index, want)
		}
		limit := int64(rnd.IntN(200)) << 20
		keep := int(z.trailing(limit))
		want = 0
		for _, e := range list[max(len(list)-keep, 0):] {
			want += e.size
		}
		if want > limit+4*markBytes {
			t.Fatalf("%d entries kept have %d bytes, the limit is %d", keep, want, limit)
		}
		var all int64
		for _, e := range list {
			all += e.size
		}
		if want < min(all, limit)-4*markBytes {
			t.Fatalf("%d entries kept have %d bytes of %d, the limit is %d", keep, want, all, limit)
		}
	}
}

// The log is kept by bytes behind a snapshot, so that a node that was away for a moment
// needs none.
func TestTrailingLog(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.SnapshotCheck, cfg.TrailingBytes = time.Hour, 3<<20
	s := open(t, cfg)
	begin(s)
	join(s, "a2", "ho")
	first := uint64(1)
	for range 30 {
		s.must(pushOf(t, "a2", first, 100_000))
		first += eventsOfPush
	}
	n := s.node.Load()
	s.snapshot(n, 0)
	begins, err := n.log.FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	kept := n.log.sizes.since(begins - 1)
	if kept > cfg.TrailingBytes+2*markBytes || kept < cfg.TrailingBytes-2*markBytes || begins == 1 {
		t.Errorf("the log begins with %d and has %d bytes", begins, kept)
	}
}
