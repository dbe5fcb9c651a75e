package policy

import (
	"maps"
	"slices"
	"time"

	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/spelling"
)

const day = 24 * time.Hour

func (c *compiler) contract(meta Meta, o *object) {
	k := &Contract{
		Meta: meta, Owner: o.owner(),
		Compatibility: o.oneOf("compatibility", contract.CompatibilityBackward, contract.CompatibilityNone,
			contract.CompatibilityBackward, contract.CompatibilityForward, contract.CompatibilityFull),
		Latency: o.duration("latency", 0, time.Second, 365*day),
	}
	authority := o.required("authority", "name the role or the system that is the source of truth")
	k.Authority = authority.str()
	key := o.required("key", "an expression over the data, such as .orderId")
	o.note("key").Type = "expression"
	if key.set {
		k.Key = c.inline(key, o.what)
	}
	for _, f := range o.texts("extensions") {
		if !nameForm.MatchString(f.str()) {
			c.errorAt(f.place, "lower-case letters, digits and -", "extension %s cannot be used", quoted(f.str()))
		}
		k.Extensions = append(k.Extensions, f.str())
	}
	versions := o.list("versions")
	if len(versions) == 0 {
		o.missing(o.get("versions"), "a contract has at least one version")
	}
	places := map[string]place{}
	for _, n := range versions {
		c.version(k, o, n, places)
	}
	slices.SortFunc(k.Versions, func(a, b *contract.Version) int {
		if a.Less(b) {
			return -1
		}
		return 1
	})
	c.set.Contracts[k.Name] = k
	c.after(func() {
		c.compatible(k, places)
		c.checkKey(k, key)
		if authority.set && k.Authority != AgentRole && !slices.ContainsFunc(slices.Collect(maps.Values(c.set.Systems)), func(s *System) bool {
			return s.Name == k.Authority || s.Role == k.Authority
		}) {
			c.warnAt(authority.place, "give a system this role, or name another authority", "no system has the name or role %s", quoted(k.Authority))
		}
	})
}

func (c *compiler) version(k *Contract, parent *object, n node, places map[string]place) {
	o := c.object(n, "a version of "+parent.what)
	semver := o.required("version", "three numbers such as 1.0.0")
	state := contract.State(o.oneOf("state", string(contract.Draft),
		string(contract.Draft), string(contract.Active), string(contract.Deprecated), string(contract.Retired)))
	sunset := c.date(o, "sunset")
	schema := o.required("schema", "the path of a JSON Schema in the bundle")
	o.close()
	if state == contract.Deprecated && sunset.IsZero() {
		c.warnAt(o.at, "write sunset: 2027-06-30", "a deprecated version has no sunset")
	}
	if !semver.set || !schema.set {
		return
	}
	if _, _, _, err := contract.ParseSemver(semver.str()); err != nil {
		c.errorAt(semver.place, "three numbers such as 1.0.0", "version %s cannot be used", quoted(semver.str()))
		return
	}
	if first, twice := places[semver.str()]; twice {
		c.errorAt(semver.place, "", "version %s stands already in line %d", semver.str(), first.line)
		return
	}
	places[semver.str()] = semver.place
	content, ok := c.file(schema, o.what)
	if !ok {
		return
	}
	v, err := contract.Compile(k.Name, semver.str(), state, sunset, content)
	if err != nil {
		c.errorAt(place{file: schema.str(), line: 1, column: 1}, "used by "+parent.what+" "+semver.str(), "%v", err)
		return
	}
	k.Versions = append(k.Versions, v)
}

func (c *compiler) date(o *object, name string) time.Time {
	f := o.text(name)
	o.note(name).Type = "date"
	if !f.set {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, f.str())
	if err != nil {
		c.errorAt(f.place, "such as 2027-06-30", "%s in %s is not a date", name, o.what)
	}
	return t
}

// compatible compares each live version with the next one of its major version.
func (c *compiler) compatible(k *Contract, places map[string]place) {
	var last *contract.Version
	for _, v := range k.Versions {
		if !v.State.Live() {
			continue
		}
		if last != nil && last.Major == v.Major {
			for _, one := range contract.Compare(last, v, k.Compatibility) {
				c.errorAt(places[v.Semver], "keep to "+k.Compatibility+" compatibility, or begin a new major version",
					"contract %s %s: %s", k.Name, v.Semver, one)
			}
		}
		last = v
	}
}

func (c *compiler) site(meta Meta, o *object) {
	tax := o.texts("tax")
	s := &Site{Meta: meta, Owner: o.text("owner").str(), Region: o.required("region", "such as eu").str(), Tax: strs(tax)}
	c.set.Sites[s.Name] = s
	c.after(func() { c.checkTax(s, tax) })
}

