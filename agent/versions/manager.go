package versions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/crossdock/crossdock/protocol/release"
)

// spareBytes of the disk are left free by what is fetched: a version is worth less than room
// for events.
const spareBytes = 256 << 20

// looks is how often in the time of the gate the health is looked at.
const looks = 40

const switchRetry = time.Second // before it is asked again whether another version may take over

// Config is what the running agent gives to its Manager.
type Config struct {
	Store   *Store
	Start   Start
	Enabled bool          // the control plane may have versions run here
	Gate    time.Duration // that a version on trial has to show that it works
	// Attempts are the starts that it has for that, for who asks what the next start runs.
	Attempts int
	// Health judges the version on trial; it is called in the time of the gate, again and again.
	Health func(ctx context.Context) Health
	// Ready says why no other version may take over now, nil if one may: what does not work before
	// a trial says nothing about it.
	Ready func() error
	Free  func() int64 // bytes on the disk
	// Alarm tells the control plane. It must not block.
	Alarm func(kind, what, text string)
	Log   *slog.Logger
}

// Manager is the choice of version as the running agent takes part in it.
type Manager struct {
	cfg   Config
	store *Store
	file  installedFile
	began time.Time
	wake  chan struct{} // something is to be done here
	piece chan struct{} // what is to be fetched has changed

	mu      sync.Mutex // guards what follows, and what is written in the store while the agent runs
	state   State
	trial   bool    // this process is the version on trial
	wanted  *signed // to be fetched, or fetched and not chosen
	gone    bool    // what runs was withdrawn, and is to be left
	stage   string  // of what was wanted last
	checked string  // hash of the program that was found held; the start looks again
	said    Status  // what the last one that was wanted has come to
	later   *Offer  // what is wanted after a trial
	restart bool    // another version was chosen

	receiving bool // a release that a person has brought; the file it goes into is that call's alone
}

// Status is the agent's release as status and the control plane show it.
type Status struct {
	Running string    `json:"running"`
	Wanted  string    `json:"wanted,omitempty"`
	Stage   string    `json:"stage,omitempty"` // in which it is wanted
	State   string    `json:"state"`           // current, fetching, verified, trial, failed, rolled-back, newer, off
	Why     string    `json:"why,omitempty"`
	Since   time.Time `json:"since"`
}

// Open reads what was chosen.
func Open(cfg Config) *Manager {
	m := &Manager{cfg: cfg, store: cfg.Store, file: cfg.Start.file(), began: time.Now(), wake: make(chan struct{}, 1), piece: make(chan struct{}, 1)}
	st, err := m.store.State()
	if err != nil {
		cfg.Log.Error("the choice of version cannot be read", "err", err)
	}
	m.state = st
	m.trial = st.Trial != nil && st.Trial.Starts > 0 && release.Compare(st.Trial.Version, cfg.Start.Version) == 0
	m.said = Status{Running: cfg.Start.Version, State: Current, Since: time.Now()}
	switch o := st.Outcome; {
	case m.trial:
		m.said.Wanted, m.said.Stage, m.said.State, m.said.Since = st.Trial.Version, st.Trial.Stage, OnTrial, st.Trial.Since
	case o.State != "":
		m.said.Wanted, m.said.Stage, m.said.State, m.said.Why, m.said.Since = o.Version, o.Stage, o.State, o.Why, o.At
	}
	m.stage = m.said.Stage
	if version, stage := m.putOff(); version != "" {
		m.said = Status{Running: cfg.Start.Version, Wanted: version, Stage: stage, State: Verified, Why: m.putOffWhy(version), Since: m.began}
	}
	return m
}

// Status tells what runs, what is wanted and how far that is.
func (m *Manager) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.said
}

// say notes what a wanted version has come to.
func (m *Manager) say(wanted, state, why string) { m.sayIn(wanted, m.stage, state, why) }

func (m *Manager) sayIn(wanted, stage, state, why string) {
	why = clipped(why)
	if m.said.Wanted == wanted && m.said.State == state && m.said.Stage == stage {
		m.said.Why = why
		return
	}
	m.said = Status{Running: m.cfg.Start.Version, Wanted: wanted, Stage: stage, State: state, Why: why, Since: time.Now()}
	level := slog.LevelInfo
	if state == Failed || state == RolledBack {
		level = slog.LevelError
	}
	m.cfg.Log.Log(context.Background(), level, "release", "wanted", wanted, "state", state, "why", why)
}

