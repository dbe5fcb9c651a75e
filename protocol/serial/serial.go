// Package serial owns which numbers a number range makes: their fixed parts, how many digits
// the serial has, whether a check digit follows, and whether two ranges could make the same
// number.
//
// It refuses to know who takes numbers and how a check digit is computed. Its invariant:
// where Cross says no, no number of the one span is ever a number of the other.
package serial

import (
	"fmt"
	"strings"
)

// Limits on a form.
const (
	MaxDigits = 18 // of a serial
	maxFixed  = 40 // bytes of what stands before and behind
)

// The kinds of check digits.
const (
	CheckNone  = "none"
	CheckMod10 = "mod10" // of GS1, over all digits before it
	CheckS10   = "s10"   // of the Universal Postal Union, over the serial
)

// Form is how the numbers of a range look: Lead, the serial in Digits digits, the check digit
// where there is one, Trail.
type Form struct {
	Lead   string
	Digits int
	Check  string
	Trail  string
}

// Span is the serials of one range.
type Span struct {
	Form  Form
	First uint64
	Last  uint64
}

// Most is the highest serial that has so many digits.
func Most(digits int) uint64 {
	n := uint64(1)
	for range min(max(digits, 0), MaxDigits) {
		n *= 10
	}
	return n - 1
}

// Count is how many numbers the span makes.
func (s Span) Count() uint64 { return s.Last - s.First + 1 }

// Fault says why a span cannot be used; empty if it can.
func (s Span) Fault() string {
	f := s.Form
	switch {
	case f.Digits < 1 || f.Digits > MaxDigits:
		return fmt.Sprintf("a serial of %d digits; it has 1 to %d", f.Digits, MaxDigits)
	case len(f.Lead)+len(f.Trail) > maxFixed:
		return fmt.Sprintf("%d bytes around the serial; the limit is %d", len(f.Lead)+len(f.Trail), maxFixed)
	case f.Check != CheckNone && f.Check != CheckMod10 && f.Check != CheckS10:
		return "no known kind of check digit"
	case f.Check == CheckMod10 && !digits(f.Lead):
		return "a check digit over something that is no digit"
	case f.Check == CheckS10 && f.Digits != 8:
		return fmt.Sprintf("an S10 serial of %d digits; it has 8", f.Digits)
	case s.First < 1 || s.First > s.Last || s.Last > Most(f.Digits):
		return fmt.Sprintf("serials from %d to %d; they begin at 1 and end at %d at the latest", s.First, s.Last, Most(f.Digits))
	}
	return ""
}

// Body is a number without its check digit and what stands behind it.
func (f Form) Body(n uint64) string { return fmt.Sprintf("%s%0*d", f.Lead, f.Digits, n) }

// length is that of every number.
func (f Form) length() int {
	n := len(f.Lead) + f.Digits + len(f.Trail)
	if f.Check != CheckNone {
		n++
	}
	return n
}

// hull is the lowest and the highest text that the span may make, but for the trail. A check
// digit counts as any: two numbers that differ in it alone are taken for the same.
func (s Span) hull() (lowest, highest string) {
	lowest, highest = s.Form.Body(s.First), s.Form.Body(s.Last)
	if s.Form.Check != CheckNone {
		lowest, highest = lowest+"0", highest+"9"
	}
	return lowest, highest
}

// Cross reports whether two spans could make the same number, whatever their names are.
func Cross(a, b Span) bool {
	if a.Form.Trail != b.Form.Trail || a.Form.length() != b.Form.length() {
		return false
	}
	short, long := a.Form.Lead, b.Form.Lead
	if len(short) > len(long) {
		short, long = long, short
	}
	rest, fits := strings.CutPrefix(long, short)
	if !fits || !digits(rest) {
		return false
	}
	// Behind the shorter lead there are digits only, as many on both sides: texts compare
	// like numbers.
	lowA, highA := a.hull()
	lowB, highB := b.hull()
	return max(lowA, lowB) <= min(highA, highB)
}

func digits(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}
