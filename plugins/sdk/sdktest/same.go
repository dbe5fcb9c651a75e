package sdktest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Diff tells where two values differ, or "" when they are the same: decimals and times by
// value, an empty list or map as none.
func Diff(a, b any) string {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if va.Type() != vb.Type() {
		return fmt.Sprintf("%s is no %s", va.Type(), vb.Type())
	}
	return diff(va.Type().String(), va, vb)
}

func diff(path string, a, b reflect.Value) string {
	differ := func() string { return fmt.Sprintf("%s: %v is not %v", path, a, b) }
	switch x := a.Interface().(type) {
	case decimal.Decimal:
		if !x.Equal(b.Interface().(decimal.Decimal)) {
			return differ()
		}
		return ""
	case time.Time:
		if !x.Equal(b.Interface().(time.Time)) {
			return differ()
		}
		return ""
	}
	switch a.Kind() {
	case reflect.Pointer:
		switch {
		case a.IsNil() && b.IsNil():
			return ""
		case a.IsNil() || b.IsNil():
			return differ()
		}
		return diff(path, a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			if d := diff(path+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Slice:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d are not %d", path, a.Len(), b.Len())
		}
		for i := range a.Len() {
			if d := diff(fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Map:
		if a.Len() != b.Len() {
			return fmt.Sprintf("%s: %d are not %d", path, a.Len(), b.Len())
		}
		for key, value := range a.Seq2() {
			other := b.MapIndex(key)
			if !other.IsValid() {
				return fmt.Sprintf("%s[%v] is missing", path, key)
			}
			if d := diff(fmt.Sprintf("%s[%v]", path, key), value, other); d != "" {
				return d
			}
		}
		return ""
	}
	if !a.Equal(b) {
		return differ()
	}
	return ""
}

// Fails wants an error of one of the classes, made as errors are.
func Fails(t testing.TB, what string, err error, classes ...sdk.Class) {
	t.Helper()
	if e := coded(t, what, err); !slices.Contains(classes, e.Class) {
		t.Fatalf("%s: class %s, want %s: %v", what, e.Class, join(classes), e)
	}
}

// FailsAt wants an error of class Validation that names a field, or one within it.
func FailsAt(t testing.TB, what string, err error, field string) {
	t.Helper()
	Fails(t, what, err, sdk.Validation)
	e := sdk.AsError(err)
	if rest, ok := strings.CutPrefix(e.Field, field); !ok || rest != "" && rest[0] != '.' && rest[0] != '[' {
		t.Fatalf("%s: the error is at field %q, want %q: %v", what, e.Field, field, e)
	}
}

// coded wants an error of the kind that plugins give: of a known class, that says who has to
// do something and what is wrong.
func coded(t testing.TB, what string, err error) *sdk.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("%s: it went well, want an error", what)
	}
	e, ok := err.(*sdk.Error) //nolint:errorlint // the contract says which type it is
	switch {
	case !ok:
		t.Fatalf("%s: the error is a %T, want *sdk.Error: %v", what, err, err)
	case !e.Class.Known():
		t.Fatalf("%s: nobody knows the class %q: %v", what, e.Class, e)
	case e.Message == "" || e.Fault == "":
		t.Fatalf("%s: an error needs a message and a fault: %+v", what, e)
	case e.Class == sdk.Validation && e.Field == "":
		t.Fatalf("%s: an error of class validation needs a field: %v", what, e)
	}
	return e
}

func join(classes []sdk.Class) string {
	out := make([]string, len(classes))
	for i, c := range classes {
		out[i] = string(c)
	}
	return strings.Join(out, " or ")
}
