package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// The client's limits.
const (
	callTimeout = 60 * time.Second
	dialTimeout = 5 * time.Second // after which the next node is tried
	maxAnswer   = 64 << 20
	maxTries    = 3 // of one call that was not done, or of which nobody knows
	tryPause    = time.Second

	downloadStall = 30 * time.Second // without a byte
)

// clientFlags say where the control plane is.
type clientFlags struct {
	server, tokenFile, caFile, data string
}

// client reaches the API at the first of several nodes that answers.
type client struct {
	bases []string // of the nodes' APIs; the one that answered last comes first
	token string
	http  *http.Client
	told  func(http.Header)
	pause time.Duration
}

// connect finds the control plane from flags, environment, or the node's own files.
func (a *app) connect() (*client, error) {
	f := a.client
	servers := serverList(firstOf(f.server, os.Getenv("CROSSDOCK_SERVER")))
	token, err := readToken(f.tokenFile)
	if err != nil {
		return nil, err
	}
	ca := firstOf(f.caFile, os.Getenv("CROSSDOCK_CA"))
	data := firstOf(f.data, os.Getenv("CROSSDOCK_DATA"))
	if data == "" && len(servers) == 0 {
		data = hasRun(controlplane.DefaultData())
	}
	if data != "" {
		files := controlplane.FilesIn(data)
		if len(servers) == 0 {
			if servers, err = serversIn(files, data); err != nil {
				return nil, err
			}
		}
		if token == "" {
			if token, err = readLine(files.AdminToken); errors.Is(err, fs.ErrPermission) {
				return nil, notAllowed(data, err)
			} else if err != nil {
				return nil, usageError("the administrator's token cannot be read: %w; give your own with --token-file or CROSSDOCK_TOKEN "+
					"(is every administrator's token lost? crossdock principals rescue makes another)", err)
			}
		}
		ca = firstOf(ca, files.Authority)
	}
	if len(servers) == 0 {
		return nil, usageError("which control plane? None has run here, in %s, yet; to start it: %s. "+
			"For one that runs elsewhere give --server and --token-file (or CROSSDOCK_SERVER and CROSSDOCK_TOKEN), for another directory --data",
			controlplane.DefaultData(), howToStart(controlplane.DefaultData()))
	}
	if token == "" {
		return nil, usageError("who are you? give --token-file or CROSSDOCK_TOKEN")
	}
	return a.newClient(servers, token, ca)
}

// hasRun gives a directory that is there, else nothing. What cannot be looked at is there.
func hasRun(dir string) string {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return dir
}

// serverList takes apart a list of servers with commas between them.
func serverList(text string) (servers []string) {
	for _, one := range strings.Split(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			servers = append(servers, one)
		}
	}
	return servers
}

// serversIn gives the API of the node whose data directory this is, and after it those of
// the other nodes that it has told of.
func serversIn(files controlplane.Files, data string) ([]string, error) {
	own, err := readLine(files.Address)
	if err != nil {
		return nil, noAddress(data, err)
	}
	others, err := os.ReadFile(files.Others)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, usageError("addresses of the other nodes: %w", err)
	}
	return append([]string{own}, strings.Fields(string(others))...), nil
}

// noAddress says why the address of the node that has a data directory cannot be read.
func noAddress(data string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return notAllowed(data, err)
	case errors.Is(err, fs.ErrNotExist):
		return &exitError{exitUnreachable, fmt.Errorf("no control plane has started with the data directory %s yet; to start it: %s; if it is another directory, name that with --data", data, howToStart(data))}
	}
	return usageError("where the control plane of %s answers cannot be read: %w; give --server and --token-file", data, err)
}

// notAllowed says that it is this user who cannot look, whatever is there.
func notAllowed(data string, err error) error {
	return usageError("you are not allowed to look into %s, the data directory of the server: %w; run this as the server's user or as the administrator of this machine, "+
		"or give --server and --token-file", data, err)
}

// howToStart is what begins the server of a data directory.
func howToStart(data string) string {
	if sameDir(data, controlplane.DefaultData()) && runtime.GOOS == "linux" {
		return "systemctl start crossdock, where it was installed from a package, else crossdock server"
	}
	return "crossdock server --data " + data
}

func (a *app) newClient(servers []string, token, caFile string) (*client, error) {
	c := &client{token: token, told: a.noteHeaders, pause: tryPause}
	for _, server := range servers {
		if !strings.Contains(server, "://") {
			server = "https://" + server
		}
		base, err := url.Parse(server)
		if err != nil || base.Scheme != "https" || base.Host == "" {
			return nil, usageError("--server %q is not an address such as https://hub.example:7480", server)
		}
		c.bases = append(c.bases, strings.TrimSuffix(base.String(), "/"))
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS13}
	if caFile != "" {
		text, err := os.ReadFile(caFile)
		if err != nil {
			return nil, usageError("CA certificate: %w", err)
		}
		settings.RootCAs = x509.NewCertPool()
		if !settings.RootCAs.AppendCertsFromPEM(text) {
			return nil, usageError("%s holds no certificate in PEM form", caFile)
		}
	}
	c.http = &http.Client{
		Timeout: callTimeout,
		Transport: &http.Transport{
			TLSClientConfig: settings, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
			DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the token goes nowhere else
	}
	return c, nil
}

// noteHeaders says on stderr, once, that an answer may be old. JSON goes to stdout and is
// not disturbed by it. It keeps in mind whether one person may approve their own changes.
func (a *app) noteHeaders(h http.Header) {
	a.single = h.Get(api.ApprovalsHeader) == string(model.ApprovalsSingle)
	if why := h.Get(api.StaleHeader); why != "" && !a.toldStale {
		a.toldStale = true
		fmt.Fprintln(a.stderr, "this may be old:", clean(why))
	}
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func readToken(file string) (string, error) {
	if file == "" {
		return strings.TrimSpace(os.Getenv("CROSSDOCK_TOKEN")), nil
	}
	token, err := readLine(file)
	if err != nil {
		return "", usageError("token: %w", err)
	}
	return token, nil
}

func readLine(file string) (string, error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return "", err
	}
	line := strings.TrimSpace(string(text))
	if line == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return line, nil
}

// get fetches and decodes an answer.
func (c *client) get(ctx context.Context, path string, query url.Values, out any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, http.MethodGet, path, nil, out)
}

