package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
)

// request is one command on its way into the log.
type request struct {
	text []byte
	done chan answer // takes one, never blocks
}

// answer is what came of a command.
type answer struct {
	state.Result
	index uint64 // of its entry; 0: it surely got or may have got none, as Err says
	again bool   // surely not done, and another leader might
}

func failed(code model.Code, err error) answer {
	return answer{Result: state.Result{Err: model.Errorf(code, "%v", err)}}
}

// Apply gives a command its place in the log and waits for its effect, here or by way of
// the node that leads; after that this node's reads show it. An error is always a
// *model.Error; only with code Unknown may the command have been done, or be done later.
func (s *Store) Apply(ctx context.Context, cmd model.Command) (any, error) {
	began := time.Now()
	result := s.apply(ctx, cmd)
	s.cfg.Metrics.applied(cmd, result.Err, time.Since(began))
	if result.Err != nil {
		return nil, result.Err
	}
	return result.Value, nil
}

func (s *Store) apply(ctx context.Context, cmd model.Command) state.Result {
	if err := s.Ready(); err != nil {
		return failed(model.Unavailable, err).Result
	}
	push, ok := cmd.(*model.Push)
	if !ok {
		return s.everywhere(ctx, []model.Command{cmd})[0].Result
	}
	parts := splitPush(push)
	commands := make([]model.Command, len(parts))
	for i := range parts {
		commands[i] = &parts[i]
	}
	return joinPush(s.everywhere(ctx, commands))
}

// everywhere takes commands, in their order, to whoever leads. What was surely not done is
// tried once more when another leads; after that it is for the caller to come again.
func (s *Store) everywhere(ctx context.Context, commands []model.Command) []answer {
	leader, _ := s.Leader()
	if leader == "" {
		s.awaitLeader(ctx, "")
		leader, _ = s.Leader()
	}
	answers := s.toLeader(ctx, commands)
	for i := range answers {
		if !answers[i].again || ctx.Err() != nil {
			continue
		}
		s.awaitLeader(ctx, leader)
		return append(answers[:i], s.toLeader(ctx, commands[i:])...)
	}
	return answers
}

// toLeader gives the commands' answers; after one that was not done the rest may be missing.
func (s *Store) toLeader(ctx context.Context, commands []model.Command) []answer {
	leader, self := s.Leader()
	switch {
	case self:
		return s.here(ctx, commands)
	case leader == "":
		return []answer{{Result: failed(model.Unavailable, errors.New("no node leads the cluster")).Result, again: true}}
	}
	answers := make([]answer, len(commands))
	var calls sync.WaitGroup
	for i, cmd := range commands { // the leader brings the parts of a push into their order
		calls.Go(func() { answers[i] = s.forward(ctx, leader, cmd) })
	}
	calls.Wait()
	for i := range answers {
		if answers[i].Err != nil {
			return answers[:i+1]
		}
	}
	return answers
}

// here puts commands into this node's log.
func (s *Store) here(ctx context.Context, commands []model.Command) []answer {
	waits := make([]func() answer, len(commands))
	for i, cmd := range commands {
		text, err := encode(cmd)
		if err != nil {
			waits[i] = func() answer { return answer{Result: state.Result{Err: err}} }
			continue
		}
		waits[i] = s.offer(ctx, cmd, text)
	}
	answers := make([]answer, len(commands))
	for i, wait := range waits {
		answers[i] = wait()
	}
	return answers
}

func encode(cmd model.Command) ([]byte, *model.Error) {
	text, err := state.Encode(cmd)
	if err != nil {
		code := model.CodeOf(err)
		if code == model.Unknown {
			code = model.Invalid
		}
		return nil, model.Errorf(code, "%v", err)
	}
	return text, nil
}

// offer submits a command, unless the disk has no room for what it brings.
func (s *Store) offer(ctx context.Context, cmd model.Command, text []byte) (wait func() answer) {
	switch cmd := cmd.(type) {
	case *model.Beacon, *model.BeaconReport:
	case *model.Push:
		s.beacon.dirty.Store(true)
		if s.disk.full.Load() {
			return s.offerFull(ctx, cmd)
		}
		return s.offerPush(ctx, cmd, text)
	default:
		if err := s.roomFor(cmd); err != nil {
			return func() answer { return answer{Result: state.Result{Err: err}} }
		}
		s.beacon.dirty.Store(true)
	}
	r := s.submit(ctx, text)
	return func() answer { return s.wait(ctx, r) }
}

// submit hands a command to the loop that fills entries. The order of submissions by one
// goroutine is their order in the log.
func (s *Store) submit(ctx context.Context, text []byte) *request {
	r := &request{text: text, done: make(chan answer, 1)}
	select {
	case s.requests <- r:
	case <-ctx.Done():
		r.done <- failed(model.Unavailable, fmt.Errorf("not begun: %w", context.Cause(ctx)))
	case <-s.ended:
		r.done <- failed(model.Unavailable, errors.New("the store has ended"))
	}
	return r
}

