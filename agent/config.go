package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/tracing"
	"github.com/crossdock/crossdock/agent/uplink"
	"github.com/crossdock/crossdock/agent/versions"
	"github.com/crossdock/crossdock/protocol/logfile"
	"github.com/crossdock/crossdock/protocol/logline"
	"github.com/crossdock/crossdock/protocol/settings"
)

// Config is the agent's configuration. Everything that the site's systems need is in policy;
// here stands only what belongs to this one server. What the tags say of a key is its
// documentation: the example file and the reference are made of it (see settings.Key).
type Config struct {
	Data         string       `yaml:"data" doc:"directory of queues, identity and policy"`
	Secrets      string       `yaml:"secrets" example:"/etc/crossdock-agent/secrets" doc:"where file: references are looked up; default <data>/secrets"`
	ControlPlane ControlPlane `yaml:"controlplane" doc:"how to reach it"`
	Intake       Intake       `yaml:"intake" doc:"the door for the site's systems"`
	Ops          Ops          `yaml:"ops" doc:"the door for operators"`
	Plugins      Plugins      `yaml:"plugins" doc:"carrier and tax programs"`
	Journal      Journal      `yaml:"journal" doc:"events, accepted and received"`
	Calls        Calls        `yaml:"calls" doc:"to carriers and tax engines"`
	Documents    Documents    `yaml:"documents" doc:"labels, manifests, proofs: what is kept beside events"`
	Disk         Disk         `yaml:"disk" doc:"room on the disks, and what happens as it gets little"`
	Upgrades     Upgrades     `yaml:"upgrades" doc:"how other versions of this program come to run here"`
	Tracing      Tracing      `yaml:"tracing" doc:"the ways of events, to an OpenTelemetry collector"`
	Log          Log          `yaml:"log" doc:"what is written to standard error, and to a file"`
	Doctor       Doctor       `yaml:"doctor" doc:"what the doctor cannot know by itself"`

	// What follows is for programs that embed the agent; it has no place in the file.
	Version string            `yaml:"-"`
	File    string            `yaml:"-"` // that it was read from; empty: none
	Logger  *slog.Logger      `yaml:"-"`
	Level   *slog.LevelVar    `yaml:"-"` // of Logger, where a reload may change it
	Reread  Reread            `yaml:"-"` // reads the configuration again for a reload; nil: there is none
	Hook    func(step string) `yaml:"-"` // called at the steps of journal and delivery, for crash tests
	Tuning  Tuning            `yaml:"-"`
	Start   versions.Start    `yaml:"-"` // as what this process was chosen; zero: nothing was
	Keys    []string          `yaml:"-"` // that the program was built with, for where Upgrades has none
	Dialer  uplink.Dialer     `yaml:"-"` // opens the sessions with the control plane; nil: over the network, as ControlPlane says
}

// Reread reads a configuration from where it was read first.
type Reread func() (Config, error)

// ControlPlane says how to reach it.
type ControlPlane struct {
	Addresses     []string `yaml:"addresses" change:"reload" example:"[crossdock.example.com:7443]" doc:"required: host:port of its nodes, one port number for UDP and TCP"`
	Transport     string   `yaml:"transport" doc:"auto, quic or tcp"`
	Proxy         string   `yaml:"proxy" change:"reload" doc:"http://host:port or http://user@host:port for TCP; empty: HTTPS_PROXY of the environment"`
	ProxyPassword string   `yaml:"proxyPassword" change:"reload" secret:"true" doc:"of the proxy's user, as file:NAME, env:NAME or cred:NAME"`
}

// Intake is the door for the site's systems.
type Intake struct {
	Listen      string `yaml:"listen" doc:"systems post CloudEvents here"`
	Certificate string `yaml:"certificate" change:"reload" doc:"PEM file; with key required to listen beyond this machine; a reload reads both files again"`
	Key         string `yaml:"key" change:"reload" doc:"PEM file of the certificate's key"`
}

// Ops is the door for operators: metrics, health, status, queue commands.
type Ops struct {
	Listen string `yaml:"listen" doc:"/metrics, /healthz, /readyz, and what the commands ask; on this machine only"`
}

// Plugins says where the programs are that policy may have run.
type Plugins struct {
	Dir string `yaml:"dir" example:"/var/lib/crossdock-agent/plugins" doc:"programs that policy names; default <data>/plugins"`
}

// Journal bounds what is kept.
type Journal struct {
	Quota   Bytes         `yaml:"quota" change:"reload" doc:"of the whole, less if the disk has less; intake answers 507 at 90 percent of it"`
	Segment Bytes         `yaml:"segment" doc:"of one file of the journal"`
	Retain  time.Duration `yaml:"retain" change:"reload" doc:"delivered events stay for trace, replay and recovery"`
}

