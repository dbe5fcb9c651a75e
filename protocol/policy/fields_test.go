package policy

import (
	"slices"
	"testing"
	"time"
)

func TestFields(t *testing.T) {
	fields := map[string]*Field{}
	var order []string
	for _, f := range Fields(good(t)) {
		if fields[f.Path] != nil {
			t.Errorf("%s is there twice", f.Path)
		}
		fields[f.Path], order = f, append(order, f.Path)
	}
	for _, want := range []struct {
		path, kind, fallback, limits string
		required                     bool
	}{
		{"Document.metadata", "mapping", "", "", true},
		{"Document.metadata.labels.NAME", "text", "", "", false},
		{"Contract.key", "expression", "", "", true},
		{"Contract.latency", "duration", "", "1s to 365d", false},
		{"Contract.versions", "list of mappings", "", "", true},
		{"Contract.versions[].state", "choice", "draft", "one of draft, active, deprecated, retired", false},
		{"Contract.versions[].sunset", "date", "", "", false},
		{"System.delivery.breaker.pause", "duration", "10s", "1ms to 24h", false},
		{"System.http.auth.oauth2.clientSecret", "secret", "", "", true},
		{"System.http.query.NAME.path", "path", "", "", true},
		{"System.http.publish.confirm", "path", "", "", false},
		{"System.file.publish.format", "choice", "", "one of json, jsonl, csv", true},
		{"Route.to[].shadow", "true or false", "false", "", false},
		{"Plugin.memory", "size", "", "32MB to 64GB", false},
		{"Plugin.sha256", "mapping", "", "", true},
	} {
		f := fields[want.path]
		if f == nil {
			t.Errorf("%s is missing", want.path)
			continue
		}
		if want.path == "Plugin.sha256" { // the good policy has no plugin
			want.kind = ""
		}
		if f.Type != want.kind || f.Default != want.fallback || f.Limits != want.limits || f.Required() != want.required {
			t.Errorf("%s: got %+v, required %t", want.path, *f, f.Required())
		}
	}
	at := func(path string) int { return slices.Index(order, path) }
	if !(at("Document.spec") < at("Contract.owner") && at("Contract.owner") < at("System.site") && at("System.http.auth") < at("System.http.auth.oauth2.scopes") &&
		at("System.http.auth.oauth2.scopes") < at("System.http.deliver") && at("System.http.publish.path") < at("System.webhook")) {
		t.Errorf("fields are not with what they belong to: %q", order)
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", time.Millisecond: "1ms", 90 * time.Second: "1m30s", 5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Minute: "1h30m", day: "24h", 7 * day: "7d", 49 * time.Hour: "49h",
		10 * time.Second: "10s", 20 * time.Minute: "20m", 10 * time.Hour: "10h",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: got %s, want %s", d, got, want)
		}
	}
}