func (s *Store) wait(ctx context.Context, r *request) answer {
	select {
	case result := <-r.done:
		return result
	case <-ctx.Done():
	case <-s.ended:
	}
	select {
	case result := <-r.done:
		return result
	default:
		return failed(model.Unknown, errors.New("gave up waiting; it may have been done or be done yet"))
	}
}

// splitPush cuts a push into commands that fit into an entry. The lanes make that safe:
// when one part is not taken, the next is out of line and changes nothing.
func splitPush(p *model.Push) []model.Push {
	var parts []model.Push
	part, size := model.Push{At: p.At, Agent: p.Agent, Epoch: p.Epoch}, 0
	for i, b := range p.Blocks {
		if size > 0 && size+len(b) > fillEntry {
			parts = append(parts, part)
			part.Blocks, size = nil, 0
		}
		part.Blocks = append(part.Blocks, p.Blocks[i])
		size += len(b)
	}
	gaps := 0
	for i := range p.Gaps {
		gaps += len(p.Gaps[i].Destination) + len(p.Gaps[i].Cause) + gapOverhead
	}
	if size > 0 && size+gaps > fillEntry {
		parts = append(parts, part)
		part.Blocks = nil
	}
	part.Gaps = p.Gaps
	return append(parts, part)
}

// joinPush makes one answer of the parts': for each lane the newest, and the first error.
func joinPush(results []answer) state.Result {
	if len(results) == 1 {
		return results[0].Result
	}
	joined := &model.PushResult{}
	at := map[string]int{}
	for _, r := range results {
		if r.Err != nil {
			return r.Result
		}
		part, ok := r.Value.(*model.PushResult)
		if !ok {
			return failed(model.Unknown, fmt.Errorf("a push was answered with %T", r.Value)).Result
		}
		for _, l := range part.Lanes {
			i, known := at[l.Destination]
			if !known {
				i = len(joined.Lanes)
				at[l.Destination] = i
				joined.Lanes = append(joined.Lanes, model.LaneAnswer{Destination: l.Destination})
			}
			l.Full = l.Full || joined.Lanes[i].Full
			joined.Lanes[i] = l
		}
	}
	return state.Result{Value: joined}
}

// propose fills entries with the commands of many and hands them to raft, so that one
// write to disk serves them all.
func (s *Store) propose(ctx context.Context, n *node) {
	slots := make(chan struct{}, maxInFlight)
	var answering sync.WaitGroup
	defer answering.Wait()
	var held *request
	for {
		batch := make([]*request, 0, 8)
		if held != nil {
			batch = append(batch, held)
		} else {
			select {
			case first := <-s.requests:
				batch = append(batch, first)
			case <-ctx.Done():
				s.refuse()
				return
			}
		}
		slots <- struct{}{} // while this waits, more requests come
		batch, held = s.fill(batch)
		var entry []byte
		for _, q := range batch {
			entry = state.AppendToEntry(entry, q.text)
		}
		future := n.raft.Apply(entry, enqueueWait)
		answering.Go(func() {
			n.distribute(batch, future)
			<-slots
		})
	}
}

// fill takes what waits into a batch that has one; what no longer fits begins the next.
func (s *Store) fill(batch []*request) (filled []*request, held *request) {
	size := len(batch[0].text)
	for len(batch) < maxBatch {
		select {
		case q := <-s.requests:
			if size+len(q.text) > fillEntry {
				return batch, q
			}
			size += len(q.text)
			batch = append(batch, q)
		default:
			return batch, nil
		}
	}
	return batch, nil
}

// refuse answers what came too late.
func (s *Store) refuse() {
	for {
		select {
		case q := <-s.requests:
			q.done <- failed(model.Unavailable, errors.New("the store is ending"))
		default:
			return
		}
	}
}

func (n *node) distribute(batch []*request, future raft.ApplyFuture) {
	results, err := n.outcome(future)
	if err == nil && len(results) != len(batch) {
		err = model.Errorf(model.Unknown, "%d commands were answered with %d results", len(batch), len(results))
	}
	for i, q := range batch {
		if err != nil {
			q.done <- answer{Result: state.Result{Err: err}, again: err.Code == model.Unavailable}
		} else {
			q.done <- answer{Result: results[i], index: future.Index()}
		}
	}
}

// outcome tells what was not done from what may have been.
func (n *node) outcome(future raft.ApplyFuture) ([]state.Result, *model.Error) {
	if err := n.await(future); err != nil {
		return nil, model.Errorf(codeOf(err), "replicate: %v", err)
	}
	switch response := future.Response().(type) {
	case []state.Result:
		return response, nil
	case error:
		return nil, model.Errorf(model.Unknown, "apply: %v", response)
	default:
		return nil, model.Errorf(model.Unknown, "apply: an answer of %T", response)
	}
}

func codeOf(err error) model.Code {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrAbortedByRestore):
		return model.Unavailable
	}
	return model.Unknown // leadership lost, shut down, and whatever raft may come to say
}
