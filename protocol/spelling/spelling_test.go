package spelling

import (
	"strings"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"listen", "listen", 0}, {"", "abc", 3}, {"timout", "timeout", 1}, {"lsiten", "listen", 1}, {"quota", "quoted", 2},
		{"kitten", "sitting", 3}, {strings.Repeat("x", 65), strings.Repeat("x", 65), 64}, // too long to be meant
	} {
		if got, back := Distance(c.a, c.b), Distance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q and %q: %d, and %d back, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"oslo", "rotterdam", "Rotterdam-2", "os"}
	for name, want := range map[string]string{"osol": "oslo", "OSLO": "oslo", "roterdam": "rotterdam", "rotterdam-2": "Rotterdam-2", "bergen": "", "": ""} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
