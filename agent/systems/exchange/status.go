package exchange

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
)

// MaxRetryAfter bounds how long a system may ask us to wait.
const MaxRetryAfter = 24 * time.Hour

// statusError finds the class of an answer that is no success.
func statusError(resp *http.Response, body []byte, secrets [][]byte, now time.Time) *systems.Error {
	e := &systems.Error{Status: resp.StatusCode, Body: systems.Clean(body, secrets...)}
	wait, asked := ParseRetryAfter(resp.Header.Get("Retry-After"), now)
	said := fmt.Sprintf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable && asked:
		e.Class, e.RetryAfter = systems.Throttled, wait
		e.Err = fmt.Errorf("%s, asks to wait %s", said, wait)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		e.Class, e.RetryAfter = systems.Unavailable, wait
		e.Err = fmt.Errorf("%s", said)
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusProxyAuthRequired:
		e.Class = systems.Misconfigured
		e.Err = fmt.Errorf("%s; check the credential below auth and what it may do", said)
	case code >= 300 && code < 400:
		e.Class = systems.Misconfigured
		e.Err = fmt.Errorf("%s and points to %s; redirects are not followed, put the final address in the System document",
			said, location(resp, secrets))
	case code == http.StatusConflict:
		e.Class = systems.Rejected
		e.Err = fmt.Errorf("%s: it holds other content under this idempotency key, or in this state", said)
	default:
		e.Class = systems.Rejected
		e.Err = fmt.Errorf("%s", said)
	}
	return e
}

// location names where a redirect points, without the query, which may hold a credential.
func location(resp *http.Response, secrets [][]byte) string {
	u, err := resp.Location()
	if err != nil {
		return "nowhere"
	}
	return string(systems.Clean([]byte((&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()), secrets...))
}

// ParseRetryAfter reads a Retry-After header: seconds, or a date. A date gone by is zero; ok
// is false when the header says nothing that can be read.
func ParseRetryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0, false
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter, true // more digits than a number has is still a number
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter), true
}
