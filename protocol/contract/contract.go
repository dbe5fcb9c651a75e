// Package contract owns the versions of contracts: it compiles their schemas, validates
// data against them, and compares one version with another.
//
// It refuses to know who publishes or consumes, and fetches nothing: a schema is whole in
// itself. Its invariant: data that Validate accepts is JSON within the protocol's limits
// that satisfies the schema, and what it refuses is named by path and rule.
package contract

import (
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

// Limits on schemas and on what validation reports.
const (
	MaxSchema     = 256 << 10 // bytes of one schema
	MaxViolations = 20        // reported for one value
	MaxPattern    = 1 << 10   // bytes of a regular expression
	maxMessage    = 300       // bytes of one message, which may quote the data
)

// ErrSchema marks a schema that cannot be used.
var ErrSchema = errors.New("not a usable schema")

// State is where a version stands in its life.
type State string

// The states, in the order in which a version goes through them.
const (
	Draft      State = "draft"      // being written: no event may use it
	Active     State = "active"     // in use
	Deprecated State = "deprecated" // in use until its sunset
	Retired    State = "retired"    // refused
)

// Live says whether events of the version are accepted.
func (s State) Live() bool { return s == Active || s == Deprecated }

// ParseState reads a state by its name.
func ParseState(text string) (State, error) {
	if s := State(text); slices.Contains([]State{Draft, Active, Deprecated, Retired}, s) {
		return s, nil
	}
	return "", fmt.Errorf("state %q: draft, active, deprecated or retired is expected", text)
}

// Version is one compiled version of a contract. It is immutable and safe for concurrent use.
type Version struct {
	Contract            string
	Semver              string
	Major, Minor, Patch int
	State               State
	Sunset              time.Time // of a deprecated version; zero if not stated
	Schema              []byte    // as written

	uri      string
	document any // the schema decoded, for comparing
	compiled *jsonschema.Schema
	quick    *checker // of compiled; nil if there can be none
}

var semverForm = regexp.MustCompile(`^(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})$`)

// ParseSemver reads MAJOR.MINOR.PATCH.
func ParseSemver(text string) (major, minor, patch int, err error) {
	m := semverForm.FindStringSubmatch(text)
	if m == nil {
		return 0, 0, 0, fmt.Errorf("version %q: three numbers such as 1.0.0 are expected", text)
	}
	major, _ = strconv.Atoi(m[1]) // the form leaves nothing that could fail
	minor, _ = strconv.Atoi(m[2])
	patch, _ = strconv.Atoi(m[3])
	return major, minor, patch, nil
}

// Compile reads the schema of one version. A schema without $schema is of draft 2020-12.
func Compile(contract, semver string, state State, sunset time.Time, schema []byte) (*Version, error) {
	v := &Version{Contract: contract, Semver: semver, State: state, Sunset: sunset, Schema: schema}
	var err error
	if v.Major, v.Minor, v.Patch, err = ParseSemver(semver); err != nil {
		return nil, err
	}
	if _, err := ParseState(string(state)); err != nil {
		return nil, err
	}
	v.uri = URI(contract, semver)
	if len(schema) > MaxSchema {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrSchema, len(schema), MaxSchema)
	}
	if v.document, err = expr.Decode(schema); err != nil {
		// The decoder speaks of events, which this is not.
		return nil, fmt.Errorf("%w: %s", ErrSchema, strings.TrimPrefix(err.Error(), event.ErrInvalid.Error()+": "))
	}
	if v.compiled, err = compileSchema(v.document); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSchema, err)
	}
	v.quick = specialise(v.compiled, v.document)
	return v, nil
}

// resource is the address under which a schema knows itself while it is compiled.
const resource = "schema://contract/this"

func compileSchema(document any) (*jsonschema.Schema, error) {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseRegexpEngine(compilePattern)
	c.UseLoader(noLoader{})
	if err := c.AddResource(resource, document); err != nil {
		return nil, err
	}
	s, err := c.Compile(resource)
	if err != nil {
		return nil, schemaError(err)
	}
	return s, nil
}

// schemaError says in one line where a schema breaks the rules of schemas.
func schemaError(err error) error {
	var invalid *jsonschema.SchemaValidationError
	var cause *jsonschema.ValidationError
	if errors.As(err, &invalid) && errors.As(invalid.Err, &cause) {
		if found := explain(cause); len(found) > 0 {
			return errors.New(found[0].String())
		}
	}
	return errors.New(strings.ReplaceAll(err.Error(), resource, ""))
}

// noLoader keeps schemas from reaching out: what they need stands in their own $defs.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s is outside of the schema: copy what is needed into its $defs", url)
}

// URI is the dataschema that names a version.
func URI(contract, semver string) string { return "crossdock:" + contract + "/" + semver }

// URI is the dataschema that names this version.
func (v *Version) URI() string { return v.uri }

// Less orders versions of one contract.
func (v *Version) Less(o *Version) bool {
	return slices.Compare([]int{v.Major, v.Minor, v.Patch}, []int{o.Major, o.Minor, o.Patch}) < 0
}

// Validate decodes data once and checks it. The decoded value is what expr.Decode makes,
// so expressions can run over it. An error means that data is not JSON within the limits;
// violations mean that it is, but breaks the contract.
func (v *Version) Validate(data []byte) (decoded any, violations []Violation, err error) {
	if len(data) > event.MaxSize {
		return nil, nil, fmt.Errorf("%w: data has %d bytes, the limit is %d", event.ErrTooLarge, len(data), event.MaxSize)
	}
	decoded, err = expr.Decode(data)
	if err != nil {
		return nil, nil, err
	}
	return decoded, v.check(decoded), nil
}

// ValidateDecoded checks a value that expr.Decode or an expression made.
func (v *Version) ValidateDecoded(decoded any) []Violation {
	return v.check(decoded)
}

// plainNumbers gives the schema library numbers that it knows. An expression may make
// big integers; only what holds one is copied.
func plainNumbers(value any) any {
	switch x := value.(type) {
	case *big.Int:
		return jsonNumber(x)
	case []any:
		if !hasBigInt(x) {
			return x
		}
		out := make([]any, len(x))
		for i := range x {
			out[i] = plainNumbers(x[i])
		}
		return out
	case map[string]any:
		if !hasBigInt(x) {
			return x
		}
		out := make(map[string]any, len(x))
		for name, item := range x {
			out[name] = plainNumbers(item)
		}
		return out
	}
	return value
}

func hasBigInt(value any) bool {
	switch x := value.(type) {
	case *big.Int:
		return true
	case []any:
		return slices.ContainsFunc(x, hasBigInt)
	case map[string]any:
		for _, item := range x {
			if hasBigInt(item) {
				return true
			}
		}
	}
	return false
}
