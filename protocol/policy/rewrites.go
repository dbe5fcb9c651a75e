package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/contract"
)

// Rewrite is a version of a contract whose schema a bundle changes though events may use it.
type Rewrite struct{ Contract, Version, File string }

func (r Rewrite) String() string {
	return fmt.Sprintf("contract %s: the schema of version %s, %s, is not the one in force, and events say by which version they were made: "+
		"leave %s as it is and add a new version with the change; only texts such as title and description may change, and drafts",
		r.Contract, r.Version, r.File, r.Version)
}

// Rewritten lists the versions of both bundles that were more than drafts in the first and have
// another schema in the second. Like Diff it compares bundles that do not compile, too.
func Rewritten(oldB, newB Bundle) (out []Rewrite) {
	before, after := flatten(oldB), flatten(newB)
	for _, id := range union(before, after) {
		if id[0] != "Contract" {
			continue
		}
		was, is := schemaFiles(before[id]), schemaFiles(after[id])
		for _, version := range slices.Sorted(maps.Keys(is)) {
			old, had := was[version]
			if file := is[version]; had && old.state != contract.Draft && !contract.SameMeaning(oldB[old.name], newB[file.name]) {
				out = append(out, Rewrite{Contract: id[1], Version: version, File: file.name})
			}
		}
	}
	return out
}

// schemaFile is where the schema of a version stands.
type schemaFile struct {
	name  string
	state contract.State
}

// schemaFiles finds those of a flattened contract, by version.
func schemaFiles(fields map[string]string) map[string]schemaFile {
	out := map[string]schemaFile{}
	for i := 0; ; i++ {
		at := fmt.Sprintf("spec.versions.%d.", i)
		version, has := fields[at+"version"]
		if !has {
			return out
		}
		name := fields[at+"schema"]
		if hash := strings.LastIndex(name, " sha256:"); hash >= 0 {
			name = name[:hash]
		}
		out[version] = schemaFile{name: name, state: cmp.Or(contract.State(fields[at+"state"]), contract.Draft)}
	}
}
