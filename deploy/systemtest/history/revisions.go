package history

import (
	"fmt"
	"slices"
)

// Rising is what agents keep: each revision that one applies is newer than all before it,
// over restarts too, and is one that was approved, with its very content.
const Rising Property = "revisions rise"

// Applied is a revision that came into force at an agent, or that it began with.
type Applied struct {
	Agent              string
	Began              bool // the agent has started with it
	Generation, Number uint64
	Digest             string // sha256:HEX, computed from the documents that the agent holds; empty: not looked at
}

// CheckRevisions judges what agents have applied, in the order of each, against the
// revisions that the control plane has.
func CheckRevisions(applied []Applied, known []Revision) (faults []Fault) {
	fault := func(a Applied, format string, args ...any) {
		faults = append(faults, Fault{Rising, fmt.Sprintf("%s, revision %d.%d: ", a.Agent, a.Generation, a.Number) + fmt.Sprintf(format, args...)})
	}
	committed := map[[2]uint64]Revision{}
	for _, r := range known {
		committed[[2]uint64{r.Generation, r.Number}] = r
	}
	last := map[string]Applied{}
	for _, a := range applied {
		before, was := last[a.Agent]
		order := slices.Compare([]uint64{a.Generation, a.Number}, []uint64{before.Generation, before.Number})
		switch {
		case a.Digest != "": // a look at what is held changes nothing
		case was && a.Began && order < 0: // a newer one is what it stored and did not live to say
			fault(a, "the agent began with it, and had applied %d.%d before", before.Generation, before.Number)
		case was && !a.Began && order <= 0:
			fault(a, "it was applied after %d.%d", before.Generation, before.Number)
		}
		if a.Digest == "" {
			last[a.Agent] = a
		}
		r, exists := committed[[2]uint64{a.Generation, a.Number}]
		switch {
		case !exists:
			fault(a, "the control plane has no such revision")
		case r.Approver == "":
			fault(a, "it is %s, and nobody has approved it", r.State)
		case a.Digest != "" && a.Digest != r.Digest:
			fault(a, "the agent holds %s, approved was %s", a.Digest, r.Digest)
		}
	}
	return faults
}
