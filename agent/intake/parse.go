package intake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/strictjson"
)

// mode is the content mode of the CloudEvents HTTP binding.
type mode string

const (
	binaryMode     mode = "binary"
	structuredMode mode = "structured"
	batchMode      mode = "batch"
)

const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
)

// bodyLimit bounds the body before anything is read of it.
func (m mode) bodyLimit() int64 {
	if m == batchMode {
		return MaxBatchBytes
	}
	return event.MaxSize
}

// modeOf reads the content mode from a request's headers and refuses what no mode takes.
func modeOf(h http.Header) (mode, *Problem) {
	if len(h.Values("Content-Type")) > 1 {
		return "", problem(CodeInvalidEvent, "Content-Type stands twice")
	}
	for _, v := range h.Values("Content-Encoding") {
		if !strings.EqualFold(strings.TrimSpace(v), "identity") {
			return "", problem(CodeMediaType, "Content-Encoding %q is not taken: send the body uncompressed", v)
		}
	}
	text := h.Get("Content-Type")
	switch text { // as nearly everybody writes it
	case structuredType:
		return structuredMode, nil
	case batchType:
		return batchMode, nil
	case "": // of an event without data; the contract will say
		return binaryMode, nil
	}
	media, params, err := mime.ParseMediaType(text)
	if err != nil {
		return "", problem(CodeMediaType, "Content-Type %q is malformed", text)
	}
	if charset, ok := params["charset"]; ok && !strings.EqualFold(charset, "utf-8") {
		return "", problem(CodeMediaType, "charset %q is not taken: JSON is UTF-8", charset)
	}
	switch {
	case media == structuredType:
		return structuredMode, nil
	case media == batchType:
		return batchMode, nil
	case strings.HasPrefix(media, "application/cloudevents"):
		return "", problem(CodeMediaType, "Content-Type %s is not taken: send %s, %s, or binary mode", media, structuredType, batchType)
	case !isJSON(media):
		return "", problem(CodeMediaType, "Content-Type %s is not taken: contracts describe JSON", media)
	case h.Get("Ce-Specversion") == "":
		return "", problem(CodeMediaType, "Content-Type %s without ce- headers is no CloudEvent: send %s, or the ce- headers of binary mode", media, structuredType)
	}
	return binaryMode, nil
}

// isJSON tells whether a media type, without parameters, is JSON.
func isJSON(media string) bool {
	return media == "" || media == event.JSONType || media == "text/json" || strings.HasSuffix(media, "+json")
}

// parse makes events of a request that modeOf took. It checks everything that needs no
// policy. The events' data may be parts of body, which must not change any more.
func parse(m mode, h http.Header, body []byte) ([]event.Parsed, *Problem) {
	if events, ok := parseAtOnce(m, h, body); ok {
		return events, nil
	}
	events, p := parseInSteps(m, h, body)
	return undecoded(events), p
}

// undecoded are events whose data nobody has decoded yet.
func undecoded(events []*event.Event) []event.Parsed {
	out := make([]event.Parsed, len(events))
	for i, e := range events {
		out[i].Event = e
	}
	return out
}

// parseAtOnce reads what is well formed, as nearly everything is, in one pass that decodes
// the data as well. It knows no reasons: what it does not take, parseInSteps judges.
func parseAtOnce(m mode, h http.Header, body []byte) (events []event.Parsed, ok bool) {
	switch m {
	case batchMode:
		events, ok = readBatch(body)
	case structuredMode:
		r := strictjson.NewReader(body, event.MaxDepth+1)
		one, good := event.Read(r, true)
		events, ok = []event.Parsed{one}, good && r.End()
	default:
		value, good := strictjson.Decode(body, event.MaxDepth)
		if !good {
			return nil, false
		}
		e, err := parseBinary(h, nil)
		if err != nil {
			return nil, false
		}
		e.Data = body
		events, ok = []event.Parsed{{Event: e, Value: value, Decoded: true}}, true
	}
	for i := range events {
		ok = ok && normalise(events[i].Event) == nil
	}
	return events, ok
}

func readBatch(body []byte) (events []event.Parsed, ok bool) {
	r := strictjson.NewReader(body, event.MaxDepth+2)
	for r.Open('['); r.More(']'); {
		e, ok := event.Read(r, true)
		if !ok || len(events) == MaxBatchEvents {
			return nil, false
		}
		events = append(events, e)
	}
	return events, r.End()
}

// parseInSteps looks at a request once for each thing that may be wrong with it, so that
// it can say which.
func parseInSteps(m mode, h http.Header, body []byte) ([]*event.Event, *Problem) {
	if !utf8.Valid(body) {
		return nil, problem(CodeInvalidEvent, "the body is not UTF-8")
	}
	events, p := parseAs(m, h, body)
	switch {
	case p == nil || p.Code != CodeInvalidEvent:
	case m != binaryMode:
		p.locate(body, "body")
	case strings.Contains(p.Detail, "JSON"): // the headers may be at fault as well
		p.locate(body, "data")
	}
	return events, p
}

