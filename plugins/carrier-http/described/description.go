// Package described is a carrier that a file describes: what to ask its provider over HTTP, and
// how to read what is answered, in YAML and jq.
//
// It owns the form of the file, the calls, and the record of what was bought, and refuses to
// know any provider. Its invariant: what buys is written down before it is sent, and what was
// sent and not answered readably is looked up, or repeated under the provider's own key, before
// it is bought again.
package described

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/strictyaml"
)

// The form of the file that this program reads.
const (
	APIVersion = "crossdock/v1"
	Kind       = "HTTPCarrier"
)

// Operations that the contract has as actions of one.
const (
	opChange = "pickup-change"
	opCancel = "pickup-cancel"
)

// Settings that every described carrier has.
const (
	setBase  = "base-url"
	setProxy = "proxy"
	setState = "state"
	setKeep  = "keep-days"
)

// Description is a carrier as its file describes it. It is immutable.
type Description struct {
	name, version string
	base          *url.URL
	settings      []sdk.Setting // of the file
	auth          auth
	services      []carrier.Service
	labels        []string
	errors        []rule // of all operations, after their own
	operations    map[string]*operation
	examples      []example
}

// operation is one thing that the provider does.
type operation struct {
	name     string
	at       strictyaml.Place
	takes    []string
	refuse   []rule
	request  request
	key      *idempotency
	answer   answer
	settled  time.Duration // how long the provider's search may lag behind what it sold
	each     bool          // one number a call
	timeout  time.Duration
	ofAll    []rule // Description.errors
	labelled string // the kind of its labels
}

type request struct {
	method  string
	path    []segment
	query   map[string]*program
	headers map[string]*program
	body    *program
}

// segment is a part of a path: text, or what an expression gives.
type segment struct {
	text string
	of   *program
	name string
}

type answer struct {
	success  []int // empty: each below 300
	statuses map[int]sdk.Class
	errors   []rule
	result   *program
}

// rule recognises a refusal.
type rule struct {
	when    *program
	class   sdk.Class
	at      string // the field, where it is always the same
	field   *program
	code    *program
	text    *program
	message string
}

// idempotency is the provider's own key: a request that comes again under it is not done again.
type idempotency struct {
	header, field string
	uuid          bool
	lasts         time.Duration
}

