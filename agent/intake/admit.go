package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// maxKey bounds an ordering key.
const maxKey = 1024

// tries bounds how often a check that ran out of time is made: that time is of the wall,
// and a machine that stood still for a moment must not refuse a good event for good.
const tries = 3

// admission is one event that passed, with the contract version that it satisfied.
type admission struct {
	Admitted
	contract *policy.Contract
	version  *contract.Version
	lacks    *Problem // the document that it names is not here; nil: all that it names are
}

// admitAll checks every event before any is submitted: one bad event refuses them all.
func (s *Service) admitAll(ctx context.Context, v *view, c *caller, events []event.Parsed, batch bool) ([]admission, *Problem) {
	out := make([]admission, 0, len(events))
	first := make(map[[16]byte]int, len(events))
	for i, e := range events {
		a, p := v.admit(ctx, c.system, e)
		if p == nil {
			p = s.namesDocuments(&a)
		}
		if p == nil && batch {
			hash := e.Hash()
			if j, seen := first[hash]; !seen {
				first[hash] = i
			} else if !bytes.Equal(out[j].Data, a.Data) {
				p = problem(CodeConflict, "the event has the source and id of event %d of this batch, and other content", j).
					at("/id", "unique", "stands twice with different content")
			}
		}
		if p != nil {
			if batch {
				p = p.within(i)
			}
			return nil, p
		}
		out = append(out, a)
	}
	return out, nil
}

// admit checks one event against the policy and decides where it goes. The data is
// decoded once, and that form serves contract, key and routing.
func (v *view) admit(ctx context.Context, from *policy.System, e event.Parsed) (admission, *Problem) {
	began := time.Now()
	c, version, err := v.set.Resolve(e.Type, e.DataSchema)
	if err != nil {
		return admission{}, unresolved(e.Event, err)
	}
	if p := mayPublish(from, c); p != nil {
		return admission{}, p
	}
	if len(e.Data) == 0 {
		return admission{}, problem(CodeInvalidData, "the event has no data").at("/data", "required", "is missing")
	}
	decoded, violations, err := check(version, e)
	if err != nil {
		p := refusal(err).at("/data", "json", err.Error())
		if p.Code == CodeInvalidEvent {
			p.locate(e.Data, "data")
		}
		return admission{}, p
	}
	for n := 1; n < tries && unchecked(violations); n++ {
		violations = version.ValidateDecoded(decoded)
	}
	switch {
	case unchecked(violations):
		return admission{}, outOfTime("checking the data")
	case len(violations) > 0:
		return admission{}, violated(version, violations)
	}
	key, err := c.Key.String(ctx, decoded)
	for n := 1; n < tries && errors.Is(err, expr.ErrLimit); n++ {
		key, err = c.Key.String(ctx, decoded)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return admission{}, problem(CodeUnavailable, "the request ended early").because(ctx.Err())
	case errors.Is(err, expr.ErrLimit):
		return admission{}, outOfTime("computing the ordering key").because(err)
	case err != nil:
		return admission{}, noKey(c, err.Error())
	case key == "":
		return admission{}, noKey(c, "is empty")
	case len(key) > maxKey:
		return admission{}, noKey(c, fmt.Sprintf("has %d bytes, the limit is %d", len(key), maxKey))
	}
	encoded, err := e.MarshalDecoded()
	if err != nil {
		return admission{}, refusal(err)
	}
	return admission{contract: c, version: version, Admitted: Admitted{
		Event: e.Event, Key: key, System: from.Name, Contract: c.Name, Revision: v.set.Revision,
		Targets: v.router.Decide(ctx, e.Event, decoded, from), Data: encoded, Began: began,
	}}, nil
}

// check holds the data against the contract, and decodes it if nobody has done so.
func check(version *contract.Version, e event.Parsed) (decoded any, violations []contract.Violation, err error) {
	if e.Decoded {
		return e.Value, version.ValidateDecoded(e.Value), nil
	}
	return version.Validate(e.Data)
}

// unchecked says that a pattern ran out of time, which is reported of the data as a whole.
func unchecked(violations []contract.Violation) bool {
	return len(violations) == 1 && violations[0].Path == "" && violations[0].Rule == "pattern"
}

// outOfTime is no verdict on the event, so the sender may try again.
func outOfTime(what string) *Problem {
	return problem(CodeUnavailable, "%s took too long; send the same again", what)
}

