package usps

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
)

// object is a JSON object.
type object = map[string]any

// The calls, as faults and counts name them.
const (
	onToken    = "token"
	onPayment  = "payment"
	onPrices   = "prices"
	onLabel    = "label"
	onReprint  = "reprint"
	onCancel   = "cancel"
	onScan     = "scan"
	onPickup   = "pickup"
	onFetch    = "pickup fetch"
	onChange   = "pickup change"
	onUnbook   = "pickup cancel"
	onTracking = "tracking"
	onAddress  = "address"
)

// mishap is what goes wrong with one call.
type mishap struct {
	after  bool // the provider has done what was asked for before it
	status int  // 0: the connection is cut
	header map[string]string
	body   string // not compared with the document
	change func(object)
}

// sold is a label at the provider.
type sold struct {
	number, key string
	body        [32]byte
	request     object
	back        bool
	cancelled   bool
	scanned     bool
	gone        bool // its data have gone to the postal systems
	disputed    bool
	reprints    int
}

// provider plays the postal service, keeps state and compares everything with its documents.
type provider struct {
	t    testing.TB
	docs map[string]*openapi3.T
	url  string

	mu       sync.Mutex // guards all below
	expected bool       // a request that does not fit its document is no failure of the test
	misfits  []string
	mishaps  map[string][]mishap
	counts   map[string]int
	serial   int
	bearer   string
	payment  string
	labels   map[string]*sold
	pickups  map[string]object
	tags     map[string]string
	blind    bool // it does not say that it knows no such label
}

func newProvider(t testing.TB) *provider {
	docs, err := published()
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, docs: docs, mishaps: map[string][]mishap{}, counts: map[string]int{}, labels: map[string]*sold{}, pickups: map[string]object{}, tags: map[string]string{}}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

// upset makes the next call of a kind go wrong, and the one after it with the next mishap.
func (p *provider) upset(on string, m ...mishap) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mishaps[on] = append(p.mishaps[on], m...)
}

func (p *provider) count(on string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[on]
}

// with changes the provider's state.
func (p *provider) with(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

// bought counts the labels that cost money.
func (p *provider) bought() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.labels)
}

type answer struct {
	status int
	header map[string]string
	media  string
	body   any
}

func refuse(status int, detail, parameter string) answer {
	one := object{"status": fmt.Sprint(status), "code": "160042", "title": http.StatusText(status), "detail": detail}
	if parameter != "" {
		one["source"] = object{"parameter": parameter}
	}
	return answer{status: status, body: object{"apiVersion": "v3", "error": object{"code": fmt.Sprint(status), "message": http.StatusText(status), "errors": []any{one}}}}
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client is gone
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	in := operation(p.docs, r)
	p.mu.Lock()
	on := kindOf(r)
	p.counts[on]++
	var m *mishap
	if list := p.mishaps[on]; len(list) > 0 {
		m, p.mishaps[on] = &list[0], list[1:]
	}
	var a answer
	if m == nil || m.after || m.change != nil {
		a = p.take(on, r, in, body)
	}
	p.mu.Unlock()
	if m != nil {
		if p.spoil(w, m, a) {
			return
		}
	}
	p.send(w, in, a)
}

// spoil does what goes wrong; false: only the answer was changed.
func (p *provider) spoil(w http.ResponseWriter, m *mishap, a answer) bool {
	switch {
	case m.change != nil:
		m.change(a.body.(object))
		return false
	case m.status == 0:
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			p.t.Errorf("the connection cannot be cut: %v", err)
		}
		return true
	}
	for name, value := range m.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(m.status)
	_, _ = io.WriteString(w, m.body)
	return true
}

