package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/block"
)

// disk is what the last look at the disks has shown.
type disk struct {
	free atomic.Int64
	low  atomic.Bool // this node has less than the reserve
	full atomic.Bool // pushes and uploads are answered so while this node leads: it is low, or a majority is
}

// watchDisk looks at the disk again and again.
func (s *Store) watchDisk(ctx context.Context) {
	tick := time.NewTicker(s.cfg.SnapshotCheck)
	defer tick.Stop()
	var tried time.Time
	for {
		others := s.lookAtDisks(ctx)
		if s.disk.low.Load() && s.leads.Load() != 0 && time.Since(tried) > drainPause {
			tried = s.giveAway(ctx, others, tried)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Store) lookAtDisks(ctx context.Context) (others map[string]int64) {
	free, err := s.cfg.Free(s.cfg.Dir)
	if err != nil {
		s.cfg.Logger.Warn("how much room the disk has cannot be told", "dir", s.cfg.Dir, "error", err)
		free = s.cfg.Reserve // a disk that is really full ends the process when a write fails
	}
	low := free < s.cfg.Reserve || s.Full()
	s.disk.free.Store(free)
	if s.disk.low.Swap(low) != low {
		s.cfg.Logger.Warn("room for the store", "low", low, "free", free, "reserve", s.cfg.Reserve, "state", s.Size(), "stateLimit", s.MaxSize())
	}
	if s.cfg.Others != nil && s.leads.Load() != 0 {
		ask, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		defer cancel()
		others = s.cfg.Others(ask)
	}
	voters, lows := 0, 0
	for _, m := range s.Members() {
		if !m.Voter {
			continue
		}
		voters++
		bytes, known := others[m.ID]
		if m.ID == s.cfg.NodeID && low || m.ID != s.cfg.NodeID && known && bytes < s.cfg.Reserve {
			lows++
		}
	}
	full := low || voters > 0 && lows > voters/2
	s.disk.full.Store(full)
	s.cfg.Metrics.disk(free, full)
	return others
}

// giveAway lets a node lead that has room. It gives the time of the try, if there was one.
func (s *Store) giveAway(ctx context.Context, others map[string]int64, tried time.Time) time.Time {
	best, most := "", s.cfg.Reserve-1
	for _, m := range s.Members() {
		if bytes, known := others[m.ID]; known && m.Voter && m.ID != s.cfg.NodeID && bytes > most {
			best, most = m.ID, bytes
		}
	}
	if best == "" {
		return tried
	}
	wait, cancel := context.WithTimeout(ctx, memberWait)
	defer cancel()
	err := s.Transfer(wait, best)
	s.cfg.Logger.Warn("this node's disk is nearly full: another is to lead", "node", best, "error", err)
	return time.Now()
}

// roomFor refuses what would fill the disks while they are nearly full. What makes room, what
// steers and a secret that takes no more than the one before is taken.
func (s *Store) roomFor(cmd model.Command) *model.Error {
	full, what := s.disk.full.Load(), "a release"
	switch cmd := cmd.(type) {
	case *model.AddRelease:
		need := s.cfg.Reserve
		for _, f := range cmd.Files {
			need += f.Size
		}
		free := s.disk.free.Load() // 0 before the first look
		full = full || free > 0 && free < need
	case *model.PutReleasePiece:
	case *model.SetSecret:
		full, what = full && s.grows(cmd), "a secret that takes more than the one before"
	default:
		return nil
	}
	if !full {
		return nil
	}
	return model.Errorf(model.Unavailable, "the disks of the control plane have no room for %s: crossdock cluster status shows what is free; make room, then try again", what)
}

// grows says that a secret takes more room than what is there by its name.
func (s *Store) grows(c *model.SetSecret) bool {
	for _, one := range s.SecretsOf(c.Agent) {
		if one.Name == c.Name {
			kept := 0
			if c.KeepFormer {
				kept = len(one.Sealed)
			}
			return int64(len(c.Sealed)+kept) > one.Bytes()
		}
	}
	return true
}

// offerFull takes of a push only what is for the control plane itself; for every other lane
// the answer is that there is no room, without an entry.
func (s *Store) offerFull(ctx context.Context, p *model.Push) (wait func() answer) {
	small, refused := s.held(p)
	if len(small.Blocks) == 0 && len(small.Gaps) == 0 {
		a := answer{Result: state.Result{Value: &model.PushResult{Lanes: refused}}, index: s.progress.at()}
		return func() answer { return a }
	}
	text, err := encode(small)
	if err != nil {
		return func() answer { return answer{Result: state.Result{Err: err}} }
	}
	r := s.submit(ctx, text)
	return func() answer {
		a := s.wait(ctx, r)
		if result, ok := a.Value.(*model.PushResult); ok && a.Err == nil {
			result.Lanes = append(result.Lanes, refused...)
		}
		return a
	}
}

// held parts a push into what is taken all the same and the answers for the other lanes. A
// block that nobody can read is left to the state to refuse.
func (s *Store) held(p *model.Push) (small *model.Push, refused []model.LaneAnswer) {
	small = &model.Push{At: p.At, Agent: p.Agent, Epoch: p.Epoch}
	lanes := map[string]bool{}
	for _, text := range p.Blocks {
		envelope, err := block.ParseEnvelope(text)
		if err != nil || len(envelope.To) == 1 && envelope.To[0].Agent == block.Control {
			small.Blocks = append(small.Blocks, text)
			continue
		}
		for _, lane := range envelope.To {
			lanes[lane.Agent] = true
		}
	}
	for _, gap := range p.Gaps {
		if gap.Destination == block.Control {
			small.Gaps = append(small.Gaps, gap)
			continue
		}
		lanes[gap.Destination] = true
	}
	delete(lanes, block.Control) // the state answers for it, or nothing was offered alone
	for _, lane := range s.Lanes(p.Agent, p.Epoch) {
		if lanes[lane.Destination] {
			refused = append(refused, model.LaneAnswer{Destination: lane.Destination, Highwater: lane.Highwater, Full: true})
			delete(lanes, lane.Destination)
		}
	}
	for destination := range lanes { // nothing has ever come on these
		refused = append(refused, model.LaneAnswer{Destination: destination, Full: true})
	}
	return small, refused
}
