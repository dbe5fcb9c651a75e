package described

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Each mistake in a description is told with its line and what to do.
func TestMistakes(t *testing.T) {
	text := readme(t)
	line := func(of string) int { return 1 + strings.Count(text[:strings.Index(text, of)], "\n") }
	for _, c := range []struct{ old, new, want string }{
		{"apiVersion: crossdock/v1", "apiVersion: crossdock/v2", "did you mean crossdock/v1?"},
		{"kind: HTTPCarrier\n", "", "field kind is missing"},
		{"baseUrl: https", "baseUrl: http", "is not encrypted"},
		{"baseUrl:", "baseURL:", "did you mean baseUrl?"},
		{"name: wheels\n", "name: wheels\nname: wheels\n", "f.yaml:4: field name stands twice, first in line 3"},
		{"value: api-key", "value: apikey", "did you mean api-key?"},
		{"{name: account, help", "{name: state, help", "setting state is there already"},
		{"labels: [pdf", "labels: [papyrus", "nobody knows labels"},
		{"class: not_serviced", "class: not_served", "did you mean not_serviced?"},
		{"  void:\n", "  avoid:\n", "did you mean void?"},
		{"path: /shipments/{id}", "path: /shipments/{key}", "{key} has no expression"},
		{"path: /shipments/{id}", "path: /shipments", "parameter id is not in the path"},
		{"path: /shipments/{id}", "path: //elsewhere.example/{id}", "must begin with /"},
		{"{code: fast", "{code: std", "service std is there already"},
		{"method: DELETE", "method: REMOVE", "known here are"},
		{"takes: [options.signature]", "takes: [insuranse]", "did you mean insurance?"},
		{"settledAfter: 2s", "settledAfter: soon", "must be a time"},
		{"query: {ref: .reference}", "query: {ref: env.HOME}", "cannot be used"},
		{"query: {ref: .reference}", "query: {ref: '.reference | ('}", "jq: column"},
		{"success: [201]", "success: [20]", "no HTTP status"},
		{"{account: .settings.account, to: (.to", "{account: .settings.account, to: (((.to", "jq: column"},
		{"each: true", "each: perhaps", "must be true or false"},
		{"class: throttled}", "class: throttled}\n    gives: '{}'", "what it gives, or how it fails"},
		{"  get-by-reference:", "  rates:", "did you mean rate?"},
	} {
		_, err := Parse("f.yaml", []byte(strings.Replace(text, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.new, err, c.want)
		}
	}
	broken := strings.Replace(text, "{rates: [.body.offers[]", "{rates: [.body.offers[]|", 1)
	broken = strings.Replace(broken, "days: (.days | tonumber)", "days: )", 1)
	if _, err := Parse("f.yaml", []byte(broken)); err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("f.yaml:%d: jq:", line("{rates: [.body.offers[]"))) {
		t.Errorf("a mistake in a block: %v", err)
	}
}

// What buys and could buy twice is refused.
func TestWhatBuysCanBeSettled(t *testing.T) {
	text := readme(t)
	from, to := strings.Index(text, "  get-by-reference:"), strings.Index(text, "  void:")
	_, err := Parse("f.yaml", []byte(text[:from]+text[to:]))
	for _, op := range []string{"ship", "void"} {
		if err == nil || !strings.Contains(err.Error(), op+" buys, and a call whose answer is lost would be made twice") {
			t.Errorf("%s without a lookup and without a key: %v", op, err)
		}
	}
	lines := strings.Split(keyed(t), "\n")
	for i, l := range lines {
		if !strings.Contains(l, "idempotency:") {
			continue
		}
		op := strings.Trim(lines[i-1], " :")
		_, err := Parse("f.yaml", []byte(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "\n")))
		if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("f.yaml:%d: %s ", i, op)) {
			t.Errorf("%s without its key: %v", op, err)
		}
	}
	for _, c := range []struct{ old, new, want string }{
		{", lasts: 24h", "", "field lasts is missing"},
		{"header: Idempotency-Key, ", "", "say which"},
		{"header: Idempotency-Key, form", "header: Idempotency-Key, field: key, form", "not both"},
		{"field: request_id", "header: 'no header'", "no name of a header"},
	} {
		_, err := Parse("f.yaml", []byte(strings.Replace(keyed(t), c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.new, err, c.want)
		}
	}
}

// A key is the same for the same call, and another for every other.
func TestKeys(t *testing.T) {
	seen := map[string]string{}
	for _, k := range []*idempotency{{uuid: true}, {}} {
		for _, of := range [][2]string{{"ship", "A"}, {"ship", "B"}, {"void", "A"}} {
			text := k.text(of[0], of[1])
			if text != k.text(of[0], of[1]) || seen[text] != "" {
				t.Errorf("%s of %v is that of %s too", text, of, seen[text])
			}
			seen[text] = of[0] + of[1]
		}
	}
	if got := (&idempotency{uuid: true}).text("ship", "A"); len(got) != 36 || got[14] != '8' || !strings.ContainsRune("89ab", rune(got[19])) {
		t.Errorf("%s is no UUID of version 8", got)
	}
}

// Nothing that is read makes the program fail otherwise than by an error.
func FuzzParse(f *testing.F) {
	f.Add(readme(f))
	f.Add(keyed(f))
	f.Add("a: [[[[")
	f.Add("operations: {ship: {request: 1}}")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse("f", []byte(text))
		if (d == nil) == (err == nil) {
			t.Errorf("%v, %v", d, err)
		}
	})
}
