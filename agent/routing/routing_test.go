package routing

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

func jq(t testing.TB, source string) *expr.Expr {
	t.Helper()
	if source == "" {
		return nil
	}
	e, err := expr.Compile(source)
	if err != nil {
		t.Fatalf("%s: %v", source, err)
	}
	return e
}

type to struct {
	system, when string
	shadow       bool
}

func newRoute(t testing.TB, name, when string, destinations ...to) *policy.Route {
	r := &policy.Route{Meta: policy.Meta{Name: name}, Type: "shipment.dispatched.v1", When: jq(t, when)}
	for _, d := range destinations {
		r.To = append(r.To, policy.Destination{System: d.system, When: jq(t, d.when), Shadow: d.shadow})
	}
	return r
}

func set(routes ...*policy.Route) *policy.Set {
	s := &policy.Set{
		Sites:   map[string]*policy.Site{"hq": {Region: "global"}, "berlin": {Region: "eu"}},
		Systems: map[string]*policy.System{},
		Routes:  routes,
	}
	for name, site := range map[string]string{"erp": "hq", "crm": "hq", "wms": "berlin"} {
		s.Systems[name] = &policy.System{Meta: policy.Meta{Name: name}, Site: site}
	}
	return s
}

func dispatch() (*event.Event, any, *policy.System) {
	e := &event.Event{
		ID: "1", Source: "/berlin/wms", Type: "shipment.dispatched.v1", Subject: "s-7",
		Time:       time.Date(2026, 5, 4, 10, 0, 0, 0, time.UTC),
		Extensions: map[string]string{"priority": "high", "region": "na", "data": "forged"},
	}
	data := map[string]any{"lines": []any{map[string]any{"qty": "3"}}, "carrier": "x"}
	return e, data, &policy.System{Meta: policy.Meta{Name: "wms"}, Site: "berlin"}
}

func TestDecide(t *testing.T) {
	hq := func(system, route string) block.Target {
		return block.Target{Agent: "hq", System: system, Route: route}
	}
	shadow := hq("erp", "a")
	shadow.Shadow = true
	for _, tt := range []struct {
		name   string
		routes []*policy.Route
		want   []block.Target
	}{
		{"none", nil, nil},
		{"always", []*policy.Route{newRoute(t, "a", "", to{system: "erp"})}, []block.Target{hq("erp", "a")}},
		{"in order of routes and destinations", []*policy.Route{
			newRoute(t, "a", "", to{system: "erp"}, to{system: "crm"}), newRoute(t, "b", "", to{system: "wms"}),
		}, []block.Target{hq("erp", "a"), hq("crm", "a"), {Agent: "berlin", System: "wms", Route: "b"}}},
		{"route condition", []*policy.Route{
			newRoute(t, "a", ".data.lines | length > 1", to{system: "erp"}), newRoute(t, "b", ".data.lines | length > 0", to{system: "crm"}),
		}, []block.Target{hq("crm", "b")}},
		{"destination condition", []*policy.Route{
			newRoute(t, "a", "", to{system: "erp", when: `.region != "eu"`}, to{system: "crm", when: `.region == "eu"`}),
		}, []block.Target{hq("crm", "a")}},
		{"attributes", []*policy.Route{newRoute(t, "a", `.type == "shipment.dispatched.v1" and .source == "/berlin/wms" and .id == "1"
			and .subject == "s-7" and .time == "2026-05-04T10:00:00Z" and .priority == "high" and .specversion == "1.0"
			and .site == "berlin" and .system == "wms" and .dataschema == null`, to{system: "erp"})}, []block.Target{hq("erp", "a")}},
		{"an extension takes no name of ours", []*policy.Route{newRoute(t, "a", `.region == "eu" and .data.carrier == "x"`, to{system: "erp"})}, []block.Target{hq("erp", "a")}},
		{"a system once", []*policy.Route{
			newRoute(t, "a", "", to{system: "erp"}, to{system: "erp"}), newRoute(t, "b", "", to{system: "erp"}),
		}, []block.Target{hq("erp", "a")}},
		{"live and shadow", []*policy.Route{
			newRoute(t, "a", "", to{system: "erp", shadow: true}), newRoute(t, "b", "", to{system: "erp"}, to{system: "erp", shadow: true}),
		}, []block.Target{shadow, hq("erp", "b")}},
		{"another type", []*policy.Route{{Meta: policy.Meta{Name: "a"}, Type: "order.captured.v1", To: []policy.Destination{{System: "erp"}}}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, data, from := dispatch()
			if got := New(set(tt.routes...), "berlin").Decide(t.Context(), e, data, from); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A failing expression gives a target with a fault for whatever it might have chosen.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name   string
		routes []*policy.Route
		want   map[string]string // system to a part of its fault
	}{
		{"route", []*policy.Route{
			newRoute(t, "a", ".data.lines.x", to{system: "erp"}, to{system: "crm", when: `.region == "na"`}),
		}, map[string]string{"erp": "route a: when: "}},
		{"not a boolean", []*policy.Route{newRoute(t, "a", ".data.carrier", to{system: "erp"})}, map[string]string{"erp": "true or false is expected"}},
		{"no result", []*policy.Route{newRoute(t, "a", "empty", to{system: "erp"})}, map[string]string{"erp": "gave no result"}},
		{"destination", []*policy.Route{
			newRoute(t, "a", "", to{system: "erp", when: "error(\"out of stock\")"}, to{system: "crm"}),
		}, map[string]string{"erp": "route a: to erp: when: ", "crm": ""}},
		{"endless", []*policy.Route{newRoute(t, "a", "def f: f; f", to{system: "erp"})}, map[string]string{"erp": "route a: when: "}},
		{"unknown system", []*policy.Route{newRoute(t, "a", "", to{system: "ghost"})}, map[string]string{"ghost": "names system ghost"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, data, from := dispatch()
			got := New(set(tt.routes...), "berlin").Decide(t.Context(), e, data, from)
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v, want %v", got, tt.want)
			}
			for _, target := range got {
				want := tt.want[target.System]
				if (target.Fault == "") != (want == "") || !strings.Contains(target.Fault, want) || len(target.Fault) > maxFault {
					t.Errorf("%s: got fault %q, want %q", target.System, target.Fault, want)
				}
				if target.Agent == "" {
					t.Errorf("%s has no agent", target.System)
				}
			}
		})
	}
}

// A sender that hangs up must not turn a decision into a fault.
// An expression sees the same, whether it asks for one member or for all.
func TestEnvelopeMembers(t *testing.T) {
	full, data, from := dispatch()
	full.DataContentType, full.DataSchema = "application/json", "crossdock:shipment.dispatched/1.0.0"
	for _, e := range []*event.Event{full, {ID: "1", Source: "/s", Type: "t"}} {
		for _, from := range []*policy.System{from, nil} {
			n := &envelope{router: &Router{site: "berlin", region: "eu"}, event: e, data: data, from: from}
			object := n.Object()
			for _, name := range append(slices.Sorted(maps.Keys(object)), "nosuch", "subject", "time", "datacontenttype", "dataschema", "priority") {
				if got, want := n.Member(name), object[name]; !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %v, want %v", name, got, want)
				}
			}
			if e != full && len(object) != len(names)-4 || e == full && (object["priority"] != "high" || object["region"] != "eu" || object["subject"] != "s-7") {
				t.Errorf("the object is %v", object)
			}
			if again := n.Object(); reflect.ValueOf(again).Pointer() != reflect.ValueOf(object).Pointer() {
				t.Error("the object was made twice")
			}
		}
	}
}

