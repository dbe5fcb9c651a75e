package peer

import (
	"strings"
	"sync"

	"github.com/fxamacker/cbor/v2"
)

const (
	maxElements = 64 << 10
	maxText     = 2 << 10 // of another node's refusal
)

// codec makes the decoder once. A key that is not known is passed over: the other node may
// be of a newer version.
var codec = sync.OnceValue(func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 16, MaxArrayElements: maxElements, MaxMapPairs: 1024,
	}.DecMode()
	if err != nil {
		panic(err) // options are constants
	}
	return mode
})

var encoder = sync.OnceValue(func() cbor.EncMode {
	mode, err := cbor.EncOptions{Time: cbor.TimeRFC3339NanoUTC}.EncMode()
	if err != nil {
		panic(err) // options are constants
	}
	return mode
})

func encode(v any) ([]byte, error)    { return encoder().Marshal(v) }
func decode(text []byte, v any) error { return codec().Unmarshal(text, v) }

// clipText bounds what another node says before it is shown.
func clipText(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
	}
	return strings.ToValidUTF8(s, "?")
}
