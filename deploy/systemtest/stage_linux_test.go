package systemtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/release"
)

// pieceBytes is what the control plane takes of a file in one call.
const pieceBytes = 512 << 10

// stage has a control plane keep a release and sites run it.
func (p *plane) stage(dir string, sites ...string) (digest string) {
	p.t.Helper()
	manifest, signature := read(p.t, filepath.Join(dir, release.ManifestFile)), read(p.t, filepath.Join(dir, release.SignatureFile))
	var added struct {
		Version string
		Digest  string
		Files   []struct{ SHA256 string }
	}
	p.must(http.MethodPost, "/releases", map[string]any{"manifest": manifest, "signature": signature}, &added)
	program := []byte(read(p.t, filepath.Join(dir, release.Agent)))
	for offset := 0; offset < len(program); offset += pieceBytes {
		piece := program[offset:min(offset+pieceBytes, len(program))]
		p.must(http.MethodPost, "/releases/"+added.Version+"/files/"+added.Files[0].SHA256,
			map[string]any{"offset": offset, "data": base64.StdEncoding.EncodeToString(piece)}, nil)
	}
	p.must(http.MethodPost, "/releases/"+added.Version+"/approve", map[string]any{"digest": added.Digest, "sites": sites}, nil)
	return added.Digest
}

// withdraw takes a release back that no other takes the place of, and waits until it is seen
// that the site has gone back.
func (p *plane) withdraw(version string) {
	p.t.Helper()
	p.must(http.MethodPost, "/releases/"+version+"/withdraw", map[string]any{"reason": "wrong labels"}, nil)
	until(p.t, "the site is seen to have gone back from "+version, func() string {
		_, text := p.call(http.MethodGet, "/releases/"+version, nil)
		if !strings.Contains(string(text), versions.RolledBack) || !strings.Contains(string(text), "it was withdrawn at the control plane") {
			return string(text)
		}
		return ""
	})
}

// TestReleaseStagedByTheControlPlane has a site run a release that the control plane serves:
// the line is cut and the agent killed while it is fetched, and events flow.
func TestReleaseStagedByTheControlPlane(t *testing.T) {
	w, key := upgradeWorld(t), newSigner(t)
	eu := w.sites["eu"]
	y := eu.serve(install(t, buildAgent(t, "1.0.0", "", "")), key.upgrades("1m"))
	eu.awaitRelease("1.0.0", versions.Current)
	// It is so large that there is time to disturb its fetching.
	large := append(bytes.Clone(buildAgent(t, "1.1.0", "", "")), make([]byte, 8<<20)...)
	digest := w.plane.stage(key.release("1.1.0", large), "eu")
	stop := w.trade(2)
	defer stop()
	fetching := func(least int64) func(agent.Status) string {
		return func(st agent.Status) string {
			if size := fetched(eu); st.Version != "1.1.0" && (st.Release.State != versions.Fetching || size < least) {
				return fmt.Sprintf("%d bytes are here, %+v", size, st.Release)
			}
			return ""
		}
	}
	eu.awaitStatus("fetches", fetching(1<<20))
	eu.line.Cut()
	atCut := fetched(eu)
	eu.awaitStatus("knows that it is alone", func(st agent.Status) string {
		if st.Link.Connected {
			return "still connected"
		}
		return ""
	})
	eu.line.Restore()
	eu.awaitStatus("goes on", fetching(atCut+1<<20))
	atKill := fetched(eu)
	y.kill()
	if atCut == 0 || atKill < atCut || atKill == int64(len(large)) {
		t.Errorf("%d bytes were fetched at the cut, %d at the kill, of %d: the fetch was not disturbed in the middle, or began anew", atCut, atKill, len(large))
	}
	eu.awaitRelease("1.1.0", versions.Current)
	w.more(20)

	// Taken back while no release is wanted everywhere, it is left for what ran before, and can be
	// approved once more.
	w.plane.withdraw("1.1.0")
	eu.awaitRelease("1.0.0", versions.RolledBack)
	w.more(20)
	w.plane.must(http.MethodPost, "/releases/1.1.0/approve", map[string]any{"digest": digest, "sites": []string{"eu"}}, nil)
	eu.awaitRelease("1.1.0", versions.Current)

	// A release that breaks is left; the control plane sees it.
	w.plane.must(http.MethodPost, "/releases/1.1.0/promote", map[string]any{}, nil)
	w.plane.stage(key.release("1.2.0", []byte("#!/bin/sh\nexit 1\n")), "eu")
	eu.awaitStatus("goes back from 1.2.0", wentBack("1.2.0"))
	eu.awaitRelease("1.1.0", versions.RolledBack)
	until(t, "the control plane has it from the agent", func() string {
		_, text := w.plane.call(http.MethodGet, "/releases/1.2.0", nil)
		if !strings.Contains(string(text), versions.RolledBack) {
			return string(text)
		}
		return ""
	})
	w.plane.must(http.MethodPost, "/releases/1.2.0/withdraw", map[string]any{"reason": "it breaks"}, nil)

	// What another key has signed is not even fetched, though the control plane serves it.
	w.plane.stage(newSigner(t).release("1.3.0", []byte("another program")), "eu")
	eu.awaitStatus("refuses 1.3.0", func(st agent.Status) string {
		if st.Release.Wanted != "1.3.0" || st.Release.State != versions.Failed || !strings.Contains(st.Release.Why, "not trusted here") {
			return fmt.Sprintf("%+v", st.Release)
		}
		return ""
	})
	stop()
	w.settle(w.explained(2)) // it was killed once, and the line was cut once
}

// fetched is how much of a release is here that is being fetched.
func fetched(s *site) (size int64) {
	s.t.Helper()
	parts, err := filepath.Glob(filepath.Join(s.cfg.Data, "versions", ".part-*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, part := range parts {
		if info, err := os.Stat(part); err == nil {
			size += info.Size()
		}
	}
	return size
}
