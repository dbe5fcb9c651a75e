package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/calls"
	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/agent/ops"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// callsFile is the journal of calls to carriers and tax engines, in the data directory.
const callsFile = "calls.db"

func (a *Agent) openCalls() (err error) {
	config := calls.DefaultConfig()
	config.Path, config.Site, config.Epoch = filepath.Join(a.cfg.Data, callsFile), a.identity.Site, a.identity.Epoch()
	config.Plugins, config.MayCall, config.Policy = a.plugins, a.mayCall, siteTax{a.revision.Set, a.identity.Site}
	config.Numbers, config.Documents, config.Events = shipmentNumbers{a.numbers}, papers{a.documents}, ownEvents{a}
	config.Alarm, config.Check, config.Now = a.alarms.raise, queue.CheckPages, time.Now
	config.Logger, config.Metrics, config.Hook = a.log, calls.NewMetrics(a.registry), a.cfg.Hook
	config.Deadline, config.Retain, config.RetainBytes = a.cfg.Calls.Deadline, a.cfg.Calls.Retain, int64(a.cfg.Calls.Quota)
	a.calls, err = calls.Open(config)
	return err
}

// mayCall asks the policy in force.
func (a *Agent) mayCall(system, plugin string) bool {
	set := a.revision.Set()
	if set == nil {
		return false
	}
	s, p := set.Systems[system], set.Plugins[plugin]
	return s != nil && p != nil && p.MayCall(s)
}

// siteTax names the tax engines that policy gives to this site.
type siteTax struct {
	set  func() *policy.Set
	site string
}

var _ calls.Policy = siteTax{}

func (t siteTax) TaxOrder() []string {
	if set := t.set(); set != nil && set.Sites[t.site] != nil {
		return set.Sites[t.site].Tax
	}
	return nil
}

// papers keeps what carriers print among the site's documents.
type papers struct{ store *documents.Store }

var _ calls.Documents = papers{}

func (p papers) Put(ctx context.Context, mediaType string, data []byte) error {
	_, err := p.store.Put(ctx, mediaType, bytes.NewReader(data))
	return err
}

// As many papers go with an event as an event may name.
const _ = uint(documents.MaxNamed - calls.MaxPapers)

// shipmentNumbers gives calls the numbers of this site's ranges.
type shipmentNumbers struct{ store *numbers.Store }

var _ calls.Numbers = shipmentNumbers{}

// Take takes under a reference that no system of the site can have: the name of none has a
// colon.
func (n shipmentNumbers) Take(name, reference string, count int) ([]string, error) {
	given, err := n.store.Take(name, "plugin:"+reference, count)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", calls.ErrNoNumbers, err)
	}
	out := make([]string, len(given))
	for i, g := range given {
		out[i] = g.Text
	}
	return out, nil
}

// ownEvents takes events of calls in at the door, like those of any system.
type ownEvents struct{ agent *Agent }

var _ calls.Events = ownEvents{}

func (o ownEvents) Publish(ctx context.Context, e *event.Event, papers []string) error {
	err := o.publish(ctx, e, papers)
	if errors.Is(err, intake.ErrNoDocument) { // damaged meanwhile, say; what was bought is told without it
		o.agent.log.Error("a paper of a call is not here any more; its event leaves without it", "event", e.ID, "err", err)
		err = o.publish(ctx, e, slices.DeleteFunc(slices.Clone(papers), func(sum string) bool { return !o.agent.documents.Has(sum) }))
	}
	var final interface{ Permanent() bool }
	switch {
	case errors.Is(err, intake.ErrNoContract):
		return calls.ErrNoContract
	case errors.As(err, &final) && final.Permanent():
		return fmt.Errorf("%w: %w", calls.ErrRefused, err)
	}
	return err
}

func (o ownEvents) publish(ctx context.Context, e *event.Event, papers []string) error {
	e.Extensions = nil
	if len(papers) > 0 {
		e.Extensions = map[string]string{documents.Attribute: strings.Join(papers, ",")}
	}
	return o.agent.intake.Publish(ctx, e)
}

// caller lets systems of the site make calls.
type caller struct{ service *calls.Service }

var _ intake.Calls = caller{}

func (c caller) Do(ctx context.Context, call intake.Call) (*intake.CallAnswer, error) {
	answer, err := c.service.Do(ctx, calls.Request(call))
	if err != nil {
		return nil, callError(err)
	}
	return &intake.CallAnswer{ID: answer.ID, State: string(answer.State), Deadline: answer.Deadline, Body: answer.Body}, nil
}

func (c caller) Call(system, id string) (any, error) {
	call, err := c.service.Call(system, id)
	return call, callError(err)
}

func (c caller) Calls(system, state string, limit int, cursor string) (any, string, error) {
	list, next, err := c.service.Calls(system, calls.State(state), calls.Page{Limit: limit, Cursor: cursor})
	return list, next, callError(err)
}

// Who calls has an answer while the door still writes one, though its request took a while to come.
const _ = uint64(intake.DefaultWriteTimeout - 10*time.Second - calls.DefaultAnswerWithin)

// callCodes are the answers to refusals, callClasses those to failures of the plugin.
var (
	callCodes = map[calls.Code]intake.Code{
		calls.NoSuch: intake.CodeNotFound, calls.NotAllowed: intake.CodeNotCaller, calls.Invalid: intake.CodeInvalidRequest, calls.NoKey: intake.CodeNoKey,
		calls.OtherBody: intake.CodeOtherBody, calls.OtherUse: intake.CodeOtherUse, calls.InDoubt: intake.CodeInDoubt,
		calls.NoNumbers: intake.CodeNoNumbers, calls.Busy: intake.CodeCallsBusy, calls.NotKept: intake.CodeCallsBusy,
	}
	callClasses = map[sdk.Class]intake.Code{
		sdk.Validation: intake.CodeCallRefused, sdk.NotServiced: intake.CodeCallRefused, sdk.NotSupported: intake.CodeCallRefused,
		sdk.Expired: intake.CodeCallRefused, sdk.Duplicate: intake.CodeCallConflict, sdk.Conflict: intake.CodeCallConflict,
		sdk.NotFound: intake.CodeCallNotFound, sdk.Throttled: intake.CodeCallUnavailable, sdk.Unavailable: intake.CodeCallUnavailable,
	}
)

// callError is an error of calls as the door answers it.
func callError(err error) error {
	var r *calls.Refusal
	if !errors.As(err, &r) {
		return err
	}
	e := &intake.CallError{Code: callCodes[r.Code], Detail: r.Detail, Field: r.Field, RetryAfter: r.RetryAfter, ID: r.ID}
	if r.Failure != nil {
		e.Failure = r.Failure
	}
	if r.Code == calls.CallFailed {
		if e.Code = callClasses[r.Failure.Class]; e.Code == "" {
			e.Code = intake.CodeCallFailed
		}
	}
	return e
}

// listCalls lists calls for operators.
func (a *Agent) listCalls(state string) (any, error) {
	out := []calls.View{}
	for page := (calls.Page{Limit: calls.MaxList}); ; {
		list, next, err := a.calls.Calls("", calls.State(state), page)
		var r *calls.Refusal
		if errors.As(err, &r) && r.Code == calls.Invalid {
			return nil, fmt.Errorf("%w: %s", ops.ErrConflict, r.Detail)
		} else if err != nil {
			return nil, err
		}
		out = append(out, list...)
		if next == "" || len(out) == calls.MaxList {
			return out, nil
		}
		page = calls.Page{Limit: calls.MaxList - len(out), Cursor: next}
	}
}
