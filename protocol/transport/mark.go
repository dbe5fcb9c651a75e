package transport

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// SessionHeader names, on every call of a session after its hello, the session that the
// call belongs to. A call without it belongs to none in particular.
const SessionHeader = "Crossdock-Session"

// Mark is a session as its agent counts it. Two copies of an agent may come to the same
// number, but not to the same nonce.
type Mark struct {
	Epoch  uint64
	Number uint64
	Nonce  [16]byte
}

// String is the value of SessionHeader.
func (m Mark) String() string {
	return strconv.FormatUint(m.Epoch, 10) + "." + strconv.FormatUint(m.Number, 10) + "." + hex.EncodeToString(m.Nonce[:])
}

// ParseMark reads the value of SessionHeader.
func ParseMark(text string) (m Mark, err error) {
	parts := strings.Split(text, ".")
	if len(parts) == 3 && len(parts[2]) == hex.EncodedLen(len(m.Nonce)) {
		var failed [3]error
		m.Epoch, failed[0] = strconv.ParseUint(parts[0], 10, 64)
		m.Number, failed[1] = strconv.ParseUint(parts[1], 10, 64)
		_, failed[2] = hex.Decode(m.Nonce[:], []byte(parts[2]))
		if failed == [3]error{} {
			return m, nil
		}
	}
	return Mark{}, fmt.Errorf("%s is not <epoch>.<number>.<nonce>", SessionHeader)
}
