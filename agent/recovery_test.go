package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/delivery"
	"github.com/crossdock/crossdock/agent/doctor"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

func told(a *alarms) (out []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, e := range a.waiting {
		out = append(out, id+": "+e.Text)
	}
	slices.Sort(out)
	return out
}

// What this agent acknowledged and does not hold is told at once; that is not yet a loss.
func TestFallenBehindIsTold(t *testing.T) {
	b := openBooks(t, t.TempDir(), 2)
	in := &inbox{journal: b.Journal, facts: &facts{agent: "here", journal: b.Journal}, alarms: newAlarms("here", slog.New(slog.DiscardHandler))}
	for range sessionsMissing {
		_ = in.Receive(t.Context(), mail(t, 1, 41, "a"), time.Now())
	}
	if got := told(in.alarms); len(got) != 1 || !strings.HasPrefix(got[0], "here/fallen-behind/there/1/1: ") || !strings.Contains(got[0], "was given 41") {
		t.Errorf("told %q", got)
	}
}

// A new epoch begins while the agent runs: what the relay took before is told to it and
// not sent twice, and so it stands after a restart.
func TestOutboxBeginsAnEpoch(t *testing.T) {
	dir := t.TempDir()
	b := openBooks(t, dir, 1)
	o := newOutbox(b.Journal, b.log, 1)
	for _, id := range []string{"1", "2", "3"} {
		b.add(t, id, "there")
	}
	o.Taken("there", 2)
	o.begin(4)
	if o.Earlier("there") != 2 {
		t.Errorf("earlier %d, want 2", o.Earlier("there"))
	}
	o.Taken("there", 0) // what the relay has of the new epoch
	b.close()
	b = openBooks(t, dir, 4)
	o = newOutbox(b.Journal, b.log, 4)
	if needed, err := o.needed(); o.Earlier("there") != 2 || err != nil || needed != 3 {
		t.Errorf("after a restart earlier %d, needed from %d, %v; want 2 and 3", o.Earlier("there"), needed, err)
	}
}

// What this data does not know, a newer copy of it may have bought.
func TestCallsAreInDoubtFromANewEpochOn(t *testing.T) {
	s := newSite(t)
	b := openBooks(t, t.TempDir(), 1)
	s.identity, s.log, s.queue, s.outbox = &identity.Identity{}, slog.New(slog.DiscardHandler), b.log, newOutbox(b.Journal, b.log, 1)
	s.alarms = newAlarms("here", s.log)
	if s.calls.Status().Doubt {
		t.Fatal("in doubt before")
	}
	t.Chdir(t.TempDir()) // an identity without a directory writes here
	if err := s.beginEpoch(2, "an old copy"); err != nil {
		t.Fatal(err)
	}
	if !s.calls.Status().Doubt {
		t.Error("what is bought in the new epoch is not looked for first")
	}
}

// So it is while another copy counts, before this one is let in again.
func TestCallsAreInDoubtWhileFenced(t *testing.T) {
	s := newSite(t)
	s.identity, s.log = &identity.Identity{}, slog.New(slog.DiscardHandler)
	s.alarms = newAlarms("here", s.log)
	s.fenced(false, "")
	if s.calls.Status().Doubt {
		t.Error("in doubt before")
	}
	s.fenced(true, "another copy was let in")
	if !s.calls.Status().Doubt {
		t.Error("what the other copy buys is not looked for first")
	}
}

// People learn of an epoch that began with an enrolment, once, and since when events may
// be missing; the first epoch of a new agent is no news.
func TestNewEpochIsTold(t *testing.T) {
	dir := t.TempDir()
	begin := func(epoch uint64, fill bool) []string {
		b := openBooks(t, dir, epoch)
		defer b.close()
		a := &Agent{log: slog.New(slog.DiscardHandler), queue: b.log, journal: b.Journal, alarms: newAlarms("here", slog.New(slog.DiscardHandler)),
			identity: &identity.Identity{Granted: identity.Granted{Agent: "here", Epoch: epoch}}}
		if err := a.noteEpoch(); err != nil {
			t.Fatal(err)
		}
		if fill {
			b.add(t, fmt.Sprint("e", epoch), "there")
		}
		return told(a.alarms)
	}
	if got := begin(1, true); len(got) != 0 {
		t.Errorf("a new agent told %q", got)
	}
	for range 2 {
		if got := begin(1, false); len(got) != 0 {
			t.Errorf("a restart told %q", got)
		}
	}
	if got := begin(3, true); len(got) != 1 || !strings.HasPrefix(got[0], "here/new-epoch/3: ") || !strings.Contains(got[0], "its data ended at ") {
		t.Errorf("an enrolment told %q", got)
	}
	if got := begin(3, false); len(got) != 0 {
		t.Errorf("told again: %q", got)
	}
	dir = t.TempDir()
	if got := begin(4, false); len(got) != 1 || !strings.Contains(got[0], "its journal was empty") {
		t.Errorf("a new disk told %q", got)
	}
}