// Calls bounds the calls to carriers and tax engines.
type Calls struct {
	Deadline time.Duration `yaml:"deadline" change:"reload" doc:"until when what waits for the line is to be done, where the caller does not say"`
	Retain   time.Duration `yaml:"retain" doc:"finished calls stay, to answer who asks again"`
	Quota    Bytes         `yaml:"quota" change:"reload" doc:"of finished calls; the oldest go first"`
}

// Documents bounds what is kept beside events: labels, manifests, proofs.
type Documents struct {
	Quota  Bytes         `yaml:"quota" change:"reload" doc:"of all; systems are answered 507 at 90 percent of it"`
	Retain time.Duration `yaml:"retain" change:"reload" doc:"one goes when no event has named it for so long, and none that does is on its way"`
}

// Tracing sends the ways of events to an OpenTelemetry collector.
type Tracing struct {
	Endpoint string  `yaml:"endpoint" doc:"base address of its OTLP over HTTP, such as http://127.0.0.1:4318; empty: off"`
	Sample   float64 `yaml:"sample" doc:"of events that bring no traceparent, 0 to 1; the same at every agent keeps traces whole"`
}

// Log says what is written to standard error, and to a file beside it.
type Log struct {
	Level   string `yaml:"level" change:"reload" doc:"debug, info, warn or error"`
	Format  string `yaml:"format" doc:"text or json"`
	File    string `yaml:"file" doc:"of JSON lines beside standard error, rotated; empty: none"`
	MaxSize Bytes  `yaml:"maxSize" doc:"of one file"`
	Keep    int    `yaml:"keep" doc:"files that were rotated away"`
}

// Doctor says what the doctor cannot know by itself.
type Doctor struct {
	NTP string `yaml:"ntp" doc:"time server that the clock is compared with; empty: what systemd-timesyncd says"`
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
	DiskEvery    time.Duration
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

// String writes the size with the largest unit that leaves it whole.
func (b Bytes) String() string {
	for _, u := range []struct {
		suffix string
		unit   Bytes
	}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if b != 0 && b%u.unit == 0 {
			return strconv.FormatInt(int64(b/u.unit), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// DefaultConfig is what holds for what the file leaves out.
func DefaultConfig() Config {
	return Config{
		Data:         defaultData(),
		ControlPlane: ControlPlane{Transport: "auto"},
		Intake:       Intake{Listen: "127.0.0.1:7080"},
		Ops:          Ops{Listen: "127.0.0.1:7090"},
		Journal:      Journal{Quota: 10 << 30, Segment: 64 << 20, Retain: 7 * 24 * time.Hour},
		Calls:        Calls{Deadline: 12 * time.Hour, Retain: 30 * 24 * time.Hour, Quota: 1 << 30},
		Documents:    Documents{Quota: 2 << 30, Retain: 30 * 24 * time.Hour},
		Tracing:      Tracing{Sample: 0.01},
		Upgrades:     defaultUpgrades(),
		Disk:         DefaultDisk(),
		Log:          Log{Level: "info", Format: "text", MaxSize: logfile.DefaultSize, Keep: logfile.DefaultKeep},
	}
}

func defaultData() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "Crossdock", "data")
	}
	return "/var/lib/crossdock-agent"
}

// ReadUnchecked reads a file alone over the defaults, for who completes it and then calls
// Validate.
func ReadUnchecked(path string) (Config, error) {
	cfg, _, err := Read(settings.Sources{File: path})
	return cfg, err
}

// VariablePrefix begins the environment variables that stand over the configuration file.
const VariablePrefix = "CROSSDOCK_AGENT_"

// Read takes the sources over the defaults. What is wrong in one of them is in the error,
// and the rest is read all the same; the check of the whole is Validate's.
func Read(sources settings.Sources) (Config, *settings.Values, error) {
	cfg := DefaultConfig()
	values, err := settings.Read(&cfg, sources)
	if data, secrets := values.Origin("data"), values.Origin("secrets"); data.File == "" && data != (settings.Origin{}) && secrets.File != "" {
		// Another directory was named beside the file: the file's secrets are another agent's.
		cfg.Secrets = ""
		values.Unsay("secrets")
	}
	return cfg, values, err
}

// Example is a configuration file with every key.
func Example() string {
	return settings.Example(DefaultConfig(), `An agent's configuration, with every key and its default unless a comment says otherwise.
What the site's systems need is in policy; here stands what belongs to this one server.
`)
}

// ReadConfig reads a file over the defaults and checks the whole.
func ReadConfig(path string) (Config, error) {
	cfg, values, err := Read(settings.Sources{File: path})
	if err == nil {
		err = values.Locate(cfg.Validate())
	}
	return cfg, err
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
		if _, _, err := settings.HostPort(a); err != nil {
			fault("controlplane.addresses: %q is not host:port with a port up to 65535, such as crossdock.example.com:7443", a)
		}
	}
	c.validateProxy(fault)
	switch c.ControlPlane.Transport {
	case "auto", "quic", "tcp":
	default:
		fault("controlplane.transport: %q; it is auto, quic or tcp", c.ControlPlane.Transport)
	}
	c.validateDoors(fault)
	if c.Journal.Quota < 1<<20 || c.Journal.Segment < 64<<10 || c.Journal.Retain < 0 {
		fault("journal: quota is at least 1MB, segment at least 64KB, retain not negative")
	}
	if c.Calls.Deadline <= 0 || c.Calls.Retain <= 0 || c.Calls.Quota < 1<<20 {
		fault("calls: deadline and retain are positive, quota is at least 1MB")
	}
	if c.Documents.Quota < 1<<20 || c.Documents.Retain < time.Minute {
		fault("documents: quota is at least 1MB, retain at least 1m")
	}
	if err := tracing.CheckEndpoint(c.Tracing.Endpoint); c.Tracing.Endpoint != "" && err != nil {
		fault("%w", err)
	}
	if !(c.Tracing.Sample >= 0 && c.Tracing.Sample <= 1) {
		fault("tracing.sample: %v; it is a part between 0 and 1", c.Tracing.Sample)
	}
	c.Upgrades.check(fault)
	if err := c.Disk.check(); err != nil {
		fault("disk: %w", err)
	}
	if err := c.Log.form().Validate(); err != nil {
		problems = append(problems, err) // each has its place
	}
	if err := c.Log.kept().Validate(); err != nil {
		fault("log: %w", err)
	}
	return errors.Join(problems...)
}

