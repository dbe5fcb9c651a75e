package documents

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/crossdock/crossdock/protocol/event"
)

// tellAfter is how long a document may be missing before people are told.
const tellAfter = time.Minute

// Run takes what arrives, asks for what is missing, and lets go of what is old, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.receive(ctx) })
	group.Go(func() error { s.ask(ctx); return nil })
	group.Go(func() error { s.sweep(ctx); return nil })
	return group.Wait()
}

// Cursor is the position below which nothing is needed for documents any more.
func (s *Store) Cursor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor
}

// receive takes the internal events in order. One that cannot be stored now is tried again,
// and waits where it is.
func (s *Store) receive(ctx context.Context) error {
	for ctx.Err() == nil {
		from := s.Cursor()
		items, next, err := s.cfg.Source.Read(from)
		if err != nil {
			return err
		}
		for i := range items {
			if !s.arrived(ctx, &items[i]) {
				return nil
			}
		}
		s.mu.Lock()
		s.cursor = max(s.cursor, next)
		s.mu.Unlock()
		if next > from {
			s.cfg.Save(next)
			continue
		}
		if err := s.cfg.Source.Wait(ctx, next); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// arrived handles one event; false when ctx ended before it was done.
func (s *Store) arrived(ctx context.Context, item *Arrived) bool {
	for told := false; ; {
		err := s.handle(ctx, item)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			return false
		case errors.Is(err, ErrInvalid):
			s.cfg.Logger.Error("an internal event cannot be used", "from", item.From, "position", item.Pos, "err", err)
			s.cfg.Alarm("document-unreadable", fmt.Sprint(item.From, "/", item.Pos), fmt.Sprintf(
				"agent %s sent agent %s something about a document that cannot be used: %v; if an event names the document, it is asked for again", item.From, s.cfg.Agent, err))
			return true
		}
		if !told {
			told = true
			s.cfg.Logger.Error("a document that arrives cannot be kept now; it waits", "from", item.From, "err", err)
			s.cfg.Alarm("documents-full", s.cfg.Now().UTC().Format(time.DateOnly), fmt.Sprintf(
				"agent %s cannot keep a document that agent %s sent: %v; it waits, and so do the events that name it", s.cfg.Agent, item.From, err))
		}
		if !pause(ctx, s.cfg.Tuning.Retry) {
			return false
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (s *Store) handle(ctx context.Context, item *Arrived) error {
	e, err := event.Unmarshal(item.Event)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch e.Type {
	case chunkType:
		c, err := chunkOf(e)
		if err != nil {
			return err
		}
		s.cfg.Metrics.chunksReceived.Inc()
		return s.take(ctx, item.From, &c)
	case askType:
		var a asked
		if json.Unmarshal(e.Data, &a) != nil || !valid(a.SHA256) {
			return fmt.Errorf("%w: it asks for no document", ErrInvalid)
		}
		return s.again(ctx, item.From, a.SHA256)
	}
	return nil // of a later version; what it says, this one cannot know
}

// again sends a document to who asks for it. Its name is proof enough: nobody knows it who
// was not given the document or an event that names it.
func (s *Store) again(ctx context.Context, to, sum string) error {
	err := s.send(ctx, sum, []string{to})
	if errors.Is(err, ErrUnknown) || errors.Is(err, ErrDamaged) {
		s.cfg.Alarm("document-lost", sum+"/"+to, fmt.Sprintf("agent %s asks agent %s for document %s, which it has not got any more (%v): put it here again, and it is sent",
			to, s.cfg.Agent, sum, err))
		return nil
	}
	return err
}

// ask asks for what is missing, and tells people what stays so.
func (s *Store) ask(ctx context.Context) {
	every := min(s.cfg.Tuning.AskAfter, s.cfg.Tuning.Retry)
	for {
		next := s.askOnce(ctx)
		var timer <-chan time.Time
		if next {
			timer = time.After(every)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			if !pause(ctx, every) { // what comes at the same time as its event is nearly here
				return
			}
		case <-timer:
		}
	}
}

func (s *Store) askOnce(ctx context.Context) (more bool) {
	now := s.cfg.Now()
	type request struct {
		sum, from string
		turn      int
	}
	var requests []request
	s.mu.Lock()
	for sum, w := range s.wanted {
		if now.Sub(w.seen) > 2*s.cfg.Tuning.AskAgain { // nobody waits for it any more
			delete(s.wanted, sum)
			continue
		}
		if len(w.from) > 0 && s.cursor >= w.behind && now.Sub(w.since) >= s.cfg.Tuning.AskAfter && (w.asked.IsZero() || now.Sub(w.asked) >= s.cfg.Tuning.AskAgain) {
			turn := w.next % len(w.from)
			requests = append(requests, request{sum, w.from[turn], turn})
		}
		if !w.told && (now.Sub(w.since) >= tellAfter || len(w.from) == 0) {
			w.told = true
			s.cfg.Alarm("document-missing", sum, fmt.Sprintf("an event at agent %s names document %s, which is not here since %s; its deliveries wait; %s",
				s.cfg.Agent, sum, w.since.UTC().Format(time.RFC3339), remedy(w.from)))
		}
	}
	more = len(s.wanted) > 0
	s.cfg.Metrics.wanted.Set(float64(len(s.wanted)))
	s.mu.Unlock()
	for _, r := range requests {
		if err := s.askFor(ctx, r.sum, r.from); err != nil {
			s.cfg.Logger.Warn("a document cannot be asked for; trying again", "sha256", r.sum, "from", r.from, "err", err)
			continue
		}
		s.mu.Lock()
		if w := s.wanted[r.sum]; w != nil {
			w.asked, w.next = now, r.turn+1
		}
		s.mu.Unlock()
	}
	return more
}

func remedy(from []string) string {
	if len(from) == 0 {
		return "put it here again"
	}
	return "agent " + strings.Join(from, ", then ") + " is asked for it"
}

func (s *Store) askFor(ctx context.Context, sum, from string) error {
	text, err := json.Marshal(asked{SHA256: sum})
	if err != nil {
		return err
	}
	s.cfg.Logger.Info("a document is missing and asked for", "sha256", sum, "from", from)
	return s.cfg.Lanes.Send(ctx, []Outgoing{{To: []string{from}, Event: &event.Event{
		ID: uuid.NewString(), Source: "/agents/" + s.cfg.Agent, Type: askType, Time: s.cfg.Now(), DataContentType: event.JSONType, Data: text}}})
}

// sweep lets go of what is old.
func (s *Store) sweep(ctx context.Context) {
	for pause(ctx, s.cfg.Tuning.SweepEvery) {
		if err := s.sweepOnce(); err != nil {
			s.cfg.Logger.Error("old documents cannot be let go", "err", err)
		}
	}
}

// sweepOnce works in two steps. A document whose time is over is doomed at the position where
// the journal is then. It goes once all events before that position are done with, which
// are all that can name it: one that names it later takes the doom away.
func (s *Store) sweepOnce() error {
	limit, position := s.cfg.Now().Add(-s.retain()), s.cfg.Position()
	needed, err := s.cfg.Needed()
	if err != nil {
		return err
	}
	waiting := map[string]bool{} // read after needed, which has passed these
	if err := s.cfg.Waiting(func(text []byte) { noteNames(text, waiting) }); err != nil {
		return err
	}
	var over []string
	s.mu.Lock()
	stale, excess := s.staleLocked(limit)
	pressed := s.pressedLocked(limit, waiting, excess)
	for sum, h := range s.held {
		switch {
		case !h.named.Before(pressed):
			h.doomed = 0
		case h.doomed == 0:
			h.doomed = position
		}
		if h.doomed > 0 && h.doomed <= needed && !waiting[sum] {
			over = append(over, sum)
		}
	}
	s.mu.Unlock()
	if err := s.dropStale(stale); err != nil {
		return err
	}
	return errors.Join(s.clearAside(limit), s.remove(over, limit))
}

// dropStale forgets parts, but for those of which something has come meanwhile.
func (s *Store) dropStale(stale map[partKey]time.Time) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	for k, last := range stale {
		s.mu.Lock()
		p := s.parts[k]
		still := p != nil && p.last.Equal(last)
		s.mu.Unlock()
		if !still {
			continue
		}
		if err := s.drop(k); err != nil {
			return err
		}
	}
	return nil
}

// staleLocked lists the parts whose time is over with when they grew last, and gives by how
// much the quota is under pressure without them. Then parts go first of which nothing came
// lately: what is whole is of more use, and what is not is asked for again if an event names it.
func (s *Store) staleLocked(limit time.Time) (stale map[partKey]time.Time, excess int64) {
	stale = map[partKey]time.Time{}
	excess = s.bytes - int64(OverLevel*float64(s.quota.Load()))
	keys := slices.SortedFunc(maps.Keys(s.parts), func(a, b partKey) int { return s.parts[a].last.Compare(s.parts[b].last) })
	latest := s.cfg.Now().Add(-MinRetain)
	for _, k := range keys {
		if p := s.parts[k]; p.last.Before(limit) || excess > 0 && p.last.Before(latest) {
			stale[k] = p.last
			excess -= p.bytes
		}
	}
	return stale, excess
}

// pressedLocked is limit, or later if the quota is under pressure: then documents go before
// their time, those first that were not named for longest. Else what comes would wait for
// them, and the journal for what comes, until nothing is accepted here any more.
func (s *Store) pressedLocked(limit time.Time, waiting map[string]bool, excess int64) time.Time {
	if excess <= 0 {
		return limit
	}
	var oldest []*held
	for sum, h := range s.held {
		if !waiting[sum] {
			oldest = append(oldest, h)
		}
	}
	slices.SortFunc(oldest, func(a, b *held) int { return a.named.Compare(b.named) })
	latest := s.cfg.Now().Add(-MinRetain)
	for _, h := range oldest {
		if excess <= 0 || !h.named.Before(latest) {
			break
		}
		excess -= h.size
		if h.named.After(limit) {
			limit = h.named.Add(1)
		}
	}
	return limit
}

// clearAside removes damaged files that people have had their time to look at.
func (s *Store) clearAside(limit time.Time) error {
	dir := filepath.Join(s.cfg.Dir, damagedDir)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.ModTime().Before(limit) {
			if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func noteNames(text []byte, into map[string]bool) {
	e, err := event.Unmarshal(text)
	if err != nil || e.Extensions[Attribute] == "" {
		return
	}
	names, _ := Names(e.Extensions[Attribute]) // what is none, nobody waits for
	for _, sum := range names {
		into[sum] = true
	}
}

// remove lets documents go, and tells of those that were named after a limit.
func (s *Store) remove(sums []string, limit time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	early := 0
	for _, sum := range sums {
		h := s.held[sum]
		if h == nil || h.doomed == 0 {
			continue // named since
		}
		if err := os.Remove(s.path(sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.bytes -= h.size
		delete(s.held, sum)
		if !h.named.Before(limit) {
			early++
		}
	}
	s.measureLocked()
	if early > 0 {
		s.cfg.Alarm("documents-cut", s.cfg.Now().UTC().Format(time.DateOnly), fmt.Sprintf(
			"more than %.0f %% of the quota of documents is used at agent %s, so %d that no event waits for were let go before documents.retain (%s) is over: raise documents.quota or give the disk more space",
			OverLevel*100, s.cfg.Agent, early, s.retain()))
	}
	return nil
}

// Status is the store in short.
type Status struct {
	Count    int       `json:"count"`
	Bytes    int64     `json:"bytes"`
	Quota    int64     `json:"quota"`
	Oldest   time.Time `json:"oldest"`   // when the one was named that was not for longest
	Arriving int       `json:"arriving"` // documents of which pieces have come
	Missing  int       `json:"missing"`  // named by events that wait for them
}

// Status tells how the store is.
func (s *Store) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Status{Count: len(s.held), Bytes: s.bytes, Quota: s.quota.Load(), Arriving: len(s.parts), Missing: len(s.wanted)}
	for _, h := range s.held {
		if out.Oldest.IsZero() || h.named.Before(out.Oldest) {
			out.Oldest = h.named
		}
	}
	return out
}

// Listed is one document of a list.
type Listed struct {
	SHA256 string    `json:"sha256"`
	Size   int64     `json:"size"`
	Named  time.Time `json:"named"` // when it was put, received, or named by an event last
}

// maxListed bounds a list.
const maxListed = 100

// List gives the documents that were named last.
func (s *Store) List() []Listed {
	s.mu.Lock()
	out := make([]Listed, 0, len(s.held))
	for sum, h := range s.held {
		out = append(out, Listed{SHA256: sum, Size: h.size - headerSize, Named: h.named})
	}
	s.mu.Unlock()
	slices.SortFunc(out, func(a, b Listed) int { return cmp.Or(b.Named.Compare(a.Named), cmp.Compare(a.SHA256, b.SHA256)) })
	return out[:min(len(out), maxListed)]
}

// SumOf tells which document an internal event brings a piece of, empty if it does not.
func SumOf(text []byte) string {
	e, err := event.Unmarshal(text)
	if err != nil || e.Type != chunkType {
		return ""
	}
	return e.Extensions[attributeSum]
}

func (s *Store) measure() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.measureLocked()
}

func (s *Store) measureLocked() {
	s.cfg.Metrics.held.Set(float64(len(s.held)))
	s.cfg.Metrics.bytes.Set(float64(s.bytes))
	s.cfg.Metrics.quota.Set(float64(s.quota.Load()))
}
