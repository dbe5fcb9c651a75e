package httpdriver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
)

// MaxPages bounds one snapshot: a system whose pages never end is stopped.
const MaxPages = 100_000

// Snapshot is systems.Snapshotter. It reads page after page and holds one at a time.
func (d *Driver) Snapshot(ctx context.Context, contract string, each func(json.RawMessage) error) error {
	spec, ok := d.spec.Snapshot[contract]
	if !ok {
		return systems.NotNamed(systems.OpSnapshot, contract)
	}
	u, err := d.resolve(spec.Path)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for page := 1; u != nil; page++ {
		if page > MaxPages || seen[u.String()] {
			return systems.Rejectedf("snapshot of %s: page %d leads back to an earlier one, or there are more than %d", contract, page, MaxPages)
		}
		seen[u.String()] = true
		reply, err := d.do(ctx, exchange.Request{
			Method: http.MethodGet, URL: u, MaxAnswer: exchange.MaxPage,
			Header: http.Header{"Accept": {event.JSONType}},
		})
		if err != nil {
			return err
		}
		records, next, err := readPage(ctx, reply.Body, spec.Items, spec.Next)
		if err != nil {
			return systems.Rejectedf("snapshot of %s, page %d: %w", contract, page, err)
		}
		for _, record := range records {
			if err := ctx.Err(); err != nil {
				return &systems.Error{Class: systems.Unavailable, Err: err}
			}
			if err := each(record); err != nil {
				return err
			}
		}
		if u, err = d.nextPage(u, next); err != nil {
			return fmt.Errorf("snapshot of %s, page %d: %w", contract, page, err)
		}
	}
	return nil
}

// readPage takes the records and the address of the next page out of an answer. A plain path
// such as .items is followed in the text itself, so that records keep their exact form and
// need not fit the limits of an expression.
func readPage(ctx context.Context, text []byte, items, next *expr.Expr) (records []json.RawMessage, after string, err error) {
	if err := event.CheckJSON(text); err != nil {
		return nil, "", notJSON(err)
	}
	list, err := evaluate(ctx, text, items)
	if err != nil {
		return nil, "", fmt.Errorf("items: %w", err)
	}
	if err := json.Unmarshal(list, &records); err != nil || bytes.Equal(bytes.TrimSpace(list), []byte("null")) {
		return nil, "", fmt.Errorf("items: the answer has no array there; correct items in the System document")
	}
	if next == nil {
		return records, "", nil
	}
	where, err := evaluate(ctx, text, next)
	if err != nil {
		return nil, "", fmt.Errorf("next: %w", err)
	}
	if err := json.Unmarshal(where, &after); err != nil { // null leaves it empty
		return nil, "", fmt.Errorf("next: the address of the next page must be a string or null")
	}
	return records, after, nil
}

var plainPath = regexp.MustCompile(`^(\.[A-Za-z_][A-Za-z0-9_]*)+$`)

func evaluate(ctx context.Context, text []byte, e *expr.Expr) (json.RawMessage, error) {
	if e == nil || e.Source() == "." {
		return text, nil
	}
	if source := strings.TrimSpace(e.Source()); plainPath.MatchString(source) {
		return follow(text, strings.Split(source[1:], "."))
	}
	input, err := expr.Decode(text)
	if err != nil {
		return nil, err
	}
	result, err := e.Eval(ctx, input)
	if err != nil {
		return nil, err
	}
	return json.Marshal(result)
}

// follow goes down the members of objects; what is not there is null, as in jq.
func follow(text json.RawMessage, names []string) (json.RawMessage, error) {
	for _, name := range names {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			return nil, fmt.Errorf("there is no object around .%s", name)
		}
		member, ok := members[name]
		if !ok {
			return json.RawMessage("null"), nil
		}
		text = member
	}
	return text, nil
}

// nextPage resolves the address of the next page against this one; it must stay at the same
// host, or a page of the system could send our credentials elsewhere.
func (d *Driver) nextPage(page *url.URL, next string) (*url.URL, error) {
	if next == "" {
		return nil, nil
	}
	rel, err := url.Parse(next)
	if err != nil {
		return nil, systems.Rejectedf("the address of the next page cannot be read")
	}
	u := page.ResolveReference(rel)
	u.Fragment = ""
	if u.Scheme != d.base.Scheme || !strings.EqualFold(u.Host, d.base.Host) || u.User != nil {
		return nil, systems.Rejectedf("the next page is at %s://%s; only pages at the driver's own host are read", u.Scheme, u.Host)
	}
	return u, nil
}

func notJSON(err error) error { return fmt.Errorf("the answer is not JSON: %w", err) }
