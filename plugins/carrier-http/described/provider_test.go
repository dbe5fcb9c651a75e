package described

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// wheels is a provider that sells, and keeps what it sold.
type wheels struct {
	t    testing.TB
	http *httptest.Server

	mu     sync.Mutex
	sold   []*sale
	keys   map[string]any // answers by idempotency key
	calls  map[string]int // by method and first part of the path
	tokens int
	long   int                                       // bytes of a label
	hidden bool                                      // the search does not find what was sold yet
	after  map[string]func(http.ResponseWriter) bool // by method and first part: true: the answer is lost
}

type sale struct {
	id, ref, service, label, state string
	numbers                        []string
}

func newWheels(t testing.TB) *wheels {
	w := &wheels{t: t, keys: map[string]any{}, calls: map[string]int{}, long: 5000, after: map[string]func(http.ResponseWriter) bool{}}
	w.http = httptest.NewServer(w)
	t.Cleanup(w.http.Close)
	return w
}

func (w *wheels) count(call string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[call]
}

func (w *wheels) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func refuse(status int, code, field string) (int, any) {
	return status, map[string]any{"error": map[string]any{"code": code, "message": "refused: " + code, "field": field}}
}

func (w *wheels) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.URL.Path == "/token" {
		w.token(out, r, string(text))
		return
	}
	if r.Header.Get("X-Api-Key") != "secret" && r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", w.tokens) {
		out.WriteHeader(http.StatusUnauthorized)
		return
	}
	var in map[string]any
	if len(text) > 0 {
		if err := json.Unmarshal(text, &in); err != nil {
			w.t.Errorf("%s %s: the body is no JSON: %v", r.Method, r.URL.Path, err)
		}
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	call := r.Method + " " + parts[0]
	w.calls[call]++
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key, _ = in["request_id"].(string)
	}
	status, answer := http.StatusOK, w.keys[key]
	if key == "" || answer == nil {
		status, answer = w.serve(call, parts, r, in)
		if key != "" && status < 300 {
			w.keys[key] = answer
		}
	} else if r.Method == http.MethodPost && parts[0] == "shipments" {
		status = http.StatusCreated
	}
	if lose := w.after[call]; lose != nil && lose(out) {
		return
	}
	if file, ok := answer.([]byte); ok {
		_, _ = out.Write(file) // whoever asks reads it
		return
	}
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(answer) // likewise
}

func (w *wheels) token(out http.ResponseWriter, r *http.Request, form string) {
	if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" || !strings.Contains(form, "grant_type=client_credentials") {
		out.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.tokens++
	_, _ = fmt.Fprintf(out, `{"access_token":"token-%d","token_type":"bearer","expires_in":3600}`, w.tokens) // likewise
}

func (w *wheels) serve(call string, parts []string, r *http.Request, in map[string]any) (int, any) {
	last := parts[len(parts)-1]
	switch call {
	case "POST rates":
		return w.rates(in)
	case "POST shipments", "POST returns":
		return w.ship(in)
	case "GET shipments":
		items := []any{}
		for _, s := range w.sold {
			if s.ref == r.URL.Query().Get("ref") && !w.hidden {
				items = append(items, w.json(s))
			}
		}
		return http.StatusOK, map[string]any{"items": items}
	case "DELETE shipments":
		return w.void(last)
	case "GET track":
		return w.track(last)
	case "GET labels":
		return http.StatusOK, w.file(strings.TrimPrefix(last, "x."))
	case "POST pickups":
		w.sold = append(w.sold, &sale{id: fmt.Sprintf("P%d", len(w.sold)), state: "pickup"})
		return http.StatusOK, map[string]any{"id": w.sold[len(w.sold)-1].id}
	case "DELETE pickups":
		for _, s := range w.sold {
			if s.id == last && s.state == "pickup" {
				s.state = "gone"
				return http.StatusOK, map[string]any{"id": s.id}
			}
		}
		return refuse(http.StatusNotFound, "E_NONE", "")
	case "POST manifests":
		return w.manifest(in)
	case "POST addresses":
		return http.StatusOK, map[string]any{"ok": in["country"] == "NL"}
	}
	return http.StatusNotFound, "there is nothing here"
}

func (w *wheels) takes(in map[string]any) string {
	to, _ := in["to"].(map[string]any)
	if to["city"] == "Oslo" {
		return "E_AREA"
	}
	return ""
}

func (w *wheels) rates(in map[string]any) (int, any) {
	if code := w.takes(in); code != "" {
		return refuse(http.StatusUnprocessableEntity, code, "")
	}
	return http.StatusOK, json.RawMessage(`{"offers":[{"code":"fast","days":1,"price":12.500000000000000001,"currency":"EUR"},{"code":"std","days":2,"price":6.10,"currency":"EUR"}]}`)
}

func (w *wheels) ship(in map[string]any) (int, any) {
	if code := w.takes(in); code != "" {
		return refuse(http.StatusUnprocessableEntity, code, "")
	}
	s := &sale{id: fmt.Sprintf("S%d", len(w.sold)), state: "sold"}
	s.ref, _ = in["ref"].(string)
	s.service, _ = in["service"].(string)
	s.label, _ = in["label"].(string)
	weights, _ := in["weights"].([]any)
	for i := range weights {
		s.numbers = append(s.numbers, fmt.Sprintf("%s-%d", s.id, i))
	}
	w.sold = append(w.sold, s)
	return http.StatusCreated, w.json(s)
}

// file is a label, longer than the texts that expressions see.
func (w *wheels) file(format string) []byte {
	begins := map[string]string{"zpl": "^XA", "pdf": "%PDF-1.4 ", "png": "\x89PNG"}[format]
	return []byte(begins + strings.Repeat("l", w.long))
}

func (w *wheels) json(s *sale) any {
	return map[string]any{"id": s.id, "service": s.service, "state": s.state, "numbers": s.numbers, "price": json.Number("6.10"), "currency": "EUR",
		"labels": []any{map[string]any{"format": s.label, "base64": base64.StdEncoding.EncodeToString(w.file(s.label)), "href": "/labels/x." + s.label}}}
}

func (w *wheels) void(id string) (int, any) {
	for _, s := range w.sold {
		switch {
		case s.id != id:
		case s.state == "sold":
			s.state = "void"
			return http.StatusOK, map[string]any{}
		default:
			return refuse(http.StatusConflict, "E_STATE", "")
		}
	}
	return refuse(http.StatusNotFound, "E_NONE", "")
}

func (w *wheels) track(number string) (int, any) {
	for _, s := range w.sold {
		for _, n := range s.numbers {
			if n == number {
				return http.StatusOK, json.RawMessage(`{"events":[{"time":"2026-05-05T08:00:00Z","code":"GO","text":"on its way"},{"time":"2026-05-04T18:00:00Z","code":"IN","text":"taken in"}]}`)
			}
		}
	}
	return refuse(http.StatusNotFound, "E_NONE", "")
}

func (w *wheels) manifest(in map[string]any) (int, any) {
	ids, _ := in["ids"].([]any)
	for _, id := range ids {
		for _, s := range w.sold {
			if s.id == id {
				s.state = "closed"
			}
		}
	}
	return http.StatusOK, map[string]any{"id": fmt.Sprintf("M%d", len(w.keys)), "paper": "closed"}
}
