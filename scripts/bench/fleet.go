package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/transport"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/world"
)

const (
	joining   = 16 // agents that enrol at once
	enrolWait = 500 * time.Millisecond
)

// fleet is many agents of further sites in this process: each with its own key, certificate,
// QUIC connection and uplink, as shipped. Journal, policy and systems are missing: what they
// send is in memory, of a revision they note that it came.
type fleet struct {
	agents []*simulated
	group  sync.WaitGroup
	stop   context.CancelCauseFunc

	mu       sync.Mutex      // guards what follows
	taken    []time.Duration // until the relay had them
	latency  []time.Duration // until they arrived
	received atomic.Int64
}

// simulated is one agent. It sends to the next of the fleet, the last one to the first.
type simulated struct {
	fleet *fleet
	site  string
	data  string
	next  *simulated // to whom it sends
	from  *simulated // who sends to it
	id    *identity.Identity
	epoch uint64
	link  *uplink.Uplink

	mu    sync.Mutex // guards what follows
	cuts  []uplink.Cut
	due   []time.Time          // of cuts
	sent  map[uint64]time.Time // by number, until it has arrived
	last  uint64
	grown chan struct{} // closed and replaced when last moves
	mark  uplink.Highwater
	held  block.Revision
}

var (
	_ uplink.Outbox = (*simulated)(nil)
	_ uplink.Inbox  = (*simulated)(nil)
	_ uplink.Policy = (*simulated)(nil)
)

// joinFleet enrols so many agents and says how long that took.
func joinFleet(ctx context.Context, c *world.Crossdock, n int) (*fleet, time.Duration, error) {
	f := &fleet{agents: make([]*simulated, n)}
	for i := range f.agents {
		f.agents[i] = &simulated{fleet: f, site: material.SiteName(i), data: filepath.Join(c.Dir, "fleet", material.SiteName(i)),
			sent: map[uint64]time.Time{}, grown: make(chan struct{})}
	}
	for i, a := range f.agents {
		a.next = f.agents[(i+1)%n]
		a.next.from = a
	}
	proxy, err := openSpread()
	if err != nil {
		return nil, 0, err
	}
	defer proxy.close()
	begun := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(joining)
	for _, a := range f.agents {
		group.Go(func() error { return a.enrol(ctx, c, proxy) })
	}
	err = group.Wait()
	return f, time.Since(begun), err
}

// enrol asks again while the control plane lets no more in.
func (a *simulated) enrol(ctx context.Context, c *world.Crossdock, proxy *spread) error {
	text, err := c.Token(ctx, a.site)
	if err != nil {
		return err
	}
	token, err := transport.ParseToken(text)
	if err != nil {
		return err
	}
	cfg := agent.DefaultConfig()
	cfg.Data, cfg.ControlPlane.Addresses, cfg.ControlPlane.Transport, cfg.ControlPlane.Proxy = a.data, c.Syncs(), "tcp", proxy.url
	cfg.Logger = slog.New(slog.DiscardHandler)
	for {
		if _, err = agent.Enroll(ctx, cfg, text, token.CAHash); err == nil {
			break
		}
		if !tooMany(err) {
			return fmt.Errorf("enrol %s: %w", a.site, err)
		}
		if err := pause(ctx, enrolWait); err != nil {
			return err
		}
	}
	if a.id, err = identity.Open(cfg.IdentityDir()); err != nil {
		return err
	}
	a.epoch = a.id.Epoch()
	return nil
}

// connect opens all sessions at once, and says how long it takes until all stand.
func (f *fleet) connect(ctx context.Context, c *world.Crossdock) (time.Duration, error) {
	runCtx, cancel := context.WithCancelCause(ctx)
	f.stop = cancel
	begun := time.Now()
	for _, a := range f.agents {
		if err := a.open(c); err != nil {
			return 0, err
		}
		f.group.Go(func() { _ = a.link.Run(runCtx) }) // it only ends with its context
	}
	err := f.await(ctx, "all sessions are open", c, func(a *simulated) error {
		if s := a.link.State(); !s.Connected {
			return errors.New("not connected: " + s.LastError)
		} else if s.Transport != string(transport.QUIC) {
			return fmt.Errorf("connected over %s: %s", s.Transport, s.Reason)
		}
		return nil
	})
	return time.Since(begun), err
}

