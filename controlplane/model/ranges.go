package model

import (
	"time"

	"github.com/crossdock/crossdock/protocol/serial"
)

// NumberRange is what a revision says of a range of serial numbers.
type NumberRange struct {
	Name  string
	Span  serial.Span
	Sites []string // that may take from it
	Block uint64   // most that one lease gives
	Low   uint64
}

// NumberBlock is serials in a row, both ends included.
type NumberBlock struct {
	First uint64
	Last  uint64
}

// Count is how many they are.
func (b NumberBlock) Count() uint64 { return b.Last - b.First + 1 }

// NumberMark is the highest serial of a range that an agent holds or has ever held.
type NumberMark struct {
	Range   string
	Highest uint64
}

// LeaseNumbers gives an agent the next serials of a range. What was leased once is never
// leased again. A repeat with the same request gets the same block. Answer: NumberBlock.
type LeaseNumbers struct {
	At      time.Time
	Agent   string
	Epoch   uint64 // the agent's: a fenced copy gets nothing
	Range   string
	Request [16]byte
	Have    uint64 // left at the agent
	Want    uint64 // 0: as many as the range says
	Highest uint64 // as in NumberMark
}

// ReleaseRange lets a range give numbers again after a restore, by an operator's word: what
// those who have not spoken since may hold lies below Next.
type ReleaseRange struct {
	Asked
	Range string
	Next  uint64 // the first serial that may be leased
}

// RangeStatus is a range that is in force or ever was.
type RangeStatus struct {
	NumberRange
	InForce bool
	Next    uint64   // first serial that was never leased
	Waiting []string // agents and sites that have to speak first, after a restore
	Leases  []LeaseStatus
}

// LeaseStatus is what one agent has of a range.
type LeaseStatus struct {
	Agent     string
	Epoch     uint64        // in which Blocks were leased
	Blocks    []NumberBlock // that it may still have numbers of, the oldest first
	Leased    uint64        // numbers in all, over all epochs
	Forfeited uint64        // most that were lost with the data of former epochs
	At        time.Time     // of the newest lease
}

func (*LeaseNumbers) command() {}
func (*ReleaseRange) command() {}
