package httpdriver

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/policy"
)

// Deliver is systems.Deliverer.
func (d *Driver) Deliver(ctx context.Context, del systems.Delivery) (systems.Answer, error) {
	call := d.spec.Deliver
	if call == nil {
		return systems.Answer{}, systems.NotOffered(systems.OpDeliver)
	}
	u, err := d.resolve(call.Path)
	if err != nil {
		return systems.Answer{}, err
	}
	header, body, err := Encode(del.Mapped(), call.Envelope)
	if err != nil {
		return systems.Answer{}, err
	}
	addHeaders(header, del)
	return d.send(ctx, call, u, header, body)
}

// send makes the request of a delivery, or of many.
func (d *Driver) send(ctx context.Context, call *policy.HTTPCall, u *url.URL, header http.Header, body []byte) (systems.Answer, error) {
	method := orDefault(call.Method, http.MethodPost)
	reply, err := d.do(ctx, exchange.Request{Method: method, URL: u, Header: header, Body: body, Effect: true, Partial: true})
	if err != nil {
		return systems.Answer{}, err
	}
	return systems.Answer{
		Status: reply.Status, Body: reply.Body, Detail: method + " " + u.Host + u.EscapedPath(),
	}, nil
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// Encode writes an event as an HTTP message: structured (the default), binary, or data alone.
func Encode(e *event.Event, envelope string) (http.Header, []byte, error) {
	header := http.Header{}
	switch envelope {
	case "", "structured":
		body, err := e.Marshal()
		if err != nil {
			return nil, nil, systems.Rejectedf("the event cannot be written: %w", err)
		}
		header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
		return header, body, nil
	case "binary":
		if err := e.Validate(); err != nil {
			return nil, nil, systems.Rejectedf("the event cannot be written: %w", err)
		}
		attributes(header, e)
	case "data":
	default:
		return nil, nil, systems.Misconfiguredf("envelope %q is unknown; it is structured, binary or data", envelope)
	}
	header.Set("Content-Type", orDefault(e.DataContentType, event.JSONType))
	return header, e.Data, nil
}

// attributes writes the context attributes as ce- headers.
func attributes(header http.Header, e *event.Event) {
	set := func(name, value string) {
		if value != "" {
			header.Set("ce-"+name, percent(value))
		}
	}
	set("specversion", event.SpecVersion)
	set("id", e.ID)
	set("source", e.Source)
	set("type", e.Type)
	set("subject", e.Subject)
	set("dataschema", e.DataSchema)
	if !e.Time.IsZero() {
		set("time", e.Time.UTC().Format(time.RFC3339Nano))
	}
	for name, value := range e.Extensions {
		set(name, value)
	}
}

// percent encodes a header value as the HTTP binding of CloudEvents says: everything outside
// printable ASCII, the space, the double quote and the percent sign.
func percent(value string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if c := value[i]; c <= 0x20 || c >= 0x7f || c == '"' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

var traceparent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

func addHeaders(header http.Header, del systems.Delivery) {
	header.Set(HeaderIdempotencyKey, percent(del.IdempotencyKey))
	if del.Key != "" {
		header.Set(HeaderKey, percent(del.Key))
	}
	if del.Route != "" {
		header.Set(HeaderRoute, percent(del.Route))
	}
	if del.Attempt > 0 {
		header.Set(HeaderAttempt, strconv.Itoa(del.Attempt))
	}
	if del.Shadow {
		header.Set(HeaderShadow, "true")
	}
	if trace := cmp.Or(del.TraceParent, del.Event.Extensions["traceparent"]); traceparent.MatchString(trace) {
		header.Set("traceparent", trace)
		if state := del.Event.Extensions["tracestate"]; state != "" {
			header.Set("tracestate", percent(state))
		}
	}
}
