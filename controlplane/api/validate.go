package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/event"
)

// maxItems bounds the places that one refusal names.
const maxItems = 50

// idempotencyHeader is a parameter of every call that changes something.
const idempotencyHeader = "Idempotency-Key"

// routed marks a request that reached a route of the document.
const routed = "crossdock.routed"

// operation is one call of the document as the router knows it.
type operation struct {
	route   *routers.Route
	open    bool  // no token needed
	changes bool  // it is a change, which a repeat must not make twice
	limit   int64 // bytes of its body
}

// operations maps "METHOD /path/:name" to the document's call, so that there is one router.
type operations map[string]operation

var pathParameter = regexp.MustCompile(`\{([^}]+)\}`)

// asDecoded leaves base64 to the decoder of the body, which refuses what is none: looked at by a
// pattern, half a megabyte takes longer than all that is done with it.
var asDecoded = sync.OnceFunc(func() {
	openapi3.DefineStringFormatValidator("byte", openapi3.NewCallbackValidator(func(string) error { return nil }))
})

func loadOperations() (operations, error) {
	asDecoded()
	doc, err := GetSpec()
	if err != nil {
		return nil, fmt.Errorf("embedded document: %w", err)
	}
	out := operations{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			limit := int64(MaxBody)
			switch {
			case takes(op, "bundle"):
				limit = MaxBundleBody
			case takes(op, "manifest"), takes(op, "data"):
				limit = MaxPieceBody
			case takes(op, "sealed"):
				limit = MaxSecretBody
			}
			key := method + " " + BasePath + pathParameter.ReplaceAllString(path, ":$1")
			out[key] = operation{
				route:   &routers.Route{Spec: doc, Path: path, PathItem: item, Method: method, Operation: op},
				open:    op.Security != nil && len(*op.Security) == 0,
				changes: op.Parameters.GetByInAndName(openapi3.ParameterInHeader, idempotencyHeader) != nil,
				limit:   limit,
			}
		}
	}
	return out, nil
}

// takes says whether a body has a field.
func takes(op *openapi3.Operation, field string) bool {
	if op.RequestBody == nil {
		return false
	}
	media := op.RequestBody.Value.GetMediaType(echo.MIMEApplicationJSON)
	return media != nil && media.Schema.Value.Properties[field] != nil
}

func (o operations) find(c echo.Context) (operation, bool) {
	op, known := o[c.Request().Method+" "+c.Path()]
	return op, known
}

// validate holds a request against the document before any handler sees it.
func (s *Server) validate(operations operations) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			op, known := operations.find(c)
			if !known {
				return next(c) // the router's own answer: not found, or not this method
			}
			c.Set(routed, true)
			if err := takeBody(c, op); err != nil {
				return err
			}
			params, err := pathParams(c)
			if err != nil {
				return err
			}
			err = openapi3filter.ValidateRequest(c.Request().Context(), &openapi3filter.RequestValidationInput{
				Request: c.Request(), PathParams: params, Route: op.route,
				Options: &openapi3filter.Options{
					MultiError:         true,
					AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, // authenticate came before
				},
			})
			if err != nil {
				return refusal(err)
			}
			return next(c)
		}
	}
}

// takeBody reads a body within its limit and looks at its depth before anything is decoded.
func takeBody(c echo.Context, op operation) error {
	r := c.Request()
	limited := http.MaxBytesReader(c.Response(), r.Body, op.limit)
	text, err := io.ReadAll(limited)
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return err
		}
		return model.Errorf(model.Invalid, "the body could not be read: %v", err)
	}
	if op.route.Operation.RequestBody == nil && len(text) > 0 {
		return model.Errorf(model.Invalid, "this call takes no body")
	}
	if len(text) > 0 && event.CheckJSON(text) != nil {
		return model.Errorf(model.Invalid, "the body is not one JSON value, or is nested deeper than %d", event.MaxDepth)
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return nil
}

func pathParams(c echo.Context) (map[string]string, error) {
	out := map[string]string{}
	for i, name := range c.ParamNames() {
		value := c.ParamValues()[i]
		if c.Request().URL.RawPath != "" { // the router saw the escaped path
			opened, err := url.PathUnescape(value)
			if err != nil {
				return nil, model.Errorf(model.Invalid, "the path's %s: %v", name, err)
			}
			value = opened
		}
		out[name] = value
	}
	return out, nil
}

// refusal names every place that does not fit the document.
func refusal(err error) error {
	items := collect(nil, err)
	if len(items) > maxItems {
		items = append(items[:maxItems], ProblemItem{Detail: "and more"})
	}
	detail := "the request does not fit the API's description"
	if len(items) > 0 {
		detail += ": " + strings.TrimSpace(items[0].Pointer+" "+items[0].Detail)
	}
	return &itemError{cause: model.Errorf(model.Invalid, "%s", detail), items: items}
}

// collect walks the validator's errors. The type switch looks at each error itself, because
// MultiError answers errors.As with its first member only.
func collect(items []ProblemItem, err error) []ProblemItem {
	switch e := err.(type) { //nolint:errorlint // see above
	case openapi3.MultiError:
		for _, one := range e {
			items = collect(items, one)
		}
		return items
	case *openapi3filter.RequestError:
		inner := e.Err
		if inner == nil {
			inner = errors.New(e.Reason)
		}
		if e.Parameter == nil {
			return collect(items, inner)
		}
		for _, item := range collect(nil, inner) {
			item.Pointer = e.Parameter.Name
			items = append(items, item)
		}
		return items
	case *openapi3.SchemaError:
		pointer := ""
		for _, step := range e.JSONPointer() {
			pointer += "/" + pointerEscape.Replace(step)
		}
		return append(items, ProblemItem{Pointer: pointer, Detail: e.Reason})
	}
	return append(items, ProblemItem{Detail: err.Error()})
}

// pointerEscape writes one step of a JSON pointer (RFC 6901).
var pointerEscape = strings.NewReplacer("~", "~0", "/", "~1")
