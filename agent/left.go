package agent

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
)

// Left is what an agent has taken over and not yet passed on.
type Left struct {
	Outgoing    uint64 `json:"outgoing"` // to the relay
	Pending     uint64 `json:"pending"`  // to systems of this site
	Parked      uint64 `json:"parked"`
	DeadLetters uint64 `json:"deadLetters"`
	Calls       uint64 `json:"calls"` // to carriers and tax engines that are open, and their events
}

// Any reports whether anything would be lost with the agent's data.
func (l Left) Any() bool { return l != Left{} }

func (l Left) String() string {
	return fmt.Sprintf("%d to be sent, %d to be delivered here, %d parked, %s, %s", l.Outgoing, l.Pending, l.Parked,
		doctor.Count(l.DeadLetters, "dead letter"), doctor.Count(l.Calls, "call"))
}

// Left is what a running agent says of that.
func (s Status) Left() Left {
	left := Left{Outgoing: s.Queue.Outgoing, Calls: uint64(s.Calls.Queued + s.Calls.Unknown + s.Calls.Begun + s.Calls.Leaving)}
	for _, system := range s.Systems {
		left.Pending += system.Pending
		left.Parked += uint64(system.Parked)
		left.DeadLetters += uint64(system.DeadLetters)
	}
	return left
}

// LeftIn counts it on the disk of a stopped agent, and changes nothing there. It needs the
// data directory only: no certificate, and no identity.
func LeftIn(cfg Config) (left Left, err error) {
	self, err := ownerOf(cfg.JournalDir())
	if err != nil {
		return Left{}, err
	}
	log, err := queue.OpenReadOnly(cfg.JournalDir())
	if err != nil {
		return Left{}, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if self == "" {
		if log.Next() == 1 {
			return Left{}, nil // an agent that never ran
		}
		return Left{}, fmt.Errorf("%s has lost the file %s, which says whose it is", cfg.JournalDir(), ownerFile)
	}
	damaged := 0
	kept, err := journal.Open(journal.Config{Log: log, Self: self, OnDamage: func(_, _ uint64, _ error) { damaged++ }})
	if err != nil {
		return Left{}, err
	}
	left.Outgoing = newOutbox(kept, log, 0).pending()
	local, err := delivery.LeftIn(filepath.Join(cfg.Data, deliveryFile), self, localSource{kept}, queue.CheckPages)
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%s of %s cannot be read", doctor.Count(damaged, "range"), cfg.JournalDir())
	}
	left.Pending, left.Parked, left.DeadLetters = local.Pending, local.Parked, local.DeadLetters
	open, callsErr := calls.LeftIn(filepath.Join(cfg.Data, callsFile), queue.CheckPages)
	left.Calls = open
	return left, errors.Join(err, callsErr)
}
