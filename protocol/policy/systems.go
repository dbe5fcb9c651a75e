package policy

import (
	"maps"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

func joinShort(names []string) string {
	if len(names) > 8 {
		return strings.Join(names[:8], ", ") + ", ..."
	}
	return strings.Join(names, ", ")
}

func (c *compiler) system(meta Meta, o *object) {
	c.secretsOf = meta.Name
	site := o.required("site", "name the site that it is attached to")
	publishes := o.texts("publishes")
	replaces := o.text("replaces")
	role := o.text("role")
	s := &System{
		Meta: meta, Owner: o.owner(), Site: site.str(), Role: role.str(), Replaces: replaces.str(),
		Publishes: strs(publishes), Sandbox: o.bool("sandbox"),
	}
	if s.Name == AgentRole {
		c.errorAt(o.at, "give it another name", "%s is what the agent of a site is called when it tells of its own calls", quoted(AgentRole))
	}
	if s.Role == AgentRole {
		c.errorAt(role.place, "give it another role", "%s is the role of the agent of a site, which tells of its own calls", quoted(AgentRole))
	}
	token := c.intake(s, o)
	batch := c.limits(s, o)
	c.drivers(s, o)
	c.checkBatch(s, batch)
	c.set.Systems[s.Name] = s
	c.after(func() {
		if _, ok := c.set.Sites[s.Site]; site.set && !ok {
			c.unknown(site, "site", slices.Sorted(maps.Keys(c.set.Sites)))
		}
		for _, f := range publishes {
			c.checkPublishes(s, f)
		}
		c.checkReplaces(s, replaces)
		brings := s.HTTP != nil && s.HTTP.Publish != nil || s.File != nil && s.File.Publish != nil
		feeds := token.set || brings
		if len(publishes) > 0 && !feeds {
			c.warnAt(publishes[0].place, "give it an intake token, http.publish or file.publish", "nothing brings in what system %s publishes", s.Name)
		}
		if len(publishes) == 0 && feeds && (brings || !c.asks(s)) {
			c.errorAt(o.at, "write publishes: [contract, ...]", "system %s has an intake or a feed, but publishes no contract", s.Name)
		}
	})
}

// asks says whether a system has a use for its intake that publishes nothing: plugins that it
// may call, or numbers that it may take.
func (c *compiler) asks(s *System) bool {
	for _, p := range c.set.Plugins {
		if p.MayCall(s) {
			return true
		}
	}
	for _, r := range c.set.Ranges {
		if slices.Contains(r.Sites, s.Site) {
			return true
		}
	}
	return false
}

func (c *compiler) checkPublishes(s *System, f field) {
	k, ok := c.set.Contracts[f.str()]
	if !ok {
		c.unknown(f, "contract", slices.Sorted(maps.Keys(c.set.Contracts)))
		return
	}
	if k.Authority != "" && k.Authority != s.Name && k.Authority != s.Role {
		c.errorAt(f.place, "only a system with the name or role "+k.Authority+" may publish it",
			"system %s is not the authority of contract %s", s.Name, k.Name)
	}
}

func (c *compiler) intake(s *System, parent *object) (token field) {
	s.Intake = Intake{Rate: 1000, Burst: 2000}
	f := parent.get("intake")
	if !f.set {
		return field{}
	}
	o := c.object(f.node, "intake of "+parent.what)
	token = o.required(intakeToken, secretHint)
	s.Intake.Token = c.secret(token, o)
	s.Intake.Rate = o.number("rate", s.Intake.Rate, 0.001, 1e6)
	s.Intake.Burst = o.integer("burst", max(1, int(2*s.Intake.Rate)), 1, 1_000_000)
	o.close()
	return token
}

func (c *compiler) limits(s *System, parent *object) (batch field) {
	s.Delivery = Limits{Concurrency: 8, Batch: 1, Timeout: 10 * time.Second, Breaker: Breaker{Failures: 5, Pause: 10 * time.Second}}
	f := parent.get("delivery")
	if !f.set {
		return field{}
	}
	o := c.object(f.node, "delivery of "+parent.what)
	s.Delivery.Concurrency = o.integer("concurrency", s.Delivery.Concurrency, 1, 1024)
	s.Delivery.Batch = o.integer("batch", s.Delivery.Batch, 1, 1000)
	s.Delivery.Rate = o.number("rate", 0, 0, 1e6)
	s.Delivery.Timeout = o.duration("timeout", s.Delivery.Timeout, time.Millisecond, time.Hour)
	if b := o.get("breaker"); b.set {
		breaker := c.object(b.node, "breaker of "+parent.what)
		s.Delivery.Breaker.Failures = breaker.integer("failures", s.Delivery.Breaker.Failures, 1, 100_000)
		s.Delivery.Breaker.Pause = breaker.duration("pause", s.Delivery.Breaker.Pause, time.Millisecond, day)
		breaker.close()
	}
	o.close()
	return o.get("batch")
}

// checkBatch refuses batches where what delivers can only take one event at a time.
func (c *compiler) checkBatch(s *System, f field) {
	if !s.Delivery.InBatches() {
		return
	}
	switch {
	case s.HTTP == nil || s.HTTP.Deliver == nil:
		c.errorAt(f.place, "deliver by http, or remove batch", "system %s cannot take a batch of events: only http.deliver can", s.Name)
	case s.HTTP.Deliver.Envelope != "structured":
		c.errorAt(f.place, "remove envelope, or remove batch", "system %s cannot take a batch of events in the envelope %s: only structured has a batch format",
			s.Name, s.HTTP.Deliver.Envelope)
	}
}

const secretHint = "refer to a secret of the agent: secret:name, file:name, env:NAME or cred:name"

var (
	secretFile = regexp.MustCompile(`^file:[^\x00-\x20]+$`)
	secretEnv  = regexp.MustCompile(`^(env:[A-Za-z_][A-Za-z0-9_]*|cred:[A-Za-z0-9_][A-Za-z0-9._-]*)$`) // what the agent's process was given
)

// secret takes a reference only. The value is never repeated in the message: it may be
// the secret itself.
func (c *compiler) secret(f field, o *object) string {
	o.note(f.name).Type = "secret"
	ref := c.reference(f, o)
	if ref != "" {
		c.set.refs = append(c.set.refs, ref)
	}
	return ref
}

func (c *compiler) reference(f field, o *object) string {
	if !f.set {
		return ""
	}
	switch {
	case secretSealed.MatchString(f.str()):
		return c.sealed(f)
	case strings.HasPrefix(f.str(), sealedKind):
		c.errorAt(f.place, "secret: and lower-case letters, digits, -, . and _, such as secret:token; whose it is follows from the document",
			"%s in %s refers to no sealed secret of this document", f.name, o.what)
		return ""
	}
	if !secretFile.MatchString(f.str()) && !secretEnv.MatchString(f.str()) {
		c.errorAt(f.place, secretHint, "%s in %s looks like a secret written out", f.name, o.what)
		return ""
	}
	return f.str()
}

func (c *compiler) drivers(s *System, parent *object) {
	n := 0
	for _, d := range []struct {
		name string
		read func(*System, *object)
	}{{"http", c.http}, {"webhook", c.webhook}, {"file", c.fileDriver}} {
		f := parent.get(d.name)
		if !f.set {
			continue
		}
		if n++; n > 1 {
			c.errorAt(f.place, "make it two systems", "%s has more than one driver", parent.what)
		}
		o := c.object(f.node, d.name+" of "+parent.what)
		d.read(s, o)
		o.close()
	}
}

func (c *compiler) url(o *object, name string) string {
	f := o.required(name, "such as https://erp.example.com/api")
	o.note(name).Type = "URL"
	if !f.set {
		return ""
	}
	u, err := url.Parse(f.str())
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "":
		c.errorAt(f.place, "such as https://erp.example.com/api", "%s in %s is not an http or https URL", name, o.what)
	case u.User != nil:
		c.errorAt(f.place, "use auth: with a reference to the secret", "%s in %s holds a user or a password", name, o.what)
	}
	c.checkQuery(f, o)
	return f.str()
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// hosts reads names or addresses, each with or without a port.
func (c *compiler) hosts(o *object) []string {
	var out []string
	for _, f := range o.texts("hosts") {
		host := f.str()
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if net.ParseIP(host) == nil && !hostForm.MatchString(host) {
			c.errorAt(f.place, "a host name or an address, such as erp.local or 10.0.0.5", "host %s cannot be used", quoted(f.str()))
		}
		out = append(out, f.str())
	}
	return out
}

func (c *compiler) http(s *System, o *object) {
	h := &HTTPDriver{
		URL: c.url(o, "url"), CA: c.secret(o.text("ca"), o), Hosts: c.hosts(o),
		Query: c.calls(o, "query", "GET"), Command: c.calls(o, "command", "POST"),
	}
	if f := o.get("auth"); f.set {
		h.Auth = c.auth(f, o)
	}
	if f := o.get("deliver"); f.set {
		call := c.call(f.node, "deliver of "+o.what, "POST", true)
		h.Deliver = &call
	}
	if f := o.get("snapshot"); f.set {
		h.Snapshot = c.snapshots(f, o)
	}
	if f := o.get("publish"); f.set {
		p := c.object(f.node, "publish of "+o.what)
		h.Publish = &HTTPFeed{
			Path: c.path(p, "path"), Interval: p.duration("interval", 5*time.Second, 10*time.Millisecond, day),
		}
		if p.has("confirm") {
			h.Publish.Confirm = c.path(p, "confirm")
		}
		p.close()
	}
	s.HTTP = h
}

func (c *compiler) auth(f field, parent *object) HTTPAuth {
	o := c.object(f.node, "auth of "+parent.what)
	auth := HTTPAuth{Bearer: c.secret(o.text("bearer"), o)}
	if f := o.get("basic"); f.set {
		b := c.object(f.node, "basic of "+o.what)
		auth.Basic = &HTTPBasic{User: b.required("user", "").str(), Password: c.secret(b.required("password", secretHint), b)}
		b.close()
	}
	if f := o.get("oauth2"); f.set {
		g := c.object(f.node, "oauth2 of "+o.what)
		auth.OAuth2 = &OAuth2{
			TokenURL: c.url(g, "tokenUrl"), ClientID: g.required("clientId", "").str(),
			ClientSecret: c.secret(g.required("clientSecret", secretHint), g), Scopes: strs(g.texts("scopes")),
		}
		g.close()
	}
	if f := o.get("mtls"); f.set {
		m := c.object(f.node, "mtls of "+o.what)
		auth.MTLS = &MTLS{
			Certificate: c.secret(m.required("certificate", secretHint), m), Key: c.secret(m.required("key", secretHint), m),
		}
		m.close()
	}
	o.close()
	ways := slices.DeleteFunc(slices.Clone(o.known), func(name string) bool { return !o.has(name) })
	if len(ways) > 1 {
		c.errorAt(o.at, "keep one of "+strings.Join(ways, ", "), "%s has more than one way to authenticate", o.what)
	}
	return auth
}

// path reads a path below the driver's URL: it may not lead to another host.
func (c *compiler) path(o *object, name string) string {
	f := o.required(name, "such as /events")
	o.note(name).Type = "path"
	if !f.set {
		return ""
	}
	u, err := url.Parse(strings.NewReplacer("{", "", "}", "").Replace(f.str()))
	if err != nil || u.IsAbs() || u.Host != "" || u.Fragment != "" || strings.Contains(u.Path, "..") {
		c.errorAt(f.place, "a path below url, such as /events", "%s in %s is not a path", name, o.what)
	}
	c.checkQuery(f, o)
	return f.str()
}

func (c *compiler) call(n node, what, method string, deliver bool) HTTPCall {
	o := c.object(n, what)
	call := HTTPCall{
		Method: o.oneOf("method", method, "GET", "POST", "PUT", "PATCH", "DELETE"), Path: c.path(o, "path"),
	}
	if deliver {
		call.Envelope = o.oneOf("envelope", "structured", "structured", "binary", "data")
	}
	o.close()
	return call
}

func (c *compiler) calls(parent *object, name, method string) map[string]HTTPCall {
	f := parent.get(name)
	if !f.set {
		return nil
	}
	o := c.object(f.node, name+" of "+parent.what).choosing()
	out := map[string]HTTPCall{}
	for i, key := range o.fields.keys {
		callName, _ := key.value.(string)
		if !dottedForm.MatchString(callName) {
			c.errorAt(key.place, "lower-case letters, digits, - and .", "name %s cannot be used", quoted(callName))
			continue
		}
		out[callName] = c.call(o.fields.values[i], name+" "+callName+" of "+parent.what, method, false)
	}
	return out
}

func (c *compiler) snapshots(f field, parent *object) map[string]HTTPPage {
	o := c.object(f.node, "snapshot of "+parent.what).choosing()
	out := map[string]HTTPPage{}
	for i, key := range o.fields.keys {
		name := field{node: key, name: "snapshot", set: true}
		p := c.object(o.fields.values[i], "snapshot of "+parent.what)
		out[name.str()] = HTTPPage{Path: c.path(p, "path"), Items: p.mapping("items"), Next: p.mapping("next")}
		p.close()
		c.after(func() {
			if _, ok := c.set.Contracts[name.str()]; !ok {
				c.unknown(name, "contract", slices.Sorted(maps.Keys(c.set.Contracts)))
			}
		})
	}
	return out
}

func (c *compiler) webhook(s *System, o *object) {
	s.Webhook = &WebhookDriver{
		URL: c.url(o, "url"), Secret: c.secret(o.required("secret", secretHint), o), Hosts: c.hosts(o), CA: c.secret(o.text("ca"), o),
	}
}

var windowsDrive = regexp.MustCompile(`^[A-Za-z]:[/\\]`)

func (c *compiler) fileDriver(s *System, o *object) {
	directory := o.required("directory", "an absolute path on the site server")
	if d := directory.str(); directory.set && !strings.HasPrefix(d, "/") && !strings.HasPrefix(d, `\\`) && !windowsDrive.MatchString(d) {
		c.errorAt(directory.place, "such as /srv/drop or C:\\drop", "directory %s is not absolute", quoted(d))
	}
	s.File = &FileDriver{Directory: directory.str()}
	if f := o.get("publish"); f.set {
		s.File.Publish = c.filePublish(s, f, o)
	}
	if f := o.get("deliver"); f.set {
		d := c.object(f.node, "deliver of "+o.what)
		folder := d.text("folder")
		s.File.Deliver = &FileDeliver{Folder: "out"}
		if folder.set {
			s.File.Deliver.Folder = folder.str()
			if !localPath(folder.str()) {
				c.errorAt(folder.place, "a folder below directory, such as out", "folder %s leads out of the directory", quoted(folder.str()))
			}
		}
		d.close()
	} else if o.has("deliver") {
		s.File.Deliver = &FileDeliver{Folder: "out"} // deliver: with nothing behind it
	}
}

// localPath is stricter than the machine that lints needs: the agent may run elsewhere.
func localPath(p string) bool {
	p = strings.ReplaceAll(p, `\`, "/")
	return p != "" && p == path.Clean(p) && !strings.HasPrefix(p, "/") && !strings.HasPrefix(p, "..") && !strings.Contains(p, ":")
}

func (c *compiler) filePublish(s *System, f field, parent *object) *FilePublish {
	o := c.object(f.node, "publish of "+parent.what)
	pattern := o.required("pattern", "such as *.csv")
	o.required("format", "json, jsonl or csv")
	eventType := o.required("type", "such as order.captured.v1")
	p := &FilePublish{
		Pattern: pattern.str(), Format: o.oneOf("format", "", "json", "jsonl", "csv"), Type: eventType.str(),
		Map: o.mapping("map"), Interval: o.duration("interval", 2*time.Second, 10*time.Millisecond, day),
	}
	o.close()
	if _, err := path.Match(p.Pattern, "x"); err != nil || strings.ContainsAny(p.Pattern, `/\`) {
		c.errorAt(pattern.place, "such as *.csv", "pattern %s cannot be used", quoted(p.Pattern))
	}
	c.after(func() {
		c.checkType(eventType)
		if name, _, ok := ParseType(p.Type); ok && !s.MayPublish(name) {
			c.errorAt(eventType.place, "add "+name+" to publishes of the system", "system %s does not publish contract %s", s.Name, name)
		}
	})
	return p
}
