package carriertest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/sdktest"
)

// needs skips a test, aloud, where REQUIRE does not say that all must run.
func needs(t *testing.T, reason string) {
	t.Helper()
	if os.Getenv("REQUIRE") == "all" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// The proto files alone are enough to write a carrier, in a language that this project does
// not use.
func TestACarrierInNodeKeepsEveryPromise(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		needs(t, "node is missing: install Node 20 or newer")
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		needs(t, "npm is missing: install it beside Node")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "node"))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--fetch-retries=1")
	install.Dir = dir
	if text, err := install.CombinedOutput(); err != nil {
		needs(t, "npm ci cannot fetch what the carrier in Node is made of: "+err.Error()+"\n"+string(text))
	}
	protos, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" { // descriptors are not inherited there
		cmd := exec.Command(node, filepath.Join(dir, "carrier.js"), protos)
		endsWith(t, cmd, sdktest.Tether(t, cmd))
	}
	// One process for all, because Node takes seconds to start: what it sold to one check is nothing to the next.
	ride := func() carrier.Carrier {
		return Program(t, exec.Command(node, filepath.Join(dir, "carrier.js"), protos))
	}
	bicycle := ride()
	takes, refuses := parcelTo("NL"), parcelTo("DE")
	takes.Service, refuses.Service = "bike", "bike"
	Run(t, Config{
		New: func(t testing.TB) (carrier.Carrier, sdk.Settings) {
			return bicycle, sdk.Settings{"account": "7", "state": filepath.Join(t.TempDir(), "sold.jsonl")}
		},
		Reopen: func(testing.TB) carrier.Carrier { bicycle = ride(); return bicycle },
		Takes:  takes, Refuses: refuses,
	})
}
