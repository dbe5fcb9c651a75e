package usps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

const (
	callTimeout = 60 * time.Second // of one request, where the caller's deadline is later
	dialTimeout = 10 * time.Second // to connect, and again for the handshake
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
	account account
	log     *slog.Logger
	bearer  *credential
	payment *credential

	asking *http.Client
	buying *http.Client
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
	way := httpcall.Way{Proxy: http.ProxyFromEnvironment, Connect: dialTimeout}
	c := &client{base: base, account: a, log: log, asking: way.Asking(), buying: way.Buying()}
	c.bearer = newCredential(now, c.fetchBearer)
	c.payment = newCredential(now, c.fetchPayment)
	return c
}

func (c *client) close() {
	c.asking.CloseIdleConnections()
	c.buying.CloseIdleConnections()
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
	request, err := c.request(ctx, k, text, bearer, payment)
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "%s: %v", k.name, err)
	}
	via := c.asking
	if k.buys {
		via = c.buying
	}
	began := time.Now()
	answer, sent, err := httpcall.Do(via, request, maxAnswer)
	if err != nil {
		c.log.Warn("no answer", "call", k.name, "sent", sent, "error", err)
		return nil, k.noAnswer(sent, err)
	}
	c.log.Info("asked", "call", k.name, "status", answer.Status, "took", time.Since(began).Round(time.Millisecond))
	switch {
	case answer.Status < 200 || answer.Status > 299:
		e := c.fault(k, answer)
		if answer.Status == http.StatusUnauthorized {
			return nil, &unauthorized{e}
		}
		return nil, e
	case answer.Cut != nil:
		return nil, k.unreadable(answer.Cut)
	case k.out == nil:
		return answer.Header, nil
	}
	if err := json.Unmarshal(answer.Body, k.out); err != nil {
		return nil, k.unreadable(err)
	}
	return answer.Header, nil
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
