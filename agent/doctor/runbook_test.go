package doctor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// ids are those that the sources give to findings; one that ends with a name is cut before it.
func ids(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"*.go", "../*.go", "../cmd/*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				lit, ok := n.(*ast.CompositeLit)
				if !ok || !isFinding(lit) {
					return true
				}
				for _, e := range lit.Elts {
					if pair, ok := e.(*ast.KeyValueExpr); ok && pair.Key.(*ast.Ident).Name == "ID" {
						if id := literal(pair.Value); id != "" {
							out[id] = file
						}
					}
				}
				return true
			})
		}
	}
	return out
}

// isFinding passes literals whose type is left out in a list too.
func isFinding(lit *ast.CompositeLit) bool {
	keys := map[string]bool{}
	for _, e := range lit.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := pair.Key.(*ast.Ident); ok {
				keys[key.Name] = true
			}
		} else {
			return false
		}
	}
	return keys["ID"] && (keys["Level"] || keys["Seen"] || keys["Todo"] || len(keys) == 1 && strings.Contains(typeName(lit.Type), "Finding"))
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err != nil {
			return ""
		}
		return text
	case *ast.BinaryExpr:
		return literal(e.X)
	}
	return ""
}

func TestEveryFindingLeadsToARunbook(t *testing.T) {
	found := ids(t)
	if len(found) < 25 || found["tls-inspection"] == "" || found["system-"] == "" {
		t.Fatalf("the sources give only %v: the walk is broken", found)
	}
	for _, id := range []string{"link-quic", "link-tcp", "intake-port", "ops-port"} { // made of a name that is handed in
		found[id] = "by a parameter"
	}
	used := map[string]bool{}
	for id, file := range found {
		topic := Runbook(id)
		if strings.HasSuffix(id, "-") {
			topic = Runbook(id + "some")
		}
		if topic == "" {
			if id != "link-" {
				t.Errorf("%s of %s leads to no runbook", id, file)
			}
			continue
		}
		used[id] = true
		if _, err := os.Stat(filepath.Join("..", "..", "deploy", "runbooks", topic+".md")); err != nil {
			t.Errorf("%s leads to %s: %v", id, topic, err)
		}
	}
	for id := range runbooks {
		if !used[id] {
			t.Errorf("no source has a finding %s", id)
		}
	}
}

// README.md has a row for each finding.
func TestTheTableHasEveryCheck(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for id := range runbooks {
		name := id
		if strings.HasSuffix(id, "-") {
			name += "NAME"
		}
		if !strings.Contains(string(text), "| `"+name+"` |") {
			t.Errorf("README.md has no row for %s", name)
		}
	}
}

func TestUDPBuffer(t *testing.T) {
	if runtime.GOOS != "linux" {
		check(t, UDPBuffer("/none"), OK)
		return
	}
	for _, tt := range []struct {
		says string
		want Level
	}{{"7500000\n", OK}, {"212992\n", Warn}, {"", Warn}} {
		proc := t.TempDir()
		dir := filepath.Join(proc, "sys", "net", "core")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if tt.says != "" {
			if err := os.WriteFile(filepath.Join(dir, "rmem_max"), []byte(tt.says), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		check(t, UDPBuffer(proc), tt.want)
	}
}