// Run judges a trial, and has another version take over when one is wanted and held. It ends
// with ErrRestart then.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	o := m.state.Outcome
	trial := m.trial
	m.mu.Unlock()
	if o.State == RolledBack && !o.Withdrawn { // the same alarm again is the same exception there
		m.cfg.Alarm("release-rolled-back", o.Version+"/"+o.Stage, fmt.Sprintf(
			"release %s was given up and %s runs: %s; it is not tried again in this stage", o.Version, m.cfg.Start.Version, o.Why))
	}
	m.started()
	if trial {
		if err := m.judge(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	m.tidy()
	for {
		var again <-chan time.Time
		restart, waits := m.advance()
		if restart {
			return ErrRestart
		}
		if waits {
			again = time.After(switchRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-again:
		}
	}
}

// judge waits for the end of the trial; ErrRestart if it has failed.
func (m *Manager) judge(ctx context.Context) error {
	g := gate{limit: m.cfg.Gate, patience: max(m.cfg.Gate, patience), silent: m.silence()}
	every := min(max(m.cfg.Gate/looks, 50*time.Millisecond), 5*time.Second)
	began := time.Now()
	for {
		h := m.cfg.Health(ctx)
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		failed, waits := g.look(h, now.Sub(began))
		began = now
		if waits != "" && g.settled() {
			m.uncount()
		}
		m.keepSilence(&g)
		if over, err := m.verdict(failed, waits); over || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake: // somebody has ended the trial, or it is to be looked at again
		case <-time.After(every):
		}
	}
}

// uncount takes this start from those that the version on trial has: power that fails while
// it waits for a line is not its fault.
func (m *Manager) uncount() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restart || m.state.Trial.Settled {
		return
	}
	st, trial := m.state, *m.state.Trial
	trial.Starts--
	trial.Settled = true
	st.Trial = &trial
	if err := m.store.write(st); err != nil {
		m.cfg.Log.Warn("that a version on trial works so far cannot be written", "err", err)
		return
	}
	m.state = st
}

// silence is for how long the nodes had given this version no answer when the process before
// this one ended.
func (m *Manager) silence() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state.Trial == nil { // somebody has ended it already
		return 0
	}
	return m.state.Trial.Silent
}

// keepSilence writes that now and then: the next process goes on from there.
func (m *Manager) keepSilence(g *gate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restart || !g.kept(m.state.Trial.Silent) {
		return
	}
	st, trial := m.state, *m.state.Trial
	trial.Silent = g.silent
	st.Trial = &trial
	if err := m.store.write(st); err != nil {
		m.cfg.Log.Warn("for how long a version on trial has had no answer cannot be written", "err", err)
		return
	}
	m.state = st
}

// verdict notes how a trial stands.
func (m *Manager) verdict(failed, waits string) (over bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.restart:
		return true, ErrRestart
	case failed != "":
		m.store.hook(StepFailing)
		return true, m.change(func(st *State) { st.abandon(failed, time.Now()) })
	case waits != "":
		m.say(m.state.Trial.Version, OnTrial, waits)
		return false, nil
	}
	m.store.hook(StepPassing)
	st := m.state
	st.pass(time.Now())
	if err := m.store.write(st); err != nil {
		m.say(m.state.Trial.Version, OnTrial, fmt.Sprintf("works, and that cannot be noted: %v", err))
		return false, nil
	}
	m.store.hook(StepPassed)
	m.state, m.trial = st, false
	m.say(st.Outcome.Version, Current, "")
	if m.later != nil {
		m.want(*m.later)
		m.later = nil
	}
	return true, nil
}

// change notes another choice and has it take effect.
func (m *Manager) change(choose func(*State)) error {
	st := m.state
	if st.Trial != nil {
		trial := *st.Trial
		st.Trial = &trial
	}
	choose(&st)
	if err := m.store.write(st); err != nil {
		return err
	}
	m.store.hook(StepReturned)
	m.state, m.restart = st, true
	nudge(m.wake)
	return ErrRestart
}

// tidy removes what nothing goes back to.
func (m *Manager) tidy() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.store.prune(m.state, m.wanted, m.receiving); err != nil {
		m.cfg.Log.Warn("versions that are no longer needed cannot be removed", "err", err)
	}
}

// advance does what can be done here for what is wanted. waits says to come again in a while.
func (m *Manager) advance() (restart, waits bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.restart && m.gone {
		return m.leave()
	}
	if version, stage := m.putOff(); version != "" && (m.wanted == nil || release.Compare(m.wanted.version, version) == 0 && m.here(*m.wanted)) {
		return m.retry(version, stage)
	}
	if m.restart || m.wanted == nil {
		return m.restart, false
	}
	r := *m.wanted
	if !m.here(r) {
		return false, m.land(r)
	}
	if err := m.cfg.Ready(); err != nil {
		m.say(r.version, Verified, fmt.Sprintf("waits until this agent works as it is: %v", err))
		return false, true
	}
	m.say(r.version, Verified, "")
	return m.take(r.version, m.stage), true
}

