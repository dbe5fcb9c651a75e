// Package httpcall is the way over HTTP from a plugin to the provider that it asks and buys from.
//
// It owns connections, their limits, and whether a request can have been sent, and refuses to
// know what is asked and what an answer means. Its invariant: what was not sent surely did not
// arrive, what buys is sent once at most, and nothing goes to another place than it was meant for.
package httpcall

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
)

const (
	maxIdle     = 8                // connections that are kept
	idleTimeout = 30 * time.Second // after which one is closed, sooner than most servers do
	maxHeader   = 64 << 10         // bytes
)

// Way is how a provider is reached.
type Way struct {
	Proxy   func(*http.Request) (*url.URL, error) // nil: none
	Roots   *x509.CertPool                        // that are trusted; nil: the system's
	Connect time.Duration                         // to connect at most, and again for the handshake
}

// Asking makes a client for what may be sent again. It keeps connections, and where one that
// idled turns out to be closed it takes another.
func (w Way) Asking() *http.Client { return w.client(true) }

// Buying makes a client for what may be sent once. Each call has a connection of its own: so it
// is known whether anything was sent, and there is no dead connection on which the transport
// might send again.
func (w Way) Buying() *http.Client { return w.client(false) }

func (w Way) client(keep bool) *http.Client {
	return &http.Client{
		// A redirect would carry the credentials, or an order, to somebody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  w.Proxy,
			DialContext:            (&net.Dialer{Timeout: w.Connect}).DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: w.Roots},
			TLSHandshakeTimeout:    w.Connect,
			DisableKeepAlives:      !keep,
			ForceAttemptHTTP2:      keep,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
	Cut    error // why the body is not whole; nil: it is
}

// Do sends a request and reads the answer, of which at most so many bytes. With an error there
// is no answer, and sent says whether anything may have reached the provider.
func Do(via *http.Client, r *http.Request, most int) (a *Answer, sent bool, err error) {
	// Who has a connection may have sent something on it. The transport may send again on
	// another one, so it is no proof that nothing was sent when the last try was not.
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	response, err := via.Do(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if err != nil {
		return nil, connected.Load(), WithoutAddress(err)
	}
	defer func() { _ = response.Body.Close() }() // it was read, or is not wanted
	a = &Answer{Status: response.StatusCode, Header: response.Header}
	a.Body, err = io.ReadAll(io.LimitReader(response.Body, int64(most)+1))
	switch {
	case len(a.Body) > most:
		a.Body, a.Cut = a.Body[:most], fmt.Errorf("it is longer than %d bytes", most)
	case err != nil:
		a.Cut = fmt.Errorf("it broke off: %w", err)
	}
	return a, true, nil
}

// WithoutAddress takes the address off an error of net/http: there may be personal data in it.
func WithoutAddress(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}

// RetryAfter reads the header of that name: seconds, or a date.
func RetryAfter(h http.Header, now time.Time) sdk.Span {
	text := strings.TrimSpace(h.Get("Retry-After"))
	after := time.Duration(0)
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		after = time.Duration(min(max(seconds, 0), int64(sdk.MaxRetryAfter/time.Second))) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return sdk.Span(min(max(after, 0), sdk.MaxRetryAfter))
}
