package calls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// Request is what a system of the site asks for.
type Request struct {
	System    string // that asks
	Kind      string // carrier or tax
	Plugin    string // of a carrier; tax engines are named by the policy
	Operation string
	Key       string    // idempotency key; may be empty where nothing is bought
	Deadline  time.Time // for what has to wait; zero: the configured one
	Body      []byte
}

// Answer is what came of it.
type Answer struct {
	ID       string // of the call; empty: it leaves nothing behind
	State    State
	Deadline time.Time       // of what is queued
	Body     json.RawMessage // the plugin's answer; empty while it waits
}

// asked is a request that was read.
type asked struct {
	Request
	op        *operation
	what      any
	hash      string
	reference string
}

// Do makes a call, or gives what came of it before. Every error is a *Refusal. Who goes away
// ends nothing, nor does it that a call takes longer than its caller is let wait.
func (s *Service) Do(ctx context.Context, r Request) (*Answer, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	type outcome struct {
		answer *Answer
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		defer s.left()
		answer, err := s.do(ctx, r)
		done <- outcome{answer, err}
	}()
	limit := time.NewTimer(s.cfg.AnswerWithin)
	defer limit.Stop()
	select {
	case o := <-done:
		return o.answer, o.err
	case <-limit.C:
		e := refuse(InDoubt, "the call is being made and takes long; send the same again")
		e.RetryAfter = time.Second
		return nil, e
	}
}

func (s *Service) do(ctx context.Context, r Request) (*Answer, error) {
	a, err := s.understand(r)
	if err != nil {
		return nil, err
	}
	if a.Key == "" {
		return s.glance(a)
	}
	call := &record{System: a.System, Plugin: a.Plugin, Key: a.Key, Reference: a.reference}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Patience)
	defer cancel()
	release, err := s.claims.take(ctx, call.names(a.op))
	if err != nil {
		e := refuse(InDoubt, "the same call is being made and takes long; send the same again")
		e.RetryAfter = time.Second
		return nil, e
	}
	defer release()
	call, again, err := s.resume(a)
	if err != nil {
		return nil, err
	}
	if again {
		s.advance(call, a)
	}
	return answerOf(call, s.retryAfter(call.ID))
}

// understand reads a request and checks all that can be checked without asking anybody.
func (s *Service) understand(r Request) (*asked, error) {
	op, err := find(r.Kind, r.Operation)
	if err != nil {
		return nil, err
	}
	a := &asked{Request: r, op: op}
	if a.Plugin, err = s.target(r); err != nil {
		if a.Plugin = s.madeAt(r); a.Plugin == "" {
			return nil, err
		}
	}
	switch {
	case op.keyed && r.Key == "":
		return nil, refuse(NoKey, "%s leaves a mark: send a key of your own, the same again when you repeat the request", op.name)
	case len(r.Key) > MaxKey:
		return nil, refuse(Invalid, "an idempotency key has at most %d bytes", MaxKey)
	}
	if a.hash, err = digest(r.Kind, r.Plugin, r.Operation, r.Body); err != nil {
		return nil, err
	}
	if a.what, err = op.read(r.Body); err != nil {
		return nil, err
	}
	a.reference = referenceOf(a.what)
	if n := len(a.reference); op.keyed && (n == 0 || n > MaxReference) {
		e := refuse(Invalid, "a reference of your own is needed, of 1 to %d bytes, once for each thing", MaxReference)
		e.Field = "reference"
		return nil, e
	}
	if shipment, is := a.what.(*carrier.Shipment); is && len(shipment.Numbers) > 0 {
		e := refuse(Invalid, "numbers are taken from the site's ranges by the agent")
		e.Field = "numbers"
		return nil, e
	}
	if !op.bought && !op.waits && !(op.stands && r.Kind == tax.Kind) {
		a.Key = "" // it only looks
	}
	return a, nil
}

// target names the plugin that a request is for, if there is one and the system may call it.
func (s *Service) target(r Request) (plugin string, err error) {
	plugin = r.Plugin
	if r.Kind == tax.Kind {
		order := s.taxOrder()
		if len(order) == 0 {
			return "", refuse(NoSuch, "the policy names no tax engine for site %s", s.cfg.Site)
		}
		plugin = order[0]
	} else if _, err := s.served(r.Kind, plugin); classOf(err) == sdk.NotSupported {
		return "", refuse(NoSuch, "%v", err)
	}
	if s.cfg.MayCall != nil && !s.cfg.MayCall(r.System, plugin) {
		return "", refuse(NotAllowed, "the policy does not let system %s call plugin %s", r.System, plugin)
	}
	return plugin, nil
}

// madeAt names the plugin of a call that was made under this key: its system hears what came of
// it though the policy lets it make no more.
func (s *Service) madeAt(r Request) string {
	was, err := s.store.find(r.System, r.Key, "", "")
	call := was.byKey
	if err != nil || call == nil || call.State == Retry || call.Kind != r.Kind || r.Kind == carrier.Kind && call.Plugin != r.Plugin {
		return ""
	}
	return call.Plugin
}

