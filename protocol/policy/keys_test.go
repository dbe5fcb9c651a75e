package policy

import (
	"fmt"
	"slices"
	"testing"
)

func TestKeyIsHeldAgainstTheSchema(t *testing.T) {
	const closed = `{"additionalProperties": false, "required": ["orderId"], "properties": {"orderId": {"type": "string"}, "at": {"required": ["town"], "properties": {"town": {}}}, "paid": {"type": "boolean"}}}`
	const open = `{"required": ["orderId"], "properties": {"orderId": {"type": "string"}, "note": {"type": "string"}}}`
	for _, tt := range []struct {
		key, state, schema string
		want               []string
		stops              bool
	}{
		{".orderId", "active", closed, nil, false},
		{".orderNo", "active", closed, []string{"contract order.placed 1.0.0: by the schema no event has .orderNo, the key, so that every event would be refused (did you mean .orderId?)"}, true},
		{".orderNo", "deprecated, sunset: 2027-06-30", closed,
			[]string{"contract order.placed 1.0.0: by the schema no event has .orderNo, the key, so that every event would be refused (did you mean .orderId?)"}, true},
		{".orderNo", "draft", closed, []string{"contract order.placed 1.0.0: by the schema no event has .orderNo, the key, so that every event would be refused (did you mean .orderId?)"}, false},
		{".orderNo", "retired", closed, nil, false},
		{".invoice", "active", closed, []string{"contract order.placed 1.0.0: by the schema no event has .invoice, the key, so that every event would be refused " +
			"(name a text or a number that the schema requires; it has at, orderId, paid)"}, true},
		{".paid", "active", `{"required": ["paid"], "properties": {"paid": {"type": "boolean"}}}`,
			[]string{"contract order.placed 1.0.0: by the schema .paid, the key, is neither a text nor a number, so that every event would be refused (name a text or a number that the schema requires)"}, true},
		{".orderNo", "active", open, []string{"contract order.placed 1.0.0: the schema has no .orderNo, the key, and an event without it is refused (did you mean .orderId?)"}, false},
		{".note", "active", open, []string{"contract order.placed 1.0.0: by the schema events may lack .note, the key, and are refused then (write it into required of the schema, and leave null out of its types)"}, false},
		{".at.toun", "active", closed, []string{"contract order.placed 1.0.0: the schema has no .at.toun, the key, and an event without it is refused (did you mean .at.town?)"}, false},
		{".orderNo // .orderId", "active", closed, nil, false},
	} {
		b := Bundle{"p.yaml": fmt.Appendf(nil, `apiVersion: crossdock/v1
kind: Contract
metadata: {name: order.placed}
spec:
  owner: sales
  authority: agent
  key: %s
  versions: [{version: 1.0.0, state: %s, schema: s.json}]
`, tt.key, tt.state), "s.json": []byte(tt.schema)}
		set, problems := Compile(b)
		var got []string
		for _, p := range problems {
			if p.Line != 7 {
				t.Errorf("%s: %s", tt.key, p)
			}
			text := p.Message
			if p.Hint != "" {
				text += " (" + p.Hint + ")"
			}
			got = append(got, text)
		}
		if !slices.Equal(got, tt.want) || (set == nil) != tt.stops {
			t.Errorf("%s, %s: stopped %t\ngot  %q\nwant %q", tt.key, tt.state, set == nil, got, tt.want)
		}
		if set, _ := Load(b); set == nil {
			t.Errorf("%s, %s: an approved policy is lost by a newer program", tt.key, tt.state)
		}
	}
}
