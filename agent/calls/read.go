package calls

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/protocol/strictjson"
)

var (
	decimalType     = reflect.TypeFor[decimal.Decimal]()
	nullDecimalType = reflect.TypeFor[decimal.NullDecimal]()
	timeType        = reflect.TypeFor[time.Time]()
	spanType        = reflect.TypeFor[sdk.Span]()
	bytesType       = reflect.TypeFor[[]byte]()
)

// maxDecimal is the length of a decimal number: 18 digits before the point and 18 behind it.
const maxDecimal = 38

// read reads a request by the names of the contract, to the letter: encoding/json would take
// names in any case, a number where an amount is text, and null for zero.
func read(body []byte, into any) error {
	value, ok := strictjson.Decode(body, maxDepth)
	if !ok {
		return refuse(Invalid, "the request is no JSON that is taken here: UTF-8, no member twice, at most %d levels deep", maxDepth)
	}
	if place, want := fits(value, reflect.TypeOf(into).Elem(), ""); want != "" {
		e := refuse(Invalid, "%s", want)
		e.Field = strings.TrimPrefix(place, ".")
		return e
	}
	if err := json.Unmarshal(body, into); err != nil {
		return refuse(Invalid, "the request cannot be read: %v", err)
	}
	return nil
}

// fits says where a value is not one of a type, and what is wanted there.
func fits(value any, t reflect.Type, at string) (place, want string) {
	switch {
	case t.Kind() == reflect.Pointer && value == nil, t == nullDecimalType && value == nil:
		return "", ""
	case t.Kind() == reflect.Pointer:
		return fits(value, t.Elem(), at)
	case t == decimalType || t == nullDecimalType:
		text, is := value.(string)
		if _, err := decimal.NewFromString(text); !is || err != nil || len(text) > maxDecimal || strings.ContainsAny(text, "eE") {
			return at, `is a decimal number as text, such as "12.50"`
		}
		return "", ""
	case t == timeType, t == spanType, t == bytesType:
		text, is := value.(string)
		if _, err := base64.StdEncoding.DecodeString(text); !is || t == bytesType && err != nil {
			return at, "is text"
		}
		return "", ""
	}
	switch t.Kind() {
	case reflect.Struct:
		return fitsStruct(value, t, at)
	case reflect.Slice:
		list, is := value.([]any)
		if !is {
			return at, "is an array"
		}
		for i, one := range list {
			if place, want = fits(one, t.Elem(), fmt.Sprintf("%s[%d]", at, i)); want != "" {
				return place, want
			}
		}
	case reflect.Map:
		object, is := value.(map[string]any)
		if !is {
			return at, "is an object"
		}
		for name, one := range object {
			if place, want = fits(one, t.Elem(), at+"."+name); want != "" {
				return place, want
			}
		}
	case reflect.String:
		if _, is := value.(string); !is {
			return at, "is text"
		}
	case reflect.Bool:
		if _, is := value.(bool); !is {
			return at, "is true or false"
		}
	default:
		if _, is := value.(json.Number); !is {
			return at, "is a number"
		}
	}
	return "", ""
}

func fitsStruct(value any, t reflect.Type, at string) (place, want string) {
	object, is := value.(map[string]any)
	if !is {
		return at, "is an object"
	}
	known := map[string]reflect.Type{}
	for _, f := range reflect.VisibleFields(t) {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			known[name] = f.Type
		}
	}
	for name, one := range object {
		field := known[name]
		if field == nil {
			return at + "." + name, "is no field of the contract"
		}
		if place, want = fits(one, field, at+"."+name); want != "" {
			return place, want
		}
	}
	return "", ""
}
