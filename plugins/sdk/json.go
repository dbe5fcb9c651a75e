package sdk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// MaxElements is the length of the longest list or map that is carried. Empty elements take
// two bytes each, so the size of a message bounds little.
const MaxElements = 10_000

// ReadJSON reads a type of the contracts, which into points to, as a site's API takes it: no
// field that is not known or is there twice, none missing that is always written, decimals as
// text. What is wrong is an error of class Validation at its path. Whoever reads the text
// bounds its size; it is written with encoding/json.
func ReadJSON(text []byte, into any) error {
	r := &jsonReader{json.NewDecoder(bytes.NewReader(text))}
	r.in.UseNumber()
	err := r.value(reflect.ValueOf(into).Elem())
	if err == nil {
		if _, more := r.in.Token(); !errors.Is(more, io.EOF) {
			err = wrong("there is more behind the end")
		}
	}
	if err != nil {
		return err.Bounded()
	}
	return nil
}

type jsonReader struct{ in *json.Decoder }

func wrong(format string, args ...any) *Error { return Errorf(Validation, format, args...) }

// inside puts a name or an index before the path of an error.
func (e *Error) inside(part string) *Error {
	switch {
	case e == nil:
		return nil
	case e.Field == "" || e.Field[0] == '[':
		return e.At(part + e.Field)
	}
	return e.At(part + "." + e.Field)
}

func (r *jsonReader) token() (json.Token, *Error) {
	t, err := r.in.Token()
	if err != nil {
		return nil, wrong("no JSON: %v", err)
	}
	return t, nil
}

func (r *jsonReader) value(v reflect.Value) *Error {
	t, err := r.token()
	if err != nil {
		return err
	}
	return r.is(v, t)
}

// is fills a value that begins with a token.
func (r *jsonReader) is(v reflect.Value, t json.Token) *Error {
	switch into := v.Addr().Interface().(type) {
	case *decimal.Decimal:
		return ofText(t, "a decimal as text such as \"12.50\"", func(s string) (err error) { *into, err = ParseDecimal(s); return err })
	case *decimal.NullDecimal:
		if t == nil {
			return nil
		}
		into.Valid = true
		return r.is(v.FieldByName("Decimal"), t)
	case *time.Time:
		return ofText(t, "a time such as 2026-01-31T15:04:05Z", func(s string) error { return into.UnmarshalText([]byte(s)) })
	case *Span:
		return ofText(t, "a time that passes, such as 90s", func(s string) error { return into.UnmarshalText([]byte(s)) })
	case *[]byte:
		return ofText(t, "base64", func(s string) (err error) { *into, err = base64.StdEncoding.Strict().DecodeString(s); return err })
	}
	switch v.Kind() {
	case reflect.String:
		return ofText(t, "text", func(s string) error { v.SetString(s); return nil })
	case reflect.Bool:
		b, ok := t.(bool)
		if !ok {
			return wrong("want true or false, got %s", shown(t))
		}
		v.SetBool(b)
	case reflect.Int:
		number, _ := t.(json.Number)
		n, err := strconv.ParseInt(number.String(), 10, 32)
		if err != nil {
			return wrong("want a whole number of 32 bits, got %s", shown(t))
		}
		v.SetInt(n)
	case reflect.Pointer:
		if t == nil {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return r.is(v.Elem(), t)
	case reflect.Slice:
		return r.list(v, t)
	default:
		return r.object(v, t)
	}
	return nil
}

func ofText(t json.Token, what string, read func(string) error) *Error {
	s, ok := t.(string)
	if !ok || read(s) != nil {
		return wrong("want %s, got %s", what, shown(t))
	}
	return nil
}

// shown is a token in an error.
func shown(t json.Token) string {
	switch t := t.(type) {
	case nil:
		return "null"
	case json.Delim:
		return map[json.Delim]string{'{': "an object", '[': "a list"}[t]
	case string:
		return fmt.Sprintf("%.48q", t)
	}
	return fmt.Sprintf("%.48v", t)
}

func (r *jsonReader) list(v reflect.Value, t json.Token) *Error {
	if t != json.Delim('[') {
		return wrong("want a list, got %s", shown(t))
	}
	for r.in.More() {
		if v.Len() == MaxElements {
			return wrong("more than %d are too many", MaxElements)
		}
		one := reflect.New(v.Type().Elem()).Elem()
		if err := r.value(one); err != nil {
			return err.inside(fmt.Sprintf("[%d]", v.Len()))
		}
		v.Set(reflect.Append(v, one))
	}
	_, err := r.token()
	return err
}

// object fills a map or a struct.
func (r *jsonReader) object(v reflect.Value, t json.Token) *Error {
	if t != json.Delim('{') {
		return wrong("want an object, got %s", shown(t))
	}
	fields := map[string]reflect.Value{}
	var required []string
	if v.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
	} else {
		required = jsonFields(v, fields)
	}
	seen := map[string]bool{}
	for r.in.More() {
		t, err := r.token()
		if err != nil {
			return err
		}
		name := t.(string) // or there would have been an error
		if seen[name] {
			return wrong("it is there twice").At(name)
		}
		if seen[name] = true; len(seen) > MaxElements {
			return wrong("more than %d are too many", MaxElements)
		}
		if v.Kind() == reflect.Map {
			one := reflect.New(v.Type().Elem()).Elem()
			if err := r.value(one); err != nil {
				return err.inside("[" + name + "]")
			}
			v.SetMapIndex(reflect.ValueOf(name), one)
			continue
		}
		into, known := fields[name]
		if !known {
			return wrong("nobody knows this field").At(name)
		}
		if err := r.value(into); err != nil {
			return err.inside(name)
		}
	}
	for _, name := range required {
		if !seen[name] {
			return wrong("it is missing").At(name)
		}
	}
	_, err := r.token()
	return err
}

// jsonFields finds the fields of a struct by their names, and tells which are always written.
func jsonFields(v reflect.Value, fields map[string]reflect.Value) (required []string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			required = append(required, jsonFields(v.Field(i), fields)...)
			continue
		}
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		fields[name] = v.Field(i)
		if option == "" && f.Type != reflect.TypeFor[decimal.NullDecimal]() {
			required = append(required, name)
		}
	}
	return required
}
