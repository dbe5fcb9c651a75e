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
		for _, r := range Rewritten(good(t), b) {
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
