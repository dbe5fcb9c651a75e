package world

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/scripts/bench/material"
)

// Crossdock is a control plane with agents, as shipped: the configuration files name
// directories, ports and addresses, and nothing else but that one person may approve.
type Crossdock struct {
	CrossdockConfig
	Nodes  []*Node
	Agents []*Agent
}

// CrossdockConfig says how to put it up.
type CrossdockConfig struct {
	Programs Programs
	Dir      string
	Size     int               // nodes
	ERP      string            // address of the system at the end
	Policy   map[string]string // further files of policy, beside the benchmark's own
	Agent    string            // further lines of each agent's configuration
	Secrets  map[string]string // further files with secrets of each agent
	Batch    int               // events that one request to it may carry; 0: as many as usual
	Lines    LineKind          // agents are told of each node by the address of a line to it, so that none gets around one that is cut
}

// Node is one node of the control plane.
type Node struct {
	Sync, Peer string // where agents, and other nodes, connect
	Line       string // where an agent finds a line to Sync; empty: there are no lines
	api, ops   string
	data       string
	config     string
	Process    *Process
}

// Agent is an enrolled agent.
type Agent struct {
	Site    string
	Data    string
	Intake  string
	Ops     string
	config  string
	c       *Crossdock
	Process *Process // nil until Start
}

// StartCrossdock starts a control plane and puts the benchmark's policy in force.
func StartCrossdock(ctx context.Context, cfg CrossdockConfig) (*Crossdock, error) {
	c := &Crossdock{CrossdockConfig: cfg}
	for i := range cfg.Size {
		if err := c.addNode(ctx, i); err != nil {
			return nil, errors.Join(fmt.Errorf("node %d: %w", i+1, err), c.Close())
		}
	}
	if err := c.approve(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Crossdock) path(name string) string { return filepath.Join(c.Dir, name) }

func (c *Crossdock) addNode(ctx context.Context, i int) error {
	name := fmt.Sprint("node-", i+1)
	ports, err := addresses(5)
	if err != nil {
		return err
	}
	n := &Node{Sync: ports[0], Peer: ports[1], api: ports[2], ops: ports[3], data: c.path(name), config: c.path(name + ".yaml")}
	sync := fmt.Sprintf("listen: %q", n.Sync)
	switch c.Lines {
	case NoLines:
	case Filtered:
		n.Line = LineTo(n.Sync)
		sync = fmt.Sprintf("listen: %q, names: [%s], advertise: [%q]", Anywhere(n.Sync), lineHost, n.Line)
	case Relayed:
		n.Line = ports[4]
		sync += fmt.Sprintf(", advertise: [%q]", n.Line)
	}
	text := fmt.Sprintf("data: %q\nnode: %s\napprovals: single\nsync: {%s}\napi: {listen: %q}\nops: {listen: %q}\n", n.data, name, sync, n.api, n.ops)
	if c.Size > 1 {
		text += fmt.Sprintf("cluster: {listen: %q}\n", n.Peer)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		return err
	}
	if i > 0 {
		token, err := c.Command(ctx, "", "token", "create", "--node", name)
		if err != nil {
			return err
		}
		if _, err := c.Command(ctx, token, "cluster", "join", c.Nodes[0].Peer, "--token", "-", "--config", n.config); err != nil {
			return err
		}
	}
	if n.Process, err = Start(name, Center, c.path(name+".log"), c.Programs.Path("crossdock"), "server", "--config", n.config); err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, n)
	return Await(ctx, name+" is ready", []*Process{n.Process}, func(ctx context.Context) error { return ready(ctx, n.ops) })
}

// Token makes a join token for a site. It asks the API itself: for many sites the operator's
// program would take longer than the joining.
func (c *Crossdock) Token(ctx context.Context, site string) (string, error) {
	first := c.Nodes[0]
	token, err1 := os.ReadFile(filepath.Join(first.data, "admin.token"))
	authority, err2 := os.ReadFile(filepath.Join(first.data, "pki", "ca.pem"))
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+first.api+"/api/v1/tokens", strings.NewReader(fmt.Sprintf(`{"site":%q,"lifetime":"1h"}`, site)))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "join-"+site)
	answer, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusCreated {
		return "", errors.Join(fmt.Errorf("a token for site %s: %s: %s", site, answer.Status, text), err)
	}
	var created struct{ Token string }
	err = json.Unmarshal(text, &created)
	return created.Token, err
}

// Command runs the operator's program as the administrator of the first node.
func (c *Crossdock) Command(ctx context.Context, in string, args ...string) (string, error) {
	first := c.Nodes[0]
	token, err := os.ReadFile(filepath.Join(first.data, "admin.token"))
	if err != nil {
		return "", err
	}
	env := []string{"CROSSDOCK_SERVER=https://" + first.api, "CROSSDOCK_TOKEN=" + strings.TrimSpace(string(token)),
		"CROSSDOCK_CA=" + filepath.Join(first.data, "pki", "ca.pem")}
	return call(ctx, env, in, c.Programs.Path("crossdock"), args...)
}

