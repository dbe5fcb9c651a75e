package contract

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// sameAsEngine compares an automaton, if the pattern has one, with the engine.
func sameAsEngine(t interface{ Fatalf(string, ...any) }, source string, texts ...string) (simple bool) {
	engine, err := compilePattern(source)
	if err != nil {
		return false // no schema can hold it
	}
	work := maxBuildWork
	a := simplePattern(source, &work)
	if a == nil {
		return false
	}
	for _, text := range texts {
		ascii := strings.IndexFunc(text, func(r rune) bool { return r >= asciiEnd }) < 0
		found := a.finds(text)
		want, err := engine.(pattern).re.MatchString(text)
		if err == nil && (found && !want || ascii && want && !found) { // else the engine ran out of time
			t.Fatalf("pattern %q over %q: got %v, the engine says %v", source, text, found, want)
		}
	}
	return true
}

// Every single character, and what patterns hang on.
func singles() []string {
	out := []string{"", "\n", "a\n", "\na", "aa", "ab", "ba", "aaa", "abc", "cab", "a-b", "ä", "aä", "äa", "2026-05-04", "12.50", "A1"}
	for c := range asciiEnd {
		out = append(out, string(rune(c)))
	}
	return out
}

func TestSimplePatterns(t *testing.T) {
	for _, source := range []string{
		``, `a`, `^a`, `a$`, `^a$`, `^$`, `$^`, `^^a$$`, `.`, `^.$`, `.*`, `^.{2}$`, `a|b`, `^a|b$`, `^(a|b)$`, `^(?:a|b)$`, `|`, `a||b`, `()`, `(|a)b`, `(^)a`, `(a|^)b`, `a($|b)`,
		`a*`, `^a*$`, `^a+$`, `^a?$`, `^a*?$`, `^a+?b??$`, `^a{2}$`, `^a{0}$`, `^a{1,2}$`, `^a{2,}$`, `^(a*)*$`, `^(a+)+$`, `^(a|b)*c$`, `^(ab){0,2}$`, `(a{2}b?){2}`,
		`\d`, `\D`, `\w`, `\W`, `\s`, `\S`, `\t\n\v\f\r`, `\.`, `\-`, `\/`, `\\`, `\$`, `\ `, `\"`, `^\^$`, `[a]`, `[^a]`, `[a-c]`, `[^a-c]`, `[-a]`, `[a-]`, `[a\-z]`, `[\w-]`, `[\d\s]`, `[.]`, `[\]]`, `[\\]`, `[a^]`, `[$]`,
		`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`, `^[0-9]{1,12}(\.[0-9]{1,6})?$`, `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`, `^(0(\.[0-9]{1,6})?|1(\.0{1,6})?)$`, `^[A-Z]{3}$`, `[a-z]+@[a-z]+`, `^-?[0-9]+$`, `^[^@]+$`, `^\d{4}-\d\d$`,
		`^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$`,
	} {
		if !sameAsEngine(t, source, singles()...) {
			t.Errorf("%s is left to the engine", source)
		}
	}
}

// What takes nothing is not repeated: nested as deep as this it would never end.
func TestRepeatedNothing(t *testing.T) {
	for _, nothing := range []string{``, `a{0}`, `(?:)()`} {
		source := strings.Repeat("(", 8) + nothing + strings.Repeat("){9999}", 8) + "b"
		work := maxBuildWork
		if a := simplePattern(source, &work); a == nil || !a.finds("ab") || a.finds("a") {
			t.Errorf("%s is not the pattern b", source)
		}
	}
}

func TestOtherPatternsAreLeftToTheEngine(t *testing.T) {
	for _, source := range []string{
		`(?=a)`, `(?!a)b`, `(?<n>a)`, `(a)\1`, `\bA`, `\B`, `\p{L}`, `\u0041`, `\x41`, `\cA`, `\A`, `\z`, `\0`, `\k`, `ä`, `[ä]`, `[a-ä]`, `a{`, `a{,2}`, `a{1`, `{`, `]`, `}`, `[]`, `[^]`, `[[]`, `[a-c-e]`, `[\d-z]`, `[a-\d]`, `[+--]`, `[--/]`,
		`^*`, `($)?$*`, `(?i)a`, `a{10000}`, `a{999}{2}`, `^(a{99}){99}$`, `a.{400}b`, strings.Repeat("(", maxGroups+1) + strings.Repeat(")", maxGroups+1),
	} {
		work := maxBuildWork
		if simplePattern(source, &work) != nil {
			t.Errorf("%s has an automaton", source)
		}
	}
	if work := 100; simplePattern(`^[a-z]{1,50}$`, &work) != nil || work >= 0 {
		t.Errorf("the work was not bounded: %d is left", work)
	}
}

// drawPattern writes a pattern of what automata know, and sometimes of more.
func drawPattern(t *rapid.T, depth int) string {
	atoms := []string{"a", "b", "-", ".", "1", `\d`, `\w`, `\s`, `\.`, `[ab]`, `[^a]`, `[a-c1-]`, `[\w.-]`, `^`, `$`, `[^\d]`, "ä", `\W`}
	var b strings.Builder
	for i := range rapid.IntRange(1, 3).Draw(t, "alternatives") {
		if i > 0 {
			b.WriteByte('|')
		}
		for range rapid.IntRange(0, 4).Draw(t, "terms") {
			if depth > 0 && rapid.IntRange(0, 3).Draw(t, "group") == 3 {
				b.WriteString(rapid.SampledFrom([]string{"(", "(?:"}).Draw(t, "open") + drawPattern(t, depth-1) + ")")
			} else {
				b.WriteString(rapid.SampledFrom(atoms).Draw(t, "atom"))
			}
			b.WriteString(rapid.SampledFrom([]string{"", "", "", "", "?", "*", "+", "{2}", "{0,2}", "{1,3}", "{2,}", "*?", "??"}).Draw(t, "count"))
		}
	}
	return b.String()
}

// An automaton matches what the engine matches.
func TestPatternsAsTheEngine(t *testing.T) {
	simple := 0
	text := rapid.StringMatching(`[ab1.\-\n ä_]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		source := drawPattern(t, 2)
		if sameAsEngine(t, source, "", text.Draw(t, "text"), text.Draw(t, "text"), text.Draw(t, "text")) {
			simple++
		}
	})
	if simple == 0 {
		t.Error("no pattern had an automaton: nothing was compared")
	}
}

func FuzzPattern(f *testing.F) {
	f.Add(`^[A-Z0-9-]{1,20}$`, "A-1")
	f.Add(`(a|^)b`, "ab")
	f.Fuzz(func(t *testing.T, source, text string) {
		if len(source) < 100 && len(text) < 100 && strings.ToValidUTF8(text, "") == text {
			sameAsEngine(t, source, text)
		}
	})
}
