package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// history fills a machine with a bit of everything.
func history(f *fixture, seed uint64) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	f.begin(model.ApprovalsDual, model.Limits{MailboxBytes: 5000, Exceptions: 5, DeadLetters: 4})
	f.join("eu", "na", "ho")
	f.activate("eu", "na", "ho", "later")
	agents := []string{"eu", "na", "ho"}
	for i := range 120 {
		agent := agents[rnd.IntN(3)]
		a, _ := f.Agent(agent)
		next := map[string]uint64{}
		for _, l := range f.Lanes(agent, a.Epoch) {
			next[l.Destination] = l.Highwater
		}
		dest := []string{"ho", "later", "nowhere"}[rnd.IntN(3)]
		switch rnd.IntN(12) {
		case 0, 1, 2:
			to := []block.Lane{{Agent: dest, First: next[dest] + uint64(1+rnd.IntN(2)*rnd.IntN(2))}, {Agent: "na", First: next["na"] + 1}}
			f.do(&model.Push{At: f.now, Agent: agent, Epoch: a.Epoch, Blocks: [][]byte{cut(f, agent, a.Epoch, to, plain(3, 100+rnd.IntN(300))...)}})
		case 3:
			f.do(&model.Ack{At: f.now, Agent: agent, Mailbox: f.Mailbox(agent).First + uint64(rnd.IntN(3)), Status: []byte(`{"accepted":1}`)})
		case 4:
			id := fmt.Sprintf("%s/%d/erp", agent, rnd.IntN(4))
			f.report(agent, factBody(f, model.Fact{DeadLetter: &model.DeadLetter{ID: id, System: "erp", Key: "k", Attempts: i,
				State: []model.DeadLetterState{"open", "delivered", "discarded"}[rnd.IntN(3)]}}), []byte("rubbish"))
		case 5:
			letters, _ := f.DeadLetters(model.DeadLetterFilter{})
			if len(letters) > 0 {
				f.do(&model.Resolve{Asked: model.Asked{By: "root", At: f.now, RequestID: fmt.Sprint(i / 2)}, DeadLetter: letters[0].ID, Replay: true})
			}
		case 6:
			f.do(&model.Push{At: f.now, Agent: agent, Epoch: a.Epoch, Gaps: []model.Gap{{Destination: dest, First: next[dest] + 1, Last: next[dest] + 2, Cause: "x"}}})
		default:
			recoveries(f, rnd, agent, a.Epoch)
		}
		f.now = f.now.Add(time.Minute)
	}
	numbersOf(f, agents)
	f.join("eu")
}

// numbersOf has agents lease numbers, and say what they hold.
func numbersOf(f *fixture, agents []string) {
	p := f.proposal(testRange("a", "1", 1, 40, "eu", "na", "ho"), testRange("b", "2", 1, 9, "na"))
	if r, ok := f.do(p).Value.(*model.Revision); ok {
		f.do(&model.Approve{Asked: f.by("second"), Number: r.ID.Number, Digest: r.Digest})
	}
	for i := range 12 {
		agent := agents[i%3]
		f.do(f.leaseOf(agent, "a", i/2, uint64(i)))
		f.do(f.leaseOf(agent, "b", i, 0))
		a, _ := f.Agent(agent)
		f.do(&model.Greet{At: f.now, Agent: agent, Epoch: a.Epoch, Session: a.Session + 1, Nonce: request(i), Told: true, Numbers: []model.NumberMark{{Range: "b", Highest: 3}}})
	}
	f.do(&model.ReleaseRange{Asked: f.by("root"), Range: "a", Next: 30})
	f.do(f.leaseOf("eu", "a", 99, 0))
}

