package policy

import (
	"bytes"
	"slices"
	"testing"
)

// moved is the good policy with wms-eu at porto replaced by wms-hq at hq.
func moved(t *testing.T) Bundle {
	t.Helper()
	b := good(t)
	b["routes.yaml"] = bytes.ReplaceAll(b["routes.yaml"], []byte("{system: wms-eu}"), []byte("{system: wms-hq}"))
	b["move.yaml"] = []byte(`apiVersion: crossdock/v1
kind: System
metadata: {name: wms-hq}
spec:
  owner: logistics
  site: hq
  replaces: wms-eu
  webhook: {url: "https://wms.example.com/hook", secret: "env:HOOK"}
`)
	return b
}

func TestMoves(t *testing.T) {
	if got := compileGood(t).Moves(); got != nil {
		t.Errorf("moves of a policy without any: %v", got)
	}
	set, problems := Compile(moved(t))
	if set == nil || len(problems) > 0 {
		t.Fatal(problems.Error())
	}
	want := []Move{{System: "wms-hq", Site: "hq", Old: "wms-eu", OldSite: "porto"}}
	if got := set.Moves(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestRelocated(t *testing.T) {
	if got := Relocated(good(t), moved(t)); got != nil {
		t.Errorf("a move is taken for a change of site: %v", got)
	}
	over := moved(t)
	over["move.yaml"] = bytes.ReplaceAll(over["move.yaml"], []byte("site: hq"), []byte("site: porto"))
	want := []Relocation{{System: "wms-hq", From: "hq", To: "porto"}}
	if got := Relocated(moved(t), over); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDiffShowsAMove(t *testing.T) {
	var got []string
	for _, c := range Diff(nil, nil, good(t), moved(t)) {
		got = append(got, c.String())
	}
	want := []string{"added System wms-hq (replaces wms-eu)", "changed Route orders-to-erp: spec.to.1.system"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	over := moved(t)
	over["move.yaml"] = bytes.ReplaceAll(over["move.yaml"], []byte("  replaces: wms-eu\n"), nil)
	if changes := Diff(nil, nil, moved(t), over); len(changes) != 1 || changes[0].String() != "changed System wms-hq: spec.replaces" {
		t.Errorf("a move that is over: %v", changes)
	}
}
