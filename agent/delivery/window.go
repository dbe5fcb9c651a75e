package delivery

import "time"

// window is what one system has read above its cursor. Positions are whole: the cursor
// passes one when all of the system's events in it are settled.
type window struct {
	next   uint64 // everything below it has been admitted
	open   []span // positions with events of the system, ascending
	count  int    // events admitted at the open positions
	undone int    // of them, those not settled
	bytes  int    // of events held in memory
	head   uint64 // number of spans dropped from the front: index of open[0]
	at     map[uint64]uint64
}

type span struct {
	pos       uint64
	total     int
	unsettled int
	since     time.Time // of its first event, at this agent
}

func newWindow(cursor uint64) *window {
	return &window{next: cursor, at: map[uint64]uint64{}}
}

// add admits one event; positions come in ascending order.
func (w *window) add(pos uint64, received time.Time) {
	if n := len(w.open); n == 0 || w.open[n-1].pos != pos {
		w.at[pos] = w.head + uint64(n)
		w.open = append(w.open, span{pos: pos, since: received})
	}
	s := &w.open[len(w.open)-1]
	s.total++
	s.unsettled++
	w.count++
	w.undone++
}

// settle notes that what became of one event at pos is stored, or is about to be in the
// transaction that also stores the cursor.
func (w *window) settle(pos uint64) {
	if i, ok := w.at[pos]; ok {
		w.open[i-w.head].unsettled--
		w.undone--
	}
}

// advance moves the cursor over what is settled and returns it. A position at or above
// next may still get events.
func (w *window) advance() uint64 {
	for len(w.open) > 0 && w.open[0].unsettled == 0 && w.open[0].pos < w.next {
		w.count -= w.open[0].total
		delete(w.at, w.open[0].pos)
		w.open = w.open[1:]
		w.head++
	}
	if len(w.open) > 0 {
		return w.open[0].pos
	}
	return w.next
}
