package intake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// shelf keeps documents under the names that a test can read.
type shelf struct {
	kind string
	text []byte
	err  error
}

const shelfName = "d0c"

func (s *shelf) Put(_ context.Context, kind string, content io.Reader) (Reference, error) {
	text, err := io.ReadAll(content)
	if err = errors.Join(err, s.err); err != nil {
		return Reference{}, err
	}
	s.kind, s.text = kind, text
	return Reference{shelfName, int64(len(text)), kind}, nil
}

func (s *shelf) Get(name string) (*Document, error) {
	if s.err != nil {
		return nil, s.err
	}
	if name != shelfName || s.text == nil {
		return nil, ErrNoDocument
	}
	return &Document{Reference: Reference{name, int64(len(s.text)), s.kind}, Stored: time.Unix(1_800_000_000, 0),
		Content: bytes.NewReader(s.text), Close: func() error { return nil }}, nil
}

func (s *shelf) Named(value string) error {
	_, err := s.Get(value)
	return err
}

func TestDocumentsArePutAndGot(t *testing.T) {
	r := newRig(t)
	do := func(method, path, body string, headers ...string) *answer {
		t.Helper()
		r.clock.advance(time.Second) // within the rate
		return r.do(t, method, "/v1/documents"+path, body, headers...)
	}
	text := strings.Repeat("0123456789", MaxBatchBytes/10+1) // more than a request of events may have
	put := do("POST", "", text, "Content-Type", "text/html")
	if put.status != 201 || put.header.Get("Location") != "/v1/documents/"+shelfName || string(put.body) != fmt.Sprintf(`{"sha256":"d0c","size":%d,"type":"text/html"}`+"\n", len(text)) {
		t.Errorf("put: %d %v %s", put.status, put.header, put.body)
	}
	for _, tt := range []struct {
		name, method, path string
		headers            []string
		status             int
		body               string
	}{
		{"whole", "GET", "/d0c", nil, 200, text},
		{"only looked at", "HEAD", "/d0c", nil, 200, ""},
		{"a part", "GET", "/d0c", []string{"Range", "bytes=3-5"}, 206, "345"},
		{"known already", "GET", "/d0c", []string{"If-None-Match", `"d0c"`}, 304, ""},
		{"beyond", "GET", "/d0c", []string{"Range", "bytes=99999999-"}, 416, ""},
		{"another", "GET", "/other", nil, 404, ""},
		{"no token", "GET", "/d0c", []string{"Authorization", ""}, 401, ""},
		{"another's token", "GET", "/d0c", []string{"Authorization", "Bearer hq-secret"}, 401, ""},
		{"packed", "POST", "", []string{"Content-Encoding", "gzip"}, 415, ""},
	} {
		a := do(tt.method, tt.path, "", tt.headers...)
		if a.status != tt.status || tt.status < 300 && string(a.body) != tt.body {
			t.Errorf("%s: %d with %d bytes", tt.name, a.status, len(a.body))
		}
		if h := a.header; tt.status == 200 && (h.Get("Etag") != `"d0c"` || h.Get("Content-Type") != "text/html" || h.Get("Content-Length") != fmt.Sprint(len(text)) ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "sandbox" || h.Get("Content-Disposition") != "attachment") {
			t.Errorf("%s: %v", tt.name, h)
		}
	}
	for err, want := range map[error]Code{ErrDocumentDamaged: CodeDocumentDamaged, ErrDocumentsFull: CodeDocumentsFull, ErrDocumentLarge: CodeTooLarge,
		ErrDocument: CodeInvalidRequest, errors.New("disk"): CodeUnavailable} {
		r.shelf.err = fmt.Errorf("why: %w", err)
		a := do("POST", "", "x")
		if p := a.problem(t); p.Code != want || a.status != kinds[want].status || strings.Contains(p.Detail, "disk") {
			t.Errorf("%v: %d %+v", err, a.status, p)
		}
	}
}

// An event may name only what is here: in whichever mode it comes, alone or in a batch.
func TestEventsNameDocumentsThatAreHere(t *testing.T) {
	r := newRig(t)
	named := func(id, document string) string {
		return strings.Replace(structured(id, goodData), `"data"`, fmt.Sprintf(`"documents":%q,"data"`, document), 1)
	}
	a := r.send(t, named("1", shelfName), "Content-Type", "application/cloudevents+json")
	if p := a.problem(t); p.Code != CodeNoDocument || len(p.Errors) != 1 || p.Errors[0].Pointer != "/documents" || !p.Permanent() {
		t.Errorf("%d %+v", a.status, p)
	}
	a = r.send(t, "["+structured("2", goodData)+","+named("3", shelfName)+"]", "Content-Type", "application/cloudevents-batch+json")
	if p := a.problem(t); p.Code != CodeNoDocument || p.Errors[0].Pointer != "/1/documents" {
		t.Errorf("%d %+v", a.status, p)
	}
	if a = r.do(t, http.MethodPost, "/v1/documents", "label"); a.status != 201 {
		t.Fatalf("put: %d", a.status)
	}
	if a = r.send(t, goodData, binaryHeaders("1", "ce-documents", shelfName)...); a.status != 202 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if held := r.journal.held(); len(held) != 1 || held[0].Event.Extensions[DocumentsAttribute] != shelfName {
		t.Errorf("accepted %+v", held)
	}
}

// The repeat of an event is answered as the event was, though its document is gone by now.
// In a batch nothing is taken if another one names what is not here.
func TestRepeatsOutliveTheirDocuments(t *testing.T) {
	r := newRig(t)
	r.shelf.text = []byte("label")
	named := func(id, data string) string {
		return strings.Replace(structured(id, data), `"data"`, fmt.Sprintf(`"documents":%q,"data"`, shelfName), 1)
	}
	one, many := []string{"Content-Type", "application/cloudevents+json"}, []string{"Content-Type", "application/cloudevents-batch+json"}
	if a := r.send(t, named("1", goodData), one...); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	r.shelf.text = nil
	if a := r.send(t, named("1", goodData), one...); a.status != 202 || !strings.Contains(string(a.body), `"repeat":true`) {
		t.Errorf("the repeat: %d %s", a.status, a.body)
	}
	if a := r.send(t, named("1", strings.Replace(goodData, "A-1", "A-2", 1)), one...); a.problem(t).Code != CodeConflict {
		t.Errorf("another event under its name: %d %s", a.status, a.body)
	}
	a := r.send(t, "["+named("1", goodData)+","+structured("2", goodData)+","+named("3", goodData)+"]", many...)
	if p := a.problem(t); p.Code != CodeNoDocument || p.Errors[0].Pointer != "/2/documents" || len(r.journal.held()) != 1 {
		t.Errorf("a batch with another one: %d %+v, %d held", a.status, p, len(r.journal.held()))
	}
	if a := r.send(t, "["+named("1", goodData)+","+structured("2", goodData)+"]", many...); a.status != 202 || len(r.journal.held()) != 2 {
		t.Errorf("a batch with the repeat: %d %s", a.status, a.body)
	}
}
