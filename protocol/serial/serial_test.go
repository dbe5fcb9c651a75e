package serial

import (
	"fmt"
	"testing"
)

func span(lead string, digits int, check, trail string, first, last uint64) Span {
	return Span{Form: Form{Lead: lead, Digits: digits, Check: check, Trail: trail}, First: first, Last: last}
}

func TestCross(t *testing.T) {
	for _, tc := range []struct {
		name string
		a, b Span
		want bool
	}{
		{"the same", span("1", 3, CheckNone, "", 1, 9), span("1", 3, CheckNone, "", 1, 9), true},
		{"one serial in common", span("1", 3, CheckNone, "", 1, 9), span("1", 3, CheckNone, "", 9, 20), true},
		{"one behind the other", span("1", 3, CheckNone, "", 1, 9), span("1", 3, CheckNone, "", 10, 20), false},
		{"another lead", span("1", 3, CheckNone, "", 1, 9), span("2", 3, CheckNone, "", 1, 9), false},
		{"another length", span("1", 3, CheckNone, "", 1, 9), span("1", 4, CheckNone, "", 1, 9), false},
		{"a longer lead of digits", span("1", 3, CheckNone, "", 200, 299), span("12", 2, CheckNone, "", 50, 60), true},
		{"a longer lead, outside", span("1", 3, CheckNone, "", 200, 249), span("12", 2, CheckNone, "", 50, 60), false},
		{"a longer lead of letters", span("A", 3, CheckNone, "", 1, 999), span("A-", 2, CheckNone, "", 1, 99), false},
		{"another country", span("RR", 8, CheckS10, "DE", 1, 9), span("RR", 8, CheckS10, "FR", 1, 9), false},
		{"the same country", span("RR", 8, CheckS10, "DE", 1, 9), span("RR", 8, CheckS10, "DE", 3, 3), true},
		{"a check digit where the other has a serial's", span("1", 3, CheckMod10, "", 1, 9), span("1", 4, CheckNone, "", 95, 95), true},
		{"such, outside", span("1", 3, CheckMod10, "", 1, 9), span("1", 4, CheckNone, "", 100, 200), false},
	} {
		if got, back := Cross(tc.a, tc.b), Cross(tc.b, tc.a); got != tc.want || back != tc.want {
			t.Errorf("%s: %v, and the other way round %v; want %v", tc.name, got, back, tc.want)
		}
	}
}

// Small spans are compared number by number. Where numbers differ in their check digit alone,
// Cross may say yes; else it says what is so.
func TestCrossSaysWhatTheNumbersSay(t *testing.T) {
	var all []Span
	for _, lead := range []string{"", "1", "11", "A", "A1", "1-"} {
		for digits := 1; digits <= 3; digits++ {
			for _, ends := range [][2]uint64{{1, 1}, {1, Most(digits)}, {5, 7}, {Most(digits) / 2, Most(digits)}} {
				all = append(all, span(lead, digits, CheckNone, "", ends[0], ends[1]))
			}
		}
	}
	numbers := func(s Span) map[string]bool {
		out := map[string]bool{}
		for n := s.First; n <= s.Last; n++ {
			out[s.Form.Body(n)] = true
		}
		return out
	}
	crossing := 0
	for _, a := range all {
		made := numbers(a)
		for _, b := range all {
			want := false
			for n := b.First; n <= b.Last; n++ {
				want = want || made[b.Form.Body(n)]
			}
			if got := Cross(a, b); got != want {
				t.Errorf("%+v and %+v: %v, want %v", a, b, got, want)
			}
			if want {
				crossing++
			}
		}
	}
	if crossing < 100 {
		t.Errorf("only %d pairs cross: the test has lost its point", crossing)
	}
}

func TestFault(t *testing.T) {
	if got := span("0614141", 9, CheckMod10, "", 1, 999_999_999).Fault(); got != "" {
		t.Errorf("a good span: %s", got)
	}
	for _, bad := range []Span{
		{}, span("", 0, CheckNone, "", 1, 1), span("", 19, CheckNone, "", 1, 1), span("", 3, "", "", 1, 9), span("A", 3, CheckMod10, "", 1, 9),
		span("RR", 7, CheckS10, "DE", 1, 9), span("", 3, CheckNone, "", 0, 9), span("", 3, CheckNone, "", 9, 1), span("", 3, CheckNone, "", 1, 1000),
		span(fmt.Sprintf("%041d", 0), 3, CheckNone, "", 1, 9),
	} {
		if bad.Fault() == "" {
			t.Errorf("%+v was taken", bad)
		}
	}
	if Most(18) != 999_999_999_999_999_999 || span("", 2, CheckNone, "", 3, 7).Count() != 5 {
		t.Error("wrong counts")
	}
}
