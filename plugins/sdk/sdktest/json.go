package sdktest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// HasJSON wants every type that a contract's methods take or answer to have a JSON form: each
// field has a name, what is written is read back the same, and nothing else is read.
func HasJSON(t testing.TB, contract reflect.Type) {
	t.Helper()
	seen := map[reflect.Type]bool{}
	for i := range contract.NumMethod() {
		m := contract.Method(i).Type
		for _, of := range []reflect.Type{m.In(m.NumIn() - 1), m.Out(0)} {
			if of.Kind() != reflect.Pointer || seen[of.Elem()] {
				continue
			}
			seen[of.Elem()] = true
			hasNames(t, of.Elem())
			for _, pick := range []func(int) int{Full, func(int) int { return 0 }} {
				v := reflect.New(of.Elem())
				Fill(v.Interface(), pick)
				readBack(t, v)
			}
			filled := reflect.New(of.Elem())
			Fill(filled.Interface(), Full)
			altered(t, filled)
		}
	}
}

// hasNames wants a name on each field, however deep.
func hasNames(t testing.TB, of reflect.Type) {
	t.Helper()
	switch of.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		hasNames(t, of.Elem())
	case reflect.Struct:
		if of.PkgPath() == "time" || of.PkgPath() == "github.com/shopspring/decimal" {
			return
		}
		for i := range of.NumField() {
			f := of.Field(i)
			if f.Tag.Get("json") == "" && !f.Anonymous {
				t.Errorf("%s.%s has no name in JSON", of, f.Name)
			}
			hasNames(t, f.Type)
		}
	}
}

func readBack(t testing.TB, v reflect.Value) {
	t.Helper()
	text, err := json.Marshal(v.Interface())
	if err != nil {
		t.Fatal(err)
	}
	got := reflect.New(v.Type().Elem())
	if err := sdk.ReadJSON(text, got.Interface()); err != nil {
		t.Errorf("%s: what was written is not read: %v\n%s", v.Type().Elem(), err, text)
	} else if d := Diff(got.Interface(), v.Interface()); d != "" {
		t.Errorf("%s, read back: %s", v.Type().Elem(), d)
	}
}

// altered reads a form with one thing wrong, at each of its places, and wants the place named.
func altered(t testing.TB, filled reflect.Value) {
	t.Helper()
	text, err := json.Marshal(filled.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	refused := func(what, field string) {
		t.Helper()
		text, err := json.Marshal(whole)
		if err != nil {
			t.Fatal(err)
		}
		FailsAt(t, fmt.Sprintf("%s with %s at %s", filled.Type().Elem(), what, field), sdk.ReadJSON(text, reflect.New(filled.Type().Elem()).Interface()), field)
	}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			member := func(key string) string { return strings.TrimPrefix(path+"."+key, ".") }
			for key := range v {
				if strings.HasPrefix(key, filledText) { // a map, whose keys are anything
					member = func(key string) string { return path + "[" + key + "]" }
				}
			}
			for key, was := range v {
				v[key] = 7.5 // which is no field's form
				refused("a fraction", member(key))
				v[key] = was
				walk(member(key), was)
			}
			v["else"] = 7.5
			refused("what nobody knows", member("else"))
			delete(v, "else")
		case []any:
			for i, was := range v {
				walk(fmt.Sprintf("%s[%d]", path, i), was)
			}
		}
	}
	walk("", whole)
}
