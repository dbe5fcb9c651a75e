package contract

import "testing"

func TestSameMeaning(t *testing.T) {
	const schema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string","description":"a"},"title":{"const":{"title":"x"}}},"$defs":{"d":{"maximum":1}}}`
	for _, tt := range []struct {
		name, other string
		want        bool
	}{
		{"itself", schema, true},
		{"spaces and order", `{ "properties": {"title":{"const":{"title":"x"}}, "id":{"description":"a","type":"string"}}, "$defs":{"d":{"maximum":1}}, "required":["id"], "type":"object" }`, true},
		{"texts", `{"title":"t","$comment":"c","x-ubl":"Order","type":"object","required":["id"],"properties":{"id":{"type":"string","description":"b","examples":["1"]},"title":{"const":{"title":"x"}}},"$defs":{"d":{"maximum":1,"title":"t"}}}`, true},
		{"texts in lists", `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"title":{"const":{"title":"x"}}},"$defs":{"d":{"maximum":1}},"allOf":[]}`, false},
		{"required", `{"type":"object","required":["id","title"],"properties":{"id":{"type":"string"},"title":{"const":{"title":"x"}}},"$defs":{"d":{"maximum":1}}}`, false},
		{"a property called title", `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"title":{"const":1}},"$defs":{"d":{"maximum":1}}}`, false},
		{"without a property called title", `{"type":"object","required":["id"],"properties":{"id":{"type":"string"}},"$defs":{"d":{"maximum":1}}}`, false},
		{"a title within a const", `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"title":{"const":{"title":"y"}}},"$defs":{"d":{"maximum":1}}}`, false},
		{"what is referred to", `{"type":"object","required":["id"],"properties":{"id":{"type":"string"},"title":{"const":{"title":"x"}}},"$defs":{"d":{"maximum":2}}}`, false},
		{"no JSON", `{`, false},
	} {
		if got := SameMeaning([]byte(schema), []byte(tt.other)); got != tt.want {
			t.Errorf("%s: got %t", tt.name, got)
		}
		if got := SameMeaning([]byte(tt.other), []byte(schema)); got != tt.want {
			t.Errorf("%s, turned round: got %t", tt.name, got)
		}
	}
	if !SameMeaning([]byte(`{"anyOf":[{"title":"a","type":"string"}]}`), []byte(`{"anyOf":[{"title":"b","type":"string"}]}`)) {
		t.Error("a text within a list of schemas is taken for a change")
	}
}
