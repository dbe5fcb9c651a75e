package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/block"
)

func testConfig(dir string) Config {
	return Config{Dir: dir, State: state.Config{MaxSize: 512 << 20}, Timeout: 50 * time.Millisecond}
}

// running is a store and its end.
type running struct {
	testing.TB
	*Store
	stop func() error // ends it and gives what Run gave
}

func open(t testing.TB, cfg Config) *running {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	end := make(chan error, 1)
	go func() { end <- s.Run(ctx) }()
	r := &running{TB: t, Store: s, stop: sync.OnceValue(func() error { cancel(); return <-end })}
	t.Cleanup(func() { r.stop() })
	wait, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := s.WaitReady(wait); err != nil {
		t.Fatalf("%v; Run: %v", err, r.stop())
	}
	return r
}

func (r *running) must(cmd model.Command) any {
	r.Helper()
	value, err := r.Apply(context.Background(), cmd)
	if err != nil {
		r.Fatalf("%T: %v", cmd, err)
	}
	return value
}

func leads(s *Store) bool {
	_, self := s.Leader()
	return self
}

func (r *running) end() {
	r.Helper()
	if err := r.stop(); err != nil {
		r.Fatal(err)
	}
}

func hashOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }

func asked() model.Asked { return model.Asked{By: "root", At: time.Now()} }

func begin(r *running) {
	r.Helper()
	r.must(&model.Bootstrap{Asked: asked(), Cluster: model.Cluster{ID: "test"}, Admin: model.Principal{
		Name: "root", Roles: []model.Role{model.Admin, model.Operator, model.Author, model.Approver}, TokenHash: hashOf("root")}})
}

func tokenOf(id string) *model.CreateJoinToken {
	return &model.CreateJoinToken{Asked: asked(), Token: model.JoinToken{ID: id, Site: id, Hash: hashOf(id), Expires: time.Now().Add(time.Hour)}}
}

func join(r *running, names ...string) {
	r.Helper()
	for _, name := range names {
		r.must(tokenOf(name))
		r.must(&model.Enroll{At: time.Now(), Token: name, Secret: hashOf(name)})
	}
}

func cut(t testing.TB, first uint64, count, size int) []byte {
	t.Helper()
	rnd := rand.NewChaCha8([32]byte{byte(first)})
	items := make([]block.Item, count)
	for i := range items {
		items[i] = block.Item{Head: block.Head{Type: "t", Occurred: time.UnixMilli(1), Received: time.UnixMilli(1)}, Body: make([]byte, size)}
		rnd.Read(items[i].Body)
	}
	text, err := block.Cut(block.Origin{Agent: "eu", Epoch: 1}, []block.Lane{{Agent: "ho", First: first}}, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestApplyAndRestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testConfig(dir))
	begin(s)
	join(s, "eu", "ho")
	_, err := s.Apply(context.Background(), &model.Revoke{Asked: asked(), Agent: "nobody"})
	var coded *model.Error
	if !errors.As(err, &coded) || coded.Code != model.NotFound {
		t.Errorf("got %v", err)
	}
	hash, index := s.StateHash(), s.AppliedIndex()
	s.end()
	if _, err := s.Apply(context.Background(), tokenOf("late")); model.CodeOf(err) != model.Unavailable {
		t.Errorf("after the end: %v", err)
	}

	s = open(t, testConfig(dir))
	if s.StateHash() != hash || s.AppliedIndex() < index || len(s.Agents()) != 2 {
		t.Errorf("after the restart: index %d, was %d; agents %v", s.AppliedIndex(), index, s.Agents())
	}
	join(s, "na")
	s.end()
}