// take puts a version that is held on trial.
func (m *Manager) take(version, stage string) (restart bool) {
	st, stood := m.state, m.stage
	m.stage = stage
	st.choose(version, stage, m.cfg.Start.Installed, time.Now())
	if chosenByHand(stage) && stood != "" && !chosenByHand(stood) {
		st.Trial.Standing = stood
	}
	if err := m.store.write(st); err != nil {
		m.say(version, Verified, fmt.Sprintf("the choice cannot be written: %v", err))
		return false
	}
	m.store.hook(StepChosen)
	m.state, m.restart = st, true
	m.say(version, OnTrial, "")
	return true
}

// here says that a release need not be fetched: it is held, or is what is installed.
func (m *Manager) here(r signed) bool {
	if r.version == m.cfg.Start.Installed || m.checked == r.file.SHA256 {
		return true
	}
	held, err := m.store.held(r.version)
	if err != nil || held.file != r.file {
		return false
	}
	m.checked = r.file.SHA256
	return true
}

// land makes what was fetched wholly a version that is held.
func (m *Manager) land(r signed) (waits bool) {
	size, err := m.store.partSize(r.file)
	if err != nil || size < r.file.Size {
		return false
	}
	m.store.hook(StepFetched)
	err = m.store.place(r, m.store.part(r.file))
	switch {
	case errors.Is(err, errDiffers):
		m.give(r, fmt.Sprintf("what was fetched is thrown away: %v", err))
		return false
	case err != nil:
		m.say(r.version, Fetching, err.Error())
		return true
	}
	m.store.hook(StepPlaced)
	nudge(m.wake)
	return false
}

// give ends the wish for a release.
func (m *Manager) give(r signed, why string) {
	m.wanted = nil
	m.say(r.version, Failed, why)
	if err := m.store.prune(m.state, nil, m.receiving); err != nil {
		m.cfg.Log.Warn("what was fetched cannot be removed", "err", err)
	}
	nudge(m.piece)
}

// Offer is a release that the control plane wants to run here; one without a version: none,
// and those that were withdrawn no longer.
type Offer struct {
	Version, Stage      string
	Manifest, Signature []byte
	Withdrawn           []string
}

// Want hears what the control plane wants. Its word counts for nothing that a trusted key has
// not signed.
func (m *Manager) Want(o Offer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.want(o)
}

func (m *Manager) want(o Offer) {
	defer nudge(m.piece)
	defer nudge(m.wake)
	if m.trial && o.Stage != m.stage { // one after the other: what is on trial comes to its end first
		m.later = &o
		return
	}
	m.wanted, m.stage, m.gone = nil, o.Stage, false
	m.callOff(o)
	if o.Version == "" {
		goes, stays := m.taken(o.Withdrawn)
		m.gone = goes
		if stays != nil {
			m.say(m.cfg.Start.Version, stays.state, stays.why)
			return
		}
		if slices.Contains([]string{Fetching, Verified, Newer, Off}, m.said.State) { // what has failed stays to be seen
			m.say("", Current, "")
		}
		return
	}
	r, over, err := m.weigh(o)
	var passed *passedOver
	switch {
	case errors.As(err, &passed):
		m.say(o.Version, passed.state, passed.why)
	case err != nil:
		m.say(o.Version, Failed, err.Error())
	case over:
	default:
		m.wanted = &r
		m.say(r.version, Fetching, "")
	}
}

// passedOver is why a release is not begun here though nothing is wrong with it: a site that
// is ahead, or goes by hand, is no reason to stop the release elsewhere.
type passedOver struct{ state, why string }

func (p *passedOver) Error() string { return p.why }

