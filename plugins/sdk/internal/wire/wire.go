// Package wire carries the types of the contracts in the messages of their proto files.
//
// It owns the one mapping between them, field by field and by name, and what an error of the
// wire means. It refuses to know any contract. Its invariant: a type and its message have the
// same fields, or nothing is carried at all, so that no field is ever forgotten.
package wire

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/shopspring/decimal"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// fault is a value that cannot be carried, with its path in the message.
type fault struct {
	path string
	err  error
}

func (f *fault) Error() string {
	if f.path == "" {
		return f.err.Error()
	}
	return f.path + ": " + f.err.Error()
}

// within puts the path of an outer field before that of a fault.
func within(field string, err error) error {
	inner, ok := err.(*fault) //nolint:errorlint // made here, never wrapped
	switch {
	case err == nil:
		return nil
	case !ok:
		return &fault{field, err}
	case inner.path == "" || inner.path[0] == '[':
		return &fault{field + inner.path, inner.err}
	}
	return &fault{field + "." + inner.path, inner.err}
}

func at(i any, err error) error { return within(fmt.Sprintf("[%v]", i), err) }

// pair is a type and its message.
type pair struct {
	of      reflect.Type
	message protoreflect.FullName
}

// fields are those of the message in the order of the type.
type fields []protoreflect.FieldDescriptor

var known sync.Map // of fields by pair

// fieldsOf matches a type with its message. That they differ is a fault of this program,
// which every use shows.
func fieldsOf(t reflect.Type, d protoreflect.MessageDescriptor) fields {
	key := pair{t, d.FullName()}
	if f, ok := known.Load(key); ok {
		return f.(fields)
	}
	byName := map[string]protoreflect.FieldDescriptor{}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		byName[strings.ReplaceAll(string(f.Name()), "_", "")] = f
	}
	out := make(fields, t.NumField())
	for i := range out {
		name := strings.ToLower(t.Field(i).Name)
		if out[i] = byName[name]; out[i] == nil {
			panic(fmt.Sprintf("%s.%s has no field in %s", t, t.Field(i).Name, d.FullName()))
		}
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag != "" && tag != out[i].JSONName() {
			panic(fmt.Sprintf("%s.%s is %s in JSON, and %s in %s", t, t.Field(i).Name, tag, out[i].JSONName(), d.FullName()))
		}
		delete(byName, name)
	}
	for name := range byName {
		panic(fmt.Sprintf("%s.%s has no field in %s", d.FullName(), name, t))
	}
	known.Store(key, out)
	return out
}

// The types that are not carried as what they are made of.
var (
	decimalType  = reflect.TypeFor[decimal.Decimal]()
	nullType     = reflect.TypeFor[decimal.NullDecimal]()
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[sdk.Span]()
	errorType    = reflect.TypeFor[sdk.Error]()
	providerType = reflect.TypeFor[sdk.Provider]()
)

// Encode fills an empty message from a struct, or a pointer to one, of the same fields.
func Encode(m proto.Message, from any) error { return encoder{}.whole(m, from) }

// encoder fills messages.
type encoder struct {
	sparse bool // for a digest: what is empty is left out, and decimals have no zeros at their end
}

func (e encoder) whole(m proto.Message, from any) error {
	v := reflect.ValueOf(from)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	return e.encode(m.ProtoReflect(), v)
}

func (e encoder) encode(m protoreflect.Message, v reflect.Value) error {
	if v.Type() == errorType {
		fault := v.Interface().(sdk.Error)
		v = reflect.ValueOf(*fault.Bounded())
	}
	for i, f := range fieldsOf(v.Type(), m.Descriptor()) {
		if err := e.field(m, f, v.Field(i)); err != nil {
			return within(f.JSONName(), err)
		}
	}
	return nil
}

func (e encoder) field(m protoreflect.Message, f protoreflect.FieldDescriptor, v reflect.Value) error {
	switch {
	case f.IsMap():
		if v.Len() > sdk.MaxElements {
			return tooLong(v.Len())
		}
		if v.Len() == 0 {
			return nil
		}
		entries := m.Mutable(f).Map()
		for key, value := range v.Seq2() {
			one, err := e.value(f.MapValue(), value, entries.NewValue)
			if err != nil {
				return at(key, err)
			}
			entries.Set(protoreflect.ValueOfString(text(key.String())).MapKey(), one)
		}
	case f.IsList():
		if v.Len() > sdk.MaxElements {
			return tooLong(v.Len())
		}
		if v.Len() == 0 {
			return nil
		}
		list := m.Mutable(f).List()
		for i := range v.Len() {
			one, err := e.value(f, v.Index(i), list.NewElement)
			if err != nil {
				return at(i, err)
			}
			list.Append(one)
		}
	case e.absent(v):
	default:
		one, err := e.value(f, v, func() protoreflect.Value { return m.NewField(f) })
		if err != nil {
			return err
		}
		m.Set(f, one)
	}
	return nil
}

func tooLong(n int) error {
	return fmt.Errorf("%d are too many, at most %d are carried", n, sdk.MaxElements)
}

// absent tells whether a value is carried by leaving its field out.
func (e encoder) absent(v reflect.Value) bool {
	switch {
	case e.sparse && v.Type() == decimalType:
		return v.Interface().(decimal.Decimal).IsZero()
	case e.sparse && v.Kind() == reflect.Struct && v.IsZero():
		return true
	}
	if v.Type() == decimalType || needed(v.Type()) {
		return false // never left out on the wire
	}
	switch v.Type() {
	case nullType:
		return !v.Interface().(decimal.NullDecimal).Valid
	case timeType:
		return v.Interface().(time.Time).IsZero()
	}
	return v.IsZero()
}

func (e encoder) value(f protoreflect.FieldDescriptor, v reflect.Value, fresh func() protoreflect.Value) (protoreflect.Value, error) {
	switch v.Type() {
	case decimalType:
		s, err := e.decimal(v.Interface().(decimal.Decimal))
		return protoreflect.ValueOfString(s), err
	case nullType:
		s, err := e.decimal(v.Interface().(decimal.NullDecimal).Decimal)
		return protoreflect.ValueOfString(s), err
	case timeType:
		stamp := timestamppb.New(v.Interface().(time.Time))
		return protoreflect.ValueOfMessage(stamp.ProtoReflect()), stamp.CheckValid()
	case durationType:
		return protoreflect.ValueOfMessage(durationpb.New(time.Duration(v.Int())).ProtoReflect()), nil
	}
	switch v.Kind() {
	case reflect.String:
		return protoreflect.ValueOfString(text(v.String())), nil
	case reflect.Bool:
		return protoreflect.ValueOfBool(v.Bool()), nil
	case reflect.Int:
		if n := v.Int(); int64(int32(n)) != n {
			return protoreflect.Value{}, fmt.Errorf("%d is too large", n)
		}
		return protoreflect.ValueOfInt32(int32(v.Int())), nil
	case reflect.Slice: // of bytes, or the numbers of a range, which are a message of one list
		if f.Kind() == protoreflect.BytesKind {
			return protoreflect.ValueOfBytes(v.Bytes()), nil
		}
		out := fresh()
		return out, e.field(out.Message(), f.Message().Fields().Get(0), v)
	case reflect.Pointer:
		v = v.Elem()
	}
	out := fresh()
	return out, e.encode(out.Message(), v)
}

// text is what a message can hold: one that is not UTF-8 would fail as a whole, after what it
// tells of was done.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