func unresolved(e *event.Event, err error) *Problem {
	pointer := "/type"
	if e.DataSchema != "" {
		pointer = "/dataschema"
	}
	code, rule := CodeUnknownContract, "known"
	if errors.Is(err, policy.ErrRetired) {
		code, rule = CodeRetired, "live"
	}
	return problem(code, "%v", err).at(pointer, rule, err.Error()).because(err)
}

// mayPublish checks both halves of governance: the system's document lists the contract,
// and the contract names the system, or its role, as the source of truth.
func mayPublish(from *policy.System, c *policy.Contract) *Problem {
	if !from.MayPublish(c.Name) {
		return problem(CodeNotPublisher, "system %s does not list contract %s under publishes", from.Name, c.Name).
			at("/type", "publishes", "not listed for this system")
	}
	if !c.From(from) {
		return problem(CodeNotPublisher, "the authority for contract %s is %s, and system %s has role %q", c.Name, c.Authority, from.Name, from.Role).
			at("/type", "authority", "another system is the source of truth")
	}
	return nil
}

func violated(v *contract.Version, violations []contract.Violation) *Problem {
	p := problem(CodeInvalidData, "%d violations of %s", len(violations), v.URI())
	if len(violations) == 1 {
		p.Detail = "1 violation of " + v.URI()
	}
	for i, one := range violations {
		if i == MaxErrors {
			break
		}
		p = p.at("/data"+one.Path, one.Rule, one.Message)
	}
	return p
}

func noKey(c *policy.Contract, why string) *Problem {
	return problem(CodeInvalidData, "the ordering key of contract %s, %s, cannot be had", c.Name, c.Key.Source()).
		at("/data", "key", "key: "+why)
}

// submit makes the events durable. Where the journal refuses some of a batch as
// conflicts, it has the others: the sender learns which and may send the rest again,
// which then are repeats.
func (s *Service) submit(ctx context.Context, events []admission, batch bool) ([]Receipt, *Problem) {
	if len(events) == 0 {
		return nil, nil
	}
	if p := s.repeats(ctx, events, batch); p != nil {
		return nil, p
	}
	in := make([]Admitted, len(events))
	for i := range events {
		in[i] = events[i].Admitted
	}
	receipts, err := s.parts.Journal.Submit(ctx, in)
	switch {
	case errors.Is(err, ErrFull):
		p := problem(CodeQueueFull, "nothing was taken%s; send again when the agent's disk has space", fullness(err)).because(err)
		p.retryAfter = 30
		return nil, p
	case err != nil:
		return nil, problem(CodeUnavailable, "send the same again: a repeat does no harm").because(err)
	case len(receipts) != len(in):
		return nil, problem(CodeInternal, "the journal answered %d of %d events", len(receipts), len(in))
	}
	var refused *Problem
	counter := counter{metrics: s.parts.Metrics}
	for i, r := range receipts {
		if r.Err == nil {
			counter.count(&events[i], r)
			continue
		}
		p := receiptProblem(r.Err, len(receipts) > 1)
		if batch {
			p = p.within(i)
		}
		if refused == nil {
			refused = p
		} else if len(refused.Errors) < MaxErrors {
			refused.Errors = append(refused.Errors, p.Errors...)
		}
	}
	return receipts, refused
}

// repeats refuses events that name what is not here any more, unless they were accepted
// before: then they are answered as they were. It leaves nothing behind.
func (s *Service) repeats(ctx context.Context, events []admission, batch bool) *Problem {
	var in []Admitted
	var at []int
	for i := range events {
		if events[i].lacks != nil {
			in, at = append(in, events[i].Admitted), append(at, i)
		}
	}
	if len(in) == 0 {
		return nil
	}
	receipts, err := s.parts.Journal.Submit(ctx, in)
	if errors.Is(err, ErrFull) {
		return nil // submit says so
	}
	if err != nil || len(receipts) != len(in) {
		return problem(CodeUnavailable, "send the same again: a repeat does no harm").because(err)
	}
	for i, r := range receipts {
		if r.Err == nil {
			continue
		}
		p := events[at[i]].lacks
		if !errors.Is(r.Err, ErrNew) {
			p = receiptProblem(r.Err, false)
		}
		if batch {
			p = p.within(at[i])
		}
		return p
	}
	return nil
}

