package systemtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
)

// certify leaves a certificate of its own for 127.0.0.1 in two files.
func certify(t *testing.T, certificate, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "intake"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	put(t, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	put(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})))
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shown is the serial number of the certificate that a door shows.
func shown(t *testing.T, address string) int64 {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is looked at, not trusted
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// gatekeeper is a proxy that lets through who shows a user and a password.
type gatekeeper struct {
	address string
	mu      sync.Mutex // guards what follows
	let     int
	refused int
}

func startGatekeeper(t *testing.T, user, password string) *gatekeeper {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gatekeeper{address: l.Addr().String()}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { g.serve(conn, want) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return g
}

func (g *gatekeeper) serve(conn net.Conn, want string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	known := r.Method == http.MethodConnect && r.Header.Get("Proxy-Authorization") == want
	g.mu.Lock()
	if known {
		g.let++
	} else {
		g.refused++
	}
	g.mu.Unlock()
	if !known {
		fmt.Fprint(conn, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
		return
	}
	far, err := net.Dial("tcp", r.Host)
	if err != nil {
		return
	}
	defer far.Close()
	fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(far, in) // ends with either connection
		far.Close()
	}()
	_, _ = io.Copy(conn, far)
}

// service is the agent's program at a configuration file, as a service runs it.
type service struct {
	t                *testing.T
	dir, file, log   string
	intake, ops      string
	env              []string
	address          string
	proxy            string
	run              *program
	quota, transport string
	level            string
}

// write writes the file anew; more stands at its end.
func (s *service) write(more string) {
	s.t.Helper()
	put(s.t, s.file, fmt.Sprintf(`data: %s
controlplane: {addresses: ["%s"], transport: %s, proxy: "http://site@%s", proxyPassword: "cred:proxy"}
intake: {listen: "%s", certificate: %[1]s.pem, key: %[1]s.key}
ops: {listen: "%[6]s"}
journal: {quota: %s}
log: {level: %s}
%s`, filepath.Join(s.dir, "data"), s.address, s.transport, s.proxy, s.intake, s.ops, s.quota, s.level, more))
}

// agent runs a command of the program and wants an exit code.
func (s *service) agent(want int, in string, args ...string) string {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(programs(s.t), "crossdock-agent"), append(args, "-c", s.file)...)
	cmd.Env, cmd.Stdin = append(os.Environ(), s.env...), strings.NewReader(in)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		s.t.Fatalf("crossdock-agent %s: %v, want exit code %d: %s", strings.Join(args, " "), err, want, text)
	}
	return string(text)
}

func (s *service) status() (out agent.Status, err error) {
	answer, err := http.Get("http://" + s.ops + "/v1/status")
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	return out, json.NewDecoder(answer.Body).Decode(&out)
}

// await waits for a configuration that the agent tells of.
func (s *service) await(what string, is func(agent.Status) bool) {
	s.t.Helper()
	until(s.t, what, func() string {
		status, err := s.status()
		if err != nil {
			return err.Error()
		}
		if !is(status) {
			return fmt.Sprintf("%+v", status.Config)
		}
		return ""
	})
}

func (s *service) start() {
	s.t.Helper()
	s.run = launch(s.t, s.log, s.env, nil, filepath.Join(programs(s.t), "crossdock-agent"), "run", "-c", s.file)
	s.t.Cleanup(func() {
		s.run.signal(syscall.SIGTERM)
		<-s.run.ended
		showTail(s.t, s.log)
	})
	s.await("the agent is linked", func(a agent.Status) bool { return a.Link.Connected })
}