func (c *compiler) route(meta Meta, o *object) {
	r := &Route{Meta: meta, Owner: o.owner(), OnExhausted: o.oneOf("onExhausted", "park", "park", "skip")}
	from := o.get("from")
	if !from.set {
		o.missing(from, "write from: {type: order.captured.v1}")
	} else {
		f := c.object(from.node, "from of "+o.what)
		eventType := f.required("type", "such as order.captured.v1")
		r.Type, r.When = eventType.str(), f.expression("when")
		f.close()
		c.after(func() { c.checkType(eventType) })
	}
	if answers := o.text("answers"); answers.set {
		r.Answers = answers.str()
		c.after(func() { c.checkType(answers) })
	}
	items := o.list("to")
	if len(items) == 0 {
		o.missing(o.get("to"), "name at least one system")
	}
	for _, n := range items {
		r.To = append(r.To, c.destination(meta.Name, o, n))
	}
	r.Retry = Retry{Initial: time.Second, Max: 5 * time.Minute, Attempts: 30}
	if f := o.get("retry"); f.set {
		retry := c.object(f.node, "retry of "+o.what)
		r.Retry.Initial = retry.duration("initial", r.Retry.Initial, time.Millisecond, day)
		r.Retry.Max = retry.duration("max", max(r.Retry.Max, r.Retry.Initial), time.Millisecond, 7*day)
		r.Retry.Attempts = retry.integer("attempts", r.Retry.Attempts, 1, 1_000_000)
		retry.close()
		if r.Retry.Max < r.Retry.Initial {
			c.errorAt(f.place, "", "retry of %s: max is less than initial", o.what)
		}
	}
	c.set.Routes = append(c.set.Routes, r)
}

func (c *compiler) destination(route string, parent *object, n node) Destination {
	o := c.object(n, "to of "+parent.what)
	system := o.required("system", "name the system to deliver to")
	d := Destination{System: system.str(), When: o.expression("when"), Map: o.mapping("map"), Shadow: o.bool("shadow")}
	o.close()
	if _, again := c.destinations[route+"\x00"+d.System]; !again {
		c.destinations[route+"\x00"+d.System] = system.place
	}
	c.after(func() {
		if !system.set {
			return
		}
		s, ok := c.set.Systems[d.System]
		switch {
		case !ok:
			c.unknown(system, "system", slices.Sorted(maps.Keys(c.set.Systems)))
		case !s.CanDeliver():
			c.errorAt(system.place, "give it http.deliver, webhook or file.deliver", "system %s has no driver that can deliver", d.System)
		case d.Shadow && !s.Sandbox:
			c.errorAt(system.place, "set sandbox: true on a system that is safe for it", "system %s cannot take shadow deliveries", d.System)
		default:
			c.checkNotReplaced(d, system)
		}
	})
	return d
}

func (c *compiler) unknown(f field, what string, known []string) {
	hint := "there is none yet"
	if near := spelling.Nearest(f.str(), known); near != "" {
		hint = "did you mean " + near + "?"
	} else if len(known) > 0 {
		hint = "known: " + joinShort(known)
	}
	c.errorAt(f.place, hint, "%s %s is not known", what, quoted(f.str()))
}

// checkType looks up an event type that a document names.
func (c *compiler) checkType(f field) {
	if !f.set {
		return
	}
	if _, _, ok := ParseType(f.str()); !ok {
		c.errorAt(f.place, "contract, .v and the major version, such as order.captured.v1", "event type %s cannot be used", quoted(f.str()))
		return
	}
	t, ok := c.set.types[f.str()]
	switch {
	case !ok:
		c.unknown(f, "event type", slices.Sorted(maps.Keys(c.set.types)))
	case t.version == nil:
		c.errorAt(f.place, "activate a version of its contract", "event type %s has no active version", f.str())
	case t.version.State == contract.Deprecated:
		c.warnAt(f.place, "move to a newer version", "event type %s is deprecated", f.str())
	}
}

func (c *compiler) journey(meta Meta, o *object) {
	j := &Journey{Meta: meta, Owner: o.owner(), Object: o.required("object", "such as order").str()}
	items := o.list("milestones")
	if len(items) == 0 {
		o.missing(o.get("milestones"), "a journey has at least one milestone")
	}
	for _, n := range items {
		m := c.object(n, "a milestone of "+o.what)
		name := m.required("name", "")
		eventType := m.required("type", "such as order.captured.v1")
		after := m.text("after")
		one := Milestone{
			Name: name.str(), Type: eventType.str(), When: m.expression("when"), After: after.str(),
			Within: m.duration("within", 0, time.Second, 3650*day),
		}
		m.close()
		if slices.ContainsFunc(j.Milestones, func(o Milestone) bool { return o.Name == one.Name }) {
			c.errorAt(name.place, "", "milestone %s stands twice in %s", quoted(one.Name), o.what)
		}
		if one.Within > 0 && !after.set {
			c.errorAt(m.at, "write after: and the name of a milestone", "within of milestone %s has no beginning", quoted(one.Name))
		}
		c.after(func() {
			c.checkType(eventType)
			if after.set && (after.str() == one.Name || !slices.ContainsFunc(j.Milestones, func(o Milestone) bool { return o.Name == after.str() })) {
				c.errorAt(after.place, "name another milestone of this journey", "milestone %s is not known", quoted(after.str()))
			}
		})
		j.Milestones = append(j.Milestones, one)
	}
	c.set.Journeys[j.Name] = j
}
