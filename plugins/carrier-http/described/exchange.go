package described

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
	"github.com/crossdock/crossdock/protocol/expr"
)

const (
	maxDocuments     = 32
	maxDocumentBytes = 2900 << 10 // of all of one answer, as a message has at most 4 MiB and they are base64 in the record
)

// exchange is one call of an operation.
type exchange struct {
	c     *client
	o     *operation
	input map[string]any // what expressions see: the request in the contract's words, and the settings
	texts long           // of the answer
	key   string         // under which the provider does it once; empty: it has no such key
}

// visible are the settings that expressions see. A secret goes into auth alone.
func (d *Description) visible(all sdk.Settings) map[string]any {
	out := map[string]any{}
	for _, s := range d.settings {
		if value := all[s.Name]; value != "" && !s.Secret {
			out[s.Name] = value
		}
	}
	return out
}

// run makes the call and gives the result, in the contract's words but not yet looked at.
func (x *exchange) run(ctx context.Context) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, x.o.timeout)
	defer cancel()
	if err := x.refused(ctx); err != nil {
		return nil, err
	}
	got, err := x.c.send(ctx, x.o, x.request)
	if err != nil {
		return nil, err
	}
	return x.read(ctx, got)
}

// fails is the error of a description that makes no request of what is asked; nothing was sent.
func fails(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
	}
	return sdk.Errorf(sdk.Internal, "the description fails over this request: %v", err)
}

// refused says what the description does not send at all.
func (x *exchange) refused(ctx context.Context) error {
	for i := range x.o.refuse {
		r := &x.o.refuse[i]
		holds, err := r.when.holds(ctx, x.input)
		if err != nil {
			return fails(err)
		}
		if holds {
			field, err := r.fieldOf(ctx, x.input)
			if err != nil {
				return fails(err)
			}
			return sdk.Errorf(r.class, "%s", r.message).At(field)
		}
	}
	return nil
}

func (r *rule) fieldOf(ctx context.Context, input any) (string, error) {
	if r.field == nil {
		return r.at, nil
	}
	field, err := r.field.text(ctx, input)
	if field == "" {
		field = r.at
	}
	return field, err
}

func (x *exchange) request(ctx context.Context) (*http.Request, error) {
	to, err := x.address(ctx)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if x.o.request.body != nil {
		text, err := x.body(ctx)
		if err != nil {
			return nil, fails(err)
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, x.o.request.method, to.String(), body)
	if err != nil {
		return nil, fails(errors.New("the address is none"))
	}
	r.GetBody = nil // nothing is sent a second time
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "crossdock-carrier-http/"+Version)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, p := range x.o.request.headers {
		value, err := p.text(ctx, x.input)
		if err != nil {
			return nil, fails(err)
		}
		if strings.ContainsAny(value, "\r\n\x00") {
			return nil, sdk.Errorf(sdk.Validation, "a text for header %s has a line break", name).At(x.o.standardField())
		}
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	if k := x.o.key; k != nil && k.header != "" {
		r.Header.Set(k.header, x.key)
	}
	return r, nil
}

func (x *exchange) address(ctx context.Context) (*url.URL, error) {
	path := ""
	for _, s := range x.o.request.path {
		text := s.text
		if s.of != nil {
			value, err := s.of.text(ctx, x.input)
			if err != nil {
				return nil, fails(err)
			}
			if value == "" || value == "." || value == ".." {
				return nil, sdk.Errorf(sdk.Validation, "there is no %s to ask for", s.name).At(x.o.standardField())
			}
			text = url.PathEscape(value)
		}
		path += text
	}
	to, err := x.c.base.Parse(strings.TrimRight(x.c.base.EscapedPath(), "/") + path)
	if err != nil {
		return nil, fails(errors.New("the path is none"))
	}
	query := url.Values{}
	for name, p := range x.o.request.query {
		v, err := p.run(ctx, x.input)
		if err != nil {
			return nil, fails(err)
		}
		all, several := v.([]any)
		if !several {
			all = []any{v}
		}
		for _, one := range all {
			text, err := plain(one)
			if err != nil {
				return nil, fails(fmt.Errorf("%s: %w", p.at, err))
			}
			if text != "" {
				query.Add(name, text)
			}
		}
	}
	to.RawQuery = query.Encode()
	return to, nil
}

func (x *exchange) body(ctx context.Context) ([]byte, error) {
	v, err := x.o.request.body.run(ctx, x.input)
	if err != nil {
		return nil, err
	}
	if k := x.o.key; k != nil && k.field != "" {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: the body is no object that the key could be in", x.o.request.body.at)
		}
		m[k.field] = x.key
	}
	return json.Marshal(v)
}

