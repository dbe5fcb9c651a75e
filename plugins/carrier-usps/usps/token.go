package usps

import (
	"context"
	"net/http"
	"time"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
)

const (
	tokenPath    = "/oauth2/v3/token"
	tokenMargin  = time.Minute     // before its end a token is no longer used
	tokenShort   = 5 * time.Minute // of a token that does not say how long it lives
	paymentLives = 7 * time.Hour   // the provider says eight
)

// credential is a token that is kept until shortly before its end.
type credential struct {
	now   func() time.Time
	fetch func(context.Context) (string, time.Duration, error)
	gate  chan struct{} // guards the two below; a channel, so that who waits can leave
	value string
	until time.Time
}

func newCredential(now func() time.Time, fetch func(context.Context) (string, time.Duration, error)) *credential {
	return &credential{now: now, fetch: fetch, gate: make(chan struct{}, 1)}
}

// get gives a token other than the refused one. Of many callers one fetches it.
func (k *credential) get(ctx context.Context, refused string) (string, error) {
	select {
	case k.gate <- struct{}{}:
		defer func() { <-k.gate }()
	case <-ctx.Done():
		return "", sdk.Errorf(sdk.Unavailable, "the call ended before there was a token: %v", context.Cause(ctx))
	}
	if k.value != "" && k.value != refused && k.now().Before(k.until) {
		return k.value, nil
	}
	k.value = ""
	value, lives, err := k.fetch(ctx)
	if err != nil {
		return "", err
	}
	k.value, k.until = value, k.now().Add(lives)
	return value, nil
}

func (c *client) fetchBearer(ctx context.Context) (string, time.Duration, error) {
	var out tokenAnswer
	_, err := c.do(ctx, &call{name: "token", method: http.MethodPost, path: tokenPath, bare: true, field: setID, out: &out,
		body: tokenRequest{ClientID: c.account.clientID, ClientSecret: c.account.clientSecret, GrantType: "client_credentials"}})
	if err != nil {
		return "", 0, signIn(err)
	}
	if out.AccessToken == "" {
		return "", 0, sdk.Errorf(sdk.Unavailable, "token: the answer holds none")
	}
	lives := tokenShort
	if out.ExpiresIn.IsPositive() && out.ExpiresIn.LessThan(decimal.NewFromInt(1<<31)) {
		lives = time.Duration(out.ExpiresIn.IntPart()) * time.Second
	}
	return out.AccessToken, lives - min(tokenMargin, lives/2), nil
}

func (c *client) fetchPayment(ctx context.Context) (string, time.Duration, error) {
	a := c.account
	owner := paymentRole{RoleName: "LABEL_OWNER", CRID: a.crid, MID: a.mid, ManifestMID: a.manifestMID}
	payer := owner
	payer.RoleName, payer.AccountType, payer.AccountNumber = "PAYER", accountType, a.number
	var out paymentAnswer
	_, err := c.do(ctx, &call{name: "payment authorisation", method: http.MethodPost, path: "/payments/v3/payment-authorization", field: setAccount, out: &out,
		body: paymentRequest{Roles: []paymentRole{payer, owner}}})
	if err != nil {
		return "", 0, signIn(err)
	}
	if out.Token == "" {
		return "", 0, sdk.Errorf(sdk.Unavailable, "payment authorisation: the answer holds no token")
	}
	return out.Token, paymentLives, nil
}

// signIn makes an error of what a provider says when it does not let the account in: it is
// nothing that is wrong with what the caller asked for.
func signIn(err error) error {
	e := sdk.AsError(err)
	if e.Class == sdk.Validation || e.Class == sdk.NotFound || e.Class == sdk.Conflict {
		e.Class, e.Field = sdk.Auth, ""
		e.Suggestion = "look at the settings of the account"
	}
	return e
}
