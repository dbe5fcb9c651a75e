package documents

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/event"
)

// pair is a source and a destination.
func pair(t *testing.T, change ...func(*Config)) (n *net, from, to *shop) {
	t.Helper()
	n = newNet()
	return n, newShop(t, n, "eu"), newShop(t, n, "hq", change...)
}

func TestDocumentsTravelOnce(t *testing.T) {
	n, eu, hq := pair(t)
	na := newShop(t, n, "na")
	hq.run(t)
	na.run(t)
	want, small := text(1, 3*ChunkSize+7), text(2, 0)
	sum, empty := eu.put(t, want), eu.put(t, small)
	if err := eu.Send(t.Context(), sum+","+empty, []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	await(t, "both are there", func() bool { return hq.Has(sum) && hq.Has(empty) })
	if got, err := hq.get(sum); err != nil || got != string(want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got := n.sentTo("hq"); got != 5 {
		t.Errorf("%d pieces, want 5", got)
	}
	if err := eu.Send(t.Context(), sum, []string{"hq", "na"}); err != nil { // the one has it
		t.Fatal(err)
	}
	await(t, "the other has it too", func() bool { return na.Has(sum) })
	if got := n.sentTo("hq"); got != 5 {
		t.Errorf("it went again: %d pieces", got)
	}
	if err := eu.Send(t.Context(), strings.Repeat("a", 64), []string{"hq"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown document: %v", err)
	}
	if err := eu.Send(t.Context(), sum, nil); err != nil {
		t.Errorf("to nobody: %v", err)
	}
	if st := hq.Status(); st.Arriving != 0 || st.Bytes != int64(len(want))+2*headerSize {
		t.Errorf("%+v", st)
	}
}

// A destination that falls at any step of receiving has the whole document in the end.
func TestCrashWhileReceiving(t *testing.T) {
	for _, step := range []string{"chunk-stored", "document-written", "document-stored", "document-received"} {
		for call := 1; call <= 4; call++ {
			n, eu, hq := pair(t)
			want := text(1, 4*ChunkSize-9)
			sum := eu.put(t, want)
			if err := eu.Send(t.Context(), sum, []string{"hq"}); err != nil {
				t.Fatal(err)
			}
			calls := 0
			hq.cfg.Hook = func(at string) {
				if at != step {
					return
				}
				if calls++; calls == call {
					panic(step)
				}
			}
			hq.open(t)
			died := false
			func() {
				defer func() { died = recover() != nil }()
				for _, item := range n.mail["hq"] {
					if err := hq.handle(t.Context(), &item); err != nil {
						t.Fatal(err)
					}
				}
			}()
			if !died && (step == "chunk-stored" || call == 1) {
				t.Errorf("%s %d never came", step, call)
			}
			hq.cfg.Hook = nil
			hq.open(t)
			for i := range n.mail["hq"] { // the cursor lags, so all may come again
				if err := hq.handle(t.Context(), &n.mail["hq"][i]); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := hq.get(sum); err != nil || got != string(want) {
				t.Errorf("%s %d: %d bytes, %v", step, call, len(got), err)
			}
			hq.open(t)
			if st := hq.Status(); st.Count != 1 || st.Arriving != 0 || st.Bytes != int64(len(want))+headerSize {
				t.Errorf("%s %d: %+v", step, call, st)
			}
		}
	}
}

// What came before a restart does not come again: the cursor has passed it.
func TestPartsOutliveARestart(t *testing.T) {
	n, eu, hq := pair(t)
	want := text(1, 2*ChunkSize)
	sum := eu.put(t, want)
	if err := eu.Send(t.Context(), sum, []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	for i := range n.mail["hq"] {
		hq.open(t)
		if st := hq.Status(); st.Arriving != i {
			t.Errorf("%d arriving, want %d", st.Arriving, i)
		}
		if err := hq.handle(t.Context(), &n.mail["hq"][i]); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := hq.get(sum); err != nil || got != string(want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// A document that is missing or damaged is asked for from where its event came, again and
// again, and told if it is gone there too.
func TestMissingIsAskedFor(t *testing.T) {
	_, eu, hq := pair(t)
	sum := eu.put(t, text(1, ChunkSize+1))
	eu.run(t)
	hq.run(t)
	if why := hq.Lacking(sum, "eu"); !strings.Contains(why, sum) {
		t.Errorf("lacking %q", why)
	}
	comes := func() bool {
		hq.set(func() { hq.clock = hq.clock.Add(time.Second) })
		return hq.Lacking(sum, "eu") == "" // as delivery looks again and again
	}
	await(t, "it comes", comes)
	if st := hq.Status(); st.Missing != 0 {
		t.Errorf("%+v", st)
	}
	if err := os.WriteFile(hq.path(sum), []byte("not a document"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := hq.get(sum); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	hq.Lacking(sum, "eu") // its header does not say any more from where it came
	await(t, "it comes again", comes)

	gone := strings.Repeat("b", 64)
	await(t, "its source says that it has not got it", func() bool {
		comes()
		hq.Lacking(gone, "eu")
		return eu.told("document-lost") != ""
	})
	hq.Lacking(gone, "hq") // its own
	await(t, "people are told", func() bool {
		hq.set(func() { hq.clock = hq.clock.Add(tellAfter) })
		hq.Lacking(gone, "eu")
		return hq.told("document-missing") != ""
	})
}

// What has come and is not read yet is not asked for, however long that takes.
func TestArrivedIsNotAskedFor(t *testing.T) {
	n, eu, hq := pair(t)
	sum := eu.put(t, text(1, 2*ChunkSize))
	if err := eu.Send(t.Context(), sum, []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	hq.set(func() { hq.position = uint64(n.sentTo("hq")) + 1 })
	hq.Lacking(sum, "eu")
	hq.set(func() { hq.clock = hq.clock.Add(time.Second) })
	if hq.askOnce(t.Context()); n.sentTo("eu") > 0 {
		t.Error("it is asked for before what came was read")
	}
	hq.run(t)
	await(t, "it is here", func() bool { return hq.Lacking(sum, "eu") == "" })
	if n.sentTo("eu") > 0 {
		t.Error("it is asked for")
	}
	gone := strings.Repeat("b", 64)
	hq.Lacking(gone, "eu")
	await(t, "what has not come is asked for", func() bool {
		hq.set(func() { hq.clock = hq.clock.Add(time.Second) })
		hq.Lacking(gone, "eu")
		return n.sentTo("eu") > 0
	})
}

// What another agent sends under the same name spoils nothing, and is told.
func TestForeignPiecesSpoilNothing(t *testing.T) {
	n, eu, hq := pair(t)
	want := text(1, ChunkSize+1)
	sum := eu.put(t, want)
	if err := eu.Send(t.Context(), sum, []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	mail := slices.Clone(n.mail["hq"])
	lie := chunk{sum: sum, kind: "application/pdf", size: ChunkSize + 1, data: make([]byte, ChunkSize)}
	for i, at := range []int64{0, ChunkSize} {
		lie.offset, lie.data = at, lie.data[:min(ChunkSize, lie.size-at)]
		if err := (lanes{n, "evil"}).Send(t.Context(), []Outgoing{{Event: lie.event("evil", time.Now()), To: []string{"hq"}}}); err != nil {
			t.Fatal(err)
		}
		for _, item := range []Arrived{n.mail["hq"][len(n.mail["hq"])-1], mail[i]} {
			if err := hq.handle(t.Context(), &item); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got, err := hq.get(sum); err != nil || got != string(want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if hq.told("document-damaged") == "" || hq.Status().Arriving != 0 {
		t.Errorf("told %v, %+v", hq.alarms, hq.Status())
	}
}

// A destination without room keeps what came where it is, says so, and goes on by itself.
func TestFullDestinationWaits(t *testing.T) {
	_, eu, hq := pair(t, func(c *Config) { c.Quota = 100 << 10; c.Retain = time.Hour })
	hq.put(t, text(9, 60<<10))
	sum := eu.put(t, text(1, 50<<10))
	if err := eu.Send(t.Context(), sum, []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	hq.run(t)
	await(t, "it is told", func() bool { return hq.told("documents-full") != "" })
	if hq.Has(sum) || hq.Cursor() != 1 {
		t.Errorf("it has it: %t, cursor %d", hq.Has(sum), hq.Cursor())
	}
	hq.set(func() { hq.clock, hq.position, hq.needed = hq.clock.Add(2*time.Hour), 5, 5 })
	if err := hq.sweepOnce(); err != nil {
		t.Fatal(err)
	}
	await(t, "there is room, and it comes", func() bool { return hq.Has(sum) })
}

// A piece that the disk does not give back holds up nothing: what it is of is asked for again.
func TestLostPiece(t *testing.T) {
	n, eu, hq := pair(t)
	sum, next := eu.put(t, text(1, ChunkSize+1)), eu.put(t, text(2, 10))
	for _, one := range []string{sum, next} {
		if err := eu.Send(t.Context(), one, []string{"hq"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := hq.handle(t.Context(), &n.mail["hq"][0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(hq.dir(partKey{sum, "eu"}), "0")); err != nil {
		t.Fatal(err)
	}
	hq.Store.cursor = 2
	hq.run(t)
	eu.run(t)
	await(t, "what comes behind it", func() bool { return hq.Has(next) })
	if hq.told("document-damaged") == "" {
		t.Error("nobody is told")
	}
	await(t, "it comes again", func() bool { return hq.Lacking(sum, "eu") == "" || moved(hq) })
}

// moved lets the time pass after which what is missing is asked for.
func moved(s *shop) bool {
	s.set(func() { s.clock = s.clock.Add(time.Second) })
	return false
}

// Parts of which no more comes go when their time is over.
func TestStaleParts(t *testing.T) {
	n, eu, hq := pair(t)
	if err := eu.Send(t.Context(), eu.put(t, text(1, ChunkSize+1)), []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	if err := hq.handle(t.Context(), &n.mail["hq"][0]); err != nil {
		t.Fatal(err)
	}
	hq.set(func() { hq.clock = hq.clock.Add(25 * time.Hour) })
	if err := hq.sweepOnce(); err != nil {
		t.Fatal(err)
	}
	if st := hq.Status(); st.Arriving != 0 || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
}

// Under pressure parts of which nothing came lately go before what is whole.
func TestPartsGoFirst(t *testing.T) {
	n, eu, hq := pair(t, func(c *Config) { c.Quota = 1 << 20 })
	for i := range 7 {
		hq.put(t, text(i, 100<<10))
	}
	if err := eu.Send(t.Context(), eu.put(t, text(9, ChunkSize+1)), []string{"hq"}); err != nil {
		t.Fatal(err)
	}
	if err := hq.handle(t.Context(), &n.mail["hq"][0]); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after    time.Duration
		arriving int
	}{{MinRetain / 2, 1}, {MinRetain, 0}} {
		hq.set(func() { hq.clock, hq.position, hq.needed = hq.clock.Add(c.after), 100, 100 })
		if err := hq.sweepOnce(); err != nil {
			t.Fatal(err)
		}
		if st := hq.Status(); st.Count != 7 || st.Arriving != c.arriving {
			t.Errorf("after %s more: %+v", c.after, st)
		}
	}
}

// Whoever named a missing document is asked for it in turn: the first may have lost it.
func TestOthersAreAskedInTurn(t *testing.T) {
	n, eu, hq := pair(t)
	na := newShop(t, n, "na")
	sum := na.put(t, text(1, 10))
	for _, s := range []*shop{eu, na, hq} {
		s.run(t)
	}
	await(t, "it comes from the second", func() bool {
		moved(hq)
		return hq.Lacking(sum, "eu") == "" || hq.Lacking(sum, "na") == ""
	})
	if eu.told("document-lost") == "" {
		t.Error("the first was not asked")
	}
}

// Whatever an event says of a piece, what is taken of it lies within the document's limits.
func FuzzChunk(f *testing.F) {
	good := chunk{sum: strings.Repeat("a", 64), kind: "a/b", size: 3, data: []byte("abc")}
	last := chunk{sum: good.sum, kind: "text/plain; charset=utf-8", size: ChunkSize + 1, offset: ChunkSize, data: []byte("z")}
	for _, c := range []*chunk{&good, &last} {
		text, err := c.event("eu", time.Unix(1, 0)).Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		e, err := event.Unmarshal(in)
		if err != nil {
			return
		}
		c, err := chunkOf(e)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
			return
		}
		if !valid(c.sum) || c.offset < 0 || c.size > MaxDocument || c.offset+int64(len(c.data)) > c.size || len(c.data) > ChunkSize {
			t.Errorf("%d bytes at %d of %d, %q", len(c.data), c.offset, c.size, c.sum)
		}
		if _, err := (&header{Type: c.kind, Size: c.size, From: strings.Repeat("x", 63)}).encode(); err != nil {
			t.Errorf("its type does not fit: %v", err)
		}
	})
}

// What is no piece and no question, or one that cannot be meant, is refused or passed over.
func TestStrangeEvents(t *testing.T) {
	hq := newShop(t, newNet(), "hq")
	for kind, want := range map[string]error{askType: ErrInvalid, chunkType: ErrInvalid, "crossdock.later.v9": nil} {
		text, err := (&event.Event{ID: "1", Source: "s", Type: kind, Data: []byte(`{"sha256":"../x"}`)}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := hq.handle(t.Context(), &Arrived{Pos: 1, From: "eu", Event: text}); !errors.Is(err, want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := hq.handle(t.Context(), &Arrived{Pos: 1, From: "eu"}); !errors.Is(err, ErrInvalid) {
		t.Errorf("an event that cannot be read: %v", err)
	}
}
