package calls

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// perform makes a call that is idempotent under its reference, or has it wait for the line. A
// call whose outcome is unknown is made again.
func (s *Service) perform(call *record, a *asked) {
	if call.State == Begun { // by a process that died: it goes behind what waits
		s.park(call, a, call.Failure)
		return
	}
	if s.store.queues(call.Plugin) { // in order
		s.park(call, a, nil)
		return
	}
	var failure *sdk.Error
	began := s.cfg.Now()
	for round := 0; round < maxRounds && s.cfg.Now().Sub(began) <= s.cfg.Patience; round++ {
		if !s.begin(call, a) {
			return
		}
		answer, err := s.ask(call.Kind, call.Plugin, a.op, a.what)
		s.cfg.Hook("call.made")
		class := classOf(err)
		switch {
		case err == nil:
			s.finish(call, a, Done, answer, nil)
			return
		case class == sdk.Unavailable:
			s.park(call, a, failureOf(err))
			return
		case class == sdk.UnknownOutcome:
			failure = failureOf(err)
			continue
		case passing(class) || doubtful(class):
			s.finish(call, a, Retry, nil, failureOf(err))
			return
		default:
			s.finish(call, a, Failed, nil, failureOf(err))
			return
		}
	}
	s.park(call, a, failure)
}

// park has a call wait, behind what waits for the same plugin. Another tax engine answers for
// now, if there is one.
func (s *Service) park(call *record, a *asked, failure *sdk.Error) {
	former := *call
	var events []leaving
	call.State, call.Failure, call.Waited = Queued, failure, true
	if call.Deadline.IsZero() {
		call.Deadline = call.Asked.Add(time.Duration(s.deadline.Load()))
	}
	if a.op.stands && call.Kind == tax.Kind && call.Provisional == nil {
		s.provide(call, a, &events)
	}
	s.cfg.Hook("call.park")
	if err := s.store.save(call, a.op.bought, events...); err != nil {
		*call = former
		call.Failure = unkeptFailure(err)
		if !call.State.open() {
			call.State = Retry
		}
		s.log.Error("a call that has to wait cannot be written down", "call", call.ID, "err", err)
		return
	}
	s.cfg.Hook("call.parked")
	s.watch(call)
	if len(events) > 0 {
		nudge(s.leave)
	}
}

// provide has the next engine that answers stand in.
func (s *Service) provide(call *record, a *asked, events *[]leaving) {
	order := s.taxOrder()
	at := slices.Index(order, call.Plugin)
	answer, engine, err := s.standIn(order, taxes[tax.OpEstimate], a.what, at+1)
	if err != nil {
		s.log.Warn("no other tax engine stands in", "call", call.ID, "err", err)
		return
	}
	result := answer.(*tax.Result)
	result.Provisional, result.Final = true, time.Time{}
	body, err := json.Marshal(result)
	if err != nil {
		s.log.Error("a provisional result cannot be written", "call", call.ID, "err", err)
		return
	}
	call.Provisional, call.Engine = body, engine
	*events = append(*events, provisionalEvent(call, result, s.cfg.Now().UTC()))
}

// standIn asks the engines in their order, from one on, until one can be reached. What any but
// the first answers is provisional.
func (s *Service) standIn(order []string, op *operation, what any, from int) (answer any, engine string, err error) {
	if !op.stands {
		order = order[:min(1, len(order))]
	}
	err = sdk.Errorf(sdk.Unavailable, "no other tax engine is named in the policy")
	for i := from; i < len(order); i++ {
		if answer, err = s.ask(tax.Kind, order[i], op, what); err == nil {
			if result, is := answer.(*tax.Result); is && i > 0 {
				result.Provisional = true
			}
			return answer, order[i], nil
		}
		if class := classOf(err); !passing(class) && !doubtful(class) {
			return nil, order[i], err
		}
	}
	return nil, "", err
}

// estimate calculates, and keeps the answer for who asks again with the same key.
func (s *Service) estimate(call *record, a *asked) {
	answer, engine, err := s.standIn(s.taxOrder(), a.op, a.what, 0)
	if err != nil {
		call.State, call.Failure = Retry, failureOf(err) // it leaves nothing behind: nothing is kept
		return
	}
	call.Plugin, call.Attempts = engine, 1
	s.finish(call, a, Done, answer, nil)
	if call.State != Done { // it was not written, which does not make it wrong
		if body, err := json.Marshal(answer); err == nil {
			call.State, call.Answer, call.Failure = Done, body, nil
		}
	}
}

// Difference is by how much what was finalised differs from what was provisional.
type Difference struct {
	Tax   decimal.NullDecimal `json:"tax"` // null: one of the two was not calculated
	Gross decimal.NullDecimal `json:"gross"`
	Lines []LineDifference    `json:"lines"`
}

// LineDifference is that of one line; null as above, or one of the two results lacks the line.
type LineDifference struct {
	ID  string              `json:"id"`
	Tax decimal.NullDecimal `json:"tax"`
}

// compare records how the final result differs from the provisional one.
func (s *Service) compare(call *record, answer any) error {
	final, is := answer.(*tax.Result)
	if !is {
		return nil
	}
	var provisional tax.Result
	if err := json.Unmarshal(call.Provisional, &provisional); err != nil {
		return err
	}
	call.Difference = differ(&provisional, final)
	return nil
}

func differ(provisional, final *tax.Result) *Difference {
	d := &Difference{Tax: minus(final.Tax, provisional.Tax), Gross: minus(final.Gross, provisional.Gross), Lines: []LineDifference{}}
	before := map[string]decimal.NullDecimal{}
	for _, l := range provisional.Lines {
		before[l.ID] = l.Tax
	}
	for _, l := range final.Lines {
		d.Lines = append(d.Lines, LineDifference{l.ID, minus(l.Tax, before[l.ID])})
		delete(before, l.ID)
	}
	for _, l := range provisional.Lines {
		if _, only := before[l.ID]; only {
			d.Lines = append(d.Lines, LineDifference{ID: l.ID})
		}
	}
	return d
}

func minus(a, b decimal.NullDecimal) (d decimal.NullDecimal) {
	if a.Valid && b.Valid {
		d = decimal.NewNullDecimal(a.Decimal.Sub(b.Decimal))
	}
	return d
}
