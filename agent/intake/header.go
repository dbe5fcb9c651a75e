package intake

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/crossdock/crossdock/protocol/event"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", event.ErrInvalid, fmt.Sprintf(format, args...))
}

// decodeHeader undoes what the CloudEvents HTTP binding does to an attribute's value:
// quotes around the whole value, then percent-encoding, once. Characters beyond ASCII
// that stand there as plain UTF-8 are taken, as several SDKs do not encode them; a lone
// percent sign is not, for nobody can tell what it was.
func decodeHeader(value string) (string, error) {
	if strings.HasPrefix(value, `"`) {
		var err error
		if value, err = unquote(value); err != nil {
			return "", err
		}
	}
	if strings.Contains(value, "%") {
		out := make([]byte, 0, len(value))
		for i := 0; i < len(value); i++ {
			if value[i] != '%' {
				out = append(out, value[i])
				continue
			}
			if i+2 >= len(value) {
				return "", errors.New("a percent sign must be sent as %25")
			}
			high, low := hex(value[i+1]), hex(value[i+2])
			if high < 0 || low < 0 {
				return "", errors.New("a percent sign must be sent as %25")
			}
			out = append(out, byte(high<<4|low))
			i += 2
		}
		value = string(out)
	}
	if !utf8.ValidString(value) {
		return "", errors.New("not UTF-8")
	}
	return value, nil
}

func unquote(value string) (string, error) {
	out := make([]byte, 0, len(value))
	for i := 1; i < len(value); i++ {
		switch c := value[i]; c {
		case '\\':
			if i++; i == len(value) {
				return "", errors.New("quotes are not closed")
			}
			out = append(out, value[i])
		case '"':
			if i != len(value)-1 {
				return "", errors.New("something follows the quotes")
			}
			return string(out), nil
		default:
			out = append(out, c)
		}
	}
	return "", errors.New("quotes are not closed")
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
