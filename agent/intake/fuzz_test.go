package intake

import (
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/protocol/event"
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
		for _, e := range events {
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
