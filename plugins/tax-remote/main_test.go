package main

import (
	"bufio"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/plugins/sdk/tax/taxtest"
	"github.com/crossdock/crossdock/plugins/tax-remote/reference"
	"github.com/crossdock/crossdock/plugins/tax-table/table"
)

// asProgram says that this program is started as itself instead of as a test.
const asProgram = "TAX_REMOTE_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// program is this program, with an environment of its own.
func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(env, asProgram+"=1", "GOCOVERDIR="+t.TempDir())
	return cmd
}

func sale() *tax.Document {
	berlin := sdk.Address{Country: "DE", PostalCode: "10115"}
	return &tax.Document{Reference: "R1", Kind: tax.Sale, Date: "2026-11-26", Currency: "EUR", Seller: tax.Party{Address: berlin}, Customer: tax.Party{Address: berlin},
		ShipFrom: berlin, ShipTo: berlin, Lines: []tax.Line{{ID: "1", Amount: decimal.RequireFromString("100.00")}}}
}

// The program goes through the proxy that its host or the setting names, and trusts the authority of the
// settings.
func TestProxy(t *testing.T) {
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	engine, err := table.New(log)
	if err != nil {
		t.Fatal(err)
	}
	far := httptest.NewTLSServer(reference.Handler(engine, func(token string) bool { return token == "s3cret" }, log))
	defer far.Close()
	var tunnels atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:443" {
			t.Errorf("the proxy was asked for %s %s", r.Method, r.Host)
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		tunnels.Add(1)
		there, err := net.Dial("tcp", far.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer there.Close()
		w.WriteHeader(http.StatusOK)
		here, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		go func() { _, _ = io.Copy(there, buffered) }() // either end may go first
		_, _ = io.Copy(here, there)
	}))
	defer proxy.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: far.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var e tax.Engine
	for i, named := range []struct{ environment, setting string }{{proxy.URL, ""}, {"http://127.0.0.1:1", proxy.URL}} {
		e = taxtest.Program(t, program(t, []string{"HTTPS_PROXY=" + named.environment}))
		if err := e.Configure(t.Context(), sdk.Settings{"url": "https://example.com", "token": "s3cret", "ca-file": ca, "proxy": named.setting}); err != nil {
			t.Fatal(err)
		}
		r, err := e.Estimate(t.Context(), sale())
		if err != nil || r.Source != "live" || !r.Tax.Decimal.Equal(decimal.NewFromInt(19)) {
			t.Fatalf("got %+v, %v", r, err)
		}
		if n := tunnels.Load(); n != int64(i+1) {
			t.Errorf("there were %d tunnels", n)
		}
	}
	proxy.Close()
	far.CloseClientConnections()
	_, err = e.Finalise(t.Context(), sale())
	sdktest.Fails(t, "finalise without the proxy", err, sdk.Unavailable, sdk.UnknownOutcome) // the latter if the connection was not known to be closed
}

// served starts the other side, and says where it is.
func served(t *testing.T, state string) (url string, kill func()) {
	t.Helper()
	cmd := program(t, []string{tokenVariable + "=s3cret"}, "serve", "-listen", "127.0.0.1:0", "-state", state)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	lines := make(chan string)
	go func() {
		for scan := bufio.NewScanner(out); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-ended:
			}
		}
		close(lines)
	}()
	kill = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // it may have ended
			close(ended)
			for range lines {
			}
			_ = cmd.Wait() // it was killed
		}
	}
	t.Cleanup(kill)
	found := regexp.MustCompile(`url=(\S+)`)
	for line := range lines {
		t.Log(line)
		if m := found.FindStringSubmatch(line); m != nil {
			return m[1], kill
		}
	}
	t.Fatal("it does not serve")
	return "", nil
}

// The other side that comes with the program keeps what was finalised when it is killed.
func TestServe(t *testing.T) {
	state := t.TempDir()
	var want *tax.Result
	for range 2 {
		url, kill := served(t, state)
		e := taxtest.Program(t, program(t, nil))
		if err := e.Configure(t.Context(), sdk.Settings{"url": url, "token": "s3cret"}); err != nil {
			t.Fatal(err)
		}
		r, err := e.Finalise(t.Context(), sale())
		if err != nil {
			t.Fatal(err)
		}
		if want != nil && sdktest.Diff(r, want) != "" {
			t.Errorf("after it was killed it answers otherwise: %s", sdktest.Diff(r, want))
		}
		want = r
		kill()
		_, err = e.Void(t.Context(), &tax.VoidRequest{Reference: "R1"})
		sdktest.Fails(t, "void, and nobody is there", err, sdk.Unavailable, sdk.UnknownOutcome)
	}
}

func TestServeRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		env  []string
		want string
	}{
		{[]string{"sever"}, nil, `there is no "sever"`},
		{[]string{"serve"}, nil, tokenVariable + " is empty"},
		{[]string{"serve", "-listen", "nowhere"}, []string{tokenVariable + "=t"}, "nowhere"},
	} {
		out, err := program(t, c.env, c.args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %v, %s", c.args, err, out)
		}
	}
}
