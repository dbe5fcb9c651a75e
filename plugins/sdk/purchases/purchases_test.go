package purchases

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/book"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

const keep = 30 * 24 * time.Hour

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// body is what a plugin would keep.
type body struct {
	Text string `json:"text"`
}

// desk is a record with its clock, its disk and an index of the texts that were taken in.
type desk struct {
	*Record
	t     *testing.T
	dir   string
	now   time.Time
	file  *file
	texts map[string][]string // of each key
	log   bytes.Buffer
	exits []int
}

// file is on a disk that may fail.
type file struct {
	*os.File
	failWrite, failSync bool
}

var errDisk = errors.New("the disk failed")

func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if !f.failWrite {
		return f.File.WriteAt(p, at)
	}
	n, err := f.File.WriteAt(p[:len(p)/2], at)
	return n, errors.Join(err, errDisk)
}

func (f *file) Sync() error {
	if f.failSync {
		return errDisk
	}
	return f.File.Sync()
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), now: noon}
	d.open()
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func (d *desk) config() Config {
	return Config{Dir: d.dir, Name: "record", Kind: "tests", Version: 2, Setting: "state", Log: slog.New(slog.NewTextHandler(&d.log, nil)),
		Now: func() time.Time { return d.now },
		Keep: func(key string) time.Duration {
			if strings.HasPrefix(key, "short") {
				return keep / 10
			}
			return keep
		},
		Index: func() func(*Line, State) error {
			d.texts = map[string][]string{}
			return func(l *Line, s State) error {
				d.texts[l.Key] = append(d.texts[l.Key], fmt.Sprintf("%s %s %s %s", l.Phase, s.Phase, s.Digest, l.Body))
				return nil
			}
		},
		OpenFile: func(path string) (book.File, error) {
			f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
			d.file = &file{File: f}
			return d.file, err
		},
		Exit: func(code int) { d.exits = append(d.exits, code) }}
}

func (d *desk) open() {
	d.t.Helper()
	r, err := Open(d.config())
	if err != nil {
		d.t.Fatal(err)
	}
	d.Record = r
}

func (d *desk) restart() {
	d.t.Helper()
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	d.open()
}

