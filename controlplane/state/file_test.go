package state

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// fill gives the machine so much mail that its file has to grow.
func fill(f *fixture, next *uint64, blocks int) {
	f.Helper()
	for range blocks {
		text := cut(f, "eu", 1, []block.Lane{{Agent: "ho", First: *next}}, plain(8, 30<<10)...)
		if a := answerFor(f, f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}}), "ho"); a.Full {
			f.Fatal("the mailbox is full")
		}
		*next += 8
	}
}

// A snapshot under way is a long read. Were the file not mapped whole from the start, the
// first write that needs more than is mapped would wait for it for ever.
func TestSnapshotUnderWayDoesNotHoldBackWrites(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	before := f.Size()
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	want := f.dump()
	next := uint64(1)
	fill(f, &next, 200)
	if f.Size() < before+(32<<20) {
		t.Fatalf("the file grew from %d to %d bytes only", before, f.Size())
	}
	// What it gives is the state as it was when it was taken.
	reader, writer := io.Pipe()
	go func() {
		_, err := s.WriteTo(writer)
		writer.CloseWithError(err)
	}()
	to := openMachine(t)
	if err := to.Restore(reader); err != nil {
		t.Fatal(err)
	}
	if to.dump() != want {
		t.Error("the snapshot holds what came after it")
	}
}

// counting notes the largest piece that was asked to be written.
type counting struct {
	total, largest int
}

func (c *counting) Write(p []byte) (int, error) {
	c.total += len(p)
	c.largest = max(c.largest, len(p))
	return len(p), nil
}

func TestSnapshotStreams(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu", "ho")
	next := uint64(1)
	fill(f, &next, 120)
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Release()
	var c counting
	if n, err := s.WriteTo(&c); err != nil || n != int64(c.total) || n < 20<<20 {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	if c.largest > 1<<20 {
		t.Errorf("it holds %d bytes at once", c.largest)
	}
}

func TestFull(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.MaxSize = 64 << 20
	m, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{TB: t, Machine: m, dir: dir, now: start}
	t.Cleanup(func() { f.Close() })
	f.begin(model.ApprovalsDual, model.Limits{MailboxBytes: 1 << 40, RelayBytes: 1 << 40})
	f.join("eu", "ho", "na", "la")
	if f.Full() || f.MaxSize() != 64<<20 {
		t.Fatalf("full at %d of %d bytes", f.Size(), f.MaxSize())
	}
	// Three mailboxes with mail of different sizes, which come and go: what is free in the
	// file is then in pieces, and has to do for the next all the same.
	rnd := rand.New(rand.NewPCG(1, 1))
	boxes, next := []string{"ho", "na", "la"}, map[string]uint64{"ho": 1, "na": 1, "la": 1}
	for round := range 20 {
		for !f.Full() {
			to, size := boxes[rnd.IntN(3)], 1+rnd.IntN(40<<10)
			text := cut(t, "eu", 1, []block.Lane{{Agent: to, First: next[to]}}, plain(8, size)...)
			f.must(&model.Push{At: f.now, Agent: "eu", Epoch: 1, Blocks: [][]byte{text}})
			next[to] += 8
		}
		if round == 0 && f.Size() < f.MaxSize()*3/4 {
			t.Errorf("full at %d of %d bytes", f.Size(), f.MaxSize())
		}
		// What empties it passes, a little at a time.
		for i := 0; f.Full() || i < 30; i++ {
			to := boxes[rnd.IntN(3)]
			box := f.Mailbox(to)
			f.must(&model.Ack{At: f.now, Agent: to, Mailbox: min(box.First+uint64(rnd.IntN(3)), box.Next-1)})
		}
	}
}
