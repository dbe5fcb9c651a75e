package settings

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/crossdock/crossdock/protocol/spelling"
)

// file reads one file strictly and gives its entries by key.
func (r *reader) file(path string) map[string]any {
	out := map[string]any{}
	at := Origin{File: path}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%d bytes, the limit is %d", info.Size(), maxFile)
	}
	var text []byte
	if err == nil {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		var of *os.PathError
		if errors.As(err, &of) {
			err = of.Err
		}
		r.refuse(at, "%v", err)
		r.partly = true
		return out
	}
	parsed, err := parser.ParseBytes(text, 0)
	if err != nil {
		r.refuse(at, "%s", strings.TrimSpace(yaml.FormatError(err, false, true)))
		r.partly = true
		return out
	}
	var bodies []ast.Node
	for _, doc := range parsed.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	if len(bodies) > 1 {
		r.refuse(at, "%s", picture("a second document; a configuration is one", bodies[1]))
		r.partly = true
		return out
	}
	for _, body := range bodies {
		var plain plainness
		ast.Walk(&plain, body)
		if plain.fault != nil {
			r.refuse(at, "%s", picture("anchors, aliases and tags are not for a configuration; write the value itself", plain.fault))
			r.partly = true
			return out
		}
		r.level(path, "", r.nodes, body, out)
	}
	return out
}

// plainness finds what makes the text of a file another than what it says.
type plainness struct{ fault ast.Node }

func (p *plainness) Visit(n ast.Node) ast.Visitor {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		if p.fault == nil {
			p.fault = n
		}
		return nil
	}
	return p
}

// level takes the keys of one level of a file.
func (r *reader) level(path, prefix string, known []*node, body ast.Node, out map[string]any) {
	if empty(body) {
		return
	}
	pairs, ok := body.(ast.MapNode)
	if !ok {
		text := "a configuration is made of keys and values, such as " + known[0].name + ": ..."
		if prefix != "" {
			text = fmt.Sprintf("%s holds keys of its own: %s; write them below it, indented", strings.TrimSuffix(prefix, delimiter), names(known))
		}
		r.refuse(Origin{File: path, Line: line(body)}, "%s", picture(text, body))
		return
	}
	for pair := pairs.MapRange(); pair.Next(); {
		name, value := pair.Key().GetToken().Value, pair.Value()
		at := Origin{File: path, Line: line(pair.Key())}
		n := find(known, name)
		switch {
		case n == nil:
			r.refuse(at, "%s", picture(fmt.Sprintf("unknown field %q%s", name, r.meant(name, prefix, known)), pair.Key()))
		case n.key == nil:
			r.level(path, prefix+name+delimiter, n.children, value, out)
		case empty(value):
			r.refuse(at, "%s", picture(n.key.Name+" has no value; write one, or remove the line", pair.Key()))
		default:
			out[n.key.Name] = r.add(entry{origin: at, node: value})
		}
	}
}

func empty(n ast.Node) bool {
	switch n.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

func find(nodes []*node, name string) *node {
	for _, n := range nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func names(nodes []*node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.name)
	}
	return strings.Join(out, ", ")
}

// meant says which key may be meant by one that is not known: one of the same level that is
// written almost so, or one of this very name elsewhere.
func (r *reader) meant(name, prefix string, known []*node) string {
	best, distance := "", closeEnough(name)+1
	for _, n := range known {
		if d := spelling.Distance(strings.ToLower(name), strings.ToLower(n.name)); d < distance {
			best, distance = n.name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	var elsewhere []string
	for _, k := range flatten(r.nodes, nil) {
		if strings.HasSuffix(k.Name, delimiter+name) || k.Name == name {
			elsewhere = append(elsewhere, k.Name)
		}
	}
	if len(elsewhere) > 0 {
		return "; there is " + strings.Join(elsewhere, ", ")
	}
	if prefix == "" {
		return "; here stand " + names(known)
	}
	return fmt.Sprintf("; below %s stand %s", strings.TrimSuffix(prefix, delimiter), names(known))
}

// picture shows a text with the lines around a node and a mark below it.
func picture(text string, n ast.Node) string {
	return strings.TrimRight(yaml.FormatErrorWithToken(text, n.GetToken(), false, true), " \n")
}

func line(n ast.Node) int { return n.GetToken().Position.Line }

func nodeText(n ast.Node) string {
	if n == nil {
		return ""
	}
	return strings.Trim(n.String(), `"'`)
}

// shapes say how a value of a type is written.
var shapes = map[string]string{
	"duration": "a duration; write it like 90s, 15m or 12h", "number": "a whole number", "list": "a list; write it like [a, b]",
	"true or false": "true or false", "text": "a text",
}

// wrong says why a value is none of its key. A type with a format of its own says it itself.
func wrong(k Key, err error, text string) string {
	if shape, ok := shapes[k.Type]; ok {
		return fmt.Sprintf("%q is not %s", text, shape)
	}
	var detailed yaml.Error
	if errors.As(err, &detailed) {
		return detailed.GetMessage()
	}
	return err.Error()
}
