package journal

import (
	"strconv"
	"strings"
	"sync"

	"github.com/crossdock/crossdock/protocol/block"
)

// A source that begins a new epoch runs on an older copy of its data, and sends again what
// that copy does not know as sent. So the events of the new epoch are compared, by id, with
// what the source sent in its earlier ones; what is known is dropped where the block is
// committed, and stays dropped, for the record of the block says so.

// MaxKnown is how many events of a source's earlier epochs are remembered: the newest.
const MaxKnown = 1 << 20

// markSince + source + "/" + epoch is the position of that epoch's first record. All that
// the source sent in earlier epochs lies before it, so nobody has to look behind it.
const markSince = "since/"

func laneMark(prefix string, l lane) string {
	return prefix + l.source + "/" + strconv.FormatUint(l.epoch, 10)
}

// parseLane undoes laneMark.
func parseLane(prefix, name string) (l lane, ok bool) {
	rest := strings.TrimPrefix(name, prefix)
	i := strings.LastIndexByte(rest, '/')
	if i <= 0 {
		return l, false
	}
	epoch, err := strconv.ParseUint(rest[i+1:], 10, 64)
	return lane{rest[:i], epoch}, err == nil
}

// known holds the ids of what one source sent before an epoch.
type known struct {
	epoch uint64

	mu   sync.Mutex // held while history is read; taken before Journal.mu
	upTo uint64     // history before it has been read
	ids  *recent[[16]byte, struct{}]
}

// knownBefore gives the set for a lane, and up to where history has to be read for it; nil
// if the source had no earlier epoch here, or nothing of one is held any more.
func (j *Journal) knownBefore(l lane) (k *known, end uint64) {
	first := j.First()
	j.mu.Lock()
	defer j.mu.Unlock()
	earlier := false
	for epoch := range j.in[l.source] {
		earlier = earlier || epoch < l.epoch
	}
	end = j.end
	if at, ok := j.since[l]; ok {
		end = at
	}
	if !earlier || end <= first {
		return nil, 0
	}
	k = j.known[l.source]
	switch {
	case k == nil || k.epoch < l.epoch:
		k = &known{epoch: l.epoch, ids: newRecent[[16]byte, struct{}](j.cfg.Known)}
		j.known[l.source] = k
	case k.epoch > l.epoch:
		return nil, 0 // the lane is fenced
	}
	return k, end
}

// learn reads the history that the set for a lane still lacks: all of it at the first block
// of an epoch after a start, next to nothing later. It reads headers, and opens no block.
func (j *Journal) learn(l lane) (*known, error) {
	k, end := j.knownBefore(l)
	if k == nil {
		return nil, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for at := max(k.upTo, j.First()); at < end; {
		batch, err := j.batch(at)
		if err != nil {
			return nil, err
		}
		if len(batch) == 0 {
			break
		}
		for _, s := range batch {
			if s.pos >= end {
				break
			}
			at = s.last + 1
			for _, id := range idsOf(s, l) {
				k.ids.add(id, struct{}{})
			}
		}
		k.upTo = at
	}
	k.upTo = max(k.upTo, end)
	return k, nil
}

// idsOf gives the ids of a block that the lane's source sent in an earlier epoch. A record
// that cannot be read has none; whoever reads it for its events reports it.
func idsOf(s stored, l lane) (ids [][16]byte) {
	if s.damage != nil || len(s.data) == 0 || s.data[0] == kindEntry || s.data[0] == kindGap {
		return nil
	}
	r, err := parseRecord(s.data)
	if err != nil {
		return nil
	}
	envelope, heads, err := block.ParseHeads(r.block)
	if err != nil || envelope.Origin.Agent != l.source || envelope.Origin.Epoch >= l.epoch {
		return nil
	}
	for i := range heads {
		ids = append(ids, heads[i].ID)
	}
	return ids
}

// dropped marks the events of an arrival, from index skip on, that its source sent in an
// earlier epoch: one bit for each event, nil if there is none; and counts them.
func (c *commit) dropped(l lane, a *arrival, skip int) (bits []byte, count int, err error) {
	k, err := c.j.learn(l)
	if err != nil {
		return nil, 0, err
	}
	isKnown := func(id [16]byte) bool {
		for _, b := range c.blocks {
			if b.lane.source == l.source && b.lane.epoch < l.epoch {
				if _, ok := b.ids[id]; ok {
					return true
				}
			}
		}
		return false
	}
	if k != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
	}
	for i := skip; i < len(a.heads); i++ {
		id, found := a.heads[i].ID, false
		if k != nil {
			_, found = k.ids.find(id)
		}
		if !found && !isKnown(id) {
			continue
		}
		if bits == nil {
			bits = make([]byte, (len(a.heads)+7)/8)
		}
		bits[i/8] |= 1 << (i % 8)
		count++
	}
	return bits, count, nil
}

// forget lets go of sets about what is not held any more; j.mu is held.
func (j *Journal) forget(first uint64) {
	for source, k := range j.known {
		if at, ok := j.since[lane{source, k.epoch}]; ok && at <= first {
			delete(j.known, source)
		}
	}
}
