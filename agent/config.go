package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/protocol/logfile"
)

// Config is the agent's configuration file. Everything that the site's systems need is in
// policy; here stands only what belongs to this one server.
type Config struct {
	Data         string       `yaml:"data"`    // directory of queues, identity and policy
	Secrets      string       `yaml:"secrets"` // directory that file: references are resolved in; default <data>/secrets
	ControlPlane ControlPlane `yaml:"controlplane"`
	Intake       Intake       `yaml:"intake"`
	Ops          Ops          `yaml:"ops"`
	Plugins      Plugins      `yaml:"plugins"`
	Journal      Journal      `yaml:"journal"`
	Calls        Calls        `yaml:"calls"`
	Documents    Documents    `yaml:"documents"`
	Log          Log          `yaml:"log"`
	Doctor       Doctor       `yaml:"doctor"`

	// What follows is for programs that embed the agent; it has no place in the file.
	Version string            `yaml:"-"`
	File    string            `yaml:"-"` // that it was read from; empty: none
	Logger  *slog.Logger      `yaml:"-"`
	Hook    func(step string) `yaml:"-"` // called at the steps of journal and delivery, for crash tests
	Tuning  Tuning            `yaml:"-"`
	Dialer  uplink.Dialer     `yaml:"-"` // opens the sessions with the control plane; nil: over the network, as ControlPlane says
}

// ControlPlane says how to reach it.
type ControlPlane struct {
	Addresses []string `yaml:"addresses"` // host:port of its nodes
	Transport string   `yaml:"transport"` // auto, quic or tcp
	Proxy     string   `yaml:"proxy"`     // http://host:port for TCP; empty: HTTPS_PROXY of the environment
}

// Intake is the door for the site's systems.
type Intake struct {
	Listen      string `yaml:"listen"`
	Certificate string `yaml:"certificate"` // PEM files; both empty: plain HTTP, on loopback only
	Key         string `yaml:"key"`
}

// Ops is the door for operators: metrics, health, status, queue commands.
type Ops struct {
	Listen string `yaml:"listen"`
}

// Plugins says where the programs are that policy may have run.
type Plugins struct {
	Dir string `yaml:"dir"` // the directory that plugin programs are put into; default <data>/plugins
}

// Journal bounds what is kept.
type Journal struct {
	Quota   Bytes         `yaml:"quota"`   // of the whole journal; less if the disk has less
	Segment Bytes         `yaml:"segment"` // of one file
	Retain  time.Duration `yaml:"retain"`  // how long delivered events stay for trace, replay and recovery
}

// Calls bounds the calls to carriers and tax engines.
type Calls struct {
	Deadline time.Duration `yaml:"deadline"` // of a call that waits for the line, where the caller names none
	Retain   time.Duration `yaml:"retain"`   // how long finished calls are kept, to answer repeats
	Quota    Bytes         `yaml:"quota"`    // of the finished calls; the oldest are let go first
}

// Documents bounds what is kept beside events: labels, manifests, proofs.
type Documents struct {
	Quota  Bytes         `yaml:"quota"`  // of all
	Retain time.Duration `yaml:"retain"` // how long one stays after an event has named it last
}

// Log says what is written to standard error, and to a file beside it.
type Log struct {
	Level   string `yaml:"level"`   // debug, info, warn, error
	Format  string `yaml:"format"`  // text or json
	File    string `yaml:"file"`    // of JSON lines, rotated; empty: none
	MaxSize Bytes  `yaml:"maxSize"` // of one file
	Keep    int    `yaml:"keep"`    // files that were rotated away
}

// Doctor says what the doctor cannot know by itself.
type Doctor struct {
	NTP string `yaml:"ntp"` // time server that the clock is compared with; empty: what systemd-timesyncd says
}

// Tuning shortens what tests would otherwise wait for. Zero fields keep the defaults.
type Tuning struct {
	Silence      time.Duration
	StatusEvery  time.Duration
	FullRetry    time.Duration
	LeaseRetry   time.Duration
	NumbersGrace time.Duration
	ReconnectMax time.Duration
	PushPause    time.Duration
	RetryQUIC    time.Duration
	ParkAfter    time.Duration
	TrimEvery    time.Duration
	Documents    documents.Tuning
}

// Bytes is a size such as 512MB or 10GB; units are powers of 1024.
type Bytes int64

// UnmarshalYAML reads a number of bytes or a number with a unit.
func (b *Bytes) UnmarshalYAML(text []byte) error {
	s := strings.ToUpper(strings.TrimSpace(strings.Trim(strings.TrimSpace(string(text)), `"'`)))
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		unit   int64
	}{{"KB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = strings.TrimSpace(rest), u.unit
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size; write it like 512MB or 10GB", strings.TrimSpace(string(text)))
	}
	*b = Bytes(n * unit)
	return nil
}

// DefaultConfig is what holds for what the file leaves out.
func DefaultConfig() Config {
	return Config{
		Data:         "/var/lib/crossdock-agent",
		ControlPlane: ControlPlane{Transport: "auto"},
		Intake:       Intake{Listen: "127.0.0.1:7080"},
		Ops:          Ops{Listen: "127.0.0.1:7090"},
		Journal:      Journal{Quota: 10 << 30, Segment: 64 << 20, Retain: 7 * 24 * time.Hour},
		Calls:        Calls{Deadline: 12 * time.Hour, Retain: 30 * 24 * time.Hour, Quota: 1 << 30},
		Documents:    Documents{Quota: 2 << 30, Retain: 30 * 24 * time.Hour},
		Log:          Log{Level: "info", Format: "text", MaxSize: logfile.DefaultSize, Keep: logfile.DefaultKeep},
	}
}

