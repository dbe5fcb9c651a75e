package space

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/protocol/freespace"
)

const gb = 1 << 30

// rig is a watch over a disk and a clock that the test moves.
type rig struct {
	*Watch
	usage   Usage
	held    int64
	written uint64
	now     time.Time
	total   int64
	others  map[string]freespace.Disk
	alarms  []string
}

func defaults() Thresholds {
	return Thresholds{Stop: 0.90, PullStop: 0.95, Resume: 0.85, Reserve: 256 << 20}
}

func newRig(t *testing.T, change func(*rig, *Config)) *rig {
	t.Helper()
	r := &rig{usage: Usage{Bytes: gb, Quota: 10 * gb, Free: 40 * gb}, now: time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC), total: 100 * gb}
	cfg := Config{Thresholds: defaults(), Dir: "data", File: filepath.Join(t.TempDir(), "disk.json"),
		Usage: func() Usage { return r.usage }, Held: func() (int64, error) { return r.held, nil }, Written: func() uint64 { return r.written },
		Now: func() time.Time { return r.now }, Alarm: func(kind, _, _ string) { r.alarms = append(r.alarms, kind) },
		Metrics: NewMetrics(prometheus.NewRegistry()),
		FileSystem: func(dir string) (freespace.Disk, error) {
			if s, ok := r.others[dir]; ok {
				return s, nil
			}
			return freespace.Disk{Free: r.usage.Free, Total: r.total}, nil
		}}
	if change != nil {
		change(r, &cfg)
	}
	var err error
	if r.Watch, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return r
}

