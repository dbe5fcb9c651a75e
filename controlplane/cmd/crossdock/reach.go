package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/crossdock/crossdock/controlplane/api"
)

// reason is why a request was not answered, without the URL, which is said beside it.
func reason(err error) error {
	var request *url.Error
	if errors.As(err, &request) {
		return request.Err
	}
	return err
}

// notSent tells a request that has surely not reached a node.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// noAnswer says that no node answers, and what to do about it where that is known.
func noAnswer(err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
	)
	switch {
	case errors.As(err, &unknown):
		err = fmt.Errorf("%w\nits certificate is of an authority that is not known here: give the control plane's with --ca-file or CROSSDOCK_CA "+
			"(pki/ca.pem in the data directory of any node)", err)
	case errors.As(err, &name):
		err = fmt.Errorf("%w\nuse a name or an address that is in the certificate, or add this one to sync.names of the node", err)
	case errors.Is(err, http.ErrSchemeMismatch):
		return usageError("%w\n%s", err, whichDoor)
	}
	return &exitError{exitUnreachable, fmt.Errorf("the control plane does not answer: %w", err)}
}

// errStarting marks a node that runs and has nothing to answer with yet.
var errStarting = errors.New("not serving yet")

const whichDoor = "this is not the door for people: --server wants api.listen of a node, such as https://hub.example:7480"

// refusal makes an error of an answer that is none of what was asked for.
func refusal(answer *http.Response, text []byte) error {
	var problem api.Problem
	err := json.Unmarshal(text, &problem)
	switch {
	case err == nil && problem.Code != "" && firstOf(problem.Detail, problem.Title) != "":
		return &exitError{code: exitOf(problem.Code), err: &refusedError{problem}}
	case answer.StatusCode == http.StatusServiceUnavailable:
		return &exitError{exitUnreachable, fmt.Errorf("%s: %w: %s", answer.Request.URL.Host, errStarting, oneLine(clean(string(text))))}
	case err == nil && problem.Code != "":
		return usageError("%s answered %s: %s", answer.Request.URL.Host, answer.Status, whichDoor)
	}
	return &exitError{exitUnreachable, fmt.Errorf("%s answered %s, which no control plane does: is there a proxy between, or is it another program? %s",
		answer.Request.URL.Host, strings.TrimSpace(answer.Status), whichDoor)}
}
