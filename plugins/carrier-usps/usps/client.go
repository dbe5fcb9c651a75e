package usps

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

const (
	callTimeout = 60 * time.Second // of one request, where the caller's deadline is later
	maxAnswer   = 8 << 20          // bytes of an answer; images in it are base64
)

// account is who pays, and how the provider knows it.
type account struct {
	clientID     string
	clientSecret string
	crid         string
	mid          string
	manifestMID  string
	number       string // of the Enterprise Payment System
}

// client speaks HTTP with the API. It never sends again what may have been done.
type client struct {
	base    string // no slash at the end
	http    *http.Client
	account account
	log     *slog.Logger
	bearer  *credential
	payment *credential
}

// call is one request.
type call struct {
	name   string // for errors and the log; paths hold numbers, queries addresses
	method string
	path   string
	query  url.Values
	header map[string]string
	body   any    // nil: none
	accept string // empty: JSON
	pays   bool   // needs the payment authorisation
	buys   bool   // leaves a mark: without a readable answer its outcome is unknown
	bare   bool   // without any token: it asks for one
	out    any    // what the answer is read into; nil: its body says nothing
	field  string // that is wrong when the provider does not say which
	fields func(parameter string) string
}

func newClient(base string, a account, now func() time.Time, log *slog.Logger) *client {
	c := &client{base: base, account: a, log: log, http: &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			ForceAttemptHTTP2:      true,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// A redirect would take the tokens to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.bearer = newCredential(now, c.fetchBearer)
	c.payment = newCredential(now, c.fetchPayment)
	return c
}

// do makes a call, once more with new tokens when the provider no longer takes the old ones:
// what it refused for that it has not done.
func (c *client) do(ctx context.Context, k *call) (http.Header, error) {
	var text []byte
	if k.body != nil {
		var err error
		if text, err = json.Marshal(k.body); err != nil {
			return nil, sdk.Errorf(sdk.Internal, "%s cannot be written: %v", k.name, err)
		}
	}
	var bearer, payment string
	for again := false; ; again = true {
		var err error
		if !k.bare {
			if bearer, err = c.bearer.get(ctx, bearer); err != nil {
				return nil, err
			}
		}
		if k.pays {
			if payment, err = c.payment.get(ctx, payment); err != nil {
				return nil, err
			}
		}
		header, err := c.once(ctx, k, text, bearer, payment)
		var refused *unauthorized
		if !errors.As(err, &refused) {
			return header, err
		}
		if again || k.bare {
			return nil, refused.err
		}
	}
}

// unauthorized is an answer 401, after which new tokens may help.
type unauthorized struct{ err *sdk.Error }

func (u *unauthorized) Error() string { return u.err.Error() }

// once makes one request.
func (c *client) once(ctx context.Context, k *call, text []byte, bearer, payment string) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var sent atomic.Bool
	request, err := c.request(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}), k, text, bearer, payment)
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "%s: %v", k.name, err)
	}
	began := time.Now()
	response, err := c.http.Do(request)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // the outer one shows the address
		}
		c.log.Warn("no answer", "call", k.name, "sent", sent.Load(), "error", err)
		return nil, k.noAnswer(sent.Load(), err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	c.log.Info("asked", "call", k.name, "status", response.StatusCode, "took", time.Since(began).Round(time.Millisecond))
	switch {
	case response.StatusCode < 200 || response.StatusCode > 299:
		e := c.fault(k, response.StatusCode, response.Header, body)
		if response.StatusCode == http.StatusUnauthorized {
			return nil, &unauthorized{e}
		}
		return nil, e
	case err != nil:
		return nil, k.unreadable(fmt.Errorf("the answer broke off: %w", err))
	case len(body) > maxAnswer:
		return nil, k.unreadable(fmt.Errorf("the answer has more than %d bytes", maxAnswer))
	case k.out == nil:
		return response.Header, nil
	}
	if err := json.Unmarshal(body, k.out); err != nil {
		return nil, k.unreadable(err)
	}
	return response.Header, nil
}

func (c *client) request(ctx context.Context, k *call, text []byte, bearer, payment string) (*http.Request, error) {
	target := c.base + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	var body io.Reader
	if text != nil {
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		return nil, errors.New("the base URL or the path is none") // the error would show the address
	}
	// Go's transport sends a request again by itself when it has an idempotency key and its
	// body can be had once more.
	request.GetBody = nil
	if text != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	accept := k.accept
	if accept == "" {
		accept = "application/json"
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "crossdock-carrier-usps/"+Version)
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	if payment != "" {
		request.Header.Set("X-Payment-Authorization-Token", payment)
	}
	for name, value := range k.header {
		request.Header.Set(name, value)
	}
	return request, nil
}
