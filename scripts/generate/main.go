// Command generate turns protocol/syncpb/sync.proto into Go.
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
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// The one proto file, relative to its directory.
const source = "sync.proto"

func main() {
	dir := flag.String("dir", "../../protocol/syncpb", "directory of "+source)
	check := flag.Bool("check", false, "compare with the committed files instead of writing them")
	flag.Parse()
	if err := run(context.Background(), *dir, *check); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, check bool) error {
	request, err := compile(ctx, dir)
	if err != nil {
		return err
	}
	var stale []error
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-connect-go"} {
		files, err := generate(ctx, plugin, request)
		if err != nil {
			return err
		}
		for _, f := range files {
			path := filepath.Join(dir, filepath.FromSlash(f.GetName()))
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

func compile(ctx context.Context, dir string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // the comments become Go comments
	}
	files, err := compiler.Compile(ctx, source)
	if err != nil {
		return nil, err
	}
	return &pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{source},
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
	}, nil
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
		return fmt.Errorf("%s is not what %s gives: run `make generate`", path, source)
	}
	return nil
}
