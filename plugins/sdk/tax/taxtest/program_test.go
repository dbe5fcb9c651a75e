package taxtest

import (
	"os"
	"os/exec"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// asPlugin says that this program is started as a plugin instead of as a test.
const asPlugin = "TAXTEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(asPlugin) != "" {
		tax.Serve(newFake(), sdk.Logger())
		return
	}
	os.Exit(m.Run())
}

func TestAProgramKeepsEveryPromise(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := config(nil)
	c.Reopen = func(t testing.TB) tax.Engine {
		cmd := exec.Command(self)
		cmd.Env = []string{asPlugin + "=1", "GOCOVERDIR=" + t.TempDir()}
		return Program(t, cmd)
	}
	c.New = func(t testing.TB) (tax.Engine, sdk.Settings) { return c.Reopen(t), settings(t) }
	Run(t, c)
}