// ReadConfig reads a file over the defaults and checks the whole.
func ReadConfig(path string) (Config, error) {
	cfg, err := ReadUnchecked(path)
	if err != nil {
		return cfg, err
	}
	if err := cfg.Validate(); err != nil {
		return cfg, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// ReadUnchecked reads a file over the defaults, for who completes it and then calls
// Validate. Unknown keys are errors with their place.
func ReadUnchecked(path string) (Config, error) {
	cfg := DefaultConfig()
	text, err := os.ReadFile(path)
	if err != nil {
		return cfg, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text), yaml.DisallowUnknownField())
	if err := decoder.Decode(&cfg); err != nil && !errors.Is(err, io.EOF) { // an empty file is all defaults
		return cfg, fmt.Errorf("%s: %s", path, yaml.FormatError(err, false, true))
	}
	return cfg, nil
}

// Validate fills what follows from other fields and reports everything that is wrong.
func (c *Config) Validate() error {
	var problems []error
	fault := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		fault("data: a directory is required")
	}
	if c.Secrets == "" {
		c.Secrets = filepath.Join(c.Data, "secrets")
	}
	if c.Plugins.Dir == "" {
		c.Plugins.Dir = filepath.Join(c.Data, "plugins")
	}
	if len(c.ControlPlane.Addresses) == 0 {
		fault("controlplane.addresses: at least one host:port is required")
	}
	for _, a := range c.ControlPlane.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			fault("controlplane.addresses: %q is not host:port, such as crossdock.example.com:7443", a)
		}
	}
	switch c.ControlPlane.Transport {
	case "auto", "quic", "tcp":
	default:
		fault("controlplane.transport: %q; it is auto, quic or tcp", c.ControlPlane.Transport)
	}
	for _, l := range []struct{ name, address string }{{"intake.listen", c.Intake.Listen}, {"ops.listen", c.Ops.Listen}} {
		if _, _, err := net.SplitHostPort(l.address); err != nil {
			fault("%s: %q is not host:port, such as 127.0.0.1:7080", l.name, l.address)
		}
	}
	if (c.Intake.Certificate == "") != (c.Intake.Key == "") {
		fault("intake: certificate and key go together")
	}
	if c.Intake.Certificate == "" && !loopback(c.Intake.Listen) {
		fault("intake.listen: %s is reachable from other machines; set intake.certificate and intake.key, or listen on 127.0.0.1", c.Intake.Listen)
	}
	if !loopback(c.Ops.Listen) {
		fault("ops.listen: %s is reachable from other machines; it is for this machine only, such as 127.0.0.1:7090", c.Ops.Listen)
	}
	if c.Journal.Quota < 1<<20 || c.Journal.Segment < 64<<10 || c.Journal.Retain < 0 {
		fault("journal: quota is at least 1MB, segment at least 64KB, retain not negative")
	}
	if c.Calls.Deadline <= 0 || c.Calls.Retain <= 0 || c.Calls.Quota < 1<<20 {
		fault("calls: deadline and retain are positive, quota is at least 1MB")
	}
	if c.Documents.Quota < 1<<20 || c.Documents.Retain < time.Minute {
		fault("documents: quota is at least 1MB, retain at least 1m")
	}
	if _, err := c.level(); err != nil {
		fault("log.level: %w", err)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		fault("log.format: %q; it is text or json", c.Log.Format)
	}
	if err := c.Log.kept().Validate(); err != nil {
		fault("log: %w", err)
	}
	return errors.Join(problems...)
}

func (l Log) kept() logfile.Config {
	return logfile.Config{File: l.File, MaxSize: int64(l.MaxSize), Keep: l.Keep}
}

// KeepLog has a logger write to the configured file too. What it gives is closed at the end.
func (c *Config) KeepLog(log *slog.Logger) (*slog.Logger, io.Closer, error) {
	return logfile.Also(log, c.Log.kept(), "crossdock-agent")
}

func (c *Config) level() (level slog.Level, err error) {
	return level, level.UnmarshalText([]byte(c.Log.Level))
}

// NewLogger makes the logger that the configuration asks for.
func (c *Config) NewLogger(w io.Writer) *slog.Logger {
	level, err := c.level()
	if err != nil {
		level = slog.LevelInfo // Validate has reported it
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Log.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Place is the data directory by the one name that does not depend on who asks from where.
func (c *Config) Place() string {
	place, err := filepath.Abs(c.Data)
	if err != nil {
		return c.Data // nobody knows where this process is
	}
	if real, err := filepath.EvalSymlinks(place); err == nil {
		return real
	}
	return place
}

// IdentityDir is where the agent's key and certificate are.
func (c *Config) IdentityDir() string { return filepath.Join(c.Data, "identity") }

// JournalDir is where the journal's files are.
func (c *Config) JournalDir() string { return filepath.Join(c.Data, "journal") }
