package controlplane

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
)

// A node asks itself whether it lives, and no proxy that the environment names: not where its
// door listens on every address either, which is no loopback address. The environment is read
// once in a process, so another one looks.
func TestAliveAsksNoProxy(t *testing.T) {
	const door = "CROSSDOCK_TEST_OPS"
	if at := os.Getenv(door); at != "" {
		c := &ControlPlane{addresses: Addresses{Ops: at}, ready: make(chan struct{})}
		if err := c.Alive(t.Context()); err != nil {
			t.Error(err)
		}
		return
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the proxy was asked for %s", r.URL)
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer proxy.Close()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 1)
	ops := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		_, _ = io.WriteString(w, "ok")
	}))
	ops.Listener.Close()
	ops.Listener = listener
	ops.Start()
	defer ops.Close()

	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), door+"="+listener.Addr().String(), "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
	if text, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if path := <-asked; path != "/healthz" {
		t.Errorf("asked for %s", path)
	}
}
