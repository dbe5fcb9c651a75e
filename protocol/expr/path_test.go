package expr

import (
	"slices"
	"testing"
)

func TestPath(t *testing.T) {
	for source, want := range map[string][]string{
		".orderId": {"orderId"}, ".a.b": {"a", "b"}, `."a-b".c`: {"a-b", "c"}, `."a"."b"`: {"a", "b"},
		".": nil, ".a[0]": nil, ".a[]": nil, ".a?": nil, ".a[.b]": nil, ".a | .b": nil, ".a + .b": nil, ".a // .b": nil, `."a\(.b)"`: nil, "length": nil,
		"def f: .a; .b": nil, ".a[1:2]": nil, "1": nil, `.["a"]`: nil,
	} {
		e, err := Compile(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if got, plain := e.Path(); !slices.Equal(got, want) || plain != (want != nil) {
			t.Errorf("%s: got %q, %t, want %q", source, got, plain, want)
		}
	}
}