// recoveries adds what only happens when something went wrong.
func recoveries(f *fixture, rnd *rand.Rand, agent string, epoch uint64) {
	n := [16]byte{byte(rnd.IntN(40) + 1)}
	switch rnd.IntN(12) {
	case 0, 1:
		f.do(&model.Greet{At: f.now, Agent: agent, Epoch: epoch - uint64(rnd.IntN(2)), Session: uint64(rnd.IntN(9)), Nonce: n, Node: "n1"})
	case 2:
		f.do(&model.NewEpoch{At: f.now, Agent: agent, Epoch: epoch, Nonce: n, Why: "image"})
	case 3, 4:
		var holds []model.Lane
		for _, l := range f.InboundLanes(agent) {
			holds = append(holds, model.Lane{Source: l.Source, Epoch: l.Epoch, Highwater: l.Acked - min(l.Acked, uint64(rnd.IntN(4)))})
		}
		f.do(&model.Behind{At: f.now, Agent: agent, Epoch: epoch, Inbound: holds})
	case 5:
		f.do(&model.LoseMail{At: f.now, Agent: agent, Position: f.Mailbox(agent).First + uint64(rnd.IntN(3)), Node: "n1", Why: "crc"})
	case 6:
		f.do(&model.Renew{At: f.now, Agent: agent, Key: hashOf(agent), Serial: "s", Expired: true, Recoveries: uint64(rnd.IntN(3)), Request: hashOf(string(n[:]))})
	case 7:
		f.apply(&model.Beacon{At: f.now, Voters: []string{"n1"}}, &model.BeaconReport{Node: "n1", Index: uint64(len(f.log))})
	case 8:
		f.do(&model.Rebuild{At: f.now, Incarnation: fmt.Sprint("life", rnd.IntN(3)), Rebuilt: model.Rebuilt{Node: "n1", From: f.now}})
	case 9:
		f.do(&model.RaiseGeneration{At: f.now, Above: uint64(rnd.IntN(6)), Agent: agent})
	case 10:
		f.do(&model.PutNode{At: f.now, Node: model.Node{ID: fmt.Sprint("n", rnd.IntN(3)), Peer: fmt.Sprint("h:", rnd.IntN(3))}, Known: rnd.IntN(2) == 0})
	case 11:
		node := fmt.Sprint("n", rnd.IntN(3))
		f.do(&model.RemoveNode{Asked: f.by("root"), Node: node})
		if rnd.IntN(2) == 0 {
			f.do(&model.ForgetNode{At: f.now, Node: node, By: "n1"})
		}
	}
}

// The same entries give the same rows, however they come in batches, and over a restart.
func TestSameEntriesSameRows(t *testing.T) {
	for seed := range uint64(8) {
		first, second := openMachine(t), openMachine(t)
		history(first, seed)
		rnd := rand.New(rand.NewPCG(seed, 2))
		for rest := first.log; len(rest) > 0; {
			n := min(1+rnd.IntN(40), len(rest))
			if _, err := second.Apply(rest[:n]); err != nil {
				t.Fatal(err)
			}
			if rest = rest[n:]; rnd.IntN(4) == 0 {
				second.reopen()
			}
		}
		if got, want := second.dump(), first.dump(); got != want {
			t.Fatalf("seed %d: the rows differ:\n%s\nwant\n%s", seed, got, want)
		}
		if first.StateHash() != second.StateHash() || first.StateHash() == [32]byte{} {
			t.Errorf("seed %d: hashes %x and %x", seed, first.StateHash(), second.StateHash())
		}
		if err := second.VerifyAudit(); err != nil {
			t.Error(err)
		}
	}
}

func TestEntriesAreAppliedOnce(t *testing.T) {
	f := openMachine(t)
	history(f, 7)
	f.reopen()
	before := f.dump()
	for _, part := range [][]Entry{f.log, f.log[len(f.log)-1:], f.log[:1]} {
		out, err := f.Apply(part)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range out.Results {
			if r != nil {
				t.Fatalf("entry %d was applied again: %+v", part[i].Index, r)
			}
		}
	}
	if f.dump() != before {
		t.Error("entries that had been applied changed rows")
	}
}

func TestHashCoversEveryField(t *testing.T) {
	base := Entry{Index: 1, Term: 2, Type: 3, Data: []byte("x")}
	seen := map[[32]byte]bool{chain([32]byte{}, base, nil): true, chain([32]byte{1}, base, nil): true, chain([32]byte{}, base, []byte("w")): true}
	for _, e := range []Entry{{Index: 2, Term: 2, Type: 3, Data: base.Data}, {Index: 1, Term: 1, Type: 3, Data: base.Data},
		{Index: 1, Term: 2, Type: 4, Data: base.Data}, {Index: 1, Term: 2, Type: 3, Data: []byte("y")}, {Index: 1, Term: 2, Type: 3, Data: []byte("xw")}} {
		seen[chain([32]byte{}, e, nil)] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d different hashes of 8 entries", len(seen))
	}
}