func (s *Service) taxOrder() []string {
	if s.cfg.Policy == nil {
		return nil
	}
	return s.cfg.Policy.TaxOrder()
}

// served gives what is asked, for one call.
func (s *Service) served(kind, name string) (any, error) {
	if s.cfg.Plugins == nil {
		return nil, sdk.Errorf(sdk.NotSupported, "this agent runs no plugins")
	}
	if kind == tax.Kind {
		return s.cfg.Plugins.Tax(name)
	}
	return s.cfg.Plugins.Carrier(name)
}

// plugin is the same for a call that was accepted: a plugin that the policy has no more may
// come back with the next revision.
func (s *Service) plugin(kind, name string) (any, error) {
	at, err := s.served(kind, name)
	if err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "%v", err)
	}
	return at, nil
}

// ask makes one call to a plugin.
func (s *Service) ask(kind, name string, op *operation, what any) (answer any, err error) {
	at, err := s.plugin(kind, name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.life, s.cfg.Timeout)
	defer cancel()
	began := s.cfg.Now()
	answer, err = op.ask(ctx, at, what)
	s.cfg.Metrics.called(name, op.name, err, s.cfg.Now().Sub(began))
	return answer, err
}

// glance asks what leaves nothing behind.
func (s *Service) glance(a *asked) (*Answer, error) {
	if a.Kind == tax.Kind {
		answer, _, err := s.standIn(s.taxOrder(), a.op, a.what, 0)
		return glanced(answer, err)
	}
	answer, err := s.ask(a.Kind, a.Plugin, a.op, a.what)
	return glanced(answer, err)
}

func glanced(answer any, err error) (*Answer, error) {
	if err != nil {
		return nil, failed("", failureOf(err))
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return nil, refuse(NotKept, "the answer cannot be written: %v", err)
	}
	return &Answer{State: Done, Body: body}, nil
}