// post sends a change. All tries carry one Idempotency-Key, so that it is done once.
func (c *client) post(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, http.MethodPost, path, in, out)
}

// remove sends a removal, as post does.
func (c *client) remove(ctx context.Context, path string) error {
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	key := rand.Text()
	for try := 1; ; try++ {
		err := c.try(ctx, method, path, key, body, out)
		var refused *refusedError
		again := errors.Is(err, errStarting) || errors.As(err, &refused) &&
			(refused.problem.Code == string(model.Unavailable) || refused.problem.Code == string(model.Unknown))
		if !again || try == maxTries {
			return err
		}
		c.avoid()
		select {
		case <-time.After(c.pause):
		case <-ctx.Done():
			return err
		}
	}
}

// do sends one request to the nodes in turn, until one answers. A change goes on to the
// next node only while it has surely not reached the one before.
func (c *client) do(ctx context.Context, by *http.Client, method, path, key string, body []byte) (*http.Response, error) {
	var failed []error
	for i, base := range c.bases {
		r, err := http.NewRequestWithContext(ctx, method, base+api.BasePath+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		if method != http.MethodGet {
			r.Header.Set("Idempotency-Key", key)
		}
		if body != nil {
			r.Header.Set("Content-Type", "application/json")
		}
		answer, err := by.Do(r)
		if err == nil {
			c.prefer(i)
			c.told(answer.Header)
			return answer, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", base, reason(err)))
		if ctx.Err() != nil || method != http.MethodGet && !notSent(err) {
			break
		}
	}
	return nil, noAnswer(errors.Join(failed...))
}

// prefer puts the node that answers before the others.
func (c *client) prefer(i int) {
	one := c.bases[i]
	c.bases = slices.Insert(slices.Delete(c.bases, i, i+1), 0, one)
}

// avoid puts a node that cannot serve now behind the others.
func (c *client) avoid() { c.bases = append(c.bases[1:], c.bases[0]) }

func (c *client) try(ctx context.Context, method, path, key string, body []byte, out any) error {
	answer, err := c.do(ctx, c.http, method, path, key, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return &exitError{exitUnreachable, fmt.Errorf("the answer broke off: %w", err)}
	}
	if answer.StatusCode >= http.StatusBadRequest && !acceptable(answer, out) {
		return refusal(answer, text)
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the answer is not understood; is %s a control plane of this version? %w", c.bases[0], err)
	}
	return nil
}

// download fetches a file of any size. It takes as long as it takes while bytes come.
func (c *client) download(ctx context.Context, path string, to io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(downloadStall, func() { cancel(fmt.Errorf("nothing came for %v", downloadStall)) })
	defer stalled.Stop()
	unlimited := *c.http
	unlimited.Timeout = 0
	answer, err := c.do(ctx, &unlimited, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
		if err != nil {
			return &exitError{exitUnreachable, fmt.Errorf("the answer broke off: %w", err)}
		}
		return refusal(answer, text)
	}
	if _, err := io.Copy(to, &watched{answer.Body, stalled}); err != nil {
		return &exitError{exitUnreachable, fmt.Errorf("the file broke off: %w", errors.Join(err, context.Cause(ctx)))}
	}
	return nil
}

// watched puts off the end of a download with every byte that comes.
type watched struct {
	from    io.Reader
	stalled *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.from.Read(p)
	if n > 0 {
		w.stalled.Reset(downloadStall)
	}
	return n, err
}

// acceptable: health answers 503 with its own body.
func acceptable(answer *http.Response, out any) bool {
	_, health := out.(*api.Health)
	return health && answer.StatusCode == http.StatusServiceUnavailable
}

// refusedError is a problem that the API answered.
type refusedError struct {
	problem api.Problem
}

func (e *refusedError) Error() string {
	text := firstOf(e.problem.Detail, e.problem.Title)
	for i, item := range e.problem.Errors {
		if i == 0 && strings.Contains(e.problem.Detail, item.Detail) {
			continue
		}
		text += "\n  " + strings.TrimSpace(item.Pointer+" "+item.Detail)
	}
	return text
}

// isNotFound tells a missing thing from other refusals.
func isNotFound(err error) bool {
	var refused *refusedError
	return errors.As(err, &refused) && refused.problem.Code == string(model.NotFound)
}
