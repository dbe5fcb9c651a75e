package usps

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// testdata names the folder with the provider's own documents, which are not ours to pass on.
const testdata = "CROSSDOCK_TESTDATA"

// documents are the provider's descriptions of its APIs, by the path that each is served at.
var documents = map[string]string{
	"/addresses/v3":  "usps-addresses.yaml",
	"/labels/v3":     "usps-domestic-labels.yaml",
	"/pickup/v3":     "usps-carrier-pickup.yaml",
	"/prices/v3":     "usps-domestic-prices.yaml",
	"/scan-forms/v3": "usps-scan-forms.yaml",
	"/tracking/v3":   "usps-tracking.yaml",
}

// published gives the documents, or nothing where they are not.
var published = sync.OnceValues(func() (map[string]*openapi3.T, error) {
	dir := os.Getenv(testdata)
	if dir == "" {
		return nil, nil
	}
	openapi3.DefineStringFormatValidator("uuid", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForUUIDOfRFC4122))
	openapi3.DefineStringFormatValidator("email", openapi3.NewRegexpFormatValidator(openapi3.FormatOfStringForEmail))
	openapi3filter.RegisterBodyDecoder(labelsJSON, openapi3filter.JSONBodyDecoder)
	out := map[string]*openapi3.T{}
	for path, name := range documents {
		doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(dir, "carriers", name))
		if err != nil {
			return nil, err
		}
		if doc.Components != nil {
			for _, s := range doc.Components.Schemas {
				readTogether(s.Value)
			}
		}
		out[path] = doc
	}
	// An e-mail address is also in order as the other kind of contact, which wants no field and
	// refuses none: "one of" can never be true.
	contact := out["/pickup/v3"].Components.Schemas["NotificationMethod"].Value
	contact.AnyOf, contact.OneOf = contact.OneOf, nil
	return out, nil
})

// readTogether mends what the documents cannot mean: a part of an allOf, or the whole of it,
// closes itself (additionalProperties: false) and so forbids all that stands in the other parts.
func readTogether(s *openapi3.Schema) {
	all := openapi3.Schemas{}
	var collect func(*openapi3.Schema)
	collect = func(s *openapi3.Schema) {
		for name, p := range s.Properties {
			all[name] = p
		}
		for _, part := range s.AllOf {
			collect(part.Value)
		}
	}
	collect(s)
	if len(s.AllOf) == 0 {
		return
	}
	var open func(*openapi3.Schema)
	open = func(s *openapi3.Schema) {
		if has := s.AdditionalProperties.Has; has != nil && !*has {
			if s.Properties == nil {
				s.Properties = openapi3.Schemas{}
			}
			for name, p := range all {
				s.Properties[name] = p
			}
		}
		for _, part := range s.AllOf {
			open(part.Value)
		}
	}
	open(s)
}

// operation finds what a request asks for in the documents; nil: it is in none.
func operation(docs map[string]*openapi3.T, r *http.Request) *openapi3filter.RequestValidationInput {
	for prefix, doc := range docs {
		rest, ok := strings.CutPrefix(r.URL.Path, prefix+"/")
		if !ok {
			continue
		}
		have := strings.Split(rest, "/")
		for path, item := range doc.Paths.Map() {
			want := strings.Split(strings.TrimPrefix(path, "/"), "/")
			op := item.GetOperation(r.Method)
			if len(have) != len(want) || op == nil {
				continue
			}
			params, fits := map[string]string{}, true
			for i := range want {
				if strings.HasPrefix(want[i], "{") {
					params[strings.Trim(want[i], "{}")] = have[i]
				} else if want[i] != have[i] {
					fits = false
				}
			}
			if fits {
				return &openapi3filter.RequestValidationInput{Request: r, PathParams: params,
					Route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: r.Method, Operation: op},
					Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
			}
		}
	}
	return nil
}

// conforms looks at an answer as its document has it.
func conforms(in *openapi3filter.RequestValidationInput, status int, header http.Header, body []byte) error {
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), Options: in.Options})
}

// All other tests run without the documents too, and then take the server's word for it.
func TestThePublishedDocumentsAreThere(t *testing.T) {
	docs, err := published()
	if err != nil {
		t.Fatal(err)
	}
	if docs == nil {
		t.Skipf("requests and answers are not compared with the provider's documents: put them into a folder \"carriers\" and its path into %s", testdata)
	}
	for path, doc := range docs {
		if doc.Paths.Len() == 0 {
			t.Errorf("%s: the document has no path", path)
		}
	}
}
