package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The document is the source. What was generated from it must not lag behind.
func TestGeneratedCodeIsOfThisDocument(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	embedded, err := GetSpec()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := asJSON(t, embedded), asJSON(t, doc); !reflect.DeepEqual(got, want) {
		t.Error("api.gen.go is older than openapi.yaml: run `make generate`")
	}
}

func asJSON(t *testing.T, doc *openapi3.T) (out any) {
	t.Helper()
	for _, item := range doc.Paths.Map() {
		for _, op := range item.Operations() { // the generator writes them as Go names
			op.OperationID = strings.ToUpper(op.OperationID[:1]) + op.OperationID[1:]
		}
	}
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// fits holds an answer against the document. Every request of every test goes through it.
func (b *bench) fits(r *http.Request, w *httptest.ResponseRecorder) {
	b.t.Helper()
	c := b.server.echo.NewContext(r, httptest.NewRecorder())
	b.server.echo.Router().Find(r.Method, escapedPath(r), c)
	op, known := b.operations.find(c)
	if !known {
		return
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: op.route},
		Status:                 w.Code, Header: w.Header(), Body: io.NopCloser(bytes.NewReader(w.Body.Bytes())),
	})
	if err != nil {
		b.t.Errorf("the answer to %s %s does not fit the document: %v\n%s", r.Method, r.URL.Path, err, w.Body)
	}
}

func escapedPath(r *http.Request) string {
	if r.URL.RawPath != "" {
		return r.URL.RawPath
	}
	return r.URL.Path
}

// fuzzBench is a bench that nothing is expected of but to refuse well.
func fuzzBench(f *testing.F) *bench {
	f.Helper()
	b := newBench(&testing.T{})
	b.store.answer = func(model.Command) (any, error) { return nil, model.Errorf(model.Forbidden, "no") }
	return b
}

// FuzzBody: whatever is sent, the answer is one of the documented refusals.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"site":"eu","lifetime":"5m"}`, `{"site":"eu","site":"na"}`, `{"Site":"eu"}`, `[]`, `null`, `{"site":"\ud800"}`,
		`{"bundle":{"a/b.yaml":"x"},"note":"n"}`, `{"bundle":{"../x":""},"note":"n"}`, `{"digest":"sha256:`, strings.Repeat("[", 70),
	} {
		for path := range fuzzPaths {
			f.Add(path, seed)
		}
	}
	b := fuzzBench(f)
	f.Fuzz(func(t *testing.T, path int, body string) {
		target, known := fuzzPaths[path]
		if !known {
			return
		}
		r := httptest.NewRequest("POST", BasePath+target, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+b.token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		var p Problem
		if target == "/policy/lint" && w.Code == http.StatusOK {
			return
		}
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Code == "" || w.Code >= 500 {
			t.Errorf("%s with %q = %d %s", target, body, w.Code, w.Body)
		}
	})
}

var fuzzPaths = map[int]string{
	0: "/tokens", 1: "/principals", 2: "/revisions", 3: "/policy/lint", 4: "/revisions/1/approve", 5: "/deadletters/x/replay",
}

// FuzzQuery: whatever is asked, the answer is one of the documented ones.
func FuzzQuery(f *testing.F) {
	for i := range queries {
		f.Add(i, "limit=1&cursor=x", "eu")
		f.Add(i, "state=open&system=a%00b&limit=-1", "%2e%2e")
		f.Add(i, "newest=true&from=9999999999999999999", "1")
		f.Add(i, "key=k&key=l;%", "x/y")
	}
	b := fuzzBench(f)
	f.Fuzz(func(t *testing.T, i int, query, name string) {
		target := strings.ReplaceAll(queries[uint(i)%uint(len(queries))], "{}", url.PathEscape(name))
		u, err := url.ParseRequestURI(BasePath + target + "?" + query)
		if err != nil {
			return
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.URL, r.RequestURI = u, ""
		r.Header.Set("Authorization", "Bearer "+b.token)
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s = %d %s", u, w.Code, w.Body)
		}
	})
}

var queries = []string{"/events", "/deadletters", "/deadletters/{}", "/exceptions", "/audit", "/agents", "/agents/{}", "/revisions",
	"/revisions/{}", "/revisions/{}/bundle", "/revisions/{}/diff", "/tokens", "/principals", "/systems/moves", "/ranges", "/cluster", "/health"}

// FuzzAuthorization: only the one token opens, and nothing makes the door fall over.
func FuzzAuthorization(f *testing.F) {
	b := fuzzBench(f)
	f.Add("Bearer xdk_00_aa", "00-x-y-z")
	f.Add("bearer  "+b.token, "")
	f.Add("Bearer", "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01")
	f.Fuzz(func(t *testing.T, authorization, trace string) {
		r := httptest.NewRequest("GET", BasePath+"/whoami", nil)
		r.Header["Authorization"] = []string{authorization}
		r.Header["Traceparent"] = []string{trace}
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		_, token, _ := strings.Cut(authorization, " ")
		want := http.StatusUnauthorized
		if strings.TrimSpace(token) == b.token && strings.EqualFold(authorization[:6], "bearer") {
			want = http.StatusOK
		}
		if w.Code != want {
			t.Errorf("%q = %d, want %d", authorization, w.Code, want)
		}
	})
}

// FuzzTraceAnswer: an agent may answer anything.
func FuzzTraceAnswer(f *testing.F) {
	f.Add(`{"now":"2026-05-04T10:00:00.500Z","hops":[{"hop":"accepted","at":"2026-05-04T10:00:00Z"},{"hop":"?"}]}`)
	f.Add(`{"hops":[{}]}`)
	f.Add(`{"now":"0000-00-00T00:00:00Z"}`)
	b := fuzzBench(f)
	b.store.agents = []model.Agent{{Name: "eu"}}
	f.Fuzz(func(t *testing.T, text string) {
		b.agents["eu"] = func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
			return json.RawMessage(text), nil
		}
		r := httptest.NewRequest("GET", BasePath+"/events?key=k", nil)
		r.Header.Set("Authorization", "Bearer "+b.token)
		w := httptest.NewRecorder()
		b.server.ServeHTTP(w, r)
		var trace Trace
		if err := json.Unmarshal(w.Body.Bytes(), &trace); err != nil || w.Code != http.StatusOK {
			t.Fatalf("%q = %d %s", text, w.Code, w.Body)
		}
		for _, h := range trace.Hops {
			if h.Agent != "eu" {
				t.Errorf("a hop of %q", h.Agent)
			}
		}
	})
}
