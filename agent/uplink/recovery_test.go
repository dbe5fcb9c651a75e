package uplink

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/transport"
)

// disk is an identity's files, in memory.
type disk struct {
	forever
	mu         sync.Mutex // guards what follows
	site       *site
	session    uint64
	pending    uint64 // epoch in which a new one was asked for; 0: it was not
	nonce      [16]byte
	asked      byte
	baseline   map[string]uint64
	known      string
	expired    bool
	recoveries uint64
	told       []bool
}

func (d *disk) NextSession() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.session++
	return d.session, nil
}

func (d *disk) PendingEpoch() ([16]byte, string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.nonce, "asked before", d.pending != 0 && d.pending == d.site.current()
}

func (d *disk) RequestEpoch(string) ([16]byte, error) {
	if nonce, _, ok := d.PendingEpoch(); ok {
		return nonce, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	copy(d.nonce[:], d.site.prefix+"epoch")
	d.nonce[15] = d.asked
	d.pending = d.site.current()
	return d.nonce, nil
}

func (d *disk) Baseline(given map[string]uint64) (map[string]uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.baseline == nil {
		d.baseline = maps.Clone(given)
	}
	return d.baseline, nil
}

func (d *disk) Agreed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.baseline = nil
	return nil
}

func (d *disk) Request() ([]byte, error) { return []byte("request"), nil }

func (d *disk) Recoveries() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.recoveries
}

func (d *disk) Replace(_, _ [][]byte, recoveries uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.recoveries, d.expired = recoveries, false
	return nil
}

func (d *disk) fenced(fenced bool, _ string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.told = append(d.told, fenced)
}

func (d *disk) configure(c *Config) {
	c.Identity, c.NextSession, c.Fenced = d, d.NextSession, d.fenced
	c.Remember = func(generation uint64, incarnation string, nodes []string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.known = fmt.Sprint(generation, incarnation, nodes)
		return nil
	}
	c.Known = func() (uint64, string) { return 3, "the life before" }
}

func newDisk(s *site) *disk { return &disk{site: s} }

func (r *relay) awaitLane(t *testing.T, destination string, want []string) {
	t.Helper()
	r.await(t, fmt.Sprintf("lane %s to be %v", destination, want), func() bool { return len(r.taken[destination]) >= len(want) })
	r.set(func() {
		if !slices.Equal(r.taken[destination], want) {
			t.Errorf("lane %s got %v, want %v", destination, r.taken[destination], want)
		}
	})
}

// An image that was put back shows by a session number that was used before. It sends again
// what it does not know as taken, and nothing of what it knows.
func TestRestoredImageBeginsANewEpoch(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	for range 3 {
		s.add("a")
	}
	s.taken["a"] = 1
	d.session = 5
	r.epoch, r.session, r.nonce = 1, 9, "another"
	r.taken["a"] = []string{"1", "2"}
	u, _ := startWith(t, s, r, transport.Faults{}, d.configure)
	s.add("a")
	r.awaitLane(t, "a", []string{"gap", "2", "3", "4"})
	r.set(func() {
		if r.epoch != 2 || len(s.why) != 1 || !strings.Contains(s.why[0], "later session") {
			t.Errorf("epoch %d, begun because of %q", r.epoch, s.why)
		}
	})
	if got := u.State(); got.Fenced != "" || !got.Connected {
		t.Errorf("state %+v", got)
	}
}

// The nasty image: it has given as many numbers since, or more, and its session numbers are
// fair, so that the relay's high-waters look as if they were its own.
func TestRestoredImageWithAsManyNumbers(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		s, r := newSite(), newRelay()
		d := newDisk(s)
		s.prefix = "new"
		s.add("a")
		s.add("a")
		d.session = 20
		r.epoch = 1
		r.taken["a"] = []string{"new1", "new2", "lost3", "lost4"}
		if restarted { // it ran alone for a while, and was started again since
			d.baseline = map[string]uint64{"a": 2}
			for range 5 {
				s.add("a")
			}
		}
		grow := func(c *Config) {
			d.configure(c)
			next := c.NextSession
			c.NextSession = func() (uint64, error) { // after the process began, before it speaks
				for len(s.lane("a")) < 7 {
					s.add("a")
				}
				return next()
			}
		}
		startWith(t, s, r, transport.Faults{}, grow)
		r.await(t, "the second epoch", func() bool { return r.epoch == 2 })
		r.awaitLane(t, "a", []string{"new1", "new2", "new3", "new4", "new5", "new6", "new7"})
		r.set(func() {
			if r.epoch != 2 || !strings.Contains(s.why[0], "event 4 of the lane to a") {
				t.Errorf("epoch %d, begun because of %q (restarted: %t)", r.epoch, s.why, restarted)
			}
		})
	}
}