// locate says where JSON breaks, if that is what is wrong with it.
func (p *Problem) locate(body []byte, what string) {
	var text json.RawMessage
	var broken *json.SyntaxError
	if err := json.Unmarshal(body, &text); errors.As(err, &broken) && !strings.Contains(broken.Error(), "max depth") {
		p.Detail = fmt.Sprintf("malformed JSON at byte %d of the %s: %v", broken.Offset, what, broken)
	}
}

func parseAs(m mode, h http.Header, body []byte) ([]*event.Event, *Problem) {
	switch m {
	case batchMode:
		return parseBatch(body)
	case structuredMode:
		e, err := event.Unmarshal(body)
		if err != nil {
			return nil, refusal(err)
		}
		return []*event.Event{e}, normalise(e)
	}
	e, err := parseBinary(h, body)
	if err != nil {
		return nil, refusal(err)
	}
	return []*event.Event{e}, normalise(e)
}

// refusal turns an error of protocol/event into a problem.
func refusal(err error) *Problem {
	code := CodeInvalidEvent
	switch {
	case errors.Is(err, event.ErrTooDeep):
		code = CodeTooDeep
	case errors.Is(err, event.ErrTooLarge):
		code = CodeTooLarge
	}
	return problem(code, "%s", strings.TrimPrefix(err.Error(), event.ErrInvalid.Error()+": ")).because(err)
}

func parseBatch(body []byte) ([]*event.Event, *Problem) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if first, err := dec.Token(); err != nil || first != json.Delim('[') {
		return nil, problem(CodeInvalidEvent, "a JSON array of events is expected")
	}
	var out []*event.Event
	for dec.More() {
		if len(out) == MaxBatchEvents {
			return nil, problem(CodeTooLarge, "more than %d events in a batch", MaxBatchEvents)
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, malformed(err).within(len(out))
		}
		e, err := event.Unmarshal(raw)
		if err != nil {
			return nil, refusal(err).within(len(out))
		}
		if p := normalise(e); p != nil {
			return nil, p.within(len(out))
		}
		out = append(out, e)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, problem(CodeInvalidEvent, "something follows the array")
	}
	return out, nil
}

// malformed tells nesting beyond what the standard decoder scans from broken JSON.
func malformed(err error) *Problem {
	if strings.Contains(err.Error(), "max depth") {
		return problem(CodeTooDeep, "the limit is %d levels", event.MaxDepth).because(err)
	}
	return problem(CodeInvalidEvent, "malformed JSON: %v", err).because(err)
}

// parseBinary reads an event whose attributes are ce- headers and whose body is the data.
func parseBinary(h http.Header, body []byte) (*event.Event, error) {
	names := make([]string, 0, len(h))
	for name := range h {
		if len(name) > 3 && strings.EqualFold(name[:3], "ce-") {
			names = append(names, name)
		}
	}
	slices.Sort(names) // so that the first fault is always the same one
	e := &event.Event{DataContentType: h.Get("Content-Type")}
	version := ""
	for i, name := range names {
		attribute := strings.ToLower(name[3:])
		if len(h[name]) != 1 || i > 0 && strings.EqualFold(name, names[i-1]) {
			return nil, invalid("header ce-%s stands twice", attribute)
		}
		value, err := decodeHeader(h[name][0])
		if err != nil {
			return nil, invalid("header ce-%s: %v", attribute, err)
		}
		switch {
		case value == "":
			return nil, invalid("header ce-%s is empty: leave it out", attribute)
		case attribute == "datacontenttype":
			return nil, invalid("header ce-datacontenttype: in binary mode Content-Type says this")
		case attribute == "specversion":
			version = value
		default:
			if err := e.SetAttribute(attribute, value); err != nil {
				return nil, err
			}
		}
	}
	if version != event.SpecVersion {
		return nil, invalid("specversion is %q, only %q is spoken here", version, event.SpecVersion)
	}
	if len(body) > event.MaxSize {
		return nil, event.ErrTooLarge
	}
	if len(body) > 0 {
		e.Data = body
	}
	return e, e.Validate()
}

// normalise brings the data into the one form that contracts check: JSON text.
func normalise(e *event.Event) *Problem {
	media := e.DataContentType
	if media != "" && media != event.JSONType {
		var err error
		if media, _, err = mime.ParseMediaType(media); err != nil || !isJSON(media) {
			return problem(CodeMediaType, "datacontenttype %q is not taken: contracts describe JSON", e.DataContentType).
				at("/datacontenttype", "json", "must be JSON")
		}
	}
	if !e.Binary {
		return nil
	}
	// Some SDKs send JSON that they were given as bytes in data_base64.
	if !utf8.Valid(e.Data) {
		return problem(CodeInvalidEvent, "data_base64 does not hold JSON").at("/data_base64", "json", "not UTF-8")
	}
	if err := event.CheckJSON(e.Data); err != nil {
		return refusal(err).at("/data_base64", "json", "does not hold JSON that is taken here")
	}
	e.Binary = false
	return nil
}
