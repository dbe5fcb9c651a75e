package intake

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

func TestAccept(t *testing.T) {
	for _, tt := range []struct {
		name    string
		body    string
		headers []string
		want    event.Event
	}{
		{"binary", goodData, binaryHeaders("1", "ce-subject", "caf%C3%A9 100%25", "ce-time", "2026-05-04T12:00:00+02:00", "ce-traceparent", `"a\"b"`),
			event.Event{ID: "1", Source: "/eu/shop", Type: "order.captured.v1", Subject: "café 100%", DataContentType: "application/json",
				Extensions: map[string]string{"traceparent": `a"b`}, Data: []byte(goodData)}},
		{"structured", structured("1", goodData), []string{"Content-Type", "application/cloudevents+json; charset=UTF-8"},
			event.Event{ID: "1", Source: "/eu/shop", Type: "order.captured.v1", Data: []byte(goodData)}},
		{"JSON as base64", `{"specversion":"1.0","id":"1","source":"/eu/shop","type":"order.captured.v1","datacontenttype":"application/json","data_base64":"` +
			base64.StdEncoding.EncodeToString([]byte(goodData)) + `"}`, []string{"Content-Type", "application/cloudevents+json"},
			event.Event{ID: "1", Source: "/eu/shop", Type: "order.captured.v1", DataContentType: "application/json", Data: []byte(goodData)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			a := r.send(t, tt.body, tt.headers...)
			if want := `{"id":"1","position":1,"repeat":false}`; a.status != 202 || strings.TrimSpace(string(a.body)) != want {
				t.Fatalf("got %d %s, want 202 %s", a.status, a.body, want)
			}
			got := r.journal.held()
			if len(got) != 1 {
				t.Fatalf("the journal holds %d events, want 1", len(got))
			}
			e := *got[0].Event
			e.Time = tt.want.Time
			if !reflect.DeepEqual(e, tt.want) {
				t.Errorf("got event %+v, want %+v", e, tt.want)
			}
			if a := got[0]; a.Key != "A-1" || a.System != "shop" || a.Contract != "order.captured" ||
				a.Revision != (block.Revision{Generation: 1, Number: 7}) || len(a.Targets) != 1 || a.Targets[0].System != "erp" {
				t.Errorf("got %+v", a)
			}
			if again, err := event.Unmarshal(got[0].Data); err != nil || again.ID != "1" {
				t.Errorf("the canonical encoding does not read back: %v", err)
			}
			if a := r.send(t, tt.body, tt.headers...); a.status != 202 || !strings.Contains(string(a.body), `"position":1,"repeat":true`) {
				t.Errorf("repeat: got %d %s", a.status, a.body)
			}
		})
	}
}

