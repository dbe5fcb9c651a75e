package httpdriver

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/exchange"
	"github.com/crossdock/crossdock/protocol/policy"
)

// authenticator makes the Authorization header. Secrets are read at each call, so that a
// rotated one is used at once; a token of OAuth2 is kept for as long as it says.
type authenticator struct {
	spec   policy.HTTPAuth
	opts   systems.Options
	client *exchange.Client

	mu     sync.Mutex
	secret string // the client secret that config was made with; guarded by mu
	config *clientcredentials.Config
	token  *oauth2.Token
}

func newAuthenticator(spec policy.HTTPAuth, opts systems.Options, client *exchange.Client) *authenticator {
	return &authenticator{spec: spec, opts: opts, client: client}
}

// references lists the secrets that the document names.
func (a *authenticator) references(ca string) []string {
	refs := []string{ca, a.spec.Bearer}
	if b := a.spec.Basic; b != nil {
		refs = append(refs, b.Password)
	}
	if o := a.spec.OAuth2; o != nil {
		refs = append(refs, o.ClientSecret)
	}
	if m := a.spec.MTLS; m != nil {
		refs = append(refs, m.Certificate, m.Key)
	}
	return refs
}

// renewable says that a 401 may mean an old token rather than a wrong credential.
func (a *authenticator) renewable() bool { return a.spec.OAuth2 != nil }

// header gives the value of Authorization (empty: none) and the texts that must not be kept
// if the system echoes them.
func (a *authenticator) header(ctx context.Context, renew bool) (value string, secrets [][]byte, err error) {
	switch {
	case a.spec.Basic != nil:
		password, err := a.resolve("password", a.spec.Basic.Password)
		if err != nil {
			return "", nil, err
		}
		pair := base64.StdEncoding.EncodeToString([]byte(a.spec.Basic.User + ":" + string(password)))
		return "Basic " + pair, [][]byte{password, []byte(pair)}, nil
	case a.spec.Bearer != "":
		token, err := a.resolve("bearer token", a.spec.Bearer)
		if err != nil {
			return "", nil, err
		}
		return "Bearer " + string(token), [][]byte{token}, nil
	case a.spec.OAuth2 != nil:
		return a.oauth2(ctx, renew)
	}
	return "", nil, nil
}

func (a *authenticator) resolve(what, ref string) ([]byte, error) {
	secret, err := a.opts.Secrets.Resolve(ref)
	if err != nil {
		return nil, systems.Misconfiguredf("%s: %w", what, err)
	}
	for _, c := range secret {
		if c < 0x20 || c == 0x7f {
			return nil, systems.Misconfiguredf("%s: the secret holds a line break or control character, which no header can carry", what)
		}
	}
	return secret, nil
}

func (a *authenticator) oauth2(ctx context.Context, renew bool) (string, [][]byte, error) {
	secret, err := a.resolve("client secret", a.spec.OAuth2.ClientSecret)
	if err != nil {
		return "", nil, err
	}
	a.mu.Lock() // also while a token is fetched: one request for it is enough
	defer a.mu.Unlock()
	if a.config == nil || a.secret != string(secret) {
		o := a.spec.OAuth2
		a.secret, a.token = string(secret), nil
		a.config = &clientcredentials.Config{ClientID: o.ClientID, ClientSecret: a.secret, TokenURL: o.TokenURL, Scopes: o.Scopes}
	}
	if renew || !a.token.Valid() {
		a.token = nil
		token, err := a.config.Token(context.WithValue(ctx, oauth2.HTTPClient, a.client.HTTP()))
		if err != nil {
			return "", nil, tokenError(err)
		}
		a.token = token
	}
	return a.token.Type() + " " + a.token.AccessToken, [][]byte{secret, []byte(a.token.AccessToken)}, nil
}

// tokenError codes a failed token request. The token server's own words are not kept: they
// may repeat what was sent.
func tokenError(err error) error {
	var answered *oauth2.RetrieveError
	if !errors.As(err, &answered) || answered.Response == nil {
		return exchange.Classify("token request", err)
	}
	status := answered.Response.StatusCode
	e := &systems.Error{Class: systems.Misconfigured, Status: status,
		Err: errors.New("the token server answered " + http.StatusText(status) + "; check tokenURL, clientID, clientSecret and scopes")}
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		e.Class, e.Err = systems.Unavailable, errors.New("the token server answered "+http.StatusText(status))
	}
	return e
}

// statusOf gives the HTTP status of a coded error, or 0.
func statusOf(err error) int {
	var coded *systems.Error
	if errors.As(err, &coded) {
		return coded.Status
	}
	return 0
}
