// Package tracing owns how an event's way is told to OpenTelemetry: a span for each hop, sent
// to a collector over OTLP.
//
// It refuses to know where hops come from, and delays none: what the collector does not take in
// time is dropped. Its invariant: every agent gives the spans of one event ids that follow from
// the event alone, so that they are one trace without any of them telling another.
package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/crossdock/crossdock/protocol/event"
)

// Config of a Tracer.
type Config struct {
	Endpoint string  // base address of a collector, such as http://127.0.0.1:4318; empty: nothing is traced
	Sample   float64 // part of the events without a trace context of their own that is traced, 0 to 1
	Agent    string
	Version  string
	Logger   *slog.Logger
}

// Tracer makes spans. A nil one traces nothing.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	sample   float64
}

// New makes a Tracer, nil where there is no endpoint. It does not wait for the collector.
func New(c Config) (*Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Tracer is one that traces nothing
	}
	if err := CheckEndpoint(c.Endpoint); err != nil {
		return nil, err
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(c.Endpoint+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	seldom := rate.NewLimiter(rate.Every(time.Minute), 1)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		if seldom.Allow() {
			c.Logger.Warn("traces cannot be sent and are dropped; events are not held up", "endpoint", c.Endpoint, "err", err)
		}
	}))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithIDGenerator(given{}), sdktrace.WithSampler(sdktrace.AlwaysSample()),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "crossdock-agent"),
			attribute.String("service.instance.id", c.Agent), attribute.String("service.version", c.Version))))
	return &Tracer{provider: provider, tracer: provider.Tracer("github.com/crossdock/crossdock/agent"), sample: c.Sample}, nil
}

// CheckEndpoint says what is wrong with the address of a collector.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" {
		return fmt.Errorf("tracing.endpoint: %q is not the base address of a collector, such as http://127.0.0.1:4318", endpoint)
	}
	return nil
}

// Close sends what is left, as long as ctx allows.
func (t *Tracer) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// ids are what a new span is to have.
type ids struct {
	trace trace.TraceID
	span  trace.SpanID
}

type idsKey struct{}

// given is an id generator that gives the ids that are in the context.
type given struct{}

func (given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.trace, i.span
}

func (given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	i, _ := ctx.Value(idsKey{}).(ids)
	return i.span
}

// context of an event: its trace, and the span that its producer named.
func (t *Tracer) context(e *event.Event) (of trace.TraceID, producer trace.SpanID, sampled bool) {
	if text := e.Extensions["traceparent"]; text != "" {
		if id, span, flags, ok := parseParent(text); ok {
			return id, span, flags.IsSampled()
		}
	}
	of = trace.TraceID(e.Hash())
	part := float64(binary.BigEndian.Uint64(of[8:])>>11) / (1 << 53)
	return of, producer, of.IsValid() && part < t.sample
}

// spanID follows from trace and hop.
func spanID(of trace.TraceID, e *event.Event, hop string) (id trace.SpanID) {
	hash := e.Hash()
	sum := sha256.Sum256(append(append(of[:], hash[:]...), hop...))
	copy(id[:], sum[:])
	if !id.IsValid() {
		binary.BigEndian.PutUint64(id[:], math.MaxUint64)
	}
	return id
}

type hop struct {
	name       string
	id, parent string // of hops; an empty parent is the producer's span
	kind       trace.SpanKind
	from, to   time.Time
	about      []attribute.KeyValue
	err        error
}

func (t *Tracer) span(e *event.Event, h hop) (trace.SpanContext, bool) {
	if t == nil {
		return trace.SpanContext{}, false
	}
	of, producer, sampled := t.context(e)
	if !sampled {
		return trace.SpanContext{}, false
	}
	parent := producer
	if h.parent != "" {
		parent = spanID(of, e, h.parent)
	}
	ctx := context.WithValue(context.Background(), idsKey{}, ids{of, spanID(of, e, h.id)})
	if parent.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: of, SpanID: parent, TraceFlags: trace.FlagsSampled, Remote: true}))
	}
	to := h.to
	if to.Before(h.from) {
		to = h.from // two clocks, or one that was set
	}
	_, span := t.tracer.Start(ctx, h.name, trace.WithTimestamp(h.from), trace.WithSpanKind(h.kind), trace.WithAttributes(append(h.about,
		attribute.String("cloudevents.event_id", e.ID), attribute.String("cloudevents.event_source", e.Source), attribute.String("cloudevents.event_type", e.Type))...))
	if h.err != nil {
		span.SetStatus(codes.Error, h.err.Error())
	}
	span.End(trace.WithTimestamp(to))
	return span.SpanContext(), true
}

// The hops by which others are told apart.
const (
	hopAccept  = "accept"
	hopRelay   = "relay/"
	hopReceive = "receive/"
)

// Accepted tells that an event of a system was validated, routed and committed.
func (t *Tracer) Accepted(e *event.Event, system string, begun, committed time.Time) {
	t.span(e, hop{name: "accept " + e.Type, id: hopAccept, kind: trace.SpanKindServer, from: begun, to: committed,
		about: []attribute.KeyValue{attribute.String("crossdock.system", system)}})
}

// Received tells that an event came from another agent: when that committed it, when the relay
// did, and when this one did.
func (t *Tracer) Received(e *event.Event, source, agent string, committed, relayed, received time.Time) {
	about := []attribute.KeyValue{attribute.String("crossdock.source", source), attribute.String("crossdock.destination", agent)}
	if _, ok := t.span(e, hop{name: "push to the relay", id: hopRelay + agent, parent: hopAccept, kind: trace.SpanKindProducer, from: committed, to: relayed, about: about}); !ok {
		return
	}
	t.span(e, hop{name: "relay to " + agent, id: hopReceive + agent, parent: hopRelay + agent, kind: trace.SpanKindConsumer, from: relayed, to: received, about: about})
}

// Attempt is one try to take an event to a system.
type Attempt struct {
	System   string
	Number   int
	Key      string // the idempotency key
	From, To time.Time
	Err      error
}

func (a *Attempt) hop() string { return fmt.Sprintf("deliver/%s/%s/%d", a.System, a.Key, a.Number) }

// Attempted tells of a try.
func (t *Tracer) Attempted(e *event.Event, a Attempt) {
	t.span(e, hop{name: "deliver to " + a.System, id: a.hop(), parent: hopAccept, kind: trace.SpanKindClient, from: a.From, to: a.To, err: a.Err,
		about: []attribute.KeyValue{attribute.String("crossdock.system", a.System), attribute.Int("crossdock.attempt", a.Number)}})
}

// Parent is the W3C traceparent that a system gets with an attempt, so that its own spans hang
// below it; empty if the event is not traced.
func (t *Tracer) Parent(e *event.Event, a Attempt) string {
	if t == nil {
		return ""
	}
	of, _, sampled := t.context(e)
	if !sampled {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-01", of, spanID(of, e, a.hop()))
}
