package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/crossdock/crossdock/"

const (
	maxFileLines = 600
	maxFuncLines = 70
)

// topLevel is all that may stand at the top, besides dotfiles.
var topLevel = []string{"agent", "controlplane", "plugins", "protocol", "deploy", "scripts",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE"}

// onlyIn names the folders that may import a library; a prefix covers what is below.
var onlyIn = map[string][]string{
	"github.com/hashicorp/raft":   {"controlplane/store"},
	"github.com/labstack/echo/v4": {"agent/intake", "controlplane/api"},
	"github.com/quic-go/quic-go":  {"protocol/transport"},
	"go.etcd.io/bbolt":            {"agent/queue", "agent/delivery", "agent/numbers", "agent/calls", "agent/shrink", "controlplane/state", "controlplane/store"},
	module + "protocol/syncpb": {"protocol/syncpb", "protocol/transport", "agent/uplink", "controlplane/gateway",
		"deploy/systemtest"}, // which also plays the agents that lie
	"github.com/hashicorp/raft-wal":          {"controlplane/store"},
	"github.com/hashicorp/go-plugin":         {"plugins/sdk", "agent/pluginhost", "controlplane/plugincheck"},
	"google.golang.org/grpc":                 {"plugins/sdk", "agent/pluginhost", "controlplane/plugincheck"},
	module + "plugins/sdk/sdkpb":             {"plugins/sdk"},
	module + "plugins/sdk/carrier/carrierpb": {"plugins/sdk/carrier"},
	module + "plugins/sdk/tax/taxpb":         {"plugins/sdk/tax"},
}

// lent is what of the protocol a plugin may contain: carrier-http reads answers with the same
// jq, in the same limits and with the same exact decimals, as policy maps events. It brings
// nothing but the standard library, jq and decimals; TestPluginsStaySmall watches that.
var lent = map[string][]string{"plugins/carrier-http": {"protocol/expr"}}

// handbook is all of deploy that the programs know: the texts that they print with help.
const handbook = "deploy/handbook"

// leaves may be imported by their siblings: they are vocabulary, not parts.
var leaves = []string{"controlplane/model", "agent/httpserve", "agent/fulldisk", "agent/shrink", "agent/checked"}

// replicated is the one pair of siblings that know each other: store is state, replicated,
// and hands its reads through.
var replicated = [2]string{"controlplane/store", "controlplane/state"}

// families are packages with packages of their own: a driver implements its parent's contract.
var families = []string{"agent/systems"}

type source struct {
	file string // slash path from the top
	dir  string
	tree *ast.File
	set  *token.FileSet
}

func (s *source) test() bool { return strings.HasSuffix(s.file, "_test.go") }

// sources parses every Go file of the main module.
func sources(t *testing.T) []*source {
	t.Helper()
	top := os.DirFS("../..")
	var out []*source
	err := fs.WalkDir(top, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(top, path.Join(p, "go.mod")); err == nil && p != "." {
				return fs.SkipDir // a module of its own
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		text, err := fs.ReadFile(top, p)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, p, text, parser.ParseComments)
		if err != nil {
			return err
		}
		out = append(out, &source{file: p, dir: path.Dir(p), tree: tree, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 10 {
		t.Fatalf("found only %d sources: the walk is broken", len(out))
	}
	return out
}

func imports(s *source) []string {
	var out []string
	for _, spec := range s.tree.Imports {
		out = append(out, strings.Trim(spec.Path.Value, `"`))
	}
	return out
}

// layerFault says why a file in dir may not import target, or "".
func layerFault(dir, target string, test bool) string {
	for lib, dirs := range onlyIn {
		if !under(target, lib) || test && !strings.HasPrefix(lib, module) {
			continue
		}
		if !slices.ContainsFunc(dirs, func(d string) bool { return under(dir, d) }) {
			return "only " + strings.Join(dirs, ", ") + " may import " + lib
		}
	}
	ours, ok := strings.CutPrefix(target, module)
	if !ok {
		return ""
	}
	from, to := strings.Split(dir, "/"), strings.Split(ours, "/")
	switch {
	case from[0] == "protocol" && to[0] != "protocol":
		return "protocol imports nothing of ours outside itself"
	case from[0] == "plugins" && to[0] != "plugins" && slices.Contains(lent[strings.Join(from[:min(len(from), 2)], "/")], ours):
		return ""
	case from[0] == "plugins" && to[0] != "plugins":
		return "a plugin author's build contains nothing but plugins"
	case from[0] == "agent" && to[0] == "controlplane", from[0] == "controlplane" && to[0] == "agent":
		return "agent and controlplane never import each other"
	case ours == handbook, test && ours == handbook+"/reference":
		return ""
	case (from[0] == "agent" || from[0] == "controlplane") && (to[0] == "deploy" || to[0] == "scripts"):
		return "the programs do not depend on how they are deployed"
	case test || from[0] != to[0] || from[0] != "agent" && from[0] != "controlplane" || len(from) < 2 || len(to) < 2:
		return ""
	case from[1] == "cmd" || slices.Contains(leaves, ours), under(dir, replicated[0]) && under(ours, replicated[1]):
		return ""
	case to[1] == from[1] && (len(from) == 2 || slices.Contains(families, from[0]+"/"+from[1])):
		return ""
	}
	return "siblings declare what they need of each other; their parent connects them"
}

func under(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}

func TestLayers(t *testing.T) {
	for _, s := range sources(t) {
		for _, target := range imports(s) {
			if fault := layerFault(s.dir, target, s.test()); fault != "" {
				t.Errorf("%s imports %s: %s", s.file, target, fault)
			}
		}
	}
}

func TestLayerFaultSeesEachBreach(t *testing.T) {
	for _, c := range []struct {
		dir, target string
		allowed     bool
	}{
		{"agent/intake", module + "controlplane/api", false},
		{"controlplane/api", module + "agent", false},
		{"agent/intake", module + "agent/queue", false},
		{"agent/systems/http", module + "agent/systems", true},
		{"agent/systems/http", module + "agent/queue", false},
		{"agent", module + "agent/queue", true},
		{"agent/cmd/crossdock-agent", module + "agent/queue", true},
		{"protocol/event", module + "agent", false},
		{"protocol/block", module + "protocol/event", true},
		{"controlplane/gateway", module + "controlplane/model", true},
		{"controlplane/gateway", module + "controlplane/state", false},
		{"controlplane/api", "github.com/hashicorp/raft", false},
		{"controlplane/store", "github.com/hashicorp/raft", true},
		{"agent/delivery", "github.com/labstack/echo/v4/middleware", false},
		{"agent/routing", module + "protocol/syncpb/syncpbconnect", false},
		{"agent/cmd/crossdock-agent", module + "deploy/handbook", true},
		{"controlplane/cmd/crossdock", module + "deploy/examples", false},
		{"plugins/sdk", module + "protocol/event", false},
		{"plugins/carrier-http/described", module + "protocol/expr", true},
		{"plugins/carrier-http/described", module + "protocol/event", false},
		{"plugins/carrier-zone/zone", module + "protocol/expr", false},
		{"plugins/carrier-zone", "github.com/quic-go/quic-go", false},
		{"plugins/carrier-zone", "go.etcd.io/bbolt", false},
		{"plugins/carrier-zone", "google.golang.org/grpc/codes", false},
		{"plugins/sdk/internal/wire", "google.golang.org/grpc/codes", true},
		{"plugins/carrier-zone", module + "plugins/sdk/carrier", true},
		{"plugins/carrier-zone", module + "plugins/sdk/carrier/carrierpb", false},
		{"agent/workflow", module + "plugins/sdk/tax/taxpb", false},
		{"agent/cmd/crossdock-agent", module + "deploy/runbooks", false},
		{"agent/cmd/crossdock-agent", module + "deploy/demo", false},
		{"agent/doctor", module + "deploy/runbooks", false},
	} {
		if got := layerFault(c.dir, c.target, false) == ""; got != c.allowed {
			t.Errorf("%s importing %s: allowed %v, want %v", c.dir, c.target, got, c.allowed)
		}
	}
}

// A plugin contains neither the network of the agents nor their stores, through no package of
// ours either.
func TestPluginsStaySmall(t *testing.T) {
	needs := map[string][]string{} // of each of our packages
	for _, s := range sources(t) {
		if !s.test() {
			needs[s.dir] = append(needs[s.dir], imports(s)...)
		}
	}
	lending := false
	for dir := range needs {
		if !strings.HasPrefix(dir, "plugins/") {
			continue
		}
		seen, left := map[string]bool{}, slices.Clone(needs[dir])
		for len(left) > 0 {
			target := left[0]
			left = left[1:]
			ours, isOurs := strings.CutPrefix(target, module)
			if isOurs && !seen[ours] {
				seen[ours] = true
				left = append(left, needs[ours]...)
			}
			lending = lending || ours == "protocol/expr"
			for _, lib := range []string{"github.com/quic-go", "github.com/hashicorp/raft", "github.com/hashicorp/raft-wal", "go.etcd.io/bbolt"} {
				if under(target, lib) {
					t.Errorf("%s contains %s", dir, target)
				}
			}
		}
	}
	if !lending {
		t.Error("no plugin uses what the protocol lends: the walk is broken")
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	docs := map[string]int{}
	for _, s := range sources(t) {
		if s.test() && strings.HasSuffix(s.tree.Name.Name, "_test") {
			continue
		}
		if !s.test() {
			docs[s.dir] += 0
		}
		if s.tree.Doc != nil && !s.test() && !ast.IsGenerated(s.tree) {
			docs[s.dir]++
		}
	}
	for dir, n := range docs {
		if strings.HasPrefix(dir, "protocol/syncpb") {
			continue // generated
		}
		if n != 1 {
			t.Errorf("%s: %d package comments, want exactly 1", dir, n)
		}
	}
}

func TestFilesAndFunctionsStayReadable(t *testing.T) {
	for _, s := range sources(t) {
		if ast.IsGenerated(s.tree) {
			continue
		}
		if n := s.set.Position(s.tree.End()).Line; n > maxFileLines {
			t.Errorf("%s: %d lines, at most %d: does a second noun live in it?", s.file, n, maxFileLines)
		}
		for _, decl := range s.tree.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; n > maxFuncLines {
				t.Errorf("%s: func %s has %d lines, at most %d", s.set.Position(f.Pos()), f.Name.Name, n, maxFuncLines)
			}
		}
	}
}

// golden are tests whose -update writes what was seen, for a person to look at; all others make
// a page of the code.
var golden = []string{"protocol/policy/policy_test.go"}

func TestEveryPageIsMadeByGenerate(t *testing.T) {
	pages := 0
	for _, s := range sources(t) {
		if !s.test() || strings.HasPrefix(s.file, "scripts/") {
			continue
		}
		text, err := os.ReadFile(filepath.Join("../..", filepath.FromSlash(s.file)))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), `flag.Bool("update"`) || slices.Contains(golden, s.file) {
			continue
		}
		pages++
		if !strings.Contains(string(text), "\n//go:generate go test -run ^") {
			t.Errorf("%s writes a page with -update that `make generate` does not: put //go:generate go test -run ^ITSNAME . -update above the flag", s.file)
		}
	}
	if pages < 8 {
		t.Errorf("found %d pages: the walk is broken", pages)
	}
}

func TestTopLevelIsFixed(t *testing.T) {
	found, err := filepath.Glob("../../*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		name := filepath.Base(f)
		if !strings.HasPrefix(name, ".") && name != "bin" && name != "dist" && name != "run" && !slices.Contains(topLevel, name) { // those are ignored build output
			t.Errorf("%s stands at the top level; it belongs below one of %v", name, topLevel)
		}
	}
}
