package systemtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/crossdock/crossdock/controlplane"
	"github.com/crossdock/crossdock/controlplane/model"
)

// program is one of the real programs, as a process.
type program struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a program whose words go to the end of a file, as somebody or as oneself.
// It dies with the test.
func launch(t *testing.T, log string, env []string, as *syscall.Credential, name string, args ...string) *program {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the process has its own
	p := &program{cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: as}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended stands in ProcessState
		close(p.ended)
	}()
	return p
}

func (p *program) running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *program) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

var built struct {
	sync.Once
	dir string
	err error
}

// programs builds the real programs once for all tests. With CROSSDOCK_BIN they are there
// already.
func programs(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir = os.Getenv("CROSSDOCK_BIN"); built.dir != "" {
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "crossdock-bin-"); built.err != nil {
			return
		}
		args := []string{"build", "-o", built.dir, "-tags", "chaos", "./controlplane/cmd/crossdock", "./agent/cmd/crossdock-agent"}
		build := exec.Command("go", args...)
		build.Dir = "../.."
		if text, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build: %w: %s", err, text)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

// clusterOptions say what is special about a cluster.
type clusterOptions struct {
	dirs      []string // of the nodes' data; nil: any
	sabotage  string   // what the nodes leave out on purpose
	env       []string // more of the nodes' environment
	config    string   // more lines of every node's configuration
	level     string   // of the nodes' logs; empty: info
	dual      bool     // nobody may approve what they wrote themselves
	advertise string   // where agents are told to find every node; empty: where it listens
	walls     *walls   // stand between the nodes; nil: none
	bin       string   // directory of the programs; empty: those of this tree
}

// node is one node of the control plane, a process.
type node struct {
	c                   *cluster
	name, data          string
	config, log         string
	peer, sync, api, op string              // host:port
	as                  *syscall.Credential // nil: the test's own
	run                 *program
}

// cluster is a control plane of several nodes, or of one that can be killed.
type cluster struct {
	t     *testing.T
	env   []string
	level string // of the nodes' logs; empty: info
	dual  bool
	plane *plane
	did   map[string]int // how often what was done to its nodes, and to what lives with them
	bin   string         // directory of its programs; empty: they are built

	mu    sync.Mutex // guards down, and nodes where others than the test look at it
	nodes []*node
	down  map[*node]bool
}

// startCluster begins a cluster on its first node and has the others join.
func startCluster(t *testing.T, size int, o clusterOptions) *cluster {
	t.Helper()
	c := &cluster{t: t, env: o.env, level: o.level, dual: o.dual, bin: o.bin, did: map[string]int{}, down: map[*node]bool{}}
	if o.sabotage != "" {
		c.env = append(c.env, "CROSSDOCK_SABOTAGE="+o.sabotage)
	}
	for i := range size {
		data := filepath.Join(t.TempDir(), "data")
		if o.dirs != nil {
			data = filepath.Join(o.dirs[i], "data")
		}
		n := newNode(c, fmt.Sprint("node-", i+1), data, size > 1, o)
		if o.walls != nil {
			n.as = o.walls.credential(i)
		}
		c.nodes = append(c.nodes, n)
	}
	t.Cleanup(c.end)
	c.plane = &plane{t: t, nodes: c.up}
	for i, n := range c.nodes {
		if i > 0 {
			n.join()
		}
		n.start()
		n.awaitReady()
		if i == 0 {
			c.plane.present(n.data, 10*time.Second)
			if o.dual {
				c.plane.author, c.plane.approver = c.plane.hire("first", "author"), c.plane.hire("second", "approver")
			}
		}
	}
	return c
}

// programs is the directory of the cluster's programs.
func (c *cluster) programs() string {
	if c.bin != "" {
		return c.bin
	}
	return programs(c.t)
}

func newNode(c *cluster, name, data string, several bool, o clusterOptions) *node {
	dir := c.t.TempDir()
	n := &node{c: c, name: name, data: data, config: filepath.Join(dir, name+".yaml"), log: filepath.Join(dir, name+".log"),
		peer: freePort(c.t), sync: freeDoor(c.t), api: freePort(c.t), op: freePort(c.t)}
	told := ""
	if o.advertise != "" {
		told = fmt.Sprintf(", advertise: [%q]", o.advertise)
	}
	approvals := model.ApprovalsSingle
	if c.dual {
		approvals = model.ApprovalsDual
	}
	text := fmt.Sprintf("data: %q\nnode: %s\napprovals: %s\nsync: {listen: %q%s}\napi: {listen: %q}\nops: {listen: %q}\n%s",
		data, name, approvals, n.sync, told, n.api, n.op, o.config)
	if several {
		text += fmt.Sprintf("cluster: {listen: %q}\n", n.peer)
	}
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return n
}

// up lists the doors of the nodes that should answer.
func (c *cluster) up() (out []doors) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if !c.down[n] {
			out = append(out, doors{API: "https://" + n.api, Sync: n.sync})
		}
	}
	return out
}

