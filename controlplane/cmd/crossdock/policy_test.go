package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/api"
)

// Whoever compares learns what propose will refuse.
func TestDiffSaysWhatProposeWillRefuse(t *testing.T) {
	bundle, err := readBundle("testdata/policy")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(change func(api.Documents)) string {
		out := api.RevisionBundle{Bundle: api.Documents{}}
		for name, text := range bundle {
			out.Bundle[name] = string(text)
		}
		change(out.Bundle)
		text, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const schema = "schemas/order.captured-1.0.0.json"
	c := newCanned(t, map[string][]string{"GET /revisions/active": {`{"number":4}`}, "GET /revisions/4/bundle": {
		answer(func(api.Documents) {}),
		answer(func(d api.Documents) { d[schema] = strings.Replace(d[schema], "{", `{"maxProperties": 9, `, 1) }),
	}})
	_, said := c.run(0, "", "policy", "diff", "testdata/policy")
	if strings.Contains(said, "refuse") {
		t.Errorf("of no change: %s", said)
	}
	_, said = c.run(0, "", "policy", "diff", "testdata/policy")
	sees(t, said, "propose may refuse this, unless a revision with exactly these documents was approved before: contract order.captured: the schema of version 1.0.0, "+schema)
	c.answers["GET /revisions/active"] = nil // is not asked
	out, said := c.run(0, "", "policy", "diff", "testdata/policy", "--revision", "4")
	if strings.Contains(said, "refuse") || !strings.Contains(out, "order.captured") {
		t.Errorf("compared with one that is not in force: %s, shown %s", said, out)
	}
}
