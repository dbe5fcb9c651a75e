package policy

import (
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/spelling"
)

// checkKey looks for the ordering key in the schemas of a contract, where it is a plain path: an
// event without a key is refused. A version in use that no event can satisfy is an error. Where
// events may have the key and need not, a person decides.
func (c *compiler) checkKey(k *Contract, key field) {
	if k.Key == nil {
		return
	}
	path, plain := k.Key.Path()
	if !plain {
		return
	}
	for _, v := range k.Versions {
		if v.State == contract.Retired {
			continue
		}
		reach, at, known := v.Reach(path)
		report := c.styleAt
		if v.State == contract.Draft || reach < contract.Unfit {
			report = c.warnAt
		}
		hint := "name a text or a number that the schema requires"
		if len(known) > 0 && spelling.Nearest(path[at], known) != "" {
			meant := slices.Clone(path)
			meant[at] = spelling.Nearest(path[at], known)
			hint = "did you mean ." + strings.Join(meant, ".") + "?"
		} else if len(known) > 0 {
			hint += "; it has " + joinShort(known)
		}
		switch reach {
		case contract.Impossible:
			report(key.place, hint, "contract %s %s: by the schema no event has %s, the key, so that every event would be refused", k.Name, v.Semver, key.str())
		case contract.Unfit:
			report(key.place, hint, "contract %s %s: by the schema %s, the key, is neither a text nor a number, so that every event would be refused", k.Name, v.Semver, key.str())
		case contract.Unnamed:
			report(key.place, hint, "contract %s %s: the schema has no %s, the key, and an event without it is refused", k.Name, v.Semver, key.str())
		case contract.Optional:
			report(key.place, "write it into required of the schema, and leave null out of its types", "contract %s %s: by the schema events may lack %s, the key, and are refused then",
				k.Name, v.Semver, key.str())
		}
	}
}