// await waits for every agent, one after the other.
func (f *fleet) await(ctx context.Context, what string, c *world.Crossdock, look func(*simulated) error) error {
	at := 0
	return world.Await(ctx, what, c.Processes(), func(context.Context) error {
		for ; at < len(f.agents); at++ {
			if err := look(f.agents[at]); err != nil {
				return fmt.Errorf("agent %d of %d: %w", at+1, len(f.agents), err)
			}
		}
		return nil
	})
}

func (f *fleet) note(to *[]time.Duration, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*to = append(*to, took)
}

func (f *fleet) close() {
	if f.stop != nil {
		f.stop(errors.New("the measurement is over"))
	}
	f.group.Wait()
}

func (a *simulated) open(c *world.Crossdock) error {
	cfg := agent.DefaultConfig()
	cfg.Data, cfg.ControlPlane.Addresses, cfg.ControlPlane.Transport = a.data, c.Syncs(), "quic"
	log := slog.New(slog.DiscardHandler)
	dialer, err := agent.NewDialer(cfg, a.id, log)
	if err != nil {
		return err
	}
	config := uplink.DefaultConfig()
	config.Agent, config.Version, config.Epoch, config.Logger = a.site, "bench", a.id.Epoch, log
	config.Dialer, config.Outbox, config.Inbox, config.Policy, config.Identity = dialer, a, a, a, a.id
	config.NextSession, config.Known, config.Remember = a.id.NextSession, a.id.Known, a.id.Remember
	config.Status = a.report
	config.Command = func(context.Context, string, string, []byte) ([]byte, error) {
		return nil, errors.New("the benchmark carries out no commands")
	}
	a.link = uplink.New(config)
	return nil
}

// report has what an agent's report has.
func (a *simulated) report() json.RawMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	text, err := json.Marshal(map[string]any{"version": "v1.0.0", "transport": transport.QUIC, "revision": a.held, "accepted": a.last, "outgoing": len(a.cuts),
		"received": a.mark.Number, "pending": 0, "delivered": a.mark.Number, "deadLetters": 0, "parked": 0,
		"queueBytes": 65536, "queueQuota": int64(10) << 30, "oldestMs": 0, "at": time.Now().UTC()})
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return text
}

// emit gives the agent an event to send.
func (a *simulated) emit(text []byte, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	lanes := []block.Lane{{Agent: a.next.site, First: a.last + 1}}
	cut, err := block.Cut(block.Origin{Agent: a.site, Epoch: a.epoch}, lanes, []block.Item{{
		Head: block.Head{Key: block.KeyHash(a.site), Type: material.Type, System: material.Shop, Revision: a.held, Occurred: now, Received: now,
			Targets: []block.Target{{Agent: a.next.site, System: material.ERP, Route: "orders-to-erp"}}},
		Body: block.AppendBody(nil, a.site, text)}})
	if err != nil {
		return err
	}
	a.last++
	a.cuts = append(a.cuts, uplink.Cut{Block: cut, Lanes: lanes, Count: 1})
	a.due = append(a.due, now)
	a.sent[a.last] = now
	close(a.grown)
	a.grown = make(chan struct{})
	return nil
}

// Cut gives the blocks from the wanted number on. Positions are the numbers of the one lane.
func (a *simulated) Cut(want map[string]uint64, from uint64, maxBlocks int) (cuts []uplink.Cut, next uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next = from
	for _, c := range a.cuts {
		if first := c.Lanes[0].First; first >= want[a.next.site] && len(cuts) < maxBlocks {
			cuts = append(cuts, c)
			next = first + 1
		}
	}
	return cuts, next, nil
}

