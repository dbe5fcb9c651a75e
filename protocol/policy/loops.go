package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// hop is one way from an event type to another: a route delivers the first to a system
// that publishes the second.
type hop struct {
	to     string
	system string
	route  string
}

// checkLoops reports circles of event types: an event that goes round one may call forth
// itself again without end. Each circle is reported once, at its first route.
func (c *compiler) checkLoops() {
	graph, ok := c.hops()
	if !ok {
		c.errorAt(place{}, "let systems publish less, or routes lead to fewer of them", "there are more than %d ways between event types, too many to look for circles", maxHops)
		return
	}
	reported := map[string]bool{}
	for _, start := range slices.Sorted(maps.Keys(graph)) {
		circle := shortestCircle(graph, start)
		if circle == nil {
			continue
		}
		var members []string
		for _, h := range circle {
			members = append(members, h.to)
		}
		slices.Sort(members)
		if id := strings.Join(members, " "); reported[id] {
			continue
		} else {
			reported[id] = true
		}
		path := start
		for _, h := range circle {
			path += fmt.Sprintf(" -> (route %s) -> system %s -> %s", h.route, h.system, h.to)
		}
		at := place{}
		if r, ok := c.set.Route(circle[0].route); ok {
			at = place{file: r.File, line: r.Line, column: 1}
		}
		if p, ok := c.destinations[circle[0].route+"\x00"+circle[0].system]; ok {
			at = p
		}
		c.errorAt(at, "deliver to a system that does not publish this again; if a route only takes answers back to who asked, "+
			"say which type it answers, such as answers: order.captured.v1", "events can go round in a circle: %s", path)
	}
}

// hops builds the graph of event types. Shadow deliveries are left out: they cause nothing.
// So is the way from an answer back to what it answers, where a route says so.
func (c *compiler) hops() (graph map[string][]hop, ok bool) {
	published := map[string][]string{} // system to event types
	for name, s := range c.set.Systems {
		for eventType, t := range c.set.types {
			if t.version != nil && s.MayPublish(t.contract.Name) {
				published[name] = append(published[name], eventType)
			}
		}
		slices.Sort(published[name])
	}
	graph = map[string][]hop{}
	count := 0
	for _, r := range c.set.Routes {
		for _, d := range r.To {
			if d.Shadow {
				continue
			}
			if count += len(published[d.System]); count > maxHops {
				return nil, false
			}
			for _, eventType := range published[d.System] {
				if eventType == r.Answers && eventType != r.Type {
					continue
				}
				graph[r.Type] = append(graph[r.Type], hop{to: eventType, system: d.System, route: r.Name})
			}
		}
	}
	return graph, true
}

// shortestCircle finds the fewest hops from a type back to itself.
func shortestCircle(graph map[string][]hop, start string) []hop {
	type step struct {
		hop
		before int
	}
	steps, seen := []step{{hop: hop{to: start}, before: -1}}, map[string]bool{}
	for i := 0; i < len(steps); i++ {
		for _, h := range graph[steps[i].to] {
			if h.to == start {
				circle := []hop{h}
				for at := i; at > 0; at = steps[at].before {
					circle = append(circle, steps[at].hop)
				}
				slices.Reverse(circle)
				return circle
			}
			if !seen[h.to] {
				seen[h.to] = true
				steps = append(steps, step{hop: h, before: i})
			}
		}
	}
	return nil
}
