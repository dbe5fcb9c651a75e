package agent

import (
	"net/http"
	"net/url"

	"github.com/mattn/go-ieproxy"
)

// systemProxy asks for the proxy that Windows keeps for all programs, scripts included.
func systemProxy(target *url.URL) (*url.URL, error) {
	return ieproxy.GetProxyFunc()(&http.Request{URL: target})
}
