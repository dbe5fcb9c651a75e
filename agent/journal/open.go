package journal

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
)

const (
	markAccepted = "total/accepted"
	markReceived = "total/received"

	markOut = "out/" // + destination: last number given on the lane
	markIn  = "in/"  // + source + "/" + epoch: last number committed here

	// laneJump is left unused on each lane when the newest marks were lost with a file: a
	// number that was given once must never be given again, and a gap tells the other side.
	laneJump = 1 << 24

	indexStride = 1024 // numbers between two entries of a lane's index
	readRecords = 512
	readBytes   = 4 << 20
	scanBytes   = 64 << 20 // a call that finds nothing returns after this much
	queueLength = 1024     // requests that wait for a commit
)

// Journal is the open journal. All methods are safe for concurrent use.
type Journal struct {
	cfg      Config
	requests chan *request
	stopped  chan struct{}
	// repeats knows where the last events are, by half of their hash. A hit is only a hint: the
	// stored event decides. Used by Open and then by Run only.
	repeats *recent[uint64, uint64]
	epoch   atomic.Uint64
	room    []byte // of the last commit's records; used by Run only

	mu       sync.Mutex
	end      uint64                       // position behind the last commit; moves with out
	local    uint64                       // from it to end nothing has a target here
	internal uint64                       // from it to end nothing internal has come
	inner    map[string][]span            // numbers of internal events, by destination
	told     []toldFact                   // on the lane to the control plane, ascending
	toldSize int64                        // what they take
	grown    chan struct{}                // closed and replaced when end moves
	out      map[string]uint64            // last number given, by destination
	in       map[string]map[uint64]uint64 // last number committed, by source and epoch
	since    map[lane]uint64              // position of an epoch's first record, if the source had an earlier one
	known    map[string]*known            // by source
	trails   map[lane]*trail
	index    map[string][]lanePoint

	// What Flushed needs: the order of revisions, what a commit under way holds, and the
	// revision below which nothing is accepted any more. Before runsFrom the order is not known.
	runs       []run
	runsFrom   uint64
	committing []block.Revision
	floor      block.Revision

	unsaved  bool // out is ahead of the marks in the log: write all with the next commit
	stats    Stats
	reported map[uint64]bool // damaged positions that OnDamage was told of
}

// lanePoint says where a lane's number lies; an index holds every indexStride'th or so.
type lanePoint struct{ number, pos uint64 }

// Open reads the newest events of the log to know repeats, and the state of all lanes.
func Open(cfg Config) (*Journal, error) {
	if cfg.Log == nil || cfg.Self == "" {
		return nil, errors.New("journal: Log and Self must be set")
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewMetrics(nil)
	}
	if cfg.Window <= 0 {
		cfg.Window = DedupeWindow
	}
	if cfg.Known <= 0 {
		cfg.Known = MaxKnown
	}
	j := &Journal{
		cfg: cfg, requests: make(chan *request, queueLength), stopped: make(chan struct{}),
		repeats: newRecent[uint64, uint64](cfg.Window), end: cfg.Log.Next(), grown: make(chan struct{}),
		out: map[string]uint64{}, in: map[string]map[uint64]uint64{},
		index: map[string][]lanePoint{}, reported: map[uint64]bool{},
		since: map[lane]uint64{}, known: map[string]*known{}, trails: map[lane]*trail{}, inner: map[string][]span{},
	}
	j.local, j.internal = j.end, j.end
	j.epoch.Store(cfg.Epoch)
	totals := cfg.Log.Marks("total/")
	j.stats.Accepted, j.stats.Received = totals[markAccepted], totals[markReceived]
	for name, n := range cfg.Log.Marks(markOut) {
		j.out[strings.TrimPrefix(name, markOut)] = n
	}
	for name, n := range cfg.Log.Marks(markIn) {
		l, ok := parseLane(markIn, name)
		if !ok {
			return nil, fmt.Errorf("journal: mark %q does not name an inbound lane", name)
		}
		j.setInbound(l.source, l.epoch, n)
	}
	for name, pos := range cfg.Log.Marks(markSince) {
		l, ok := parseLane(markSince, name)
		if !ok {
			return nil, fmt.Errorf("journal: mark %q does not name an inbound lane", name)
		}
		j.since[l] = pos
	}
	if err := j.replay(); err != nil {
		return nil, err
	}
	j.boundEpochs()
	if cfg.Log.MarksStale() {
		j.jumpLanes()
	}
	return j, nil
}

func (j *Journal) setInbound(source string, epoch, n uint64) {
	if j.in[source] == nil {
		j.in[source] = map[uint64]uint64{}
	}
	j.in[source][epoch] = n
}

// replay goes over the last records, as many as the window has, and learns identities and
// lane numbers from them. Lanes are never behind a record that was committed.
func (j *Journal) replay() error {
	from := j.cfg.Log.First()
	// Behind a damaged file positions were skipped, and its marks are lost: only its records
	// tell how far the lanes came, and they may lie further back than a window.
	if window := uint64(j.cfg.Window); j.end > window && !j.cfg.Log.MarksStale() {
		from = max(from, j.end-window)
	}
	if from > j.cfg.Log.First() {
		j.runsFrom = from
	}
	err := j.eachAhead(from, j.end, func(pos uint64, r record) { j.replayOne(pos, r, from) })
	j.retraceRest(from)
	return err
}

