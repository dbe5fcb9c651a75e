package carriertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// asPlugin says that this program is started as a plugin instead of as a test.
const asPlugin = "CARRIERTEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		carrier.Serve(&crashing{newFake()}, sdk.Logger())
		return
	}
	os.Exit(m.Run())
}

// crashing is the fake, which can be told to take its process down.
type crashing struct{ carrier.Carrier }

func (c *crashing) Ship(ctx context.Context, s *carrier.Shipment) (*carrier.Shipped, error) {
	if s.Order == "crash" {
		os.Exit(3)
	}
	return c.Carrier.Ship(ctx, s)
}

func program(t testing.TB) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{asPlugin + "=1", "GOCOVERDIR=" + t.TempDir()}
	return cmd
}

func TestAProgramKeepsEveryPromise(t *testing.T) {
	var number atomic.Int64
	c := config(nil)
	c.New = func(t testing.TB) (carrier.Carrier, sdk.Settings) {
		return Program(t, program(t)), settings(t)
	}
	c.Reopen = func(t testing.TB) carrier.Carrier { return Program(t, program(t)) }
	c.Number = func(string) string { return fmt.Sprintf("%018d", number.Add(1)) }
	Run(t, c)
}

func TestAProgramThatCrashesMayHaveBought(t *testing.T) {
	c := Program(t, program(t))
	if err := c.Configure(t.Context(), settings(t)); err != nil {
		t.Fatal(err)
	}
	_, err := c.Ship(t.Context(), &carrier.Shipment{Order: "crash"})
	sdktest.Fails(t, "ship, the program exits", err, sdk.UnknownOutcome)
	_, err = c.Ship(t.Context(), &carrier.Shipment{})
	sdktest.Fails(t, "ship, there is no program", err, sdk.Unavailable)
}

// A plugin must not outlive a host that had no time to end it.
func TestAProgramEndsWithItsHost(t *testing.T) {
	for _, c := range []struct {
		name   string
		attach func(*testing.T, *exec.Cmd) (cut io.Closer)
	}{
		{"a descriptor of its own", func(t *testing.T, cmd *exec.Cmd) io.Closer { return sdktest.Tether(t, cmd) }},
		{"standard input", func(t *testing.T, cmd *exec.Cmd) io.Closer {
			cmd.Env = append(cmd.Env, sdk.Lifeline+"=0")
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			return in
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && c.name != "standard input" {
				t.Skip("descriptors are not inherited on Windows")
			}
			cmd := program(t)
			endsWith(t, cmd, c.attach(t, cmd))
		})
	}
}

// endsWith starts a program outside of a host, cuts its lifeline and waits for its end.
func endsWith(t *testing.T, cmd *exec.Cmd, line io.Closer) {
	t.Helper()
	cmd.Env = append(cmd.Env, sdk.Handshake.MagicCookieKey+"="+sdk.Handshake.MagicCookieValue)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shake, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(shake, "|grpc|") {
		t.Fatalf("the plugin says %q: %v", shake, err)
	}
	if err := line.Close(); err != nil { // as the kernel does when the host is killed
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v, want exit status 1", err)
	}
}

func TestAProgramRefusesALifelineThatIsNone(t *testing.T) {
	for _, value := range []string{"stdin", "-1", "99"} {
		cmd := program(t)
		cmd.Env = append(cmd.Env, sdk.Lifeline+"="+value)
		text, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(text), sdk.Lifeline+"="+value) {
			t.Errorf("%s: %v, %s", value, err, text)
		}
	}
}
