package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Duties is what an installation with dual approvals keeps: nobody puts in force what they
// wrote themselves, and nobody without the role.
const Duties Property = "two persons"

// Revision is one as the API lists it.
type Revision struct {
	Generation, Number uint64
	Digest             string // sha256:HEX
	State              string
	Author, Approver   string
	Base               uint64
}

// person is a principal at one place in the record.
type person struct {
	roles    []string
	disabled bool
}

// proposal is a revision as the record tells of it.
type proposal struct {
	digest, base     string
	author, approver string
	withdrawn        bool
}

// court plays the record once more, by rules of its own: it shares no line with the state
// machine that has written it.
type court struct {
	faults         []Fault
	single         bool
	people         map[string]person
	revisions      map[string]*proposal // by generation.number
	active, canary string
}

// CheckDuties replays who was what, who proposed and who approved, out of the record, and
// compares the end with the revisions that there are.
func CheckDuties(entries []Entry, revisions []Revision) []Fault {
	c := &court{people: map[string]person{}, revisions: map[string]*proposal{}, active: "0.0"}
	for i := range entries {
		c.hear(&entries[i])
	}
	for _, r := range revisions {
		c.compare(r)
	}
	return c.faults
}

func (c *court) fault(e *Entry, format string, args ...any) {
	c.faults = append(c.faults, Fault{Duties, fmt.Sprintf("entry %d, %s of %s by %s: ", e.Number, e.Action, e.Object, e.By) + fmt.Sprintf(format, args...)})
}

// detail has what the entries of interest say; each has some of it.
type detail struct {
	Approvals, Admin, Digest, Base, Author, Again string
	Roles, Canary                                 []string
	Disabled                                      bool
}

func (c *court) hear(e *Entry) {
	var d detail
	switch e.Action {
	case "cluster.bootstrap", "principal.put", "principal.rescue", "policy.propose", "policy.approve", "policy.promote", "policy.withdraw":
		if err := json.Unmarshal(e.Detail, &d); err != nil {
			c.fault(e, "%v", err)
			return
		}
	}
	switch e.Action {
	case "cluster.bootstrap":
		c.single = d.Approvals == "single"
		c.people[d.Admin] = person{roles: d.Roles}
	case "principal.put":
		c.need(e, "admin")
		c.people[e.Object] = person{roles: d.Roles, disabled: d.Disabled}
	case "principal.rescue": // by somebody who has the machine
		c.people[e.Object] = person{roles: d.Roles}
	case "policy.propose":
		c.need(e, "author")
		if c.revisions[e.Object] != nil {
			c.fault(e, "the number was given before")
		}
		if d.Base != c.active {
			c.fault(e, "its base is said to be %s, in force is %s", d.Base, c.active)
		}
		c.revisions[e.Object] = &proposal{digest: d.Digest, base: d.Base, author: e.By}
	case "policy.approve", "policy.promote":
		c.enforce(e, &d)
	case "policy.withdraw":
		c.need(e, "approver", "author", "admin")
		if c.canary != e.Object {
			c.fault(e, "at its canary sites is %q", c.canary)
		}
		if r := c.revisions[e.Object]; r != nil {
			r.withdrawn = true
		}
		if was := c.revisions[c.active]; was != nil {
			again := *was
			again.base = c.active
			c.revisions[d.Again] = &again
		}
		c.active, c.canary = d.Again, ""
	}
}

func (c *court) enforce(e *Entry, d *detail) {
	r := c.revisions[e.Object]
	if r == nil {
		c.fault(e, "nobody has proposed it")
		return
	}
	own := r.author == e.By
	switch {
	case own && !c.single:
		c.fault(e, "its author puts it in force")
	case own:
		c.need(e, "approver", "admin")
	default:
		c.need(e, "approver")
	}
	if d.Digest != r.digest {
		c.fault(e, "approved is %s, proposed was %s", d.Digest, r.digest)
	}
	if d.Author != r.author {
		c.fault(e, "its author is said to be %s, and is %s", d.Author, r.author)
	}
	switch {
	case e.Action == "policy.promote" && c.canary != e.Object:
		c.fault(e, "at its canary sites is %q", c.canary)
	case e.Action == "policy.approve" && (c.canary != "" || r.approver != ""):
		c.fault(e, "at its canary sites is %q, approved by %q", c.canary, r.approver)
	}
	if r.base != c.active {
		c.fault(e, "it was made from %s, in force is %s", r.base, c.active)
	}
	if e.Action == "policy.approve" {
		r.approver = e.By
	}
	if e.Action == "policy.approve" && len(d.Canary) > 0 {
		c.canary = e.Object
		return
	}
	c.active, c.canary = e.Object, ""
}

func (c *court) need(e *Entry, any ...string) {
	p := c.people[e.By]
	if p.disabled || !slices.ContainsFunc(any, func(role string) bool { return slices.Contains(p.roles, role) }) {
		c.fault(e, "needs to be %s, and has %v, disabled %v", strings.Join(any, " or "), p.roles, p.disabled)
	}
}

// compare looks whether a revision is what the record says of it.
func (c *court) compare(r Revision) {
	name := fmt.Sprintf("%d.%d", r.Generation, r.Number)
	p := c.revisions[name]
	state := "superseded"
	switch {
	case p == nil:
		c.faults = append(c.faults, Fault{Duties, fmt.Sprintf("revision %s is %s, and the record does not know it", name, r.State)})
		return
	case name == c.active:
		state = "active"
	case name == c.canary:
		state = "canary"
	case p.withdrawn:
		state = "withdrawn"
	case p.approver == "":
		state = "proposed"
	}
	if r.State != state || r.Author != p.author || r.Approver != p.approver || r.Digest != "sha256:"+p.digest {
		c.faults = append(c.faults, Fault{Duties, fmt.Sprintf("revision %s is %s, by %s, approved by %q, %s; by the record it is %s, by %s, approved by %q, %s",
			name, r.State, r.Author, r.Approver, r.Digest, state, p.author, p.approver, p.digest)})
	}
}