// crashed is the next process after one that was killed now.
func (d *desk) crashed() *desk {
	d.t.Helper()
	next := &desk{t: d.t, dir: d.t.TempDir(), now: d.now}
	text, err := os.ReadFile(filepath.Join(d.dir, "record.log"))
	if err == nil {
		err = os.WriteFile(filepath.Join(next.dir, "record.log"), text, 0o600)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	next.open()
	d.t.Cleanup(func() { _ = next.Close() })
	return next
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// holds wants a key in a phase.
func (d *desk) holds(what, key string, want Phase) State {
	d.t.Helper()
	s, err := d.Find(key)
	if err != nil || s.Phase != want {
		d.t.Errorf("%s: %s is %q, want %q: %v", what, key, s.Phase, want, err)
	}
	return s
}

// What memory holds after each step, every later process holds too, however this one ends.
func TestEveryStepOutlivesTheProcess(t *testing.T) {
	d := newDesk(t)
	type known struct {
		phase         Phase
		digest        string
		since         time.Time
		asked, answer string
	}
	model := map[string]known{}
	for i, step := range []struct {
		key   string
		phase Phase
		text  string // the digest, too
	}{{"a", Begun, "1"}, {"a", Undone, ""}, {"a", Begun, "2"}, {"b", Begun, "3"}, {"a", Done, "4"}, {"a", Noted, "5"}, {"b", Noted, "6"}, {"b", Done, "7"},
		{"b", Done, "8"}, {"c", Done, "9"}, {"d", Noted, "10"}, {"d", Begun, "11"}} {
		d.now = d.now.Add(time.Minute)
		m := model[step.key]
		switch step.phase {
		case Begun:
			d.must(d.Begin(step.key, step.text, body{step.text}))
			m.phase, m.digest, m.since, m.asked = Begun, step.text, d.now, step.text
		case Done:
			d.must(d.Done(step.key, body{step.text}))
			m.phase, m.answer = Done, step.text
		case Undone:
			d.Undone(step.key)
			m.phase = Undone
		case Noted:
			d.must(d.Note(step.key, body{step.text}))
		}
		model[step.key] = m
		texts := maps.Clone(d.texts)
		next := d.crashed()
		d.restart()
		for who, r := range map[string]*desk{"the next process": d, "the next after a crash": next} {
			for key, want := range model {
				s := r.holds(fmt.Sprintf("step %d, %s", i, who), key, want.phase)
				got := known{phase: s.Phase, digest: s.Digest, since: s.Since}
				got.asked, got.answer = r.read(s, r.Asked), r.read(s, r.Answer)
				if got != want {
					t.Errorf("step %d, %s: %s is %+v, want %+v", i, who, key, got, want)
				}
			}
			if !maps.EqualFunc(r.texts, texts, slices.Equal) {
				t.Errorf("step %d, %s: the index has %q, want %q", i, who, r.texts, texts)
			}
		}
	}
	if s := d.holds("never begun", "z", ""); s != (State{}) {
		t.Errorf("what was never begun is %+v", s)
	}
}

// read gives a text; empty: there is none.
func (d *desk) read(s State, again func(State, any) error) string {
	var b body
	if err := again(s, &b); err != nil {
		sdktest.Fails(d.t, "read what is not there", err, sdk.Internal)
		return ""
	}
	return b.Text
}

// A line that was surely not written leaves memory as it was, but for what was surely not done.
func TestAWriteThatFails(t *testing.T) {
	d := newDesk(t)
	d.must(d.Begin("begun", "1", body{"asked"}))
	d.must(d.Begin("refused", "2", nil))
	d.file.failWrite = true
	sdktest.Fails(t, "begin", d.Begin("new", "3", nil), sdk.Unavailable)
	sdktest.Fails(t, "done", d.Done("begun", body{"answer"}), sdk.Unavailable)
	sdktest.Fails(t, "note", d.Note("begun", body{"note"}), sdk.Unavailable)
	d.Undone("refused")
	for key, want := range map[string]Phase{"new": "", "begun": Begun, "refused": Undone} {
		d.holds("this process", key, want)
	}
	if got := d.texts["refused"]; len(got) != 2 || len(d.texts["begun"]) != 1 || !strings.Contains(d.log.String(), "refused") {
		t.Errorf("the index has %q, and the log says %s", d.texts, d.log.String())
	}
	next := d.crashed()
	for key, want := range map[string]Phase{"new": "", "begun": Begun, "refused": Begun} {
		next.holds("the next process", key, want)
	}
	d.file.failWrite = false
	d.must(d.Done("begun", body{"answer"}))
	d.must(d.Begin("refused", "4", nil))
	d.restart()
	if s := d.holds("once the disk is good", "begun", Done); d.read(s, d.Answer) != "answer" || d.read(s, d.Asked) != "asked" {
		t.Errorf("it is %+v", s)
	}
	if s := d.holds("once the disk is good", "refused", Begun); s.Digest != "4" {
		t.Errorf("it is %+v", s)
	}
	if err := d.Done("refused", body{strings.Repeat("x", book.MaxBody)}); err == nil || sdk.ClassOf(err) != sdk.Validation {
		t.Errorf("an answer that is too large: %v", err)
	}
	sdktest.Fails(t, "an answer that is no JSON", d.Done("refused", func() {}), sdk.Internal)
	d.holds("what cannot be written", "refused", Begun)
}

// A line that may or may not be on disk ends the process. Nothing is answered from then on, and
// nothing was sent of what could not be begun.
func TestADiskThatFails(t *testing.T) {
	for what, c := range map[string]struct {
		write func(*desk) error
		want  sdk.Class
	}{
		"begin": {func(d *desk) error { return d.Begin("new", "2", nil) }, sdk.Unavailable},
		"note":  {func(d *desk) error { return d.Note("begun", nil) }, sdk.Unavailable},
		"done":  {func(d *desk) error { return d.Done("begun", body{"answer"}) }, sdk.UnknownOutcome},
	} {
		d := newDesk(t)
		d.must(d.Begin("begun", "1", nil))
		s := d.holds("before", "begun", Begun)
		d.file.failSync = true
		sdktest.Fails(t, what, c.write(d), c.want)
		_, err := d.Find("begun")
		for then, err := range map[string]error{"find": err, "usable": d.Usable(), "begin": d.Begin("x", "", nil), "asked": d.Asked(s, &body{})} {
			sdktest.Fails(t, then+" after "+what, err, sdk.Unavailable)
		}
		if !slices.Equal(d.exits, []int{1}) {
			t.Errorf("%s: the process ended with %v, want once with 1", what, d.exits)
		}
		next := d.crashed() // the text was written, and only its sync failed
		next.holds("the next process", "begun", map[string]Phase{"begin": Begun, "note": Begun, "done": Done}[what])
	}
}

// What is old goes once it is more than half, each key by its own time, and never what has no
// outcome.
func TestForgetting(t *testing.T) {
	d := newDesk(t)
	long, longer := body{strings.Repeat("x", 1000)}, body{strings.Repeat("x", 6000)}
	d.must(errors.Join(d.Begin("old", "", long), d.Done("old", long), d.Begin("short", "", nil), d.Done("short", longer)))
	d.must(errors.Join(d.Begin("open", "", nil), d.Begin("refused", "", long), d.Note("elsewhere", long)))
	d.Undone("refused")
	all := map[string]Phase{"old": Done, "short": Done, "open": Begun, "refused": Undone}
	look := func(what string, want map[string]Phase) {
		t.Helper()
		d.restart()
		for _, key := range []string{"old", "short", "open", "refused", "new"} {
			d.holds(what, key, want[key])
			if known := len(d.texts[key]) > 0; known != (want[key] != "") {
				t.Errorf("%s: it is %v that the index has %s", what, known, key)
			}
		}
	}
	d.now = noon.Add(100 * keep)
	look("a clock that runs ahead", all)
	d.now = noon.Add(keep / 5)
	d.must(errors.Join(d.Begin("new", "", nil), d.Done("new", nil)))
	look("one key's time is over", map[string]Phase{"old": Done, "open": Begun, "refused": Undone, "new": Done})
	d.now = noon.Add(keep)
	d.must(d.Note("new", nil))
	look("nothing is older than the time", map[string]Phase{"old": Done, "open": Begun, "refused": Undone, "new": Done})
	d.now = noon.Add(keep + time.Second)
	d.must(d.Done("short", longer))
	look("less than half is old", map[string]Phase{"old": Done, "short": Done, "open": Begun, "refused": Undone, "new": Done})
	d.now = d.now.Add(keep / 5)
	d.must(d.Note("new", nil))
	look("more than half is old", map[string]Phase{"open": Begun, "new": Done})
	look("the record that was written anew", map[string]Phase{"open": Begun, "new": Done})
	if len(d.texts["elsewhere"]) != 0 {
		t.Error("what was only noted is kept for good")
	}
	if info, err := os.Stat(filepath.Join(d.dir, "record.log")); err != nil || info.Size() > 1000 {
		t.Errorf("the record has %d bytes, %v", info.Size(), err)
	}
}

// A record that cannot be made shorter is as it was, in memory as well.
func TestARecordThatStaysLong(t *testing.T) {
	d := newDesk(t)
	d.must(errors.Join(d.Begin("old", "", nil), d.Done("old", body{strings.Repeat("x", 1000)})))
	d.now = noon.Add(2 * keep)
	d.must(d.Begin("new", "", nil))
	d.must(os.MkdirAll(filepath.Join(d.dir, "record.new", "in the way"), 0o700))
	d.restart()
	d.holds("a record that stays long", "old", Done)
	d.holds("a record that stays long", "new", Begun)
	if len(d.texts) != 2 || !strings.Contains(d.log.String(), "could not be made shorter") {
		t.Errorf("the index has %q, and the log says %s", d.texts, d.log.String())
	}
	d.must(os.RemoveAll(filepath.Join(d.dir, "record.new")))
	d.restart()
	d.holds("a record that is made shorter", "old", "")
}

// What this program cannot read refuses the record.
func TestForeignLines(t *testing.T) {
	for text, want := range map[string]string{
		`{"key":"a","phase":"sold","version":1}`:  "use the newer program",
		`{"key":"","phase":"done","version":1}`:   "use the newer program",
		`{"key":"a","phase":"done","version":3}`:  "of version 3, and this program reads up to 2",
		`{"key":"a","phase":"begun","version":1`:  "unexpected end",
		`{"key":"a","phase":"done","version":1}`:  "",
		`{"key":"a","phase":"begun","version":2}`: "",
	} {
		d := &desk{t: t, dir: t.TempDir(), now: noon}
		c := d.config()
		b, err := book.Open(book.Config{Dir: c.Dir, Name: c.Name, Kind: c.Kind, Version: lineVersion, Log: c.Log}, func(*book.Record) error { return nil })
		d.must(err)
		_, err = b.Append(lineVersion, []byte(text))
		d.must(errors.Join(err, b.Close()))
		r, err := Open(c)
		if want == "" {
			d.must(err)
			d.must(r.Close())
			continue
		}
		if e := sdk.AsError(err); err == nil || e.Class != sdk.Validation || e.Field != "state" || !strings.Contains(e.Message, want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
	d := newDesk(t)
	_, err := Open(d.config())
	sdktest.Fails(t, "a second process", err, sdk.Unavailable)
}

// A call that waits for another one with its key does not know what becomes of that, and leaves
// nothing held.
func TestWhoWaitsCanLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Record
		free, err := r.Hold(t.Context(), "a", "b")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = r.Hold(ctx, "0", "b")
		sdktest.Fails(t, "hold what is held", err, sdk.UnknownOutcome)
		done := make(chan error)
		go func() {
			again, err := r.Hold(t.Context(), "b", "0", "b")
			if err == nil {
				again()
			}
			done <- err
		}()
		synctest.Wait()
		free()
		if err := <-done; err != nil {
			t.Errorf("hold what was freed: %v", err)
		}
		if len(r.turns.held) != 0 {
			t.Errorf("%d keys are still held", len(r.turns.held))
		}
	})
}

// One call at a time has a key, and calls with other keys do not wait for it.
func TestAKeyAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Record
		stay, err := r.Hold(t.Context(), "elsewhere")
		if err != nil {
			t.Fatal(err)
		}
		defer stay()
		var inside, calls atomic.Int32
		for i := range 20 {
			go func() {
				keys := []string{"shared", fmt.Sprint(i % 3)}
				if i%2 == 0 {
					slices.Reverse(keys)
				}
				free, err := r.Hold(t.Context(), keys...)
				if err != nil {
					t.Error(err)
					return
				}
				defer free()
				if inside.Add(1) != 1 {
					t.Error("two calls have one key")
				}
				time.Sleep(time.Second) // of the fake clock: the others come while it works
				inside.Add(-1)
				calls.Add(1)
			}()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls.Load() != 20 {
			t.Errorf("%d calls had their turn, want 20", calls.Load())
		}
	})
}