func TestWhatCannotBeAppliedEndsTheMachine(t *testing.T) {
	good := encode(t, &model.Ack{Agent: "x"})
	damaged := slices.Clone(good)
	damaged[len(damaged)-1] ^= 1
	unknown := slices.Clone(good)
	unknown[1] = 200
	newer := slices.Clone(good)
	newer[2] = version + 1
	for name, data := range map[string][]byte{"unknown kind": unknown, "newer version": newer, "damaged": damaged, "cut short": good[:len(good)-2], "no frame": {0xff}} {
		t.Run(name, func(t *testing.T) {
			f := openMachine(t)
			f.begin(model.ApprovalsDual, model.Limits{})
			before := f.dump()
			fine := Entry{Index: 2, Term: 1, Data: encode(t, &model.CreateJoinToken{Asked: f.by("root"),
				Token: model.JoinToken{ID: "a", Site: "a", Hash: hashOf("a"), Expires: f.now.Add(time.Hour)}})}
			if _, err := f.Apply([]Entry{fine, {Index: 3, Term: 1, Data: data}}); !errors.Is(err, ErrFatal) {
				t.Fatalf("got %v, want ErrFatal", err)
			}
			if f.dump() != before {
				t.Error("a part of the batch was applied")
			}
			if _, err := f.Apply([]Entry{fine}); !errors.Is(err, ErrFatal) {
				t.Errorf("it went on afterwards: %v", err)
			}
		})
	}
}

func TestDamagedRowIsNoticed(t *testing.T) {
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.join("eu")
	err := f.db.Update(func(tx *bolt.Tx) error {
		row := bytes.Clone(tx.Bucket(tableAgents).Get([]byte("eu")))
		row[bytes.Index(row, []byte("eu"))] ^= 4 // still a row, of another name
		return tx.Bucket(tableAgents).Put([]byte("eu"), row)
	})
	if err != nil {
		t.Fatal(err)
	}
	var told error
	f.fatal = func(err error) { told = err }
	if _, ok := f.Agent("eu"); ok || !errors.Is(told, ErrFatal) {
		t.Errorf("read: found %t, told %v", ok, told)
	}
	e := Entry{Index: 99, Term: 1, Data: encode(t, &model.Ack{At: f.now, Agent: "eu"})}
	if _, err := f.Apply([]Entry{e}); !errors.Is(err, ErrFatal) {
		t.Errorf("apply: %v", err)
	}
}

func TestCommandsBeforeBootstrap(t *testing.T) {
	f := openMachine(t)
	f.refused(model.Unavailable, &model.Ack{Agent: "x"})
	f.refused(model.Invalid, &model.Bootstrap{Cluster: model.Cluster{ID: "c"}, Admin: model.Principal{Name: "a", Roles: []model.Role{model.Viewer}, TokenHash: hashOf("a")}})
	f.begin(model.ApprovalsSingle, model.Limits{})
	f.refused(model.Conflict, &model.Bootstrap{Cluster: model.Cluster{ID: "other"}})
	c, ok := f.Cluster()
	want := model.Limits{MailboxBytes: model.DefaultMailboxBytes, RelayBytes: model.DefaultRelayBytes, Exceptions: model.DefaultExceptions, DeadLetters: model.DefaultDeadLetters}
	if !ok || c.Generation != 1 || c.Approvals != model.ApprovalsSingle || c.Limits != want {
		t.Errorf("cluster %+v", c)
	}
}

func snapshotOf(f *fixture) []byte {
	f.Helper()
	s, err := f.Snapshot()
	if err != nil {
		f.Fatal(err)
	}
	defer s.Release()
	var b bytes.Buffer
	if n, err := s.WriteTo(&b); err != nil || n != int64(b.Len()) || n != s.Size() {
		f.Fatalf("wrote %d of %d bytes: %v", n, s.Size(), err)
	}
	return b.Bytes()
}

