package uplink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

// site is an agent's journal and inbox in memory.
type site struct {
	mu       sync.Mutex
	entries  []map[string]uint64 // position-1: number on each lane
	given    map[string]uint64
	taken    map[string]uint64
	earlier  map[string]uint64
	epoch    uint64
	gone     map[string]uint64 // numbers up to this are no longer held
	why      []string          // of the epochs that were begun
	prefix   string            // of the ids: tells one copy of an agent from another
	grown    chan struct{}
	awaited  uint64 // position that Wait was last called with
	received []string
	fullFor  int // Receive answers ErrFull so often; negative: always
	commands map[string]int
	refuse   error
	revision block.Revision
	offered  []Revision
}

func newSite() *site {
	return &site{epoch: 1, gone: map[string]uint64{}, given: map[string]uint64{}, taken: map[string]uint64{}, grown: make(chan struct{}), commands: map[string]int{}}
}

// add journals one event for some destinations. Its id is its position.
func (s *site) add(destinations ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	numbers := map[string]uint64{}
	for _, d := range destinations {
		s.given[d]++
		numbers[d] = s.given[d]
	}
	s.entries = append(s.entries, numbers)
	close(s.grown)
	s.grown = make(chan struct{})
}

// lane lists the ids that a destination must get.
func (s *site) lane(destination string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for i, numbers := range s.entries {
		if numbers[destination] > 0 {
			out = append(out, s.prefix+fmt.Sprint(i+1))
		}
	}
	return out
}

const cutEvents = 3 // a block of the test: small, so that there are many

func (s *site) Cut(want map[string]uint64, from uint64, maxBlocks int) ([]Cut, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	want = maps.Clone(want)
	var cuts []Cut
	for d, n := range want {
		if n <= s.gone[d] {
			cuts = append(cuts, Cut{Gap: &Gap{Destination: d, First: n, Last: s.gone[d], Cause: "no longer held"}})
			want[d] = s.gone[d] + 1
		}
	}
	if len(cuts) > 0 {
		return cuts, from, nil
	}
	pos := from
	for ; int(pos) <= len(s.entries); pos++ {
		set := map[string]uint64{}
		for d, n := range s.entries[pos-1] {
			if w, ok := want[d]; ok && n == w {
				set[d] = n
			} else if ok && n > w {
				return nil, 0, fmt.Errorf("lane %s wants %d, position %d has %d", d, w, pos, n)
			}
		}
		if len(set) == 0 {
			continue
		}
		last := len(cuts) - 1
		fits := last >= 0 && cuts[last].Count < cutEvents && len(cuts[last].Lanes) == len(set)
		if fits {
			for _, l := range cuts[last].Lanes {
				fits = fits && set[l.Agent] == l.First+uint64(cuts[last].Count)
			}
		}
		if !fits {
			if len(cuts) == maxBlocks {
				break
			}
			cut := Cut{}
			for _, d := range slices.Sorted(maps.Keys(set)) {
				cut.Lanes = append(cut.Lanes, block.Lane{Agent: d, First: set[d]})
			}
			cuts = append(cuts, cut)
			last++
		}
		cuts[last].Count++
		for d := range set {
			want[d]++
		}
		cuts[last].Block = append(cuts[last].Block, fmt.Sprintf("%d,", pos)...) // ids, encoded below
	}
	for i := range cuts {
		var items []block.Item
		for id := range idsOf(cuts[i].Block) {
			items = append(items, block.Item{Head: block.Head{Type: "t"}, Body: block.AppendBody(nil, "key", []byte(s.prefix+id))})
		}
		text, err := block.Cut(block.Origin{Agent: "here", Epoch: s.epoch}, cuts[i].Lanes, items)
		if err != nil {
			return nil, 0, err
		}
		cuts[i].Block = text
	}
	return cuts, pos, nil
}

func idsOf(list []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		id := ""
		for _, c := range list {
			if c != ',' {
				id += string(c)
				continue
			}
			if !yield(id) {
				return
			}
			id = ""
		}
	}
}

func (s *site) current() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// begin is what the agent does in a new epoch: what the relay had taken as far as it knows
// is not sent again.
func (s *site) begin(epoch uint64, why string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.earlier = epoch, maps.Clone(s.taken)
	s.why = append(s.why, why)
	return nil
}

func (s *site) Seek(destination string, number uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, numbers := range s.entries {
		if numbers[destination] >= number {
			return uint64(i + 1), nil
		}
	}
	return uint64(len(s.entries) + 1), nil
}

func (s *site) Outbound() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.given)
}

func (s *site) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.entries) + 1)
}

func (s *site) Wait(ctx context.Context, pos uint64) error {
	for {
		s.mu.Lock()
		grown, next := s.grown, uint64(len(s.entries)+1)
		s.awaited = pos
		s.mu.Unlock()
		if next > pos {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *site) Earlier(destination string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.earlier[destination]
}

func (s *site) Taken(destination string, number uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number < s.earlier[destination] {
		return
	}
	s.taken[destination] = number
}

func (s *site) Receive(_ context.Context, text []byte, _ time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fullFor != 0 {
		s.fullFor--
		return ErrFull
	}
	s.received = append(s.received, string(text))
	return nil
}

func (s *site) ReceiveGap(_ context.Context, gap Gap) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, fmt.Sprintf("gap %s %d-%d", gap.Source, gap.First, gap.Last))
	return nil
}

func (s *site) Highwaters() []Highwater { return nil }

func (s *site) Held() block.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}

func (s *site) Offer(r Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse == nil {
		s.revision, s.offered = r.Number, append(s.offered, r)
	}
	return s.refuse
}

func (s *site) Former(r Revision) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offered = append(s.offered, r)
	return s.refuse
}

func (s *site) command(_ context.Context, id, _ string, arguments []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands[id]++
	return arguments, nil
}
