// Package policy owns the documents that govern a cluster: contracts, sites, systems,
// routes, journeys, number ranges and plugins, from the YAML that people write to one compiled, immutable set.
//
// It refuses to know who approved a revision, where it is stored and what runs by it. Its
// invariant: a Set exists only when the whole bundle is free of errors, so whoever holds
// one never meets a name, expression or schema that does not resolve.
package policy

import (
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/contract"
	"github.com/crossdock/crossdock/protocol/expr"
)

// Set is one revision of policy, compiled: parsed strictly, cross-checked, its contracts
// and expressions ready to run. It is immutable and safe for concurrent use.
type Set struct {
	Revision  block.Revision // zero until the control plane has numbered it
	Digest    [32]byte       // of the bundle
	Contracts map[string]*Contract
	Sites     map[string]*Site
	Systems   map[string]*System
	Routes    []*Route // sorted by name
	Journeys  map[string]*Journey
	Ranges    map[string]*NumberRange
	Plugins   map[string]*Plugin
	// Begun tells with which revision a system began to take the place of another, as the
	// control plane says; it may say nothing.
	Begun map[string]block.Revision

	types   map[string]*eventType // by event type
	schemas map[string]*contract.Version
	routes  map[string][]*Route  // by event type
	sites   map[string][]*System // by site
	secrets []SecretUse          // sealed ones, without their sites
	refs    []string             // to secrets of all kinds
}

// Meta is what every document has.
type Meta struct {
	Name   string
	Labels map[string]string
	File   string // in the bundle
	Line   int    // of the document's first line
}

// Contract is a named, owned, versioned canonical event.
type Contract struct {
	Meta
	Owner         string
	Authority     string     // the role, or the system, that is the source of truth
	Key           *expr.Expr // ordering and journey key, over the data
	Compatibility string     // none, backward, forward, full
	Latency       time.Duration
	Extensions    []string
	Versions      []*contract.Version // ascending
}

// Site is a place with an agent. The agent's name is the site's name.
type Site struct {
	Meta
	Owner  string
	Region string
	Tax    []string // plugins that answer questions of tax: the first is asked, the next is its declared fallback
}

// System is an application attached at a site through a driver.
type System struct {
	Meta
	Owner     string
	Site      string
	Role      string   // what contracts name as authority: shop, erp, wms ...
	Replaces  string   // the system whose place it takes; deliveries to it wait until that one is done
	Publishes []string // contracts; a system that publishes none has an intake only to call plugins or take numbers
	Sandbox   bool     // safe for shadow deliveries
	Intake    Intake
	Delivery  Limits
	HTTP      *HTTPDriver // at most one driver; none: the system only posts to intake
	Webhook   *WebhookDriver
	File      *FileDriver
}

// Intake governs what a system posts to its agent.
type Intake struct {
	Token string  // secret reference: "secret:owner/name", "file:name", "env:NAME" or "cred:name", resolved at the agent
	Rate  float64 // events a second; default 1000
	Burst int     // default 2000
}

// Limits bounds what one agent does to one system.
type Limits struct {
	Concurrency int           // requests in flight, of different keys; default 8
	Batch       int           // events that one request may carry; default 1
	Rate        float64       // events a second; 0 is unlimited
	Timeout     time.Duration // of one request; default 10s
	Breaker     Breaker
}

// InBatches reports whether deliveries go in the batch format, even one alone: a system has
// to understand one format only.
func (l Limits) InBatches() bool { return l.Batch > 1 }

// Breaker opens after Failures failures in a row and probes again after Pause.
type Breaker struct {
	Failures int           // default 5
	Pause    time.Duration // default 10s
}

// HTTPDriver talks to a system over HTTP.
type HTTPDriver struct {
	URL      string // base; every path below is resolved against it
	Auth     HTTPAuth
	CA       string   // secret reference of a PEM file; empty: the system's roots
	Hosts    []string // private or loopback hosts that may be called; each named exactly
	Deliver  *HTTPCall
	Query    map[string]HTTPCall
	Command  map[string]HTTPCall
	Snapshot map[string]HTTPPage // by contract
	Publish  *HTTPFeed
}

// HTTPAuth is one way to authenticate; at most one of its fields is set.
type HTTPAuth struct {
	Basic  *HTTPBasic
	Bearer string // secret reference
	OAuth2 *OAuth2
	MTLS   *MTLS
}

// HTTPBasic is a user and the reference of a password.
type HTTPBasic struct {
	User     string
	Password string
}

// OAuth2 is the client credentials grant.
type OAuth2 struct {
	TokenURL     string
	ClientID     string
	ClientSecret string // secret reference
	Scopes       []string
}

// MTLS names a client certificate and key, both secret references.
type MTLS struct {
	Certificate string
	Key         string
}

// HTTPCall is one request. In Path, {name} stands for an argument.
type HTTPCall struct {
	Method   string // default POST for deliver and command, GET for query
	Path     string
	Envelope string // deliver only: structured (default), binary, data
}

// HTTPPage is a paged GET that answers a JSON array, or an object with one.
type HTTPPage struct {
	Path  string
	Items *expr.Expr // the records, over the answer; default .
	Next  *expr.Expr // path or URL of the next page, or null; default null
}

// HTTPFeed polls a system for events and confirms what the journal holds.
type HTTPFeed struct {
	Path     string        // GET: a JSON array of CloudEvents, oldest first; a repeat is harmless
	Confirm  string        // POST {"ids": [...]} after the commit
	Interval time.Duration // default 5s
}

// WebhookDriver signs deliveries by the Standard Webhooks specification.
type WebhookDriver struct {
	URL    string
	Secret string   // secret reference of a whsec_ key
	Hosts  []string // as HTTPDriver.Hosts
	CA     string
}

// FileDriver watches a drop folder, and writes deliveries to one.
type FileDriver struct {
	Directory string // on the site server, absolute; everything stays below it
	Publish   *FilePublish
	Deliver   *FileDeliver
}

// FilePublish picks up files that match a pattern.
type FilePublish struct {
	Pattern  string        // such as *.csv
	Format   string        // json, jsonl, csv
	Type     string        // of the events, such as order.captured.v1
	Map      *expr.Expr    // record to data; default .
	Interval time.Duration // default 2s
}

// FileDeliver writes each delivery as one file.
type FileDeliver struct {
	Folder string // below Directory; default out
}

// Route says which events go to which systems.
type Route struct {
	Meta
	Owner       string
	Type        string     // event type, such as shipment.dispatched.v1
	When        *expr.Expr // over the envelope with .data, .region, .site, .system; nil: always
	To          []Destination
	Retry       Retry
	OnExhausted string // park or skip
	Answers     string // event type that this route's events answer: taking one in calls forth no other of those
}

// Destination is one system of a route.
type Destination struct {
	System string
	When   *expr.Expr
	Map    *expr.Expr // event data to delivered data; nil: as it is
	Shadow bool
}

// Retry bounds the attempts of one delivery.
type Retry struct {
	Initial  time.Duration // default 1s
	Max      time.Duration // default 5m
	Attempts int           // default 30
}

// Journey is the milestones that a business object passes.
type Journey struct {
	Meta
	Owner      string
	Object     string
	Milestones []Milestone
}

// Milestone is reached by an event; Within bounds the time since another.
type Milestone struct {
	Name   string
	Type   string
	When   *expr.Expr
	After  string
	Within time.Duration
}
