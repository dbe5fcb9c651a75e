package uplink

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// relay is the other side, reduced to its rule: a block is taken for a destination only if
// its first number follows the high-water.
type relay struct {
	syncpbconnect.UnimplementedSyncHandler

	mu       sync.Mutex
	taken    map[string][]string // event ids by destination, in lane order
	room     map[string]int      // most events a mailbox takes; absent: any
	rejected int                 // blocks not taken because of their number
	mail     []*syncpb.PullResponse
	acked    uint64
	acks     int
	protocol uint32
	turn     uint64 // as the last Ack says
	noRoom   bool   // likewise
	sent     int    // pieces of mail
	wake     chan struct{}
	answers  map[string]*syncpb.CommandAnswer
	status   int
	silent   bool
	hellos   int
	full     int    // blocks not taken for want of room
	epoch    uint64 // granted; 0: not said
	loseAcks int    // answers to Ack that are lost on purpose

	session    uint64 // newest opened, where sessions are counted
	nonce      string
	epochNonce string
	loseHellos int                            // answers to requests for an epoch that are lost on purpose
	former     map[uint64]map[string][]string // taken, by epoch that is over
	reports    []*syncpb.AckRequest           // with a status
	renewals   []*syncpb.RenewRequest
	loseRenews int
	generation uint64
	heard      *syncpb.HelloRequest // the last that opened a session
	beat       time.Duration
	patience   time.Duration
	leaderless bool          // greets nobody
	pushes     [][]int       // blocks of each call, by their events
	lessor     *lessor       // leases numbers; nil: knows no such call
	marks      string        // of secrets, as the newest stream began with
	hold       chan struct{} // pushes are answered when it is closed; nil: at once
}

func newRelay() *relay {
	return &relay{taken: map[string][]string{}, room: map[string]int{}, answers: map[string]*syncpb.CommandAnswer{},
		protocol: ProtocolVersion, wake: make(chan struct{}, 1), former: map[uint64]map[string][]string{}, beat: 20 * time.Millisecond, patience: 5 * time.Second}
}

func (r *relay) Hello(_ context.Context, req *connect.Request[syncpb.HelloRequest]) (*connect.Response[syncpb.HelloResponse], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := req.Msg
	out := &syncpb.HelloResponse{Protocol: min(m.Protocol, r.protocol), Epoch: r.epoch, NowUnixMs: time.Now().UnixMilli(), Node: "n1",
		Generation: r.generation, Incarnation: "life", Nodes: []string{"n1:1", "n2:1"}}
	if len(m.Nonce) == 0 {
		return connect.NewResponse(out), nil // a look
	}
	r.hellos++
	if r.leaderless {
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("no leader"))
	}
	switch {
	case m.NewEpoch && r.epochNonce == string(m.Nonce): // once more
	case m.NewEpoch && m.Epoch != r.epoch:
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("epoch %d is fenced", m.Epoch))
	case m.NewEpoch:
		r.former[r.epoch] = r.taken
		r.taken, r.session, r.nonce, r.epochNonce = map[string][]string{}, 0, "", string(m.Nonce)
		r.epoch++
		out.Epoch = r.epoch
	case m.Session > 0 && m.Epoch == r.epoch:
		out.Stale = m.Session <= r.session && string(m.Nonce) != r.nonce
		if !out.Stale {
			r.session, r.nonce = m.Session, string(m.Nonce)
		}
	}
	if m.NewEpoch && r.loseHellos > 0 {
		r.loseHellos--
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("lost on purpose"))
	}
	r.heard = m
	for destination, ids := range r.taken {
		out.Outbound = append(out.Outbound, &syncpb.Lane{Source: "here", Epoch: max(r.epoch, 1), Destination: destination, Highwater: uint64(len(ids))})
	}
	return connect.NewResponse(out), nil
}

func (r *relay) Renew(_ context.Context, req *connect.Request[syncpb.RenewRequest]) (*connect.Response[syncpb.RenewResponse], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewals = append(r.renewals, req.Msg)
	if r.loseRenews > 0 {
		r.loseRenews--
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("lost on purpose"))
	}
	return connect.NewResponse(&syncpb.RenewResponse{Recoveries: 1}), nil
}

