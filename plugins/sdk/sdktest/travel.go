package sdktest

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Fill gives what v points to a value in every field, each of its own. Of n choices, such as
// whether there is anything behind a pointer, pick takes one, the last being the fullest.
func Fill(v any, pick func(n int) int) { (&filler{pick: pick}).fill(reflect.ValueOf(v).Elem()) }

// Full picks the fullest.
func Full(n int) int { return n - 1 }

// filledText is how every text that is filled begins.
const filledText = "ä"

type filler struct {
	pick func(int) int
	n    int64
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case decimal.Decimal:
		v.Set(reflect.ValueOf(decimal.New(f.n-int64(f.pick(2)), -int32(f.pick(19)))))
		return
	case decimal.NullDecimal:
		if f.pick(2) == 1 {
			v.Set(reflect.ValueOf(decimal.NewNullDecimal(decimal.New(f.n, -int32(f.pick(7))))))
		}
		return
	case time.Time:
		if f.pick(2) == 1 {
			v.Set(reflect.ValueOf(time.Unix(f.n, f.n).UTC()))
		}
		return
	case sdk.Class:
		v.SetString(string(sdk.Expired))
		return
	case sdk.Fault:
		v.SetString(string(sdk.FaultProvider))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint(filledText, f.n))
	case reflect.Bool:
		v.SetBool(f.pick(2) == 1)
	case reflect.Int:
		v.SetInt(f.n - int64(f.pick(2)*2))
	case reflect.Int64:
		v.SetInt(f.n * int64(time.Second))
	case reflect.Uint8:
		v.SetUint(uint64(f.n) & 0xff)
	case reflect.Pointer:
		if f.pick(2) == 1 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem())
		}
	case reflect.Slice:
		n := f.pick(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.pick(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(value)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	default:
		panic(fmt.Sprintf("nothing to fill a %s with", v.Type()))
	}
}

// Echo is what stands behind a contract to see what travels: it keeps what was asked and
// answers what it is told to.
type Echo struct {
	Got, Answer any
	Err         error
}

// Hear is what each method of an echo does.
func Hear[Out any](e *Echo, in any) (*Out, error) {
	if e.Got = in; e.Err != nil {
		return nil, e.Err
	}
	return e.Answer.(*Out), nil
}

// Travels calls every method of a contract on a client whose other end is the echo, with
// arguments, answers and errors that are filled, and wants all of it to arrive.
func Travels(t testing.TB, contract reflect.Type, client any, e *Echo, pick func(int) int) {
	t.Helper()
	for i := range contract.NumMethod() {
		m := contract.Method(i)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for j := 1; j < m.Type.NumIn(); j++ {
			arg := reflect.New(m.Type.In(j)).Elem()
			if arg.Kind() == reflect.Pointer {
				arg.Set(reflect.New(arg.Type().Elem()))
				Fill(arg.Interface(), pick)
			} else {
				Fill(arg.Addr().Interface(), pick)
			}
			args = append(args, arg)
		}
		*e = Echo{Answer: &struct{}{}}
		if m.Type.NumOut() == 2 {
			e.Answer = reflect.New(m.Type.Out(0).Elem()).Interface()
			Fill(e.Answer, pick)
		}
		call := func() []reflect.Value { return reflect.ValueOf(client).MethodByName(m.Name).Call(args) }
		out := call()
		if err, _ := out[len(out)-1].Interface().(error); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		if len(args) == 2 {
			if d := Diff(e.Got, args[1].Interface()); d != "" {
				t.Errorf("%s, what was asked: %s", m.Name, d)
			}
		}
		if len(out) == 2 {
			if d := Diff(out[0].Interface(), e.Answer); d != "" {
				t.Errorf("%s, what was answered: %s", m.Name, d)
			}
		}
		want := new(sdk.Error)
		Fill(want, pick)
		e.Err = want
		out = call()
		got, ok := out[len(out)-1].Interface().(*sdk.Error)
		if !ok {
			t.Fatalf("%s: the error is %v", m.Name, out[len(out)-1])
		}
		if d := Diff(got, want); d != "" {
			t.Errorf("%s, the error: %s", m.Name, d)
		}
	}
}
