package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/fxamacker/cbor/v2"

	"github.com/crossdock/crossdock/controlplane/model"
)

// MaxCommand bounds one encoded command, and one encoded result.
const MaxCommand = 2 << 20

// version is that of the commands' encoding. A node that meets a newer one must stop:
// passing it over would leave it with other rows than the rest.
const version = 1

// frameHead is what stands before the CBOR of a command or a result.
const frameHead = 6

// ErrFatal marks what no node can go on from: a command that it does not understand, a
// damaged row, a write that failed. The process has to end.
var ErrFatal = errors.New("the state cannot go on")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type codecs struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

// codec makes the two modes once. Text is not checked for UTF-8: what one node has encoded
// every node must be able to decode, whatever an agent wrote into a name.
var codec = sync.OnceValue(func() codecs {
	options := cbor.CoreDetEncOptions()
	options.Time = cbor.TimeRFC3339NanoUTC
	options.TextMarshaler = cbor.TextMarshalerNone
	enc, err := options.EncMode()
	if err != nil {
		panic(err) // options are constants
	}
	dec, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		UTF8:              cbor.UTF8DecodeInvalid,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		MaxNestedLevels:   16,
		MaxArrayElements:  MaxCommand,
		MaxMapPairs:       1024,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return codecs{enc, dec}
})

// frame puts kind, version and the CRC-32C of the rest before a value's CBOR.
func frame(kind byte, value any) ([]byte, error) {
	body, err := codec().enc.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", value, err)
	}
	out := make([]byte, frameHead, frameHead+len(body))
	out[0], out[1] = kind, version
	binary.BigEndian.PutUint32(out[2:], crc32.Checksum(body, castagnoli))
	return append(out, body...), nil
}

// Encode writes a command: kind, version, CRC-32C of the rest, CBOR. The log below does
// not check what it reads back, so every command brings its own checksum.
func Encode(cmd model.Command) ([]byte, error) {
	kind, err := kindOf(cmd)
	if err != nil {
		return nil, err
	}
	out, err := frame(kind, cmd)
	if err != nil {
		return nil, err
	}
	if size := len(out) - frameHead; size > MaxCommand {
		return nil, model.Errorf(model.TooLarge, "the command has %d bytes, the limit is %d", size, MaxCommand)
	}
	return out, nil
}

// Decode reads a command. Any error is for the process to end with.
func Decode(text []byte) (model.Command, error) {
	if len(text) < frameHead {
		return nil, fmt.Errorf("%w: a command of %d bytes", ErrFatal, len(text))
	}
	cmd := newCommand(text[0])
	if cmd == nil || text[1] != version {
		return nil, fmt.Errorf("%w: command of kind %d, version %d is unknown to this program; install the newer one", ErrFatal, text[0], text[1])
	}
	if crc32.Checksum(text[frameHead:], castagnoli) != binary.BigEndian.Uint32(text[2:]) {
		return nil, fmt.Errorf("%w: checksum of a command of kind %d", ErrFatal, text[0])
	}
	if err := codec().dec.Unmarshal(text[frameHead:], cmd); err != nil {
		return nil, fmt.Errorf("%w: command of kind %d: %w", ErrFatal, text[0], err)
	}
	return cmd, nil
}

// AppendToEntry adds an encoded command to an entry of the log. An entry carries the
// commands of many, so that one write to disk serves them all.
func AppendToEntry(entry, command []byte) []byte {
	entry = binary.AppendUvarint(entry, uint64(len(command)))
	return append(entry, command...)
}

func splitEntry(entry []byte) ([][]byte, error) {
	var out [][]byte
	for len(entry) > 0 {
		size, n := binary.Uvarint(entry)
		if n <= 0 || size > uint64(len(entry)-n) {
			return nil, fmt.Errorf("%w: an entry is cut short", ErrFatal)
		}
		out = append(out, entry[n:n+int(size)])
		entry = entry[n+int(size):]
	}
	return out, nil
}

// A row is its CBOR behind a CRC-32C over key and CBOR, since bbolt does not notice when
// a bit on the disk has turned.
func appendRow(key []byte, row any) ([]byte, error) {
	body, err := codec().enc.Marshal(row)
	if err != nil {
		return nil, err
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), sum), body...), nil
}

// parseRow reads a row. Unknown fields are an error here as well: a file that a newer
// program has written is not for an older one.
func parseRow(key, value []byte, row any) error {
	if len(value) < 4 {
		return errors.New("cut short")
	}
	if !intact(key, value) {
		return errors.New("checksum")
	}
	return codec().dec.Unmarshal(value[4:], row)
}

// intact reports whether a row is what was written.
func intact(key, value []byte) bool {
	return len(value) >= 4 &&
		crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[4:]) == binary.BigEndian.Uint32(value)
}