// resume finds the call that a request is about, or begins it. again says that there is
// something to do now.
func (s *Service) resume(a *asked) (call *record, again bool, err error) {
	reference := ""
	if a.op.bought {
		reference = a.reference
	}
	was, err := s.store.find(a.System, a.Key, a.Plugin, reference)
	if err != nil {
		return nil, false, s.unkept(err)
	}
	s.tellDamaged(was.damaged)
	byKey, byRef, doubt := was.byKey, was.byRef, len(was.damaged) > 0
	if byKey != nil && byKey.Hash != a.hash {
		e := refuse(OtherBody, "key %q came with another request before (call %s)", a.Key, byKey.ID)
		e.ID = byKey.ID
		return nil, false, e
	}
	if byKey != nil && (byKey.State != Retry || !stands(byRef)) {
		again := byKey.State == Retry || s.inDoubt(byKey)
		if byKey.State == Retry {
			byKey.Deadline, byKey.Doubt = a.Deadline, byKey.Doubt || doubt
		}
		if again {
			byKey.Asked = s.cfg.Now().UTC()
		}
		return byKey, again, nil
	}
	// Under another key it is still the same purchase, also if this key failed to buy it before.
	if stands(byRef) {
		if byRef.Hash != a.hash || byRef.System != a.System {
			e := refuse(OtherUse, "reference %s was used for another request before (call %s)", a.reference, byRef.ID)
			e.ID = byRef.ID
			return nil, false, e
		}
		if byRef.Voided != "" {
			e := refuse(OtherUse, "what was bought for reference %s (call %s) was given back (call %s): buy under a new reference", a.reference, byRef.ID, byRef.Voided)
			e.ID = byRef.ID
			return nil, false, e
		}
		return byRef, s.inDoubt(byRef), nil
	}
	if open, _, _ := s.store.count(); open >= MaxOpen {
		return nil, false, refuse(Busy, "%d calls wait or are in doubt here: see GET /v1/calls", open)
	}
	if a.Operation == carrier.OpVoid && a.Kind == carrier.Kind {
		if e := s.undecided(a); e != nil {
			return nil, false, e
		}
		switch void, err := s.given(a); {
		case err != nil:
			return nil, false, s.unkept(err)
		case void != nil:
			return void, false, nil
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, false, s.unkept(err)
	}
	now := s.cfg.Now().UTC()
	return &record{ID: id.String(), System: a.System, Kind: a.Kind, Plugin: a.Plugin, Operation: a.Operation, Reference: a.reference,
		Key: a.Key, Hash: a.hash, Body: a.Body, Began: now, Asked: now, Deadline: a.Deadline, Doubt: doubt}, true, nil
}

// stands says that there is a purchase, or may be one.
func stands(bought *record) bool {
	return bought != nil && bought.State != Failed && bought.State != Retry
}

// inDoubt says that a call's outcome can be found out now.
func (s *Service) inDoubt(call *record) bool {
	return call.State == Begun || call.State == Unknown && s.due(call.ID)
}

// undecided refuses to give back what may be bought a moment later.
func (s *Service) undecided(a *asked) error {
	was, err := s.store.find(a.System, a.Key, a.Plugin, a.reference)
	if err != nil {
		return s.unkept(err)
	}
	if bought := was.byRef; bought != nil && bought.State.open() {
		e := refuse(InDoubt, "whether %s was bought is being found out (call %s); send the same again", a.reference, bought.ID)
		e.ID, e.RetryAfter = bought.ID, s.retryAfter(bought.ID)
		return e
	}
	return nil
}

// unkept says that nothing was done, since it could not be written down.
func (s *Service) unkept(err error) *Refusal {
	s.log.Error("the journal of calls fails", "err", err)
	e := refuse(NotKept, "the journal of calls cannot be used now; nothing was done: send the same again")
	e.RetryAfter = s.cfg.PauseMax
	return e
}

// advance does what can be done about a call now, and leaves the call as it then stands.
// Whoever calls it has claimed it.
func (s *Service) advance(call *record, a *asked) {
	switch {
	case a.op.bought:
		s.buy(call, a)
	case a.op.waits:
		s.perform(call, a)
	default:
		s.estimate(call, a)
	}
}

// answerOf says how a call stands, to who asked for it.
func answerOf(call *record, retryAfter time.Duration) (*Answer, error) {
	out := &Answer{ID: call.ID, State: call.State, Deadline: call.Deadline}
	switch call.State {
	case Done:
		out.Body, out.Deadline = call.Answer, time.Time{}
		return out, nil
	case Queued:
		out.Body = call.Provisional
		return out, nil
	case Failed, Retry:
		if call.Attempts == 0 {
			call.ID = "" // nothing is kept of it
		}
		if call.Failure == nil {
			return nil, refuse(NotKept, "call %s failed and does not say why", call.ID)
		}
		if call.Failure.Class == noNumbers {
			e := refuse(NoNumbers, "%s", call.Failure.Message)
			e.ID = call.ID
			return nil, e
		}
		return nil, failed(call.ID, call.Failure)
	}
	e := refuse(InDoubt, "the call was made and its outcome is not known yet; it is being found out: ask for call %s, or send the same again", call.ID)
	e.ID, e.RetryAfter, e.Failure = call.ID, retryAfter, call.Failure
	return nil, e
}

// begin writes a call down before it is made. A call of which that fails was not made.
func (s *Service) begin(call *record, a *asked) bool {
	former := *call
	call.State, call.Attempts = Begun, call.Attempts+1
	s.cfg.Hook("call.begin")
	if err := s.store.save(call, a.op.bought); err != nil {
		*call = former
		call.Failure = unkeptFailure(err)
		if !call.State.open() {
			call.State = Retry
		}
		s.log.Error("a call cannot be written down and is not made", "call", call.ID, "err", err)
		return false
	}
	s.cfg.Hook("call.begun")
	return true
}

func unkeptFailure(err error) *sdk.Error {
	return failureOf(sdk.Errorf(sdk.Unavailable, "the journal of calls cannot be written, and nothing was done: %v", err))
}

// finish writes down how a call ended. What cannot be written is found out again: until then
// its outcome is as unknown as after a crash.
func (s *Service) finish(call *record, a *asked, state State, answer any, failure *sdk.Error) {
	former := *call
	var events []leaving
	call.Failure = failure
	call.Ended = s.cfg.Now().UTC()
	err := s.conclude(call, a, state, answer, &events)
	if err == nil {
		s.cfg.Hook("call.outcome")
		err = s.store.save(call, a.op.bought, events...)
	}
	if err != nil {
		s.log.Error("the outcome of a call cannot be written down; it is found out again", "call", call.ID, "err", err)
		*call = former
		call.Failure = failureOf(sdk.Errorf(sdk.UnknownOutcome, "the outcome could not be written down: %v", err))
		if call.State == Begun && a.op.bought {
			call.State = Unknown
		}
		s.watch(call)
		return
	}
	s.cfg.Hook("call.recorded")
	s.cfg.Metrics.ended(call)
	s.settled(call.ID)
	if len(events) > 0 {
		nudge(s.leave)
	}
}

// conclude fills in what a call ends with.
func (s *Service) conclude(call *record, a *asked, state State, answer any, events *[]leaving) (err error) {
	call.State = state
	if answer == nil {
		return nil
	}
	if call.Answer, err = json.Marshal(answer); err != nil {
		return fmt.Errorf("the answer: %w", err)
	}
	if call.Provisional != nil {
		if err := s.compare(call, answer); err != nil {
			return err
		}
	}
	*events, err = s.eventsOf(call, a, answer)
	return err
}

// classOf is the class of an error, and what follows from it.
func classOf(err error) sdk.Class {
	var e *sdk.Error
	if err != nil && errors.As(err, &e) {
		return e.Class
	}
	if err == nil {
		return ""
	}
	return sdk.Internal
}