// are says which nodes the cluster has from now on.
func (c *cluster) are(nodes ...*node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = nodes
}

// set notes whether a node should answer.
func (c *cluster) set(n *node, up bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down[n] = !up
}

func (c *cluster) end() {
	for _, n := range c.nodes {
		if n.run != nil {
			n.run.signal(syscall.SIGCONT)
			n.run.signal(syscall.SIGTERM)
		}
	}
	for _, n := range c.nodes {
		if n.run != nil && !comes(n.run.ended) {
			n.run.signal(syscall.SIGQUIT) // it says where it stands
			<-n.run.ended
			c.t.Errorf("%s did not end; its log is kept as %s", n.name, keep(c.t, n.log))
		}
		showTail(c.t, n.log)
	}
}

// keep copies a file to where it outlives the test.
func keep(t *testing.T, file string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "crossdock-log-")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(copied, []byte(read(t, file)), 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func (n *node) start() {
	n.c.t.Helper()
	n.run = launch(n.c.t, n.log, n.c.env, n.as, filepath.Join(n.c.programs(), "crossdock"), "server", "--config", n.config, "--log-level", cmp.Or(n.c.level, "info"))
	n.c.set(n, true)
}

func (n *node) awaitReady() {
	n.c.t.Helper()
	until(n.c.t, n.name+" is ready", func() string {
		if !n.run.running() {
			n.c.t.Fatalf("%s ended by itself: %v", n.name, n.run.cmd.ProcessState)
		}
		return n.notReady()
	})
}

// notReady says what the node misses; "" when it serves.
func (n *node) notReady() string {
	client := http.Client{Timeout: 2 * time.Second}
	answer, err := client.Get("http://" + n.op + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return answer.Status
	}
	return ""
}

// kill ends the node as a crash does. One that has ended by itself before is a fault.
func (n *node) kill() {
	n.c.t.Helper()
	n.c.did[didKillNode]++
	if !n.run.running() {
		n.c.t.Errorf("%s ended by itself: %v", n.name, n.run.cmd.ProcessState)
	}
	n.crash()
}

// crash ends whatever runs of the node.
func (n *node) crash() {
	n.c.set(n, false)
	n.run.signal(syscall.SIGKILL)
	<-n.run.ended
}

// pause stops the node's process for a while; it does not notice.
func (n *node) pause(d time.Duration) {
	n.c.did[didPause]++
	n.c.set(n, false)
	n.run.signal(syscall.SIGSTOP)
	time.Sleep(d)
	n.run.signal(syscall.SIGCONT)
	n.c.set(n, true)
}

// crossdock runs an operator's command against this node.
func (n *node) crossdock(in string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(n.c.programs(), "crossdock"), args...)
	cmd.Env = append(os.Environ(), "CROSSDOCK_SERVER=https://"+n.api, "CROSSDOCK_TOKEN="+n.c.plane.token,
		"CROSSDOCK_CA="+controlplane.FilesIn(n.data).Authority)
	cmd.Env = append(cmd.Env, n.c.env...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("crossdock %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errOut.String()))
	}
	return out.String(), nil
}

// join prepares the node's empty directory as that of another node of the cluster.
func (n *node) join() {
	n.c.t.Helper()
	token := n.c.plane.nodeToken(n.name)
	var joined error
	for _, other := range n.c.nodes {
		if other == n || other.run == nil || !other.run.running() {
			continue
		}
		if _, joined = n.crossdock(token, "cluster", "join", other.peer, "--token", "-", "--config", n.config); joined == nil {
			return
		}
	}
	n.c.t.Fatalf("%s does not join: %v", n.name, joined)
}