// validateDoors keeps what others could reach from standing open.
func (c *Config) validateDoors(fault func(format string, args ...any)) {
	for _, l := range []struct{ name, address string }{{"intake.listen", c.Intake.Listen}, {"ops.listen", c.Ops.Listen}} {
		if _, _, err := settings.HostPort(l.address); err != nil {
			fault("%s: %q is not host:port with a port up to 65535, such as 127.0.0.1:7080", l.name, l.address)
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
}

// validateProxy never repeats the proxy: it may hold what it is refused for.
func (c *Config) validateProxy(fault func(format string, args ...any)) {
	password := c.ControlPlane.ProxyPassword
	if password != "" && !settings.IsReference(password) {
		fault("controlplane.proxyPassword: it looks like the password itself; put that into a file in the secrets directory, and write file:NAME")
	}
	if c.ControlPlane.Proxy == "" {
		if password != "" {
			fault("controlplane.proxyPassword: without controlplane.proxy it is of no use")
		}
		return
	}
	proxy, err := parseProxy(c.ControlPlane.Proxy)
	switch {
	case err != nil:
		fault("%w", err)
	case secretIn(proxy):
		fault("controlplane.proxy: it holds a password; put that into a file in the secrets directory, and name it in controlplane.proxyPassword, as file:NAME")
	case password != "" && proxy.User == nil:
		fault("controlplane.proxy: write the user of controlplane.proxyPassword into it, as http://user@host:port")
	}
}

func (l Log) kept() logfile.Config {
	return logfile.Config{File: l.File, MaxSize: int64(l.MaxSize), Keep: l.Keep}
}

// KeepLog has a logger write to the configured file too. What it gives is closed at the end.
func (c *Config) KeepLog(log *slog.Logger) (*slog.Logger, io.Closer, error) {
	return logfile.Also(log, c.Log.kept(), "crossdock-agent")
}

func secretIn(address *url.URL) bool {
	_, ok := address.User.Password()
	return ok
}

func (l Log) form() logline.Form { return logline.Form{Level: l.Level, Format: l.Format} }

// NewLogger makes the logger that the configuration asks for.
func (c *Config) NewLogger(w io.Writer) *slog.Logger { return c.Log.form().Logger(w, c.Level) }

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

// tokenFile holds what operators prove themselves with.
func (c *Config) tokenFile() string { return filepath.Join(c.Data, "ops.token") }

// IdentityDir is where the agent's key and certificate are.
func (c *Config) IdentityDir() string { return filepath.Join(c.Data, "identity") }

// JournalDir is where the journal's files are.
func (c *Config) JournalDir() string { return filepath.Join(c.Data, "journal") }
