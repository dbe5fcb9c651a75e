package main

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

// good plays clerks against a register and a few principals that are truly one: each
// operation happens at one moment, and is noted from a little before to a little after.
func good(seed uint64) (out []history.Operation) {
	r := rand.New(rand.NewPCG(seed, 1))
	state, people := inForce{active: 3, newest: 3}, map[string]string{}
	out = append(out, history.Operation{Verb: history.Begin, Object: history.Policy, Outcome: history.Done, Revision: 3, Returned: 1})
	var proposals [][2]uint64 // number, base
	for i := range 150 {
		at := time.Duration(100 * (i + 1))
		o := history.Operation{Invoked: at - time.Duration(r.IntN(250)), Returned: at + time.Duration(r.IntN(250)), Outcome: history.Done}
		o.Invoked = max(o.Invoked, 2)
		lost, never := r.IntN(12) == 0, r.IntN(2) == 0
		if lost {
			o.Outcome = history.Unknown
		}
		if r.IntN(3) == 0 {
			o.Object = []string{"ann", "bob"}[r.IntN(2)]
			if !person(r, &o, people, lost, never) {
				continue
			}
			out = append(out, o)
			continue
		}
		o.Object = history.Policy
		switch r.IntN(3) {
		case 0:
			if lost {
				continue // a read without an answer says nothing
			}
			o.Verb, o.Revision = history.Read, state.active
		case 1:
			o.Verb = history.Propose
			state.newest++
			proposals = append(proposals, [2]uint64{state.newest, state.active})
			if !lost {
				o.Revision, o.Base = state.newest, state.active
			}
		default:
			if len(proposals) == 0 {
				continue
			}
			p := proposals[max(0, len(proposals)-1-r.IntN(2))]
			o.Verb, o.Revision, o.Base = history.Approve, p[0], p[1]
			switch fits := p[1] == state.active; {
			case fits && !(lost && never):
				state.active = p[0]
			case !fits && !lost:
				o.Outcome = history.Refused
			}
		}
		out = append(out, o)
	}
	end := history.Operation{Verb: history.Read, Object: history.Policy, Outcome: history.Done, Revision: state.active, Invoked: 20000, Returned: 20001}
	return append(out, end)
}

func person(r *rand.Rand, o *history.Operation, people map[string]string, lost, never bool) bool {
	now, there := people[o.Object]
	if !there {
		now = history.Absent
	}
	switch r.IntN(4) {
	case 0:
		o.Verb = history.Create
		if there && !lost {
			o.Outcome = history.Refused
		} else if !there && !(lost && never) {
			people[o.Object] = history.Enabled
		}
	case 1:
		o.Verb = history.Disable
		if !there && !lost {
			o.Outcome = history.Refused
		} else if there && !(lost && never) {
			people[o.Object] = history.Disabled
		}
	default:
		if lost {
			return false
		}
		o.Verb, o.State = history.Read, now
	}
	return true
}

func TestGoodHistoriesPass(t *testing.T) {
	for seed := range uint64(40) {
		if faults, err := check(good(seed), time.Minute, ""); err != nil || len(faults) > 0 {
			t.Fatalf("seed %d: %v %v", seed, faults, err)
		}
	}
}

// pick gives the index of a random operation that fits.
func pick(r *rand.Rand, list []history.Operation, fits func(history.Operation) bool) int {
	var at []int
	for i, o := range list {
		if fits(o) {
			at = append(at, i)
		}
	}
	return at[r.IntN(len(at))]
}

func is(v history.Verb, outcome history.Outcome) func(history.Operation) bool {
	return func(o history.Operation) bool {
		return o.Object == history.Policy && o.Verb == v && o.Outcome == outcome
	}
}

// known picks an approval that was done and that no operation of unknown outcome explains.
func known(r *rand.Rand, list []history.Operation) int {
	return pick(r, list, func(o history.Operation) bool {
		return is(history.Approve, history.Done)(o) && !slices.ContainsFunc(list, func(other history.Operation) bool {
			return other.Outcome == history.Unknown && other.Verb == history.Approve && other.Revision == o.Revision
		})
	})
}

