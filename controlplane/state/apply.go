package state

import (
	"crypto/sha256"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

func applyAll(b *bolt.Tx, entries []Entry) (Outcome, error) {
	v := view{b}
	at := v.applied()
	t := &tx{view: v, n: v.counters(), topics: map[string]struct{}{}, hash: sha256.New()}
	before := t.n
	out := Outcome{Results: make([][]Result, len(entries)), Index: at.Index}
	moved := false
	for i, e := range entries {
		if e.Index <= at.Index {
			continue
		}
		results, err := t.entry(e)
		if err != nil {
			return Outcome{}, fmt.Errorf("entry %d: %w", e.Index, err)
		}
		out.Results[i] = results
		at = appliedRow{Index: e.Index, Term: e.Term, Hash: chain(at.Hash, e, t.hash.Sum(nil))}
		if t.beacons {
			out.Beacon, out.Hash = e.Index, at.Hash
			t.beaconHash(e.Index, at.Hash)
		}
		moved = true
	}
	if !moved {
		return out, nil
	}
	if t.n != before {
		put(t, tableMeta, keyCounters, &t.n)
	}
	put(t, tableMeta, keyApplied, &at)
	for topic := range t.topics {
		out.Topics = append(out.Topics, topic)
	}
	slices.Sort(out.Topics)
	out.Index, out.Diverged = at.Index, t.diverged()
	return out, nil
}

func (t *tx) entry(e Entry) ([]Result, error) {
	t.hash.Reset()
	t.entryAt, t.beacons = e.Index, false
	if e.Empty {
		return nil, nil
	}
	texts, err := splitEntry(e.Data)
	if err != nil {
		return nil, err
	}
	before := t.n
	results := make([]Result, len(texts))
	for i, text := range texts {
		cmd, err := Decode(text)
		if err != nil {
			return nil, err
		}
		results[i] = t.command(cmd)
	}
	t.noteCounters(before)
	return results, nil
}

// command applies one command. A rule that refuses one has changed nothing but what it
// writes down about the refusal.
func (t *tx) command(cmd model.Command) Result {
	if c, ok := cmd.(*model.Bootstrap); ok {
		return result(nil, t.bootstrap(c))
	}
	if t.cluster() == nil {
		return result(nil, model.Errorf(model.Unavailable, "the cluster has not been bootstrapped"))
	}
	if why := t.whyHalted(); why != "" && !passesHalt(cmd) {
		return result(nil, model.Errorf(model.Unavailable, "%s", why))
	}
	switch c := cmd.(type) {
	case asked:
		return t.once(c)
	case *model.Push:
		return answer(t.push(c))
	case *model.Ack:
		return result(nil, t.ack(c))
	case *model.Greet:
		return answer(t.greet(c))
	case *model.Enroll:
		return answer(t.enroll(c))
	case *model.Renew:
		return answer(t.renew(c))
	case *model.NewEpoch:
		return answer(t.newEpoch(c))
	case *model.Behind:
		return answer(t.behind(c))
	case *model.LoseMail:
		return result(nil, t.loseMail(c))
	case *model.LeaseNumbers:
		return answer(t.leaseNumbers(c))
	case *model.Readmit:
		return result(nil, t.readmit(c))
	case *model.PutNode:
		return result(nil, t.putNode(c))
	case *model.ForgetNode:
		return result(nil, t.forgetNode(c))
	case *model.AdmitNode:
		return result(nil, t.admitNode(c))
	case *model.Beacon:
		return result(nil, t.beacon(c))
	case *model.BeaconReport:
		return result(nil, t.beaconReport(c))
	case *model.Rebuild:
		return result(nil, t.rebuild(c))
	case *model.RescueAdmin:
		return result(nil, t.rescueAdmin(c))
	case *model.RaiseGeneration:
		return result(nil, t.raiseGeneration(c))
	}
	panic(fault{fmt.Errorf("no rule for %T", cmd)})
}

// asked is a command of a person or program.
type asked interface {
	model.Command
	Request() *model.Asked
}

func (t *tx) apply(cmd asked) Result {
	switch c := cmd.(type) {
	case *model.PutPrincipal:
		return result(nil, t.putPrincipal(c))
	case *model.CreateJoinToken:
		return result(nil, t.createJoinToken(c))
	case *model.Revoke:
		return result(nil, t.revoke(c))
	case *model.AllowAgent:
		return result(nil, t.allowAgent(c))
	case *model.ForgetAgent:
		return result(nil, t.forgetAgent(c))
	case *model.Propose:
		return answer(t.propose(c))
	case *model.Approve:
		return answer(t.approve(c))
	case *model.Promote:
		return answer(t.promote(c))
	case *model.Withdraw:
		return answer(t.withdraw(c))
	case *model.Resolve:
		return result(nil, t.resolve(c))
	case *model.ResolveException:
		return result(nil, t.resolveException(c))
	case *model.ReleaseSystem:
		return result(nil, t.releaseSystem(c))
	case *model.ReleaseRange:
		return result(nil, t.releaseRange(c))
	case *model.AddRelease:
		return result(nil, t.addRelease(c))
	case *model.PutReleasePiece:
		return result(nil, t.putReleasePiece(c))
	case *model.SteerRelease:
		return result(nil, t.steerRelease(c))
	case *model.SetSecret:
		return result(nil, t.setSecret(c))
	case *model.DropSecret:
		return result(nil, t.dropSecret(c))
	case *model.RemoveNode:
		return result(nil, t.removeNode(c))
	case *model.AddAuthority:
		return answer(t.addAuthority(c))
	case *model.ActivateAuthority:
		return result(nil, t.activateAuthority(c))
	case *model.RemoveAuthority:
		return result(nil, t.removeAuthority(c))
	}
	panic(fault{fmt.Errorf("no rule for %T", cmd)})
}

func result(value any, err *model.Error) Result { return Result{Value: value, Err: err} }

// answer keeps a nil pointer from becoming a value that is not nil.
func answer[T any](value *T, err *model.Error) Result {
	if value == nil || err != nil {
		return Result{Err: err}
	}
	return Result{Value: value}
}
