package numbers

import (
	"github.com/crossdock/crossdock/protocol/serial"
)

// Text is a number as it is printed.
func Text(form serial.Form, n uint64) string {
	body := form.Body(n)
	switch form.Check {
	case serial.CheckMod10:
		body += string(mod10(body))
	case serial.CheckS10:
		body += string(s10(body[len(form.Lead):]))
	}
	return body + form.Trail
}

// mod10 is the check digit of GS1 keys: weights 3 and 1 in turn, 3 for the last digit.
func mod10(digits string) byte {
	sum := 0
	for i := range len(digits) {
		weight := 1
		if (len(digits)-i)%2 == 1 {
			weight = 3
		}
		sum += weight * int(digits[i]-'0')
	}
	return byte('0' + (10-sum%10)%10)
}

// s10Weights are those of UPU standard S10, for the eight digits of the serial.
var s10Weights = [...]int{8, 6, 4, 2, 3, 5, 9, 7}

// s10 is the check digit of a postal item's identifier: 11 less the weighted sum's rest by 11,
// where 10 is written 0 and 11 is written 5.
func s10(digits string) byte {
	sum := 0
	for i, weight := range s10Weights {
		sum += weight * int(digits[i]-'0')
	}
	switch check := 11 - sum%11; check {
	case 10:
		return '0'
	case 11:
		return '5'
	default:
		return byte('0' + check)
	}
}
