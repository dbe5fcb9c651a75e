package policy

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/spelling"
)

// The kinds of plugins.
const (
	PluginCarrier = "carrier"
	PluginTax     = "tax"
)

// Limits on plugins.
const (
	MaxPlugins     = 200
	maxSettings    = 100
	maxSetting     = 4 << 10 // bytes of a value
	leastMemory    = 32 << 20
	mostMemory     = 64 << 30
	maxCallTimeout = 10 * time.Minute
)

// Plugin is a program beside the agent that serves carriers or taxes at some sites.
type Plugin struct {
	Meta
	Owner       string
	Kind        string // carrier or tax
	Sites       []string
	Program     string            // name of a file in the plugins directory of each site
	SHA256      map[string]string // of the program, by system and architecture such as linux/amd64
	Settings    map[string]string
	Secrets     map[string]string // setting to the reference of its secret
	CallTimeout time.Duration     // zero: the agent's
	Memory      int64             // bytes; zero: the agent's
	Systems     []string          // that may call it; none: all of the site
}

// Platforms are the systems and architectures that programs are named for.
var Platforms = []string{"linux/amd64", "linux/arm64", "windows/amd64", "windows/arm64", "darwin/amd64", "darwin/arm64"}

var (
	programForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	settingForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`)
	sumForm     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	// secretName is how settings are called that hold what nobody else may know.
	secretName = regexp.MustCompile(`(^|[._-])(password|passwd|passphrase|secret|token|credentials?|(api|private|secret|access|license)[._-]?key)s?$`)
)

const sumHint = "the 64 hexadecimal digits that crossdock plugin verify prints"

func (c *compiler) plugin(meta Meta, o *object) {
	c.secretsOf = PluginOwner(meta.Name)
	o.required("kind", "carrier or tax")
	kind := o.oneOf("kind", "", PluginCarrier, PluginTax)
	sites, systems := o.texts("sites"), o.texts("systems")
	if len(sites) == 0 {
		o.missing(o.get("sites"), "name the sites where it runs")
	}
	p := &Plugin{
		Meta: meta, Owner: o.owner(), Kind: kind, Sites: strs(sites), Systems: strs(systems),
		Program: c.program(o), SHA256: c.sums(o), CallTimeout: o.duration("callTimeout", 0, 100*time.Millisecond, maxCallTimeout),
		Memory: o.size("memory", 0, leastMemory, mostMemory),
	}
	settings, secrets := o.pairs("settings"), o.pairs("secrets")
	p.Settings, p.Secrets = c.settings(o, settings), c.settingSecrets(o, secrets)
	for _, f := range secrets {
		if _, both := p.Settings[f.name]; both {
			c.errorAt(f.place, "keep one of them", "%s of %s is both a setting and a secret", quoted(f.name), o.what)
		}
	}
	c.set.Plugins[p.Name] = p
	if len(c.set.Plugins) == MaxPlugins+1 {
		c.errorAt(o.at, "", "the policy has more than %d plugins", MaxPlugins)
	}
	c.after(func() { c.checkPlugin(p, sites, systems) })
}

func (c *compiler) program(o *object) string {
	const hint = "the name of a file in the agent's plugins directory, such as carrier-zone"
	f := o.required("program", hint)
	if f.set && !programForm.MatchString(f.str()) {
		c.errorAt(f.place, hint, "program %s in %s cannot be used", quoted(f.str()), o.what)
	}
	return f.str()
}

// sums reads the hashes of a program. A program of a system and architecture that has none is
// not run there.
func (c *compiler) sums(parent *object) map[string]string {
	f := parent.get("sha256")
	if m, ok := f.value.(*mapping); !f.set || ok && len(m.keys) == 0 {
		parent.missing(f, "write sha256: {linux/amd64: ...}: "+sumHint)
	}
	out := map[string]string{}
	for _, f := range parent.pairs("sha256") {
		if !slices.Contains(Platforms, f.name) {
			hint := "one of " + strings.Join(Platforms, ", ")
			if near := spelling.Nearest(f.name, Platforms); near != "" {
				hint = "did you mean " + near + "?"
			}
			c.errorAt(f.key, hint, "system and architecture %s in sha256 of %s are not known", quoted(f.name), parent.what)
			continue
		}
		if !sumForm.MatchString(f.str()) {
			c.errorAt(f.place, sumHint, "%s in sha256 of %s is no SHA-256", f.name, parent.what)
			continue
		}
		out[f.name] = f.str()
	}
	return out
}

func (c *compiler) settings(o *object, pairs []pair) map[string]string {
	out := map[string]string{}
	for _, f := range pairs {
		switch {
		case !c.settingName(o, f):
			continue
		case len(f.str()) > maxSetting:
			c.errorAt(f.place, "put it into a file, and name that", "setting %s of %s has more than %d bytes", f.name, o.what, maxSetting)
		case secretName.MatchString(f.name):
			c.errorAt(f.key, "write it below secrets, as secret:name, file:name, env:NAME or cred:name", "setting %s of %s looks like a secret written out", f.name, o.what)
		case secretSealed.MatchString(f.str()), secretFile.MatchString(f.str()), secretEnv.MatchString(f.str()):
			c.warnAt(f.place, "write it below secrets if it is one", "setting %s of %s looks like the reference of a secret, and is handed over as it stands", f.name, o.what)
		}
		out[f.name] = f.str()
	}
	return out
}

func (c *compiler) settingSecrets(o *object, pairs []pair) map[string]string {
	out := map[string]string{}
	for _, f := range pairs {
		if c.settingName(o, f) {
			out[f.name] = c.secret(f.field, &object{c: c, what: "secrets of " + o.what, path: o.path + ".secrets", named: true})
		}
	}
	return out
}

func (c *compiler) settingName(o *object, f pair) bool {
	if !settingForm.MatchString(f.name) {
		c.errorAt(f.key, "lower-case letters, digits, - and ., as the plugin names it", "the name %s of a setting of %s cannot be used", quoted(f.name), o.what)
		return false
	}
	return true
}

func (c *compiler) checkPlugin(p *Plugin, sites, systems []field) {
	for _, f := range sites {
		if _, ok := c.set.Sites[f.str()]; !ok {
			c.unknown(f, "site", slices.Sorted(maps.Keys(c.set.Sites)))
		}
	}
	for _, f := range systems {
		s, ok := c.set.Systems[f.str()]
		switch {
		case !ok:
			c.unknown(f, "system", slices.Sorted(maps.Keys(c.set.Systems)))
		case !slices.Contains(p.Sites, s.Site):
			c.errorAt(f.place, "add "+s.Site+" to sites, or remove the system", "system %s is at site %s, where plugin %s does not run", s.Name, s.Site, p.Name)
		}
	}
}

// checkTax looks up the tax plugins of a site.
func (c *compiler) checkTax(s *Site, tax []field) {
	for _, f := range tax {
		p, ok := c.set.Plugins[f.str()]
		switch {
		case !ok:
			c.unknown(f, "plugin", slices.Sorted(maps.Keys(c.set.Plugins)))
		case p.Kind != "" && p.Kind != PluginTax:
			c.errorAt(f.place, "name a plugin of kind tax", "plugin %s is of kind %s", p.Name, p.Kind)
		case !slices.Contains(p.Sites, s.Name):
			c.errorAt(f.place, "add "+s.Name+" to its sites", "plugin %s does not run at site %s", p.Name, s.Name)
		}
	}
}

// PluginsAt lists the plugins of a site, by name.
func (s *Set) PluginsAt(site string) (out []*Plugin) {
	for _, name := range slices.Sorted(maps.Keys(s.Plugins)) {
		if slices.Contains(s.Plugins[name].Sites, site) {
			out = append(out, s.Plugins[name])
		}
	}
	return out
}

// MayCall says whether a system may call the plugin.
func (p *Plugin) MayCall(s *System) bool {
	return slices.Contains(p.Sites, s.Site) && (len(p.Systems) == 0 || slices.Contains(p.Systems, s.Name))
}

// pair is a text under a name that the document chooses.
type pair struct {
	field
	key place
}

// pairs reads a mapping of names to texts.
func (o *object) pairs(name string) (out []pair) {
	f := o.get(name)
	if !f.set {
		return nil
	}
	m := o.c.object(f.node, name+" of "+o.what).choosing()
	if len(m.fields.keys) > maxSettings {
		o.c.errorAt(f.place, "", "%s of %s has more than %d entries", name, o.what, maxSettings)
		return nil
	}
	for _, key := range m.fields.keys {
		one := m.text(key.value.(string)) // a mapping's keys are texts
		switch {
		case one.set:
			out = append(out, pair{one, key.place})
		case one.value == nil:
			o.c.errorAt(key.place, `write "" for an empty text`, "%s in %s has no value", quoted(one.name), m.what)
		}
	}
	return out
}

// size reads such as 256MB or 2GB; units are powers of 1024.
func (o *object) size(name string, fallback, least, most int64) int64 {
	f := o.text(name)
	o.note(name).between("size", float64(fallback), float64(least), float64(most), func(v float64) string { return sizeText(int64(v)) })
	if !f.set {
		return fallback
	}
	digits, unit := f.str(), int64(1)
	for suffix, of := range map[string]int64{"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if rest, ok := strings.CutSuffix(f.str(), suffix); ok {
			digits, unit = rest, of
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < (least+unit-1)/unit || n > most/unit {
		o.c.errorAt(f.place, "such as 256MB or 2GB", "%s in %s is not a size from %s to %s", name, o.what, sizeText(least), sizeText(most))
		return fallback
	}
	return n * unit
}

func sizeText(bytes int64) string {
	if bytes >= 1<<30 && bytes%(1<<30) == 0 {
		return fmt.Sprintf("%dGB", bytes>>30)
	}
	return fmt.Sprintf("%dMB", bytes>>20)
}
