// Package checkdigit computes and proves the check digits of the numbers that stand on
// parcels: those of GS1 and those of the Universal Postal Union.
//
// It owns the arithmetic and the lengths, and refuses to know who a number belongs to. Its
// invariant: what Complete makes, Check accepts, and no number with one wrong digit; of S10,
// which has two rests for one digit, nearly none.
package checkdigit

import (
	"fmt"
	"strings"
)

// Kind is a kind of number.
type Kind string

// The kinds.
const (
	SSCC   Kind = "SSCC"    // Serial Shipping Container Code, 18 digits
	GTIN8  Kind = "GTIN-8"  // Global Trade Item Number
	GTIN12 Kind = "GTIN-12" // likewise, UPC
	GTIN13 Kind = "GTIN-13" // likewise, EAN
	GTIN14 Kind = "GTIN-14" // likewise, of cases
	GLN    Kind = "GLN"     // Global Location Number, 13 digits
	S10    Kind = "S10"     // UPU S10 item: service indicator, 8 digits, check digit, country
)

// digits are the lengths of the GS1 kinds, the check digit included.
var digits = map[Kind]int{SSCC: 18, GTIN8: 8, GTIN12: 12, GTIN13: 13, GTIN14: 14, GLN: 13}

// Check says what is wrong with a number, or nil.
func Check(kind Kind, number string) error {
	if kind == S10 {
		return checkS10(number)
	}
	size, known := digits[kind]
	switch {
	case !known:
		return fmt.Errorf("%q is no kind of number with a check digit that is known here", kind)
	case len(number) != size || !allDigits(number):
		return fmt.Errorf("%q is no %s: it has %d digits and nothing else", number, kind, size)
	}
	body, got := number[:size-1], number[size-1]
	if want := mod10(body); got != want {
		return fmt.Errorf("the check digit of %s %s is %c, and must be %c: is a digit mistyped?", kind, number, got, want)
	}
	return nil
}

// Complete adds the check digit to a number that lacks it: at the end, and in an S10 between
// the serial number and the country.
func Complete(kind Kind, body string) (string, error) {
	if kind == S10 {
		if len(body) != 12 || !s10Form(body[:10]+"0"+body[10:]) {
			return "", fmt.Errorf("%q is no S10 without its check digit: two letters, 8 digits, two letters", body)
		}
		return body[:10] + string(s10(body[2:10])) + body[10:], nil
	}
	size, known := digits[kind]
	switch {
	case !known:
		return "", fmt.Errorf("%q is no kind of number with a check digit that is known here", kind)
	case len(body) != size-1 || !allDigits(body):
		return "", fmt.Errorf("%q is no %s without its check digit: it has %d digits and nothing else", body, kind, size-1)
	}
	return body + string(mod10(body)), nil
}

// Mod10 is GS1's check digit of digits of any length, such as carriers of their own put at the
// end of their numbers.
func Mod10(body string) (byte, error) {
	if body == "" || !allDigits(body) {
		return 0, fmt.Errorf("%q is no row of digits", body)
	}
	return mod10(body), nil
}

// mod10 weighs the digits 3, 1, 3, ... from the right (GS1 General Specifications, 7.9.1).
func mod10(body string) byte {
	sum, weight := 0, 3
	for i := len(body) - 1; i >= 0; i-- {
		sum += int(body[i]-'0') * weight
		weight = 4 - weight
	}
	return byte('0' + (10-sum%10)%10)
}

func checkS10(number string) error {
	if len(number) != 13 || !s10Form(number) {
		return fmt.Errorf("%q is no S10: two letters, 9 digits, two letters, all capitals", number)
	}
	if want := s10(number[2:10]); number[10] != want {
		return fmt.Errorf("the check digit of S10 %s is %c, and must be %c: is a digit mistyped?", number, number[10], want)
	}
	return nil
}

func s10Form(number string) bool {
	return allCapitals(number[:2]) && allDigits(number[2:11]) && allCapitals(number[11:])
}

// S10Digit is the check digit of the eight digits of an S10's serial number.
func S10Digit(serial string) (byte, error) {
	if len(serial) != 8 || !allDigits(serial) {
		return 0, fmt.Errorf("%q is no row of 8 digits", serial)
	}
	return s10(serial), nil
}

// s10 follows UPU S10: weights 8 6 4 2 3 5 9 7, modulo 11, where 10 and 11, which are no
// digits, become 0 and 5.
func s10(serial string) byte {
	sum := 0
	for i, weight := range []int{8, 6, 4, 2, 3, 5, 9, 7} {
		sum += int(serial[i]-'0') * weight
	}
	switch digit := 11 - sum%11; digit {
	case 10:
		return '0'
	case 11:
		return '5'
	default:
		return byte('0' + digit)
	}
}

func allDigits(s string) bool   { return strings.Trim(s, "0123456789") == "" }
func allCapitals(s string) bool { return strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" }