func TestSnapshotRoundTrip(t *testing.T) {
	from, to := openMachine(t), openMachine(t)
	history(from, 3)
	history(to, 4)
	text, want := snapshotOf(from), from.dump()
	from.principal("later") // not in it
	if err := to.Restore(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	if to.dump() != want {
		t.Error("the rows differ after the restore")
	}
	to.reopen()
	if to.dump() != want {
		t.Error("the rows differ after restore and restart")
	}
	if _, err := to.Apply(from.log); err != nil {
		t.Fatal(err)
	}
	if to.dump() != from.dump() {
		t.Error("the restored machine does not go on like the other")
	}
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	f := openMachine(t)
	history(f, 3)
	text := snapshotOf(f)
	f.principal("later")
	want := f.dump()
	damaged := [][]byte{nil, text[:10], text[:len(text)/2], text[:len(text)-1]}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		d := bytes.Clone(text)
		d[rnd.IntN(len(d))] ^= 1 << rnd.IntN(8)
		damaged = append(damaged, d)
	}
	// What is whole as it was sent, and is no state for all that.
	other := filepath.Join(t.TempDir(), "other")
	db, err := bolt.Open(other, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	empty, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	damaged = append(damaged, framed([]byte("nonsense")), framed(empty), framed(make([]byte, 1<<16)))
	for i, d := range damaged {
		if err := f.Restore(bytes.NewReader(d)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("damage %d: got %v, want ErrSnapshot", i, err)
		}
	}
	if f.dump() != want {
		t.Error("a refused snapshot changed the state")
	}
	if _, err := os.Stat(filepath.Join(f.dir, restoreName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left its file behind: %v", err)
	}
}

// framed makes a snapshot of anything.
func framed(body []byte) []byte {
	text := append(binary.BigEndian.AppendUint64(bytes.Clone(snapshotMagic[:]), uint64(len(body))), body...)
	sum := sha256.Sum256(text)
	return append(text, sum[:]...)
}

// Reads and snapshots go on beside Apply and Restore.
func TestReadersBesideRestore(t *testing.T) {
	f := openMachine(t)
	history(f, 3)
	text := snapshotOf(f)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if c, ok := f.Cluster(); !ok || c.ID != "test" {
				t.Error("the cluster was not there")
				return
			}
			f.Mail("ho", 0, 1000)
		}
	}()
	for range 5 {
		if err := f.Restore(bytes.NewReader(text)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
}

// TestRestoreWaitsForNoSnapshot: who holds a snapshot may itself wait for the restore, as Raft
// does between taking one and writing it.
func TestRestoreWaitsForNoSnapshot(t *testing.T) {
	f := openMachine(t)
	history(f, 3)
	text, want := snapshotOf(f), f.dump()
	unread, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	read, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	restored := make(chan error, 1)
	var once sync.Once
	_, err = read.WriteTo(writer(func(p []byte) (int, error) {
		once.Do(func() {
			go func() { restored <- f.Restore(bytes.NewReader(text)) }()
			for !read.replaced.Load() {
				runtime.Gosched()
			}
		})
		return len(p), nil
	}))
	if !errors.Is(err, ErrReplaced) {
		t.Errorf("writing one while the state was replaced: %v", err)
	}
	if err := <-restored; err != nil {
		t.Fatal(err)
	}
	if _, err := unread.WriteTo(io.Discard); !errors.Is(err, ErrReplaced) {
		t.Errorf("writing one afterwards: %v", err)
	}
	if err := unread.Check(); !errors.Is(err, ErrReplaced) {
		t.Errorf("checking one afterwards: %v", err)
	}
	unread.Release()
	read.Release()
	if f.dump() != want {
		t.Error("the state is not what was restored")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestAuditNoticesTampering(t *testing.T) {
	change := func(number uint64, fn func(e *model.AuditEntry)) func(*bolt.Tx) error {
		return func(b *bolt.Tx) error {
			t := &tx{view: view{b}}
			e := get[model.AuditEntry](t.view, tableAudit, key(number))
			fn(e)
			put(t, tableAudit, key(number), e)
			return nil
		}
	}
	tests := map[string]func(*bolt.Tx) error{
		"who":    change(3, func(e *model.AuditEntry) { e.By = "somebody" }),
		"when":   change(3, func(e *model.AuditEntry) { e.At = e.At.Add(1) }),
		"detail": change(3, func(e *model.AuditEntry) { e.Detail = []byte("{}") }),
		"hashed anew": change(3, func(e *model.AuditEntry) {
			e.By = "somebody"
			e.Hash = auditHash(e)
		}),
		"newest, hashed anew": change(6, func(e *model.AuditEntry) {
			e.By = "somebody"
			e.Hash = auditHash(e)
		}),
		"taken out":        func(b *bolt.Tx) error { return b.Bucket(tableAudit).Delete(key(uint64(3))) },
		"newest taken out": func(b *bolt.Tx) error { return b.Bucket(tableAudit).Delete(key(uint64(6))) },
	}
	for name, tamper := range tests {
		t.Run(name, func(t *testing.T) {
			f := openMachine(t)
			f.begin(model.ApprovalsDual, model.Limits{})
			f.join("eu", "na")
			f.principal("anna", model.Viewer)
			if entries := f.Audit(0, 0); len(entries) != 6 {
				t.Fatalf("%d entries", len(entries))
			}
			if err := f.VerifyAudit(); err != nil {
				t.Fatal(err)
			}
			if err := f.db.Update(tamper); err != nil {
				t.Fatal(err)
			}
			if err := f.VerifyAudit(); !errors.Is(err, ErrAudit) {
				t.Errorf("got %v, want ErrAudit", err)
			}
		})
	}
}