func (r *relay) Push(ctx context.Context, req *connect.Request[syncpb.PushRequest]) (*connect.Response[syncpb.PushResponse], error) {
	r.mu.Lock()
	var sizes []int
	for _, text := range req.Msg.Blocks {
		if envelope, err := block.ParseEnvelope(text); err == nil {
			sizes = append(sizes, envelope.Count)
		}
	}
	r.pushes = append(r.pushes, sizes)
	hold := r.hold
	r.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := map[string]*syncpb.LaneAnswer{}
	if req.Msg.Epoch != max(r.epoch, 1) {
		return nil, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("epoch %d is fenced", req.Msg.Epoch))
	}
	for _, text := range req.Msg.Blocks {
		envelope, items, err := block.Open(text)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
		for _, lane := range envelope.To {
			a := answers[lane.Agent]
			if a == nil {
				a = &syncpb.LaneAnswer{Destination: lane.Agent}
				answers[lane.Agent] = a
			}
			held := uint64(len(r.taken[lane.Agent]))
			room, limited := r.room[lane.Agent]
			switch {
			case lane.First != held+1:
				r.rejected++
			case limited && int(held)+len(items) > room:
				a.Full = true
				r.full++
			default:
				for _, item := range items {
					_, id, err := block.SplitBody(item.Body)
					if err != nil {
						return nil, connect.NewError(connect.CodeInvalidArgument, err)
					}
					r.taken[lane.Agent] = append(r.taken[lane.Agent], string(id))
				}
			}
			a.Highwater = uint64(len(r.taken[lane.Agent]))
		}
	}
	for _, gap := range req.Msg.Gaps {
		held := uint64(len(r.taken[gap.Destination]))
		if gap.First == held+1 {
			r.taken[gap.Destination] = append(r.taken[gap.Destination], slices.Repeat([]string{"gap"}, int(gap.Last-held))...)
		}
		answers[gap.Destination] = &syncpb.LaneAnswer{Destination: gap.Destination, Highwater: uint64(len(r.taken[gap.Destination]))}
	}
	return connect.NewResponse(&syncpb.PushResponse{Lanes: slices.Collect(maps.Values(answers))}), nil
}

func (r *relay) Pull(ctx context.Context, req *connect.Request[syncpb.PullRequest], stream *connect.ServerStream[syncpb.PullResponse]) error {
	r.mu.Lock()
	silent := r.silent
	r.turn, r.noRoom, r.marks = 0, false, ""
	for _, m := range req.Msg.GetSecrets() {
		r.marks += fmt.Sprintf("%s %d", m.GetName(), m.GetVersion())
	}
	r.mu.Unlock()
	if err := stream.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Beat{Beat: &syncpb.Beat{}}}); err != nil {
		return err
	}
	beat := time.NewTicker(r.beat)
	defer beat.Stop()
	turn, done := uint64(0), map[*syncpb.PullResponse]bool{}
	for {
		for m := r.next(&turn, done); m != nil; m = r.next(&turn, done) {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
		case <-beat.C:
			if silent {
				continue
			}
			if err := stream.Send(&syncpb.PullResponse{Item: &syncpb.PullResponse_Beat{Beat: &syncpb.Beat{}}}); err != nil {
				return err
			}
		}
	}
}

// next is what a stream sends next, nil for nothing. A node of version 1 knows of no turns.
func (r *relay) next(turn *uint64, done map[*syncpb.PullResponse]bool) *syncpb.PullResponse {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.turn != *turn && !r.noRoom && r.protocol > 1 {
		*turn = r.turn
		for m := range done {
			if m.GetDelivery() != nil {
				delete(done, m)
			}
		}
	}
	for _, m := range r.mail {
		d, c := m.GetDelivery(), m.GetCommand()
		switch {
		case done[m], c != nil && r.answers[c.Id] != nil, d != nil && d.Mailbox <= r.acked, d != nil && r.noRoom && r.protocol > 1:
			continue
		}
		done[m] = true
		if d == nil {
			return m
		}
		r.sent++
		d = proto.CloneOf(d)
		d.Turn = *turn
		return &syncpb.PullResponse{Item: &syncpb.PullResponse_Delivery{Delivery: d}}
	}
	return nil
}

