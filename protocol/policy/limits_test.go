package policy

import (
	"fmt"
	"strings"
	"testing"
)

// Few bytes of policy may ask for a lot of work. Everybody with a token can have a policy
// checked, so that work has limits.
func TestWorkIsBounded(t *testing.T) {
	repeat := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	route := func(to string) string {
		return "apiVersion: crossdock/v1\nkind: Route\nmetadata: {name: wide}\nspec:\n  owner: o\n  from: {type: order.captured.v1}\n  to:\n" + to
	}
	versions := "apiVersion: crossdock/v1\nkind: Contract\nmetadata: {name: many}\nspec: {owner: o, key: .a, authority: shop, versions: [%s]}\n"
	wide := `{"description":"` + strings.Repeat("x", 200<<10) + `"}`
	tests := []struct {
		name string
		add  Bundle
		want string
	}{
		{"list", Bundle{"x.yaml": []byte(route(repeat(maxEntries+1, "    - {system: s%d}\n")))}, "a list of more than 4096 items"},
		{"mapping", Bundle{"x.yaml": []byte(repeat(maxEntries+1, "k%d: 1\n"))}, "a mapping of more than 4096 fields"},
		{"files", Bundle{"x.json": []byte(wide), "x.yaml": fmt.Appendf(nil, versions, repeat(maxReferred/len(wide)+1, "{version: 1.%d.0, schema: x.json}, "))},
			"each counted as often as it is used"},
		{"documents", documents(maxAllDocuments+1, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: site%d}\nspec: {region: eu}\n---\n"),
			"more than 10000 documents"},
		{"brackets", Bundle{"x.yaml": []byte("a: " + strings.Repeat(`["]",`, maxBrackets+1))}, "YAML nested too deep"}, // those in quotes close nothing
		{"expressions", documents(maxExpressions/100+1, strings.Replace(route(repeat(100, "    - {system: erp, when: true} # %d\n")), "wide", "wide%d", 1)+"---\n"),
			"more than 10000 expressions"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := good(t)
			for name, content := range test.add {
				b[name] = content
			}
			if set, problems := Compile(b); set != nil || !strings.Contains(problems.Error(), test.want) || len(problems) > maxProblems+1 {
				t.Errorf("compiled %t, %d problems: %.400s", set != nil, len(problems), problems.Error())
			}
		})
	}
}

// documents spreads them over files, none of which has too many.
func documents(n int, format string) Bundle {
	b := Bundle{}
	for i := range n {
		name := fmt.Sprintf("many%d.yaml", i/(maxDocuments/2))
		b[name] = append(b[name], strings.Replace(format, "%d", fmt.Sprint(i), 1)...)
	}
	return b
}

// Beyond the limit of problems, warnings are dropped and an error still stops the policy.
func TestProblemsAreBounded(t *testing.T) {
	var p Problems
	for range 2 * maxProblems {
		p.add(Problem{Severity: SeverityWarning, Message: "w"})
	}
	if len(p) != maxProblems || p.Failed() || p.full() {
		t.Errorf("%d problems, failed %t", len(p), p.Failed())
	}
	p.add(Problem{Message: "e"})
	p.add(Problem{Message: "e"})
	if len(p) != maxProblems+1 || !p.Failed() || !p.full() {
		t.Errorf("%d problems, failed %t", len(p), p.Failed())
	}
}

// One system that publishes much, and many ways to it.
func TestLoopsOfAWidePolicy(t *testing.T) {
	c := &compiler{set: &Set{Systems: map[string]*System{}, types: map[string]*eventType{}}}
	busy := &System{Meta: Meta{Name: "busy"}}
	set := compileGood(t)
	for _, one := range set.types {
		if one.version == nil {
			continue
		}
		for i := range 2000 {
			name := fmt.Sprint("c", i)
			busy.Publishes = append(busy.Publishes, name)
			c.set.types[TypeName(name, 1)] = &eventType{contract: &Contract{Meta: Meta{Name: name}}, version: one.version}
		}
		break
	}
	c.set.Systems[busy.Name] = busy
	for i := range maxHops/2000 + 1 {
		c.set.Routes = append(c.set.Routes, &Route{Meta: Meta{Name: fmt.Sprint("r", i)}, Type: "x.v1", To: []Destination{{System: busy.Name}}})
	}
	if c.checkLoops(); !strings.Contains(c.problems.Error(), "too many to look for circles") {
		t.Errorf("got %v", c.problems)
	}
}