func (p *provider) send(w http.ResponseWriter, in *openapi3filter.RequestValidationInput, a answer) {
	text, err := json.Marshal(a.body)
	if a.body == nil {
		text = nil
	}
	if err != nil {
		p.t.Errorf("the provider cannot answer: %v", err)
	}
	media := a.media
	if media == "" {
		media = "application/json"
	}
	if text != nil {
		w.Header().Set("Content-Type", media)
	}
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if in != nil {
		if err := conforms(in, a.status, w.Header(), text); err != nil {
			p.t.Errorf("the answer to %s %s is none of the document: %v", in.Request.Method, in.Route.Path, err)
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(text)
}

func kindOf(r *http.Request) string {
	path := r.URL.Path
	switch {
	case path == tokenPath:
		return onToken
	case strings.HasPrefix(path, "/payments/"):
		return onPayment
	case strings.HasPrefix(path, "/prices/"):
		return onPrices
	case strings.HasPrefix(path, "/labels/v3/label-reprint"):
		return onReprint
	case strings.HasPrefix(path, "/labels/") && r.Method == http.MethodDelete:
		return onCancel
	case strings.HasPrefix(path, "/labels/"):
		return onLabel
	case strings.HasPrefix(path, "/scan-forms/"):
		return onScan
	case strings.HasPrefix(path, "/pickup/"):
		return map[string]string{http.MethodPost: onPickup, http.MethodGet: onFetch, http.MethodPut: onChange, http.MethodDelete: onUnbook}[r.Method]
	case strings.HasPrefix(path, "/tracking/"):
		return onTracking
	}
	return onAddress
}

// take looks at a request as the document has it, and does what it asks for.
func (p *provider) take(on string, r *http.Request, in *openapi3filter.RequestValidationInput, body []byte) answer {
	var asked object
	if len(body) > 0 {
		if err := json.Unmarshal(body, &asked); err != nil {
			p.t.Errorf("%s: the body is no JSON object: %v", on, err)
			return refuse(400, "no JSON", "")
		}
	}
	switch on {
	case onToken:
		return p.token(asked)
	case onPayment:
		return p.authorise(r, asked)
	}
	if p.bearer == "" || r.Header.Get("Authorization") != "Bearer "+p.bearer {
		return refuse(401, "the token is not valid", "")
	}
	if p.docs != nil && in == nil {
		p.misfit("%s %s is in no document", r.Method, r.URL.Path)
		return refuse(404, "no such resource", "")
	}
	if in != nil {
		if err := openapi3filter.ValidateRequest(r.Context(), in); err != nil {
			p.misfit("%s: %v", on, err)
			return refuse(400, "the request does not fit: "+first(err.Error()), "")
		}
	}
	pays := slices.Contains([]string{onLabel, onReprint, onCancel}, on)
	if got := r.Header.Get("X-Payment-Authorization-Token"); pays && (p.payment == "" || got != p.payment) {
		return refuse(401, "the payment authorisation is not valid", "")
	}
	last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch on {
	case onPrices:
		return p.quote(asked)
	case onLabel:
		return p.sell(asked, body, r.Header.Get(keyHeader), last == "return-label")
	case onReprint:
		return p.reprint(asked, last, r.Header.Get(keyHeader))
	case onCancel:
		return p.cancel(last)
	case onScan:
		return p.scan(asked)
	case onTracking:
		return p.track(last)
	case onAddress:
		return p.address(r)
	}
	return p.pickup(on, asked, last, r.Header.Get("If-Match"))
}

func first(text string) string { return strings.SplitN(text, "\n", 2)[0] }

func (p *provider) misfit(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	p.misfits = append(p.misfits, text)
	if !p.expected {
		p.t.Errorf("the provider refuses a request: %s", text)
	}
}

func (p *provider) token(asked object) answer {
	if asked["client_id"] != "key" || asked["client_secret"] != "s3cret" || asked["grant_type"] != "client_credentials" {
		return answer{status: 401, body: object{"error": "invalid_client", "error_description": "unknown application s3cret"}}
	}
	p.serial++
	p.bearer = fmt.Sprintf("bearer-%d", p.serial)
	return answer{status: 200, body: object{"access_token": p.bearer, "token_type": "Bearer", "expires_in": 28799, "issued_at": 1764000000000}}
}

func (p *provider) authorise(r *http.Request, asked object) answer {
	if r.Header.Get("Authorization") != "Bearer "+p.bearer {
		return refuse(401, "the token is not valid", "")
	}
	text, _ := json.Marshal(asked)
	for _, want := range []string{`"roleName":"PAYER"`, `"roleName":"LABEL_OWNER"`, `"CRID":"12345678"`, `"MID":"123456789"`, `"accountType":"EPS"`, `"accountNumber":"1000000001"`} {
		if !strings.Contains(string(text), want) {
			p.misfit("payment authorisation lacks %s", want)
			return refuse(400, "lacks "+want, "")
		}
	}
	p.serial++
	p.payment = fmt.Sprintf("payment-%d", p.serial)
	return answer{status: 200, body: object{"paymentAuthorizationToken": p.payment, "roles": asked["roles"]}}
}

// picture is a file of the format that was asked for.
func picture(format string) string {
	return base64.StdEncoding.EncodeToString([]byte(map[string]string{"PDF": "%PDF-1.7 label", "PNG": "\x89PNG label", "ZPL203DPI": "^XA^FDlabel^XZ", "ZPL300DPI": "^XA^FDfine^XZ"}[format]))
}

func digest(text []byte) [32]byte { return sha256.Sum256(text) }