func (r *relay) Ack(_ context.Context, req *connect.Request[syncpb.AckRequest]) (*connect.Response[syncpb.AckResponse], error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loseAcks > 0 {
		r.loseAcks--
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("lost on purpose"))
	}
	r.acks++
	r.acked = max(r.acked, req.Msg.Mailbox)
	r.turn, r.noRoom = req.Msg.Turn, req.Msg.Full
	defer nudge(r.wake)
	for _, a := range req.Msg.Answers {
		r.answers[a.Id] = a
	}
	if req.Msg.Status != nil {
		r.status++
		r.reports = append(r.reports, req.Msg)
	}
	return connect.NewResponse(&syncpb.AckResponse{}), nil
}

func (r *relay) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	nudge(r.wake)
}

// await polls until the condition on the relay holds.
func (r *relay) await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(r.patience)
	for {
		r.mu.Lock()
		ok := holds()
		r.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("timed out: %s (state of the relay: taken %d lanes, %d rejected)", what, len(r.taken), r.rejected)
		}
		time.Sleep(r.patience / 5000)
	}
}

type forever struct{}

func (forever) RenewAt() time.Time                       { return time.Now().Add(time.Hour) }
func (forever) Request() ([]byte, error)                 { return nil, nil }
func (forever) Recoveries() uint64                       { return 0 }
func (forever) Replace([][]byte, [][]byte, uint64) error { return nil }
func (forever) RequestEpoch(string) ([16]byte, error)    { return [16]byte{}, nil }
func (forever) PendingEpoch() ([16]byte, string, bool)   { return [16]byte{}, "", false }
func (forever) Agreed() error                            { return nil }
func (forever) Baseline(given map[string]uint64) (map[string]uint64, error) {
	return given, nil
}

// start runs an uplink between a site and a relay over a memory transport.
func start(t *testing.T, s *site, r *relay, faults transport.Faults) (*Uplink, *transport.Link) {
	t.Helper()
	return startWith(t, s, r, faults, func(*Config) {})
}

func startWith(t *testing.T, s *site, r *relay, faults transport.Faults, change func(*Config)) (*Uplink, *transport.Link) {
	t.Helper()
	u, link := newUplink(s, r, faults, change)
	run(t, u)
	return u, link
}

func run(t *testing.T, u *Uplink) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := u.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func newUplink(s *site, r *relay, faults transport.Faults, change func(*Config)) (*Uplink, *transport.Link) {
	link := transport.NewMemory(r.handler(), transport.Identity{Agent: "here", Site: "here"}, faults)
	cfg := config(s)
	cfg.Dialer = link
	change(&cfg)
	return New(cfg), link
}

func (r *relay) handler() http.Handler {
	mux := http.NewServeMux()
	var handler syncpbconnect.SyncHandler = r
	if r.lessor != nil {
		handler = r.lessor
	}
	mux.Handle(syncpbconnect.NewSyncHandler(handler, transport.HandlerOptions()...))
	return mux
}

func config(s *site) Config {
	cfg := DefaultConfig()
	cfg.Agent, cfg.Outbox, cfg.Inbox, cfg.Policy, cfg.Identity = "here", s, s, s, forever{}
	cfg.Epoch, cfg.BeginEpoch = s.current, s.begin
	cfg.Command = s.command
	cfg.Status = func() json.RawMessage { return json.RawMessage("{}") }
	cfg.Logger = slog.New(slog.DiscardHandler)
	cfg.CallTimeout, cfg.Silence, cfg.FullRetry = 2*time.Second, 200*time.Millisecond, 5*time.Millisecond
	cfg.ReconnectMin, cfg.ReconnectMax = time.Millisecond, 5*time.Millisecond
	return cfg
}

type syncClient = syncpbconnect.SyncClient

// spy notes whether a renewal was asked for.
type spy struct {
	syncClient
	renewed bool
}

func (s *spy) Renew(ctx context.Context, r *connect.Request[syncpb.RenewRequest]) (*connect.Response[syncpb.RenewResponse], error) {
	s.renewed = true
	return s.syncClient.Renew(ctx, r)
}
