package calls

import (
	"context"
	"errors"
	"fmt"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// noNumbers is the class of a failure of our own: what is bought needs numbers that are not
// there.
const noNumbers sdk.Class = "no_numbers"

// buy buys something once. A call that was begun before may have bought it.
func (s *Service) buy(call *record, a *asked) {
	doubt := call.State.open()
	if !doubt {
		if !s.prepare(call, a) {
			return
		}
		// A journal that was lost, or is an older copy, knows nothing of what it does not hold.
		doubt = call.Doubt || s.store.doubts(s.cfg.Now()) && call.Buys
	}
	shipment := a.what.(*carrier.Shipment)
	shipment.Numbers = call.Numbers
	began := s.cfg.Now()
	for round := 0; ; round++ {
		if doubt && !s.lookedFor(call, a) {
			return
		}
		if round == maxRounds || round > 0 && s.cfg.Now().Sub(began) > s.cfg.Patience {
			s.doubtOn(call, call.Failure)
			return
		}
		if !s.begin(call, a) {
			return
		}
		answer, err := s.ask(call.Kind, call.Plugin, a.op, shipment)
		if shipped, is := answer.(*carrier.Shipped); err == nil && is {
			err = isOf(call, shipped)
		}
		s.cfg.Hook("call.made")
		class := classOf(err)
		switch {
		case err == nil:
			s.finish(call, a, Done, answer, nil)
			return
		case passing(class):
			s.finish(call, a, Retry, nil, failureOf(err))
			return
		case !doubtful(class):
			s.finish(call, a, Failed, nil, failureOf(err))
			return
		}
		call.Failure = failureOf(err)
		doubt = true
	}
}

// prepare finds out what a purchase needs. It leaves no mark that is not the reference's own,
// so that nothing has to be written down yet.
func (s *Service) prepare(call *record, a *asked) bool {
	at, err := s.plugin(call.Kind, call.Plugin)
	if err == nil {
		ctx, cancel := context.WithTimeout(s.life, s.cfg.Timeout)
		defer cancel()
		var d *carrier.Description
		if d, err = at.(carrier.Carrier).Describe(ctx); err == nil {
			return s.equip(call, a, d)
		}
	}
	call.State, call.Failure = Retry, failureOf(err) // surely nothing was bought, and nothing has to be kept
	return false
}

// equip takes the numbers that the carrier demands. The same shipment gets the same ones
// again, if the journal does not hold them already.
func (s *Service) equip(call *record, a *asked, d *carrier.Description) bool {
	call.Buys = true // unless it is said not to
	for _, o := range d.Operations {
		if o.Name == call.Operation {
			call.Buys = o.Buys
		}
	}
	if call.Numbers != nil {
		return true
	}
	shipment := a.what.(*carrier.Shipment)
	for _, r := range d.Ranges {
		count := 1
		if r.Per == "parcel" {
			count = len(shipment.Parcels)
		}
		if count == 0 {
			continue // the carrier says what it thinks of that
		}
		// One that failed may come again with other parcels, for which others are taken.
		numbers, err := s.take(r.Name, fmt.Sprintf("%s/%s/%d", call.Plugin, call.Reference, count), count)
		if err != nil {
			call.State = Retry
			call.Failure = &sdk.Error{Class: noNumbers, Fault: sdk.FaultCaller, Message: fmt.Sprintf("range %s: %v", r.Name, err)}
			return false
		}
		if call.Numbers == nil {
			call.Numbers = map[string][]string{}
		}
		call.Numbers[r.Name] = numbers
	}
	return true
}

func (s *Service) take(name, reference string, count int) ([]string, error) {
	if s.cfg.Numbers == nil {
		return nil, ErrNoNumbers
	}
	return s.cfg.Numbers.Take(name, reference, count)
}

// lookedFor looks for what may have been bought. It says true if that was surely not bought,
// and is to be bought now; else the call stands as it was left.
func (s *Service) lookedFor(call *record, a *asked) bool {
	s.cfg.Hook("call.look")
	shipped, err := s.search(call)
	s.cfg.Hook("call.looked")
	switch class := classOf(err); {
	case err == nil:
		s.finish(call, a, Done, shipped, nil)
		return false
	case errors.Is(err, errNotThere) && s.cfg.Now().Sub(call.Asked) > s.cfg.Rebuy:
		s.finish(call, a, Retry, nil, failureOf(sdk.Errorf(sdk.Unavailable,
			"it was found out later that nothing was bought; whoever asked for it may have gone another way since: send the same again to buy it")))
		return false
	case errors.Is(err, errNotThere):
		return true
	default:
		s.log.Info("what may have been bought cannot be looked for", "call", call.ID, "class", class, "err", err)
		s.doubtOn(call, failureOf(err))
		return false
	}
}

// errNotThere says that something was surely not bought.
var errNotThere = errors.New("surely not bought")

// search asks the carrier for what was bought under a reference.
func (s *Service) search(call *record) (*carrier.Shipped, error) {
	at, err := s.plugin(call.Kind, call.Plugin)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.life, s.cfg.Timeout)
	defer cancel()
	began := s.cfg.Now()
	shipped, err := at.(carrier.Carrier).GetByReference(ctx, call.Reference)
	s.cfg.Metrics.called(call.Plugin, carrier.OpGetByReference, err, s.cfg.Now().Sub(began))
	switch class := classOf(err); {
	case err != nil && (class == sdk.NotFound || class == sdk.NotSupported && !call.Buys):
		// One that costs nothing is made of the site's own numbers, and comes out the same.
		return nil, fmt.Errorf("%w: %w", errNotThere, err)
	case err != nil:
		return nil, err
	}
	return shipped, isOf(call, shipped)
}

// isOf says whether an answer is about what was asked for.
func isOf(call *record, shipped *carrier.Shipped) error {
	if shipped == nil || shipped.Reference != call.Reference {
		return sdk.Errorf(sdk.Internal, "the plugin was asked for %q and answered with something else", call.Reference)
	}
	return nil
}

// doubtOn leaves a call as one whose outcome is unknown. Should that not be written, it stands
// as begun, which says the same.
func (s *Service) doubtOn(call *record, failure *sdk.Error) {
	former := call.State
	call.State, call.Failure = Unknown, failure
	if former != Unknown {
		if err := s.store.save(call, true); err != nil {
			s.log.Error("that a call's outcome is unknown cannot be written down", "call", call.ID, "err", err)
		}
	}
	s.watch(call)
}
