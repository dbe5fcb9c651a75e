// Package space owns the question of how much more the disk of a site takes: when new events
// are refused and taken again, when people are told, and for how many hours of a cut line
// there is room.
//
// It refuses to know what is kept and who lets go of it; what it needs is measured for it.
// Its invariant: it never refuses what gives room back, and what it has stopped begins again
// by itself when there is room, but not at every breath around one threshold.
package space

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/freespace"
)

// Limits with a name.
const (
	reserveParts = 20   // the reserve is no more than one part of so many of the file system
	slack        = 0.25 // of the reserve, that has to be free beyond it before anything begins again
	controlLevel = 0.98 // of the quota; the agent's own facts go on up to here
	nearFree     = 2.0  // people are told when less than so many reserves are free
	pressure     = 0.10 // of the quota below resume, from which on delivered history goes early
	lookEvery    = time.Minute
)

// Kind is what wants to be written.
type Kind int

// The kinds, by who is stopped first.
const (
	Business Kind = iota // events of the site's systems
	Received             // mail of other agents
	Facts                // what the agent tells the control plane
)

// Thresholds say when writing stops and begins again: parts of the journal's quota, and bytes
// of the file system that others are left.
type Thresholds struct {
	Stop     float64 // systems are refused from here on
	PullStop float64 // mail is left at the control plane from here on
	Resume   float64 // systems are let in again below
	Reserve  int64   // free bytes below which systems are refused; below half of them mail is, too
}

// Check says what is wrong with them.
func (t Thresholds) Check() error {
	switch {
	case t.Resume < 0.5 || t.Resume >= t.Stop || t.Stop >= t.PullStop || t.PullStop >= controlLevel:
		return fmt.Errorf("resume (at least 50%%) < stop < pullStop < %.0f%% is required, such as 85%%, 90%% and 95%%", controlLevel*100)
	case t.Reserve < 0:
		return errors.New("reserve is a size, such as 256MB")
	}
	return nil
}

// Pressure is the part of the quota from which on delivered history goes before its time, so
// that what is stopped can begin again without anybody's help.
func (t Thresholds) Pressure() float64 { return t.Resume - pressure }

// Usage is what the journal takes and may take, and what its file system has.
type Usage struct {
	Bytes int64
	Quota int64 // or what the disk allows, where that is less
	Free  int64
	Gone  string // why nothing that is written is kept: the directory is another's now; "" if it is there
}

func (u Usage) level() float64 {
	if u.Quota <= 0 {
		return 1
	}
	return float64(u.Bytes) / float64(u.Quota)
}

// Config is what a Watch works with. Usage, Held and Written are required.
type Config struct {
	Thresholds
	Dir    string            // on the file system that is watched
	Others map[string]string // further directories whose file systems only people are told of, by what they are for
	File   string            // keeps the rate over restarts
	Usage  func() Usage
	// Held is how much of the journal cannot be let go of now, were all else let go.
	Held func() (int64, error)
	// Written is how many bytes the events of this site have taken since the process began.
	Written func() uint64
	Alarm   func(kind, what, text string)
	Logger  *slog.Logger
	Metrics *Metrics
	Now     func() time.Time
	Every   time.Duration // between two looks
	// FileSystem tells of the file system below a directory.
	FileSystem func(dir string) (freespace.Disk, error)
}

