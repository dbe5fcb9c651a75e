package described

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
	"github.com/crossdock/crossdock/protocol/expr"
)

// auth is how the provider knows the account. Its values are names of settings.
type auth struct {
	kind                   string // none, basic, header or oauth2
	user, password         string
	header, prefix, value  string
	token                  string // path below the base, or an address of its own
	clientID, clientSecret string
	scope                  string
	inBody                 bool // the client is named in the body instead of by basic authentication
}

func (a *auth) read(f *fields, settings []sdk.Setting) {
	a.kind = f.OneOf("kind", true, "none", "basic", "header", "oauth2")
	setting := func(name string) string {
		text := f.Text(name, true)
		if text != "" && !slices.ContainsFunc(settings, func(s sdk.Setting) bool { return s.Name == text }) {
			var names []string
			for _, s := range settings {
				names = append(names, s.Name)
			}
			f.Refuse(f.Line(name), "there is no setting %.40q; %s", text, strictyaml.Instead(text, names))
		}
		return text
	}
	switch a.kind {
	case "basic":
		a.user, a.password = setting("user"), setting("password")
	case "header":
		a.header, a.prefix, a.value = f.Text("header", true), f.Text("prefix", false), setting("value")
		if a.header != "" && !headerName.MatchString(a.header) {
			f.Refuse(f.Line("header"), "%.40q is no name of a header", a.header)
		}
	case "oauth2":
		a.clientID, a.clientSecret = setting("clientId"), setting("clientSecret")
		a.token, a.scope, a.inBody = f.Text("token", true), f.Text("scope", false), f.OneOf("client", false, "basic", "body") == "body"
		if a.token != "" && a.token[0] != '/' {
			if _, err := baseOf(a.token); err != nil {
				f.Refuse(f.Line("token"), "field token is a path that begins with /, or %v", err)
			}
		}
	}
}

const (
	tokenMargin = time.Minute     // before its end a token is no longer used
	tokenShort  = 5 * time.Minute // of a token that does not say how long it lives
	maxToken    = 64 << 10        // bytes of the answer
)

// credential is the token, kept until shortly before its end.
type credential struct {
	gate  chan struct{} // guards the two below; a channel, so that who waits can leave
	value string
	until time.Time
}

// sign puts the account into a request. The token it used comes back, to say if it is refused.
func (c *client) sign(ctx context.Context, r *http.Request, refused string) (token string, err error) {
	a := &c.auth
	switch a.kind {
	case "basic":
		r.SetBasicAuth(c.settings[a.user], c.settings[a.password])
	case "header":
		value := c.settings[a.value]
		if a.prefix != "" {
			value = a.prefix + " " + value
		}
		r.Header.Set(a.header, value)
	case "oauth2":
		if token, err = c.bearer(ctx, refused); err != nil {
			return "", err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return token, nil
}

// bearer gives a token other than the refused one. Of many callers one fetches it.
func (c *client) bearer(ctx context.Context, refused string) (string, error) {
	k := &c.credential
	select {
	case k.gate <- struct{}{}:
		defer func() { <-k.gate }()
	case <-ctx.Done():
		return "", sdk.Errorf(sdk.Unavailable, "the call ended before there was a token, and nothing was sent")
	}
	if k.value != "" && k.value != refused && c.now().Before(k.until) {
		return k.value, nil
	}
	k.value = ""
	value, lives, err := c.fetchToken(ctx)
	if err != nil {
		return "", err
	}
	k.value, k.until = value, c.now().Add(lives)
	return value, nil
}

func (c *client) fetchToken(ctx context.Context) (string, time.Duration, error) {
	a := &c.auth
	form := url.Values{"grant_type": {"client_credentials"}}
	if a.scope != "" {
		form.Set("scope", a.scope)
	}
	if a.inBody {
		form.Set("client_id", c.settings[a.clientID])
		form.Set("client_secret", c.settings[a.clientSecret])
	}
	to := a.token
	if to[0] == '/' {
		to = strings.TrimRight(c.base.String(), "/") + to
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, sdk.Errorf(sdk.Internal, "the request for a token cannot be written: %v", err)
	}
	if !a.inBody {
		r.SetBasicAuth(url.QueryEscape(c.settings[a.clientID]), url.QueryEscape(c.settings[a.clientSecret]))
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	got, _, err := c.roundTrip(c.asking, r, maxToken)
	if err != nil {
		return "", 0, sdk.Errorf(sdk.Unavailable, "no token: %v", err)
	}
	switch {
	case got.Status == http.StatusTooManyRequests:
		e := sdk.Errorf(sdk.Throttled, "the provider gives no more tokens for now")
		e.RetryAfter = httpcall.RetryAfter(got.Header, c.now())
		return "", 0, e
	case got.Status >= 400 && got.Status < 500:
		return "", 0, sdk.Errorf(sdk.Auth, "the provider gives no token to this account (%d)", got.Status).Suggest("look at the settings " + a.clientID + " and " + a.clientSecret)
	case got.Status != http.StatusOK:
		return "", 0, sdk.Errorf(sdk.Unavailable, "the provider gives no token (%d)", got.Status)
	}
	answer, _ := expr.Decode(got.Body) // what is no JSON holds no token
	fields, _ := answer.(map[string]any)
	token, _ := fields["access_token"].(string)
	if token == "" || strings.ContainsAny(token, "\r\n") {
		return "", 0, sdk.Errorf(sdk.Unavailable, "the provider's answer holds no token")
	}
	lives := tokenShort
	if text, err := plain(fields["expires_in"]); err == nil {
		if n, err := strconv.ParseInt(text, 10, 31); err == nil && n > 0 {
			lives = time.Duration(n) * time.Second
		}
	}
	return token, lives - min(tokenMargin, lives/2), nil
}
