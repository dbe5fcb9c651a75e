package expr

import (
	"reflect"
	"testing"
)

// FuzzDecode: the one pass takes what the steps take, refuses what they refuse, and gives
// the same.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"a":[1,2.50,{"b":null}]}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, "\"\xff\"", `"\ud800"`, `[1e308,1e309]`, `1 2`,
		`{"a:b":"c:d\":","e":{"a:b":1}}`, `[[[[`, ` {} `,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := Decode(text)
		want, wantErr := decodeInSteps(text)
		if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %#v, %v, want %#v, %v", text, got, err, want, wantErr)
		}
	})
}
