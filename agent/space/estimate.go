package space

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"time"

	"github.com/crossdock/crossdock/protocol/atomicfile"
)

const (
	window    = 4 * time.Hour // what is older counts for less than a third
	enoughFor = time.Hour     // that the agent has to have been seen running, before anything is said
	saveEvery = 10 * time.Minute
	maxHours  = 10 * 365 * 24
	maxFile   = 4 << 10
)

// The states of an estimate.
const (
	Unknown = "unknown" // the agent has not been seen running for long enough
	Idle    = "idle"    // nothing was written: there is no end to see
	Known   = "known"
)

// Outage says for how long the disk holds what a cut line holds back.
type Outage struct {
	State        string  `json:"state"`
	Hours        float64 `json:"hours,omitempty"`
	BytesPerHour int64   `json:"bytesPerHour,omitempty"`
	Room         int64   `json:"room"`     // bytes that the journal can still grow by before systems are refused
	SeenMs       int64   `json:"seenMs"`   // for how long the agent was seen running
	NeededMs     int64   `json:"neededMs"` // before anything is said
}

// Words says it to people.
func (o Outage) Words() string {
	switch o.State {
	case Known:
		return fmt.Sprintf("At the present rate (%.1f MB an hour) there is room for %s of a cut line.", float64(o.BytesPerHour)/(1<<20), hours(o.Hours))
	case Idle:
		return "Nothing was written lately, so it cannot be said for how long of a cut line there is room."
	}
	return fmt.Sprintf("For how long of a cut line there is room is not known yet: of the %d minutes that are needed, the agent was seen running for %d.",
		o.NeededMs/time.Minute.Milliseconds(), o.SeenMs/time.Minute.Milliseconds())
}

func hours(h float64) string {
	switch {
	case h >= maxHours:
		return "years"
	case h >= 72:
		return fmt.Sprintf("%.0f days", h/24)
	case h >= 10:
		return fmt.Sprintf("%.0f hours", h)
	}
	return fmt.Sprintf("%.1f hours", h)
}

// rate is how much is written, as a mean that forgets: what was written, and the time it took,
// both fade with the window. While the agent is not running no time passes for it.
type rate struct {
	Bytes float64 `json:"bytes"`       // faded
	Hours float64 `json:"hours"`       // faded alike; their quotient is the rate
	Seen  int64   `json:"seenSeconds"` // in all, not faded

	at      time.Time
	written uint64
	saved   time.Time
}

// begin has the time run from now on; what was written up to here was written before.
func (w *Watch) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rate.at, w.rate.written, w.rate.saved = w.cfg.Now(), w.cfg.Written(), w.cfg.Now()
}

// note adds what was written since the last time, and says whether it is time to keep it.
func (r *rate) note(now time.Time, written uint64) (due bool) {
	took := now.Sub(r.at)
	if r.at.IsZero() || took < 0 || took > window || written < r.written { // it begins, or somebody has set the clock
		r.at, r.written = now, written
		return false
	}
	fade := math.Exp(-float64(took) / float64(window))
	r.Bytes = r.Bytes*fade + float64(written-r.written)
	r.Hours = r.Hours*fade + took.Hours()
	r.Seen += int64(took / time.Second)
	if rest := took % time.Second; rest > 0 { // counted with the next
		now = now.Add(-rest)
		r.Hours -= rest.Hours()
	}
	r.at, r.written = now, written
	if due = now.Sub(r.saved) >= saveEvery; due {
		r.saved = now
	}
	return due
}

// estimate is the formula: the room up to the first threshold, through what this site's own
// events take in an hour. In an outage the journal lets go of nothing behind the oldest event
// that is still to leave, and nothing comes in; before, delivered history would go first.
func (w *Watch) estimate(u Usage, held int64) Outage {
	held = min(held, u.Bytes)
	byQuota := int64(w.cfg.Stop*float64(u.Quota)) - held
	byDisk := u.Free + u.Bytes - held - w.reserve
	o := Outage{State: Unknown, Room: max(min(byQuota, byDisk), 0), SeenMs: w.rate.Seen * 1000, NeededMs: enoughFor.Milliseconds()}
	if w.stopped[Business].on {
		o.Room = 0
	}
	if o.SeenMs < o.NeededMs || w.rate.Hours <= 0 {
		return o
	}
	o.BytesPerHour = int64(w.rate.Bytes / w.rate.Hours)
	if o.BytesPerHour == 0 {
		o.State = Idle
		return o
	}
	o.State, o.Hours = Known, math.Min(float64(o.Room)/float64(o.BytesPerHour), maxHours)
	return o
}

// load reads the rate that was kept. Without one it is found out anew.
func (w *Watch) load() (r rate) {
	if w.cfg.File == "" {
		return r
	}
	f, err := os.Open(w.cfg.File)
	if errors.Is(err, fs.ErrNotExist) {
		return r
	}
	if err == nil {
		defer f.Close() // opened for reading
		text := make([]byte, maxFile)
		n, _ := f.Read(text) // what is wrong, the decoder says
		err = json.Unmarshal(text[:n], &r)
	}
	if err != nil || !(r.Bytes >= 0 && r.Hours >= 0 && r.Seen >= 0) || math.IsInf(r.Bytes+r.Hours, 0) {
		w.cfg.Logger.Warn("the rate of writing that was kept cannot be read; it is found out anew", "file", w.cfg.File, "err", err)
		return rate{}
	}
	return r
}

func (w *Watch) save() {
	if w.cfg.File == "" {
		return
	}
	w.mu.Lock()
	text, err := json.Marshal(&w.rate)
	w.mu.Unlock()
	if err == nil {
		err = atomicfile.Write(w.cfg.File, text, 0o600)
	}
	if err != nil {
		w.cfg.Logger.Warn("the rate of writing cannot be kept", "file", w.cfg.File, "err", err)
	}
}