func TestCancelledCaller(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e, data, from := dispatch()
	got := New(set(newRoute(t, "a", `.region == "eu"`, to{system: "erp"})), "berlin").Decide(ctx, e, data, from)
	if len(got) != 1 || got[0].Fault != "" {
		t.Errorf("got %+v, want one target without fault", got)
	}
}

// Whatever the routes: the decision is the same each time, has no system twice, and every
// destination whose conditions hold or fail is there.
func TestDecideProperties(t *testing.T) {
	conditions := []string{"", "true", "false", ".data.carrier", "error", `.region == "eu"`}
	names := []string{"erp", "crm", "wms"}
	rapid.Check(t, func(rt *rapid.T) {
		var routes []*policy.Route
		type place struct {
			system string
			shadow bool
		}
		may := map[place]bool{}
		chosen := func(c string) bool { return c != "false" }
		for i := range rapid.IntRange(0, 4).Draw(rt, "routes") {
			when := rapid.SampledFrom(conditions).Draw(rt, "when")
			var tos []to
			for range rapid.IntRange(1, 4).Draw(rt, "destinations") {
				d := to{rapid.SampledFrom(names).Draw(rt, "system"), rapid.SampledFrom(conditions).Draw(rt, "to"), rapid.Bool().Draw(rt, "shadow")}
				tos = append(tos, d)
				if chosen(when) && chosen(d.when) {
					may[place{d.system, d.shadow}] = true
				}
			}
			routes = append(routes, newRoute(t, string(rune('a'+i)), when, tos...))
		}
		r := New(set(routes...), "berlin")
		e, data, from := dispatch()
		got := r.Decide(t.Context(), e, data, from)
		if again := r.Decide(t.Context(), e, data, from); !reflect.DeepEqual(got, again) {
			rt.Fatalf("two decisions: %+v and %+v", got, again)
		}
		for _, target := range got {
			p := place{target.System, target.Shadow}
			if !may[p] {
				rt.Fatalf("%+v was not to be, or is there twice", target)
			}
			delete(may, p)
		}
		if len(may) > 0 {
			rt.Fatalf("lost: %v of %+v", may, got)
		}
		if !slices.IsSortedFunc(got, func(a, b block.Target) int { return strings.Compare(a.Route, b.Route) }) {
			rt.Fatalf("not in the order of routes: %+v", got)
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	r := New(set(
		newRoute(b, "a", "", to{system: "erp"}),
		newRoute(b, "b", ".data.lines | length > 0", to{system: "crm", when: `.region == "eu"`}),
	), "berlin")
	e, data, from := dispatch()
	b.ReportAllocs()
	for b.Loop() {
		if got := r.Decide(b.Context(), e, data, from); len(got) != 2 {
			b.Fatal(got)
		}
	}
}
