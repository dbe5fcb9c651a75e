package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/block"
)

// pendingWait bounds how long a report waits to know what is pending for a system.
const pendingWait = time.Second

// agree gives the uplink what it compares with the control plane: epochs, sessions, and how
// far everything here has come.
func (a *Agent) agree(config *uplink.Config) {
	config.Epoch, config.BeginEpoch, config.NextSession = a.identity.Epoch, a.beginEpoch, a.identity.NextSession
	config.Known, config.Remember = a.identity.Known, a.remember
	config.Settled, config.Flushed, config.Moves = a.settled, a.flushed, a.moves
	config.Fenced = a.fenced
}

// beginEpoch goes on in an epoch that the control plane granted. The identity comes before
// the rest: a crash behind it begins with the new epoch everywhere.
func (a *Agent) beginEpoch(epoch uint64, why string) error {
	if err := a.numbers.Begin(epoch); err != nil { // first: a copy may give what is held here
		return err
	}
	if err := a.calls.Begin(epoch); err != nil { // likewise: it may have bought what is not known here
		return err
	}
	if err := a.identity.SetEpoch(epoch); err != nil {
		return err
	}
	a.journal.SetEpoch(epoch)
	a.outbox.begin(epoch)
	a.alarmEpoch(epoch, why)
	return nil
}

// epochCursorTold is the newest epoch that people were told of.
const epochCursorTold = "epoch-told"

// alarmEpoch tells people that a new epoch has begun, and since when events may be missing.
func (a *Agent) alarmEpoch(epoch uint64, why string) {
	since := "its journal was empty when it started: whatever a former copy accepted and had not sent is not in it"
	if !a.dataUntil.IsZero() {
		since = fmt.Sprintf("its data ended at %s when it started: if it is a copy, what was accepted here after that and not sent is not in it",
			a.dataUntil.UTC().Format(time.RFC3339))
	}
	a.alarms.raise("new-epoch", fmt.Sprint(epoch), fmt.Sprintf("agent %s began epoch %d (%s); %s. Systems of the site that keep what they handed in can hand it in again: repeats are known",
		a.identity.Agent, epoch, why, since))
	a.queue.SaveCursor(epochCursorTold, epoch)
}

// noteEpoch finds out at the start whether this data met another epoch last: then the agent
// was enrolled again, or was stopped before it could tell.
func (a *Agent) noteEpoch() error {
	report, err := a.queue.Inspect()
	if err != nil {
		return err
	}
	if report.Next > 1 && len(report.Files) > 0 {
		a.dataUntil = report.Files[len(report.Files)-1].Written
	}
	epoch, told := a.identity.Epoch(), a.queue.Cursor(epochCursorTold)
	if told != 0 && told < epoch || told == 0 && epoch > 1 && report.Next == 1 {
		a.alarmEpoch(epoch, "it was enrolled again, or stopped just then")
	}
	a.queue.SaveCursor(epochCursorTold, epoch)
	return nil
}

func (a *Agent) remember(generation uint64, incarnation string, nodes []string) error {
	if err := a.identity.Remember(generation, incarnation, nodes); err != nil {
		return err
	}
	if a.addresses != nil {
		a.addresses(a.identity.Nodes())
	}
	return nil
}

func (a *Agent) settled() (out []uplink.Highwater) {
	for _, lane := range a.journal.Settled(a.keepSettled()) {
		out = append(out, uplink.Highwater{Source: lane.Source, Epoch: lane.Epoch, Number: lane.Highwater})
	}
	return out
}

// flushGrace is how long after a change of the revision the former one still counts: what
// was routed by it is on its way to the journal, which would refuse it.
const flushGrace = time.Second

// flushing follows the revision in force for flushed, which one goroutine calls.
type flushing struct {
	seen, before block.Revision
	since        time.Time
}

// held is the revision by which everything on its way to the journal is routed by now, or
// by a later one.
func (f *flushing) held(now block.Revision, at time.Time) block.Revision {
	if now != f.seen {
		f.before, f.seen, f.since = f.seen, now, at
	}
	if f.before != (block.Revision{}) && at.Sub(f.since) < flushGrace {
		return f.before
	}
	return f.seen
}

func (a *Agent) flushed() block.Revision {
	revision, err := a.journal.Flushed(a.flushing.held(a.revision.Held(), time.Now()), a.outbox.needed)
	if err != nil {
		a.log.Error("cannot tell which revisions have left this agent", "err", err)
		return block.Revision{}
	}
	return revision
}

// moves reports on the systems here that take the place of others, or give theirs up.
func (a *Agent) moves() (out []uplink.Move) {
	set := a.revision.Set()
	if set == nil {
		return nil
	}
	held := map[string]bool{}
	for _, h := range a.delivery.Holding() {
		held[h.System] = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), pendingWait)
	defer cancel()
	for _, m := range set.Moves() {
		if m.Site != a.identity.Site && m.OldSite != a.identity.Site {
			continue
		}
		move := uplink.Move{System: m.System, Holding: m.Site == a.identity.Site && held[m.System]}
		if m.OldSite == a.identity.Site {
			move.Pending = a.delivery.Pending(ctx, m.Old, a.journal.Next())
		}
		out = append(out, move)
	}
	return out
}

// release ends the hold of a system that takes the place of another.
func (a *Agent) release(ctx context.Context, arguments []byte) error {
	var args struct {
		System   string         `json:"system"`
		Revision block.Revision `json:"revision"`
	}
	if err := json.Unmarshal(arguments, &args); err != nil {
		return fmt.Errorf("arguments of release: %w", err)
	}
	return a.delivery.Release(ctx, args.System, args.Revision)
}

// fenced notes that another copy of this agent was let in. The control plane knows it too;
// what stands in this copy's journal about it is sent if this copy is let in again.
func (a *Agent) fenced(fenced bool, why string) {
	if !fenced {
		return
	}
	if err := a.numbers.Fenced(); err != nil {
		a.log.Error("it cannot be noted that another copy gives the numbers that were leased", "err", err)
	}
	if err := a.calls.Fenced(); err != nil {
		a.log.Error("it cannot be noted that another copy may buy what is not known here", "err", err)
	}
	a.log.Error("this agent is fenced: it keeps what it accepts and sends nothing", "why", why)
	a.alarms.raise("fenced", fmt.Sprint(a.identity.Epoch()), fmt.Sprintf("agent %s was fenced in epoch %d: %s", a.identity.Agent, a.identity.Epoch(), why))
}
