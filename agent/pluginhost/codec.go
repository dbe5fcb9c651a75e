package pluginhost

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Limits of one answer. Its size bounds little: an empty message of a list takes two bytes of it,
// and a hundred times that in memory.
const (
	maxElements = 50_000 // messages, and elements of lists and maps, in all
	maxNesting  = 32
)

var errElements = fmt.Errorf("the answer has more than %d elements in its lists", maxElements)

// counting is a codec that looks at what an answer would become before it makes it.
type counting struct{ encoding.CodecV2 }

// Unmarshal refuses what would take too much memory.
func (c counting) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(proto.Message); ok {
		whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer whole.Free()
		left := maxElements
		if err := count(whole.ReadOnlyData(), m.ProtoReflect().Descriptor(), &left, maxNesting); err != nil {
			return err
		}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// count takes what an encoded message holds off what is left.
func count(b []byte, d protoreflect.MessageDescriptor, left *int, depth int) error {
	if depth == 0 {
		return fmt.Errorf("the answer is nested deeper than %d", maxNesting)
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, b[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		value := b[n : n+size]
		b = b[n+size:]
		field := d.Fields().ByNumber(number)
		if field == nil { // what is not known stays as it is
			continue
		}
		if field.IsList() || field.IsMap() || field.Message() != nil {
			if *left--; *left < 0 {
				return errElements
			}
		}
		if field.Message() == nil || kind != protowire.BytesType {
			continue
		}
		inner, n := protowire.ConsumeBytes(value)
		if n < 0 {
			return errors.New("the answer is cut short")
		}
		if err := count(inner, field.Message(), left, depth-1); err != nil {
			return err
		}
	}
	return nil
}
