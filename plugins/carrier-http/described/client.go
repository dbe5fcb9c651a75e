package described

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
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
	with := func(keepAlive bool) *http.Client {
		return &http.Client{
			// A redirect would carry the password, or an order, to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:               http.ProxyURL(proxy),
				DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSHandshakeTimeout: dialTimeout,
				DisableKeepAlives:   !keepAlive,
				ForceAttemptHTTP2:   keepAlive,
				MaxIdleConnsPerHost: 8,
				IdleConnTimeout:     time.Minute,
			},
		}
	}
	// What buys has a connection of its own each time: so it is known whether anything was
	// sent, and the transport has no dead connection on which it might send again.
	return &client{base: base, auth: a, settings: settings, credential: credential{gate: make(chan struct{}, 1)}, log: log, now: now,
		asking: with(true), buying: with(false)}
}

func (c *client) close() {
	c.asking.CloseIdleConnections()
	c.buying.CloseIdleConnections()
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   []byte
}

// roundTrip sends a request and reads the answer. With an error, sent says whether anything
// may have reached the provider.
func (c *client) roundTrip(via *http.Client, r *http.Request, most int) (_ *got, sent bool, err error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	began := c.now()
	response, err := via.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		var cause *url.Error
		if errors.As(err, &cause) {
			err = cause.Err // without the address, in which there may be personal data
		}
		return nil, connected.Load(), err
	}
	defer func() { _ = response.Body.Close() }() // it was read, or is not wanted
	body, err := io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	c.log.Debug("call", "method", r.Method, "status", response.StatusCode, "took", c.now().Sub(began).String())
	if err == nil && len(body) > most {
		err = fmt.Errorf("it is longer than %d bytes", most)
	}
	if err != nil && response.StatusCode < 300 {
		return nil, true, err
	}
	return &got{status: response.StatusCode, header: response.Header, body: body}, true, nil
}

// send makes the call of an operation. Unless the class of an error is UnknownOutcome, the call
// surely did nothing.
func (c *client) send(ctx context.Context, o *operation, make func(context.Context) (*http.Request, error)) (*got, error) {
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
		case got.status == http.StatusUnauthorized && token != "" && refused == "":
			refused = token // it was withdrawn before its end, and nothing was done
			continue
		}
		return got, nil
	}
}

// retryAfter reads the header, in seconds or as a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
