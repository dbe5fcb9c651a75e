package controlplane

import (
	"bytes"
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

	"github.com/goccy/go-yaml"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/store"
	"github.com/crossdock/crossdock/protocol/logfile"
)

// nodeName is what can stand in a certificate.
var nodeName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

// Config is everything that a node can be told. NewConfig gives the defaults.
type Config struct {
	Data      string          `yaml:"data"`      // directory of everything that the node keeps
	Node      string          `yaml:"node"`      // name of this node; it stays for the life of the data directory
	Approvals model.Approvals `yaml:"approvals"` // dual or single; looked at when the cluster begins, and never changed later
	Sync      SyncConfig      `yaml:"sync"`
	API       APIConfig       `yaml:"api"`
	Ops       OpsConfig       `yaml:"ops"`
	Cluster   ClusterConfig   `yaml:"cluster"`
	Limits    LimitsConfig    `yaml:"limits"`
	Log       LogConfig       `yaml:"log"`

	// Dial makes the connections to other nodes; nil: TCP. Tests cut nodes off here.
	Dial func(ctx context.Context, node, address string) (net.Conn, error) `yaml:"-"`

	AgentLife time.Duration `yaml:"-"` // of agents' certificates; 0: the default. For tests
	TrustAge  time.Duration `yaml:"-"` // for which an expired one may still be renewed; 0: the default. For tests

	dataSaid bool                // the file says data
	tune     func(*store.Config) // for tests of this package
}

// DataSaid reports whether the configuration comes from a file that names the data directory.
func (c *Config) DataSaid() bool { return c.dataSaid }

// SyncConfig is the door for agents: one port number, UDP and TCP.
type SyncConfig struct {
	Listen string   `yaml:"listen"`
	Names  []string `yaml:"names"` // host names and addresses by which agents and people reach this node

	// Advertise is what agents are told of this node, host:port, so that they find it when
	// another one fails. Default: names, with the port of listen.
	Advertise []string `yaml:"advertise"`
}

// APIConfig is the door for people and programs, https.
type APIConfig struct {
	Listen string `yaml:"listen"`
}

// OpsConfig is the door for monitoring, http: metrics, healthz, readyz.
type OpsConfig struct {
	Listen string `yaml:"listen"`
}

// ClusterConfig is the door for other nodes of the control plane, TLS. Without it the node
// is alone.
type ClusterConfig struct {
	Listen  string `yaml:"listen"`
	Address string `yaml:"address"` // host:port by which the others reach it; default: what it listens on, or this host's name
}

// LogConfig says which file the log is kept in, beside standard error.
type LogConfig struct {
	File    string `yaml:"file"`    // of JSON lines, rotated; empty: none
	MaxSize int64  `yaml:"maxSize"` // bytes of one file
	Keep    int    `yaml:"keep"`    // files that were rotated away
}

func (l LogConfig) kept() logfile.Config {
	return logfile.Config{File: l.File, MaxSize: l.MaxSize, Keep: l.Keep}
}

// KeepLog has a logger write to the configured file too. What it gives is closed at the end.
func (c *Config) KeepLog(log *slog.Logger) (*slog.Logger, io.Closer, error) {
	return logfile.Also(log, c.Log.kept(), "crossdock")
}

// LimitsConfig bounds what the node does. Those of the relay are fixed when the cluster begins.
type LimitsConfig struct {
	MailboxBytes int64         `yaml:"mailboxBytes"` // waiting for one agent
	RelayBytes   int64         `yaml:"relayBytes"`   // waiting for all agents
	Start        time.Duration `yaml:"start"`        // until the store of a node that is alone must be ready
	Shutdown     time.Duration `yaml:"shutdown"`     // for requests under way to finish
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
		Log: LogConfig{MaxSize: logfile.DefaultSize, Keep: logfile.DefaultKeep},
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

// LoadConfig reads a file over the defaults. A key that is not known is an error: it would
// be a setting that somebody believes in.
func LoadConfig(file string) (Config, error) {
	config := NewConfig()
	info, err := os.Stat(file)
	if err != nil {
		return config, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if info.Size() > maxConfig {
		return config, fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrConfig, file, info.Size(), maxConfig)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return config, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return config, nil
	}
	const unsaid = "\x00" // which no file can say
	config.Data = unsaid
	if err := yaml.UnmarshalWithOptions(text, &config, yaml.Strict()); err != nil {
		return config, fmt.Errorf("%w: %s: %s", ErrConfig, file, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if config.dataSaid = config.Data != unsaid; !config.dataSaid {
		config.Data = DefaultData()
	}
	return config, nil
}

// Validate reports everything that is wrong, before anything is opened.
func (c *Config) Validate() error {
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
	for name, address := range map[string]string{"sync.listen": c.Sync.Listen, "api.listen": c.API.Listen, "ops.listen": c.Ops.Listen} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			refuse("%s: %q is not an address such as 127.0.0.1:7480 or :7443", name, address)
		}
	}
	if _, _, err := net.SplitHostPort(c.Cluster.Listen); err != nil && c.Cluster.Listen != "" {
		refuse("cluster.listen: %q is not an address such as :7470 or 10.0.0.5:7470", c.Cluster.Listen)
	}
	if host, port, err := net.SplitHostPort(c.Cluster.Address); c.Cluster.Address != "" && (err != nil || host == "" || port == "") {
		refuse("cluster.address: %q is not a host and a port by which other nodes reach this one", c.Cluster.Address)
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
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			refuse("sync.advertise: %q is not a host and a port", address)
		}
	}
	const least = 1 << 20 // a mailbox takes at least one block
	if c.Limits.MailboxBytes < least || c.Limits.RelayBytes < c.Limits.MailboxBytes {
		refuse("limits: mailboxBytes at least %d, and relayBytes not less than mailboxBytes", least)
	}
	if c.Limits.Start <= 0 || c.Limits.Shutdown <= 0 {
		refuse("limits: start and shutdown are durations such as 10s")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %w", ErrConfig, errors.Join(wrong...))
	}
	return nil
}

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
