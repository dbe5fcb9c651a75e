package remote

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
	"github.com/crossdock/crossdock/plugins/tax-remote/reference"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
)

const theToken = "t0ken-of-the-site"

// document is the protocol, which every request and every answer is held against.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// far is the other side of the line: the tables' engine, with the failures that are to come.
type far struct {
	t      testing.TB
	doc    *openapi3.T
	engine *table.Engine
	inner  http.Handler
	http   *httptest.Server

	mu      sync.Mutex
	allowed map[string]bool // tokens
	faults  []fault
	asked   []string // operations, as they arrived
}

// fault is one failure to come, at the next call of an operation.
type fault struct {
	op     string
	before http.HandlerFunc // in place of the engine
	after  http.HandlerFunc // the engine has done it
}

func newFar(t testing.TB) *far { return newFarWith(t, sdk.Settings{"state": t.TempDir()}) }

func newFarWith(t testing.TB, s sdk.Settings) *far {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	f := &far{t: t, doc: doc, allowed: map[string]bool{theToken: true}, engine: newTable(t, s)}
	f.inner = reference.Handler(f.engine, f.lets, logOf(t))
	f.http = httptest.NewServer(f)
	t.Cleanup(f.http.Close)
	return f
}

func logOf(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

func newTable(t testing.TB, s sdk.Settings) *table.Engine {
	t.Helper()
	e, err := table.New(logOf(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Configure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return e
}

func (f *far) lets(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allowed[token]
}

// only lets in who has one of these tokens.
func (f *far) only(tokens ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.allowed = map[string]bool{}
	for _, token := range tokens {
		f.allowed[token] = true
	}
}

func (f *far) fail(failures ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(f.faults, failures...)
}

// count says how often an operation arrived.
func (f *far) count(op string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, asked := range f.asked {
		if asked == op {
			n++
		}
	}
	return n
}

func (f *far) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	op := strings.TrimPrefix(r.URL.Path, "/v1/")
	f.mu.Lock()
	f.asked = append(f.asked, op)
	var now fault
	if i := slices.IndexFunc(f.faults, func(x fault) bool { return x.op == op }); i >= 0 {
		now = f.faults[i]
		f.faults = slices.Delete(f.faults, i, i+1)
	}
	f.mu.Unlock()
	in, err := f.request(r, body)
	if err != nil {
		f.t.Errorf("the plugin's %s %s is none of the protocol: %v\n%s", r.Method, r.URL.Path, err, body)
	}
	if now.before != nil {
		now.before(w, r)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	answer := httptest.NewRecorder()
	f.inner.ServeHTTP(answer, r)
	if err := f.answered(in, answer.Code, answer.Header(), answer.Body.Bytes()); err != nil {
		f.t.Errorf("the answer to %s is none of the protocol: %v\n%s", op, err, answer.Body)
	}
	if now.after != nil {
		now.after(w, r)
		return
	}
	for name := range answer.Header() {
		w.Header().Set(name, answer.Header().Get(name))
	}
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes()) // whoever asked may be gone
}

func (f *far) request(r *http.Request, body []byte) (*openapi3filter.RequestValidationInput, error) {
	item := f.doc.Paths.Value(r.URL.Path)
	if item == nil || item.GetOperation(r.Method) == nil {
		return nil, http.ErrNotSupported
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	in := &openapi3filter.RequestValidationInput{Request: r,
		Route:   &routers.Route{Spec: f.doc, Path: r.URL.Path, PathItem: item, Method: r.Method, Operation: item.GetOperation(r.Method)},
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true}}
	return in, openapi3filter.ValidateRequest(r.Context(), in)
}

func (f *far) answered(in *openapi3filter.RequestValidationInput, status int, header http.Header, body []byte) error {
	if in == nil {
		return nil
	}
	return openapi3filter.ValidateResponse(in.Request.Context(), &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), Options: in.Options})
}

func (f *far) settings() sdk.Settings { return sdk.Settings{setURL: f.http.URL, setToken: theToken} }

func configured(t testing.TB, s sdk.Settings) *Engine {
	t.Helper()
	e := New(logOf(t))
	if err := e.Configure(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return e
}

// open gives a plugin of its own for the other side.
func (f *far) open() *Engine { return configured(f.t, f.settings()) }

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// says answers with a status, a body, and headers in pairs.
func says(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// The remote engine keeps what every tax engine promises.
func TestSuite(t *testing.T) {
	open := func(t testing.TB) tax.Engine { return New(logOf(t)) }
	for name, extra := range map[string]sdk.Settings{"plain": nil, "with a cache": {setCache: "60s"}} {
		t.Run(name, func(t *testing.T) {
			taxtest.Run(t, taxtest.Config{
				New: func(t testing.TB) (tax.Engine, sdk.Settings) {
					s := newFar(t).settings()
					for name, value := range extra {
						s[name] = value
					}
					return open(t), s
				},
				Reopen:  open,
				Knows:   *sale("DE", "DE", "EUR", "100.00 standard", "50.00 books", "7.77 standard included"),
				Unknown: *sale("AQ", "AQ", "EUR", "100.00 standard"),
				Valid:   sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695976"}, Invalid: sdk.TaxID{Country: "DE", Kind: "vat", Number: "DE136695977"},
			})
		})
	}
}
