package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/logfile"
	"github.com/crossdock/crossdock/protocol/logline"
	"github.com/crossdock/crossdock/protocol/release"
	"github.com/crossdock/crossdock/protocol/settings"
)

// nodeName is what can stand in a certificate.
var nodeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Config is everything that a node can be told. NewConfig gives the defaults. What the tags
// say of a key is its documentation: the example file and the reference are made of it (see
// settings.Key).
type Config struct {
	Data      string          `yaml:"data" example:"/var/lib/crossdock" doc:"state, log, snapshots, CA"`
	Node      string          `yaml:"node" doc:"the node's name; it stays for the life of the data"`
	Approvals model.Approvals `yaml:"approvals" example:"dual" doc:"dual, or single for an installation of one person; fixed when the cluster begins; empty: dual"`
	Sync      SyncConfig      `yaml:"sync" doc:"the door for agents"`
	API       APIConfig       `yaml:"api" doc:"the door for people and programs"`
	Ops       OpsConfig       `yaml:"ops" doc:"the door for monitoring"`
	Cluster   ClusterConfig   `yaml:"cluster" doc:"the door for other nodes"`
	Limits    LimitsConfig    `yaml:"limits" doc:"those of the relay are fixed when the cluster begins"`
	Releases  ReleasesConfig  `yaml:"releases" doc:"of the agent, that this node is given to hand to sites"`
	Log       LogConfig       `yaml:"log" doc:"what is written to standard error"`

	// Dial makes the connections to other nodes; nil: TCP. Tests cut nodes off here.
	Dial func(ctx context.Context, node, address string) (net.Conn, error) `yaml:"-"`

	Level *slog.LevelVar `yaml:"-"` // of the logger, where a reload may change it

	AgentLife time.Duration `yaml:"-"` // of agents' certificates; 0: the default. For tests
	TrustAge  time.Duration `yaml:"-"` // for which an expired one may still be renewed; 0: the default. For tests

	tune func(*store.Config) // for tests of this package
}

// SyncConfig is the door for agents: one port number, UDP and TCP.
type SyncConfig struct {
	Listen string   `yaml:"listen" doc:"QUIC on UDP, TLS on TCP"`
	Names  []string `yaml:"names" example:"[crossdock.example.com]" doc:"by which agents and people reach this node, beside localhost and this host's name"`

	// Advertise is what agents are told of this node, so that they find it when another one fails.
	Advertise []string `yaml:"advertise" doc:"host:port that agents are told; default: names with the port of listen; without names the address of listen, or this host's name where that is any address"`
}

// APIConfig is the door for people and programs, https.
type APIConfig struct {
	Listen string `yaml:"listen" doc:"https"`
}

// OpsConfig is the door for monitoring, http: metrics, healthz, readyz.
type OpsConfig struct {
	Listen string `yaml:"listen" doc:"/metrics, /healthz, /readyz"`
}

// ClusterConfig is the door for other nodes of the control plane, TLS. Without it the node
// is alone.
type ClusterConfig struct {
	Listen  string `yaml:"listen" doc:"TLS, such as :7460; empty: this node is alone"`
	Address string `yaml:"address" doc:"host:port by which they reach it; default: listen, or this host's name"`
}

// LimitsConfig bounds what the node does.
type LimitsConfig struct {
	MailboxBytes int64         `yaml:"mailboxBytes" doc:"waiting for one agent"`
	RelayBytes   int64         `yaml:"relayBytes" doc:"waiting for all agents"`
	Start        time.Duration `yaml:"start" doc:"until the store of a node that is alone must be ready"`
	Shutdown     time.Duration `yaml:"shutdown" doc:"for requests under way to finish"`
}

// LogConfig says what is written to standard error.
type LogConfig struct {
	Level   string `yaml:"level" change:"reload" doc:"debug, info, warn or error"`
	Format  string `yaml:"format" doc:"text or json"`
	File    string `yaml:"file" doc:"of JSON lines beside standard error, rotated; empty: none"`
	MaxSize int64  `yaml:"maxSize" doc:"bytes of one file"`
	Keep    int    `yaml:"keep" doc:"files that were rotated away"`
}

func (c LogConfig) kept() logfile.Config {
	return logfile.Config{File: c.File, MaxSize: c.MaxSize, Keep: c.Keep}
}

// KeepLog has a logger write to the configured file too. What it gives is closed at the end.
func (c *Config) KeepLog(log *slog.Logger) (*slog.Logger, io.Closer, error) {
	return logfile.Also(log, c.Log.kept(), "crossdock")
}

// ReleasesConfig is about releases of the agent. Whether one may run at a site is for the
// agents to judge, by keys of their own.
type ReleasesConfig struct {
	Keys []string `yaml:"keys" doc:"minisign public keys, RW...; with any, a release that none of them signed is not taken"`
}

// NewConfig gives a configuration for one node that serves people on the same machine only.
func NewConfig() Config {
	return Config{
		Data: DefaultData(),
		Node: "node-1",
		Sync: SyncConfig{Listen: ":7443"},
		API:  APIConfig{Listen: "127.0.0.1:7480"},
		Ops:  OpsConfig{Listen: "127.0.0.1:7490"},
		Limits: LimitsConfig{
			MailboxBytes: model.DefaultMailboxBytes, RelayBytes: model.DefaultRelayBytes,
			Start: time.Minute, Shutdown: 10 * time.Second,
		},
		Log: LogConfig{Level: "info", Format: "text", MaxSize: logfile.DefaultSize, Keep: logfile.DefaultKeep},
	}
}

