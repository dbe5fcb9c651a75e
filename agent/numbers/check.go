package numbers

import (
	"fmt"

	"github.com/crossdock/crossdock/plugins/sdk/checkdigit"
	"github.com/crossdock/crossdock/protocol/serial"
)

// Text is a number as it is printed.
func Text(form serial.Form, n uint64) (string, error) {
	body, over := form.Body(n), checkdigit.Mod10
	switch form.Check {
	case serial.CheckNone:
		return body + form.Trail, nil
	case serial.CheckS10:
		over = func(body string) (byte, error) { return checkdigit.S10Digit(body[len(form.Lead):]) }
	}
	digit, err := over(body)
	if err != nil {
		return "", fmt.Errorf("numbers: %w", err) // the policy has refused such a form
	}
	return body + string(digit) + form.Trail, nil
}
