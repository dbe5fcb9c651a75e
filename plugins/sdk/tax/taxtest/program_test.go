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
	c.New = func(t testing.TB) (tax.Engine, sdk.Settings) {
		cmd := exec.Command(self)
		cmd.Env = []string{asPlugin + "=1", "GOCOVERDIR=" + t.TempDir()}
		return Program(t, cmd), sdk.Settings{"company": "7"}
	}
	Run(t, c)
}
