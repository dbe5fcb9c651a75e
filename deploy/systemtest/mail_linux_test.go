package systemtest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/block"
)

// relayed is a block that waits at a node, and the numbers that it has on a lane.
type relayed struct {
	text        []byte
	first, last uint64
}

// relays lists what a stopped node holds of a lane, in its order.
func (n *node) relays(source, destination string) (out []relayed) {
	n.c.t.Helper()
	db, err := bolt.Open(filepath.Join(n.data, "state.db"), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("blocks")).ForEach(func(_, text []byte) error {
			e, err := block.ParseEnvelope(text)
			if err != nil {
				return err
			}
			if lane, ok := e.Lane(destination); ok && e.Origin.Agent == source {
				out = append(out, relayed{bytes.Clone(text), lane.First, e.Last(lane.First)})
			}
			return nil
		})
	})
	if err != nil {
		n.c.t.Fatal(err)
	}
	slices.SortFunc(out, func(a, b relayed) int { return cmp.Compare(a.first, b.first) })
	return out
}

// rot turns one bit of a block in a stopped node's file, wherever the file has it.
func (n *node) rot(b relayed, r *rand.Rand) {
	n.c.t.Helper()
	path := filepath.Join(n.data, "state.db")
	file, err := os.ReadFile(path)
	if err != nil {
		n.c.t.Fatal(err)
	}
	bit, found := r.IntN(len(b.text)*8), 0
	for at := 0; ; found++ {
		i := bytes.Index(file[at:], b.text)
		if i < 0 {
			break
		}
		file[at+i+bit/8] ^= 1 << (bit % 8)
		at += i + len(b.text)
	}
	if found == 0 {
		n.c.t.Fatalf("%s holds no block of %d bytes", path, len(b.text))
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		n.c.t.Fatal(err)
	}
}

// rounds is how many orders each of the two sites of a mailWorld has sent, each in a block
// of its own.
const rounds = 6

// mailWorld has orders of two sites wait for a third, in several blocks each.
func mailWorld(t *testing.T, nodes int, prepare func(*world)) (*world, *cluster, *rand.Rand) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	c := startCluster(t, nodes, clusterOptions{})
	w := worldOn(t, c.plane, []string{"eu", "hq", "na"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "hq")}
	})
	if prepare != nil {
		prepare(w)
	}
	w.sites["eu"].start()
	w.sites["na"].start()
	for i := range rounds {
		for _, name := range []string{"eu", "na"} {
			id := fmt.Sprint(name, "-", i)
			if err := w.shops[name].sell(t.Context(), newOrder(id, fmt.Sprint("k", i%3), i, noise(r, 24<<10))); err != nil {
				t.Fatal(err)
			}
		}
		w.sites["eu"].awaitSent()
		w.sites["na"].awaitSent()
	}
	return w, c, r
}

// stop ends a node in order.
func (n *node) stop() {
	n.c.t.Helper()
	n.c.set(n, false)
	n.run.signal(syscall.SIGTERM)
	if !comes(n.run.ended) {
		n.c.t.Fatalf("%s does not end", n.name)
	}
}

// spoil stops a node and damages the second block of a lane.
func (n *node) spoil(source, destination string, r *rand.Rand) relayed {
	n.c.t.Helper()
	n.stop()
	held := n.relays(source, destination)
	if len(held) < 3 {
		n.c.t.Fatalf("%s holds %d blocks from %s to %s", n.name, len(held), source, destination)
	}
	b := held[1]
	n.c.t.Logf("damaged: events %d to %d from %s", b.first, b.last, source)
	n.rot(b, r)
	return b
}

// TestDamagedMailIsSentAgain damages a block that waits at the only node: its source still
// has what was in it.
func TestDamagedMailIsSentAgain(t *testing.T) {
	w, c, r := mailWorld(t, 1, nil)
	n := c.nodes[0]
	b := n.spoil("eu", "hq", r)
	n.start()
	n.awaitReady()
	w.sites["hq"].start()
	w.awaitTaken("erp", 2*rounds)
	w.plane.awaitException("hq", "lost-mail", fmt.Sprintf("Events %d to %d from eu to hq", b.first, b.last), "sent again")
	w.plane.awaitAudited("mail.lost", "hq")
	w.settle(0)
}

