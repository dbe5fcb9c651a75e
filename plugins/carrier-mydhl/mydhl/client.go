package mydhl

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

const (
	apiVersion  = "3.1.1"          // of the interface that this plugin speaks, sent with every call
	callTimeout = 90 * time.Second // of a call whose caller sets no deadline
	dialTimeout = 10 * time.Second // to connect, and again for the handshake
	maxAnswer   = 16 << 20         // bytes; labels come as base64 in JSON
)

// client speaks HTTP with the provider. It repeats nothing.
type client struct {
	base     *url.URL
	user     string
	password string
	log      *slog.Logger
	now      func() time.Time

	asking *http.Client
	buying *http.Client
}

// call is one request.
type call struct {
	method string
	path   []string // parts, which are escaped here
	query  url.Values
	body   any
	buys   bool              // leaves a mark: when in doubt the outcome is unknown
	fields map[string]string // the provider's names of fields to those of the contract
}

func newClient(base, proxy *url.URL, user, password string, log *slog.Logger, now func() time.Time) *client {
	way := httpcall.Way{Proxy: http.ProxyURL(proxy), Connect: dialTimeout}
	return &client{base: base, user: user, password: password, log: log, now: now, asking: way.Asking(), buying: way.Buying()}
}

func (c *client) close() {
	c.asking.CloseIdleConnections()
	c.buying.CloseIdleConnections()
}

// do makes a call and reads the answer into out, nil: none is wanted. An error is an
// *sdk.Error, and unless its class is UnknownOutcome the call surely did nothing.
func (c *client) do(ctx context.Context, k *call, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return sdk.Errorf(sdk.Unavailable, "the caller is gone, and nothing was sent")
	}
	request, id, err := c.request(ctx, k)
	if err != nil {
		return sdk.Errorf(sdk.Internal, "the request cannot be written: %v", err)
	}
	via := c.asking
	if k.buys {
		via = c.buying
	}
	began := c.now()
	answer, sent, err := httpcall.Do(via, request, maxAnswer)
	if err != nil {
		return k.unanswered(sent, err)
	}
	c.log.Debug("call", "method", k.method, "path", request.URL.Path, "status", answer.Status, "message", id, "took", c.now().Sub(began).String())
	switch {
	case answer.Status < 200 || answer.Status > 299:
		return k.refused(answer, c.now())
	case answer.Cut != nil:
		return k.unread(answer.Cut)
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(answer.Body, out); err != nil {
		return k.unread(err)
	}
	return nil
}

func (c *client) request(ctx context.Context, k *call) (*http.Request, string, error) {
	to := c.base.JoinPath(k.path...)
	to.RawQuery = k.query.Encode()
	var body io.Reader
	if k.body != nil {
		text, err := json.Marshal(k.body)
		if err != nil {
			return nil, "", err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, k.method, to.String(), body)
	if err != nil {
		return nil, "", err
	}
	id := messageID()
	r.SetBasicAuth(c.user, c.password)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("x-version", apiVersion)
	r.Header.Set("Message-Reference", id)
	r.Header.Set("Message-Reference-Date", c.now().UTC().Format(http.TimeFormat))
	r.Header.Set("Plugin-Name", "crossdock")
	r.Header.Set("Plugin-Version", Version)
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	return r, id, nil
}

// messageID names a call, so that the provider can be asked about it. It is not its
// idempotency key: the provider has none.
func messageID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it does not fail
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// unanswered is a call without an answer. Without a connection nothing was sent.
func (k *call) unanswered(sent bool, err error) error {
	if k.buys && sent {
		return sdk.Errorf(sdk.UnknownOutcome, "no answer that can be read: %v", err)
	}
	return sdk.Errorf(sdk.Unavailable, "DHL is not reached: %v", err)
}

// unread is an answer that says yes to something, and not to what.
func (k *call) unread(err error) error {
	class := sdk.Unavailable
	if k.buys {
		class = sdk.UnknownOutcome
	}
	e := sdk.Errorf(class, "the answer cannot be read: %v", err)
	e.Fault = sdk.FaultProvider
	return e
}
