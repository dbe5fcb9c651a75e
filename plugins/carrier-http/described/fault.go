package described

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// standardField is where an error of class validation is that does not say where.
func (o *operation) standardField() string {
	switch o.name {
	case carrier.OpTrack:
		return "tracking"
	case carrier.OpValidateAddress:
		return "lines"
	case carrier.OpGetByReference, carrier.OpVoid, carrier.OpManifest, carrier.OpPickup, opChange, opCancel:
		return "reference"
	}
	return "shipment"
}

// recognised finds the refusal that an answer is, by the rules of the operation and then those
// of all; nil: it is none. What a rule cannot look at is none of its refusals, unless the status
// says that the call succeeded: then nobody knows what it says.
func (x *exchange) recognised(ctx context.Context, g *httpcall.Answer, seen map[string]any, succeeded bool) (*sdk.Error, error) {
	for _, rules := range [][]rule{x.o.answer.errors, x.o.ofAll} {
		for i := range rules {
			r := &rules[i]
			holds, err := r.when.holds(ctx, seen)
			if err != nil && succeeded {
				return nil, err
			}
			if err == nil && holds {
				return x.refusal(ctx, r, g, seen), nil
			}
		}
	}
	return nil, nil
}

// refusal makes the error of a rule that holds. What its expressions cannot find is left out.
func (x *exchange) refusal(ctx context.Context, r *rule, g *httpcall.Answer, seen map[string]any) *sdk.Error {
	said := func(p *program) string {
		if p == nil {
			return ""
		}
		text, err := p.text(ctx, seen)
		if err != nil {
			return ""
		}
		whole, _ := x.texts.restored(text).(string)
		return whole
	}
	code, text, field := said(r.code), said(r.text), said(r.field)
	message := r.message
	if message == "" {
		if message = text; message == "" {
			message = "the provider refuses it (" + strconv.Itoa(g.Status) + ")"
		}
	}
	if field == "" {
		field = r.at
	}
	return x.said(r.class, field, message, g, sdk.Provider{Code: code, Text: text})
}

// said is an error in the provider's words.
func (x *exchange) said(class sdk.Class, field, message string, g *httpcall.Answer, p sdk.Provider) *sdk.Error {
	if class == sdk.UnknownOutcome && !x.o.buys() {
		class = sdk.Unavailable
	}
	e := sdk.Errorf(class, "%s", message).At(field)
	if class == sdk.Validation && field == "" {
		e.Field = x.o.standardField()
	}
	if class == sdk.Throttled || class == sdk.Unavailable {
		e.RetryAfter = httpcall.RetryAfter(g.Header, x.c.now())
	}
	if class == sdk.Throttled || class == sdk.Unavailable || class == sdk.UnknownOutcome {
		e.Fault = sdk.FaultProvider
	}
	if p.Code == "" {
		p.Code = strconv.Itoa(g.Status)
	}
	if p.Text == "" {
		p.Text = strings.TrimSpace(string(g.Body[:min(len(g.Body), sdk.MaxProviderText)]))
	}
	e.Provider = p
	return e.Bounded()
}

// byStatus makes an error of an answer that no rule recognises. Below 500 a refusal was surely
// not done; a 404 may come from a wrong address as well, so it counts as an answer only where
// nothing is bought for it.
func (x *exchange) byStatus(g *httpcall.Answer) *sdk.Error {
	class, described := x.o.answer.statuses[g.Status]
	message := "the provider refuses it"
	switch s := g.Status; {
	case described:
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		class, message = sdk.Auth, "the provider does not let this account in"
	case s == http.StatusTooManyRequests:
		class, message = sdk.Throttled, "the provider takes no more calls for now"
	case s == http.StatusServiceUnavailable:
		class, message = sdk.Unavailable, "the provider is not available"
	case (s < 400 || s >= 500 || s == http.StatusRequestTimeout) && x.o.buys():
		class, message = sdk.UnknownOutcome, "the provider failed with the call in its hands"
	case s < 400 || s >= 500 || s == http.StatusRequestTimeout:
		class, message = sdk.Unavailable, "the provider failed"
	case s == http.StatusNotFound && (x.o.name == carrier.OpTrack || x.o.name == carrier.OpVoid || x.o.name == opCancel):
		class, message = sdk.NotFound, "the provider knows nothing of it"
	case s == http.StatusNotFound, s == http.StatusMethodNotAllowed:
		class, message = sdk.Unavailable, "this is not how the described provider answers; look at the setting "+setBase
	default:
		class = sdk.Validation
	}
	return x.said(class, "", message+" ("+strconv.Itoa(g.Status)+")", g, sdk.Provider{})
}
