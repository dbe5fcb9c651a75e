package mydhl

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// testdata is the variable with the directory in which the provider's published specification
// lies, as mydhl-3.1.1.yaml. It is the provider's document, and not a part of this tree.
const (
	testdata = "CROSSDOCK_TESTDATA"
	specName = "mydhl-3.1.1.yaml"
)

// spec is the published specification.
type spec struct{ doc *openapi3.T }

var loaded = sync.OnceValues(func() (*spec, error) {
	var text []byte
	var err error
	for _, at := range []string{specName, "carriers/" + specName} {
		if text, err = os.ReadFile(filepath.Join(os.Getenv(testdata), at)); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	return &spec{doc}, nil
})

// published gives the specification; nil: it is not here, and the tests run without that judge.
func published(t testing.TB) *spec {
	t.Helper()
	if os.Getenv(testdata) == "" {
		return nil
	}
	s, err := loaded()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What the plugin sends and what it is answered are held against the published specification
// by all tests of this package, where that is. This one sees that it judges.
func TestTheSpecificationJudges(t *testing.T) {
	s := published(t)
	if s == nil {
		t.Skipf("the provider's published specification is not here, so no request and no answer was held against it: set %s to the directory of %s", testdata, specName)
	}
	for _, c := range []struct {
		what, method, path, body string
		good                     bool
	}{
		{"a cancellation", http.MethodDelete, "/pickups/PRG201220123456?requestorName=Ann&reason=none", "", true},
		{"a cancellation without a name", http.MethodDelete, "/pickups/PRG201220123456?reason=none", "", false},
		{"a parameter that is not there", http.MethodDelete, "/pickups/PRG201220123456?requestorName=Ann&reason=none&why=so", "", false},
		{"an order without anything", http.MethodPost, "/shipments", "{}", false},
		{"a path that is not there", http.MethodPost, "/shipment", "{}", false},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Header.Set("x-version", apiVersion)
		r.Header.Set("Content-Type", "application/json")
		if _, err := s.request(r, []byte(c.body)); (err == nil) != c.good {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// route finds the operation of a request, and nil if there is none.
func (s *spec) route(r *http.Request) (*routers.Route, map[string]string) {
	parts := strings.Split(r.URL.Path, "/")
	var best *routers.Route
	var params map[string]string
	for pattern, item := range s.doc.Paths.Map() {
		op := item.GetOperation(r.Method)
		want := strings.Split(pattern, "/")
		if op == nil || len(want) != len(parts) {
			continue
		}
		found := map[string]string{}
		fits := true
		for i, w := range want {
			if strings.HasPrefix(w, "{") {
				found[strings.Trim(w, "{}")] = parts[i]
			} else if w != parts[i] {
				fits = false
			}
		}
		if fits && (best == nil || len(found) < len(params)) {
			best = &routers.Route{Spec: s.doc, Path: pattern, PathItem: item, Method: r.Method, Operation: op}
			params = found
		}
	}
	return best, params
}

// request says what is wrong with a request.
func (s *spec) request(r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	route, params := s.route(r)
	if route == nil {
		return nil, errUnknown(r.Method + " " + r.URL.Path)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true}}
	// What the specification does not name is not refused by the library, and would be lost in silence.
	for name := range r.URL.Query() {
		if route.Operation.Parameters.GetByInAndName("query", name) == nil {
			return in, errUnknown(name)
		}
	}
	return in, openapi3filter.ValidateRequest(r.Context(), in)
}

type errUnknown string

func (e errUnknown) Error() string { return "it does not know " + string(e) }

// answer says what is wrong with an answer.
func (s *spec) answer(in *openapi3filter.RequestValidationInput, status int, body []byte) error {
	return openapi3filter.ValidateResponse(in.Request.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)), Options: in.Options})
}