// Data as deep as is allowed passes in every mode, and its encoding reads back.
func TestDeepest(t *testing.T) {
	r := newRig(t)
	deep := `{"sku":"A","x":` + strings.Repeat("[", event.MaxDepth-1) + strings.Repeat("]", event.MaxDepth-1) + `}`
	one := func(id string) string {
		return `{"specversion":"1.0","id":"` + id + `","source":"/eu/wms","type":"stock.counted.v1","data":` + deep + `}`
	}
	for name, a := range map[string]*answer{
		"binary": r.send(t, deep, "Authorization", "Bearer wms-secret", "Content-Type", "application/json",
			"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/eu/wms", "ce-type", "stock.counted.v1"),
		"structured": r.send(t, one("2"), "Authorization", "Bearer wms-secret", "Content-Type", structuredType),
		"batch":      r.send(t, "["+one("3")+"]", "Authorization", "Bearer wms-secret", "Content-Type", batchType),
	} {
		if a.status != 202 {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	for _, a := range r.journal.held() {
		if _, err := event.Unmarshal(a.Data); err != nil {
			t.Errorf("%s does not read back: %v", a.Event.ID, err)
		}
	}
}

func TestBatch(t *testing.T) {
	r := newRig(t)
	batch := "[" + structured("1", goodData) + "," + structured("2", goodData) + "," + structured("1", goodData) + "]"
	a := r.send(t, batch, "Content-Type", batchType)
	var got []accepted
	if err := json.Unmarshal(a.body, &got); err != nil || a.status != 202 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if want := []accepted{{"1", 1, false}, {"2", 2, false}, {"1", 1, true}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if r.journal.calls != 1 {
		t.Errorf("%d commits, want 1", r.journal.calls)
	}
	if a := r.send(t, "[]", "Content-Type", batchType); a.status != 202 || strings.TrimSpace(string(a.body)) != "[]" {
		t.Errorf("empty batch: got %d %s", a.status, a.body)
	}
}

type refusalCase struct {
	name    string
	body    string
	headers []string
	status  int
	code    Code
	pointer string // of the first error; "-": no errors
}

func refusals() []refusalCase {
	return slices.Concat(policyRefusals(), formRefusals(), sizeRefusals(), headerRefusals())
}

func ce(more ...string) []string { return append([]string{"Content-Type", structuredType}, more...) }

func batch() []string { return []string{"Content-Type", batchType} }

func withAttribute(more string) string {
	return `{"specversion":"1.0","id":"1","source":"/eu/shop","type":"order.captured.v1",` + more + `"data":` + goodData + `}`
}

func typed(typ, more string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"` + typ + `",` + more + `"data":` + goodData + `}`
}

func policyRefusals() []refusalCase {
	return []refusalCase{
		{"no token", structured("1", goodData), ce("Authorization", ""), 401, CodeUnauthenticated, "-"},
		{"wrong token", structured("1", goodData), ce("Authorization", "Bearer guess"), 401, CodeUnauthenticated, "-"},
		{"basic", structured("1", goodData), ce("Authorization", "Basic c2hvcDpzZWNyZXQ="), 401, CodeUnauthenticated, "-"},
		{"two tokens", structured("1", goodData), ce("Authorization", "Bearer shop-secret", "Authorization", "Bearer shop-secret"), 401, CodeUnauthenticated, "-"},
		{"token of another site", structured("1", goodData), ce("Authorization", "Bearer hq-secret"), 401, CodeUnauthenticated, "-"},
		{"not listed", structured("1", goodData), ce("Authorization", "Bearer wms-secret"), 403, CodeNotPublisher, "/type"},
		{"unknown type", typed("order.lost.v1", ""), ce(), 422, CodeUnknownContract, "/type"},
		{"unknown major", typed("order.captured.v9", ""), ce(), 422, CodeUnknownContract, "/type"},
		{"type without major", typed("order.captured", ""), ce(), 422, CodeUnknownContract, "/type"},
		{"unknown dataschema", typed("order.captured.v1", `"dataschema":"crossdock:order.captured/1.9.0",`), ce(), 422, CodeUnknownContract, "/dataschema"},
		{"draft", typed("order.captured.v3", ""), ce(), 422, CodeUnknownContract, "/type"},
		{"retired", typed("order.captured.v2", ""), ce(), 410, CodeRetired, "/type"},
		{"bad data", structured("1", `{"orderId":"A","lines":[{"qty":"x"}]}`), ce(), 422, CodeInvalidData, "/data/lines/0/qty"},
		{"missing property", structured("1", `{"orderId":"A"}`), ce(), 422, CodeInvalidData, "/data/lines"},
		{"bad data, binary", `{"orderId":"A","lines":[{"qty":"x"}]}`, binaryHeaders("1"), 422, CodeInvalidData, "/data/lines/0/qty"},
		{"no data", `{"specversion":"1.0","id":"1","source":"/s","type":"order.captured.v1"}`, ce(), 422, CodeInvalidData, "/data"},
		{"no data, binary", "", binaryHeaders("1"), 422, CodeInvalidData, "/data"},
		{"null data", structured("1", "null"), ce(), 422, CodeInvalidData, "/data"},
		{"empty key", structured("1", `{"orderId":"","lines":[]}`), ce(), 422, CodeInvalidData, "/data"},
		{"long key", structured("1", `{"orderId":"`+strings.Repeat("k", maxKey+1)+`","lines":[]}`), ce(), 422, CodeInvalidData, "/data"},
		{"duplicate member in data", structured("1", `{"orderId":"A","orderId":"B","lines":[]}`), ce(), 400, CodeInvalidEvent, "/data"},
	}
}

func formRefusals() []refusalCase {
	return []refusalCase{
		{"malformed", `{"specversion":"1.0",`, ce(), 400, CodeInvalidEvent, "-"},
		{"not an object", `[1]`, ce(), 400, CodeInvalidEvent, "-"},
		{"members without end", `{` + strings.Repeat(`"a":1,`, 40000) + `"a":1}`, ce(), 400, CodeInvalidEvent, "-"},
		{"too many members", `{"specversion":"1.0"` + members(50) + `}`, ce(), 400, CodeInvalidEvent, "-"},
		{"empty", ``, ce(), 400, CodeInvalidEvent, "-"},
		{"not UTF-8", withAttribute("\"x\":\"\xff\","), ce(), 400, CodeInvalidEvent, "-"},
		{"duplicate member", withAttribute(`"id":"2",`), ce(), 400, CodeInvalidEvent, "-"},
		{"old specversion", strings.Replace(withAttribute(""), `"1.0"`, `"0.3"`, 1), ce(), 400, CodeInvalidEvent, "-"},
		{"no id", strings.Replace(withAttribute(""), `"id":"1",`, "", 1), ce(), 400, CodeInvalidEvent, "-"},
		{"bad time", withAttribute(`"time":"yesterday",`), ce(), 400, CodeInvalidEvent, "-"},
		{"attribute in upper case", withAttribute(`"Priority":"1",`), ce(), 400, CodeInvalidEvent, "-"},
		{"attribute with underscore", withAttribute(`"a_b":"1",`), ce(), 400, CodeInvalidEvent, "-"},
		{"attribute with an object", withAttribute(`"ext":{},`), ce(), 400, CodeInvalidEvent, "-"},
		{"data and data_base64", withAttribute(`"data_base64":"e30=",`), ce(), 400, CodeInvalidEvent, "-"},
		{"data_base64 not JSON", `{"specversion":"1.0","id":"1","source":"/s","type":"order.captured.v1","data_base64":"AAEC"}`, ce(), 400, CodeInvalidEvent, "/data_base64"},
		{"text data", withAttribute(`"datacontenttype":"text/plain",`), ce(), 415, CodeMediaType, "/datacontenttype"},
	}
}

func sizeRefusals() []refusalCase {
	deep := strings.Repeat("[", 10000) + strings.Repeat("]", 10000)
	return []refusalCase{
		{"10,000 deep", structured("1", deep), ce(), 400, CodeTooDeep, "-"},
		{"10,000 deep, binary", deep, binaryHeaders("1"), 400, CodeTooDeep, "-"},
		{"10,000 deep, batch", "[" + structured("1", deep) + "]", batch(), 400, CodeTooDeep, "/0"},
		{"65 deep, binary", strings.Repeat("[", 65) + strings.Repeat("]", 65), binaryHeaders("1"), 400, CodeTooDeep, "-"},
		{"too large", structured("1", `{"orderId":"`+strings.Repeat("A", event.MaxSize)+`"}`), ce(), 413, CodeTooLarge, "-"},
		{"too large, binary", `{"orderId":"` + strings.Repeat("A", event.MaxSize) + `"}`, binaryHeaders("1"), 413, CodeTooLarge, "-"},
		{"too large once encoded", `{"orderId":"A","lines":[],"x":"` + strings.Repeat("A", event.MaxSize-60) + `"}`, binaryHeaders("1"), 413, CodeTooLarge, "-"},
		{"batch too large", "[" + strings.Repeat(" ", MaxBatchBytes) + "]", batch(), 413, CodeTooLarge, "-"},
		{"event of a batch too large", "[" + structured("1", `{"orderId":"`+strings.Repeat("A", event.MaxSize)+`"}`) + "]", batch(), 413, CodeTooLarge, "/0"},
		{"batch of too many", "[" + strings.Repeat(structured("1", goodData)+",", MaxBatchEvents) + structured("1", goodData) + "]", batch(), 413, CodeTooLarge, "-"},
		{"batch beyond the burst", "[" + strings.Repeat(structured("1", goodData)+",", 20) + structured("1", goodData) + "]", batch(), 413, CodeTooLarge, "-"},
		{"batch is no array", structured("1", goodData), batch(), 400, CodeInvalidEvent, "-"},
		{"batch cut off", "[" + structured("1", goodData), batch(), 400, CodeInvalidEvent, "-"},
		{"batch with more behind", "[" + structured("1", goodData) + "]{}", batch(), 400, CodeInvalidEvent, "-"},
		{"second of a batch", "[" + structured("1", goodData) + "," + structured("2", `{"orderId":"A","lines":[{"qty":"2"},{"qty":"x"}]}`) + "]", batch(), 422, CodeInvalidData, "/1/data/lines/1/qty"},
		{"second of a batch no event", "[" + structured("1", goodData) + ",7]", batch(), 400, CodeInvalidEvent, "/1"},
		{"conflict inside a batch", "[" + structured("1", goodData) + "," + structured("1", `{"orderId":"B","lines":[]}`) + "]", batch(), 409, CodeConflict, "/1/id"},
	}
}

func headerRefusals() []refusalCase {
	gz := gzipped(`{"orderId":"` + strings.Repeat("A", 8<<20) + `"}`)
	return []refusalCase{
		{"gzip", gz, ce("Content-Encoding", "gzip"), 415, CodeMediaType, "-"},
		{"gzip twice", gz, ce("Content-Encoding", "identity", "Content-Encoding", "gzip"), 415, CodeMediaType, "-"},
		{"plain JSON", goodData, []string{"Content-Type", "application/json"}, 415, CodeMediaType, "-"},
		{"text", "hello", []string{"Content-Type", "text/plain"}, 415, CodeMediaType, "-"},
		{"XML format", "<event/>", []string{"Content-Type", "application/cloudevents+xml"}, 415, CodeMediaType, "-"},
		{"latin-1", structured("1", goodData), []string{"Content-Type", structuredType + "; charset=latin1"}, 415, CodeMediaType, "-"},
		{"two content types", structured("1", goodData), []string{"Content-Type", structuredType, "Content-Type", structuredType}, 400, CodeInvalidEvent, "-"},
		{"no content type, no headers", goodData, []string{"Content-Type", ""}, 400, CodeInvalidEvent, "-"},
		{"header twice", goodData, binaryHeaders("1", "ce-subject", "a", "ce-subject", "b"), 400, CodeInvalidEvent, "-"},
		{"header with underscore", goodData, binaryHeaders("1", "ce-a_b", "x"), 400, CodeInvalidEvent, "-"},
		{"lone percent sign", goodData, binaryHeaders("1", "ce-subject", "100%"), 400, CodeInvalidEvent, "-"},
		{"percent to bad UTF-8", goodData, binaryHeaders("1", "ce-subject", "%FF"), 400, CodeInvalidEvent, "-"},
		{"percent to control", goodData, binaryHeaders("1", "ce-subject", "a%00b"), 400, CodeInvalidEvent, "-"},
		{"open quotes", goodData, binaryHeaders("1", "ce-subject", `"a`), 400, CodeInvalidEvent, "-"},
		{"ce-datacontenttype", goodData, binaryHeaders("1", "ce-datacontenttype", "application/json"), 400, CodeInvalidEvent, "-"},
		{"ce-data", goodData, binaryHeaders("1", "ce-data", "x"), 400, CodeInvalidEvent, "-"},
		{"binary of 0.3", goodData, binaryHeaders("1", "ce-specversion", "0.3"), 400, CodeInvalidEvent, "-"},
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"x%d":1`, i)
	}
	return b.String()
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(text))
	w.Close()
	return b.String()
}

// Every refusal has its status, code and place, and leaves nothing in the journal.
func TestRefusals(t *testing.T) {
	r := newRig(t)
	for _, tt := range refusals() {
		t.Run(tt.name, func(t *testing.T) {
			r.clock.advance(1e12) // the limiter is full again
			a := r.send(t, tt.body, tt.headers...)
			p := a.problem(t)
			pointer := "-"
			if len(p.Errors) > 0 {
				pointer = p.Errors[0].Pointer
			}
			if a.status != tt.status || p.Status != tt.status || p.Code != tt.code || pointer != tt.pointer {
				t.Errorf("got %d %s at %q, want %d %s at %q; body %.400s", a.status, p.Code, pointer, tt.status, tt.code, tt.pointer, a.body)
			}
			if p.Type != ProblemBase+string(tt.code) || p.Title == "" || p.Detail == "" {
				t.Errorf("incomplete problem: %s", a.body)
			}
			if r.journal.calls != 0 {
				t.Fatalf("the journal was called")
			}
		})
	}
}

// A system that lists a contract without being its authority is refused at the door too.
func TestNotAuthority(t *testing.T) {
	r := newRig(t)
	set := compilePolicy(t)
	set.Systems["wms"].Publishes = append(set.Systems["wms"].Publishes, "order.captured")
	r.policy.p.Store(set)
	a := r.send(t, structured("1", goodData), "Content-Type", structuredType, "Authorization", "Bearer wms-secret")
	if p := a.problem(t); a.status != 403 || p.Errors[0].Rule != "authority" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	set.Systems["shop"].Publishes = nil // of the right role, but not listed
	a = r.send(t, structured("1", goodData), "Content-Type", structuredType)
	if p := a.problem(t); a.status != 403 || p.Errors[0].Rule != "publishes" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if r.journal.calls != 0 {
		t.Error("the journal was called")
	}
}

func TestJournalRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		set    func(*journal)
		status int
		code   Code
		retry  string
	}{
		{"full", func(j *journal) { j.full = true }, 507, CodeQueueFull, "30"},
		{"failed", func(j *journal) { j.fail = errors.New("disk gone") }, 503, CodeUnavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			tt.set(r.journal)
			a := r.send(t, structured("1", goodData), "Content-Type", structuredType)
			if p := a.problem(t); a.status != tt.status || p.Code != tt.code || a.header.Get("Retry-After") != tt.retry {
				t.Errorf("got %d %s, retry %q", a.status, a.body, a.header.Get("Retry-After"))
			}
			if strings.Contains(string(a.body), "disk gone") {
				t.Error("the answer shows what only the log should")
			}
		})
	}
	t.Run("conflict", func(t *testing.T) {
		r := newRig(t)
		r.send(t, structured("1", goodData), "Content-Type", structuredType)
		other := structured("1", `{"orderId":"B","lines":[]}`)
		a := r.send(t, other, "Content-Type", structuredType)
		if p := a.problem(t); a.status != 409 || p.Code != CodeConflict || p.Errors[0].Pointer != "/id" || strings.Contains(p.Detail, "other events") {
			t.Errorf("got %d %s", a.status, a.body)
		}
		a = r.send(t, "["+structured("2", goodData)+","+other+"]", "Content-Type", batchType)
		if p := a.problem(t); a.status != 409 || p.Errors[0].Pointer != "/1/id" || !strings.Contains(p.Detail, "other events") {
			t.Errorf("batch: got %d %s", a.status, a.body)
		}
	})
}

// What runs out of time says nothing about the event: the sender may try again.
func TestOutOfTime(t *testing.T) {
	r := newRig(t)
	set := compilePolicy(t)
	set.Contracts["stock.counted"].Key = jq(t, "def f: f; f")
	r.policy.p.Store(set)
	stock := func(data string) *answer {
		body := `{"specversion":"1.0","id":"1","source":"/eu/wms","type":"stock.counted.v1","data":` + data + `}`
		return r.send(t, body, "Content-Type", structuredType, "Authorization", "Bearer wms-secret")
	}
	for name, a := range map[string]*answer{
		"key":     stock(`{"sku":"1"}`),
		"pattern": stock(`{"slow":"` + strings.Repeat("a", 60) + `!"}`),
	} {
		if p := a.problem(t); a.status != 503 || p.Code != CodeUnavailable || !strings.Contains(p.Detail, "too long") {
			t.Errorf("%s: got %d %s", name, a.status, a.body)
		}
	}
	if r.journal.calls != 0 {
		t.Error("the journal was called")
	}
}

func jq(t *testing.T, source string) *expr.Expr {
	t.Helper()
	e, err := expr.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestNotReady(t *testing.T) {
	r := newRig(t)
	r.policy.p.Store(nil)
	a := r.send(t, structured("1", goodData), "Content-Type", structuredType)
	if p := a.problem(t); a.status != 503 || p.Code != CodeNotReady {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// The answer comes after the commit, never before.
func TestAnswerWaitsForCommit(t *testing.T) {
	r := newRig(t)
	r.journal.hold, r.journal.came = make(chan struct{}), make(chan struct{})
	done := make(chan *answer)
	go func() { done <- r.send(t, structured("1", goodData), "Content-Type", structuredType) }()
	<-r.journal.came
	select {
	case a := <-done:
		t.Fatalf("answered %d before the commit", a.status)
	default:
	}
	close(r.journal.hold)
	if a := <-done; a.status != 202 {
		t.Errorf("got %d", a.status)
	}
}

// A body that ends early, as when a line drops, leaves nothing.
func TestPartialBody(t *testing.T) {
	r := newRig(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	body := structured("1", goodData)
	fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer shop-secret\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
		structuredType, len(body)+10, body)
	conn.(*net.TCPConn).CloseWrite()
	text := make([]byte, 4096)
	n, _ := conn.Read(text)
	if !strings.HasPrefix(string(text[:n]), "HTTP/1.1 400 ") {
		t.Errorf("got %q", text[:n])
	}
	conn.Close()
	if r.journal.calls != 0 {
		t.Error("the journal was called")
	}
}

func TestDeprecated(t *testing.T) {
	r := newRig(t)
	old := strings.Replace(structured("1", `{"orderId":"A-1"}`), `"data"`, `"dataschema":"crossdock:order.captured/1.0.0","data"`, 1)
	a := r.send(t, old, "Content-Type", structuredType)
	want := map[string]string{
		"Deprecation": fmt.Sprintf("@%d", r.clock.now().Unix()),
		"Sunset":      "Wed, 30 Jun 2027 00:00:00 GMT",
		"Link":        `</v1/contracts/order.captured/1.1.0>; rel="successor-version"`,
	}
	if a.status != 202 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	for name, value := range want {
		if got := a.header.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	if a := r.send(t, structured("2", goodData), "Content-Type", structuredType); a.header.Get("Deprecation") != "" {
		t.Error("the active version is called deprecated")
	}
}

func TestOtherAddresses(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		method, path string
		status       int
		code         Code
	}{
		{"GET", "/v1/nothing", 404, CodeNotFound}, {"GET", "/", 404, CodeNotFound},
		{"GET", "/v1/events", 405, CodeMethod}, {"DELETE", "/v1/events", 405, CodeMethod},
		{"GET", "/v1/contracts/order.captured/9.9.9", 404, CodeNotFound},
		{"GET", "/metrics", 404, CodeNotFound},
	} {
		a := r.do(t, tt.method, tt.path, "", "X-HTTP-Method-Override", "POST")
		if p := a.problem(t); a.status != tt.status || p.Code != tt.code {
			t.Errorf("%s %s: got %d %s", tt.method, tt.path, a.status, a.body)
		}
	}
	for _, path := range []string{"/v1/contracts", "/v1/contracts/order.captured/1.1.0"} {
		if a := r.do(t, "GET", path, "", "Authorization", ""); a.status != 401 {
			t.Errorf("%s without a token: got %d", path, a.status)
		}
	}
}

func TestContracts(t *testing.T) {
	r := newRig(t)
	a := r.do(t, http.MethodGet, "/v1/contracts", "")
	var got []contractView
	if err := json.Unmarshal(a.body, &got); err != nil || len(got) != 3 {
		t.Fatalf("got %s, %v", a.body, err)
	}
	if c := got[0]; c.Name != "order.captured" || !c.Publish || c.Key != ".orderId" || len(c.Versions) != 4 ||
		c.Versions[0].Sunset != "2027-06-30" || c.Versions[1].Type != "order.captured.v1" || got[1].Publish {
		t.Errorf("got %s", a.body)
	}
	a = r.do(t, http.MethodGet, got[0].Versions[1].Schema, "")
	if a.status != 200 || a.header.Get("Content-Type") != "application/schema+json" || string(a.body) != fmt.Sprintf(orderSchema, `,"lines"`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t)
	r.send(t, structured("1", goodData), "Content-Type", structuredType)
	r.send(t, structured("1", goodData), "Content-Type", structuredType)
	r.send(t, "{", "Content-Type", structuredType)
	m := r.parts.Metrics
	if got := testutil.ToFloat64(m.accepted.WithLabelValues("shop", "crossdock:order.captured/1.1.0")); got != 2 {
		t.Errorf("accepted: got %v, want 2", got)
	}
	if got := testutil.ToFloat64(m.repeats.WithLabelValues("shop")); got != 1 {
		t.Errorf("repeats: got %v, want 1", got)
	}
	if got := testutil.ToFloat64(m.refused.WithLabelValues(string(CodeInvalidEvent))); got != 1 {
		t.Errorf("refused: got %v, want 1", got)
	}
}
