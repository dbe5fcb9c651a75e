package usps

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// maxPage is how much of an answer that is no error of the API is shown.
const maxPage = 300

// noAnswer is the error of a request that ended without an answer.
func (k *call) noAnswer(sent bool, err error) *sdk.Error {
	if sent && k.buys {
		return sdk.Errorf(sdk.UnknownOutcome, "%s was sent and had no answer: %v", k.name, err)
	}
	if sent {
		return sdk.Errorf(sdk.Unavailable, "%s had no answer: %v", k.name, err)
	}
	return sdk.Errorf(sdk.Unavailable, "%s: the provider was not reached: %v", k.name, err)
}

// unreadable is the error of an answer that says neither yes nor no.
func (k *call) unreadable(err error) *sdk.Error {
	class := sdk.Unavailable
	if k.buys {
		class = sdk.UnknownOutcome
	}
	e := sdk.Errorf(class, "%s: the answer cannot be read: %v", k.name, err)
	e.Fault = sdk.FaultProvider
	return e
}

// fault makes an error of an answer that is none of success.
func (c *client) fault(k *call, a *httpcall.Answer) *sdk.Error {
	status := a.Status
	said, parameters := c.said(status, a.Body)
	e := sdk.Errorf(classOf(k, status), "%s: the provider answers %d %s", k.name, status, http.StatusText(status))
	e.Provider = said
	switch e.Class {
	case sdk.Validation:
		e.Field = k.field
		for _, parameter := range parameters {
			if field := k.fieldOf(parameter); field != "" {
				e.Field = field
				break
			}
		}
		if said.Text != "" {
			e.Message = k.name + ": " + said.Text
		}
	case sdk.Throttled:
		e.RetryAfter = httpcall.RetryAfter(a.Header, time.Now())
	case sdk.Unavailable, sdk.UnknownOutcome:
		e.Fault, e.RetryAfter = sdk.FaultProvider, httpcall.RetryAfter(a.Header, time.Now())
	case sdk.Auth:
		e.Suggestion = "look at the settings of the account, and at what the application may do at the provider"
	}
	return e
}

func (k *call) fieldOf(parameter string) string {
	if k.fields == nil {
		return ""
	}
	return k.fields(parameter)
}

// classOf tells a class by the status alone. Only what says that nothing was done is anything
// but an unknown outcome of a call that buys.
func classOf(k *call, status int) sdk.Class {
	switch status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return sdk.Validation
	case http.StatusUnauthorized, http.StatusForbidden:
		return sdk.Auth
	case http.StatusNotFound:
		return sdk.NotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return sdk.Conflict
	case http.StatusTooManyRequests:
		return sdk.Throttled
	case http.StatusServiceUnavailable:
		return sdk.Unavailable
	}
	switch {
	case k.buys:
		return sdk.UnknownOutcome
	case status >= 500 || status == http.StatusRequestTimeout:
		return sdk.Unavailable
	}
	return sdk.Internal
}

// said gives the provider's own code and text, and the names of what is wrong. Bodies that are
// not the API's, such as a gateway's page, are shown in short.
func (c *client) said(status int, body []byte) (sdk.Provider, []string) {
	out := sdk.Provider{Code: strconv.Itoa(status)}
	var m errorMessage
	if err := json.Unmarshal(body, &m); err != nil || m.Error.Message == "" && len(m.Error.Errors) == 0 {
		out.Text = c.hide(strings.Join(strings.Fields(string(body[:min(len(body), maxPage)])), " "))
		return out, nil
	}
	if m.Error.Code != "" {
		out.Code = m.Error.Code
	}
	texts := []string{m.Error.Message}
	var parameters []string
	for i, one := range m.Error.Errors {
		if i == 0 && one.Code != "" {
			out.Code = one.Code
		}
		text := one.Detail
		if text == "" {
			text = one.Title
		}
		var source struct {
			Parameter string `json:"parameter"`
		}
		if json.Unmarshal(one.Source, &source) == nil && source.Parameter != "" {
			parameters = append(parameters, source.Parameter)
			text += " (" + source.Parameter + ")"
		}
		texts = append(texts, text)
	}
	texts = slices.DeleteFunc(slices.Compact(texts), func(text string) bool { return text == "" })
	out.Text = c.hide(strings.Join(texts, ": "))
	return out, parameters
}

// hide takes the secret out of a text that came from outside.
func (c *client) hide(text string) string {
	return strings.ReplaceAll(text, c.account.clientSecret, "***")
}

// says tells whether the provider's own text holds one of some words.
func says(e *sdk.Error, words ...string) bool {
	text := strings.ToLower(e.Provider.Text)
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) })
}
