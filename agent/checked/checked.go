// Package checked owns the form of a value in a bbolt file: JSON behind a checksum over its
// bucket, its key and its content. bbolt does not notice a bit that has turned, nor a value
// that stands under another key.
//
// It stands alone because calls and numbers keep theirs in the same form. It refuses to know
// what values mean and where they are kept. Its invariant: what Decode gives is what Encode was
// given, for that bucket and key, or an error.
package checked

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrDamaged is what Decode answers for a value that is not as it was written.
var ErrDamaged = errors.New("checksum")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(bucket, k, body []byte) uint32 {
	return crc32.Update(crc32.Update(crc32.Checksum(bucket, castagnoli), castagnoli, k), castagnoli, body)
}

// Encode gives what is to be kept under a key.
func Encode(bucket, k []byte, value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32(nil, sum(bucket, k, body)), body...), nil
}

// Decode reads what was kept under a key.
func Decode(bucket, k, kept []byte, out any) error {
	if len(kept) < 4 || sum(bucket, k, kept[4:]) != binary.BigEndian.Uint32(kept) {
		return fmt.Errorf("%s %q: %w", bucket, k, ErrDamaged)
	}
	return json.Unmarshal(kept[4:], out)
}