func (c *Config) complete() error {
	if c.Usage == nil || c.Held == nil || c.Written == nil {
		return errors.New("space: Usage, Held and Written must be set")
	}
	if err := c.Check(); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Alarm == nil {
		c.Alarm = func(string, string, string) {}
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.FileSystem == nil {
		c.FileSystem = freespace.Measure
	}
	if c.Every <= 0 {
		c.Every = lookEvery
	}
	return nil
}

// Refusal says why something is not written now.
type Refusal struct {
	Level, Limit float64 // parts of the quota
	Text         string
	Gone         bool // it is not for want of room
}

func (r *Refusal) Error() string { return r.Text }

// Watch watches the disk. New starts nothing.
type Watch struct {
	cfg     Config
	reserve int64 // in force: Reserve, or less on a small file system

	mu      sync.Mutex // guards what follows
	stopped [2]stop    // Business and Received
	gone    stop       // both, and it is not for want of room
	rate    rate
	outage  Outage
	others  map[string]freespace.Disk // as last looked at
}

// stop is whether something is refused.
type stop struct {
	on    bool
	since time.Time
	why   string
}

// New makes a watch, which goes on with the rate that was seen before the restart.
func New(cfg Config) (*Watch, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	w := &Watch{cfg: cfg, reserve: cfg.Reserve, others: map[string]freespace.Disk{}, outage: Outage{State: Unknown}}
	if system, err := cfg.FileSystem(cfg.Dir); err == nil {
		w.reserve = min(cfg.Reserve, system.Total/reserveParts)
	}
	w.rate = w.load()
	return w, nil
}

// Admit says whether something may be written now; nil: it may. It is asked at each commit. Facts
// may still arrive at the control plane before the process ends, so they go on in a directory that
// is gone.
func (w *Watch) Admit(kind Kind) *Refusal {
	u := w.cfg.Usage()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge(u)
	if kind == Facts {
		if level := u.level(); level >= controlLevel {
			return &Refusal{Level: level, Limit: controlLevel, Text: full(level, controlLevel)}
		}
		return nil
	}
	if w.gone.on {
		return &Refusal{Level: u.level(), Text: w.gone.why, Gone: true}
	}
	s := w.stopped[kind]
	if !s.on {
		return nil
	}
	return &Refusal{Level: u.level(), Limit: w.limit(kind), Text: s.why}
}

func (w *Watch) limit(kind Kind) float64 {
	if kind == Received {
		return w.cfg.PullStop
	}
	return w.cfg.Stop
}

func full(level, limit float64) string {
	return fmt.Sprintf("%.0f %% of the journal's quota is used, and this is refused from %.0f %% on", level*100, limit*100)
}

// judge stops and begins again what is to be; the lock is held.
func (w *Watch) judge(u Usage) {
	w.miss(u.Gone)
	level, reserve := u.level(), w.reserve
	if u.Free <= 0 && level < w.cfg.Stop {
		reserve = 0 // it cannot be told what is free
	}
	w.turn(Business, level >= w.cfg.Stop, level < w.cfg.Resume, u, reserve)
	w.turn(Received, level >= w.cfg.PullStop, level < w.cfg.Stop, u, reserve/2)
}

// turn has one kind stop at its threshold, and begin again only some way behind it.
func (w *Watch) turn(kind Kind, high, low bool, u Usage, reserve int64) {
	s := &w.stopped[kind]
	scarce := u.Free < reserve
	switch {
	case !s.on && (high || scarce):
		*s = stop{on: true, since: w.cfg.Now(), why: full(u.level(), w.limit(kind))}
		if scarce {
			s.why = fmt.Sprintf("%d MB of the disk are free, and %d MB are left for others (disk.reserve)", u.Free>>20, reserve>>20)
		}
		w.cfg.Metrics.stops.WithLabelValues(kind.String()).Inc()
		w.cfg.Logger.Warn("the disk is nearly full", "refused", kind.String(), "why", s.why)
		w.cfg.Alarm("disk-full", fmt.Sprint(kind, "/", s.since.UTC().Format(time.DateOnly)), fmt.Sprintf(
			"%s are refused for want of room: %s; it goes on by itself below %.0f %% of the quota and with %d MB free: bring the line or the systems back, or give the disk more space",
			kind, s.why, w.below(kind)*100, enough(reserve)>>20))
	case s.on && low && u.Free >= enough(reserve):
		w.cfg.Logger.Info("the disk has room again", "taken", kind.String(), "refused for", w.cfg.Now().Sub(s.since).Round(time.Second))
		*s = stop{}
	}
	w.cfg.Metrics.stopped.WithLabelValues(kind.String()).Set(flag(s.on))
}

// miss says once that the directory is gone, and once that it is back.
func (w *Watch) miss(why string) {
	switch on := why != ""; {
	case on == w.gone.on:
	case on:
		w.gone = stop{on: true, since: w.cfg.Now(), why: why}
		w.cfg.Logger.Error("nothing that is written is kept any more, so events are refused", "why", why)
		w.cfg.Alarm("journal-gone", w.gone.since.UTC().Format(time.DateOnly), fmt.Sprintf(
			"events and mail are refused: %s; put the directory back as it was while the agent runs, which still holds what it has taken, or let it deliver that before it is stopped", why))
	default:
		w.cfg.Logger.Info("what is written is kept again", "refused for", w.cfg.Now().Sub(w.gone.since).Round(time.Second))
		w.gone = stop{}
	}
}

// Gone says why nothing that is written is kept, "" if it is.
func (w *Watch) Gone() string {
	u := w.cfg.Usage()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.judge(u)
	return w.gone.why
}

// Pressed says whether delivered history is to go before its time: what is stopped must be
// able to begin again without anybody's help, also where others took the room.
func (w *Watch) Pressed() bool {
	u := w.cfg.Usage()
	return u.level() > w.cfg.Pressure() || u.Free > 0 && u.Free < enough(w.reserve)
}

func (w *Watch) below(kind Kind) float64 {
	if kind == Received {
		return w.cfg.Stop
	}
	return w.cfg.Resume
}

func enough(reserve int64) int64 { return reserve + int64(float64(reserve)*slack) }

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}

