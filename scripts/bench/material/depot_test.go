package material

import (
	"crypto/sha256"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
)

// TestDepotsCompile has none, one and two plugins.
func TestDepotsCompile(t *testing.T) {
	programs := []Program{
		{Name: Carrier, File: "carrier-zone", SHA256: sha256.Sum256([]byte("a")), Settings: map[string]string{"tables": "/a b/tables", "state": "/book"}},
		{Name: Taxes, File: "tax-table", SHA256: sha256.Sum256([]byte("b")), Settings: map[string]string{"state": "/tax"}},
	}
	for n := range len(programs) + 1 {
		dir := t.TempDir()
		if err := WritePolicy(dir, "127.0.0.1:8080", Batch); err != nil {
			t.Fatal(err)
		}
		files, secrets := Depot(programs[:n]...)
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		set, err := ReadPolicy(dir)
		if err != nil {
			t.Fatal(err)
		}
		system, plugins := set.Systems[DepotSite], set.PluginsAt(DepotSite)
		if len(plugins) != n || system == nil || secrets[strings.TrimPrefix(system.Intake.Token, "file:")] != DepotToken || len(set.RangesAt(DepotSite)) != 1 {
			t.Errorf("with %d plugins: %+v, %+v, %v", n, plugins, system, set.RangesAt(DepotSite))
		}
		for _, p := range plugins {
			i := slices.IndexFunc(programs, func(one Program) bool { return one.Name == p.Name })
			if i < 0 || p.Program != programs[i].File || !maps.Equal(p.Settings, programs[i].Settings) || !p.MayCall(system) {
				t.Errorf("plugin %+v", p)
			}
		}
		if taxes := set.Sites[DepotSite].Tax; len(taxes) != n/2 {
			t.Errorf("with %d plugins the tax engines are %q", n, taxes)
		}
	}
}

func TestCallsAreOfTheContracts(t *testing.T) {
	var shipment carrier.Shipment
	if err := sdk.ReadJSON(Shipment("a"), &shipment); err != nil || shipment.Reference != "a" {
		t.Errorf("%+v, %v", shipment, err)
	}
	var sale tax.Document
	if err := sdk.ReadJSON(Sale("b"), &sale); err != nil || sale.Reference != "b" || len(sale.Lines) != 2 {
		t.Errorf("%+v, %v", sale, err)
	}
}
