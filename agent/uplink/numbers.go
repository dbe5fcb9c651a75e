package uplink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/serial"
	"github.com/crossdock/crossdock/protocol/syncpb"
	"github.com/crossdock/crossdock/protocol/syncpb/syncpbconnect"
)

// NumberRequest asks for serials of a number range.
type NumberRequest struct {
	Range   string
	ID      [16]byte // the same until it is answered
	Have    uint64
	Want    uint64
	Highest uint64 // serial that this agent holds or ever held
}

// NumberMark is what this agent says of a number range.
type NumberMark struct {
	Range   string
	Highest uint64 // serial that it holds or ever held
	Used    uint64 // numbers that it has given
	Form    serial.Form
}

// ErrNumbersUnsure is for when it is not known any more whether this is the copy of the agent
// that counts: a new session finds out.
var ErrNumbersUnsure = errors.New("the leases of numbers may be a copy")

// Numbers keeps what was leased of number ranges.
type Numbers interface {
	// Marks tells of the ranges that were ever leased to this agent, not ok if that is not known.
	Marks() (marks []NumberMark, ok bool)
	// Agreed says that the control plane takes this copy of the agent for the one that counts.
	Agreed() error
	// Wanted lists what is to be asked for, or fails with ErrNumbersUnsure; Changed has a token
	// when that may have changed.
	Wanted() ([]NumberRequest, error)
	Changed() <-chan struct{}
	Leased(name string, request [16]byte, first, last uint64) error
	Refused(name, why string)
}

// numbersHeld is what a hello says of number ranges, nil for nothing.
func (u *Uplink) numbersHeld() *syncpb.Numbers {
	if u.cfg.Numbers == nil {
		return &syncpb.Numbers{} // it never held any
	}
	marks, ok := u.cfg.Numbers.Marks()
	if !ok {
		return nil
	}
	out := &syncpb.Numbers{}
	for _, m := range marks {
		out.Marks = append(out.Marks, &syncpb.NumberMark{Range: m.Range, Highest: m.Highest, Used: &m.Used,
			Form: &syncpb.NumberForm{Lead: m.Form.Lead, Digits: uint32(m.Form.Digits), Check: m.Form.Check, Trail: m.Form.Trail}})
	}
	return out
}

// lease asks for the numbers that this site needs. That none are given ends nothing.
func (u *Uplink) lease(ctx context.Context, client syncpbconnect.SyncClient, g *greeting) error {
	if u.cfg.Numbers == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	for {
		open, err := u.leaseAll(ctx, client, g)
		if err != nil {
			return err
		}
		retry := time.NewTimer(u.cfg.LeaseRetry)
		if !open {
			retry.Stop() // and nothing comes of it
		}
		select {
		case <-ctx.Done():
			retry.Stop()
			return ctx.Err()
		case <-u.cfg.Numbers.Changed():
			retry.Stop()
		case <-retry.C:
		}
	}
}

// leaseAll asks once for each range, and says whether something remains open.
func (u *Uplink) leaseAll(ctx context.Context, client syncpbconnect.SyncClient, g *greeting) (open bool, err error) {
	wanted, err := u.cfg.Numbers.Wanted()
	if errors.Is(err, ErrNumbersUnsure) {
		if u.sure { // it was when this session began
			return false, fmt.Errorf("lease numbers: %w", err)
		}
		return false, nil // which could not be noted: not worth a session that carries events
	}
	if err != nil {
		u.log.Warn("numbers cannot be asked for; trying again", "err", err)
		return true, nil
	}
	for _, w := range wanted {
		answer, err := u.callLease(ctx, client, g, w)
		if err == nil {
			err = u.cfg.Numbers.Leased(w.Range, w.ID, answer.First, answer.Last)
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return false, ctx.Err()
		case connect.CodeOf(err) == connect.CodePermissionDenied, connect.CodeOf(err) == connect.CodeAborted:
			return false, fmt.Errorf("lease numbers: %w", err) // this session, or this copy of the agent, counts no more
		default:
			open = true
			u.cfg.Numbers.Refused(w.Range, whyNoNumbers(err))
		}
	}
	return open, nil
}

func whyNoNumbers(err error) string {
	if connect.CodeOf(err) == connect.CodeUnimplemented {
		return "the control plane's node is of a version without number ranges"
	}
	if coded := new(connect.Error); errors.As(err, &coded) {
		return coded.Message()
	}
	return err.Error()
}

func (u *Uplink) callLease(ctx context.Context, client syncpbconnect.SyncClient, g *greeting, w NumberRequest) (*syncpb.LeaseNumbersResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, u.cfg.CallTimeout)
	defer cancel()
	answer, err := client.LeaseNumbers(ctx, marked(g, &syncpb.LeaseNumbersRequest{
		Epoch: u.cfg.Epoch(), Range: w.Range, Request: w.ID[:], Have: w.Have, Want: w.Want, Highest: w.Highest}))
	if err != nil {
		return nil, err
	}
	return answer.Msg, nil
}
