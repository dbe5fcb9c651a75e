package handbook_test

import (
	"flag"
	"os"
	"testing"

	"github.com/crossdock/crossdock/deploy/handbook/reference"
)

//go:generate go test -run ^TestPolicyReference$ . -update
var update = flag.Bool("update", false, "write the reference of policy anew")

// The page of all fields is what the program reads, and its examples are clean.
func TestPolicyReference(t *testing.T) {
	reference.Compare(t, "policy-reference.md", reference.Policy(t, os.DirFS("../examples/reference")), *update)
}
