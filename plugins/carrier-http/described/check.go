package described

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
	"github.com/crossdock/crossdock/protocol/expr"
)

// example is a call that the file shows: what is asked for, what has to be sent, what comes
// back, and what becomes of it.
type example struct {
	at       strictyaml.Place
	op       string
	settings sdk.Settings
	request  []byte
	sends    sent
	status   int
	header   http.Header
	body     string
	document string // that every further GET gives
	gives    any
	fails    *failure
}

// sent is what a request has to be; what is not said is not looked at.
type sent struct {
	method, path string
	query        map[string]string // nil: not said
	headers      map[string]string
	body         any
}

type failure struct{ class, field, code string }

func (d *Description) readExample(f *fields) {
	e := example{at: f.At, settings: sdk.Settings{}, op: f.OneOf("operation", true, slices.Sorted(maps.Keys(known))...)}
	if e.op != "" && d.operations[e.op] == nil {
		f.Refuse(f.Line("operation"), "operation %s is not described", e.op)
	}
	maps.Copy(e.settings, f.pairs("settings"))
	e.request = []byte(f.Text("request", true))
	f.json("request")
	f.r.mapping(f.Get("sends"), func(s *fields) {
		e.sends = sent{method: s.Text("method", false), path: s.Text("path", false), headers: s.pairs("headers"), body: s.json("body")}
		if s.Has("query") {
			e.sends.query = s.pairs("query")
		}
	})
	f.r.mapping(f.Need("answer"), func(a *fields) {
		e.status, e.header = http.StatusOK, http.Header{}
		if text := a.Text("status", false); text != "" {
			e.status = f.r.status(a.Line("status"), text)
		}
		for name, value := range a.pairs("headers") {
			e.header.Set(name, value)
		}
		e.body, e.document = a.Text("body", false), a.Text("document", false)
	})
	e.gives = f.json("gives")
	f.r.mapping(f.Get("fails"), func(w *fields) {
		e.fails = &failure{w.OneOf("class", true, classes...), w.Text("field", false), w.Text("code", false)}
	})
	if (e.gives == nil) == (e.fails == nil) {
		f.Refuse(f.At, "an example says what it gives, or how it fails")
	}
	d.examples = append(d.examples, e)
}

// pairs are the texts of a mapping.
func (f *fields) pairs(name string) map[string]string {
	out := map[string]string{}
	if inner := f.r.open(f.Get(name)); inner != nil {
		for _, key := range inner.Names {
			out[key] = inner.Text(key, false)
		}
	}
	return out
}

// json is a value written as JSON, in which a number keeps its digits; nil where it is missing.
func (f *fields) json(name string) any {
	n := f.Get(name)
	if n == nil {
		return nil
	}
	if !strictyaml.Written(n) {
		f.Refuse(f.Line(name), "field %s is JSON as text; write it behind a |", name)
		return nil
	}
	v, err := expr.Decode([]byte(f.Text(name, true)))
	if err != nil {
		f.Refuse(f.Line(name), "field %s: %v", name, err)
	}
	return v
}

// Check tries the examples in their order, with one record, and tells what they find.
func (d *Description) Check(ctx context.Context) (tried int, err error) {
	dir, err := os.MkdirTemp("", "carrier-http-check")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	c := New(d, slog.New(slog.DiscardHandler))
	settings := sdk.Settings{}
	if d.buys() {
		settings[setState] = dir
	}
	for _, s := range d.settings {
		settings[s.Name] = "(" + s.Name + ")"
	}
	if err := c.Configure(ctx, settings); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for i := range d.examples {
		e := &d.examples[i]
		e.become(c, settings)
		if fault := e.try(ctx, c); fault != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", e.at, fault))
		}
	}
	return len(d.examples), err
}

// become puts the example in the provider's place.
func (e *example) become(c *Carrier, settings sdk.Settings) {
	own := maps.Clone(settings)
	maps.Copy(own, e.settings)
	c.visible = c.d.visible(own)
	c.client.settings = own
	c.client.credential.value, c.client.credential.until = "(token)", c.now().Add(24*time.Hour)
}

// try makes the call of an example.
func (e *example) try(ctx context.Context, c *Carrier) error {
	p := &played{example: e, base: c.client.base}
	c.client.asking, c.client.buying = &http.Client{Transport: p}, &http.Client{Transport: p}
	given, err := e.ask(ctx, c)
	if len(p.faults) > 0 {
		return errors.Join(p.faults...)
	}
	if e.fails != nil {
		return e.failed(err)
	}
	if err != nil {
		return err
	}
	text, err := json.Marshal(given)
	if err != nil {
		return err
	}
	v, err := expr.Decode(text)
	if err != nil {
		return err
	}
	if diff := within("", e.gives, v); diff != "" {
		return fmt.Errorf("it gives other than it says: %s", diff)
	}
	return nil
}

