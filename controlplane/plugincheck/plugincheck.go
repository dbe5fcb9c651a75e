// Package plugincheck looks at the program of a plugin before any site runs it: for which system
// it is, its hash, what it says of itself, and whether a policy document fits it.
//
// It owns that look and refuses to configure a plugin: nothing is asked that could leave a mark
// anywhere. Its invariant: what it starts has ended when it answers.
package plugincheck

import (
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
	"github.com/crossdock/crossdock/plugins/sdk/tax"
	"github.com/crossdock/crossdock/protocol/policy"
)

const (
	startTimeout = 30 * time.Second // until it serves
	askTimeout   = 10 * time.Second
	maxProgram   = 1 << 30
)

// Here is the system and architecture that this program can start programs of.
const Here = runtime.GOOS + "/" + runtime.GOARCH

// Program is what its file says.
type Program struct {
	Path     string
	Platform string // such as linux/amd64; empty: the file does not say
	Sum      string // SHA-256 in hexadecimal
}

// Read looks at a file.
func Read(path string) (*Program, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxProgram {
		return nil, fmt.Errorf("%s is no regular file of at most %d bytes", path, maxProgram)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() // opened for reading
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &Program{Path: path, Platform: platform(file), Sum: hex.EncodeToString(sum.Sum(nil))}, nil
}

// platform reads which system and architecture a program is for.
func platform(file io.ReaderAt) string {
	if info, err := buildinfo.Read(file); err == nil {
		of := map[string]string{}
		for _, s := range info.Settings {
			of[s.Key] = s.Value
		}
		if of["GOOS"] != "" && of["GOARCH"] != "" {
			return of["GOOS"] + "/" + of["GOARCH"]
		}
	}
	var system, machine string
	if f, err := elf.NewFile(file); err == nil {
		system, machine = "linux", map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[f.Machine]
	} else if f, err := pe.NewFile(file); err == nil {
		system, machine = "windows", map[uint16]string{pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_ARM64: "arm64"}[f.Machine]
	} else if f, err := macho.NewFile(file); err == nil {
		system, machine = "darwin", map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[f.Cpu]
	}
	if machine == "" {
		return ""
	}
	return system + "/" + machine
}

// Self is what a plugin says of itself before it is configured.
type Self struct {
	Kind string // carrier or tax
	sdk.Description
}

// Ask starts the program as an agent does, without anything of this process's environment, asks
// what it is, and ends it.
func (p *Program) Ask(ctx context.Context) (*Self, error) {
	dir, err := os.MkdirTemp("", "plugin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	sum, err := hex.DecodeString(p.Sum)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, p.Path)
	cmd.Dir, cmd.Env = dir, []string{"TMPDIR=" + dir, "TMP=" + dir, "TEMP=" + dir}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig: sdk.Handshake, Cmd: cmd, AutoMTLS: true, SkipHostEnv: true, StartTimeout: startTimeout,
		Plugins:          goplugin.PluginSet{carrier.Kind: &carrier.Plugin{}, tax.Kind: &tax.Plugin{}},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		SecureConfig:     &goplugin.SecureConfig{Checksum: sum, Hash: sha256.New()},
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		Logger:           hclog.NewNullLogger(),
		GRPCDialOptions:  []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(sdk.MaxMessageSize))},
	})
	defer client.Kill()
	protocol, err := client.Client()
	if err != nil {
		return nil, fmt.Errorf("it does not start as a plugin: %w", shortened(err))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return describe(ctx, protocol)
}

// describe asks for each kind until the program knows one.
func describe(ctx context.Context, protocol goplugin.ClientProtocol) (*Self, error) {
	served, err := protocol.Dispense(carrier.Kind)
	if err != nil {
		return nil, err
	}
	of, err := served.(carrier.Carrier).Describe(ctx)
	if err == nil {
		return &Self{carrier.Kind, of.Description}, nil
	}
	if sdk.ClassOf(err) != sdk.NotSupported {
		return nil, fmt.Errorf("it does not say what it is: %w", shortened(err))
	}
	if served, err = protocol.Dispense(tax.Kind); err != nil {
		return nil, err
	}
	engine, err := served.(tax.Engine).Describe(ctx)
	if err != nil {
		return nil, fmt.Errorf("it is neither a carrier nor a tax engine: %w", shortened(err))
	}
	return &Self{tax.Kind, engine.Description}, nil
}

// shortened keeps an error from repeating all that a program wrote.
func shortened(err error) error {
	const most = 500
	if text := err.Error(); len(text) > most {
		return errors.New(strings.ToValidUTF8(text[:most], "") + " ...")
	}
	return err
}

// Name is what policy calls the program.
func (p *Program) Name() string { return strings.TrimSuffix(filepath.Base(p.Path), ".exe") }

// Uses lists the plugins of a policy that are to run the program.
func (p *Program) Uses(set *policy.Set) (out []*policy.Plugin) {
	for _, name := range slices.Sorted(maps.Keys(set.Plugins)) {
		if one := set.Plugins[name]; strings.TrimSuffix(one.Program, ".exe") == p.Name() {
			out = append(out, one)
		}
	}
	return out
}

// Misfits says where a document does not fit the program. self may be nil: what it would say is
// not known.
func (p *Program) Misfits(doc *policy.Plugin, self *Self) (out []string) {
	fault := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch want, named := doc.SHA256[p.Platform]; {
	case p.Platform == "" && !slices.Contains(slices.Collect(maps.Values(doc.SHA256)), p.Sum):
		fault("none of its hashes is that of the program")
	case p.Platform != "" && !named:
		fault("it has no hash for %s; write %s: %s", p.Platform, p.Platform, p.Sum)
	case p.Platform != "" && want != p.Sum:
		fault("its hash for %s is %s, the program's is %s", p.Platform, want, p.Sum)
	}
	if self == nil {
		return out
	}
	if doc.Kind != self.Kind {
		fault("it is of kind %s, the program is of kind %s", doc.Kind, self.Kind)
	}
	known := map[string]bool{}
	for _, s := range self.Config {
		known[s.Name] = true
		_, plain := doc.Settings[s.Name]
		_, secret := doc.Secrets[s.Name]
		switch {
		case s.Secret && plain:
			fault("setting %s is a secret: write it below secrets, as file:name, env:NAME or cred:name", s.Name)
		case s.Required && !plain && !secret:
			fault("setting %s is missing: %s", s.Name, s.Help)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Settings)) {
		if !known[name] {
			fault("the program knows no setting %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Secrets)) {
		if !known[name] {
			fault("the program knows no setting %s, which is written as a secret", name)
		}
	}
	return out
}
