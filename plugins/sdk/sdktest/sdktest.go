// Package sdktest connects tests with plugins, in memory or as the program that a host
// starts.
//
// It owns the two connections, and refuses to know any contract: carriertest and taxtest give
// them their types. Its invariant: what a test sees has gone through gRPC, as it does between
// host and plugin.
package sdktest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/crossdock/crossdock/plugins/sdk"
)

// Dial serves what register registers in memory until the test ends, and connects to it.
func Dial(t testing.TB, register func(grpc.ServiceRegistrar)) *grpc.ClientConn {
	t.Helper()
	pipe := bufconn.Listen(64 << 10)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(sdk.MaxMessageSize), grpc.MaxSendMsgSize(sdk.MaxMessageSize))
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(pipe) }()
	conn, err := grpc.NewClient("passthrough:///pipe", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // it may be stopped before it began
			t.Error(err)
		}
	})
	return conn
}

// startTimeout is how long a program may take to its handshake, on a machine that is busy.
const startTimeout = time.Minute

// Start runs a plugin's program as a host does (mutual TLS with certificates made for this
// one run, none of the host's environment, a lifeline) until the test or end ends it, and gives
// what the plugin of that kind hands out. What the program writes to standard error goes to the
// test's log.
func Start(t testing.TB, kind string, p goplugin.Plugin, cmd *exec.Cmd) (out any, end func()) {
	t.Helper()
	Tether(t, cmd)
	c := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Plugins: goplugin.PluginSet{kind: p}, Cmd: cmd,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC}, AutoMTLS: true, SkipHostEnv: true,
		StartTimeout: startTimeout, Stderr: t.Output(),
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: t.Output()}),
	})
	t.Cleanup(c.Kill)
	protocol, err := c.Client()
	if err != nil {
		t.Fatalf("%s does not start as a plugin: %v", cmd.Path, err)
	}
	if out, err = protocol.Dispense(kind); err != nil {
		t.Fatal(err)
	}
	return out, c.Kill
}

// Tether hands a program that is not started yet a lifeline, which is cut when the test closes
// it or ends. On Windows descriptors are not inherited; a host uses a job there.
func Tether(t testing.TB, cmd *exec.Cmd) io.Closer {
	t.Helper()
	theirs, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ours.Close() // the test may have done so
		_ = theirs.Close()
	})
	if runtime.GOOS != "windows" {
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
		cmd.Env = append(cmd.Env, sdk.Lifeline+"="+strconv.Itoa(2+len(cmd.ExtraFiles)))
	}
	return ours
}