func (k Kind) String() string {
	return [...]string{"events of systems", "mail of other agents", "facts"}[k]
}

// Run looks at the disk until ctx ends, and keeps the rate.
func (w *Watch) Run(ctx context.Context) error {
	ticker := time.NewTicker(w.cfg.Every)
	defer ticker.Stop()
	w.begin()
	for {
		w.Look()
		select {
		case <-ctx.Done():
			w.save()
			return nil
		case <-ticker.C:
		}
	}
}

// Look measures once.
func (w *Watch) Look() {
	u := w.cfg.Usage()
	held, err := w.cfg.Held()
	if err != nil {
		w.cfg.Logger.Warn("what of the journal is still needed cannot be told", "err", err)
		held = u.Bytes
	}
	others := map[string]freespace.Disk{}
	for what, dir := range w.cfg.Others {
		system, err := w.cfg.FileSystem(dir)
		if err != nil {
			w.cfg.Logger.Warn("the disk cannot be looked at", "of", what, "dir", dir, "err", err)
			continue
		}
		others[what] = system
	}
	w.mu.Lock()
	w.judge(u)
	due := w.rate.note(w.cfg.Now(), w.cfg.Written())
	w.outage = w.estimate(u, held)
	w.others = others
	w.mu.Unlock()
	if due {
		w.save()
	}
	w.cfg.Metrics.show(u, w.reserve, w.outage)
	w.warn(u)
}

// warn tells people before anything stops, once a day.
func (w *Watch) warn(u Usage) {
	day := w.cfg.Now().UTC().Format(time.DateOnly)
	if n := w.Status(); n.State == Near {
		w.cfg.Alarm("disk-near", day, fmt.Sprintf(
			"the disk will soon be full: %.0f %% of the journal's quota is used and %d MB are free; from %.0f %% on, or with less than %d MB, the site's systems are refused. %s",
			u.level()*100, u.Free>>20, w.cfg.Stop*100, w.reserve>>20, n.Outage.Words()))
	}
	for what, system := range w.Status().Others {
		if system.Scarce {
			w.cfg.Alarm("disk-near", what+"/"+day, fmt.Sprintf("the disk of %s (%s) has %d MB free", what, system.Dir, system.Free>>20))
		}
	}
}
