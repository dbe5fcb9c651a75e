package systemtest

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/transport"
)

// TestTokenOfAnotherSiteHarmsNobody enrols over the data of a site with the token of
// another, whose agent is at work. It must not be put out by that, nor the token be spent.
func TestTokenOfAnotherSiteHarmsNobody(t *testing.T) {
	w := newWorld(t, nil, []string{"away", "home"}, func(h *history.History) []*system {
		return []*system{newSystem(t, h, "erp", "home")}
	})
	home, away := w.sites["home"], w.sites["away"]
	home.start()
	home.awaitLink("quic")
	away.start()
	w.shops["away"].sellAll(t, "first", 2, 3)
	w.awaitTaken("erp", 6)
	away.stop()
	before := w.plane.agent("home")

	text := w.plane.joinToken("home", "")
	token, err := transport.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string) {
		t.Helper()
		granted, err := agent.Enroll(t.Context(), away.cfg, text, token.CAHash)
		wantCode(t, what, err, connect.CodePermissionDenied, "for site home", "agent away", away.cfg.Data, "--data")
		if granted != (identity.Granted{}) {
			t.Errorf("%s: granted %+v", what, granted)
		}
	}
	refused("over the identity of another agent")
	aside := away.cfg.IdentityDir() + ".aside"
	if err := os.Rename(away.cfg.IdentityDir(), aside); err != nil {
		t.Fatal(err)
	}
	refused("over the journal of another agent")
	if err := errors.Join(os.RemoveAll(away.cfg.IdentityDir()), os.Rename(aside, away.cfg.IdentityDir())); err != nil {
		t.Fatal(err)
	}

	if after := w.plane.agent("home"); after.Epoch != before.Epoch || !after.Connected {
		t.Errorf("home was %+v, is %+v", before, after)
	}
	away.start() // the identity is as it was
	w.shops["away"].sellAll(t, "second", 2, 3)
	w.shops["home"].sellAll(t, "third", 2, 3)
	w.awaitTaken("erp", 18)

	// The token is still good where it belongs: the server is replaced while its agent runs.
	replaced := bareSite(t, "home", t.TempDir())
	replaced.cfg.ControlPlane.Addresses = home.cfg.ControlPlane.Addresses
	replaced.enrol(text)
	if after := w.plane.agent("home"); after.Epoch != before.Epoch+1 {
		t.Errorf("after the replacement home is %+v, was %+v", after, before)
	}
}

// A refused enrolment leaves a new machine as it was, and a port that somebody else has is
// named.
func TestNewMachineIsToldWhatIsInTheWay(t *testing.T) {
	p := startPlane(t, nil)
	text := p.joinToken("eu", "")
	token, err := transport.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	s := bareSite(t, "eu", t.TempDir())
	s.cfg.ControlPlane.Addresses = p.syncs()
	secrets := s.cfg.Data
	s.cfg.Data = filepath.Join(t.TempDir(), "data")
	_, err = agent.Enroll(t.Context(), s.cfg, transport.NewToken(token.CAHash).String(), token.CAHash)
	wantCode(t, "an unknown token", err, connect.CodeUnauthenticated, "not known")
	if _, err := os.Stat(s.cfg.Data); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the data directory stays: %v", err)
	}
	s.cfg.Data = secrets
	s.enrol(text)
	for key, address := range map[string]string{"ops.listen": s.cfg.Ops.Listen, "intake.listen": s.cfg.Intake.Listen} {
		taken, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(s.cfg)
		if err == nil {
			err = a.Run(t.Context())
		}
		if !errors.Is(err, agent.ErrPortInUse) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s is taken: %v", key, err)
		}
		taken.Close()
	}
}
