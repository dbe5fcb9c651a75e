package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/transport"
)

func way(transport, address string, err error) Path {
	return Path{Transport: transport, Address: address, Learned: strings.HasPrefix(address, "learned"), Took: 3 * time.Millisecond, Err: err}
}

// What is said must lead to the one thing that is wrong, and to nothing else.
func TestLinks(t *testing.T) {
	nobody := errors.New("tcp: dial tcp 10.0.0.1:7443: connect: connection refused")
	silent := fmt.Errorf("hello: %w", context.DeadlineExceeded)
	revoked := fmt.Errorf("quic: %w: agent eu is revoked", transport.ErrRefused)
	for _, tt := range []struct {
		name  string
		paths []Path
		want  string // id and level of each finding that is not ok
		says  []string
		not   string
	}{
		{"all is well", []Path{way("quic", "a:1", nil), way("tcp", "a:1", nil)}, "", nil, ""},
		{"UDP is dropped", []Path{way("quic", "a:1", silent), way("tcp", "a:1", nil)}, "link-quic warn",
			[]string{"a:1: no answer within 1s", "send UDP"}, "run there"},
		{"the control plane is down", []Path{way("quic", "a:1", silent), way("tcp", "a:1", nobody)}, "link-quic warn, link-tcp fail",
			[]string{"see link-tcp", "does the control plane run there?"}, "send UDP"},
		{"nobody is heard of", []Path{way("quic", "a:1", silent), way("tcp", "a:1", silent)}, "link-quic warn, link-tcp fail",
			[]string{"see link-tcp", "connect out"}, "send UDP"},
		{"QUIC is all that may be used", []Path{way("quic", "a:1", silent)}, "link-quic fail", []string{"connect out"}, "TCP"},
		{"TCP is all that may be used", []Path{way("tcp", "a:1", nil)}, "", nil, ""},
		{"the configured node is gone", []Path{way("quic", "a:1", silent), way("quic", "learned:1", nil), way("tcp", "a:1", nobody), way("tcp", "learned:1", nil)},
			"addresses warn", []string{"a:1: tcp: dial", "out of controlplane.addresses", "learned:1 answered over tcp in 3 ms (1 of 2 addresses do)"}, "no answer"},
		{"a learned node is gone", []Path{way("tcp", "a:1", nil), way("tcp", "learned:1", silent)},
			"addresses warn", []string{"learned:1: no answer"}, "controlplane.addresses"},
		{"the agent is revoked", []Path{way("quic", "a:1", revoked), way("tcp", "a:1", revoked)}, "link-quic warn, link-tcp fail",
			[]string{"is revoked", "nothing is wrong with the line: see certificate"}, "UDP"},
		{"and one node is gone", []Path{way("tcp", "a:1", nobody), way("tcp", "b:1", revoked)}, "link-tcp fail", []string{"a:1: tcp", "see certificate"}, "run there"},
		{"the certificate has expired", []Path{way("tcp", "a:1", fmt.Errorf("%w: renew", transport.ErrExpired))}, "link-tcp fail", []string{"see certificate"}, "enrol"},
		{"a proxy looks into it", []Path{way("tcp", "a:1", fmt.Errorf("%w: x", transport.ErrForeignIssuer))}, "link-tcp fail", []string{"without inspection"}, "firewall"},
		{"there is no leader", []Path{way("tcp", "a:1", connect.NewWireError(connect.CodeUnavailable, errors.New("no leader")))}, "link-tcp fail",
			[]string{"crossdock cluster status"}, "firewall"},
		{"the name is wrong", []Path{way("tcp", "a:1", &net.DNSError{Err: "no such host", Name: "a"})}, "link-tcp fail", []string{"correct the name"}, "firewall"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			findings, refused := Links(tt.paths)
			var bad []string
			text := ""
			for _, f := range findings {
				check(t, f, f.Level)
				text += f.Seen + "\n" + f.Todo + "\n"
				if away := strings.Contains(f.Seen, "revoked"); away != (f.Doc == "certificate-ends") {
					t.Errorf("read on: %+v", f)
				}
				if f.Level != OK {
					bad = append(bad, f.ID+" "+string(f.Level))
				}
			}
			if got := strings.Join(bad, ", "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			for _, word := range tt.says {
				if !strings.Contains(text, word) {
					t.Errorf("%q is missing in\n%s", word, text)
				}
			}
			if tt.not != "" && strings.Contains(text, tt.not) {
				t.Errorf("%q is said in\n%s", tt.not, text)
			}
			if (refused != "") != strings.Contains(text, "revoked") {
				t.Errorf("refused: %q", refused)
			}
		})
	}
}

// One node that has not heard of it yet still serves a revoked agent; the next will not.
func TestRefusedAtOneNodeOnly(t *testing.T) {
	denied := connect.NewWireError(connect.CodePermissionDenied, errors.New("revoked"))
	if findings, refused := Links([]Path{way("tcp", "a:1", denied), way("tcp", "b:1", nil)}); refused != "" || Worst(findings) != Warn {
		t.Errorf("%q, %+v", refused, findings)
	}
	if _, refused := Links([]Path{way("tcp", "a:1", denied)}); !strings.Contains(refused, "revoked") {
		t.Errorf("%q", refused)
	}
}

// An agent that was revoked learns that it was, what that means, and the ways on from there. One
// that is refused for another reason is not told so.
func TestRefusedSaysWhatToDo(t *testing.T) {
	revoked := Refused("a:1: tcp: permission_denied: agent home is revoked: enrol again with a new join token", "home")
	check(t, revoked, Fail)
	for _, want := range []string{"has revoked this agent", "goes on alone", "agent home is revoked", "crossdock audit", "uninstall", "crossdock token create --site home", "crossdock-agent enroll"} {
		if !strings.Contains(revoked.Seen+revoked.Todo, want) {
			t.Errorf("%q is missing in %+v", want, revoked)
		}
	}
	foreign := Refused("a:1: tcp: certificate of home is of cluster a, this is b: enrol again", "home")
	check(t, foreign, Fail)
	if strings.Contains(foreign.Seen+foreign.Todo, "revoked") || !strings.Contains(foreign.Todo, "crossdock token create --site home") {
		t.Errorf("%+v", foreign)
	}
}

// A clock that is far off makes the control plane's certificate look wrong. That is no matter of
// the line: what is advised leads to the clock.
func TestAClockThatIsFarOff(t *testing.T) {
	ours := newAuthority(t, "Crossdock CA")
	hub := secured(t, ours.issue(t, "node-1", time.Now().Add(time.Hour)))
	later := time.Now().Add(240 * time.Hour)
	d := &tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ours.pool(), ServerName: "127.0.0.1", Time: func() time.Time { return later }}}
	_, err := d.DialContext(t.Context(), "tcp", hub)
	if err == nil {
		t.Fatal("the handshake has come about")
	}
	paths := []Path{way("quic", hub, errors.New("no answer")), way("tcp", hub, connect.NewError(connect.CodeUnavailable, err))}
	findings, refused := Links(paths)
	if refused != "" || len(findings) != 2 || findings[1].Doc != "clock" || !strings.Contains(findings[1].Todo, "see clock") {
		t.Errorf("%q, %+v", refused, findings)
	}
	f := Clock(paths, later)
	check(t, f, Warn)
	if !strings.Contains(f.Seen, later.Local().Format(time.DateTime)) || !strings.Contains(f.Todo, "set this clock") {
		t.Errorf("%+v", f)
	}
}
