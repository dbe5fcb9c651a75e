package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/protocol/spelling"
)

// A system never changes its site. What moves is replaced: a new system, at the same site
// or another, takes the place of the old one, which stays in the policy until nothing is
// pending for it any more.

// Move is a system that takes the place of another.
type Move struct {
	System  string // the new one
	Site    string // its site
	Old     string // the system that it replaces
	OldSite string
}

// Moves lists the moves of the policy, by the name of the new system.
func (s *Set) Moves() []Move {
	var out []Move
	for _, name := range slices.Sorted(maps.Keys(s.Systems)) {
		system := s.Systems[name]
		if old := s.Systems[system.Replaces]; old != nil {
			out = append(out, Move{System: name, Site: system.Site, Old: old.Name, OldSite: old.Site})
		}
	}
	return out
}

// Relocation is a system that a bundle has at another site than the bundle before it.
type Relocation struct{ System, From, To string }

func (r Relocation) String() string {
	return fmt.Sprintf("system %s is at site %s, and would be at site %s: a system never changes its site; make a new system at %s with replaces: %s, and keep %s until that has been released",
		r.System, r.From, r.To, r.To, r.System, r.System)
}

// Relocated lists the systems of both bundles that are at another site in the second. Like
// Diff it compares bundles that do not compile, too.
func Relocated(oldB, newB Bundle) []Relocation {
	before, after := flatten(oldB), flatten(newB)
	var out []Relocation
	for _, id := range union(before, after) {
		a, had := before[id]
		b, has := after[id]
		if from, to := a["spec.site"], b["spec.site"]; id[0] == "System" && had && has && from != to {
			out = append(out, Relocation{System: id[1], From: from, To: to})
		}
	}
	return out
}

// checkReplaces looks up what a system replaces. The old one must still be there, for its
// agent has to finish with it, and nothing new may be sent to it, or that would never end.
func (c *compiler) checkReplaces(s *System, f field) {
	if !f.set {
		return
	}
	old, ok := c.set.Systems[s.Replaces]
	switch {
	case !ok:
		others := slices.DeleteFunc(slices.Sorted(maps.Keys(c.set.Systems)), func(name string) bool { return name == s.Name })
		hint := "keep the old system in the policy until the new one has been released"
		if near := spelling.Nearest(s.Replaces, others); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		c.errorAt(f.place, hint, "system %s, which %s replaces, is not in the policy", quoted(s.Replaces), s.Name)
		return
	case old == s:
		c.errorAt(f.place, "name the system that it takes the place of", "system %s replaces itself", s.Name)
		return
	case old.Replaces != "":
		c.errorAt(f.place, "finish one move after the other: remove replaces from "+old.Name+" once it has been released",
			"system %s replaces %s, which itself replaces %s", s.Name, old.Name, old.Replaces)
		return
	}
	if first := c.replacers(old.Name)[0]; first != s.Name {
		c.errorAt(f.place, "one system takes the place of another: remove replaces here or there",
			"system %s is replaced by %s already", old.Name, first)
	}
}

// replacers lists the systems, by name, that replace another.
func (c *compiler) replacers(old string) []string {
	if c.replaced == nil {
		c.replaced = map[string][]string{}
		for _, name := range slices.Sorted(maps.Keys(c.set.Systems)) {
			if of := c.set.Systems[name].Replaces; of != "" && of != name {
				c.replaced[of] = append(c.replaced[of], name)
			}
		}
	}
	return c.replaced[old]
}

// checkNotReplaced refuses a live destination that another system takes the place of.
func (c *compiler) checkNotReplaced(d Destination, f field) {
	if by := c.replacers(d.System); len(by) > 0 && !d.Shadow {
		c.errorAt(f.place, "deliver to "+by[0]+", or remove replaces from it",
			"system %s is replaced by %s, and nothing new may go to it", d.System, strings.Join(by, ", "))
	}
}
