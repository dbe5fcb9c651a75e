package uplink

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
	"github.com/crossdock/crossdock/protocol/transport"
)

// helloTimeout bounds a hello on a path that was found to carry one: a node that cannot
// reach the leader is left for another.
const helloTimeout = 10 * time.Second

// greeting is what came of a hello: the session is open.
type greeting struct {
	mark   transport.Mark
	counts bool // the session is counted, and its calls are marked
	answer *syncpb.HelloResponse
	skew   time.Duration // the control plane's clock less ours
}

// marked makes a call of the session.
func marked[T any](g *greeting, message *T) *connect.Request[T] {
	r := connect.NewRequest(message)
	if g.counts {
		r.Header().Set(transport.SessionHeader, g.mark.String())
	}
	return r
}

// look is the hello by which the dialer tries its paths: it opens no session and changes
// nothing, so that it can run on two paths at once, and arrive late.
func (u *Uplink) look(ctx context.Context, client syncpbconnect.SyncClient) error {
	_, err := client.Hello(ctx, connect.NewRequest(&syncpb.HelloRequest{
		Protocol: ProtocolVersion, Version: u.cfg.Version, Epoch: u.cfg.Epoch(), NowUnixMs: time.Now().UnixMilli()}))
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	return nil
}

// greet opens a session, with a new epoch where this agent needs one.
func (u *Uplink) greet(ctx context.Context, client syncpbconnect.SyncClient) (*greeting, error) {
	if err := u.Begin(); err != nil {
		return nil, err
	}
	// A request whose answer was lost goes first. Until it is answered nothing else may be
	// said: the next session could pass for one of the agent that this one is a copy of.
	nonce, why, waiting := u.cfg.Identity.PendingEpoch()
	for try := 0; ; try++ {
		if waiting {
			if err := u.newEpoch(ctx, client, nonce, why); err != nil {
				return nil, err
			}
		}
		g, err := u.hello(ctx, client)
		if err != nil {
			return nil, err
		}
		if why, err = u.examine(g.answer); err != nil {
			return nil, err
		}
		if why == "" {
			return g, u.settle(g.answer)
		}
		if try > 0 || u.cfg.BeginEpoch == nil {
			return nil, fmt.Errorf("%s: %w", why, errBehind)
		}
		u.log.Error("this agent runs on an old copy of its data, or another copy is running; asking for a new epoch", "why", why)
		if nonce, err = u.cfg.Identity.RequestEpoch(why); err != nil {
			return nil, err
		}
		waiting = true
	}
}

// Begin finds out once what this copy of the agent had given when it last began on its own,
// and has it kept. It is to be called before anything is accepted: numbers given while no
// session opens, over restarts too, must not pass for those that the relay holds.
func (u *Uplink) Begin() error {
	if u.begun {
		return nil
	}
	given, err := u.cfg.Identity.Baseline(u.given)
	if err != nil {
		return err
	}
	u.given, u.begun = given, true
	return nil
}

// hello says who this is and what it holds, under a number that was never used before.
func (u *Uplink) hello(ctx context.Context, client syncpbconnect.SyncClient) (*greeting, error) {
	g := &greeting{mark: transport.Mark{Epoch: u.cfg.Epoch()}}
	if u.cfg.NextSession != nil {
		number, err := u.cfg.NextSession()
		if err != nil {
			return nil, fmt.Errorf("count the session: %w", err)
		}
		g.counts, g.mark.Number = true, number
		rand.Read(g.mark.Nonce[:]) // never fails
	}
	begun := time.Now()
	request := u.helloRequest(g.mark)
	for _, h := range u.cfg.Inbox.Highwaters() {
		request.Inbound = append(request.Inbound, &syncpb.Lane{
			Source: h.Source, Epoch: h.Epoch, Destination: u.cfg.Agent, Highwater: h.Number})
	}
	answer, err := u.callHello(ctx, client, request)
	if err != nil {
		return nil, err
	}
	g.answer = answer
	g.skew = time.UnixMilli(answer.NowUnixMs).Sub(begun.Add(time.Since(begun) / 2))
	return g, nil
}

func (u *Uplink) helloRequest(mark transport.Mark) *syncpb.HelloRequest {
	held := u.cfg.Policy.Held()
	request := &syncpb.HelloRequest{
		Protocol: ProtocolVersion, Version: u.cfg.Version, Epoch: mark.Epoch, NowUnixMs: time.Now().UnixMilli(),
		Revision: &syncpb.Revision{Generation: held.Generation, Number: held.Number},
		Session:  mark.Number, Nonce: mark.Nonce[:], Numbers: u.numbersHeld(),
	}
	if u.cfg.Known != nil {
		request.Generation, request.Incarnation = u.cfg.Known()
	}
	return request
}

func (u *Uplink) callHello(ctx context.Context, client syncpbconnect.SyncClient, request *syncpb.HelloRequest) (*syncpb.HelloResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, min(u.cfg.CallTimeout, helloTimeout))
	defer cancel()
	answer, err := client.Hello(ctx, connect.NewRequest(request))
	if err != nil {
		return nil, fmt.Errorf("hello: %w", err)
	}
	return answer.Msg, nil
}