func TestBeforeRun(t *testing.T) {
	s, err := New(testConfig(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Apply(context.Background(), tokenOf("x")); model.CodeOf(err) != model.Unavailable {
		t.Errorf("apply: %v", err)
	}
	if _, ok := s.Cluster(); ok || s.Ready() == nil || leads(s) {
		t.Error("a store that does not run is ready")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.WaitReady(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
}

// Many at once share entries, and each gets its own answer.
func TestManyAtOnce(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	var group sync.WaitGroup
	for g := range 40 {
		group.Go(func() {
			for i := range 5 {
				id := fmt.Sprintf("t%d-%d", g, i/2) // every second one is there already
				_, err := s.Apply(context.Background(), tokenOf(id))
				if want := i % 2; (err != nil) != (want == 1) {
					t.Errorf("token %s, time %d: %v", id, want, err)
				}
			}
		})
	}
	group.Wait()
	if n := len(s.JoinTokens()); n != 120 {
		t.Errorf("%d tokens", n)
	}
	if entries := s.AppliedIndex(); entries > 200 {
		t.Errorf("%d entries for 200 commands of 40 at once: they were not put together", entries)
	}
	if err := s.VerifyAudit(); err != nil {
		t.Error(err)
	}
}

func TestLargePushIsOnePushToItsSender(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	join(s, "eu", "ho")
	push := &model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Gaps: []model.Gap{{Destination: "ho", First: 81, Last: 90, Cause: "test"}}}
	for i := range uint64(8) {
		push.Blocks = append(push.Blocks, cut(t, i*10+1, 10, 60_000))
	}
	if parts := splitPush(push); len(parts) < 4 {
		t.Fatalf("%d parts", len(parts))
	}
	result := s.must(push).(*model.PushResult)
	want := model.LaneAnswer{Destination: "ho", Highwater: 90}
	if len(result.Lanes) != 1 || result.Lanes[0] != want {
		t.Errorf("answer %+v, want %+v", result.Lanes, want)
	}
	mail := s.Mail("ho", 0, 1<<30)
	if len(mail) != 9 {
		t.Fatalf("%d pieces of mail", len(mail))
	}
	for i := range push.Blocks {
		if !bytes.Equal(mail[i].Block, push.Blocks[i]) {
			t.Errorf("block %d is another", i)
		}
	}
	if _, err := s.Apply(context.Background(), &model.Propose{Asked: asked(), Bundle: make([]byte, state.MaxCommand+1), Digest: hashOf("x")}); model.CodeOf(err) != model.TooLarge {
		t.Errorf("a command that is too large: %v", err)
	}
}

func TestSplitPushKeepsEverything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		push := &model.Push{Agent: "eu", Epoch: 7, Gaps: make([]model.Gap, rnd.IntN(2))}
		for range rnd.IntN(6) {
			push.Blocks = append(push.Blocks, make([]byte, 1+rnd.IntN(block.MaxBytes)))
		}
		blocks, gaps := 0, 0
		for _, part := range splitPush(push) {
			size := 0
			for _, b := range part.Blocks {
				if &b[0] != &push.Blocks[blocks][0] {
					t.Fatal("out of order")
				}
				blocks++
				size += len(b)
			}
			if gaps += len(part.Gaps); size > fillEntry && len(part.Blocks) > 1 || part.Epoch != 7 || part.Agent != "eu" {
				t.Fatalf("a part of %d bytes in %d blocks", size, len(part.Blocks))
			}
			if _, err := state.Encode(&part); err != nil {
				t.Fatal(err)
			}
		}
		if blocks != len(push.Blocks) || gaps != len(push.Gaps) {
			t.Fatalf("%d of %d blocks, %d of %d gaps", blocks, len(push.Blocks), gaps, len(push.Gaps))
		}
	}
}

func TestSplitPushWithManyGaps(t *testing.T) {
	push := &model.Push{Agent: "eu", Epoch: 7, Blocks: [][]byte{make([]byte, block.MaxBytes)}, Gaps: make([]model.Gap, 1024)}
	for i := range push.Gaps {
		push.Gaps[i] = model.Gap{Source: "eu", Epoch: 7, Destination: "na", First: 1, Last: 2, Cause: strings.Repeat("x", 1024)}
	}
	gaps := 0
	for _, part := range splitPush(push) {
		if _, err := state.Encode(&part); err != nil {
			t.Error(err)
		}
		gaps += len(part.Gaps)
	}
	if gaps != len(push.Gaps) {
		t.Errorf("%d of %d gaps", gaps, len(push.Gaps))
	}
}

// Power may fail in the first second of a node's life, between raft's two first writes.
func TestFirstStartCutShort(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := wal.Open(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(log.SetUint64([]byte(currentTerm), 1), log.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	end := make(chan error, 1)
	go func() { end <- s.Run(ctx) }()
	if err := s.WaitReady(ctx); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-end; err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	s := open(t, testConfig(t.TempDir()))
	begin(s)
	join(s, "eu", "ho", "na")
	mail, stopMail := s.Watch("mail/ho")
	defer stopMail()
	revoked, stopRevoked := s.Watch("revoked")
	defer stopRevoked()
	other, stopOther := s.Watch("mail/na")
	defer stopOther()
	for i := range uint64(3) {
		s.must(&model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, i+1, 1, 10)}})
	}
	<-mail
	s.must(&model.Revoke{Asked: asked(), Agent: "na"})
	<-revoked
	if len(other) != 0 {
		t.Error("a mailbox where nothing came was announced")
	}
	stopMail()
	s.must(&model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, 4, 1, 10)}})
	if len(mail) != 0 {
		t.Error("a token came after cancel")
	}
}

