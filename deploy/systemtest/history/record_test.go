package history

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// book writes a record as a control plane does, and what was asked of it.
type book struct {
	entries    []Entry
	operations []Operation
	revisions  []Revision
}

func (b *book) write(by, action, object string, detail map[string]any) {
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err) // such maps always marshal
	}
	b.entries = append(b.entries, Entry{At: time.Unix(int64(len(b.entries)), 5), By: by, Action: action, Object: object, Detail: text})
}

// seal numbers and chains the entries anew.
func seal(entries []Entry) []Entry {
	entries = slices.Clone(entries)
	previous := "sha256:" + strings.Repeat("0", 64)
	for i := range entries {
		e := &entries[i]
		e.Number, e.Previous = uint64(i)+1, previous
		e.Hash = e.hash()
		previous = e.Hash
	}
	return entries
}

// goodBook has three persons, revisions of which some are put in force, one by way of a
// canary, one taken back from there, and one that nobody approves.
func goodBook(seed uint64) book {
	r := rand.New(rand.NewPCG(seed, 3))
	var b book
	b.write("admin", "cluster.bootstrap", "x", map[string]any{"approvals": "dual", "admin": "admin", "roles": []string{"admin", "author"}})
	for _, p := range []struct {
		name  string
		roles []string
	}{{"ann", []string{"author", "approver"}}, {"bob", []string{"approver"}}} {
		b.write("admin", "principal.put", p.name, map[string]any{"roles": p.roles, "disabled": false})
		b.operations = append(b.operations, Operation{Verb: Create, Object: p.name, By: "admin", Outcome: Done})
	}
	active, number := uint64(0), uint64(0)
	name := func(n uint64) string {
		if n == 0 {
			return "0.0"
		}
		return fmt.Sprintf("1.%d", n)
	}
	propose := func(by string) Revision {
		number++
		digest := fmt.Sprintf("%064d", number)
		b.write(by, "policy.propose", name(number), map[string]any{"digest": digest, "base": name(active)})
		b.operations = append(b.operations, Operation{Verb: Propose, Object: Policy, By: by, Outcome: Done, Revision: number, Base: active})
		return Revision{Generation: 1, Number: number, Digest: "sha256:" + digest, State: "proposed", Author: by, Base: active}
	}
	approve := func(v *Revision, by, action string, more map[string]any) {
		more["digest"], more["author"], more["single"] = v.Digest[len("sha256:"):], v.Author, false
		b.write(by, action, name(v.Number), more)
		if action == "policy.approve" {
			b.operations = append(b.operations, Operation{Verb: Approve, Object: Policy, By: by, Outcome: Done, Revision: v.Number, Base: v.Base})
		}
		v.Approver = by
	}
	enforce := func(v *Revision) {
		for i := range b.revisions {
			if b.revisions[i].Number == active {
				b.revisions[i].State = "superseded"
			}
		}
		v.State, active = "active", v.Number
	}
	for i := range 8 {
		v := propose([]string{"ann", "admin"}[r.IntN(2)])
		switch {
		case i == 3:
			approve(&v, "bob", "policy.approve", map[string]any{"canary": []string{"eu"}})
			approve(&v, "bob", "policy.promote", map[string]any{"canary": []string{"eu"}})
			enforce(&v)
		case i == 5:
			approve(&v, "bob", "policy.approve", map[string]any{"canary": []string{"eu"}})
			number++
			b.write("ann", "policy.withdraw", name(v.Number), map[string]any{"again": name(number)})
			again := b.revisions[slices.IndexFunc(b.revisions, func(r Revision) bool { return r.Number == active })]
			again.Base, again.Number = active, number
			enforce(&again)
			b.revisions = append(b.revisions, again)
			v.State = "withdrawn"
		case i != 6:
			approve(&v, "bob", "policy.approve", map[string]any{})
			enforce(&v)
		}
		b.revisions = append(b.revisions, v)
	}
	b.operations = append(b.operations, Operation{Verb: Create, Object: "ann", By: "admin", Outcome: Refused},
		Operation{Verb: Create, Object: "lost", By: "admin", Outcome: Unknown}, Operation{Verb: Propose, Object: Policy, By: "ann", Outcome: Unknown})
	b.entries = seal(b.entries)
	return b
}

func (b *book) judge(heads []Head) []Fault {
	return slices.Concat(CheckRecord(b.entries, heads), CheckOnce(b.entries, b.operations), CheckDuties(b.entries, b.revisions))
}

func (b *book) heads() (out []Head) {
	for i, e := range b.entries {
		if i%3 == 0 {
			out = append(out, Head{"node-1", e.Number, e.Hash})
		}
	}
	return out
}

// entry is the index of one of an action, by chance.
func (b *book) entry(r *rand.Rand, action string) int {
	var at []int
	for i, e := range b.entries {
		if e.Action == action {
			at = append(at, i)
		}
	}
	return at[r.IntN(len(at))]
}

func (b *book) approval(r *rand.Rand) int { return b.entry(r, "policy.approve") }

// replaced changes a text in the detail of an entry, which has it.
func (e *Entry) replaced(old, by string) {
	text := strings.Replace(string(e.Detail), old, by, 1)
	if text == string(e.Detail) {
		panic(fmt.Sprintf("%s has no %s", text, old))
	}
	e.Detail = json.RawMessage(text)
}

