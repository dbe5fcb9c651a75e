package described

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

const (
	dialTimeout = 10 * time.Second // to connect, and again for the handshake
	maxAnswer   = 16 << 20         // bytes; labels come as base64 in JSON
)

// client speaks HTTP with the provider. It repeats nothing but a request that was refused for
// its token.
type client struct {
	base       *url.URL
	auth       auth
	settings   sdk.Settings
	credential credential
	log        *slog.Logger
	now        func() time.Time

	asking *http.Client
	buying *http.Client
}

func newClient(base, proxy *url.URL, a auth, settings sdk.Settings, log *slog.Logger, now func() time.Time) *client {
	way := httpcall.Way{Proxy: http.ProxyURL(proxy), Connect: dialTimeout}
	return &client{base: base, auth: a, settings: settings, credential: credential{gate: make(chan struct{}, 1)}, log: log, now: now,
		asking: way.Asking(), buying: way.Buying()}
}

func (c *client) close() {
	c.asking.CloseIdleConnections()
	c.buying.CloseIdleConnections()
}

// roundTrip sends a request and reads the answer. One that is not whole is none, unless it is a
// refusal: the status says enough.
func (c *client) roundTrip(via *http.Client, r *http.Request, most int) (*httpcall.Answer, bool, error) {
	began := c.now()
	a, sent, err := httpcall.Do(via, r, most)
	if err != nil {
		return nil, sent, err
	}
	c.log.Debug("call", "method", r.Method, "status", a.Status, "took", c.now().Sub(began).String())
	if a.Status < 300 && a.Cut != nil {
		return nil, true, a.Cut
	}
	return a, true, nil
}

// send makes the call of an operation. Unless the class of an error is UnknownOutcome, the call
// surely did nothing.
func (c *client) send(ctx context.Context, o *operation, make func(context.Context) (*http.Request, error)) (*httpcall.Answer, error) {
	refused := ""
	for {
		if ctx.Err() != nil {
			return nil, sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
		}
		r, err := make(ctx)
		if err != nil {
			return nil, err
		}
		token, err := c.sign(ctx, r, refused)
		if err != nil {
			return nil, err
		}
		via := c.asking
		if o.buys() {
			via = c.buying
		}
		got, sent, err := c.roundTrip(via, r, maxAnswer)
		switch {
		case err != nil && o.buys() && sent:
			return nil, sdk.Errorf(sdk.UnknownOutcome, "no answer that can be read: %v", err)
		case err != nil:
			return nil, sdk.Errorf(sdk.Unavailable, "the provider is not reached: %v", err)
		case got.Status == http.StatusUnauthorized && token != "" && refused == "":
			refused = token // it was withdrawn before its end, and nothing was done
			continue
		}
		return got, nil
	}
}
