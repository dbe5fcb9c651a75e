package policy

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/contract"
)

// Rewrite is a version of a contract that a bundle changes though events may use it.
type Rewrite struct {
	Contract, Version, File string
	Draft                   bool // it keeps its schema, and is to be a draft again
}

func (r Rewrite) String() string {
	if r.Draft {
		return fmt.Sprintf("contract %s: version %s was approved as more than a draft, and events say by which version they were made: "+
			"what was in use is no draft again; end it with state: deprecated and a sunset, or state: retired, and add a new version for what is to change", r.Contract, r.Version)
	}
	return fmt.Sprintf("contract %s: the schema of version %s, %s, is not the one with which it was approved, and events say by which version they were made: "+
		"leave %s as it is and add a new version with the change; only texts such as title and description may change, and drafts",
		r.Contract, r.Version, r.File, r.Version)
}

// Rewritten lists the versions of a proposed bundle that were more than drafts before, and have
// another schema now or are drafts again. What they were is told by the bundle in force and, where
// that does not tell it, by the earlier ones, of which the newest comes first; as few of them are
// taken as will do. A draft that stands in force as it is proposed is left alone. Like Diff it
// compares bundles that do not compile, too.
func Rewritten(inForce, proposed Bundle, earlier iter.Seq[Bundle]) (out []Rewrite) {
	open, now := schemaFiles(proposed), schemaFiles(inForce) // open: of which nothing is known yet
	compare := func(old Bundle, before map[versionID]schemaFile) {
		for id, was := range before {
			is, asked := open[id]
			if !asked || was.state == contract.Draft {
				continue
			}
			delete(open, id)
			same := contract.SameMeaning(old[was.name], proposed[is.name])
			if !same || is.state == contract.Draft {
				out = append(out, Rewrite{Contract: id.contract, Version: id.version, File: is.name, Draft: same})
			}
		}
	}
	compare(inForce, now)
	maps.DeleteFunc(open, func(id versionID, is schemaFile) bool {
		was, had := now[id]
		return had && is.state == contract.Draft && contract.SameMeaning(inForce[was.name], proposed[is.name])
	})
	if len(open) > 0 && earlier != nil {
		for old := range earlier {
			if compare(old, schemaFiles(old)); len(open) == 0 {
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b Rewrite) int {
		return cmp.Or(cmp.Compare(a.Contract, b.Contract), cmp.Compare(a.Version, b.Version))
	})
	return out
}

type versionID struct{ contract, version string }

// schemaFile is where the schema of a version stands.
type schemaFile struct {
	name  string
	state contract.State
}

// schemaFiles finds those of all contracts of a bundle.
func schemaFiles(b Bundle) map[versionID]schemaFile {
	out := map[versionID]schemaFile{}
	for id, fields := range flatten(b) {
		if id[0] != "Contract" {
			continue
		}
		for i := 0; ; i++ {
			at := fmt.Sprintf("spec.versions.%d.", i)
			version, has := fields[at+"version"]
			if !has {
				break
			}
			name := fields[at+"schema"]
			if hash := strings.LastIndex(name, " sha256:"); hash >= 0 {
				name = name[:hash]
			}
			out[versionID{id[1], version}] = schemaFile{name: name, state: cmp.Or(contract.State(fields[at+"state"]), contract.Draft)}
		}
	}
	return out
}
