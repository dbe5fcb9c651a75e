package numbers

import (
	"context"
	"fmt"
	"time"
)

// Run notes every minute that this file is in use, and tells people when few numbers are left
// and no more come. It fails when what is on disk is not known any more.
func (s *Store) Run(ctx context.Context) error {
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	look := time.NewTicker(max(s.cfg.Grace/2, time.Millisecond))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.ended:
			return s.broken // set before, and never again
		case <-alive.C:
			if err := s.alive(); err != nil {
				s.log.Warn("it cannot be noted that the leases of numbers are in use", "err", err)
			}
		case <-look.C:
		case <-s.look:
		}
		s.watch()
	}
}

// watch looks at each range once.
func (s *Store) watch() {
	connected := s.cfg.Connected()
	for _, h := range s.Holdings() {
		why := h.Refused
		if !connected && why == "" {
			why = "there is no session with the control plane"
		} else if !connected {
			why += "; and there is no session with the control plane"
		}
		s.mu.Lock()
		due := s.due(h, why != "")
		s.mu.Unlock()
		if due {
			s.tell(h, why)
		}
	}
}

// due says whether it is time to tell of a range, once for each time that it runs low.
func (s *Store) due(h Holding, stuck bool) bool {
	if h.Left >= h.Low || !stuck {
		delete(s.since, h.Range)
		return false
	}
	now := s.cfg.Now()
	since, known := s.since[h.Range]
	if !known {
		s.since[h.Range], since = now, now
	}
	what := lowID(h)
	if now.Sub(since) < s.cfg.Grace || s.told[what] {
		return false
	}
	s.told[what] = true
	return true
}

// lowID is the same until more are leased, but for when the last one is given.
func lowID(h Holding) string { return fmt.Sprintf("%s/%d/%t", h.Range, h.Highest, h.Left == 0) }

func (s *Store) tell(h Holding, why string) {
	kind, text := "numbers-low", fmt.Sprintf("site %s has %d numbers of range %s left, fewer than %d, and gets no more: %s. When they are used up, nothing that needs one can be printed there",
		s.cfg.Site, h.Left, h.Range, h.Low, why)
	if h.Left == 0 {
		kind, text = "numbers-used-up", fmt.Sprintf("site %s has no numbers of range %s left and gets no more: %s. Nothing that needs one can be printed there", s.cfg.Site, h.Range, why)
	}
	s.log.Error(text)
	s.cfg.Alarm(kind, fmt.Sprintf("%s/%d", h.Range, h.Highest), text)
}