var notSent = regexp.MustCompile(`events (\d+) to (\d+) from na to hq were not sent: no longer held`)

// namedLost notes the orders of na that exceptions name as lost. All its orders go to hq
// and to no other, so the numbers on that lane count them in the order of acceptance.
func (w *world) namedLost() (n int) {
	w.t.Helper()
	var orders []history.Line
	for _, l := range w.h.Lines() {
		if l.Kind == history.Accepted && l.Agent == "na" {
			orders = append(orders, l)
		}
	}
	slices.SortFunc(orders, func(a, b history.Line) int { return cmp.Compare(a.Position, b.Position) })
	for _, e := range w.plane.exceptions() {
		m := notSent.FindStringSubmatch(e.Text)
		if m == nil {
			continue
		}
		first, _ := strconv.Atoi(m[1])
		last, _ := strconv.Atoi(m[2])
		for _, l := range orders[first-1 : last] {
			w.h.Add(history.Line{Kind: history.Lost, System: "erp", Source: l.Source, ID: l.ID, Key: l.Key})
			n++
		}
	}
	return n
}

// TestDamagedMailThatNobodyHolds damages a block whose source has let go of its history:
// what was in it is lost and named, and all that waited behind it arrives.
func TestDamagedMailThatNobodyHolds(t *testing.T) {
	w, c, r := mailWorld(t, 1, func(w *world) {
		w.sites["na"].cfg.Journal.Segment, w.sites["na"].cfg.Journal.Retain = 64<<10, time.Nanosecond
	})
	na := w.sites["na"]
	n := c.nodes[0]
	b := n.spoil("na", "hq", r)
	until(t, "na has let go of it", func() string {
		h := &history.History{}
		na.journal(h)
		if held := len(h.Lines()); rounds-held < int(b.last) {
			return fmt.Sprintf("it holds %d orders", held)
		}
		return ""
	})
	n.start()
	n.awaitReady()
	w.sites["hq"].start()
	w.plane.awaitException("na", "gap", "no longer held")
	w.awaitTaken("erp", 2*rounds-int(b.last-b.first+1))
	if lost := w.namedLost(); lost != int(b.last-b.first+1) {
		t.Errorf("%d orders are named as lost, %d were damaged", lost, b.last-b.first+1)
	}
	w.settle(0)
}

// TestDamagedFollower damages a block at one of three nodes, and has the destination come to
// that one. The others have the block whole: the node ends and is set up anew, and nothing
// is lost or sent again.
func TestDamagedFollower(t *testing.T) {
	w, c, r := mailWorld(t, 3, nil)
	n := c.follower(r)
	n.spoil("eu", "hq", r)
	n.start()
	n.awaitReady()
	hq := w.sites["hq"]
	hq.cfg.ControlPlane.Addresses = []string{n.sync} // it is told of the others there
	hq.start()
	if !comes(n.run.ended) {
		t.Fatalf("%s goes on with data that it cannot read", n.name)
	}
	c.set(n, false)
	w.awaitTaken("erp", 2*rounds)
	for _, e := range w.plane.exceptions() {
		if e.Kind == "lost-mail" || e.Kind == "gap" {
			t.Errorf("the disk of one node decides for all: %+v", e)
		}
	}
	n.start()
	if !comes(n.run.ended) {
		t.Fatalf("%s starts again as it is", n.name)
	}
	if log := read(t, n.log); strings.Count(log, "join it again with an empty directory") == 0 {
		t.Error("it does not say what to do")
	}

	n.wipe()
	if _, err := c.nodesBut(n)[0].crossdock("", "cluster", "remove", n.name); err != nil {
		t.Fatal(err)
	}
	n.rejoin()
	w.shops["eu"].sellAll(t, "after", 2, 5)
	w.settle(0)
	w.plane.awaitEqual()
}
