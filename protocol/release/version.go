package release

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
)

// versionForm is semantic versioning with two liberties: a leading v, as tags have it, and a
// missing patch number; and behind it what `git describe` adds: how many commits a build is
// past its tag, and whether the tree was changed.
var versionForm = regexp.MustCompile(`^v?(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})(?:\.(0|[1-9][0-9]{0,8}))?` +
	`(?:-([0-9A-Za-z-]+?(?:\.[0-9A-Za-z-]+?)*?))??` +
	`(?:-([0-9]{1,9})-g[0-9a-f]{4,40})?(-dirty)?` +
	`(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$`)

// order is a version as it compares.
type order struct {
	number [3]int
	before []string // what is before the release itself, rc.1 for example
	past   int      // commits
	dirty  bool
}

// ValidVersion says that a version can be compared, and is safe as the name of a directory.
func ValidVersion(version string) bool {
	_, ok := parse(version)
	return ok
}

// Compare tells which of two versions is the later one: -1 if it is b, 1 if it is a, 0 if
// they are the same or differ only in what does not count, like the hash of a commit. What is
// no version is earlier than every version.
func Compare(a, b string) int {
	x, isX := parse(a)
	y, isY := parse(b)
	switch {
	case !isX && !isY:
		return strings.Compare(a, b)
	case !isX:
		return -1
	case !isY:
		return 1
	}
	for i := range x.number {
		if c := cmp.Compare(x.number[i], y.number[i]); c != 0 {
			return c
		}
	}
	if c := compareBefore(x.before, y.before); c != 0 {
		return c
	}
	if c := cmp.Compare(x.past, y.past); c != 0 {
		return c
	}
	switch {
	case x.dirty == y.dirty:
		return 0
	case x.dirty:
		return 1
	}
	return -1
}

func parse(version string) (order, bool) {
	if len(version) > MaxVersion {
		return order{}, false
	}
	m := versionForm.FindStringSubmatch(version)
	if m == nil {
		return order{}, false
	}
	var o order
	for i := range o.number {
		o.number[i], _ = strconv.Atoi(m[1+i]) // digits, nine at most, or empty: 0
	}
	if m[4] != "" {
		o.before = strings.Split(m[4], ".")
	}
	o.past, _ = strconv.Atoi(m[5])
	o.dirty = m[6] != ""
	return o, true
}

// compareBefore is rule 11 of semantic versioning.
func compareBefore(a, b []string) int {
	switch {
	case len(a) == 0 && len(b) == 0:
		return 0
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	for i := 0; i < len(a) && i < len(b); i++ {
		if c := compareIdentifier(a[i], b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareIdentifier(a, b string) int {
	numberA, numberB := numeric(a), numeric(b)
	switch {
	case numberA && numberB:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		if c := cmp.Compare(len(a), len(b)); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	case numberA:
		return -1
	case numberB:
		return 1
	}
	return strings.Compare(a, b)
}

func numeric(s string) bool { return strings.Trim(s, "0123456789") == "" }
