// Command generate turns the proto files of the tree into Go.
//
// It owns the pinned generators, in a module of its own so that no build of the product
// sees them, and needs no protoc: the compiler is a library. It refuses to know what the
// messages mean. Its invariant: the same sources give the same files, so that -check can
// tell whether what is committed is up to date.
package main

import (
	"bytes"
	"context"
	"errors"
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

// source is a folder with proto files, and the plugins that make Go of them.
type source struct {
	dir     string // from this module; imports are searched below it
	files   []string
	plugins []string
}

var sources = []source{
	{"../../protocol/syncpb", []string{"sync.proto"}, []string{"protoc-gen-go", "protoc-gen-connect-go"}},
	{"../../plugins/sdk", []string{"sdkpb/sdk.proto", "carrier/carrierpb/carrier.proto", "tax/taxpb/tax.proto"},
		[]string{"protoc-gen-go", "protoc-gen-go-grpc"}},
}

func main() {
	check := flag.Bool("check", false, "compare with the committed files instead of writing them")
	flag.Parse()
	var failed error
	for _, s := range sources {
		failed = errors.Join(failed, s.run(context.Background(), *check))
	}
	if failed != nil {
		fmt.Fprintln(os.Stderr, "generate:", failed)
		os.Exit(1)
	}
}

func (s source) run(ctx context.Context, check bool) error {
	request, err := s.compile(ctx)
	if err != nil {
		return err
	}
	var stale []error
	for _, plugin := range s.plugins {
		files, err := generate(ctx, plugin, request)
		if err != nil {
			return err
		}
		for _, f := range files {
			path := filepath.Join(filepath.FromSlash(s.dir), filepath.FromSlash(f.GetName()))
			if check {
				stale = append(stale, compare(path, f.GetContent()))
				continue
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(f.GetContent()), 0o644); err != nil {
				return err
			}
		}
	}
	return errors.Join(stale...)
}

func (s source) compile(ctx context.Context) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.FromSlash(s.dir)}}),
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

// generate runs a plugin of this module, by the protocol that protoc speaks with plugins.
func generate(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
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

func compare(path, want string) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// A checkout on Windows may have changed the line ends.
	if want != string(bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n"))) {
		return fmt.Errorf("%s is not what its proto file gives: run `make generate`", path)
	}
	return nil
}
