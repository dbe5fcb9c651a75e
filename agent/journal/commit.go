package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

// Run commits what Submit, Receive and ReceiveGap bring, until ctx ends or the log fails
// in a way that the process must end for. What waits while one commit is written goes
// into the next one: that is all the delay there is. Run it once.
func (j *Journal) Run(ctx context.Context) error {
	defer close(j.stopped)
	var held *request // taken, but too large for the commit before
	for {
		first := held
		held = nil
		if first == nil {
			select {
			case <-ctx.Done():
				return nil
			case first = <-j.requests:
			}
		}
		batch := []*request{first}
		events, size := first.count, first.size
	gather:
		for {
			select {
			case r := <-j.requests:
				if events+r.count > MaxCommitEvents || size+r.size > MaxCommitBytes {
					held = r
					break gather
				}
				batch = append(batch, r)
				events, size = events+r.count, size+r.size
			default:
				break gather
			}
		}
		if err := j.commit(batch); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// commit is one append: what it will write and how state stands after it. Nothing of the
// journal's own state changes before the append succeeded.
type commit struct {
	j       *Journal
	now     time.Time
	events  []*pending
	byID    map[[16]byte]*pending
	repeats []repeat
	out     map[string]uint64
	in      map[lane]uint64
	records [][]byte     // of blocks and gaps; entries come before them
	landed  []landed     // what each of records is of
	blocks  []taken      // blocks among them
	inner   bool         // one of blocks holds an internal event
	since   map[lane]int // lanes of new epochs, and which of records is their first
	marks   map[string]uint64
	stats   Stats
}

// admission gives what says whether something is written in this commit; it asks once for
// each kind.
func (j *Journal) admission() func(kind Kind) error {
	admit := j.cfg.Admit
	if admit == nil {
		level := j.cfg.Log.Level()
		admit = func(kind Kind) error {
			limit := [...]float64{Business: SubmitLevel, Mail: ReceiveLevel, Facts: ControlLevel}[kind]
			if level >= limit {
				return &FullError{Level: level, Limit: limit}
			}
			return nil
		}
	}
	asked := map[Kind]error{}
	return func(kind Kind) error {
		if kind == nothing {
			return nil
		}
		refusal, ok := asked[kind]
		if !ok {
			refusal = admit(kind)
			asked[kind] = refusal
		}
		return refusal
	}
}

type lane struct {
	source string
	epoch  uint64
}

func laneOf(o block.Origin) lane { return lane{o.Agent, o.Epoch} }

// landed says of one record of a commit up to where it takes its lane.
type landed struct {
	lane lane
	last uint64
}

// taken are the ids of one block of a commit.
type taken struct {
	lane lane
	ids  map[[16]byte]struct{}
}

// pending is a new event of this commit.
type pending struct {
	*prepared
	receipt *Receipt
	numbers []block.Number
}

// repeat is an event that came twice in one commit.
type repeat struct {
	of      *pending
	receipt *Receipt
}

func (j *Journal) commit(batch []*request) error {
	level, admit := j.cfg.Log.Level(), j.admission()
	c := &commit{
		j: j, now: j.cfg.Clock(), byID: map[[16]byte]*pending{}, out: j.Outbound(),
		in: map[lane]uint64{}, marks: map[string]uint64{}, since: map[lane]int{},
	}
	defer j.leave()
	c.stats.Level = level
	for _, r := range batch {
		if r.err = admit(r.kind); r.err != nil {
			c.stats.Full++
			continue
		}
		switch {
		case r.block != nil:
			r.received, r.err = c.receive(r.block)
		case r.gap != nil:
			r.received, r.err = c.receiveGap(r.gap)
		default:
			r.receipts = c.admit(r.events)
		}
	}
	err := c.write()
	var full interface{ Full() bool }
	switch {
	case err == nil:
	case errors.As(err, &full) && full.Full():
		err = fmt.Errorf("%w: %w", ErrFull, err)
		c.stats = Stats{Level: level, Full: uint64(len(batch))}
	default:
		err = fmt.Errorf("journal: %w", err)
	}
	j.count(c.stats) // first: who has its answer finds itself counted
	for _, r := range batch {
		if err != nil && r.err == nil {
			r.err, r.receipts, r.received = err, nil, Received{}
		}
		close(r.done)
	}
	if errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

// admit takes the events that are new into the commit.
func (c *commit) admit(events []prepared) []Receipt {
	receipts := make([]Receipt, len(events))
	room := make([]pending, 0, len(events)) // of which no part moves
	for i := range events {
		p, receipt := &events[i], &receipts[i]
		if p.err != nil {
			receipt.Err = p.err
			continue
		}
		if first, ok := c.byID[p.head.ID]; ok {
			if receipt.Err = c.judge(first.event, p.event); receipt.Err == nil {
				receipt.Repeat = true
				c.repeats = append(c.repeats, repeat{first, receipt})
			}
			continue
		}
		if pos, stored := c.j.stored(p); stored != nil {
			if receipt.Err = c.judge(stored, p.event); receipt.Err == nil {
				receipt.Repeat = true
			}
			receipt.Pos = pos
			continue
		}
		if p.repeatOnly {
			receipt.Err = fmt.Errorf("%w: id %q of source %q", ErrNew, p.event.ID, p.event.Source)
			continue
		}
		if !c.j.enter(p.head.Revision) {
			receipt.Err = fmt.Errorf("%w: revision %s", ErrOutdated, p.head.Revision)
			continue
		}
		room = append(room, pending{prepared: p, receipt: receipt})
		n := &room[len(room)-1]
		c.byID[p.head.ID] = n
		c.events = append(c.events, n)
	}
	return receipts
}

func (c *commit) judge(first, again *event.Event) error {
	if sameContent(first, again) {
		c.stats.Repeats++
		return nil
	}
	c.stats.Conflicts++
	return fmt.Errorf("%w: id %q of source %q; give a new event a new id", ErrConflict, again.ID, again.Source)
}

// stored finds the event that p repeats. One that is no longer readable does not count:
// taking it again is harmless, since its identity stays the same.
func (j *Journal) stored(p *prepared) (pos uint64, first *event.Event) {
	pos, ok := j.repeats.find(half(p.head.ID))
	if !ok {
		return 0, nil
	}
	item, err := j.Get(Ref{Pos: pos})
	if err != nil || item.Fault != "" || item.Head.ID != p.head.ID {
		return 0, nil
	}
	first, err = event.Unmarshal(item.Event)
	if err != nil || first.Source != p.event.Source || first.ID != p.event.ID {
		return 0, nil
	}
	return pos, first
}

// group orders the new events so that those with the same destinations stand together,
// which makes long blocks, without changing the order within any key.
func group(events []*pending) []*pending {
	if !slices.ContainsFunc(events, func(e *pending) bool { return e.set != events[0].set }) {
		return events
	}
	var groups [][]*pending
	open := map[string]int{} // set of destinations -> its last group
	last := map[string]int{} // key -> the group of its last event
	for _, e := range events {
		g, ok := open[e.set]
		if ok && e.key != "" {
			if at, seen := last[e.key]; seen && at > g {
				ok = false // the key went on with another set in between
			}
		}
		if !ok {
			g = len(groups)
			groups = append(groups, nil)
			open[e.set] = g
		}
		groups[g] = append(groups[g], e)
		last[e.key] = g
	}
	return slices.Concat(groups...)
}

// receive judges a block against its lane's high-water, and its events against what the
// source sent in earlier epochs.
func (c *commit) receive(a *arrival) (Received, error) {
	l := laneOf(a.envelope.Origin)
	last := a.envelope.Last(a.first)
	skip, answer, err := c.advance(l, a.first, last)
	if err != nil || answer.Duplicate {
		return answer, err
	}
	bits, known, err := c.dropped(l, a, int(skip))
	if err != nil {
		return Received{}, err
	}
	c.land(l, last, appendBlockRecord(int(skip), bits, a.relayed, c.now, a.text))
	ids := make(map[[16]byte]struct{}, len(a.heads))
	for i := range a.heads {
		ids[a.heads[i].ID] = struct{}{}
	}
	c.blocks = append(c.blocks, taken{l, ids})
	answer.Known, answer.Count = known, a.envelope.Count-int(skip)-known
	inner := c.j.internalIn(a.heads, &record{skip: int(skip), known: bits})
	c.inner = c.inner || inner > 0
	c.stats.Received += uint64(answer.Count - inner)
	return answer, nil
}

// land adds a record, and moves its lane.
func (c *commit) land(l lane, last uint64, record []byte) {
	if c.begins(l) {
		c.since[l] = len(c.records)
	}
	c.records = append(c.records, record)
	c.landed = append(c.landed, landed{l, last})
	c.in[l] = last
	c.marks[laneMark(markIn, l)] = last
}

// begins reports whether a record of this lane is the first of its epoch, and the source
// had an earlier one.
func (c *commit) begins(l lane) bool {
	if _, ok := c.in[l]; ok {
		return false
	}
	before := c.j.inboundOf(l.source)
	if _, ok := before[l.epoch]; ok {
		return false
	}
	for epoch := range before {
		if epoch < l.epoch {
			return true
		}
	}
	for other := range c.in {
		if other.source == l.source && other.epoch < l.epoch {
			return true
		}
	}
	return false
}

func (c *commit) receiveGap(g *GapRecord) (Received, error) {
	l := lane{g.Source, g.Epoch}
	known, answer, err := c.advance(l, g.First, g.Last)
	if err != nil || answer.Duplicate {
		return answer, err
	}
	cut := *g
	cut.First += known
	cut.Received = c.now.UTC()
	text, err := json.Marshal(cut)
	if err != nil {
		return Received{}, fmt.Errorf("gap record: %w", err)
	}
	c.land(l, g.Last, append([]byte{kindGap}, text...))
	c.stats.Gaps++
	return answer, nil
}

// advance judges whether first..last continues a lane, whose high-water is then last.
// known is how many of the numbers were held before.
func (c *commit) advance(l lane, first, last uint64) (known uint64, answer Received, err error) {
	c.j.mu.Lock()
	highwater := c.j.in[l.source][l.epoch]
	for epoch := range c.j.in[l.source] {
		if epoch > l.epoch {
			err = fmt.Errorf("%w: %s is in epoch %d, this is of epoch %d", ErrFenced, l.source, epoch, l.epoch)
		}
	}
	c.j.mu.Unlock()
	for other, n := range c.in {
		switch {
		case other == l:
			highwater = n
		case other.source == l.source && other.epoch > l.epoch:
			err = fmt.Errorf("%w: %s is in epoch %d, this is of epoch %d", ErrFenced, l.source, other.epoch, l.epoch)
		}
	}
	answer.Highwater = highwater
	switch {
	case last <= highwater: // of an older epoch too: mail whose acknowledgement was lost comes again
		answer.Duplicate = true
		return 0, answer, nil
	case err != nil:
		return 0, answer, err
	case first > highwater+1:
		return 0, answer, &GapError{Source: l.source, Epoch: l.epoch, Want: highwater + 1, Got: first}
	}
	return highwater + 1 - first, Received{Highwater: last}, nil
}

// write gives numbers to the new events, appends everything and takes over the new state.
func (c *commit) write() error {
	j := c.j
	events := group(c.events)
	records := c.encode(events)
	records = append(records, c.records...)
	if len(records) == 0 {
		return nil
	}
	if j.unsaved {
		c.markAll()
	}
	accepted := 0
	for _, e := range events {
		if !c.j.isFact(e.prepared) && !internal(&e.head) {
			accepted++
		}
	}
	c.countTotals(accepted)
	next := j.Next()
	for l, i := range c.since {
		c.marks[laneMark(markSince, l)] = next + uint64(len(events)+i)
	}
	j.hook("before-commit")
	first, err := j.cfg.Log.Append(records, c.marks)
	if err != nil {
		return err
	}
	if first != next {
		return fmt.Errorf("the log wrote position %d where %d was next; another program may write to it", first, next)
	}
	j.hook("after-commit")
	for i, r := range records {
		c.stats.Bytes += uint64(len(r))
		if i < len(events) {
			c.stats.Own += uint64(len(r))
		}
	}
	c.stats.Commits++
	c.stats.Accepted += uint64(accepted)
	c.takeOver(events, first, first+uint64(len(records)))
	return nil
}

// keptRoom bounds the memory for records that is kept from one commit to the next.
const keptRoom = 2 << 20

// encode gives the new events their numbers and makes records of them, which live until
// the next commit.
func (c *commit) encode(events []*pending) [][]byte {
	count := 0
	for _, e := range events {
		count += len(e.destinations)
	}
	numbers := make([]block.Number, 0, count)
	room, ends := c.j.room[:0], make([]int, len(events))
	for i, e := range events {
		from := len(numbers)
		for _, dest := range e.destinations {
			c.out[dest]++
			numbers = append(numbers, block.Number{Agent: dest, Seq: c.out[dest]})
		}
		e.numbers = numbers[from:len(numbers):len(numbers)]
		head := e.head
		head.Received = c.now
		if head.Occurred.IsZero() {
			head.Occurred = c.now
		}
		room = append(room, kindEntry)
		room = block.AppendEvent(room, &head, e.numbers, e.key, e.encoded)
		ends[i] = len(room)
	}
	for _, n := range numbers {
		c.marks[markOut+n.Agent] = n.Seq
	}
	if cap(room) <= keptRoom {
		c.j.room = room
	}
	records := make([][]byte, len(events), len(events)+len(c.records))
	from := 0
	for i, end := range ends {
		records[i] = room[from:end:end]
		from = end
	}
	return records
}

// countTotals keeps the totals in the append that they count, so that they go on over a
// restart of the process.
func (c *commit) countTotals(accepted int) {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	c.marks[markAccepted] = c.j.stats.Accepted + uint64(accepted)
	c.marks[markReceived] = c.j.stats.Received + c.stats.Received
}

// markAll writes the state of every lane, not only what this commit moves.
func (c *commit) markAll() {
	for dest, n := range c.out {
		c.marks[markOut+dest] = n
	}
	for source, epochs := range c.j.in {
		for epoch, n := range epochs {
			if _, moved := c.in[lane{source, epoch}]; !moved {
				c.marks[laneMark(markIn, lane{source, epoch})] = n
			}
		}
	}
	for l, pos := range c.j.since {
		c.marks[laneMark(markSince, l)] = pos
	}
}

func (c *commit) takeOver(events []*pending, first, end uint64) {
	j := c.j
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, e := range events {
		pos := first + uint64(i)
		e.receipt.Pos = pos
		j.repeats.add(half(e.head.ID), pos)
		for _, n := range e.numbers {
			j.addIndex(n.Agent, n.Seq, pos)
		}
		j.noteInternal(&e.head, e.numbers, pos)
		j.noteFact(&e.head, e.numbers, len(e.key)+len(e.encoded))
		if len(e.numbers) > 0 {
			j.noteRevision(e.head.Revision, pos)
		}
		if j.isLocal(&e.head) {
			j.local = pos + 1
		}
	}
	for i, r := range c.landed {
		j.trailOf(r.lane).add(r.last, first+uint64(len(events)+i))
	}
	for l, i := range c.since {
		j.since[l] = first + uint64(len(events)+i)
	}
	if len(c.records) > 0 { // what comes in is for this agent
		j.local = end
	}
	if c.inner {
		j.internal = end
	}
	for _, r := range c.repeats {
		r.receipt.Pos = r.of.receipt.Pos
	}
	maps.Copy(j.out, c.out)
	for l, n := range c.in {
		j.setInbound(l.source, l.epoch, n)
	}
	j.end = end
	close(j.grown)
	j.grown = make(chan struct{})
	j.unsaved = false
}

func (j *Journal) hook(step string) {
	if j.cfg.Hook != nil {
		j.cfg.Hook(step)
	}
}