// mutations make an operation one that cannot have been.
var mutations = []struct {
	name   string
	change func(r *rand.Rand, list []history.Operation) []history.Operation
}{
	{"a stale read", func(r *rand.Rand, list []history.Operation) []history.Operation {
		read := list[pick(r, list, is(history.Read, history.Done))]
		last := list[len(list)-1].Returned + 1000
		read.Invoked, read.Returned, read.Revision = last, last+1, 3 // what was in force at the beginning
		return append(list, read)
	}},
	{"a read of what was never approved", func(r *rand.Rand, list []history.Operation) []history.Operation {
		list[pick(r, list, is(history.Read, history.Done))].Revision = 999
		return list
	}},
	{"an approval from a base that had gone", func(r *rand.Rand, list []history.Operation) []history.Operation {
		list[pick(r, list, is(history.Approve, history.Refused))].Outcome = history.Done
		return list
	}},
	{"an approval refused without need", func(r *rand.Rand, list []history.Operation) []history.Operation {
		list[known(r, list)].Outcome = history.Refused
		return list
	}},
	{"an approval that was answered and is gone", func(r *rand.Rand, list []history.Operation) []history.Operation {
		at := known(r, list)
		return slices.Delete(list, at, at+1)
	}},
	{"a number given twice", func(r *rand.Rand, list []history.Operation) []history.Operation {
		at := pick(r, list, is(history.Propose, history.Done))
		list[at].Revision = 3
		return list
	}},
	{"a proposal from a base of later", func(r *rand.Rand, list []history.Operation) []history.Operation {
		list[pick(r, list, is(history.Propose, history.Done))].Base = 999
		return list
	}},
	{"a principal made twice", func(r *rand.Rand, list []history.Operation) []history.Operation {
		made := list[pick(r, list, func(o history.Operation) bool { return o.Verb == history.Create && o.Outcome == history.Done })]
		made.Invoked, made.Returned = list[len(list)-1].Returned+1000, list[len(list)-1].Returned+1001
		return append(list, made)
	}},
	{"a principal that is gone again", func(r *rand.Rand, list []history.Operation) []history.Operation {
		made := list[pick(r, list, func(o history.Operation) bool { return o.Verb == history.Create && o.Outcome == history.Done })]
		made.Verb, made.State = history.Read, history.Absent
		made.Invoked, made.Returned = list[len(list)-1].Returned+1000, list[len(list)-1].Returned+1001
		return append(list, made)
	}},
}

func TestEachMutationIsFound(t *testing.T) {
	for _, m := range mutations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			for seed := range uint64(15) {
				faults, err := check(m.change(rand.New(rand.NewPCG(seed, 2)), good(seed)), time.Minute, "")
				if err != nil || len(faults) == 0 {
					t.Errorf("seed %d: found nothing, %v", seed, err)
				}
			}
		})
	}
}

// An operation of unknown outcome may have happened at any later time, or never.
func TestUnknownOutcomesMayBeBoth(t *testing.T) {
	begin := history.Operation{Verb: history.Begin, Object: history.Policy, Outcome: history.Done, Revision: 1, Returned: 1}
	lost := history.Operation{Verb: history.Approve, Object: history.Policy, Outcome: history.Unknown, Revision: 2, Base: 1, Invoked: 5, Returned: 6}
	read := func(at time.Duration, revision uint64) history.Operation {
		return history.Operation{Verb: history.Read, Object: history.Policy, Outcome: history.Done, Revision: revision, Invoked: at, Returned: at + 1}
	}
	for _, c := range []struct {
		list []history.Operation
		good bool
	}{
		{[]history.Operation{begin, lost, read(10, 1), read(20, 1)}, true},
		{[]history.Operation{begin, lost, read(10, 2), read(20, 2)}, true},
		{[]history.Operation{begin, lost, read(10, 1), read(20, 2)}, true},
		{[]history.Operation{begin, lost, read(10, 2), read(20, 1)}, false},
		{[]history.Operation{begin, lost, read(3, 2)}, false},
		{[]history.Operation{lost, read(10, 1)}, false},
	} {
		if faults, err := check(c.list, time.Minute, ""); err != nil || (len(faults) == 0) != c.good {
			t.Errorf("%+v: %v %v", c.list, faults, err)
		}
	}
}

func TestTheFileIsJudged(t *testing.T) {
	dir := t.TempDir()
	list := good(1)
	list[pick(rand.New(rand.NewPCG(1, 1)), list, is(history.Read, history.Done))].Revision = 999
	for _, c := range []struct {
		file string
		list []history.Operation
		want string // "": passes
		fail bool
	}{
		{"good", good(1), "", false},
		{"bad", list, `"Property":"linear"`, false},
		{"empty", nil, "", true},
	} {
		file := filepath.Join(dir, c.file)
		if err := history.SaveOperations(file, c.list); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		broken, err := run([]string{"-pictures", dir, file}, &out)
		if (err != nil) != c.fail || broken != (c.want != "") || !strings.Contains(out.String(), c.want) || !broken && out.String() != "" {
			t.Errorf("%s: %v %v %q", c.file, broken, err, out.String())
		}
	}
	if pages, err := filepath.Glob(filepath.Join(dir, "linear-*.html")); err != nil || len(pages) != 1 {
		t.Errorf("pages of breaches: %v %v", pages, err)
	}
}
