package documents

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// net carries internal events between stores in memory, in order, and keeps them.
type net struct {
	mu    sync.Mutex
	mail  map[string][]Arrived
	grown chan struct{}
	fail  error
}

func newNet() *net { return &net{mail: map[string][]Arrived{}, grown: make(chan struct{})} }

// lanes are those of one agent.
type lanes struct {
	*net
	agent string
}

func (l lanes) Send(_ context.Context, events []Outgoing) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, e := range events {
		text, err := e.Event.Marshal()
		if err != nil {
			return err
		}
		for _, to := range e.To {
			l.mail[to] = append(l.mail[to], Arrived{Pos: uint64(len(l.mail[to]) + 1), From: l.agent, Event: text})
		}
	}
	close(l.grown)
	l.grown = make(chan struct{})
	return nil
}

func (l lanes) Read(from uint64) ([]Arrived, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	mail := l.mail[l.agent]
	items := slices.Clone(mail[from-1 : min(int(from)+2, len(mail))])
	return items, from + uint64(len(items)), nil
}

func (l lanes) Wait(ctx context.Context, pos uint64) error {
	for {
		l.mu.Lock()
		n, grown := len(l.mail[l.agent]), l.grown
		l.mu.Unlock()
		if uint64(n) >= pos {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *net) sentTo(agent string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.mail[agent])
}

// shop is a store with everything around it.
type shop struct {
	*Store
	cfg Config

	mu       sync.Mutex
	clock    time.Time
	position uint64
	needed   uint64
	waiting  [][]byte
	alarms   []string
	stop     func()
}

func newShop(t *testing.T, n *net, agent string, change ...func(*Config)) *shop {
	t.Helper()
	s := &shop{clock: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), position: 1, needed: 1}
	locked := func(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }
	s.cfg = Config{Dir: filepath.Join(t.TempDir(), "documents"), Agent: agent, Quota: 64 << 20, Retain: 24 * time.Hour,
		Lanes: lanes{n, agent}, Source: lanes{n, agent}, Save: func(uint64) {},
		Position: func() (p uint64) { locked(func() { p = s.position }); return p },
		Needed:   func() (p uint64, _ error) { locked(func() { p = s.needed }); return p, nil },
		Waiting: func(fn func([]byte)) error {
			locked(func() {
				for _, text := range s.waiting {
					fn(text)
				}
			})
			return nil
		},
		Alarm:  func(kind, _, text string) { locked(func() { s.alarms = append(s.alarms, kind+": "+text) }) },
		Now:    func() (now time.Time) { locked(func() { now = s.clock }); return now },
		Tuning: Tuning{AskAfter: time.Millisecond, AskAgain: 30 * time.Second, Retry: time.Millisecond, SweepEvery: time.Hour},
	}
	for _, c := range change {
		c(&s.cfg)
	}
	s.open(t)
	return s
}

func (s *shop) open(t *testing.T) {
	t.Helper()
	var err error
	if s.Store, err = Open(s.cfg); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	store := s.Store
	go func() { ended <- store.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil && ctx.Err() == nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(s.stop)
}

// set changes what the rig shows.
func (s *shop) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shop) told(kind string) (text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.alarms {
		if strings.HasPrefix(a, kind) {
			return a
		}
	}
	return ""
}

func (s *shop) put(t *testing.T, text []byte) string {
	t.Helper()
	ref, err := s.Put(t.Context(), "application/pdf", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return ref.SHA256
}

func (s *shop) get(sum string) (string, error) {
	d, err := s.Get(sum)
	if err != nil {
		return "", err
	}
	defer d.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(d)
	return b.String(), err
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(time.Millisecond) // between looks at a condition
	}
}

// text is a document of some size, another for each seed.
func text(seed, size int) []byte {
	out := bytes.Repeat([]byte(fmt.Sprintf("%08d", seed)), size/8+1)
	return out[:size]
}
