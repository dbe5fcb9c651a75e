package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// principal is one person or program: it is made once, and may be disabled.
var principal = porcupine.Model{
	Init: func() any { return history.Absent },
	Step: func(state, _, output any) (bool, any) {
		o, now := output.(history.Operation), state.(string)
		switch o.Verb {
		case history.Create:
			return create(o.Outcome, now)
		case history.Disable:
			return disable(o.Outcome, now)
		case history.Read:
			return o.State == now, now
		}
		return false, now
	},
	DescribeOperation: describe,
}

func create(outcome history.Outcome, now string) (bool, any) {
	switch {
	case outcome == history.Refused:
		return now != history.Absent, now
	case now == history.Absent:
		return true, history.Enabled
	}
	return outcome == history.Unknown, now
}

func disable(outcome history.Outcome, now string) (bool, any) {
	switch {
	case outcome == history.Refused:
		return now == history.Absent, now
	case now != history.Absent:
		return true, history.Disabled
	}
	return outcome == history.Unknown, now
}

// inForce is what the policy's register holds.
type inForce struct {
	begun  bool
	active uint64
	newest uint64 // number that was given to a proposal
}

// policy is a register with compare and set: a proposal reads it, as its base, and takes a
// number higher than all before; an approval sets it to the proposal, if its base is still
// what stands there. A number is in force at most once, so nothing more has to be known of
// a proposal.
var policy = porcupine.Model{
	Init: func() any { return inForce{} },
	Step: func(state, _, output any) (bool, any) {
		o, now := output.(history.Operation), state.(inForce)
		if o.Verb == history.Begin {
			return !now.begun, inForce{true, o.Revision, o.Revision}
		}
		if !now.begun {
			return false, now
		}
		switch o.Verb {
		case history.Read:
			return o.Revision == now.active, now
		case history.Propose:
			if o.Outcome != history.Done {
				return true, now // which number it took, if any, nobody knows
			}
			fits := o.Base == now.active && o.Revision > now.newest
			now.newest = o.Revision
			return fits, now
		case history.Approve:
			return approve(o, now)
		}
		return false, now
	},
	DescribeOperation: describe,
}

func approve(o history.Operation, now inForce) (bool, any) {
	fits := o.Base == now.active
	if o.Outcome == history.Refused {
		return !fits, now
	}
	if fits {
		now.active = o.Revision
	}
	return fits || o.Outcome == history.Unknown, now
}

func describe(_, output any) string {
	o := output.(history.Operation)
	switch {
	case o.Object != history.Policy:
		return fmt.Sprintf("%s %s %s at %s", o.Verb, o.Outcome, o.State, o.Node)
	case o.Base != 0:
		return fmt.Sprintf("%s %d on %d %s at %s", o.Verb, o.Revision, o.Base, o.Outcome, o.Node)
	}
	return fmt.Sprintf("%s %d %s at %s", o.Verb, o.Revision, o.Outcome, o.Node)
}
