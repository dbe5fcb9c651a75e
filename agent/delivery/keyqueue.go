package delivery

import (
	"container/heap"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// place says where a job is kept until it is settled.
type place int

const (
	inJournal place = iota // read from the journal, above the cursor
	inParked               // a copy of its own
	inDead                 // a replay: the copy in the dead letter
)

// job is one delivery at one system until it is settled. Its JSON is what is parked.
type job struct {
	Ref      Ref       `json:"ref"`
	Key      string    `json:"key"`
	Route    string    `json:"route"`
	Shadow   bool      `json:"shadow,omitempty"`
	Fault    string    `json:"fault,omitempty"`
	Edit     int       `json:"edit,omitempty"`
	Received time.Time `json:"received"`
	Since    time.Time `json:"since"`             // it waits since; zero: it does not
	Absent   time.Time `json:"absent"`            // its system or route is not in the policy since; zero: it is
	Lacking  time.Time `json:"lacking,omitzero"`  // something that it names is not here since; zero: all of it is
	From     string    `json:"from,omitempty"`    // the agent that accepted the event, if it is another
	Tries    int       `json:"tries,omitempty"`   // attempts made
	Counted  int       `json:"counted,omitempty"` // of them, those that count against the limit
	Company  int       `json:"company,omitempty"` // of them, those that failed beside others, the breaker open or not
	Cause    string    `json:"cause,omitempty"`   // of the last failure
	Alone    bool      `json:"alone,omitempty"`   // it is to be tried with no other beside it
	Size     int       `json:"size"`              // of the event
	Type     string    `json:"type,omitempty"`    // by its head; empty: somebody vouches for it
	Claim    *claim    `json:"claim,omitempty"`   // a later revision has to bear it out

	event  []byte // nil while only the stored copy has it
	place  place
	deadID string // of the dead letter that is replayed
}

func (j *job) slot() slot { return slot{j.Ref, j.Shadow} }

// queueName is the identity of a keyQueue: shadow deliveries hold nothing up and wait for
// nothing, so they have queues of their own.
type queueName struct {
	key    string
	shadow bool
}

// keyQueue is what one system still has to get for one key, in order. Only its first job
// is ever sent, and none while a commit about the one before is under way.
//
// Order: replays, then (unless a dead letter blocks) the parked copies, then the queue.
// While there is a replay, a block or a parked copy, what comes from the journal is parked
// at once, so that the cursor never waits for this key.
type keyQueue struct {
	name    queueName
	prefix  []byte    // of its parked copies in the store
	replays []*job    // dead letters to try again
	blocked string    // id of the dead letter that must be resolved first
	skipped []skipped // open dead letters that later events may pass
	first   *job      // the first parked one, once known; its event is loaded when it is sent
	parked  int       // copies, with those whose commit is under way
	stored  int       // committed copies

	firstPos uint64 // no parked copy is of a lower position

	queue []*job // from the journal, in memory

	flying   *job // whose attempt is under way
	holds    int  // attempts and commits under way that the next attempt waits for
	absent   bool // the head's system or route is not in the policy
	lacking  bool // something that the head names is not here
	due      time.Time
	parkAt   time.Time // when a failing first job is parked; zero: it is not failing
	retry    *backoff.ExponentialBackOff
	lastTurn uint64 // of its last attempt; who waited longest goes first

	heap  *turnHeap // that it stands in, nil: none
	index int
}

func newKeyQueue(name queueName) *keyQueue {
	return &keyQueue{name: name, prefix: keyPrefix(name.key)}
}

// mustPark reports whether events of the key that come now have to wait in the store.
func (q *keyQueue) mustPark() bool { return len(q.replays) > 0 || q.blocked != "" || q.parked > 0 }

// sending reports whether the first job in memory is being sent.
func (q *keyQueue) sending() bool { return q.flying != nil && q.flying.place == inJournal }

// idle reports whether nothing is known of the key that would have to be remembered.
func (q *keyQueue) idle() bool {
	return q.holds == 0 && !q.mustPark() && len(q.queue) == 0 && len(q.skipped) == 0
}

// head is the job whose turn it is. loaded is false when it stands in the store and is not
// known yet.
func (q *keyQueue) head() (j *job, loaded bool) {
	switch {
	case len(q.replays) > 0:
		return q.replays[0], true
	case q.blocked != "":
		return nil, true
	case q.parked > 0:
		return q.first, q.first != nil || q.stored == 0
	case len(q.queue) > 0:
		return q.queue[0], true
	}
	return nil, true
}

// settle removes j, which was the head.
func (q *keyQueue) settle(j *job) {
	switch j.place {
	case inDead:
		q.replays = q.replays[1:]
	case inParked:
		q.first = nil
		q.parked--
	case inJournal:
		q.queue[0] = nil
		q.queue = q.queue[1:]
	}
	q.retry, q.due, q.parkAt, q.absent, q.lacking = nil, time.Time{}, time.Time{}, false, false
}

// wake is when something is to be done for the head.
func (q *keyQueue) wake() time.Time {
	if !q.parkAt.IsZero() && q.parkAt.Before(q.due) {
		return q.parkAt
	}
	return q.due
}

// skipped is an open dead letter of a route that goes on without it.
type skipped struct {
	id        string
	ref       Ref
	overtaken bool // a later event of the key was delivered
}

// turnHeap orders key queues by less.
type turnHeap struct {
	queues []*keyQueue
	less   func(a, b *keyQueue) bool
}

func (h *turnHeap) Len() int           { return len(h.queues) }
func (h *turnHeap) Less(i, j int) bool { return h.less(h.queues[i], h.queues[j]) }
func (h *turnHeap) Swap(i, j int) {
	h.queues[i], h.queues[j] = h.queues[j], h.queues[i]
	h.queues[i].index, h.queues[j].index = i, j
}

// Push implements heap.Interface.
func (h *turnHeap) Push(x any) {
	q := x.(*keyQueue)
	q.heap, q.index = h, len(h.queues)
	h.queues = append(h.queues, q)
}

// Pop implements heap.Interface.
func (h *turnHeap) Pop() any {
	n := len(h.queues) - 1
	q := h.queues[n]
	h.queues[n] = nil
	h.queues = h.queues[:n]
	q.heap = nil
	return q
}

func (h *turnHeap) first() *keyQueue {
	if len(h.queues) == 0 {
		return nil
	}
	return h.queues[0]
}

// move puts q in heap h, or in none.
func (q *keyQueue) move(h *turnHeap) {
	if q.heap != nil {
		heap.Remove(q.heap, q.index)
	}
	if h != nil {
		heap.Push(h, q)
	}
}
