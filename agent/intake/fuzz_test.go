package intake

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

// FuzzParse: whatever comes, the parser neither panics nor gives an event that cannot be
// encoded and read back as it is.
func FuzzParse(f *testing.F) {
	for _, tt := range refusals() {
		if len(tt.body) < 4096 {
			headers := ""
			for i := 0; i+1 < len(tt.headers); i += 2 {
				headers += tt.headers[i] + ":" + tt.headers[i+1] + "\n"
			}
			f.Add(headers, tt.body)
		}
	}
	f.Add("Content-Type:"+structuredType, structured("1", goodData))
	f.Add("Content-Type:"+batchType, "["+structured("1", goodData)+"]")
	f.Fuzz(func(t *testing.T, headers, body string) {
		h := http.Header{}
		for line := range strings.SplitSeq(headers, "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				h.Add(name, value)
			}
		}
		m, p := modeOf(h)
		if p != nil {
			return
		}
		events, p := parse(m, h, []byte(body))
		if p != nil {
			if _, known := kinds[p.Code]; !known || p.Status < 400 {
				t.Fatalf("a refusal outside the table: %+v", p)
			}
			return
		}
		for _, one := range events {
			e := one.Event
			text, err := e.Marshal()
			if err != nil {
				continue // such as too large together with its attributes
			}
			back, err := event.Unmarshal(text)
			if err != nil {
				t.Fatalf("%s does not read back: %v", text, err)
			}
			e.Time, back.Time = e.Time.UTC(), back.Time.UTC()
			if len(e.Data) == 0 {
				e.Data = nil
			}
			if !e.Time.Equal(back.Time) {
				t.Fatalf("time %v, want %v", back.Time, e.Time)
			}
			e.Time = back.Time
			if len(e.Extensions) == 0 {
				e.Extensions = nil
			}
			if string(e.Data) != string(back.Data) && strings.TrimSpace(string(e.Data)) != string(back.Data) {
				t.Fatalf("data %q, want %q", back.Data, e.Data)
			}
			e.Data = back.Data
			if !reflect.DeepEqual(e, back) {
				t.Fatalf("got %+v, want %+v", back, e)
			}
		}
	})
}

// FuzzAtOnce: the one pass takes nothing that the steps refuse, and makes the same of it.
func FuzzAtOnce(f *testing.F) {
	for _, tt := range refusals() {
		if len(tt.body) < 4096 {
			for i := range modes {
				f.Add(i, tt.body)
			}
		}
	}
	f.Add(0, goodData)
	f.Add(1, structured("1", goodData))
	f.Add(2, " [ "+structured("1", goodData)+" , "+structured("2", `{"a":{"a":1,"b":[]}}`)+" ] ")
	f.Add(2, "["+structured("1", `{"a":1,"a":2}`)+"]")
	f.Add(2, "["+structured("1", goodData)+","+structured("2", strings.Repeat("[", event.MaxDepth)+strings.Repeat("]", event.MaxDepth))+"]")
	h := http.Header{}
	for i, list := 0, binaryHeaders("1"); i < len(list); i += 2 {
		h.Add(list[i], list[i+1])
	}
	f.Fuzz(func(t *testing.T, i int, body string) {
		m := modes[uint(i)%uint(len(modes))]
		got, ok := parseAtOnce(m, h, []byte(body))
		if !ok {
			return
		}
		want, p := parseInSteps(m, h, []byte(body))
		if p != nil || len(got) != len(want) {
			t.Fatalf("%s %q: got %d events, want %d, %v", m, body, len(got), len(want), p)
		}
		for i, one := range got {
			if !reflect.DeepEqual(one.Event, want[i]) {
				t.Fatalf("%s %q: got %+v, want %+v", m, body, one.Event, want[i])
			}
			if value, err := expr.Decode(want[i].Data); one.Decoded && (err != nil || !reflect.DeepEqual(one.Value, value)) {
				t.Fatalf("%s %q: data is %#v, want %#v, %v", m, body, one.Value, value, err)
			}
		}
	})
}

var modes = []mode{binaryMode, structuredMode, batchMode}

// FuzzHeader: decoding undoes the binding's encoding, and never panics.
func FuzzHeader(f *testing.F) {
	f.Add("café 100%", `"a\"b%20c"`)
	f.Fuzz(func(t *testing.T, text, raw string) {
		if got, err := decodeHeader(encodeHeader(text)); err == nil && got != text {
			t.Fatalf("got %q, want %q", got, text)
		}
		decodeHeader(raw)
	})
}

func encodeHeader(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c > ' ' && c < 0x7f && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + string(digits[c>>4]) + string(digits[c&15]))
		}
	}
	return b.String()
}

func TestDecodeHeader(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		bad      bool
	}{
		{in: "plain", want: "plain"}, {in: "Euro%20%E2%82%AC%20%F0%9F%98%80", want: "Euro € 😀"},
		{in: "%25%32%35", want: "%25"}, {in: `"quoted \"text\""`, want: `quoted "text"`}, {in: `"%22"`, want: `"`},
		{in: "naïve", want: "naïve"}, {in: "a%2", bad: true}, {in: "%zz", bad: true}, {in: "%FF", bad: true},
		{in: `"a"b`, bad: true}, {in: `"a\`, bad: true}, {in: `"`, bad: true},
	} {
		if got, err := decodeHeader(tt.in); got != tt.want || (err != nil) != tt.bad {
			t.Errorf("%s: got %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
}