// Parse reads a description. An error names every fault by file and line.
func Parse(file string, text []byte) (*Description, error) {
	r := newReader(file)
	d := &Description{operations: map[string]*operation{}}
	if top := r.Document(text); top != nil {
		r.mapping(top, d.read)
	}
	if err := r.Problems.Err(); err != nil {
		return nil, err
	}
	return d, nil
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,39}$`)

func (f *fields) name(name string) string {
	text := f.Text(name, true)
	if text != "" && !plainName.MatchString(text) {
		f.Refuse(f.Line(name), "field %s is %.40q, and must be small letters, digits and hyphens", name, text)
	}
	return text
}

func (d *Description) read(f *fields) {
	f.OneOf("apiVersion", true, APIVersion)
	f.OneOf("kind", true, Kind)
	d.name, d.version = f.name("name"), f.Text("version", true)
	if text := f.Text("baseUrl", true); text != "" {
		var err error
		if d.base, err = baseOf(text); err != nil {
			f.Refuse(f.Line("baseUrl"), "field baseUrl: %v", err)
		}
	}
	f.define("define")
	f.r.List(f.Get("settings"), func(n strictyaml.Node) { f.r.mapping(n, d.readSetting) })
	d.auth = auth{kind: "none"}
	if n := f.Get("auth"); n != nil {
		f.r.mapping(n, func(a *fields) { d.auth.read(a, d.settings) })
	}
	f.r.List(f.Get("services"), func(n strictyaml.Node) {
		f.r.mapping(n, func(s *fields) {
			v := carrier.Service{Code: s.Text("code", true), Name: s.Text("name", true)}
			if slices.ContainsFunc(d.services, func(o carrier.Service) bool { return o.Code == v.Code }) {
				s.Refuse(s.At, "service %s is there already; keep one", v.Code)
			}
			d.services = append(d.services, v)
		})
	})
	d.labels = f.Texts("labels", false)
	for _, l := range d.labels {
		if l != carrier.ZPL && l != carrier.PDF && l != carrier.PNG {
			f.Refuse(f.Line("labels"), "nobody knows labels of format %.20q; take pdf, zpl or png", l)
		}
	}
	d.errors = f.rules("errors", true)
	if all := f.r.open(f.Need("operations")); all != nil {
		for _, name := range all.Names {
			d.readOperation(all, name)
		}
		d.complete(all)
	}
	f.r.List(f.Get("examples"), func(n strictyaml.Node) { f.r.mapping(n, d.readExample) })
}

func (d *Description) readSetting(f *fields) {
	s := sdk.Setting{Name: f.name("name"), Help: f.Text("help", true), Required: f.Flag("required"), Secret: f.Flag("secret")}
	taken := slices.ContainsFunc(append(d.ownSettings(), d.settings...), func(o sdk.Setting) bool { return o.Name == s.Name })
	if taken {
		f.Refuse(f.At, "setting %s is there already; give it another name", s.Name)
	}
	d.settings = append(d.settings, s)
}

// baseOf reads an address that passwords and orders may be sent to.
func baseOf(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("%.80q is no address such as https://api.carrier.example/v1", text)
	case u.Scheme == "https":
		return u, nil
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "http" || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%.80q is not encrypted; write https", text)
	}
	return u, nil
}

// What operations there are, and which of them leave a mark.
var known = map[string]bool{
	carrier.OpRate: false, carrier.OpShip: true, carrier.OpGetByReference: false, carrier.OpShipReturn: true, carrier.OpVoid: true,
	carrier.OpPickup: true, opChange: true, opCancel: true, carrier.OpManifest: true, carrier.OpTrack: false, carrier.OpValidateAddress: false,
}

func (o *operation) buys() bool { return known[o.name] }

func (o *operation) ships() bool { return o.name == carrier.OpShip || o.name == carrier.OpShipReturn }

const (
	standardTimeout = 60 * time.Second
	maxTimeout      = 2 * time.Minute
	maxLasting      = 10 * 365 * 24 * time.Hour
)

func (d *Description) readOperation(all *fields, name string) {
	n := all.Need(name)
	if _, ok := known[name]; !ok {
		all.Refuse(all.Line(name), "there is no operation %s; %s", name, strictyaml.Instead(name, slices.Sorted(maps.Keys(known))))
		return
	}
	o := &operation{name: name, at: all.Line(name), ofAll: d.errors, labelled: "label"}
	if name == carrier.OpShipReturn {
		o.labelled = "return-label"
	}
	all.r.mapping(n, func(f *fields) {
		if name == carrier.OpRate || o.ships() {
			o.readTakes(f)
		}
		o.refuse = f.rules("refuse", false)
		f.r.mapping(f.Need("request"), o.request.read)
		f.r.mapping(f.Need("answer"), o.answer.read)
		if o.buys() {
			if n := f.Get("idempotency"); n != nil {
				f.r.mapping(n, func(k *fields) { o.key = readKey(k, o) })
			}
		}
		if name == carrier.OpGetByReference {
			o.settled = f.span("settledAfter", 0, 24*time.Hour)
		}
		if name == carrier.OpTrack {
			o.each = f.Flag("each")
		}
		o.timeout = f.span("timeout", standardTimeout, maxTimeout)
	})
	d.operations[name] = o
}

// What of a shipment is refused unless the description says that it is passed on.
var takable = []string{"insurance", "cod", "payer", "labelDpi", "rateId", "returnTo", "customs", "packaging"}

func (o *operation) readTakes(f *fields) {
	o.takes = f.Texts("takes", false)
	for _, t := range o.takes {
		if option, ok := strings.CutPrefix(t, "options."); !slices.Contains(takable, t) && (!ok || option == "") {
			f.Refuse(f.Line("takes"), "%.40q is nothing that has to be taken; %s, or options.NAME", t, strictyaml.Instead(t, takable))
		}
	}
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

func (q *request) read(f *fields) {
	q.method = f.OneOf("method", true, "GET", "POST", "PUT", "PATCH", "DELETE")
	params := f.programs("params")
	path, used, at := f.Text("path", true), map[string]bool{}, 0
	if path != "" && (path[0] != '/' || strings.ContainsAny(path, "?# \\") || strings.Contains(path, "..") || strings.Contains(path, "//")) {
		f.Refuse(f.Line("path"), "field path is %.80q, and must begin with / and hold neither a query nor .. nor //", path)
	}
	for _, m := range placeholder.FindAllStringIndex(path, -1) {
		name := path[m[0]+1 : m[1]-1]
		if params[name] == nil {
			f.Refuse(f.Line("path"), "{%s} has no expression; add it to params", name)
		}
		q.path = append(q.path, segment{text: path[at:m[0]]}, segment{of: params[name], name: name})
		used[name], at = true, m[1]
	}
	q.path = append(q.path, segment{text: path[at:]})
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !used[name] {
			f.Refuse(f.Line("params"), "parameter %s is not in the path; write {%s} there", name, name)
		}
	}
	q.query, q.headers, q.body = f.programs("query"), f.programs("headers"), f.program("body", false)
	for name := range q.headers {
		if !headerName.MatchString(name) || slices.Contains([]string{"host", "authorization", "content-length", "transfer-encoding", "connection"}, strings.ToLower(name)) {
			f.Refuse(f.Line("headers"), "header %.40q cannot be set here; a credential belongs into auth", name)
		}
	}
	if q.body != nil && q.method == "GET" {
		f.Refuse(f.Line("body"), "a GET has no body")
	}
}

var headerName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func (a *answer) read(f *fields) {
	f.r.List(f.Get("success"), func(n strictyaml.Node) {
		if text, ok := f.r.Scalar(n); ok {
			a.success = append(a.success, f.r.status(f.r.At(n), text))
		}
	})
	a.statuses = map[int]sdk.Class{}
	if inner := f.r.open(f.Get("statuses")); inner != nil {
		for _, name := range inner.Names {
			a.statuses[f.r.status(inner.Line(name), name)] = sdk.Class(inner.OneOf(name, true, classes...))
		}
	}
	a.errors = f.rules("errors", true)
	a.result = f.program("result", true)
}

var classes = []string{string(sdk.Validation), string(sdk.Auth), string(sdk.NotServiced), string(sdk.NotSupported), string(sdk.Expired), string(sdk.Duplicate),
	string(sdk.Conflict), string(sdk.NotFound), string(sdk.Throttled), string(sdk.Unavailable), string(sdk.UnknownOutcome)}

// rules reads a list of them; those of an answer say what the provider says.
func (f *fields) rules(name string, answered bool) []rule {
	var out []rule
	f.r.List(f.Get(name), func(n strictyaml.Node) {
		f.r.mapping(n, func(f *fields) {
			r := rule{when: f.program("when", true), class: sdk.Class(f.OneOf("class", true, classes...)), at: f.Text("at", false),
				message: f.Text("message", !answered), field: f.program("field", false)}
			if answered {
				r.code, r.text = f.program("code", false), f.program("text", false)
			}
			if r.class == sdk.Validation && r.at == "" && r.field == nil {
				f.Refuse(f.At, "an error of class validation names a field; add at with its path, or field with an expression that gives it")
			}
			out = append(out, r)
		})
	})
	return out
}

func readKey(f *fields, o *operation) *idempotency {
	k := &idempotency{header: f.Text("header", false), field: f.Text("field", false), lasts: f.span("lasts", 0, maxLasting)}
	k.uuid = f.OneOf("form", false, "uuid", "text") == "uuid"
	switch {
	case (k.header == "") == (k.field == ""):
		f.Refuse(f.At, "the key is sent in a header or in a field of the body; say which, and not both")
	case k.header != "" && !headerName.MatchString(k.header):
		f.Refuse(f.Line("header"), "%.40q is no name of a header", k.header)
	case k.field != "" && o.request.body == nil:
		f.Refuse(f.Line("field"), "the request has no body that the key could be in; take a header")
	}
	if !f.Has("lasts") {
		f.Refuse(f.At, "field lasts is missing; say how long the provider remembers the key, such as 24h")
	}
	return k
}

// complete refuses what cannot be done safely, and what lacks its other half.
func (d *Description) complete(all *fields) {
	find := d.operations[carrier.OpGetByReference]
	for _, name := range slices.Sorted(maps.Keys(d.operations)) {
		o := d.operations[name]
		switch {
		case !o.buys() || o.key != nil:
		case !o.ships() && name != carrier.OpVoid:
			all.Refuse(o.at, "%s leaves a mark, and a call whose answer is lost cannot be looked up: it needs idempotency, the provider's own key that makes a repeat harmless", name)
		case find == nil:
			all.Refuse(o.at, "%s buys, and a call whose answer is lost would be made twice: describe get-by-reference, or idempotency if the provider has a key that makes a repeat harmless", name)
		}
		if (name == opChange || name == opCancel) && d.operations[carrier.OpPickup] == nil {
			all.Refuse(o.at, "%s needs pickup", name)
		}
		if o.ships() && len(d.labels) == 0 {
			all.Refuse(o.at, "%s makes labels; add the field labels with their formats", name)
		}
		if (o.ships() || name == carrier.OpRate) && len(d.services) == 0 {
			all.Refuse(o.at, "%s has services; add the field services", name)
		}
	}
	if len(d.operations) == 0 {
		all.Refuse(all.At, "there is no operation")
	}
}

func (d *Description) buys() bool {
	for _, o := range d.operations {
		if o.buys() {
			return true
		}
	}
	return false
}

// ownSettings are those that are not the file's.
func (d *Description) ownSettings() []sdk.Setting {
	return []sdk.Setting{
		{Name: setBase, Help: "address of the provider's interface, in place of the one that is described, such as that of its sandbox"},
		{Name: setProxy, Help: "address of a proxy on the way to the provider"},
		{Name: setState, Help: "directory of the record of what was bought; of this plugin alone, on a local disk, part of the site's backup"},
		{Name: setKeep, Help: "days for which the record keeps what was bought at least; 800 by default, 400 at least"},
	}
}

func (d *Description) describe() *carrier.Description {
	out := &carrier.Description{Description: sdk.Description{Name: d.name, Version: Version, Data: d.version}, Services: d.services, Labels: d.labels}
	for _, name := range slices.Sorted(maps.Keys(d.operations)) {
		if name != opChange && name != opCancel {
			out.Operations = append(out.Operations, sdk.Operation{Name: name, Buys: d.operations[name].buys()})
		}
	}
	if ships := d.operations[carrier.OpShip] != nil || d.operations[carrier.OpShipReturn] != nil; ships && d.operations[carrier.OpGetByReference] == nil {
		out.Operations = append(out.Operations, sdk.Operation{Name: carrier.OpGetByReference}) // of the record
	}
	for _, s := range d.ownSettings() {
		s.Required = s.Name == setState && d.buys()
		if d.buys() || s.Name != setState && s.Name != setKeep {
			out.Config = append(out.Config, s)
		}
	}
	out.Config = append(out.Config, d.settings...)
	return out
}