// For a moment after a change of policy the former revision counts as the one in force.
func TestFlushWaitsForWhatIsOnItsWay(t *testing.T) {
	r := func(n uint64) block.Revision { return block.Revision{Generation: 1, Number: n} }
	var f flushing
	now := time.Unix(1e9, 0)
	for i, step := range []struct {
		now   uint64
		after time.Duration
		want  uint64
	}{{1, 0, 1}, {1, time.Hour, 1}, {2, 0, 1}, {2, flushGrace / 2, 1}, {2, flushGrace, 2}, {3, 0, 2}, {4, 0, 3}, {4, flushGrace, 4}} {
		now = now.Add(step.after)
		if got := f.held(r(step.now), now); got != r(step.want) {
			t.Errorf("step %d: %v, want %d", i, got, step.want)
		}
	}
}

func TestRetention(t *testing.T) {
	now := time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		pressed []bool // one for each time that it is asked
		ages    []time.Duration
		dropped uint64
		cut     time.Duration
	}{
		{"no pressure", []bool{false}, []time.Duration{time.Hour}, 10, 0},
		{"one file is enough", []bool{true, false}, []time.Duration{2 * time.Hour, time.Hour}, 11, 2 * time.Hour},
		{"two are", []bool{true, true, false}, []time.Duration{2 * time.Hour, time.Hour}, 12, time.Hour},
		{"the rest is needed", []bool{true, true, true, true}, []time.Duration{2 * time.Hour}, 11, 2 * time.Hour},
		{"past its time anyway", []bool{true, false}, []time.Duration{48 * time.Hour}, 11, 0},
	} {
		asked, trims := 0, 0
		r := retention{retain: 24 * time.Hour, now: func() time.Time { return now },
			pressed: func() bool { asked++; return tc.pressed[asked-1] },
			trim: func(before uint64, olderThan time.Time) (uint64, error) {
				if trims++; before != 77 || !olderThan.Equal(now.Add(-24*time.Hour)) {
					t.Errorf("%s: trim before %d, older than %v", tc.name, before, olderThan)
				}
				return uint64(10 * (2 - trims)), nil
			},
			one: func(uint64) (uint64, time.Time, error) {
				if len(tc.ages) == 0 {
					return 0, time.Time{}, nil
				}
				age := tc.ages[0]
				tc.ages = tc.ages[1:]
				return 1, now.Add(-age), nil
			}}
		dropped, cut, err := r.run(77)
		want := time.Time{}
		if tc.cut > 0 {
			want = now.Add(-tc.cut)
		}
		if err != nil || dropped != tc.dropped || !cut.Equal(want) {
			t.Errorf("%s: dropped %d, cut at %v, %v; want %d and %v", tc.name, dropped, cut, err, tc.dropped, want)
		}
	}
}

// A bit that flips in a page of the delivery file makes it begin again, and not panic.
func TestDeliveryFileWithABrokenPage(t *testing.T) {
	b := openBooks(t, t.TempDir(), 1)
	for i := range 50 {
		b.add(t, fmt.Sprint("e", i), "here")
	}
	path := filepath.Join(t.TempDir(), deliveryFile)
	var told []delivery.Damage
	cfg := delivery.Config{Agent: "here", Path: path, Source: localSource{b.Journal}, Target: &drivers{}, Policy: func() *policy.Set { return nil },
		Check: queue.CheckPages, Salvage: queue.SalvagePages, Floor: 7, OnDamage: func(d delivery.Damage) { told = append(told, d) }}
	open := func() {
		e, err := delivery.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
	open()
	open()
	if len(told) != 0 {
		t.Fatalf("a sound file is damaged: %+v", told)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(text, []byte("receipts")) // a bucket's name: the page before it holds where its pages are
	if at < 0 {
		t.Fatal("the file has no bucket of receipts")
	}
	page := at - at%os.Getpagesize()
	text[page] ^= 0x40 // the page's own number
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	open()
	open()
	if len(told) != 1 || told[0].From != 7 {
		t.Errorf("told %+v", told)
	}
}

func TestEnrolmentBesideARunningAgentIsRefused(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	log, err := queue.Open(queue.Config{Dir: cfg.JournalDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	_, err = Enroll(t.Context(), cfg, "a.b.c.d", [32]byte{})
	if !errors.Is(err, queue.ErrInUse) || !strings.Contains(err.Error(), "must be stopped") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.IdentityDir(), "key.new.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key was made: %v", err)
	}
}

func TestExamineStatusSaysWhatIsHeldAndFenced(t *testing.T) {
	var s Status
	if got := ExamineStatus(s); doctor.Worst(got) != doctor.OK {
		t.Errorf("%v", got)
	}
	s.Link.Fenced = "epoch 3 was granted to another copy"
	s.Systems = []SystemStatus{{SystemStatus: delivery.SystemStatus{System: "erp"}},
		{SystemStatus: delivery.SystemStatus{System: "erp-new", Held: "it takes the place of erp"}}}
	got := fmt.Sprint(ExamineStatus(s))
	for _, want := range []string{"fenced", "epoch 3", "system-erp-new", "takes the place of erp"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing in %s", want, got)
		}
	}
}