func (j *Journal) replayOne(pos uint64, r record, from uint64) {
	switch {
	case r.entry != nil:
		j.repeats.add(half(r.entry.ID), pos)
		for _, n := range r.entry.Numbers {
			j.out[n.Agent] = max(j.out[n.Agent], n.Seq)
			j.addIndex(n.Agent, n.Seq, pos)
		}
		j.noteInternal(&r.entry.Head, r.entry.Numbers, pos)
		j.noteFact(&r.entry.Head, r.entry.Numbers, len(r.entry.Body))
		if len(r.entry.Numbers) > 0 {
			j.noteRevision(r.entry.Revision, pos)
		}
	case r.block != nil:
		e, err := block.ParseEnvelope(r.block)
		if err != nil {
			return
		}
		if to, ok := e.Lane(j.cfg.Self); ok {
			j.raiseInbound(e.Origin.Agent, e.Origin.Epoch, e.Last(to.First))
			j.retrace(laneOf(e.Origin), to.First+uint64(r.skip), e.Last(to.First), pos, from)
		}
	case r.gap != nil:
		j.raiseInbound(r.gap.Source, r.gap.Epoch, r.gap.Last)
		j.retrace(lane{r.gap.Source, r.gap.Epoch}, r.gap.First, r.gap.Last, pos, from)
	}
}

// boundEpochs gives a lane whose mark is missing, because it was lost or never written, the
// end as the place that no earlier epoch of its source comes behind.
func (j *Journal) boundEpochs() {
	for source, epochs := range j.in {
		oldest := slices.Min(slices.Collect(maps.Keys(epochs)))
		for epoch := range epochs {
			l := lane{source, epoch}
			if _, ok := j.since[l]; !ok && epoch > oldest {
				j.since[l] = j.end
			}
		}
	}
}

func (j *Journal) raiseInbound(source string, epoch, n uint64) {
	if n > j.in[source][epoch] {
		j.setInbound(source, epoch, n)
	}
}

func (j *Journal) jumpLanes() {
	for dest := range j.out {
		j.out[dest] += laneJump
	}
	j.unsaved = true
	j.cfg.Logger.Error("the newest lane numbers were lost with a file of the journal; every lane goes on behind a gap", "lanes", len(j.out), "gap", laneJump)
}

func (j *Journal) addIndex(dest string, number, pos uint64) {
	points := j.index[dest]
	if n := len(points); n == 0 || number >= points[n-1].number+indexStride {
		j.index[dest] = append(points, lanePoint{number, pos})
	}
}

// SetEpoch has blocks cut from now on carry another epoch. The numbers of lanes go on: a
// number stands for one event however many epochs there are.
func (j *Journal) SetEpoch(epoch uint64) { j.epoch.Store(epoch) }

// Highest is the last number given on the lane to dest.
func (j *Journal) Highest(dest string) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out[dest]
}

// Outbound is the last number given on each lane, by destination.
func (j *Journal) Outbound() map[string]uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.out)
}

// Highwaters lists the lanes to this agent.
func (j *Journal) Highwaters() []Inbound {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Inbound
	for source, epochs := range j.in {
		for epoch, n := range epochs {
			out = append(out, Inbound{Source: source, Epoch: epoch, Highwater: n})
		}
	}
	slices.SortFunc(out, func(a, b Inbound) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Epoch, b.Epoch))
	})
	return out
}

// First is the oldest position held.
func (j *Journal) First() uint64 { return j.cfg.Log.First() }

// Next is the position behind the last commit.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end
}

// ends gives Next, and where the last record with a target here ends, and the last internal one.
func (j *Journal) ends() (end, local, internal uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.end, j.local, j.internal
}

// Wait returns when Next is beyond pos. The log alone does not tell: it shows an append a
// moment before Next and the lanes do, and who reads in that moment would miss it.
func (j *Journal) Wait(ctx context.Context, pos uint64) error {
	for {
		j.mu.Lock()
		end, grown := j.end, j.grown
		j.mu.Unlock()
		if end > pos {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-grown:
		}
	}
}

// Trim lets go of history before position before that is older than olderThan, as far as
// whole files hold nothing else.
func (j *Journal) Trim(before uint64, olderThan time.Time) (dropped uint64, err error) {
	dropped, err = j.cfg.Log.Trim(before, olderThan)
	first := j.cfg.Log.First()
	j.mu.Lock()
	defer j.mu.Unlock()
	for dest, points := range j.index {
		i, _ := slices.BinarySearchFunc(points, first, func(p lanePoint, pos uint64) int { return cmp.Compare(p.pos, pos) })
		j.index[dest] = slices.Clone(points[i:])
	}
	j.forgetInternal(first)
	j.forget(first)
	return dropped, err
}

func half(id [16]byte) uint64 { return binary.BigEndian.Uint64(id[:8]) }