// examine says why this agent needs a new epoch; empty if it does not. A fenced agent
// needs one too, but is not the one to decide that.
func (u *Uplink) examine(answer *syncpb.HelloResponse) (why string, err error) {
	epoch := u.cfg.Epoch()
	switch {
	case answer.Stale && answer.Epoch > epoch:
		return "an operator has let this copy of the agent in again", nil
	case answer.Stale:
		return "a later session of this epoch was opened by another copy of this agent", nil
	case answer.Epoch > epoch:
		u.fence(fmt.Sprintf("this agent is in epoch %d, the control plane has granted %d to another copy of it", epoch, answer.Epoch))
		return "", fmt.Errorf("this agent is in epoch %d, the control plane has granted %d: %w", epoch, answer.Epoch, errFenced)
	case answer.Epoch != 0 && answer.Epoch < epoch:
		return "", fmt.Errorf("this agent is in epoch %d, the control plane knows of %d only: it was restored from an older backup, or node %s is behind; trying again",
			epoch, answer.Epoch, answer.Node)
	}
	for _, l := range answer.Outbound {
		if l.Epoch == epoch && l.Highwater > u.most(l.Destination) {
			return fmt.Sprintf("the relay holds event %d of the lane to %s, of which this copy of the agent has sent no more than %d",
				l.Highwater, l.Destination, u.most(l.Destination)), nil
		}
	}
	return "", nil
}

// most is the highest number of a lane that the relay can have from this copy of the agent.
func (u *Uplink) most(destination string) uint64 {
	return max(u.given[destination], u.offered[destination])
}

// newEpoch asks for a new epoch and begins it.
func (u *Uplink) newEpoch(ctx context.Context, client syncpbconnect.SyncClient, nonce [16]byte, why string) error {
	if u.cfg.BeginEpoch == nil {
		return fmt.Errorf("%s: %w", why, errBehind)
	}
	request := u.helloRequest(transport.Mark{Epoch: u.cfg.Epoch(), Nonce: nonce})
	request.NewEpoch, request.Why = true, why
	answer, err := u.callHello(ctx, client, request)
	if connect.CodeOf(err) == connect.CodePermissionDenied {
		u.fence(err.Error())
		return fmt.Errorf("a new epoch was refused: %w: %w", errFenced, err)
	} else if err != nil {
		return fmt.Errorf("ask for a new epoch: %w", err)
	}
	if answer.Epoch <= u.cfg.Epoch() {
		return fmt.Errorf("asked for a new epoch, the control plane granted %d: this agent is in epoch %d already", answer.Epoch, u.cfg.Epoch())
	}
	if err := u.cfg.BeginEpoch(answer.Epoch, why); err != nil {
		return fmt.Errorf("begin epoch %d: %w", answer.Epoch, err)
	}
	if u.cfg.Epoch() != answer.Epoch {
		return fmt.Errorf("epoch %d was begun, and the agent is in %d", answer.Epoch, u.cfg.Epoch())
	}
	u.log.Warn("a new epoch has begun; what the relay has not taken as far as this copy knows is sent again", "epoch", answer.Epoch, "why", why)
	return nil
}

// settle notes what the control plane has said of itself, before anything is sent to it.
func (u *Uplink) settle(answer *syncpb.HelloResponse) error {
	if err := u.remember(answer.Generation, answer.Incarnation, answer.Nodes); err != nil {
		return err
	}
	if !u.agreed {
		if err := u.cfg.Identity.Agreed(); err != nil {
			return err
		}
		u.agreed = true
	}
	if u.cfg.Numbers != nil {
		err := u.cfg.Numbers.Agreed()
		u.sure = err == nil
		if err != nil {
			u.log.Warn("it cannot be noted that this copy of the agent counts; it gives no numbers that it is unsure of", "err", err)
		}
	}
	u.fence("")
	return nil
}

// remember notes what the control plane says of itself.
func (u *Uplink) remember(generation uint64, incarnation string, nodes []string) error {
	if u.cfg.Remember == nil || incarnation == "" {
		return nil
	}
	if err := u.cfg.Remember(generation, incarnation, nodes); err != nil {
		return fmt.Errorf("remember the control plane: %w", err)
	}
	return nil
}

// fence tells whether, and why, another copy of this agent has a later epoch.
func (u *Uplink) fence(why string) {
	changed := !u.told
	u.setState(func(s *State) {
		changed = changed || (s.Fenced == "") != (why == "")
		s.Fenced = why
	})
	u.told = true
	if changed && u.cfg.Fenced != nil {
		u.cfg.Fenced(why != "", why)
	}
}

// elsewhere reports whether another node may do better after this failure.
func elsewhere(err error) bool {
	if errors.Is(err, errSilent) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := connect.CodeOf(err)
	return code == connect.CodeUnavailable || code == connect.CodeDeadlineExceeded
}
