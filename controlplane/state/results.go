package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The kinds of results, as nodes send them to each other. Nodes of two versions may run
// side by side during an upgrade, so these numbers stay as well.
const (
	resultNone byte = 1 + iota
	resultError
	resultEnroll
	resultRenew
	resultRevision
	resultPush
	resultGreet
	resultNewEpoch
	resultBehind
	resultAuthority
	resultNumbers
	resultsEnd
)

type resultKind struct {
	of   reflect.Type
	make func() any
}

func resultFor[R any]() resultKind {
	return resultKind{reflect.TypeFor[*R](), func() any { return new(R) }}
}

var results = [resultsEnd]resultKind{
	resultEnroll:    resultFor[model.EnrollResult](),
	resultAuthority: resultFor[model.Authority](),
	resultRenew:     resultFor[model.RenewResult](),
	resultRevision:  resultFor[model.Revision](),
	resultPush:      resultFor[model.PushResult](),
	resultGreet:     resultFor[model.GreetResult](),
	resultNewEpoch:  resultFor[model.NewEpochResult](),
	resultBehind:    resultFor[model.BehindResult](),
	resultNumbers:   resultFor[model.NumberBlock](),
}

// ErrResult marks an encoded result that is not what was written.
var ErrResult = errors.New("damaged result")

// EncodeResult writes the result of a command, so that the node that forwarded it gets the
// same value as the one that applied it.
func EncodeResult(value any, err *model.Error) ([]byte, error) {
	if err != nil {
		return frame(resultError, err)
	}
	if value == nil {
		return frame(resultNone, nil)
	}
	of := reflect.TypeOf(value)
	for number := range results {
		if results[number].of != nil && results[number].of == of && !reflect.ValueOf(value).IsNil() {
			return frame(byte(number), value)
		}
	}
	return nil, fmt.Errorf("encode result: %T has no kind", value)
}

// DecodeResult reads what EncodeResult has written: the command's value or refusal. An
// error of its own is ErrResult, and then nothing is known of the command.
func DecodeResult(text []byte) (value any, cmdErr *model.Error, err error) {
	switch {
	case len(text) < frameHead || len(text) > MaxCommand+frameHead:
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrResult, len(text))
	case text[0] == 0 || text[0] >= resultsEnd || text[1] != version:
		return nil, nil, fmt.Errorf("%w: kind %d, version %d is unknown to this program", ErrResult, text[0], text[1])
	case crc32.Checksum(text[frameHead:], castagnoli) != binary.BigEndian.Uint32(text[2:]):
		return nil, nil, fmt.Errorf("%w: checksum", ErrResult)
	}
	body := text[frameHead:]
	switch text[0] {
	case resultNone:
		return nil, nil, nil
	case resultError:
		value = &model.Error{}
	default:
		value = results[text[0]].make()
	}
	if err := codec().dec.Unmarshal(body, value); err != nil {
		return nil, nil, fmt.Errorf("%w: kind %d: %w", ErrResult, text[0], err)
	}
	if refusal, ok := value.(*model.Error); ok {
		return nil, refusal, nil
	}
	return value, nil, nil
}