func (e *example) failed(err error) error {
	if err == nil {
		return fmt.Errorf("it does not fail, and should with class %s", e.fails.class)
	}
	got := sdk.AsError(err)
	if string(got.Class) != e.fails.class || e.fails.field != "" && got.Field != e.fails.field || e.fails.code != "" && got.Provider.Code != e.fails.code {
		return fmt.Errorf("it fails with class %s at field %q, code %q, and should with class %s at %q, code %q: %w",
			got.Class, got.Field, got.Provider.Code, e.fails.class, e.fails.field, e.fails.code, err)
	}
	return nil
}

// ask calls the operation with what the example asks for.
func (e *example) ask(ctx context.Context, c *Carrier) (any, error) {
	switch e.op {
	case carrier.OpRate:
		return asked(ctx, e, c.Rate)
	case carrier.OpShip:
		return asked(ctx, e, c.Ship)
	case carrier.OpShipReturn:
		return asked(ctx, e, c.ShipReturn)
	case carrier.OpVoid:
		return asked(ctx, e, c.Void)
	case carrier.OpPickup, opChange, opCancel:
		return asked(ctx, e, c.Pickup)
	case carrier.OpManifest:
		return asked(ctx, e, c.Manifest)
	case carrier.OpTrack:
		return asked(ctx, e, c.Track)
	case carrier.OpValidateAddress:
		return asked(ctx, e, c.ValidateAddress)
	}
	return asked(ctx, e, func(ctx context.Context, r *struct {
		Reference string `json:"reference"`
	}) (*carrier.Shipped, error) {
		return c.GetByReference(ctx, r.Reference)
	})
}

func asked[Q, A any](ctx context.Context, e *example, call func(context.Context, *Q) (*A, error)) (any, error) {
	q := new(Q)
	if err := sdk.ReadJSON(e.request, q); err != nil {
		return nil, fmt.Errorf("the request: %w", err)
	}
	return call(ctx, q)
}

// played is the provider that an example tells of.
type played struct {
	*example
	base   *url.URL
	calls  int
	faults []error
}

func (p *played) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := &http.Response{StatusCode: p.status, Header: p.header, Request: r, Body: io.NopCloser(strings.NewReader(p.body))}
	if p.calls++; p.calls > 1 {
		answer.StatusCode, answer.Body = http.StatusOK, io.NopCloser(strings.NewReader(p.document))
		return answer, nil
	}
	say := func(format string, args ...any) { p.faults = append(p.faults, fmt.Errorf(format, args...)) }
	if p.sends.method != "" && r.Method != p.sends.method {
		say("it sends a %s, and should a %s", r.Method, p.sends.method)
	}
	path := strings.TrimPrefix(r.URL.EscapedPath(), strings.TrimRight(p.base.EscapedPath(), "/"))
	if p.sends.path != "" && path != p.sends.path {
		say("it sends to %s, and should to %s", path, p.sends.path)
	}
	if p.sends.query != nil {
		query := map[string]string{}
		for name, values := range r.URL.Query() {
			query[name] = strings.Join(values, ",")
		}
		if !maps.Equal(query, p.sends.query) {
			say("it sends the query %v, and should %v", query, p.sends.query)
		}
	}
	for name, want := range p.sends.headers {
		if got := r.Header.Get(name); got != want {
			say("it sends the header %s: %s, and should %s", name, got, want)
		}
	}
	if p.sends.body != nil {
		text := []byte("null")
		if r.Body != nil {
			var err error
			if text, err = io.ReadAll(r.Body); err != nil {
				return nil, err
			}
		}
		got, err := expr.Decode(bytes.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if diff := within("", p.sends.body, got) + within("", got, p.sends.body); diff != "" {
			say("it sends another body than it says: %s", diff)
		}
	}
	return answer, nil
}

// within says where a value is not as wanted. An object may have more members than are wanted.
func within(at string, want, got any) string {
	if w, ok := want.(map[string]any); ok {
		g, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %.200v and no object; ", at, got)
		}
		out := ""
		for _, name := range slices.Sorted(maps.Keys(w)) {
			out += within(at+"."+name, w[name], g[name])
		}
		return out
	}
	if w, ok := want.([]any); ok {
		g, _ := got.([]any)
		if len(g) != len(w) {
			return fmt.Sprintf("%s has %d elements, not %d; ", at, len(g), len(w))
		}
		out := ""
		for i := range w {
			out += within(fmt.Sprintf("%s[%d]", at, i), w[i], g[i])
		}
		return out
	}
	if !equal(want, got) {
		return fmt.Sprintf("%s is %.200v, not %.200v; ", at, got, want)
	}
	return ""
}

// equal compares what is neither a list nor an object; numbers by what they are worth.
func equal(want, got any) bool {
	w, number := want.(json.Number)
	g, numbers := got.(json.Number)
	if number && numbers {
		a, err := decimal.NewFromString(w.String())
		b, err2 := decimal.NewFromString(g.String())
		return err == nil && err2 == nil && a.Equal(b)
	}
	_, list := got.([]any)
	_, object := got.(map[string]any)
	return !list && !object && want == got
}
