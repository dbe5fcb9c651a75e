// Package monitoring owns the alerts that come with Crossdock, for Prometheus.
package monitoring

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/crossdock/crossdock/deploy/handbook"
)

const rulesFile = "crossdock.rules.yml"

type rules struct {
	Groups []struct {
		Rules []struct {
			Alert       string
			Expr        string
			Annotations map[string]string
		}
	}
}

// An alert over a metric that is not there never comes, and nobody notices.
func TestAlertsAreOverMetricsThatExist(t *testing.T) {
	var metrics strings.Builder
	for _, file := range []string{"../../agent/METRICS.md", "../../controlplane/METRICS.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		metrics.Write(text)
	}
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var all rules
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, group := range all.Groups {
		for _, rule := range group.Rules {
			for _, name := range regexp.MustCompile(`crossdock_\w+`).FindAllString(rule.Expr, -1) {
				seen++
				if !strings.Contains(metrics.String(), "`"+name+"`") {
					t.Errorf("%s: there is no metric %s", rule.Alert, name)
				}
			}
			if found, _ := handbook.Find(handbook.Topics(), rule.Annotations["help"]); found.Name == "" {
				t.Errorf("%s: there is no help topic %q", rule.Alert, rule.Annotations["help"])
			}
			if rule.Annotations["summary"] == "" {
				t.Errorf("%s says nothing", rule.Alert)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("%d metrics in the alerts: they were not read", seen)
	}
}

// promtool, of Debian's package prometheus, reads the rules and plays what brings them.
func TestAlertsComeWhenTheyShould(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("REQUIRE") == "all" {
			t.Fatal("promtool is missing: install Debian's package prometheus")
		}
		t.Skip("promtool is missing, the alerts are not tried: install Debian's package prometheus")
	}
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", "crossdock.rules.test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
