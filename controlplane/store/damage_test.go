package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// memorySink takes a snapshot.
type memorySink struct {
	bytes.Buffer
	cancelled bool
}

func (*memorySink) ID() string   { return "" }
func (*memorySink) Close() error { return nil }
func (m *memorySink) Cancel() error {
	m.cancelled = true
	return nil
}

// rot turns a bit of every block that a stopped node holds.
func rot(t *testing.T, dir string) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "state.db"), 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("blocks"))
		held := map[string][]byte{}
		if err := b.ForEach(func(k, v []byte) error { held[string(k)] = bytes.Clone(v); return nil }); err != nil {
			return err
		}
		for k, v := range held {
			v[len(v)-1] ^= 1
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// spoiled is a cluster with mail, and a follower whose copy of it is damaged.
func spoiled(t *testing.T) (*cluster, *running) {
	c := newCluster(t, nil)
	join(c.leader(), "a1")
	c.leader().must(pushOf(t, "a1", 1, 100))
	c.agree()
	id := c.followers()[0].cfg.NodeID
	c.kill(id)
	rot(t, c.dirs[id])
	r := c.start(id)
	c.awaitReady(id)
	return c, r
}

func (c *cluster) stopsForGood(r *running) {
	c.Helper()
	id := r.cfg.NodeID
	c.until("the node stops", func() bool { return r.failed() != nil })
	if err := r.stop(); err == nil || !strings.Contains(err.Error(), "join again") {
		c.Errorf("it ended with %v", err)
	}
	delete(c.up, id)
	if _, err := c.tryStart(id); err == nil || !strings.Contains(err.Error(), "empty directory") {
		c.Errorf("it starts again: %v", err)
	}
	c.leader().must(tokenOf("goes-on"))
	c.agree()
}

// A node that cannot read what others have stops, and does not start again.
func TestSpoiledNodeStops(t *testing.T) {
	c, r := spoiled(t)
	mail := r.Mail("ho", 0, 1<<20)
	if len(mail) != 1 || mail[0].Damaged == "" {
		t.Fatalf("mail %+v", mail)
	}
	if err := r.Spoiled(mail[0].Damaged); model.CodeOf(err) != model.Unavailable || !strings.Contains(err.Error(), "remove it from the cluster") {
		t.Errorf("it says %v", err)
	}
	c.stopsForGood(r)
}

// What is damaged is not handed on with a snapshot.
func TestSpoiledNodeGivesNoSnapshot(t *testing.T) {
	c, r := spoiled(t)
	snap, err := fsm{r.Store}.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var sink memorySink
	err = snap.Persist(&sink)
	snap.Release()
	if err == nil || sink.Len() > 0 || !sink.cancelled {
		t.Errorf("%d bytes of a snapshot, cancelled %v, %v", sink.Len(), sink.cancelled, err)
	}
	c.stopsForGood(r)
}

// A snapshot that another node's overtook is given up, and the node goes on.
func TestOvertakenSnapshotIsNoDamage(t *testing.T) {
	c := newCluster(t, nil)
	f := c.followers()[0]
	beside, err := state.Open(state.Config{Dir: t.TempDir()}) // the node's own has to keep what it applies
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	if _, err := beside.Apply([]state.Entry{{Index: 1, Term: 1, Empty: true}}); err != nil {
		t.Fatal(err)
	}
	of := func() *state.Snapshot {
		s, err := beside.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Release)
		return s
	}
	var text bytes.Buffer
	if _, err := of().WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	snap := snapshot{of(), f.Store}
	if err := beside.Restore(&text); err != nil {
		t.Fatal(err)
	}
	var sink memorySink
	if err := snap.Persist(&sink); !errors.Is(err, state.ErrReplaced) || !sink.cancelled {
		t.Errorf("cancelled %v, %v", sink.cancelled, err)
	}
	if err := f.failed(); err != nil {
		t.Errorf("the node says %v", err)
	}
	c.leader().must(tokenOf("goes-on"))
	c.agree()
}

// A node that is alone has nobody to ask: it goes on, and so does one that is recovered
// after it had stopped.
func TestSpoiledAndAlone(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.NodeID = rebuildConfig(dir).NodeID
	s := open(t, cfg)
	if err := (&Store{cfg: s.cfg}).Spoiled("x"); model.CodeOf(err) != model.Unavailable {
		t.Errorf("before it knows who is there: %v", err)
	}
	begin(s)
	join(s, "a1", "ho")
	s.must(pushOf(t, "a1", 1, 100))
	s.end()
	rot(t, dir)
	s = open(t, cfg)
	if err := s.Spoiled("mail"); err != nil {
		t.Errorf("alone: %v", err)
	}
	snap, err := fsm{s.Store}.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := snap.Persist(&memorySink{}); err != nil {
		t.Errorf("no snapshot of what there is: %v", err)
	}
	snap.Release()
	s.end()

	if err := os.WriteFile(filepath.Join(dir, damagedName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil {
		t.Error("it starts beside others")
	}
	if _, err := Rebuild(rebuildConfig(dir)); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	if mail := s.Mail("ho", 0, 1<<20); len(mail) != 1 || mail[0].Damaged == "" {
		t.Errorf("mail %+v", mail)
	}
}