// A running agent takes a changed configuration over as a whole or not at all, by command and
// by signal, and says which one is in force. Its way out asks for a password that is named,
// and written nowhere.
func TestReload(t *testing.T) {
	p := startPlane(t, nil)
	const password = "a-password-that-is-a-canary"
	g := startGatekeeper(t, "site", password)
	dir := t.TempDir()
	s := &service{t: t, dir: dir, file: filepath.Join(dir, "agent.yaml"), log: filepath.Join(dir, "log"), intake: freePort(t), ops: freePort(t),
		env: []string{"CREDENTIALS_DIRECTORY=" + dir}, address: p.addresses.Sync, proxy: g.address, quota: "20MB", transport: "tcp", level: "info"}
	// To this machine itself no proxy of the environment leads, but one of the configuration does.
	put(t, filepath.Join(dir, "proxy"), "wrong\n")
	s.write("")
	data := filepath.Join(dir, "data")
	certify(t, data+".pem", data+".key", 1)
	s.agent(5, p.joinToken("eu", ""), "enroll")
	put(t, filepath.Join(dir, "proxy"), password+"\n")
	s.agent(0, p.joinToken("eu", ""), "enroll")
	s.start()
	if g.mu.Lock(); g.let == 0 || g.refused == 0 {
		t.Errorf("the proxy let %d through and refused %d", g.let, g.refused)
	}
	g.mu.Unlock()

	s.quota, s.level = "30MB", "debug"
	s.write("calls: {retain: 48h}\n")
	certify(t, data+".pem", data+".key", 2)
	if said := s.agent(0, "", "reload"); !strings.Contains(said, "changed: journal.quota, log.level\n") || !strings.Contains(said, "restart: calls.retain") {
		t.Errorf("a reload says %s", said)
	}
	s.await("the new quota", func(a agent.Status) bool { return a.Queue.Quota == 30<<20 && len(a.Config.Restart) == 1 })
	if serial := shown(t, s.intake); serial != 2 {
		t.Errorf("the door shows certificate %d", serial)
	}
	if said := s.agent(0, "", "status"); !strings.Contains(said, "waiting for a restart: calls.retain") {
		t.Errorf("status says %s", said)
	}

	s.refuses()
	put(t, filepath.Join(dir, "proxy"), password+"\n")
	s.run.signal(syscall.SIGHUP)
	s.await("the last quota", func(a agent.Status) bool {
		return a.Queue.Quota == 40<<20 && a.Config.Refused == "" && len(a.Config.Restart) == 0
	})
	if serial := shown(t, s.intake); serial != 3 {
		t.Errorf("the door shows certificate %d", serial)
	}
	until(t, "what goes wrong at the door is logged, for debugging only", func() string {
		if conn, err := net.Dial("tcp", s.intake); err == nil {
			fmt.Fprint(conn, "no handshake\n\n")
			conn.Close()
		}
		text, err := os.ReadFile(s.log)
		if err != nil || strings.Contains(string(text), password) {
			t.Fatalf("the log (%v) tells the password", err)
		}
		if !strings.Contains(string(text), "level=DEBUG") {
			return "nothing of that level"
		}
		return ""
	})
	if said := s.agent(0, "", "config", "show"); strings.Contains(said, password) || !strings.Contains(said, "cred:proxy") {
		t.Errorf("config show says %s", said)
	}
}

// refuses has the agent read what is wrong, by signal and by command: all stays as it was.
func (s *service) refuses() {
	s.t.Helper()
	t, data := s.t, filepath.Join(s.dir, "data")
	s.quota = "40MB"
	s.write("elephants: 1\n")
	s.run.signal(syscall.SIGHUP)
	s.await("the refusal", func(a agent.Status) bool { return strings.Contains(a.Config.Refused, `"elephants"`) })
	if said := s.agent(2, "", "reload"); !strings.Contains(said, "the one before stays in force") {
		t.Errorf("a refused reload says %s", said)
	}
	if said := s.agent(0, "", "status"); !strings.Contains(said, "refused, that of") || !strings.Contains(said, `unknown field "elephants"`) {
		t.Errorf("status says %s", said)
	}
	s.write("")
	put(t, data+".key", "no key")
	s.agent(2, "", "reload")
	put(t, filepath.Join(s.dir, "proxy"), "\n")
	certify(t, data+".pem", data+".key", 3)
	if said := s.agent(2, "", "reload"); !strings.Contains(said, "proxyPassword") {
		t.Errorf("without a password: %s", said)
	}
	if status, err := s.status(); err != nil || status.Queue.Quota != 30<<20 || shown(t, s.intake) != 2 {
		t.Errorf("after refusals: %+v, %v", status.Queue, err)
	}
}
