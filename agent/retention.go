package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
)

const (
	trimEvery = time.Minute
	// deliveryFile is the file of deliveries, below the data directory.
	deliveryFile = "delivery.db"
	// settledCursor is where deliveries would begin again if their own file were lost.
	settledCursor = "delivery/settled"
)

// runTrim lets go of history that nobody needs: what is delivered, taken and older than
// the retention; under pressure what is delivered and taken, the oldest first.
func (a *Agent) runTrim(ctx context.Context) error {
	every := trimEvery
	if a.cfg.Tuning.TrimEvery > 0 {
		every = a.cfg.Tuning.TrimEvery
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		a.keepSettled()
		if err := a.trim(); err != nil {
			a.log.Error("history cannot be let go", "err", err)
		}
	}
}

// keepSettled notes up to where all deliveries are done, outside their own file.
func (a *Agent) keepSettled() uint64 {
	pos := a.delivery.Unsettled()
	if pos > 0 { // else it is not known yet
		a.queue.SaveCursor(settledCursor, pos)
	}
	return pos
}

func (a *Agent) trim() error {
	needed, err := a.needed()
	if err != nil {
		return err
	}
	retain := a.reloads.now().Journal.Retain
	r := retention{retain: retain, pressed: a.disk.Pressed, trim: a.journal.Trim, one: a.queue.TrimOne, now: time.Now}
	dropped, cut, err := r.run(needed)
	if err != nil {
		return err
	}
	if !cut.IsZero() {
		a.alarms.raise("retention-cut", time.Now().UTC().Format(time.DateOnly), fmt.Sprintf(
			"more than %.0f %% of the journal's quota is used or the disk has little more free than disk.reserve, so delivered history is let go before journal.retain (%s) is over, up to %s; "+
				"if the control plane is restored from a backup that is older than that, what is gone cannot be sent again: raise journal.quota or give the disk more space",
			a.cfg.Disk.thresholds().Pressure()*100, retain, cut.UTC().Format(time.RFC3339)))
	}
	if dropped > 0 {
		err = a.delivery.ForgetBefore(a.journal.First())
	}
	a.delivery.Shrink()
	return err
}

// retention is one turn of letting history go.
type retention struct {
	retain  time.Duration
	pressed func() bool // delivered history is to go before its time
	trim    func(before uint64, olderThan time.Time) (uint64, error)
	one     func(before uint64) (dropped uint64, written time.Time, err error) // the oldest file
	now     func() time.Time
}

// run drops what is old enough before a position, and then, while the disk is under
// pressure, the oldest of the rest. cut is the time of the newest history that went before
// its own; zero if none did.
func (r retention) run(before uint64) (dropped uint64, cut time.Time, err error) {
	limit := r.now().Add(-r.retain)
	if dropped, err = r.trim(before, limit); err != nil {
		return dropped, cut, err
	}
	early := false
	for r.pressed() {
		n, written, err := r.one(before)
		if err != nil {
			return dropped, cut, err
		}
		if n == 0 && written.IsZero() {
			break // the rest is needed, or is the newest
		}
		early = true
		dropped += n
		if !written.Before(limit) && written.After(cut) {
			cut = written
		}
	}
	if early { // the journal's own index is to know
		_, err = r.trim(before, limit)
	}
	return dropped, cut, err
}

// deliveryDamaged tells people that deliveries begin again.
func (a *Agent) deliveryDamaged(d delivery.Damage) {
	lost := ""
	if first := a.journal.First(); d.From < first {
		lost = fmt.Sprintf(" Positions %d to %d are not in the journal any more: what was parked there is in the damaged file only.", d.From, first-1)
	}
	a.alarms.raise("delivery-damage", fmt.Sprint(d.From, "-", a.journal.Next()), fmt.Sprintf(
		"the file of deliveries could not be used any more and was moved to %s: %v. Everything from position %d of the journal on is delivered again with the same idempotency keys; "+
			"%d open dead letters were taken over.%s", d.MovedTo, d.Cause, d.From, d.Salvaged, lost))
}