// DefaultData is where a node keeps its data when nobody says.
func DefaultData() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "Crossdock", "data")
	}
	return "/var/lib/crossdock"
}

// ErrConfig marks a configuration that cannot be used.
var ErrConfig = errors.New("configuration")

// VariablePrefix begins the environment variables that stand over the configuration file.
const VariablePrefix = "CROSSDOCK_"

// Read takes the sources over the defaults. What is wrong in one of them is in the error,
// and the rest is read all the same; the check of the whole is Validate's. A key that is not
// known is an error: it would be a setting that somebody believes in.
func Read(sources settings.Sources) (Config, *settings.Values, error) {
	config := NewConfig()
	values, err := settings.Read(&config, sources)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return config, values, err
}

// Example is a configuration file with every key.
func Example() string {
	return settings.Example(NewConfig(), `A control-plane node's configuration, with every key and its default unless a comment
says otherwise.
`)
}

// LoadConfig reads a file over the defaults.
func LoadConfig(file string) (Config, error) {
	config, _, err := Read(settings.Sources{File: file})
	return config, err
}

// Validate reports everything that is wrong, before anything is opened.
func (c *Config) Validate() error {
	if wrong := c.Faults(); wrong != nil {
		return fmt.Errorf("%w: %w", ErrConfig, wrong)
	}
	return nil
}

// Faults is everything that is wrong, each with its key before it.
func (c *Config) Faults() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if err := c.Log.kept().Validate(); err != nil {
		refuse("log: %w", err)
	}
	if c.Data == "" {
		refuse("data: name a directory")
	}
	if !nodeName.MatchString(c.Node) {
		refuse("node: %q is not a name of small letters, digits, dot, dash and underscore", c.Node)
	}
	switch c.Approvals {
	case "", model.ApprovalsDual, model.ApprovalsSingle:
	default:
		refuse("approvals: %q is neither dual nor single", c.Approvals)
	}
	for _, door := range []struct{ name, address string }{{"sync.listen", c.Sync.Listen}, {"api.listen", c.API.Listen}, {"ops.listen", c.Ops.Listen}} {
		if _, _, err := settings.HostPort(door.address); err != nil {
			refuse("%s: %q is not an address with a port up to 65535, such as 127.0.0.1:7480 or :7443", door.name, door.address)
		}
	}
	if _, _, err := settings.HostPort(c.Cluster.Listen); err != nil && c.Cluster.Listen != "" {
		refuse("cluster.listen: %q is not an address with a port up to 65535, such as :7470 or 10.0.0.5:7470", c.Cluster.Listen)
	}
	if host, port, err := settings.HostPort(c.Cluster.Address); c.Cluster.Address != "" && (err != nil || host == "" || port == "") {
		refuse("cluster.address: %q is not a host and a port up to 65535 by which other nodes reach this one", c.Cluster.Address)
	}
	if c.Cluster.Address != "" && c.Cluster.Listen == "" {
		refuse("cluster.address: without cluster.listen no node can reach this one")
	}
	for _, name := range c.Sync.Names {
		if name == "" || strings.ContainsAny(name, "/ ") || net.ParseIP(name) == nil && strings.Contains(name, ":") {
			refuse("sync.names: %q is not a host name or an address, without port", name)
		}
	}
	for _, address := range c.Sync.Advertise {
		if host, port, err := settings.HostPort(address); err != nil || host == "" || port == "" {
			refuse("sync.advertise: %q is not a host and a port up to 65535", address)
		}
	}
	const least = 1 << 20 // a mailbox takes at least one block
	if c.Limits.MailboxBytes < least || c.Limits.RelayBytes < c.Limits.MailboxBytes {
		refuse("limits: mailboxBytes at least %d, and relayBytes not less than mailboxBytes", least)
	}
	if _, err := release.ParseKeys(c.Releases.Keys); err != nil {
		refuse("releases.keys: %w", err)
	}
	if c.Limits.Start <= 0 || c.Limits.Shutdown <= 0 {
		refuse("limits: start and shutdown are durations such as 10s")
	}
	if err := c.Log.form().Validate(); err != nil {
		wrong = append(wrong, err) // each has its place
	}
	return errors.Join(wrong...)
}

func (c LogConfig) form() logline.Form { return logline.Form{Level: c.Level, Format: c.Format} }

// NewLogger makes the logger that the configuration asks for.
func (c *Config) NewLogger(w io.Writer) *slog.Logger { return c.Log.form().Logger(w, c.Level) }

// advertised is where other nodes will reach this one, before it listens.
func (c *Config) advertised() (string, error) {
	if c.Cluster.Address != "" {
		return c.Cluster.Address, nil
	}
	if _, port, err := net.SplitHostPort(c.Cluster.Listen); err != nil || port == "0" {
		return "", fmt.Errorf("%w: cluster.listen: %q has no port that others could know; give one, or cluster.address", ErrConfig, c.Cluster.Listen)
	}
	return reachable(c.Cluster.Listen), nil
}
