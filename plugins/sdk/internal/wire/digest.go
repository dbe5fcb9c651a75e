package wire

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/proto"
)

// Digest tells requests apart by what they say, for longer than this program lives: a field
// that is added later and empty does not count, nor does how a number is written. The message
// is an empty one of the request's type.
func Digest(m proto.Message, of any) (string, error) {
	if err := (encoder{sparse: true}).whole(m, of); err != nil {
		return "", refused(err)
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "", refused(err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