// weigh decides what an offer comes to; over says that nothing is to be done for it.
func (m *Manager) weigh(o Offer) (r signed, over bool, err error) {
	running := m.cfg.Start.Version
	if !m.cfg.Enabled {
		return r, true, &passedOver{Off, "upgrades.enabled is false in this agent's configuration: releases come by hand, with crossdock-agent upgrade"}
	}
	if r, err = m.store.verify(o.Manifest, o.Signature); err != nil {
		return r, true, err
	}
	if r.version != o.Version {
		return r, true, fmt.Errorf("the control plane calls release %s, of its signed manifest, version %q", r.version, o.Version)
	}
	byHand := m.offered(r.version, o.Stage)
	if release.Compare(r.version, running) == 0 {
		if m.trial { // that is for its gate to say
			return r, true, nil
		}
		m.say(r.version, Current, "")
		return r, true, nil
	}
	if f, ok := m.state.failed(r.version, o.Stage); ok {
		m.said = Status{Running: running, Wanted: r.version, Stage: o.Stage, State: RolledBack, Why: f.Why, Since: f.At}
		return r, true, nil
	}
	if byHand {
		return r, true, &passedOver{Newer, fmt.Sprintf("it is older than %s, which a person at this site has chosen over it; stage it anew to go back", running)}
	}
	if release.Compare(r.version, running) < 0 && r.version != m.state.Previous && release.Compare(r.version, m.cfg.Start.Installed) != 0 {
		return r, true, &passedOver{Newer, fmt.Sprintf("it is older than %s, which runs, and not the version that ran before: only crossdock-agent upgrade at the site goes so far back", running)}
	}
	return r, false, nil
}

// offered keeps what an offer means for the choice as it is, and says whether that stays.
func (m *Manager) offered(version, stage string) (over bool) {
	st := m.state
	if release.Compare(st.named(st.Current), m.cfg.Start.Version) != 0 {
		return false // something else runs than was chosen
	}
	over, changed := st.offered(version, stage)
	if !changed {
		return over
	}
	if err := m.store.write(st); err != nil {
		m.cfg.Log.Warn("the stage of what runs cannot be written", "err", err)
	}
	m.state = st
	return over
}

// Piece is what is to be fetched next: from an offset of the file of a hash, at most so much.
type Piece struct {
	SHA256 string
	Offset int64
	Left   int64
}

// Next is what is to be fetched, not ok if nothing is; Changed has a token when that changes.
func (m *Manager) Next() (p Piece, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted == nil || m.trial || m.restart {
		return p, false
	}
	f := m.wanted.file
	if m.here(*m.wanted) {
		return p, false
	}
	size, err := m.store.partSize(f)
	if err == nil && m.cfg.Free() < f.Size-size+spareBytes {
		err = fmt.Errorf("the disk has %d MB free, and %d MB are left to fetch; %d MB have to stay free",
			m.cfg.Free()>>20, (f.Size-size)>>20, spareBytes>>20)
	}
	if err != nil {
		m.say(m.wanted.version, Fetching, err.Error())
		return p, false
	}
	return Piece{f.SHA256, size, f.Size - size}, size < f.Size
}

// Changed has a token when there may be something to fetch.
func (m *Manager) Changed() <-chan struct{} { return m.piece }

// Took keeps a piece. size is that of the whole file, as the control plane has it.
func (m *Manager) Took(p Piece, data []byte, size int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.wanted
	if r == nil || r.file.SHA256 != p.SHA256 {
		return nil // it is not wanted any more
	}
	if size != r.file.Size || len(data) == 0 || int64(len(data)) > p.Left {
		m.give(*r, fmt.Sprintf("the control plane has a file of %d bytes and gives %d at %d, the signed manifest says %d", size, len(data), p.Offset, r.file.Size))
		return nil
	}
	if err := m.store.extend(r.file, p.Offset, data); err != nil {
		m.say(r.version, Fetching, err.Error())
		return err
	}
	done := p.Offset + int64(len(data))
	m.say(r.version, Fetching, fmt.Sprintf("%d of %d MB", done>>20, size>>20))
	if done == size {
		nudge(m.wake)
	}
	return nil
}

// Missed says why a piece did not come; it is asked for again.
func (m *Manager) Missed(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.wanted != nil {
		m.say(m.wanted.version, Fetching, why)
	}
}

// Rollback leaves the version that runs for the one before it.
func (m *Manager) Rollback(why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.restart {
		return conflict("another version is just taking over")
	}
	var err error
	if m.state.Trial != nil { // also one that waits for its start
		err = m.change(func(st *State) { st.abandon(why, time.Now()) })
	} else if err = m.state.canGoBack(); err == nil {
		err = m.change(func(st *State) { st.back(why, time.Now()) })
	}
	if errors.Is(err, ErrRestart) {
		return nil
	}
	return err
}

// canGoBack says why there is nothing to go back to.
func (s *State) canGoBack() error {
	if s.Previous == "" {
		return conflict("%s runs, and no version before it is held", cmp.Or(s.named(s.Current), "the installed program"))
	}
	return nil
}

func nudge(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
