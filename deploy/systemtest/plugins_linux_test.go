package systemtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/crossdock/crossdock/agent"
)

// zoneProgram builds the carrier without a line as it is shipped.
func zoneProgram(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "carrier-zone")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", file, "./plugins/carrier-zone")
	build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// zoneBook is the carrier's tables and the directory of its book.
type zoneBook struct{ tables, state string }

func newZoneBook(t *testing.T) zoneBook {
	t.Helper()
	tables, err := filepath.Abs(filepath.Join("..", "..", "plugins", "carrier-zone", "zone", "testdata", "tables"))
	if err != nil {
		t.Fatal(err)
	}
	return zoneBook{tables, filepath.Join(t.TempDir(), "book")}
}

// withZone is a policy for a site that has the carrier, of that program.
func (z zoneBook) withZone(site string, program []byte) map[string]string {
	bundle := policyFor([]string{site}, nil)
	bundle["plugins.yaml"] = fmt.Sprintf(`apiVersion: crossdock/v1
kind: Plugin
metadata: {name: zone}
spec:
  owner: logistics
  kind: carrier
  sites: [%s]
  program: carrier-zone
  sha256: {linux/amd64: %[2]x, linux/arm64: %[2]x}
  settings: {tables: %s, state: %s}
`, site, sha256.Sum256(program), z.tables, z.state)
	return bundle
}

// putProgram replaces the site's program as people do it: a new file under the old name.
func (s *site) putProgram(program []byte) {
	s.t.Helper()
	file := filepath.Join(s.cfg.Data, "plugins", "carrier-zone")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file+".new", program, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

// awaitPlugin waits until the one plugin of a site is as wanted.
func (s *site) awaitPlugin(what string, holds func(agent.PluginStatus) bool) (out agent.PluginStatus) {
	s.t.Helper()
	s.awaitStatus("its plugin "+what, func(st agent.Status) string {
		if len(st.Plugins) != 1 || !holds(st.Plugins[0]) {
			return fmt.Sprintf("%+v", st.Plugins)
		}
		out = st.Plugins[0]
		return ""
	})
	return out
}

func (s *site) activatePlugin(name string) (status int) {
	s.t.Helper()
	address := "http://" + s.cfg.Ops.Listen + "/v1/plugins/activate?name=" + url.QueryEscape(name)
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, address, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(read(s.t, filepath.Join(s.cfg.Data, "ops.token"))))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// holdProcess gives a handle that stays with a process, also when its number is another's.
func holdProcess(t *testing.T, pid int) (kill func(), ended func() bool) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	kill = func() {
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil {
			t.Errorf("process %d: %v", pid, err)
		}
	}
	return kill, func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	}
}

// TestPlugins has a revision bring a carrier up at a site: it comes again when it is killed, a
// program that policy does not name is not run and told as an exception, and no plugin outlives
// an agent that is killed. The agent goes on all the time.
func TestPlugins(t *testing.T) {
	first := zoneProgram(t)
	second := append(bytes.Clone(first), "second"...) // what stands behind a program changes its hash only
	p, book := startPlane(t, nil), newZoneBook(t)
	p.approve(policyFor([]string{"eu"}, nil))
	eu := newSite(t, p, "eu")
	eu.putProgram(first)
	eu.startChild("", 0)
	eu.awaitReady()

	p.approve(book.withZone("eu", first))
	runs := func(s agent.PluginStatus) bool { return s.State == "running" }
	up := eu.awaitPlugin("runs", runs)
	if up.Plugin != "zone" || up.Kind != "carrier" || up.Version != "1.0.0" || up.Data == "" || up.PID == 0 || up.Crashes != 0 || up.LastError != "" {
		t.Errorf("the plugin is %+v", up)
	}

	kill, _ := holdProcess(t, up.PID)
	kill()
	again := eu.awaitPlugin("runs again", func(s agent.PluginStatus) bool { return runs(s) && s.PID != up.PID })
	if again.Crashes != 1 || again.Starts != 2 || !strings.Contains(again.LastError, "killed") {
		t.Errorf("after it was killed the plugin is %+v", again)
	}
	if n := scrape(t, eu.cfg.Ops.Listen, `crossdock_plugins_crashes_total`, `plugin="zone"`, `cause="exit"`); n != 1 {
		t.Errorf("the metrics count %v crashes", n)
	}

	p.approve(book.withZone("eu", second)) // the site still has the first
	given := eu.awaitPlugin("is deactivated", func(s agent.PluginStatus) bool { return s.State == "deactivated" })
	if want := fmt.Sprintf("wanted %x", sha256.Sum256(second)); given.Starts != 2 || !strings.Contains(given.LastError, want) {
		t.Errorf("with the wrong program the plugin is %+v, want %s", given, want)
	}
	p.awaitException("eu", "plugin-deactivated", "zone", "SHA-256", "activate")
	if status := eu.activatePlugin("zoo"); status != http.StatusNotFound {
		t.Errorf("a plugin that is not there: status %d", status)
	}
	eu.putProgram(second)
	if status := eu.activatePlugin("zone"); status != http.StatusOK {
		t.Errorf("activate: status %d", status)
	}
	last := eu.awaitPlugin("runs as the second", func(s agent.PluginStatus) bool { return runs(s) && s.SHA256 == given.SHA256 })

	_, ended := holdProcess(t, last.PID)
	eu.child.kill(t)
	until(t, "the plugin ends with its agent", func() string {
		if !ended() {
			return fmt.Sprintf("process %d is still there", last.PID)
		}
		return ""
	})
	eu.startChild("", 0)
	eu.awaitPlugin("runs in the next life", runs) // so the book was free
}