// fullness says how full the journal is, if it said so.
func fullness(err error) string {
	var full *FullError
	if !errors.As(err, &full) {
		return ""
	}
	if full.Why != "" {
		return ": " + full.Why
	}
	return fmt.Sprintf(": %.0f %% of the journal's quota is used, and it refuses events from %.0f %% on", full.Level*100, full.Limit*100)
}

func receiptProblem(err error, others bool) *Problem {
	switch {
	case errors.Is(err, ErrConflict):
		detail := "use a new id for a new event"
		if others {
			detail += "; the other events of the same request that are not listed here were taken"
		}
		return problem(CodeConflict, "%s", detail).
			because(err).at("/id", "unique", ErrConflict.Error())
	case errors.Is(err, ErrFull):
		return problem(CodeQueueFull, "send again when the agent's disk has space").because(err)
	}
	return problem(CodeUnavailable, "send the same again: a repeat does no harm").because(err)
}

// counter counts the events of one request, most of which are of one contract.
type counter struct {
	metrics  *Metrics
	version  *contract.Version
	accepted prometheus.Counter // of version
}

func (c *counter) count(a *admission, r Receipt) {
	if c.version != a.version {
		c.version, c.accepted = a.version, c.metrics.accepted.WithLabelValues(a.System, a.version.URI())
	}
	c.accepted.Inc()
	if r.Repeat {
		c.metrics.repeats.WithLabelValues(a.System).Inc()
	}
}

// Accept takes events from a driver of one of this site's systems. All are checked
// before any is submitted; then they go to the journal in parts of at most MaxBatchEvents
// and MaxBatchBytes, and nil says that all are durable. Beyond the system's rate it waits.
//
// An error has a method Permanent() bool: true says that the same events would be refused
// again. After an error some of the events may be durable; a repeat does no harm.
func (s *Service) Accept(ctx context.Context, system string, events []*event.Event) error {
	started := s.parts.Now()
	if p := s.accept(ctx, system, events); p != nil {
		s.parts.Metrics.refused.WithLabelValues(string(p.Code)).Inc()
		return p
	}
	s.parts.Metrics.seconds.WithLabelValues("driver").Observe(s.parts.Now().Sub(started).Seconds())
	return nil
}

func (s *Service) accept(ctx context.Context, system string, events []*event.Event) *Problem {
	v, p := s.current()
	if p != nil {
		return p
	}
	c := v.byName[system]
	if c == nil {
		return problem(CodeNotPublisher, "system %s is not attached at site %s", system, s.cfg.Site)
	}
	for i, e := range events {
		if p := normalise(e); p != nil {
			return p.within(i)
		}
	}
	admitted, p := s.admitAll(ctx, v, c, undecoded(events), true)
	if p != nil {
		return p
	}
	for done := 0; done < len(admitted); {
		n := partOf(admitted[done:], min(MaxBatchEvents, c.limiter.Burst()))
		if err := c.limiter.WaitN(ctx, n); err != nil {
			return problem(CodeRateLimited, "gave up waiting for the rate limit of system %s", system).because(err)
		}
		if _, p := s.submit(ctx, admitted[done:done+n], true); p != nil {
			if p.event > 0 {
				p.event += done
			}
			return p
		}
		done += n
	}
	return nil
}

// partOf says how many of the first events go to the journal at once: what a request may
// hold, since a journal that cannot take more in one commit would refuse it for ever.
func partOf(events []admission, most int) int {
	n, size := 0, 0
	for ; n < len(events) && n < most; n++ {
		if size += len(events[n].Data); n > 0 && size > MaxBatchBytes {
			break
		}
	}
	return n
}

// lapse is what an answer says about deprecated versions that the events used.
type lapse struct {
	sunset  time.Time // the earliest
	version *contract.Version
	newest  *contract.Version // that takes its place, if any
}

// lapseOf finds the deprecated version that goes first.
func lapseOf(events []admission) *lapse {
	var out *lapse
	for i := range events {
		v := events[i].version
		if v.State != contract.Deprecated {
			continue
		}
		if out != nil && (v.Sunset.IsZero() || !out.sunset.IsZero() && !v.Sunset.Before(out.sunset)) {
			continue
		}
		out = &lapse{sunset: v.Sunset, version: v}
		for _, o := range events[i].contract.Versions {
			if o.State == contract.Active { // ascending: the last is the newest
				out.newest = o
			}
		}
	}
	return out
}
