package wire

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Decode fills what into points to, a zero struct, from a message of the same fields.
func Decode(into any, m proto.Message) error {
	return decode(reflect.ValueOf(into).Elem(), m.ProtoReflect())
}

func decode(v reflect.Value, m protoreflect.Message) error {
	for i, f := range fieldsOf(v.Type(), m.Descriptor()) {
		if err := decodeField(v.Field(i), m, f); err != nil {
			return within(f.JSONName(), err)
		}
	}
	if v.Type() == errorType {
		e := v.Interface().(sdk.Error)
		v.Set(reflect.ValueOf(*e.Bounded()))
	}
	return nil
}

func decodeField(v reflect.Value, m protoreflect.Message, f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsMap():
		return decodeMap(v, m.Get(f).Map(), f)
	case f.IsList():
		list := m.Get(f).List()
		if list.Len() > sdk.MaxElements {
			return tooLong(list.Len())
		}
		if list.Len() == 0 {
			return nil
		}
		v.Set(reflect.MakeSlice(v.Type(), list.Len(), list.Len()))
		for i := range list.Len() {
			if err := decodeValue(v.Index(i), list.Get(i), f); err != nil {
				return at(i, err)
			}
		}
		return nil
	case !m.Has(f) && v.Type() == decimalType, !m.Has(f) && needed(v.Type()):
		return errors.New("it is missing") // which is not zero: somebody forgot it
	case !m.Has(f):
		return nil
	}
	return decodeValue(v, m.Get(f), f)
}

// needed tells whether the field of a message must be set. One that may be left out is a
// pointer, a time, or the provider's word in an error.
func needed(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != nullType && t != timeType && t != providerType
}

func decodeMap(v reflect.Value, entries protoreflect.Map, f protoreflect.FieldDescriptor) error {
	if entries.Len() > sdk.MaxElements {
		return tooLong(entries.Len())
	}
	if entries.Len() == 0 {
		return nil
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), entries.Len()))
	var failed error
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		one := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(one, value, f.MapValue()); err != nil {
			failed = at(key.String(), err)
			return false
		}
		v.SetMapIndex(reflect.ValueOf(key.String()), one)
		return true
	})
	return failed
}

func decodeValue(v reflect.Value, value protoreflect.Value, f protoreflect.FieldDescriptor) error {
	switch v.Type() {
	case decimalType:
		d, err := sdk.ParseDecimal(value.String())
		v.Set(reflect.ValueOf(d))
		return err
	case nullType:
		d, err := sdk.ParseDecimal(value.String())
		v.Set(reflect.ValueOf(decimal.NewNullDecimal(d)))
		return err
	case timeType:
		stamp := value.Message().Interface().(*timestamppb.Timestamp)
		if err := stamp.CheckValid(); err != nil {
			return fmt.Errorf("no time that can be: %d s and %d ns since 1970", stamp.GetSeconds(), stamp.GetNanos())
		}
		v.Set(reflect.ValueOf(stamp.AsTime()))
		return nil
	case durationType:
		span := value.Message().Interface().(*durationpb.Duration)
		if err := span.CheckValid(); err != nil {
			return fmt.Errorf("no duration that can be: %d s and %d ns", span.GetSeconds(), span.GetNanos())
		}
		v.SetInt(int64(span.AsDuration()))
		return nil
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(value.String())
	case reflect.Bool:
		v.SetBool(value.Bool())
	case reflect.Int:
		v.SetInt(value.Int())
	case reflect.Slice:
		if f.Kind() == protoreflect.BytesKind {
			v.SetBytes(value.Bytes())
			return nil
		}
		return decodeField(v, value.Message(), f.Message().Fields().Get(0))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decode(v.Elem(), value.Message())
	default:
		return decode(v, value.Message())
	}
	return nil
}
