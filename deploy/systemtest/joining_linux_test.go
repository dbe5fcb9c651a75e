package systemtest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// manager is a service manager's socket, on which a program tells how it is.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t: t, conn: conn}
}

func (m *manager) env() []string {
	return []string{"NOTIFY_SOCKET=" + m.conn.LocalAddr().String(), "WATCHDOG_USEC=600000"}
}

// await reads up to a message with a line, and gives all lines up to there.
func (m *manager) await(line string) (seen []string) {
	m.t.Helper()
	buffer := make([]byte, 4096)
	for !slices.Contains(seen, line) {
		if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			m.t.Fatal(err)
		}
		n, err := m.conn.Read(buffer)
		if err != nil {
			m.t.Fatalf("waited in vain for %s after %q: %v", line, seen, err)
		}
		seen = append(seen, strings.Split(strings.TrimSpace(string(buffer[:n])), "\n")...)
	}
	return seen
}

// bundle is a folder with the agent's program and a plugin, as it is downloaded, and another
// that stands for the root of the machine.
type bundle struct {
	t          *testing.T
	dir, image string
}

func newBundle(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{t: t, dir: t.TempDir(), image: t.TempDir()}
	program, err := os.ReadFile(filepath.Join(programs(t), "crossdock-agent"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(b.dir, "crossdock-agent"), program, 0o755), os.Mkdir(filepath.Join(b.dir, "plugins"), 0o755),
		os.WriteFile(filepath.Join(b.dir, "plugins", "carrier-zone"), []byte("a plugin"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return b
}

// agent runs a command of the bundle's program and wants its exit code.
func (b *bundle) agent(want int, env []string, args ...string) string {
	b.t.Helper()
	cmd := exec.Command(filepath.Join(b.dir, "crossdock-agent"), args...)
	cmd.Dir, cmd.Env = b.dir, append(os.Environ(), env...)
	text, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != want {
		b.t.Fatalf("crossdock-agent %s: exit code %d, want %d: %v\n%s", strings.Join(args, " "), got, want, err, text)
	}
	return string(text)
}

func (b *bundle) at(path string) string { return filepath.Join(b.image, path) }

// gone wants that nothing is left of what was installed.
func (b *bundle) gone(paths ...string) {
	b.t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(b.at(path)); !errors.Is(err, os.ErrNotExist) {
			b.t.Errorf("%s is there: %v", path, err)
		}
	}
}

// shownToken is what "token create -o json" says.
type shownToken struct {
	Token        string
	Line         string
	ControlPlane []string
}

func (n *node) showToken(site string) (out shownToken) {
	n.c.t.Helper()
	text, err := n.crossdock("", "token", "create", "--site", site, "-o", "json")
	if err == nil {
		text = text[strings.Index(text, "{"):]
		err = json.NewDecoder(strings.NewReader(text)).Decode(&out)
	}
	if err != nil {
		n.c.t.Fatalf("%v: %s", err, text)
	}
	return out
}

// TestJoinFromABundle goes the way of a site without internet: the line that "token create"
// prints, said in the folder of a bundle, makes an agent and its service; both programs tell the
// service manager how they are; and all of it goes again, without the control plane.
func TestJoinFromABundle(t *testing.T) {
	m := newManager(t)
	c := startCluster(t, 1, clusterOptions{env: m.env()})
	n := c.nodes[0]
	if seen := m.await("READY=1"); slices.Contains(seen, "WATCHDOG=1") {
		t.Errorf("it lives before it is ready: %q", seen)
	}
	m.await("WATCHDOG=1")

	b := newBundle(t)
	shown := n.showToken("eu")
	if want := []string{n.sync}; !slices.Equal(shown.ControlPlane, want) {
		t.Fatalf("%+v, want the addresses %q", shown, want)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "token"), []byte(shown.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	enroll, install, ok := strings.Cut(shown.Line, " && ")
	if !ok || !strings.Contains(enroll, n.sync) {
		t.Fatalf("the line is %q", shown.Line)
	}
	words := func(line string) []string { return append(strings.Fields(line)[1:], "--root", b.image) }

	b.agent(4, nil, words(install)...) // not before it is enrolled
	b.gone("usr", "etc", "var")
	if said := b.agent(0, nil, words(enroll)...); !strings.Contains(said, "wrote the configuration "+b.at("etc/crossdock-agent/agent.yaml")) || !strings.Contains(said, "of site eu") {
		t.Errorf("enroll says %q", said)
	}
	config := read(t, b.at("etc/crossdock-agent/agent.yaml"))
	if !strings.Contains(config, fmt.Sprintf("addresses: [%q]", n.sync)) || strings.Contains(config, b.image) {
		t.Errorf("the configuration is %s", config)
	}
	b.agent(0, nil, words(install)...)
	b.agent(0, nil, words(install)...) // again
	for path, want := range map[string]string{
		"usr/local/bin/crossdock-agent": read(t, filepath.Join(b.dir, "crossdock-agent")), "var/lib/crossdock-agent/plugins/carrier-zone": "a plugin",
	} {
		if read(t, b.at(path)) != want {
			t.Errorf("%s is another file", path)
		}
	}
	if said := b.agent(0, nil, "service", "status", "--root", b.image); !strings.Contains(said, "/etc/systemd/system/crossdock-agent.service") {
		t.Errorf("the status is %q", said)
	}

	b.live(n)

	// The control plane is gone and the configuration is broken by now.
	n.run.signal(syscall.SIGTERM)
	m.await("STOPPING=1")
	if !comes(n.run.ended) {
		t.Fatal("the server does not end")
	}
	if err := os.WriteFile(b.at("etc/crossdock-agent/agent.yaml"), []byte("intake: {lisen: 1}"), 0o600); err != nil {
		t.Fatal(err)
	}
	said := b.agent(0, nil, "uninstall", "--purge", "--yes", "--root", b.image)
	if !strings.Contains(said, "crossdock agents revoke eu") || !strings.Contains(said, "left "+b.at("etc/crossdock-agent/agent.yaml")) {
		t.Errorf("uninstall says %q", said)
	}
	b.gone("usr/local/bin/crossdock-agent", "etc/systemd/system/crossdock-agent.service", "etc/crossdock-agent/installed.json", "var/lib/crossdock-agent")
}

// live runs the installed agent, which has no policy yet, under a service manager.
func (b *bundle) live(n *node) {
	b.t.Helper()
	m := newManager(b.t)
	config := filepath.Join(b.dir, "agent.yaml")
	text := read(b.t, b.at("etc/crossdock-agent/agent.yaml")) + fmt.Sprintf("intake: {listen: %q}\nops: {listen: %q}\n", freePort(b.t), freePort(b.t))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	log := filepath.Join(b.dir, "log")
	run := launch(b.t, log, m.env(), nil, b.at("usr/local/bin/crossdock-agent"), "run", "-c", config, "--data", b.at("var/lib/crossdock-agent"))
	b.t.Cleanup(func() { showTail(b.t, log) })
	if seen := m.await("READY=1"); slices.Contains(seen, "WATCHDOG=1") {
		b.t.Errorf("it lives before it is ready: %q", seen)
	}
	m.await("STATUS=site eu, connected by quic, no policy yet, 0 to be sent, 0 to be delivered")
	m.await("WATCHDOG=1")
	b.agent(6, nil, "uninstall", "--purge", "--yes", "--root", b.image) // it runs, and nobody could be asked
	run.signal(syscall.SIGTERM)
	m.await("STOPPING=1")
	if !comes(run.ended) || run.cmd.ProcessState.ExitCode() != 0 {
		b.t.Errorf("the agent ended with %v", run.cmd.ProcessState)
	}
}

// connector is an HTTP CONNECT proxy that wants a password and knows one name.
type connector struct {
	*httptest.Server
	mu    sync.Mutex
	asked []string
}

func startConnector(t *testing.T, name, address string) *connector {
	t.Helper()
	c := &connector{}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("site:pass"))
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.asked = append(c.asked, r.Method+" "+r.Host)
		c.mu.Unlock()
		if r.Header.Get("Proxy-Authorization") != want {
			http.Error(w, "who is that", http.StatusProxyAuthRequired)
			return
		}
		if r.Method != http.MethodConnect || r.Host != name {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		to, err := net.Dial("tcp", address)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprint(buffered, "HTTP/1.1 200 OK\r\n\r\n")
		buffered.Flush()
		go func() {
			defer to.Close()
			_, _ = io.Copy(to, buffered)
		}()
		defer from.Close()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(c.Close)
	return c
}

// TestJoinByProxy enrols where only a proxy leads out, which the environment names and a service
// would not see: it is written down, and others may not read its password.
func TestJoinByProxy(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	hub := strings.ToLower(host) + ":7443" // where nobody listens
	c := startCluster(t, 1, clusterOptions{advertise: hub})
	n := c.nodes[0]
	shown := n.showToken("eu")
	if !slices.Equal(shown.ControlPlane, []string{hub}) {
		t.Fatalf("%+v", shown)
	}
	proxy := startConnector(t, hub, n.sync)
	b := newBundle(t)
	file := filepath.Join(b.dir, "token")
	if err := os.WriteFile(file, []byte(shown.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"enroll", "--control-plane", hub, "--token-file", file, "--root", b.image}
	address := strings.TrimPrefix(proxy.URL, "http://")
	environment := func(password string) []string {
		return []string{"HTTPS_PROXY=http://site:" + password + "@" + address, "NO_PROXY=", "no_proxy=", "https_proxy="}
	}

	if said := b.agent(5, environment("wrong"), args...); !strings.Contains(said, "the token is still good") {
		t.Errorf("with a wrong password: %q", said)
	}
	b.gone("etc/crossdock-agent", "var/lib/crossdock-agent")
	b.agent(0, environment("pass"), args...)
	text := read(t, b.at("etc/crossdock-agent/agent.yaml"))
	for _, want := range []string{fmt.Sprintf("proxy: %q", "http://site@"+address), `proxyPassword: "file:proxy.password"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the configuration is without %s: %s", want, text)
		}
	}
	password := b.at("var/lib/crossdock-agent/secrets/proxy.password")
	if got := read(t, password); got != "pass" {
		t.Errorf("the password is %q", got)
	}
	if info, err := os.Stat(password); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	proxy.mu.Lock()
	defer proxy.mu.Unlock()
	if len(proxy.asked) < 2 || slices.ContainsFunc(proxy.asked, func(r string) bool { return r != "CONNECT "+hub }) {
		t.Errorf("the proxy was asked %q", proxy.asked)
	}
}

// TestEnrolmentKeepsTheConfiguration: a file that is there stays, but for the placeholder of the
// one that packages bring; an enrolment that comes to nothing leaves it as it was.
func TestEnrolmentKeepsTheConfiguration(t *testing.T) {
	c := startCluster(t, 1, clusterOptions{})
	n := c.nodes[0]
	b := newBundle(t)
	shipped := []byte(read(t, "../examples/agent.yaml"))
	file := b.at("etc/crossdock-agent/agent.yaml")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, shipped, 0o640)); err != nil {
		t.Fatal(err)
	}
	enroll := func(want int, address string) string {
		token := filepath.Join(b.dir, "token")
		if err := os.WriteFile(token, []byte(n.showToken("eu").Token), 0o600); err != nil {
			t.Fatal(err)
		}
		return b.agent(want, nil, "enroll", "--control-plane", address, "--token-file", token, "--root", b.image)
	}
	enroll(5, nowhere)
	if got := read(t, file); got != string(shipped) {
		t.Errorf("an enrolment that failed leaves %s", got)
	}
	enroll(0, n.sync)
	want := bytes.Replace(shipped, []byte("[crossdock.example.com:7443]"), []byte(fmt.Sprintf("[%q]", n.sync)), 1)
	if got := read(t, file); got != string(want) {
		t.Errorf("the packages' file is %s", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info, err)
	}
	own := []byte("controlplane: {addresses: [\"hub.example.org:7443\"]}\n")
	if err := os.WriteFile(file, own, 0o640); err != nil {
		t.Fatal(err)
	}
	if said := enroll(0, n.sync); !strings.Contains(said, "names other addresses, hub.example.org:7443, and is left as it is") {
		t.Errorf("enroll says %q", said)
	}
	if got := read(t, file); got != string(own) {
		t.Errorf("somebody's own file is %s", got)
	}
	if err := os.WriteFile(file, []byte("log: {level: debug}\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	if said := enroll(1, n.sync); !strings.Contains(said, "the token is still good") || !strings.Contains(said, "names no addresses") {
		t.Errorf("enroll says %q", said)
	}
}
