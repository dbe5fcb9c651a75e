package remote

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/oauth2"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// credential gives the token that the other side is asked with. One of client credentials is
// kept until shortly before its end.
type credential struct {
	signIn
	http  *http.Client
	now   func() time.Time
	gate  chan struct{} // guards token; a channel, so that who waits can leave
	token *oauth2.Token
}

func newCredential(s signIn, http *http.Client, now func() time.Time) *credential {
	return &credential{signIn: s, http: http, now: now, gate: make(chan struct{}, 1)}
}

// renewable says that another token can be had for one that is no longer taken.
func (c *credential) renewable() bool { return c.config != nil }

// get gives a token other than the refused one. Of many callers one fetches it. Whatever goes
// wrong here, the engine was not asked.
func (c *credential) get(ctx context.Context, refused string) (string, error) {
	if c.config == nil {
		return c.signIn.token, nil
	}
	select {
	case c.gate <- struct{}{}:
		defer func() { <-c.gate }()
	case <-ctx.Done():
		return "", sdk.Errorf(sdk.Unavailable, "the call ended before there was a token: %v", context.Cause(ctx))
	}
	if c.token.Valid() && c.token.AccessToken != refused {
		return c.token.AccessToken, nil
	}
	c.token = nil
	token, err := c.config.Token(context.WithValue(ctx, oauth2.HTTPClient, c.http))
	if err != nil {
		return "", c.refused(err)
	}
	c.token = token
	return token.AccessToken, nil
}

// refused says what it means that there is no token. The server's text is not passed on: it
// may repeat what was sent.
func (c *credential) refused(err error) *sdk.Error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.Response == nil {
		return sdk.Errorf(sdk.Unavailable, "no token was had, and nothing was asked: %v", httpcall.WithoutAddress(err))
	}
	status := answered.Response.StatusCode
	class := sdk.Unavailable
	switch status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusProxyAuthRequired:
		class = sdk.Auth
	case http.StatusTooManyRequests:
		class = sdk.Throttled
	}
	e := sdk.Errorf(class, "no token was had, and nothing was asked: the token server answers HTTP %d", status)
	e.Provider.Code = answered.ErrorCode
	if e.Provider.Code == "" {
		e.Provider.Code = "HTTP " + strconv.Itoa(status)
	}
	e.RetryAfter = httpcall.RetryAfter(answered.Response.Header, c.now())
	if class == sdk.Auth {
		e.Suggestion = "look at token-url, client-id, client-secret and scope"
	}
	return e
}
