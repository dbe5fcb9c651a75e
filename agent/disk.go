package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/space"
	"github.com/crossdock/crossdock/protocol/block"
)

const (
	// rateFile keeps how fast the journal grows, over restarts.
	rateFile = "disk.json"
	// minTelemetry is what the facts may take at least: one with an event in it is that large.
	minTelemetry = 1 << 20
	// telemetryParts: the facts never take more than one part of so many of the journal's quota.
	telemetryParts = 16
	// telemetryLook is how soon the facts go on when the control plane has taken some.
	telemetryLook = 500 * time.Millisecond
)

// Disk says when the agent stops writing for want of room, and begins again. The parts are of
// the journal's quota.
type Disk struct {
	Stop      Part     `yaml:"stop" doc:"the site's systems are refused from here on"`
	PullStop  Part     `yaml:"pullStop" doc:"mail of other sites waits at the control plane from here on"`
	Resume    Part     `yaml:"resume" doc:"the site's systems are let in again below"`
	Reserve   Bytes    `yaml:"reserve" doc:"free bytes of the disk that are left to others"`
	Telemetry Bytes    `yaml:"telemetry" doc:"of the journal, for what the control plane is told"`
	Watch     []string `yaml:"watch" doc:"further directories, such as that of logs, of whose disks people are warned; that of log.file is"`
}

// DefaultDisk is what holds for what the file leaves out.
func DefaultDisk() Disk {
	return Disk{Stop: 0.90, PullStop: 0.95, Resume: 0.85, Reserve: 256 << 20, Telemetry: 64 << 20}
}

func (d Disk) thresholds() space.Thresholds {
	return space.Thresholds{Stop: float64(d.Stop), PullStop: float64(d.PullStop), Resume: float64(d.Resume), Reserve: int64(d.Reserve)}
}

func (d Disk) check() error {
	if d.Telemetry < minTelemetry {
		return errors.New("telemetry is at least 1MB")
	}
	return d.thresholds().Check()
}

// Part is a part of a whole, written like 90%.
type Part float64

// UnmarshalYAML reads a number of percent with its sign.
func (p *Part) UnmarshalYAML(text []byte) error {
	s := strings.TrimSpace(strings.Trim(strings.TrimSpace(string(text)), `"'`))
	percent, ok := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(strings.TrimSpace(percent), 64)
	if !ok || err != nil || !(n > 0 && n < 100) {
		return fmt.Errorf("%q is not a part; write it like 90%%", s)
	}
	*p = Part(n / 100)
	return nil
}

// String writes it as it is read.
func (p Part) String() string { return strconv.FormatFloat(float64(p)*100, 'f', -1, 64) + "%" }

func (a *Agent) openDisk() (err error) {
	others := map[string]string{}
	for _, dir := range a.cfg.Disk.Watch {
		others[dir] = dir
	}
	if a.cfg.Log.File != "" {
		others["log.file"] = filepath.Dir(a.cfg.Log.File)
	}
	a.disk, err = space.New(space.Config{
		Thresholds: a.cfg.Disk.thresholds(), Dir: a.cfg.JournalDir(), Others: others, File: filepath.Join(a.cfg.Data, rateFile),
		Usage: func() space.Usage {
			u := a.queue.Usage()
			usage := space.Usage{Bytes: u.Bytes, Quota: u.Quota, Free: u.Free}
			if err := a.queue.Gone(); err != nil {
				usage.Gone = err.Error()
			}
			return usage
		},
		Held: func() (int64, error) {
			needed, err := a.needed()
			return a.queue.HeldFrom(needed), err
		},
		Written: func() uint64 { return a.journal.Stats().Own },
		Alarm:   a.alarms.raise, Logger: a.log, Metrics: space.NewMetrics(a.registry), Every: a.cfg.Tuning.DiskEvery,
	})
	return err
}

// admit asks the disk for the journal, which is open before the disk can be judged.
func (a *Agent) admit(kind journal.Kind) error {
	as := map[journal.Kind]space.Kind{journal.Business: space.Business, journal.Mail: space.Received, journal.Facts: space.Facts}
	switch refusal := a.disk.Admit(as[kind]); {
	case refusal == nil:
		return nil
	case refusal.Gone:
		return fmt.Errorf("%w: %s", journal.ErrGone, refusal.Text)
	default:
		return &journal.FullError{Level: refusal.Level, Limit: refusal.Limit, Why: refusal.Text}
	}
}

// needed is the lowest position that is still to be taken, to be delivered, or to be read.
func (a *Agent) needed() (uint64, error) {
	needed, err := a.eventsNeeded()
	return min(needed, a.documents.Cursor()), err
}

// telemetry is the part of the journal that facts may take. What is beyond it waits where it
// comes up, where each thing stands once however often it changes: nothing piles up, and no
// order waits for it.
type telemetry struct {
	quota int64
	bytes func() int64 // of facts that the control plane has not taken
	held  func(since time.Time, waited time.Duration)
}

// wait returns when there is room for a fact.
func (t *telemetry) wait(ctx context.Context, fact json.RawMessage) error {
	if t == nil || t.bytes()+int64(len(fact)) <= t.quota {
		return nil
	}
	began := time.Now()
	ticker := time.NewTicker(telemetryLook)
	defer ticker.Stop()
	for t.bytes()+int64(len(fact)) > t.quota {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
	t.held(began, time.Since(began))
	return nil
}

// openTelemetry bounds the facts.
func (a *Agent) openTelemetry() error {
	a.facts.room = &telemetry{
		quota: max(min(int64(a.cfg.Disk.Telemetry), int64(a.cfg.Journal.Quota)/telemetryParts), minTelemetry),
		bytes: func() int64 { return a.journal.FactBytes(a.outbox.takenTo(block.Control)) },
		held: func(since time.Time, waited time.Duration) {
			a.log.Warn("what the control plane is told had to wait for its part of the journal (disk.telemetry)", "since", since, "for", waited.Round(time.Second))
			a.alarms.raise("telemetry-held", since.UTC().Format(time.DateOnly), fmt.Sprintf(
				"since %s more was to be told than disk.telemetry allows while the line is cut: what came after that is told now as it stands, once each, and late by up to %s; no event of the business waited for it",
				since.UTC().Format(time.RFC3339), waited.Round(time.Second)))
		},
	}
	return nil
}

// examineDisk says what a running agent knows of its disk.
func examineDisk(s space.Status) (findings []doctor.Finding) {
	if s.State == "" {
		return nil // an older agent, which does not say it
	}
	f := doctor.Finding{ID: "disk-room", Level: doctor.OK, Seen: fmt.Sprintf("%.0f %% of the journal's quota is used, %d MB are free. %s", s.Level*100, s.Free>>20, s.Outage.Words())}
	const todo = "bring the line or the systems back that events wait for, free space, or raise journal.quota"
	switch s.State {
	case space.Near:
		f.Level, f.Todo = doctor.Warn, fmt.Sprintf("%s: from %.0f %% on, or with less than %d MB free, the site's systems are refused", todo, s.Stop*100, s.Reserve>>20)
	case space.Stopped, space.Closed:
		f.Level, f.Seen, f.Todo = doctor.Fail, "since "+s.Since.Local().Format(time.DateTime)+" the site's systems are refused: "+s.Why, todo
	}
	findings = append(findings, f)
	for what, o := range s.Others {
		if o.Scarce {
			findings = append(findings, doctor.Finding{ID: "disk-watched", Level: doctor.Warn, Seen: fmt.Sprintf("%s has %d MB free", what, o.Free>>20), Todo: "free space there"})
		}
	}
	return findings
}
