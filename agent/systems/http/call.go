package httpdriver

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/event"
)

// Query is systems.Querier. The arguments fill the {names} of the declared path; every name
// must be given, and no other.
func (d *Driver) Query(ctx context.Context, name string, args map[string]string) (json.RawMessage, error) {
	call, ok := d.spec.Query[name]
	if !ok {
		return nil, systems.NotNamed(systems.OpQuery, name)
	}
	path, err := fill(call.Path, args)
	if err != nil {
		return nil, err
	}
	u, err := d.resolve(path)
	if err != nil {
		return nil, err
	}
	return d.askJSON(ctx, exchange.Request{Method: orDefault(call.Method, http.MethodGet), URL: u})
}

// Command is systems.Commander.
func (d *Driver) Command(ctx context.Context, name, idempotencyKey string, body json.RawMessage) (json.RawMessage, error) {
	call, ok := d.spec.Command[name]
	if !ok {
		return nil, systems.NotNamed(systems.OpCommand, name)
	}
	if idempotencyKey == "" {
		return nil, systems.Rejectedf("command %q without an idempotency key: its repeat would not be harmless", name)
	}
	u, err := d.resolve(call.Path)
	if err != nil {
		return nil, err
	}
	header := http.Header{}
	header.Set("Content-Type", event.JSONType)
	header.Set(HeaderIdempotencyKey, percent(idempotencyKey))
	return d.askJSON(ctx, exchange.Request{
		Method: orDefault(call.Method, http.MethodPost), URL: u, Header: header, Body: body, Effect: true,
	})
}

// askJSON gives the answer as JSON; an empty answer is null.
func (d *Driver) askJSON(ctx context.Context, r exchange.Request) (json.RawMessage, error) {
	if r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Set("Accept", event.JSONType)
	reply, err := d.do(ctx, r)
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(reply.Body))) == 0 {
		return json.RawMessage("null"), nil
	}
	if err := event.CheckJSON(reply.Body); err != nil {
		return nil, &systems.Error{Class: systems.Rejected, Status: reply.Status, Err: notJSON(err)}
	}
	return reply.Body, nil
}

var placeholder = regexp.MustCompile(`\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// fill puts arguments into a path template, each escaped for the place where it stands.
func fill(template string, args map[string]string) (string, error) {
	path, query, hasQuery := strings.Cut(template, "?")
	used := map[string]bool{}
	filledPath, err := fillPart(path, args, used, escapeSegment)
	if err != nil {
		return "", err
	}
	filledQuery, err := fillPart(query, args, used, func(value string) (string, error) { return url.QueryEscape(value), nil })
	if err != nil {
		return "", err
	}
	for name := range args {
		if !used[name] {
			return "", systems.Misconfiguredf("argument %q has no {%s} in the path %s", name, name, template)
		}
	}
	if !hasQuery {
		return filledPath, nil
	}
	return filledPath + "?" + filledQuery, nil
}

func fillPart(part string, args map[string]string, used map[string]bool, escape func(string) (string, error)) (string, error) {
	var failed error
	filled := placeholder.ReplaceAllStringFunc(part, func(match string) string {
		name := match[1 : len(match)-1]
		value, ok := args[name]
		if !ok {
			failed = systems.Misconfiguredf("argument %q is missing; the path needs it", name)
			return ""
		}
		used[name] = true
		escaped, err := escape(value)
		if err != nil {
			failed = err
		}
		return escaped
	})
	if failed != nil {
		return "", failed
	}
	if strings.ContainsAny(placeholder.ReplaceAllString(part, ""), "{}") {
		return "", systems.Misconfiguredf("path %q holds a brace that is no {name}", part)
	}
	return filled, nil
}

// escapeSegment refuses what would climb out of its place in the path.
func escapeSegment(value string) (string, error) {
	if value == "" || value == "." || value == ".." {
		return "", systems.Rejectedf("an argument in a path may not be empty, . or ..")
	}
	return url.PathEscape(value), nil
}

// checkTemplates tries every path of the document once, so that a mistake shows at start.
func (d *Driver) checkTemplates() error {
	for name, call := range d.spec.Query {
		args := map[string]string{}
		for _, match := range placeholder.FindAllStringSubmatch(call.Path, -1) {
			args[match[1]] = "x"
		}
		path, err := fill(call.Path, args)
		if err != nil {
			return err
		}
		if _, err := d.resolve(path); err != nil {
			return systems.Misconfiguredf("query %s: %w", name, err)
		}
	}
	var paths []string
	for _, call := range d.spec.Command {
		paths = append(paths, call.Path)
	}
	for _, page := range d.spec.Snapshot {
		paths = append(paths, page.Path)
	}
	if d.spec.Deliver != nil {
		paths = append(paths, d.spec.Deliver.Path)
		if _, _, err := Encode(&event.Event{ID: "x", Source: "x", Type: "x"}, d.spec.Deliver.Envelope); err != nil {
			return err
		}
	}
	if f := d.spec.Publish; f != nil {
		paths = append(paths, f.Path, f.Confirm)
	}
	for _, path := range paths {
		if _, err := d.resolve(path); err != nil {
			return err
		}
	}
	return nil
}
