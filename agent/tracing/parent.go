package tracing

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// parseParent reads a W3C traceparent; versions after 00 may have more fields.
func parseParent(text string) (of trace.TraceID, span trace.SpanID, flags trace.TraceFlags, ok bool) {
	parts := strings.Split(text, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[3]) != 2 || parts[0] == "ff" || parts[0] == "00" && len(parts) > 4 || text != strings.ToLower(text) {
		return of, span, 0, false
	}
	of, err := trace.TraceIDFromHex(parts[1])
	if err != nil {
		return of, span, 0, false
	}
	if span, err = trace.SpanIDFromHex(parts[2]); err != nil {
		return of, span, 0, false
	}
	raw, err := hex.DecodeString(parts[3])
	if err != nil {
		return of, span, 0, false
	}
	return of, span, trace.TraceFlags(raw[0]), true
}
