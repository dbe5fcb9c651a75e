package httpdriver

import (
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/systems"
	"github.com/crossdock/crossdock/agent/systems/systemstest"
	"github.com/crossdock/crossdock/protocol/expr"
	"github.com/crossdock/crossdock/protocol/policy"
)

// system is a System document that declares all five operations at url.
func system(t *testing.T, url string) *policy.System {
	t.Helper()
	return &policy.System{
		Meta: policy.Meta{Name: "erp"},
		HTTP: &policy.HTTPDriver{
			URL:      url,
			Hosts:    []string{"127.0.0.1"},
			Deliver:  &policy.HTTPCall{Path: "/deliver"},
			Query:    map[string]policy.HTTPCall{"order": {Path: "/orders/{id}?lang={lang}"}},
			Command:  map[string]policy.HTTPCall{"reserve": {Path: "/command"}},
			Snapshot: map[string]policy.HTTPPage{"inventory": {Path: "/records", Items: compile(t, ".items"), Next: compile(t, ".next")}},
			Publish:  &policy.HTTPFeed{Path: "/feed", Confirm: "/confirm", Interval: 2 * time.Millisecond},
		},
	}
}

func compile(t *testing.T, source string) *expr.Expr {
	t.Helper()
	e, err := expr.Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func open(t *testing.T, sys *policy.System, opts systems.Options) *Driver {
	t.Helper()
	d, err := New(sys, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestContract(t *testing.T) {
	foreign := systemstest.NewHTTP(t)
	systemstest.Run(t, systemstest.Fixture{
		Foreign: foreign,
		Open:    func(t *testing.T) systems.Driver { return open(t, system(t, foreign.URL()), systems.Options{}) },
		Operations: []systems.Operation{
			systems.OpPublish, systems.OpDeliver, systems.OpQuery, systems.OpCommand, systems.OpSnapshot,
		},
		Query: "order", Args: map[string]string{"id": "A/1", "lang": "es"},
		Command: "reserve", Contract: "inventory", Records: systemstest.HTTPRecords,
	})
}
