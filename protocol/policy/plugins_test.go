package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

const anySum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

// plugged is the good policy with plugins, written as the fields of their spec.
func plugged(t *testing.T, specs map[string]string) Bundle {
	t.Helper()
	b := good(t)
	for name, spec := range specs {
		b["plugin-"+name+".yaml"] = fmt.Appendf(nil, "apiVersion: crossdock/v1\nkind: Plugin\nmetadata: {name: %s}\nspec: {owner: logistics, program: program, sha256: {linux/amd64: %s}, %s}\n",
			name, anySum, spec)
	}
	return b
}

// A system that only calls plugins, or only takes numbers, needs a token and no contract.
func TestPureCallersNeedNoContract(t *testing.T) {
	const packer = "apiVersion: crossdock/v1\nkind: System\nmetadata: {name: packer}\nspec: {owner: logistics, site: porto, %s}\n"
	for name, c := range map[string]struct {
		plugin, extra string
		good          bool
	}{
		"every system of the site may call": {`kind: carrier, sites: [porto]`, "", true},
		"it may":                            {`kind: carrier, sites: [porto], systems: [packer]`, "", true},
		"another may":                       {`kind: carrier, sites: [porto], systems: [wms-eu]`, "", false},
		"at another site":                   {`kind: carrier, sites: [hq]`, "", false},
		"it may, but it feeds nothing":      {`kind: carrier, sites: [porto]`, `, file: {directory: /srv/in, publish: {pattern: "*.csv", format: csv, type: order.captured.v1}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := plugged(t, map[string]string{"zone": c.plugin})
			b["packer.yaml"] = fmt.Appendf(nil, packer, `intake: {token: "file:packer"}`+c.extra)
			set, problems := Compile(b)
			if got := !strings.Contains(problems.Error(), "publishes no contract"); got != c.good || c.good && set == nil {
				t.Errorf("good %t, problems %v", got, problems)
			}
		})
	}
	b := ranged(t, map[string]string{"bins": `format: plain, prefix: WH1-, width: 4, from: 1, to: 9999`})
	b["packer.yaml"] = fmt.Appendf(nil, packer, `intake: {token: "file:packer"}`)
	if _, problems := Compile(b); strings.Contains(problems.Error(), "publishes no contract") {
		t.Errorf("what takes numbers: %v", problems)
	}
}

func TestPlugins(t *testing.T) {
	b := plugged(t, map[string]string{
		"zone": `kind: carrier, sites: [porto, hq], settings: {tables: /srv/tables, keep-days: 800, name: "", tokenizer: x}, ` +
			`secrets: {password: "file:zone"}, callTimeout: 20s, memory: 256MB, systems: [wms-eu]`,
		"table": `kind: tax, sites: [porto], memory: 1GB`,
		"live":  `kind: tax, sites: [porto]`,
	})
	b["faro.yaml"] = []byte("apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: faro}\nspec: {region: eu}\n")
	b["systems.yml"] = []byte(strings.Replace(string(b["systems.yml"]), "{region: eu, owner: it-eu}", "{region: eu, owner: it-eu, tax: [live, table]}", 1))
	set, problems := Compile(b)
	if set == nil || len(problems) > 0 {
		t.Fatal(problems.Error())
	}
	zone := set.Plugins["zone"]
	zone.Meta = Meta{}
	want := &Plugin{Owner: "logistics", Kind: PluginCarrier, Sites: []string{"porto", "hq"}, Program: "program", SHA256: map[string]string{"linux/amd64": anySum},
		Settings: map[string]string{"tables": "/srv/tables", "keep-days": "800", "name": "", "tokenizer": "x"}, Secrets: map[string]string{"password": "file:zone"},
		CallTimeout: 20 * time.Second, Memory: 256 << 20, Systems: []string{"wms-eu"}}
	if !reflect.DeepEqual(zone, want) {
		t.Errorf("got  %+v\nwant %+v", zone, want)
	}
	if table := set.Plugins["table"]; table.Kind != PluginTax || table.Memory != 1<<30 || table.CallTimeout != 0 {
		t.Errorf("table: %+v", table)
	}
	if got := set.Sites["porto"].Tax; !slices.Equal(got, []string{"live", "table"}) {
		t.Errorf("tax of porto: %q", got)
	}
	at := map[string]string{}
	for _, site := range []string{"porto", "hq", "faro"} {
		for _, p := range set.PluginsAt(site) {
			at[site] += p.Program + " of " + p.Kind + ", "
		}
	}
	if !maps.Equal(at, map[string]string{"porto": "program of tax, program of tax, program of carrier, ", "hq": "program of carrier, "}) {
		t.Errorf("plugins at the sites: %q", at)
	}
	wms, shop, erp := set.Systems["wms-eu"], set.Systems["shop-eu"], set.Systems["erp"]
	if !zone.MayCall(wms) || zone.MayCall(shop) || zone.MayCall(erp) {
		t.Error("others than its systems may call zone")
	}
	if table := set.Plugins["table"]; !table.MayCall(wms) || !table.MayCall(shop) || table.MayCall(erp) {
		t.Error("others than the systems of its site may call table, or one of them not")
	}
}

func TestPluginsAreBounded(t *testing.T) {
	specs := map[string]string{}
	for i := range MaxPlugins + 1 {
		specs[fmt.Sprint("p", i)] = "kind: tax, sites: [porto]"
	}
	if set, problems := Compile(plugged(t, specs)); set != nil || len(problems) != 1 || !strings.Contains(problems.Error(), "more than 200 plugins") {
		t.Errorf("got %s", problems.Error())
	}
	settings := ""
	for i := range maxSettings + 1 {
		settings += fmt.Sprintf("s%d: x, ", i)
	}
	for what, spec := range map[string]string{"entries": "settings: {" + settings + "}", "bytes": "settings: {a: " + strings.Repeat("x", maxSetting+1) + "}"} {
		set, problems := Compile(plugged(t, map[string]string{"p": "kind: tax, sites: [porto], " + spec}))
		if set != nil || len(problems) != 1 || !strings.Contains(problems.Error(), what) {
			t.Errorf("%s: got %.300s", what, problems.Error())
		}
	}
}

// What changes of a plugin is seen in the diff and in the digest.
func TestDiffShowsAPlugin(t *testing.T) {
	before := plugged(t, map[string]string{"zone": "kind: carrier, sites: [porto], settings: {tables: /a}"})
	after := plugged(t, map[string]string{"zone": "kind: carrier, sites: [porto, hq], settings: {tables: /b}"})
	got := Diff(nil, nil, before, after)
	want := []Change{{Kind: "Plugin", Name: "zone", Change: Changed, Fields: []string{"spec.settings.tables", "spec.sites.1"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if before.Digest() == after.Digest() {
		t.Error("the digest is the same")
	}
}