// Each change is made to a good book. Where the chain is sealed anew, only its meaning is
// wrong: that is what somebody who can write the file would do.
var bookMutations = []struct {
	name   string
	breaks Property
	change func(r *rand.Rand, b *book)
}{
	{"an entry removed", Record, func(r *rand.Rand, b *book) {
		at := r.IntN(len(b.entries))
		b.entries = slices.Delete(b.entries, at, at+1)
	}},
	{"an entry removed and all numbered anew", Record, func(r *rand.Rand, b *book) {
		at := r.IntN(len(b.entries))
		b.entries = seal(slices.Delete(b.entries, at, at+1))
	}},
	{"two entries swapped", Record, func(r *rand.Rand, b *book) {
		at := r.IntN(len(b.entries) - 1)
		b.entries[at], b.entries[at+1] = b.entries[at+1], b.entries[at]
	}},
	{"another name in an entry", Record, func(r *rand.Rand, b *book) { b.entries[r.IntN(len(b.entries))].By = "eve" }},
	{"another detail in an entry", Record, func(r *rand.Rand, b *book) {
		b.entries[r.IntN(len(b.entries))].Detail = json.RawMessage(`{}`)
	}},
	{"another time in an entry", Record, func(r *rand.Rand, b *book) {
		at := &b.entries[r.IntN(len(b.entries))].At
		*at = at.Add(1)
	}},
	{"the chain sealed anew after a change", Record, func(r *rand.Rand, b *book) {
		b.entries[0].Object = "y"
		b.entries = seal(b.entries)
	}},
	{"a change without an entry", Record, func(r *rand.Rand, b *book) {
		b.operations = append(b.operations, Operation{Verb: Disable, Object: "bob", By: "admin", Outcome: Done})
	}},
	{"a change with two entries", Record, func(r *rand.Rand, b *book) {
		b.write("admin", "principal.put", "ann", map[string]any{"roles": []string{"author"}, "disabled": false})
		b.entries = seal(b.entries)
	}},
	{"a refused change with an entry", Record, func(r *rand.Rand, b *book) {
		b.operations[slices.IndexFunc(b.operations, func(o Operation) bool { return o.Verb == Approve })].Outcome = Refused
	}},
	{"a proposal that nobody asked for", Record, func(r *rand.Rand, b *book) {
		for range 2 { // one may be that of unknown outcome
			b.write("ann", "policy.propose", fmt.Sprintf("1.%d", 90+len(b.entries)), map[string]any{})
		}
		b.entries = seal(b.entries)
	}},
	{"an author who approves", Duties, func(r *rand.Rand, b *book) {
		e := &b.entries[b.approval(r)]
		var d detail
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			panic(err)
		}
		e.By = d.Author
	}},
	{"an approver without the role", Duties, func(r *rand.Rand, b *book) { b.entries[b.approval(r)].By = "admin" }},
	{"an approver who is disabled", Duties, func(r *rand.Rand, b *book) {
		at := slices.IndexFunc(b.entries, func(e Entry) bool { return e.Object == "bob" })
		b.entries[at].replaced(`"disabled":false`, `"disabled":true`)
	}},
	{"another content approved than proposed", Duties, func(r *rand.Rand, b *book) {
		b.entries[b.approval(r)].replaced(`"digest":"`, `"digest":"f`)
	}},
	{"approved from a base that is not in force", Duties, func(r *rand.Rand, b *book) {
		at := b.entry(r, "policy.propose")
		b.entries[at].replaced(`"base":"`, `"base":"7`)
	}},
	{"an approval removed", Duties, func(r *rand.Rand, b *book) {
		at := b.approval(r)
		b.entries = slices.Delete(b.entries, at, at+1)
	}},
	{"a revision that nobody proposed", Duties, func(r *rand.Rand, b *book) {
		b.revisions = append(b.revisions, Revision{Generation: 1, Number: 99, State: "active"})
	}},
	{"a revision in force that nobody approved", Duties, func(r *rand.Rand, b *book) {
		b.revisions[slices.IndexFunc(b.revisions, func(v Revision) bool { return v.State == "proposed" })].State = "active"
	}},
	{"a proposal by somebody who is no author", Duties, func(r *rand.Rand, b *book) {
		b.entries[b.entry(r, "policy.propose")].By = "bob"
	}},
	{"a person made by somebody who is no admin", Duties, func(r *rand.Rand, b *book) {
		b.entries[b.entry(r, "principal.put")].By = "ann"
	}},
}

func TestGoodBooksPass(t *testing.T) {
	for seed := range uint64(50) {
		b := goodBook(seed)
		if faults := b.judge(b.heads()); len(faults) > 0 {
			t.Fatalf("seed %d: %v", seed, faults)
		}
	}
}

func TestEachFalseBookIsFound(t *testing.T) {
	for _, m := range bookMutations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			for seed := range uint64(20) {
				b := goodBook(seed)
				heads := b.heads()
				m.change(rand.New(rand.NewPCG(seed, 4)), &b)
				if faults := b.judge(heads); !slices.ContainsFunc(faults, func(f Fault) bool { return f.Property == m.breaks }) {
					t.Fatalf("seed %d: found %v, want a breach of %q", seed, faults, m.breaks)
				}
			}
		})
	}
}
