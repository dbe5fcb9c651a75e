package uplink

import "time"

// absence is a time without a session that lasts.
type absence struct {
	since  time.Time // zero: there was none yet
	warned time.Time
}

// tell logs that there is no session. Where a node stops or the leader changes, another one
// is found in a moment, and nobody needs to look; so it is a warning only once it has lasted.
// Sessions that end at once, each time, are one absence.
func (u *Uplink) tell(a *absence, wasConnected, lasted bool, err error) {
	now := time.Now()
	first := a.since.IsZero()
	if first || lasted {
		*a = absence{since: now}
	}
	switch {
	case now.Sub(a.since) >= u.cfg.Grace && now.Sub(a.warned) > u.cfg.DisconnectLog:
		a.warned = now
		u.log.Warn("no session with the control plane; the agent goes on alone", "since", a.since, "err", err)
	case wasConnected:
		u.log.Info("the session with the control plane has ended; looking for another", "err", err)
	case first:
		u.log.Info("no session with the control plane yet; trying on", "err", err)
	}
}
