package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

const (
	connectTimeout = 5 * time.Second // also of the TLS handshake: a line that is cut is known soon
	maxAnswer      = sdk.MaxMessageSize
)

// client speaks HTTP with the other side.
type client struct {
	base       string // no slash at the end
	timeout    time.Duration
	http       *http.Client
	credential *credential
	log        *slog.Logger
	now        func() time.Time
}

const opDescribe = "description"

// call is one call of the protocol.
type call struct {
	op    string
	marks bool // it leaves a mark: without a readable answer its outcome is unknown
	body  any
	field string // that is wrong when the other side does not say which
}

func newClient(base string, timeout time.Duration, w httpcall.Way, s signIn, log *slog.Logger, now func() time.Time) *client {
	// What leaves a mark may be sent again by the transport: its reference makes that harmless.
	h := w.Asking()
	return &client{base: base, timeout: timeout, http: h, credential: newCredential(s, h, now), log: log, now: now}
}

// ask makes a call and reads its answer, which has to pass the check.
func ask[Out any](ctx context.Context, c *client, k *call, check func(*Out) error) (*Out, error) {
	text, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	out := new(Out)
	if err := sdk.ReadJSON(text, out); err != nil {
		return nil, k.unreadable(err, text)
	}
	if err := check(out); err != nil {
		return nil, k.unreadable(err, text)
	}
	return out, nil
}

// do makes a call, once more with a new token when the old one is no longer taken: what was
// refused for that was not done.
func (c *client) do(ctx context.Context, k *call) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, sdk.Errorf(sdk.Unavailable, "nothing was sent: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var body []byte
	if k.body != nil {
		var err error
		if body, err = json.Marshal(k.body); err != nil {
			return nil, sdk.Errorf(sdk.Internal, "%s cannot be written: %v", k.op, err)
		}
	}
	token := ""
	for again := false; ; again = true {
		var err error
		if token, err = c.credential.get(ctx, token); err != nil {
			return nil, err
		}
		text, status, err := c.once(ctx, k, body, token)
		if status != http.StatusUnauthorized || again || !c.credential.renewable() {
			return text, err
		}
	}
}

// once makes one request. Status 0: no answer came.
func (c *client) once(ctx context.Context, k *call, body []byte, token string) (text []byte, status int, err error) {
	request, err := c.request(ctx, k, body, token)
	if err != nil {
		return nil, 0, err
	}
	began := c.now()
	answer, sent, err := httpcall.Do(c.http, request, maxAnswer)
	if err != nil {
		c.log.Warn("no answer", "call", k.op, "sent", sent, "err", err)
		return nil, 0, k.noAnswer(sent, err)
	}
	c.log.Info("asked", "call", k.op, "status", answer.Status, "took", c.now().Sub(began).Round(time.Millisecond))
	switch {
	case answer.Status != http.StatusOK:
		return nil, answer.Status, k.refused(answer.Status, answer.Body, httpcall.RetryAfter(answer.Header, c.now()))
	case answer.Cut != nil:
		return nil, http.StatusOK, k.unreadable(answer.Cut, nil)
	}
	return answer.Body, http.StatusOK, nil
}

func (c *client) request(ctx context.Context, k *call, body []byte, token string) (*http.Request, error) {
	method := http.MethodPost
	if body == nil {
		method = http.MethodGet
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+"/v1/"+k.op, bytes.NewReader(body))
	if err != nil {
		return nil, sdk.Errorf(sdk.Internal, "the url of the settings is none") // the error would show it
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("User-Agent", "crossdock-tax-remote/"+Version)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
		// Empty, it is not sent; it tells Go's transport that the same may be sent again on a new
		// connection when an idle one was closed. The reference in the body makes that harmless.
		request.Header["Idempotency-Key"] = []string{}
	}
	return request, nil
}

func checkDescription(d *tax.Description) error {
	if len(d.Operations) == 0 || len(d.Covers) == 0 {
		return errors.New("it names no operation, or no place")
	}
	return nil
}