// text is the key as it is sent, of an operation and the caller's reference.
func (k *idempotency) text(operation, reference string) string {
	if !k.uuid {
		return operation + "-" + reference
	}
	sum := sha256.Sum256([]byte("carrier-http " + operation + " " + reference))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // a UUID of version 8, RFC 9562
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// read makes a result or an error of an answer.
func (x *exchange) read(ctx context.Context, g *httpcall.Answer) (map[string]any, error) {
	seen, succeeded := x.answered(g), x.o.answer.succeeds(g.Status)
	if e, err := x.recognised(ctx, g, seen, succeeded); e != nil || err != nil {
		if err != nil {
			return nil, x.unread(err)
		}
		return nil, e
	}
	if !succeeded {
		return nil, x.byStatus(g)
	}
	v, err := x.o.answer.result.run(ctx, seen)
	if err != nil {
		return nil, x.unread(err)
	}
	if v == nil {
		return nil, nil
	}
	m, ok := x.texts.restored(v).(map[string]any)
	if !ok {
		return nil, x.unread(fmt.Errorf("%s: the result is no object", x.o.answer.result.at))
	}
	if err := x.documents(ctx, m); err != nil {
		return nil, err
	}
	return m, nil
}

func (a *answer) succeeds(status int) bool {
	if len(a.success) > 0 {
		return slices.Contains(a.success, status)
	}
	return status < 300
}

// answered is an answer as expressions see it.
func (x *exchange) answered(g *httpcall.Answer) map[string]any {
	headers := map[string]any{}
	for name, values := range g.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	seen := map[string]any{"status": g.Status, "headers": headers, "request": x.input, "text": nil, "body": nil}
	if body, err := expr.Decode(g.Body); err == nil {
		seen["body"] = x.texts.answered(body)
	} else if len(g.Body) <= longText {
		seen["text"] = strings.ToValidUTF8(string(g.Body), "?")
	}
	return seen
}

// unread is an answer that says yes to something, and not to what.
func (x *exchange) unread(err error) error {
	class := sdk.Unavailable
	if x.o.buys() {
		class = sdk.UnknownOutcome
	}
	e := sdk.Errorf(class, "the answer cannot be read: %v", err)
	e.Fault = sdk.FaultProvider
	return e
}

// documents puts the bytes of the papers into a result: base64 as it came, a text, or what a
// second call fetches.
func (x *exchange) documents(ctx context.Context, m map[string]any) error {
	all, _ := m["documents"].([]any)
	if len(all) > maxDocuments {
		return x.unread(fmt.Errorf("it has more than %d documents", maxDocuments))
	}
	size := 0
	for i, item := range all {
		doc, ok := item.(map[string]any)
		if !ok {
			return x.unread(fmt.Errorf("document %d is no object", i))
		}
		if text, ok := doc["text"].(string); ok {
			doc["data"] = encoded([]byte(text))
			delete(doc, "text")
		}
		if path, ok := doc["get"].(string); ok {
			data, err := x.fetch(ctx, path)
			if err != nil {
				return x.unread(fmt.Errorf("document %d: %w", i, err))
			}
			doc["data"] = encoded(data)
			delete(doc, "get")
		}
		data, _ := doc["data"].(string)
		if size += len(data) / 4 * 3; size > maxDocumentBytes {
			return x.unread(fmt.Errorf("its documents have more than %d bytes", maxDocumentBytes))
		}
	}
	return nil
}

// fetch gets a document by its path below the base, or by its address at the same host: the
// account is shown to nobody else.
func (x *exchange) fetch(ctx context.Context, path string) ([]byte, error) {
	to, err := url.Parse(path)
	if err == nil && to.Host == "" && strings.HasPrefix(path, "/") {
		to, err = url.Parse(strings.TrimRight(x.c.base.String(), "/") + path)
	}
	if err != nil || to.Host != x.c.base.Host || to.Scheme != x.c.base.Scheme || to.User != nil {
		return nil, errors.New("its address is not at the provider's host")
	}
	g, err := x.c.send(ctx, &operation{name: "document"}, func(ctx context.Context) (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, to.String(), nil)
	})
	if err != nil {
		return nil, err
	}
	if g.Status != http.StatusOK || len(g.Body) == 0 {
		return nil, fmt.Errorf("the provider does not give it (%d)", g.Status)
	}
	return g.Body, nil
}