// Seek is the uplink's.
func (a *simulated) Seek(_ string, number uint64) (uint64, error) { return number, nil }

// Outbound is the uplink's.
func (a *simulated) Outbound() map[string]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == 0 {
		return map[string]uint64{}
	}
	return map[string]uint64{a.next.site: a.last}
}

// Next is the uplink's.
func (a *simulated) Next() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last + 1
}

// Wait is the uplink's.
func (a *simulated) Wait(ctx context.Context, pos uint64) error {
	for {
		a.mu.Lock()
		last, grown := a.last, a.grown
		a.mu.Unlock()
		if last >= pos {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Earlier is the uplink's.
func (a *simulated) Earlier(string) uint64 { return 0 }

// Taken lets go of what the relay has.
func (a *simulated) Taken(_ string, number uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.cuts) > 0 && a.cuts[0].Lanes[0].First <= number {
		a.fleet.note(&a.fleet.taken, time.Since(a.due[0]))
		a.cuts, a.due = a.cuts[1:], a.due[1:]
	}
}

// arrived says how long an event that this agent sent was under way.
func (a *simulated) arrived(number uint64, now time.Time) (time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.sent[number]
	delete(a.sent, number)
	return now.Sub(at), ok
}

// Receive is the uplink's.
func (a *simulated) Receive(_ context.Context, text []byte, _ time.Time) error {
	e, err := block.ParseEnvelope(text)
	if err != nil {
		return err
	}
	lane, ok := e.Lane(a.site)
	a.mu.Lock()
	fresh := ok && lane.First == a.mark.Number+1
	if fresh {
		a.mark = uplink.Highwater{Source: e.Origin.Agent, Epoch: e.Origin.Epoch, Number: e.Last(lane.First)}
	}
	want := a.mark.Number + 1
	a.mu.Unlock()
	if !fresh && ok && lane.First < want {
		return nil // a repeat
	} else if !fresh {
		return fmt.Errorf("%w: number %d where %d is next", uplink.ErrGap, lane.First, want)
	}
	f := a.fleet
	defer f.received.Add(1)
	if took, ok := a.from.arrived(lane.First, time.Now()); ok {
		f.note(&f.latency, took)
	}
	return nil
}

// ReceiveGap is the uplink's. Here nothing is ever lost.
func (a *simulated) ReceiveGap(_ context.Context, gap uplink.Gap) error {
	return fmt.Errorf("a gap from %d to %d: %s", gap.First, gap.Last, gap.Cause)
}

// Highwaters is the uplink's.
func (a *simulated) Highwaters() []uplink.Highwater {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mark.Number == 0 {
		return nil
	}
	return []uplink.Highwater{a.mark}
}

// Held is the revision that came last.
func (a *simulated) Held() block.Revision {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// Offer notes a revision.
func (a *simulated) Offer(r uplink.Revision) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = r.Number
	return nil
}

// Former has nothing to note.
func (a *simulated) Former(uplink.Revision) error { return nil }

// spread is a proxy by which agents come from many addresses of loopback, as sites do: the
// control plane lets one address enrol only one agent a second.
type spread struct {
	url    string
	server *http.Server
	next   atomic.Uint32
}

func openSpread() (*spread, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &spread{url: "http://" + l.Addr().String()}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // ends with close
	return s, nil
}

func (s *spread) close() { _ = s.server.Close() }

// ServeHTTP answers CONNECT.
func (s *spread) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.next.Add(1)
	from := &net.TCPAddr{IP: net.IPv4(127, byte(1+n>>16), byte(n>>8), byte(n))}
	out, err := (&net.Dialer{LocalAddr: from}).DialContext(r.Context(), "tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer out.Close()
	in, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer in.Close()
	if _, err := io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	ended := make(chan struct{}, 2)
	pass := func(to io.Writer, from io.Reader) {
		_, _ = io.Copy(to, from) // an end is an end
		ended <- struct{}{}
	}
	go pass(out, buffered)
	go pass(in, out)
	<-ended
}