// What the image had given is kept before anything is accepted: it is found again although
// no session was opened before the next start.
func TestRestoredImageThatStartedAgainBeforeItSpoke(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	s.prefix = "new"
	s.add("a")
	r.epoch = 1
	r.taken["a"] = []string{"new1", "lost2", "lost3"}
	first, _ := newUplink(s, r, transport.Faults{}, d.configure)
	if err := first.Begin(); err != nil { // and it never gets a line
		t.Fatal(err)
	}
	for range 5 {
		s.add("a")
	}
	startWith(t, s, r, transport.Faults{}, d.configure)
	r.await(t, "the second epoch", func() bool { return r.epoch == 2 })
	r.awaitLane(t, "a", []string{"new1", "new2", "new3", "new4", "new5", "new6"})
}

// An agent that is no copy keeps its epoch over any number of sessions and restarts.
func TestNoCopyKeepsItsEpoch(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	r.epoch = 1
	for round := range 4 {
		for range 10 {
			s.add("a", "b")
		}
		ctx, cancel := context.WithCancel(t.Context())
		u, link := newUplink(s, r, transport.Faults{Seed: uint64(round), LoseAnswer: 0.1}, d.configure)
		done := make(chan error)
		go func() { done <- u.Run(ctx) }()
		for range 5 {
			s.add("a")
			link.Cut()
		}
		r.awaitLane(t, "a", s.lane("a"))
		r.awaitLane(t, "b", s.lane("b"))
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	r.set(func() {
		if r.epoch != 1 || len(s.why) != 0 {
			t.Errorf("epoch %d, because of %v", r.epoch, s.why)
		}
	})
}

// Two copies of one agent: one goes on in a new epoch, the other is fenced and says so, and
// keeps what it has.
func TestCloneIsFenced(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	r.epoch = 1
	s.add("a")
	u, _ := startWith(t, s, r, transport.Faults{}, d.configure)
	r.awaitLane(t, "a", []string{"1"})

	clone := newSite()
	clone.prefix = "clone"
	clone.add("a")
	clone.taken["a"] = 1
	cd := newDisk(clone)
	other, _ := startWith(t, clone, r, transport.Faults{}, cd.configure) // with session numbers as they were before
	r.await(t, "the second epoch", func() bool { return r.epoch == 2 })
	clone.add("a")
	s.add("a")
	r.awaitLane(t, "a", []string{"gap", "clone2"})
	r.await(t, "the first copy to say that it is fenced", func() bool { return u.State().Fenced != "" })
	if other.State().Fenced != "" {
		t.Errorf("the second copy is fenced: %+v", other.State())
	}
	d.mu.Lock()
	if !slices.Equal(d.told, []bool{false, true}) {
		t.Errorf("the first copy was told %v", d.told)
	}
	d.mu.Unlock()
	cd.mu.Lock()
	if !slices.Equal(cd.told, []bool{false}) {
		t.Errorf("the second copy was told %v", cd.told)
	}
	cd.mu.Unlock()
	r.set(func() {
		if r.epoch != 2 {
			t.Errorf("epoch %d", r.epoch)
		}
	})
}

// The request for an epoch whose answer is lost is repeated, and granted once; no session is
// opened in between, since that one would pass.
func TestNewEpochThoughItsAnswerIsLost(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	s.add("a")
	d.session = 8
	r.epoch, r.session, r.nonce, r.loseHellos = 1, 9, "another", 3
	startWith(t, s, r, transport.Faults{}, d.configure)
	r.awaitLane(t, "a", []string{"1"})
	r.set(func() {
		if r.epoch != 2 || len(r.former[1]["a"]) != 0 {
			t.Errorf("epoch %d, taken in the first: %v", r.epoch, r.former[1])
		}
	})
}

// A control plane that was restored knows less than it did: the lane goes back to there, and
// what is no longer held goes as a gap with its cause.
func TestControlPlaneRestored(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	r.epoch, r.generation = 1, 4
	for range 9 {
		s.add("a", "b")
	}
	_, link := startWith(t, s, r, transport.Faults{}, d.configure)
	r.awaitLane(t, "a", s.lane("a"))
	r.awaitLane(t, "b", s.lane("b"))
	link.SetDown(true)
	s.mu.Lock()
	s.gone["b"] = 4
	s.mu.Unlock()
	r.set(func() {
		r.taken["a"], r.taken["b"] = r.taken["a"][:3], nil
		r.generation = 7
	})
	link.SetDown(false)
	r.awaitLane(t, "a", s.lane("a"))
	r.awaitLane(t, "b", append(slices.Repeat([]string{"gap"}, 4), s.lane("b")[4:]...))
	r.set(func() {
		if r.epoch != 1 {
			t.Errorf("a new epoch: %v", s.why)
		}
		if r.heard.Generation != 3 || r.heard.Incarnation != "the life before" {
			t.Errorf("told of %d %q", r.heard.Generation, r.heard.Incarnation)
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known != "7life[n1:1 n2:1]" && d.known != "7 life [n1:1 n2:1]" {
		t.Errorf("remembered %q", d.known)
	}
}

// A relay that holds less than within this session is asked again, and gets it again.
func TestRelayGoesBackWithinASession(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	r.epoch = 1
	for range 6 {
		s.add("a")
	}
	startWith(t, s, r, transport.Faults{}, d.configure)
	r.awaitLane(t, "a", s.lane("a"))
	r.await(t, "the agent to know", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return s.taken["a"] == 6 })
	r.set(func() { r.taken["a"] = r.taken["a"][:2] })
	s.add("a")
	r.awaitLane(t, "a", s.lane("a"))
}

// What is settled goes once; what is flushed and the moves go with every status.
func TestStatusCarriesWhatMovesAndRecoveryNeed(t *testing.T) {
	s, r := newSite(), newRelay()
	var mu sync.Mutex
	settled := []Highwater{{"x", 1, 5}, {"y", 2, 7}, {"z", 1, 0}}
	startWith(t, s, r, transport.Faults{}, func(c *Config) {
		c.StatusEvery = 5e6
		c.Settled = func() []Highwater { mu.Lock(); defer mu.Unlock(); return slices.Clone(settled) }
		c.Flushed = func() block.Revision { return block.Revision{Generation: 2, Number: 9} }
		c.Moves = func() []Move { return []Move{{System: "new", Pending: 3, Holding: true}} }
	})
	r.await(t, "two reports", func() bool { return len(r.reports) >= 2 })
	mu.Lock()
	settled[1].Number = 8
	mu.Unlock()
	moved := func() (lanes []*syncpb.Lane) {
		for _, m := range r.reports[1:] {
			lanes = append(lanes, m.Settled...)
		}
		return lanes
	}
	r.await(t, "the lane that moved", func() bool { return len(moved()) > 0 })
	r.set(func() {
		first := r.reports[0]
		if len(first.Settled) != 2 || first.Settled[1].Highwater != 7 || first.Settled[1].Source != "y" || first.Settled[1].Epoch != 2 {
			t.Errorf("first report: %v", first.Settled)
		}
		if m := moved(); len(m) != 1 || m[0].Source != "y" || m[0].Highwater != 8 {
			t.Errorf("later reports: %v", m)
		}
		for _, m := range r.reports {
			if m.Flushed.GetNumber() != 9 || len(m.Moves) != 1 || m.Moves[0].Pending != 3 || !m.Moves[0].Holding {
				t.Errorf("report: %v", m)
			}
		}
	})
}

// expiring opens sessions for nothing but a renewal, as long as the certificate has expired.
type expiring struct {
	*transport.Link
	disk *disk
}

func (e expiring) Session(ctx context.Context, hello transport.Hello) (*transport.Session, error) {
	e.disk.mu.Lock()
	expired := e.disk.expired
	e.disk.mu.Unlock()
	asked := func(ctx context.Context, client syncClient) error {
		err := hello(ctx, client)
		if expired && err == nil && !client.(*spy).renewed {
			return fmt.Errorf("hello: %w", transport.ErrExpired)
		}
		return err
	}
	return e.Link.Session(ctx, func(ctx context.Context, client syncClient) error {
		return asked(ctx, &spy{syncClient: client})
	})
}

// An agent that was away for longer than its certificate lives renews it, with the same
// request until it is answered.
func TestRecoveryThoughAnswersAreLost(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	d.expired = true
	r.loseRenews = 2
	s.add("a")
	startWith(t, s, r, transport.Faults{}, func(c *Config) {
		d.configure(c)
		c.Dialer = expiring{c.Dialer.(*transport.Link), d}
	})
	r.awaitLane(t, "a", []string{"1"})
	r.set(func() {
		if len(r.renewals) != 3 {
			t.Errorf("%d renewals", len(r.renewals))
		}
		for _, m := range r.renewals {
			if !bytes.Equal(m.CertificateRequest, []byte("request")) || m.Recoveries != 0 {
				t.Errorf("renewal %v", m)
			}
		}
	})
	if got := d.Recoveries(); got != 1 {
		t.Errorf("%d recoveries", got)
	}
}

// Nodes that join while a session goes on are noted, for the day when this one's node is gone.
func TestNodesThatABeatTellsOf(t *testing.T) {
	s, r := newSite(), newRelay()
	d := newDisk(s)
	r.epoch = 1
	r.mail = []*syncpb.PullResponse{
		{Item: &syncpb.PullResponse_Beat{Beat: &syncpb.Beat{NowUnixMs: 1, Nodes: []string{"n3:1"}}}},
		{Item: &syncpb.PullResponse_Beat{Beat: &syncpb.Beat{NowUnixMs: 2}}},
		delivery(1, "after"),
	}
	startWith(t, s, r, transport.Faults{}, d.configure)
	r.await(t, "the mail behind them", func() bool { return r.acked == 1 })
	d.mu.Lock()
	defer d.mu.Unlock()
	if !strings.HasSuffix(d.known, "[n3:1]") {
		t.Errorf("remembered %q", d.known)
	}
}
