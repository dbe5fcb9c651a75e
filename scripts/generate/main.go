// Command generate makes all that is made of the code: Go of the proto files and of the API's
// document, configuration files, and every page that the code says of itself.
//
// It owns the pinned generators, in a module of its own so that no build of the product
// sees them, and needs no protoc: the compiler is a library. What is made of one package stands
// there, as a go:generate line. It refuses to know what messages and pages mean. Its invariant:
// the same sources give the same files, so that -check, which makes them in a copy of the
// tree, can tell whether what is committed is up to date.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const top = "../.." // from this module

// source is a folder with proto files, and the plugins that make Go of them.
type source struct {
	dir     string // from the top; imports are searched below it
	files   []string
	plugins []string
}

var sources = []source{
	{"protocol/syncpb", []string{"sync.proto"}, []string{"protoc-gen-go", "protoc-gen-connect-go"}},
	{"plugins/sdk", []string{"sdkpb/sdk.proto", "carrier/carrierpb/carrier.proto", "tax/taxpb/tax.proto"},
		[]string{"protoc-gen-go", "protoc-gen-go-grpc"}},
}

func main() {
	check := flag.Bool("check", false, "compare with what is there instead of writing it")
	flag.Parse()
	ctx, tree := context.Background(), filepath.FromSlash(top)
	var err error
	if *check {
		err = compare(ctx, tree)
	} else {
		err = generate(ctx, tree)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate makes everything in the tree below a directory; env is added for the go command.
func generate(ctx context.Context, tree string, env ...string) error {
	for _, s := range sources {
		if err := s.run(ctx, tree); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "go", "generate", "./...")
	cmd.Dir, cmd.Stderr = tree, os.Stderr
	cmd.Env = append(cmd.Environ(), env...)
	out, err := cmd.Output() // of tests that pass, nothing
	if err != nil {
		return fmt.Errorf("go generate ./...: %w\n%s", err, out)
	}
	return nil
}

func (s source) run(ctx context.Context, tree string) error {
	request, err := s.compile(ctx, tree)
	if err != nil {
		return err
	}
	for _, plugin := range s.plugins {
		files, err := ask(ctx, plugin, request)
		if err != nil {
			return err
		}
		for _, f := range files {
			path := filepath.Join(tree, filepath.FromSlash(s.dir), filepath.FromSlash(f.GetName()))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s source) compile(ctx context.Context, tree string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Join(tree, filepath.FromSlash(s.dir))}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments become Go comments
	}
	files, err := compiler.Compile(ctx, s.files...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: s.files, Parameter: proto.String("paths=source_relative")}
	seen := map[string]bool{}
	for _, f := range files {
		request.ProtoFile = withImports(request.ProtoFile, f, seen)
	}
	return request, nil
}

// withImports appends a file after those that it imports, each once: the order that plugins expect.
func withImports(out []*descriptorpb.FileDescriptorProto, f protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[f.Path()] {
		return out
	}
	seen[f.Path()] = true
	imports := f.Imports()
	for i := range imports.Len() {
		out = withImports(out, imports.Get(i).FileDescriptor, seen)
	}
	return append(out, protoutil.ProtoFromFileDescriptor(f))
}

// ask runs a plugin of this module, by the protocol that protoc speaks with plugins.
func ask(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", plugin, err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &response); err != nil {
		return nil, fmt.Errorf("%s: answer: %w", plugin, err)
	}
	if response.GetError() != "" {
		return nil, fmt.Errorf("%s: %s", plugin, response.GetError())
	}
	return response.GetFile(), nil
}