// The log is cut by its bytes, and a state that is gone or older is made again from the
// snapshot and what follows it.
func TestSnapshotCutsTheLog(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir)
	cfg.SnapshotBytes, cfg.SnapshotCheck = 1, 10*time.Millisecond
	s := open(t, cfg)
	begin(s)
	join(s, "eu", "ho")
	old, err := os.ReadFile(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	list := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	next := uint64(1)
	for len(list()) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no snapshot was taken")
		}
		s.must(&model.Push{At: time.Now(), Agent: "eu", Epoch: 1, Blocks: [][]byte{cut(t, next, 4, 20_000)}})
		next += 4
		s.must(&model.Ack{At: time.Now(), Agent: "ho", Mailbox: s.Mailbox("ho").Next - 1})
	}
	s.must(tokenOf("after"))
	s.end()
	hash := hashIn(t, dir)

	for name, text := range map[string][]byte{"older": old, "none": nil} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, "state.db")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if text != nil {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, testConfig(dir))
			if got := s.StateHash(); got != hash {
				t.Errorf("hash %x, want %x", got, hash)
			}
			if _, ok := s.JoinToken("after"); !ok {
				t.Error("what followed the snapshot is missing")
			}
			s.end()
		})
	}
}

func hashIn(t *testing.T, dir string) [32]byte {
	t.Helper()
	m, err := state.Open(state.Config{Dir: dir, MaxSize: 512 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return m.StateHash()
}

func TestLogWithoutStateAndStateWithoutLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testConfig(dir))
	begin(s)
	s.end()
	if err := os.RemoveAll(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	other, err := New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil {
		t.Error("it ran on a state whose log is gone: new entries would have been passed over")
	}
}

// Whatever a node cannot go on from is told to Fatal and ends Run.
func TestFatal(t *testing.T) {
	failing := func(t *testing.T, trigger func(s *running)) {
		told := make(chan error, 1)
		cfg := testConfig(t.TempDir())
		cfg.Fatal = func(err error) { told <- err }
		s := open(t, cfg)
		begin(s)
		trigger(s)
		err := <-told
		if got := s.stop(); !errors.Is(got, err) {
			t.Errorf("Run gave %v, Fatal got %v", got, err)
		}
		if s.Ready() == nil {
			t.Error("it says that it is ready")
		}
	}
	t.Run("an entry that cannot be applied", func(t *testing.T) {
		failing(t, func(s *running) {
			r := &request{text: []byte("nonsense"), done: make(chan answer, 1)}
			s.requests <- r
			if got := <-r.done; got.Err == nil || got.Err.Code != model.Unknown {
				t.Errorf("its sender got %+v", got)
			}
		})
	})
	t.Run("a write that fails", func(t *testing.T) {
		failing(t, func(s *running) {
			(&guardedLog{s: s.Store}).guard("write", func() error { return errors.New("disk") })
		})
	})
	t.Run("a write that hangs", func(t *testing.T) {
		hang, told := make(chan struct{}), make(chan error, 1)
		defer close(hang)
		s := &Store{cfg: Config{WriteDeadline: time.Millisecond, Fatal: func(err error) { told <- err }, Logger: slog.New(slog.DiscardHandler)}}
		s.failure.done = make(chan struct{})
		go (&guardedLog{s: s}).guard("write", func() error { <-hang; return nil })
		select {
		case err := <-told:
			if !strings.Contains(err.Error(), "look at the disk") {
				t.Errorf("told %v", err)
			}
		case <-time.After(clusterWait):
			t.Error("nobody is told")
		}
	})
}

func TestOutcomes(t *testing.T) {
	tests := map[error]model.Code{
		raft.ErrNotLeader:                    model.Unavailable,
		raft.ErrEnqueueTimeout:               model.Unavailable,
		raft.ErrLeadershipTransferInProgress: model.Unavailable,
		raft.ErrAbortedByRestore:             model.Unavailable,
		raft.ErrLeadershipLost:               model.Unknown,
		raft.ErrRaftShutdown:                 model.Unknown,
		errors.New("something else"):         model.Unknown,
	}
	for err, want := range tests {
		if got := codeOf(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

func TestGivenUpIsUnknown(t *testing.T) {
	s := &Store{ended: make(chan struct{}), requests: make(chan *request, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	first := s.submit(ctx, []byte("a")) // taken, but nobody works
	cancel()
	if r := s.wait(ctx, first); r.Err == nil || r.Err.Code != model.Unknown {
		t.Errorf("handed over, then given up: %+v", r.Err)
	}
	second := s.submit(ctx, []byte("b")) // no room
	if r := s.wait(ctx, second); r.Err == nil || r.Err.Code != model.Unavailable {
		t.Errorf("never handed over: %+v", r.Err)
	}
}

func TestLogger(t *testing.T) {
	var b bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&b, nil)))
	l.Named("log").Warn("slow", "index", 7)
	l.Debug("not shown")
	if got := b.String(); !bytes.Contains(b.Bytes(), []byte("level=WARN msg=slow from=raft.log index=7")) || bytes.Contains(b.Bytes(), []byte("not shown")) {
		t.Errorf("logged %q", got)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the lock is the same; the wait is not worth it")
	}
	dir := t.TempDir()
	s, err := New(testConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if other, err := New(testConfig(dir)); err == nil {
		other.Close()
		t.Error("two stores opened one directory")
	}
}
