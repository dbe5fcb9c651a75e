package policy

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestRewritten(t *testing.T) {
	const older, newer = "schemas/order.captured-1.0.0.json", "schemas/order.captured-1.1.0.json"
	for _, tt := range []struct {
		name   string
		change func(Bundle)
		want   []string
	}{
		{"nothing", func(Bundle) {}, nil},
		{"a description", func(b Bundle) {
			b[newer] = bytes.Replace(b[newer], []byte(`{`), []byte(`{"description": "an order",`), 1)
		}, nil},
		// 1.1.0 is active; the draft 1.2.0 has the same file, and may change.
		{"a required field", func(b Bundle) {
			b[newer] = bytes.Replace(b[newer], []byte(`{`), []byte(`{"minProperties": 2,`), 1)
		}, []string{"order.captured 1.1.0"}},
		// A retired version's events are still in journals and mailboxes.
		{"a file of four versions", func(b Bundle) {
			b[older] = bytes.Replace(b[older], []byte(`{`), []byte(`{"minProperties": 2,`), 1)
		}, []string{"order.accepted 1.0.0", "order.accepted 2.0.0", "order.captured 1.0.0", "shipment.dispatched 1.0.0"}},
		{"another file", func(b Bundle) {
			b["contracts.yaml"] = bytes.Replace(b["contracts.yaml"], []byte("state: deprecated, sunset: 2027-06-30, schema: "+older), []byte("state: active, schema: other.json"), 1)
			b["other.json"] = []byte(`{"type": "object"}`)
		}, []string{"order.captured 1.0.0"}},
		{"the file's name", func(b Bundle) {
			b["contracts.yaml"] = bytes.ReplaceAll(b["contracts.yaml"], []byte(older), []byte("other.json"))
			b["other.json"] = b[older]
		}, nil},
		{"a version more", func(b Bundle) {
			b["contracts.yaml"] = bytes.Replace(b["contracts.yaml"], []byte("version: 1.2.0, state: draft"), []byte("version: 1.3.0, state: active"), 1)
		}, nil},
	} {
		b := good(t)
		tt.change(b)
		var got []string
		for _, r := range Rewritten(good(t), b, nil) {
			got = append(got, r.Contract+" "+r.Version)
			if !strings.Contains(r.String(), "add a new version") {
				t.Errorf("%s: %s", tt.name, r)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// What a version was is told by the newest bundle in which it was more than a draft.
func TestRewrittenSinceEarlierBundles(t *testing.T) {
	const other = "{version: 1.0.0, state: active, schema: a.json}"
	with := func(versions ...string) Bundle {
		return Bundle{"policy.yaml": []byte("apiVersion: crossdock/v1\nkind: Contract\nmetadata: {name: c}\nspec: {versions: [" + strings.Join(append(versions, other), ", ") + "]}\n"),
			"a.json": []byte(`{"type": "object"}`), "b.json": []byte(`{"type": "array"}`)}
	}
	const activeA, activeB = "{version: 1.1.0, state: active, schema: a.json}", "{version: 1.1.0, state: active, schema: b.json}"
	const draftA, draftB = "{version: 1.1.0, state: draft, schema: a.json}", "{version: 1.1.0, schema: b.json}"
	for _, tt := range []struct {
		name              string
		inForce, proposed Bundle
		earlier           []Bundle
		want              string
		taken             int // of the earlier ones
	}{
		{"left out and brought back otherwise", with(), with(activeB), []Bundle{with(), with(activeA)}, "the schema of version 1.1.0, b.json,", 2},
		{"left out and brought back", with(), with(activeA), []Bundle{with(activeA), with(activeB)}, "", 1},
		{"left out and brought back as a draft", with(), with(draftA), []Bundle{with(activeA)}, "no draft again", 1},
		{"set back to draft", with(activeA), with(draftA), []Bundle{with(activeA)}, "no draft again", 0},
		{"set back to draft with another schema", with(activeA), with(draftB), nil, "the schema of version 1.1.0, b.json,", 0},
		{"changed as the draft that it became", with(draftA), with(activeB), []Bundle{with(draftA), with(activeA)}, "the schema of version 1.1.0, b.json,", 2},
		{"not this bundle's change", with(draftB), with(draftB), []Bundle{with(activeA)}, "", 0},
		{"from draft to active once more", with(draftA), with(activeA), []Bundle{with(activeA)}, "", 1},
		{"what is in force counts first", with(activeB), with(activeB), []Bundle{with(activeA)}, "", 0},
		{"a draft that never was more", with(draftA), with(draftB), []Bundle{with(draftA), with()}, "", 2},
		{"a new version", with(), with(activeB), []Bundle{with(), with()}, "", 2},
	} {
		taken, got := 0, ""
		for _, r := range Rewritten(tt.inForce, tt.proposed, func(yield func(Bundle) bool) {
			for _, b := range tt.earlier {
				if taken++; !yield(b) {
					return
				}
			}
		}) {
			got += r.String()
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || taken != tt.taken {
			t.Errorf("%s: got %q after %d earlier ones, want %q after %d", tt.name, got, taken, tt.want, tt.taken)
		}
	}
}