func (c *Crossdock) approve(ctx context.Context) error {
	dir := c.PolicyDir()
	if err := material.WritePolicy(dir, c.ERP, cmp.Or(c.Batch, material.Batch)); err != nil {
		return err
	}
	for name, text := range c.Policy {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := c.Propose(ctx); err != nil {
		return err
	}
	return c.Approve(ctx, 1)
}

// Propose makes a revision of the folder of policy as it is.
func (c *Crossdock) Propose(ctx context.Context) error {
	_, err := c.Command(ctx, "", "policy", "propose", c.PolicyDir(), "-m", "benchmark")
	return err
}

// Approve puts a revision in force.
func (c *Crossdock) Approve(ctx context.Context, number int) error {
	_, err := c.Command(ctx, "", "policy", "approve", fmt.Sprint(number))
	return err
}

// PolicyDir is the folder of policy.
func (c *Crossdock) PolicyDir() string { return c.path("policy") }

// Syncs are the addresses at which agents reach the nodes.
func (c *Crossdock) Syncs() (out []string) {
	for _, n := range c.Nodes {
		out = append(out, n.Sync)
	}
	return out
}

// LineAddresses are those at which agents find lines to Syncs.
func (c *Crossdock) LineAddresses() (out []string) {
	for _, n := range c.Nodes {
		out = append(out, n.Line)
	}
	return out
}

// Peers are the addresses at which nodes reach each other.
func (c *Crossdock) Peers() (out []string) {
	for _, n := range c.Nodes {
		out = append(out, n.Peer)
	}
	return out
}

// Enrol makes an agent for a site that reaches the control plane at addresses. It does not
// run yet.
func (c *Crossdock) Enrol(ctx context.Context, site string, addresses []string) (*Agent, error) {
	a := &Agent{Site: site, Data: c.path("agent-" + site), config: c.path("agent-" + site + ".yaml"), c: c}
	var err error
	if a.Intake, err = FreeAddress(); err != nil {
		return nil, err
	}
	if a.Ops, err = FreeAddress(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(a.Data, "secrets"), 0o700); err != nil {
		return nil, err
	}
	if err := a.writeSecrets(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("data: %q\ncontrolplane: {addresses: [\"%s\"]}\nintake: {listen: %q}\nops: {listen: %q}\n%s",
		a.Data, strings.Join(addresses, `", "`), a.Intake, a.Ops, c.Agent)
	if err := os.WriteFile(a.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	token, err := c.Command(ctx, "", "token", "create", "--site", site)
	if err != nil {
		return nil, err
	}
	if _, err := call(ctx, nil, token, c.Programs.Path("crossdock-agent"), "enroll", "-c", a.config); err != nil {
		return nil, err
	}
	c.Agents = append(c.Agents, a)
	return a, nil
}

func (a *Agent) writeSecrets() error {
	secrets := map[string]string{material.TokenFile: material.Token}
	maps.Copy(secrets, a.c.Secrets)
	for name, secret := range secrets {
		if err := os.WriteFile(filepath.Join(a.Data, "secrets", name), []byte(secret+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Start runs the agent until it is ready.
func (a *Agent) Start(ctx context.Context) (err error) {
	log := a.c.path("agent-" + a.Site + ".log")
	if a.Process, err = Start("agent "+a.Site, Edge, log, a.c.Programs.Path("crossdock-agent"), "run", "-c", a.config); err != nil {
		return err
	}
	return Await(ctx, "agent "+a.Site+" is ready", []*Process{a.Process}, func(ctx context.Context) error { return ready(ctx, a.Ops) })
}

// AgentStatus is what the benchmark wants to know of an agent's own status.
type AgentStatus struct {
	Link    struct{ Connected bool }
	Queue   struct{ Accepted, Received, Outgoing uint64 }
	Numbers []struct{ Left uint64 }
	Calls   struct{ Leaving int } // events of calls that are not in the journal yet
	Plugins []struct {
		Plugin, State string
		PID           int
	}
}

// Status asks the agent how it is.
func (a *Agent) Status(ctx context.Context) (s AgentStatus, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Ops+"/v1/status", nil)
	if err != nil {
		return s, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	return s, json.NewDecoder(answer.Body).Decode(&s)
}

// Processes lists what runs.
func (c *Crossdock) Processes() (out []*Process) {
	for _, n := range c.Nodes {
		out = append(out, n.Process)
	}
	for _, a := range c.Agents {
		if a.Process != nil {
			out = append(out, a.Process)
		}
	}
	return out
}

// Close ends everything and removes its data.
func (c *Crossdock) Close() error {
	for _, p := range c.Processes() {
		p.Kill()
	}
	return os.RemoveAll(c.Dir)
}

// ready asks a program's health door.
func ready(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, answer.Status)
	}
	return nil
}
