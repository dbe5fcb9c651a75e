package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const proxyTimeout = 8 * time.Second

// Through is the proxy that leads to an address, and who named it. A nil URL is the direct way.
type Through struct {
	Proxy *url.URL
	From  string // such as controlplane.proxy or HTTPS_PROXY
}

// Proxy asks the proxy for the way to an address as the agent does. The connection is the
// open way, to be looked at further and closed; nil if there is none.
func Proxy(ctx context.Context, through Through, address string) (Finding, net.Conn) {
	f := Finding{ID: "proxy", Level: OK}
	at := through.Proxy.Redacted() + " (" + through.From + ")"
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	conn, err := dialProxy(ctx, through.Proxy)
	if err != nil {
		f.Level, f.Seen = Fail, at+": "+Plain(err, time.Since(begun))
		f.Todo = "correct the proxy in " + through.From + ", or let this server reach it"
		return f, nil
	}
	status, header, err := connectTo(ctx, conn, through.Proxy, address)
	if err != nil {
		conn.Close()
		f.Level, f.Seen = Fail, at+" did not answer to CONNECT "+address+": "+Plain(err, time.Since(begun))
		f.Todo = "is it an HTTP proxy? see its log; the address of the proxy is set in " + through.From
		return f, nil
	}
	if status == http.StatusOK {
		f.Seen = at + " leads to " + address
		return f, conn
	}
	conn.Close()
	f.Level, f.Seen = Fail, fmt.Sprintf("%s answered %d %s to CONNECT %s", at, status, http.StatusText(status), address)
	f.Todo = "have the proxy allow CONNECT to " + address
	if status == http.StatusProxyAuthRequired {
		var schemes []string
		f.Todo, schemes = authentication(through, header.Values("Proxy-Authenticate"))
		f.Seen += ", it wants " + strings.Join(schemes, ", ")
	}
	return f, nil
}

// authentication says what to do about a proxy that wants to know who asks.
func authentication(through Through, offered []string) (todo string, schemes []string) {
	basic, foreign := false, false
	for _, line := range offered {
		scheme, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		schemes = append(schemes, scheme)
		switch strings.ToLower(scheme) {
		case "basic":
			basic = true
		case "ntlm", "negotiate", "kerberos":
			foreign = true
		}
	}
	if len(schemes) == 0 {
		schemes = []string{"a way that it does not name"}
	}
	switch {
	case basic && through.Proxy.User != nil:
		from := through.From
		if from == "controlplane.proxy" {
			from += " and controlplane.proxyPassword"
		}
		return "user or password are not the right ones: correct them in " + from, schemes
	case basic:
		return fmt.Sprintf("set user and password: %s://user@%s as controlplane.proxy, and the password in a file of the secrets directory, "+
			"which controlplane.proxyPassword names as file:NAME", through.Proxy.Scheme, through.Proxy.Host), schemes
	case foreign:
		return "NTLM, Negotiate and Kerberos are not supported: have the proxy let this server through without them or with Basic, or open UDP to the control plane, which needs no proxy", schemes
	}
	return "only Basic is supported: have the proxy offer it, or let this server through without", schemes
}

func dialProxy(ctx context.Context, proxy *url.URL) (net.Conn, error) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"https": "443"}[proxy.Scheme]
	}
	if port == "" {
		port = "80"
	}
	address := net.JoinHostPort(proxy.Hostname(), port)
	if proxy.Scheme == "https" {
		return (&tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12}}).DialContext(ctx, "tcp", address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func connectTo(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (status int, header http.Header, err error) {
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return 0, nil, err
		}
	}
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if user := proxy.User; user != nil {
		password, _ := user.Password()
		request.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	if err := request.Write(conn); err != nil {
		return 0, nil, err
	}
	// One byte at a time: what follows the answer belongs to who goes on with the connection.
	answer, err := http.ReadResponse(bufio.NewReaderSize(&bytewise{conn}, 16), request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	return answer.StatusCode, answer.Header, nil
}

// bytewise keeps a buffered reader from reading past what it was asked for.
type bytewise struct{ net.Conn }

func (b *bytewise) Read(p []byte) (int, error) { return b.Conn.Read(p[:min(len(p), 1)]) }

// NoProxy tells that the direct way is taken.
func NoProxy() Finding {
	return Finding{ID: "proxy", Level: OK, Seen: "none is set: TCP goes out directly"}
}
