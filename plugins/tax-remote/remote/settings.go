package remote

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2/clientcredentials"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/httpcall"
)

// The settings.
const (
	setURL      = "url"
	setToken    = "token"
	setTokenURL = "token-url"
	setID       = "client-id"
	setSecret   = "client-secret"
	setScope    = "scope"
	setCA       = "ca-file"
	setProxy    = "proxy"
	setTimeout  = "timeout"
	setCache    = "cache"
)

var settings = []sdk.Setting{
	{Name: setURL, Required: true, Help: "where the engine or its adapter is, such as https://tax.example.com; /v1/estimate and the like are added"},
	{Name: setToken, Secret: true, Help: "bearer token; or the next three"},
	{Name: setTokenURL, Help: "where tokens are had with OAuth2 client credentials"},
	{Name: setID, Help: "client of the client credentials"},
	{Name: setSecret, Secret: true, Help: "secret of the client credentials"},
	{Name: setScope, Help: "scopes of the token, with spaces between them; empty: none"},
	{Name: setCA, Help: "PEM file of authorities that are trusted besides the system's"},
	{Name: setProxy, Help: "HTTP proxy on the way, such as http://proxy.example:3128; empty: the one in the environment that the host gives, if any"},
	{Name: setTimeout, Help: "of one call with all that belongs to it, such as 10s, the default; at most 60s"},
	{Name: setCache, Help: "age up to which the estimate of the same document is given again, such as 300s; at most 3600s; empty: never"},
}

// Limits of the settings.
const (
	defaultTimeout = 10 * time.Second
	maxTimeout     = time.Minute
	maxCacheAge    = time.Hour
	maxCAFile      = 1 << 20 // bytes
)

// Configure implements tax.Engine. It asks nobody: a site starts while its line is cut, too.
func (e *Engine) Configure(_ context.Context, s sdk.Settings) error {
	for name := range s {
		if !slices.ContainsFunc(settings, func(k sdk.Setting) bool { return k.Name == name }) {
			return wrong(name, "there is no such setting")
		}
	}
	base, err := addressOf(s, setURL)
	if err != nil {
		return err
	}
	timeout, err := spanOf(s, setTimeout, defaultTimeout, maxTimeout)
	if err != nil {
		return err
	}
	age, err := spanOf(s, setCache, 0, maxCacheAge)
	if err != nil {
		return err
	}
	trusted, err := trust(s[setCA])
	if err != nil {
		return err
	}
	proxy, err := proxyOf(s[setProxy])
	if err != nil {
		return err
	}
	signIn, err := signInOf(s)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.client != nil {
		return sdk.Errorf(sdk.Conflict, "the plugin is configured already").Suggest("start it anew")
	}
	e.client = newClient(base, timeout, httpcall.Way{Proxy: proxy, Roots: trusted, Connect: connectTimeout}, signIn, e.log, e.now)
	if age > 0 {
		e.cache = newCache(age, e.now)
	}
	return nil
}

func wrong(name, format string, args ...any) *sdk.Error {
	return sdk.Errorf(sdk.Validation, format, args...).At(name)
}

// addressOf reads an address that secrets and documents may be sent to.
func addressOf(s sdk.Settings, name string) (string, error) {
	if s[name] == "" {
		return "", wrong(name, "it is missing")
	}
	u, err := url.Parse(s[name])
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", wrong(name, "it is no address such as https://tax.example.com: a host and a path, nothing else") // not shown: it may hold a password
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return strings.TrimRight(u.String(), "/"), nil
	}
	return "", wrong(name, "it begins with %q, want https: only this machine itself is asked without TLS", u.Scheme+"://")
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func spanOf(s sdk.Settings, name string, missing, most time.Duration) (time.Duration, error) {
	if s[name] == "" {
		return missing, nil
	}
	var span sdk.Span
	if err := span.UnmarshalText([]byte(s[name])); err != nil {
		return 0, wrong(name, "%v", err)
	}
	if span <= 0 || time.Duration(span) > most {
		return 0, wrong(name, "%s is not within 0s and %s", span, sdk.Span(most))
	}
	return time.Duration(span), nil
}

// proxyOf gives what chooses the proxy of a request.
func proxyOf(address string) (func(*http.Request) (*url.URL, error), error) {
	if address == "" {
		return http.ProxyFromEnvironment, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, wrong(setProxy, "it is no address such as http://proxy.example:3128") // not shown: it may hold a password
	}
	return http.ProxyURL(u), nil
}

// trust gives the authorities that are trusted; nil: the system's.
func trust(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, wrong(setCA, "%v", err)
	}
	if info.Size() > maxCAFile {
		return nil, wrong(setCA, "%s has %d bytes, at most %d are read", file, info.Size(), maxCAFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong(setCA, "%v", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, wrong(setCA, "the system's authorities cannot be read: %v", err)
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, wrong(setCA, "there is no certificate in %s", file)
	}
	return pool, nil
}

// signIn is how the other side knows this site: by a token, or by how tokens are had.
type signIn struct {
	token  string
	config *clientcredentials.Config // nil: the token is always the same
}

func signInOf(s sdk.Settings) (signIn, error) {
	for _, name := range []string{setToken, setSecret} {
		if strings.ContainsFunc(s[name], func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return signIn{}, wrong(name, "it holds a line break or a control character, which no header carries")
		}
	}
	oauth := []string{setTokenURL, setID, setSecret}
	any := slices.ContainsFunc(append(oauth, setScope), func(name string) bool { return s[name] != "" })
	switch {
	case s[setToken] != "" && any:
		return signIn{}, wrong(setToken, "there are a token and client credentials: set one of them")
	case s[setToken] != "":
		return signIn{token: s[setToken]}, nil
	case !any:
		return signIn{}, wrong(setToken, "it is missing, and so are client credentials").Suggest("set token, or token-url, client-id and client-secret")
	}
	at, err := addressOf(s, setTokenURL)
	if err != nil {
		return signIn{}, err
	}
	for _, name := range oauth {
		if s[name] == "" {
			return signIn{}, wrong(name, "it is missing: client credentials need it")
		}
	}
	return signIn{config: &clientcredentials.Config{TokenURL: at, ClientID: s[setID], ClientSecret: s[setSecret], Scopes: strings.Fields(s[setScope])}}, nil
}
