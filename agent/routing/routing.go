// Package routing owns one question: which systems does the policy send this event to?
//
// It refuses to know how an event came, where it is stored and how it travels: it does no
// input or output and keeps no state besides the tables it builds from a revision. Its
// invariant: the same event, data and revision give the same targets in the same order,
// and an expression that fails never loses a delivery: the target is there, with a Fault.
package routing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// MaxTargets bounds the deliveries of one event; a journal entry holds no more.
const MaxTargets = 1024

// tries bounds how often an expression that goes beyond its limits is evaluated: its time
// is that of the wall, and a machine that stood still for a moment must not make faults.
const tries = 3

// maxFault bounds the text of one fault: it stands in block headers.
const maxFault = 512

// Router decides by one revision of policy, at one site. It is immutable and safe for
// concurrent use.
type Router struct {
	site, region string
	byType       map[string][]route
}

// route is a policy route with its destinations resolved to agents.
type route struct {
	name string
	when *expr.Expr
	to   []destination
}

type destination struct {
	target block.Target
	when   *expr.Expr
}

// New builds the tables of a revision for the agent of a site.
func New(set *policy.Set, site string) *Router {
	r := &Router{site: site, byType: map[string][]route{}}
	if s := set.Sites[site]; s != nil {
		r.region = s.Region
	}
	for _, p := range set.Routes { // sorted by name, and so are the tables
		out := route{name: p.Name, when: p.When}
		for _, d := range p.To {
			t := block.Target{System: d.System, Route: p.Name, Shadow: d.Shadow}
			if sys := set.Systems[d.System]; sys != nil {
				t.Agent = sys.Site
			} else { // a compiled policy has no such route; a delivery is still not lost
				t.Agent, t.Fault = site, fmt.Sprintf("route %s names system %s, which the policy does not have", p.Name, d.System)
			}
			out.to = append(out.to, destination{target: t, when: d.When})
		}
		r.byType[p.Type] = append(r.byType[p.Type], out)
	}
	return r
}

// Decide lists the deliveries of an event that a system of this site publishes. Data is
// the decoded content, as expressions take it. The order is that of the routes by name
// and of their destinations as written. Where several name the same system, live or
// shadow, the first wins: a system gets an event once.
//
// A caller that goes away does not change the decision, so cancellation is not heeded;
// each expression has its own deadline.
func (r *Router) Decide(ctx context.Context, e *event.Event, data any, from *policy.System) []block.Target {
	routes := r.byType[e.Type]
	if len(routes) == 0 {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	envelope := &envelope{router: r, event: e, data: data, from: from}
	matches := func(when *expr.Expr) (bool, error) {
		if when == nil {
			return true, nil
		}
		return holds(ctx, when, envelope)
	}
	var out []block.Target
	for i := range routes {
		yes, routeErr := matches(routes[i].when)
		if !yes && routeErr == nil {
			continue
		}
		for _, d := range routes[i].to {
			if known(out, d.target) {
				continue
			}
			yes, err := matches(d.when)
			if !yes && err == nil {
				continue
			}
			t := d.target
			switch {
			case t.Fault != "":
			case routeErr != nil:
				t.Fault = fault(routes[i].name, "when", routeErr)
			case err != nil:
				t.Fault = fault(routes[i].name, "to "+t.System+": when", err)
			}
			if out = append(out, t); len(out) == MaxTargets {
				return out
			}
		}
	}
	return out
}

func holds(ctx context.Context, when *expr.Expr, envelope *envelope) (yes bool, err error) {
	for range tries {
		if yes, err = when.Bool(ctx, envelope); !errors.Is(err, expr.ErrLimit) {
			break
		}
	}
	return yes, err
}

func known(targets []block.Target, t block.Target) bool {
	for i := range targets {
		if targets[i].System == t.System && targets[i].Shadow == t.Shadow {
			return true
		}
	}
	return false
}

func fault(route, place string, err error) string {
	text := fmt.Sprintf("route %s: %s: %v", route, place, err)
	if len(text) > maxFault {
		text = strings.ToValidUTF8(text[:maxFault], "") // not half a character
	}
	return text
}

// envelope is what route expressions see: the attributes by name, and four names of ours,
// which an extension attribute cannot take over. It is for one goroutine.
type envelope struct {
	router *Router
	event  *event.Event
	data   any
	from   *policy.System
	object map[string]any // once an expression has asked for it
}

var _ expr.Members = (*envelope)(nil)

// names are those that CloudEvents and we give.
var names = []string{
	"specversion", "id", "source", "type", "subject", "datacontenttype", "dataschema", "time", "data", "region", "site", "system",
}

// Member gives what stands under one name.
func (n *envelope) Member(name string) any {
	e := n.event
	switch name {
	case "specversion":
		return event.SpecVersion
	case "id":
		return e.ID
	case "source":
		return e.Source
	case "type":
		return e.Type
	case "subject":
		return optional(e.Subject)
	case "datacontenttype":
		return optional(e.DataContentType)
	case "dataschema":
		return optional(e.DataSchema)
	case "time":
		if e.Time.IsZero() {
			return nil
		}
		return e.Time.UTC().Format(time.RFC3339Nano)
	case "data":
		return n.data
	case "region":
		return n.router.region
	case "site":
		return n.router.site
	case "system":
		if n.from == nil {
			return nil
		}
		return n.from.Name
	}
	if value, has := e.Extensions[name]; has {
		return value
	}
	return nil
}

func optional(value string) any {
	if value == "" {
		return nil
	}
	return value
}

// Object puts them all together.
func (n *envelope) Object() map[string]any {
	if n.object != nil {
		return n.object
	}
	n.object = make(map[string]any, len(names)+len(n.event.Extensions))
	for name, value := range n.event.Extensions {
		n.object[name] = value
	}
	for _, name := range names {
		value := n.Member(name)
		switch name {
		case "subject", "datacontenttype", "dataschema", "time": // the event need not have them
			if value == nil {
				continue
			}
		}
		n.object[name] = value
	}
	return n.object
}