// refused says which kinds are, from the usage as it is.
func (r *rig) refused() string {
	var out []string
	for kind, name := range map[Kind]string{Business: "business", Received: "mail", Facts: "facts"} {
		if r.Admit(kind) != nil {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestStopsAndBeginsAgain(t *testing.T) {
	r := newRig(t, nil)
	for i, c := range []struct {
		level float64
		free  int64
		want  string
	}{
		{0.10, 40 * gb, ""},
		{0.89, 40 * gb, ""},
		{0.90, 40 * gb, "business"},
		{0.89, 40 * gb, "business"}, // not at every breath around one threshold
		{0.85, 40 * gb, "business"},
		{0.84, 40 * gb, ""},
		{0.95, 40 * gb, "business mail"},
		{0.91, 40 * gb, "business mail"},
		{0.89, 40 * gb, "business"},
		{0.99, 40 * gb, "business facts mail"},
		{0.50, 40 * gb, ""},
		{0.50, 255 << 20, "business"}, // our quota is not all there is: somebody else fills the disk
		{0.50, 127 << 20, "business mail"},
		{0.50, 159 << 20, "business mail"},
		{0.50, 160 << 20, "business"},
		{0.50, 319 << 20, "business"},
		{0.50, 320 << 20, ""},
	} {
		r.usage = Usage{Bytes: int64(c.level * 10 * gb), Quota: 10 * gb, Free: c.free}
		if got := r.refused(); got != c.want {
			t.Errorf("step %d, at %.2f with %d MB free: %q is refused, want %q", i, c.level, c.free>>20, got, c.want)
		}
	}
	if len(r.alarms) != 6 {
		t.Errorf("people were told %d times: %q", len(r.alarms), r.alarms)
	}
}

// What is written into a directory that is gone is not kept: it is refused, which is said once
// however often it is asked.
func TestGone(t *testing.T) {
	var said bytes.Buffer
	r := newRig(t, func(_ *rig, c *Config) { c.Logger = slog.New(slog.NewTextHandler(&said, nil)) })
	for range 3 {
		r.usage.Gone = "data: removed"
		for range 3 {
			if got := r.refused(); got != "business mail" {
				t.Errorf("%q is refused", got)
			}
			r.Look()
		}
		if refusal := r.Admit(Business); refusal == nil || !refusal.Gone || refusal.Text != "data: removed" || r.Gone() != refusal.Text {
			t.Errorf("%+v, %q", refusal, r.Gone())
		}
		if s := r.Status(); s.State != Closed || s.Why != "data: removed" || !s.Since.Equal(r.now) {
			t.Errorf("%+v", s)
		}
		r.usage.Gone = ""
		if got := r.refused() + r.Gone(); got != "" || r.Status().State != OK {
			t.Errorf("when it is back: %q, %+v", got, r.Status())
		}
	}
	if n := strings.Count(said.String(), "level=ERROR"); n != 3 || len(r.alarms) != 3 || r.alarms[0] != "journal-gone" {
		t.Errorf("gone three times, said %d times, told %q:\n%s", n, r.alarms, &said)
	}
}

// Delivered history goes as long as anything is refused that its room would let in again,
// whoever took the room.
func TestPressed(t *testing.T) {
	r := newRig(t, nil)
	for i, c := range []struct {
		level float64
		free  int64
		want  bool
	}{
		{0.61, 40 * gb, false},
		{0.75, 40 * gb, false},
		{0.76, 40 * gb, true},
		{0.61, 319 << 20, true},
		{0.61, 320 << 20, false},
		{0.61, 250 << 20, true},
		{0.61, 100 << 20, true},
		{0.61, 0, false}, // it cannot be told what is free
	} {
		r.usage = Usage{Bytes: int64(c.level * 10 * gb), Quota: 10 * gb, Free: c.free}
		refused := r.refused()
		if got := r.Pressed(); got != c.want || refused != "" && !got {
			t.Errorf("step %d, at %.2f with %d MB free: %t, want %t; %q is refused", i, c.level, c.free>>20, got, c.want, refused)
		}
	}
}

// What refuses says why, in numbers that people can do something about.
func TestRefusalSaysWhy(t *testing.T) {
	r := newRig(t, nil)
	r.usage.Bytes = 92 * gb / 10
	if refusal := r.Admit(Business); refusal == nil || !strings.Contains(refusal.Text, "92 %") || !strings.Contains(refusal.Text, "90 %") {
		t.Errorf("%v", refusal)
	}
	r = newRig(t, nil)
	r.usage.Free = 100 << 20
	if refusal := r.Admit(Business); refusal == nil || !strings.Contains(refusal.Text, "100 MB") || !strings.Contains(refusal.Text, "disk.reserve") {
		t.Errorf("%v", refusal)
	}
}

// A small disk is not closed for good by a reserve that is larger than it.
func TestReserveOnASmallDisk(t *testing.T) {
	r := newRig(t, func(r *rig, _ *Config) {
		r.total = 200 << 20
		r.usage = Usage{Bytes: 20 << 20, Quota: 190 << 20, Free: 170 << 20}
	})
	if got := r.refused(); got != "" {
		t.Errorf("%q is refused", got)
	}
	if r.usage.Free = 9 << 20; r.refused() != "business" {
		t.Errorf("%q is refused with 9 MB free of 200", r.refused())
	}
}

// People are told before anything stops, and what is far away from stopping tells nothing.
func TestNear(t *testing.T) {
	r := newRig(t, func(r *rig, c *Config) {
		c.Others = map[string]string{"logs": "/var/log"}
		r.others = map[string]freespace.Disk{"/var/log": {Free: gb, Total: 10 * gb}}
	})
	r.Look()
	if s := r.Status(); s.State != OK || len(r.alarms) != 0 || s.Others["logs"].Scarce {
		t.Errorf("%+v, told %q", s, r.alarms)
	}
	r.usage.Bytes = 86 * gb / 10
	r.Look()
	if s := r.Status(); s.State != Near || !slices.Equal(r.alarms, []string{"disk-near"}) || r.refused() != "" {
		t.Errorf("%+v, told %q", s, r.alarms)
	}
	r.usage.Bytes, r.usage.Free, r.alarms = gb, 400<<20, nil
	r.Look()
	if s := r.Status(); s.State != Near || !slices.Equal(r.alarms, []string{"disk-near"}) {
		t.Errorf("%+v, told %q", s, r.alarms)
	}
	r.usage.Free, r.alarms = 40*gb, nil
	r.others["/var/log"] = freespace.Disk{Free: 10 << 20, Total: 10 * gb}
	r.Look()
	if s := r.Status(); s.State != OK || !s.Others["logs"].Scarce || !slices.Equal(r.alarms, []string{"disk-near"}) || r.refused() != "" {
		t.Errorf("%+v, told %q, refused %q", s, r.alarms, r.refused())
	}
}

// pass lets time pass in looks a minute apart, at a rate.
func (r *rig) pass(d time.Duration, perHour float64) {
	for range int(d / time.Minute) {
		r.now = r.now.Add(time.Minute)
		r.written += uint64(perHour / 60)
		r.Look()
	}
}

func near(got, want float64) bool { return math.Abs(got-want) <= 0.02*want }

func TestEstimate(t *testing.T) {
	r := newRig(t, func(_ *rig, c *Config) { c.File = "" })
	r.usage, r.held = Usage{Bytes: 4 * gb, Quota: 10 * gb, Free: 40 * gb}, gb // of 4 GB 3 would be let go of
	r.begin()
	r.pass(59*time.Minute, gb/10)
	if o := r.Status().Outage; o.State != Unknown || o.Hours != 0 || !strings.Contains(o.Words(), "not known yet") {
		t.Errorf("after 59 minutes: %+v", o)
	}
	r.pass(2*time.Minute, gb/10)
	o := r.Status().Outage
	if o.State != Known || !near(float64(o.BytesPerHour), gb/10) || o.Room != 8*gb || !near(o.Hours, 80) {
		t.Errorf("got %+v, want 8 GB at 0.1 GB an hour", o)
	}
	r.usage.Free, r.held = gb, 4*gb // now it is the disk that ends first, and nothing can be let go of
	r.Look()
	if o := r.Status().Outage; o.Room != gb-256<<20 || !near(o.Hours, 7.5) {
		t.Errorf("got %+v, want 768 MB at 0.1 GB an hour", o)
	}
	// What was written long ago counts ever less.
	r.pass(24*time.Hour, gb)
	if o := r.Status().Outage; !near(float64(o.BytesPerHour), gb) {
		t.Errorf("after a day at 1 GB an hour: %+v", o)
	}
	r.pass(400*time.Hour, 0)
	if o := r.Status().Outage; o.State != Idle || o.Hours != 0 {
		t.Errorf("after weeks of nothing: %+v", o)
	}
	r.usage.Bytes, r.usage.Free = 99*gb/10, 40*gb
	r.Look()
	if o := r.Status().Outage; o.Room != 0 {
		t.Errorf("stopped, and there is room: %+v", o)
	}
}

// A restart goes on with what was seen before, and the time between counts for nothing.
func TestRateOutlivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.json")
	keep := func(_ *rig, c *Config) { c.File = file }
	r := newRig(t, keep)
	ctx, cancel := context.WithCancel(t.Context())
	r.begin()
	r.pass(2*time.Hour, gb/10)
	cancel()
	if err := r.Run(ctx); err != nil { // it has ended already, and keeps
		t.Fatal(err)
	}
	again := newRig(t, keep)
	again.now, again.written = r.now.Add(1000*time.Hour), 0
	again.begin()
	again.Look()
	if o := again.Status().Outage; o.State != Known || !near(float64(o.BytesPerHour), gb/10) {
		t.Errorf("after a restart: %+v", o)
	}
	again.pass(time.Hour, gb/10)
	if o := again.Status().Outage; !near(float64(o.BytesPerHour), gb/10) {
		t.Errorf("an hour later: %+v", o)
	}
}

// A kill loses no more than what came since it was kept last; a file that cannot be read
// costs the rate, and not the start.
func TestRateIsKeptAndMayBeBroken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk.json")
	keep := func(_ *rig, c *Config) { c.File = file }
	r := newRig(t, keep)
	r.begin()
	r.pass(2*time.Hour, gb)
	again := newRig(t, keep) // r was killed
	again.begin()
	again.Look()
	if o := again.Status().Outage; o.State != Known || !near(float64(o.BytesPerHour), gb) {
		t.Errorf("after a kill: %+v", o)
	}
	for _, text := range []string{"", "{", `{"bytes":-1}`, `{"bytes":1e308,"hours":1e308}`, `{"bytes":"x"}`, strings.Repeat("x", 10000)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if o := newRig(t, keep).Status().Outage; o.State != Unknown {
			t.Errorf("with %.20q: %+v", text, o)
		}
	}
}

// A clock that jumps makes no rate of nothing.
func TestClockThatJumps(t *testing.T) {
	r := newRig(t, nil)
	r.begin()
	r.pass(2*time.Hour, gb)
	for _, jump := range []time.Duration{-time.Hour, 48 * time.Hour} {
		r.now = r.now.Add(jump)
		r.Look()
		r.pass(10*time.Minute, gb)
		if o := r.Status().Outage; !near(float64(o.BytesPerHour), gb) {
			t.Errorf("after a jump of %s: %+v", jump, o)
		}
	}
}

func TestThresholdsThatMakeNoSense(t *testing.T) {
	for _, c := range []struct {
		t  Thresholds
		ok bool
	}{
		{defaults(), true},
		{Thresholds{Stop: 0.6, PullStop: 0.7, Resume: 0.5}, true},
		{Thresholds{Stop: 0.9, PullStop: 0.95, Resume: 0.9}, false},
		{Thresholds{Stop: 0.95, PullStop: 0.95, Resume: 0.85}, false},
		{Thresholds{Stop: 0.9, PullStop: 0.99, Resume: 0.85}, false},
		{Thresholds{Stop: 0.9, PullStop: 0.95, Resume: 0.3}, false},
		{Thresholds{Stop: 0.9, PullStop: 0.95, Resume: 0.85, Reserve: -1}, false},
	} {
		if err := c.t.Check(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.t, err)
		}
	}
}

// What is needed cannot be told: then all of it counts as needed.
func TestHeldThatCannotBeTold(t *testing.T) {
	r := newRig(t, func(_ *rig, c *Config) { c.Held = func() (int64, error) { return 0, errors.New("the disk is gone") } })
	r.usage.Bytes = 4 * gb
	r.Look()
	if o := r.Status().Outage; o.Room != 5*gb {
		t.Errorf("%+v", o)
	}
}
