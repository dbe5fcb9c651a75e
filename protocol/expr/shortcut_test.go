package expr

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lazy is Members of a map, and counts how often it was wanted whole.
type lazy struct {
	members map[string]any
	wholes  int
}

func (l *lazy) Member(name string) any { return l.members[name] }

func (l *lazy) Object() map[string]any {
	l.wholes++
	return l.members
}

// asMachine compares an expression's result with what the machine alone gives.
func asMachine(t interface{ Fatalf(string, ...any) }, source string, input any) (plain bool) {
	e, err := Compile(source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	want, wantErr := e.run(context.Background(), input, time.Minute)
	inputs := []any{input}
	if object, ok := input.(map[string]any); ok {
		inputs = append(inputs, &lazy{members: object})
	}
	for _, input := range inputs {
		if e.short != nil {
			var got any
			if got, plain = e.short(input); plain && (wantErr != nil || !reflect.DeepEqual(got, want)) {
				t.Fatalf("%s over %#v: the shortcut gives %#v, the machine %#v, %v", source, input, got, want, wantErr)
			}
		}
		got, err := e.eval(context.Background(), input, time.Minute)
		if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s over %#v: got %#v, %v, want %#v, %v", source, input, got, err, want, wantErr)
		}
	}
	return plain
}

const shortcutInput = `{"s":"x","t":"y","e":"","n":1.50,"i":7,"z":null,"yes":true,"no":false,"o":{"s":"in","o":{"s":"deep"},"n":2},"a":["x",1],"odd name":"q"}`

func TestShortcuts(t *testing.T) {
	input, err := Decode([]byte(shortcutInput))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{
		`.`, `.s`, `.o.s`, `.o.o.s`, `.nosuch`, `.nosuch.s.t`, `.z.s`, `."odd name"`, `.["s"]`, `.o["s"]`, `(.s)`, `((.o).o).s`, `null`, `true`, `"x"`, `.n`, `.o`, `.a`,
		`.s == "x"`, `"x" == .s`, `.s != "x"`, `.s == .t`, `.z == null`, `.yes == true`, `.s == .yes`, `.nosuch == "x"`, `.s == "x" and .o.s == "in"`, `.s == "y" or .yes`, `.z and .a`, `.yes or .s.s`, `.s and .n`,
		`.s | not`, `.z | not`, `(.s == "x" | not)`, `.o | .s`, `.o | .o | .s == "deep"`, `.z // "d"`, `.no // .s`, `.s // .a.b`, `.s + "@" + .t`, `.s + .e`, `"\(.s)-\(.o.s)"`, `"a\(.s)"`, `.o.s + "-" + (.z // "none")`,
	} {
		if !asMachine(t, source, input) && !strings.Contains(source, "[") {
			t.Errorf("%s took the machine", source)
		}
	}
	for _, source := range []string{
		`.s.s`, `.a.s`, `.n == 1.5`, `.n == .o.n`, `.a == .a`, `.o == .o`, `.s + .n`, `.n + .o.n`, `.s + .z`, `.a + .a`, `"\(.n)"`, `"\(.a)"`, `.a[0]`, `.a[]`, `.s?`, `.s.s?`, `.[.s]`, `empty`, `.s, .t`, `.s as $x | $x`, `def f: .s; f`,
		`.s | length`, `.s.s // "d"`, `.yes and .s.s`, `.s == .a`, `"x" == .n`, `@base64 "\(.s)"`, `[.s]`, `{s}`, `if .yes then .s else .t end`, `try .s.s catch .`, `.o.n | not | .s`, `-.n`, `.s < .t`, `..`, `.a[0:1]`, `."\(.s)"`,
	} {
		if asMachine(t, source, input) {
			t.Errorf("%s took the shortcut", source)
		}
	}
}

// The object is put together only for the machine.
func TestMembersStayApart(t *testing.T) {
	for source, wholes := range map[string]int{`.s == "x" and .o.s == "in"`: 0, `.s | length`: 1, `.n == 1`: 1, `.`: 1} {
		input, err := Decode([]byte(shortcutInput))
		if err != nil {
			t.Fatal(err)
		}
		e, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		l := &lazy{members: input.(map[string]any)}
		if _, err := e.Eval(context.Background(), l); err != nil || l.wholes != wholes {
			t.Errorf("%s: wanted whole %d times, want %d; %v", source, l.wholes, wholes, err)
		}
	}
}

func drawExpression(t *rapid.T, depth int) string {
	atom := rapid.SampledFrom([]string{`.`, `.s`, `.t`, `.n`, `.z`, `.yes`, `.no`, `.o`, `.o.s`, `.o.o`, `.a`, `.nosuch`, `.o.nosuch.s`, `."odd name"`, `"x"`, `"in"`, `null`, `true`, `false`, `1`, `"\(.s)!"`, `"\(.o.s)\(.n)"`})
	if depth == 0 {
		return atom.Draw(t, "atom")
	}
	part := func() string { return drawExpression(t, depth-1) }
	switch rapid.IntRange(0, 5).Draw(t, "form") {
	case 0:
		return atom.Draw(t, "atom")
	case 1:
		return "(" + part() + ")" + rapid.SampledFrom([]string{"", ".s", ".o"}).Draw(t, "suffix")
	case 2:
		return part() + " | not"
	}
	return "(" + part() + rapid.SampledFrom([]string{" == ", " != ", " and ", " or ", " // ", " + ", " | "}).Draw(t, "operator") + part() + ")"
}

// Where an expression takes the shortcut, the machine gives the same.
func TestShortcutAsMachine(t *testing.T) {
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		source := drawExpression(t, 3)
		for _, text := range []string{shortcutInput, `null`, `"x"`, `{"s":{"s":"x"},"o":"x"}`} {
			input, err := Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if asMachine(t, source, input) {
				plain++
			}
		}
	})
	if t.Logf("%d took the shortcut", plain); plain == 0 {
		t.Error("nothing took the shortcut")
	}
}

// Texts that are not small are measured by the machine's guards.
func TestLongTextsAreMeasured(t *testing.T) {
	long := strings.Repeat("a", MaxResult)
	for source, want := range map[string]error{`.s + .s`: ErrLimit, `.s == .s`: ErrLimit, `.s`: ErrLimit, `"\(.s)\(.s)"`: ErrLimit, `.s == "x"`: nil, `.t + .t`: nil} {
		e, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Eval(context.Background(), map[string]any{"s": long, "t": long[:MaxResult/3]}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", source, err, want)
		}
	}
}

// A caller that has gone away is told so, also by what would have been plain.
func TestShortcutHeedsCancellation(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e, err := Compile(`.s`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Eval(ctx, map[string]any{"s": "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want context.Canceled", got, err)
	}
}

func TestDeadline(t *testing.T) {
	d := &deadline{Context: context.Background(), until: time.Now().Add(time.Hour)}
	for range 10 * lookEvery {
		if d.Done() != nil || d.Err() != nil {
			t.Fatal("it ended before its time")
		}
	}
	d.until = time.Now()
	for range lookEvery {
		d.Done()
	}
	if _, ended := <-d.Done(); ended || !errors.Is(d.Err(), context.DeadlineExceeded) {
		t.Errorf("its time has passed: %v", d.Err())
	}
	sooner, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	d = &deadline{Context: sooner, until: time.Now().Add(time.Hour)}
	if at, ok := d.Deadline(); !ok || at.Unix() != 1 || !errors.Is(d.Err(), context.DeadlineExceeded) {
		t.Errorf("the caller's deadline is sooner: got %v, %v", at, d.Err())
	}
}
