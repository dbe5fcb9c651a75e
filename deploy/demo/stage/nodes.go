package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MaxNodes is how many nodes of the control plane the demo has ports for.
const MaxNodes = 3

// Leader stands for whichever node leads.
const Leader = "leader"

// nowhere is an address at which nobody answers. Nodes tell agents of it and of no other,
// so that there is no way around the lines that the demo cuts.
const nowhere = "127.0.0.1:9"

// Node is one node of the control plane.
type Node struct {
	Name string
	Data string
	Sync string // for agents; address
	API  string // URL
	ops  string
	run  *process
}

// NodeNames lists the nodes of a control plane of so many.
func NodeNames(count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprint("node-", i+1)
	}
	return names
}

// newNode writes the configuration of a node.
func (s *Stage) newNode(i int) (*Node, error) {
	n := &Node{Name: NodeNames(i + 1)[i], Data: s.path("controlplane"), Sync: fmt.Sprintf("127.0.0.1:%d", syncPort+i),
		API: fmt.Sprintf("https://127.0.0.1:%d", apiPort+i), ops: fmt.Sprintf("127.0.0.1:%d", nodeOpsPort+i)}
	if i > 0 {
		n.Data += fmt.Sprint("-", i+1)
	}
	config := fmt.Sprintf("data: %s\nnode: %s\nsync: {listen: %s, names: [127.0.0.1, localhost], advertise: [%q]}\napi: {listen: %s}\nops: {listen: %s}\n",
		quote(n.Data), n.Name, n.Sync, nowhere, strings.TrimPrefix(n.API, "https://"), n.ops)
	if s.cfg.Nodes > 1 {
		config += fmt.Sprintf("cluster: {listen: \"127.0.0.1:%d\"}\n", peerPort+i)
	}
	file := s.path(n.Name + ".yaml")
	n.run = &process{name: n.Name, log: s.path("logs", n.Name+".log"), args: []string{s.program("crossdock"), "server", "--config", file}}
	return n, os.WriteFile(file, []byte(config), 0o600)
}

// startControlPlane begins a cluster on the first node and has the others join it.
func (s *Stage) startControlPlane(ctx context.Context) error {
	for i := range max(1, s.cfg.Nodes) {
		n, err := s.newNode(i)
		if err != nil {
			return err
		}
		if i > 0 {
			if err := s.join(ctx, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		s.Nodes = append(s.Nodes, n)
		if err := n.run.start(); err != nil {
			return err
		}
		if err := s.await(ctx, "http://"+n.ops+"/readyz", n.run); err != nil {
			return err
		}
		if _, err := s.Crossdock(ctx, "", "status"); err != nil {
			return errors.Join(err, n.run.running()) // another program may have answered on the port
		}
	}
	return nil
}

// join makes a node a member of the cluster before its first start.
func (s *Stage) join(ctx context.Context, n *Node) error {
	token, err := s.Crossdock(ctx, "", "token", "create", "--node", n.Name)
	if err != nil {
		return err
	}
	_, err = call(ctx, nil, strings.NewReader(token), s.program("crossdock"), "cluster", "join", fmt.Sprintf("127.0.0.1:%d", peerPort),
		"--token", "-", "--config", s.path(n.Name+".yaml"))
	return err
}

// Crossdock runs a command of the operator's program as the administrator, or as another
// principal whose token is given, against a node that runs.
func (s *Stage) Crossdock(ctx context.Context, token string, args ...string) (string, error) {
	if token == "" {
		text, err := os.ReadFile(filepath.Join(s.Nodes[0].Data, "admin.token"))
		if err != nil {
			return "", err
		}
		token = strings.TrimSpace(string(text))
	}
	err := errors.New("no node of the control plane runs")
	for _, n := range s.Nodes {
		if !n.run.up() {
			continue
		}
		var out string
		env := []string{"CROSSDOCK_SERVER=" + n.API, "CROSSDOCK_TOKEN=" + token, "CROSSDOCK_CA=" + filepath.Join(n.Data, "pki", "ca.pem")}
		if out, err = call(ctx, env, nil, s.program("crossdock"), args...); err == nil {
			return out, nil
		}
	}
	return "", err
}

// Cluster is what a node says of the whole.
type Cluster struct {
	LeaderNode string
	Nodes      []struct {
		ID      string
		Ready   bool
		Applied uint64
		Hash    string
	}
}

// Cluster asks how the nodes are.
func (s *Stage) Cluster(ctx context.Context) (Cluster, error) {
	text, err := s.Crossdock(ctx, "", "status", "-o", "json")
	if err != nil {
		return Cluster{}, err
	}
	var out struct{ Cluster Cluster }
	err = json.Unmarshal([]byte(text), &out)
	return out.Cluster, err
}

// AwaitEqual waits until all nodes have applied the same and have the same state.
func (s *Stage) AwaitEqual(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		c, err := s.Cluster(ctx)
		if err == nil {
			err = c.equal(len(s.Nodes))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// equal says in what the nodes differ.
func (c Cluster) equal(nodes int) error {
	if len(c.Nodes) != nodes {
		return fmt.Errorf("the cluster has %d nodes, not %d", len(c.Nodes), nodes)
	}
	for _, n := range c.Nodes {
		if first := c.Nodes[0]; n.Hash == "" || n.Applied != first.Applied || n.Hash != first.Hash {
			return fmt.Errorf("%s stands at entry %d with state %.12s, %s at %d with %.12s", first.ID, first.Applied, first.Hash, n.ID, n.Applied, n.Hash)
		}
	}
	return nil
}

// node finds one by its name, or the one that leads.
func (s *Stage) node(ctx context.Context, name string) (*Node, error) {
	if name == Leader {
		c, err := s.Cluster(ctx)
		if err != nil {
			return nil, err
		}
		if name = c.LeaderNode; name == "" {
			return nil, errors.New("no node leads at the moment")
		}
	}
	for _, n := range s.Nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

// KillNode ends a node as a crash does, and gives its name. It stays down until StartNode.
func (s *Stage) KillNode(ctx context.Context, name string) (string, error) {
	n, err := s.node(ctx, name)
	if err != nil {
		return "", err
	}
	n.run.kill()
	return n.Name, nil
}

// StartNode starts a node that was killed.
func (s *Stage) StartNode(ctx context.Context, name string) error {
	n, err := s.node(ctx, name)
	if err != nil || n.run.up() {
		return err
	}
	return n.run.start()
}

// NodesUp reports whether all nodes run.
func (s *Stage) NodesUp() bool {
	for _, n := range s.Nodes {
		if !n.run.up() {
			return false
		}
	}
	return true
}
