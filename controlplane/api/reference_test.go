package api

import (
	"flag"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

//go:generate go test -run ^TestReferenceIsCurrent . -update
var update = flag.Bool("update", false, "write the reference instead of comparing it")

// What is written about the API is what its document and the code say of it.
func TestReferenceIsCurrent(t *testing.T) {
	known, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	var calls []reference.Operation
	for key, op := range known {
		of := op.route.Operation
		if len(of.Tags) != 1 || doc.Tags.Get(of.Tags[0]) == nil {
			t.Errorf("%s: a call has one tag, which the document describes: %v", key, of.Tags)
			continue
		}
		calls = append(calls, reference.Operation{Tag: of.Tags[0], Method: op.route.Method, Path: op.route.Path, Operation: of,
			Changes: op.changes, Limit: op.limit, Errors: errorsOf(op)})
	}
	var problems []reference.Problem
	for code, kind := range problemKinds {
		problems = append(problems, reference.Problem{Code: code, Status: kind.status, Title: kind.title})
	}
	text := reference.API(doc, calls, problems, everywhere)
	if n := strings.Count(string(text), "\n"); n > 1200 {
		t.Errorf("the reference has %d lines, at most 1200: who reads that?", n)
	}
	reference.Compare(t, "API.md", text, *update)
}

// everywhere are the codes of what comes before any call is looked at, and of what fails behind it.
var everywhere = []string{string(model.Unauthorized), string(model.Invalid), codeInternal, codeCrossOrigin}

// errorsOf names the further codes that a call of such a form can have.
func errorsOf(op operation) (codes []string) {
	add := func(when bool, more ...string) {
		if when {
			codes = append(codes, more...)
		}
	}
	of := op.route.Operation
	add(strings.Contains(op.route.Path, "{"), string(model.NotFound))
	add(strings.HasPrefix(of.Description, "Role "), string(model.Forbidden))
	add(of.RequestBody != nil, string(model.TooLarge), codeMediaType)
	add(op.changes, string(model.Conflict), string(model.Unavailable), string(model.Unknown))
	slices.Sort(codes)
	return codes
}
