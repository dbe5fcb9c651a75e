package systemtest

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/demo/line"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/transport"
)

// site is an agent with its line to the control plane.
type site struct {
	t     *testing.T
	name  string
	line  *line.Line // nil where a test brings its own dialer
	cfg   agent.Config
	log   string
	stop  func()   // of the agent in this process; nil: none runs
	child *process // nil: none

	damage int      // pieces of its journal that a test has damaged on purpose
	lives  []uint64 // for each time that its data was put back to an earlier state: the position from which it went on
}

// life makes positions of one journal comparable over all its lives: those of a later one
// come after all of an earlier one.
func life(n int, position uint64) uint64 { return uint64(n)<<40 | position }

// now is a position that the agent has just given.
func (s *site) now(position uint64) uint64 { return life(len(s.lives), position) }

// held is a position at which the journal holds something at the end: what a later life
// has written stands where an earlier one's was.
func (s *site) held(position uint64) uint64 {
	for n := len(s.lives); n > 0; n-- {
		if position >= s.lives[n-1] {
			return life(n, position)
		}
	}
	return position
}

// tuning shortens what a test would otherwise wait for.
func tuning() agent.Tuning {
	return agent.Tuning{StatusEvery: 200 * time.Millisecond, FullRetry: 50 * time.Millisecond,
		ReconnectMax: 200 * time.Millisecond, TrimEvery: 200 * time.Millisecond}
}

// given are the ports that were found here: nobody may listen on them yet.
var given sync.Map

// freePort finds a port that nothing listens on, below those that the system gives to
// outgoing connections: it must still be free when an agent comes back to it.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20_000+rand.IntN(12_000))
		if _, was := given.LoadOrStore(address, true); was {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address
	}
	t.Fatal("no free port")
	return ""
}

// freeDoor finds a port that is free for UDP as well.
func freeDoor(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := freePort(t)
		l, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		l.Close()
		return address
	}
	t.Fatal("no port is free for both TCP and UDP")
	return ""
}

// newSite makes and enrols an agent; it does not start it.
func newSite(t *testing.T, p *plane, name string) *site {
	t.Helper()
	if p.nodes != nil { // the agent knows all nodes, and no line stands between
		s := bareSite(t, name, t.TempDir())
		s.cfg.ControlPlane.Addresses = p.syncs()
		s.enrol(p.joinToken(name, ""))
		return s
	}
	l := startLine(t, p.addresses.Sync)
	s := bareSite(t, name, t.TempDir())
	s.line = l
	s.cfg.ControlPlane.Addresses = []string{l.Addr()}
	s.enrol(p.joinToken(name, ""))
	return s
}

// startLine relays to a target until the test ends.
func startLine(t *testing.T, target string) *line.Line {
	t.Helper()
	l, err := line.Listen("127.0.0.1:0", target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Run(ctx) // ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return l
}

// bareSite is an agent that is not enrolled and knows no control plane.
func bareSite(t *testing.T, name, data string) *site {
	t.Helper()
	s := &site{t: t, name: name, cfg: agent.DefaultConfig(), log: filepath.Join(t.TempDir(), name+".log")}
	s.cfg.Data, s.cfg.Version, s.cfg.Tuning = data, "test", tuning()
	s.cfg.Intake.Listen, s.cfg.Ops.Listen = freePort(t), freePort(t)
	s.cfg.Logger = logTo(t, s.log)
	s.secret("shop-"+name, shopToken)
	t.Cleanup(func() { s.end() })
	return s
}

const shopToken = "a-token-that-only-tests-know"

func (s *site) secret(name, text string) {
	s.t.Helper()
	dir := filepath.Join(s.cfg.Data, "secrets")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) enrol(text string) {
	s.t.Helper()
	token, err := transport.ParseToken(text)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	if _, err := agent.Enroll(ctx, s.cfg, text, token.CAHash); err != nil {
		s.t.Fatalf("enrol %s: %v", s.name, err)
	}
}

// start runs the agent in this process, and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	a, err := agent.New(s.cfg)
	if err != nil {
		s.t.Fatalf("agent %s: %v", s.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.stop = func() {
		// A connection that was opened and never used keeps a server waiting for seconds.
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("agent %s ended with %v", s.name, err)
		}
		s.stop = nil
	}
	s.awaitReady()
}

// startChild runs the agent as a process, which kills itself at a call of a step if one is
// named.
func (s *site) startChild(step string, at int64) {
	s.t.Helper()
	s.child = startProcess(s.t, spec{Data: s.cfg.Data, Addresses: s.cfg.ControlPlane.Addresses, Intake: s.cfg.Intake.Listen,
		Ops: s.cfg.Ops.Listen, Plugins: s.cfg.Plugins.Dir, Tuning: s.cfg.Tuning, Step: step, At: at, Log: s.log + ".child"})
	s.t.Cleanup(func() { showTail(s.t, s.log+".child") })
}

// end stops whatever runs of it.
func (s *site) end() {
	if s.stop != nil {
		s.stop()
	}
	if s.child != nil {
		s.child.stop(s.t)
		s.child = nil
	}
}

func (s *site) awaitReady() {
	s.t.Helper()
	until(s.t, s.name+" is ready", s.notReady)
}

// notReady says what the agent misses; "" when it works.
func (s *site) notReady() string {
	answer, err := http.Get("http://" + s.cfg.Ops.Listen + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return answer.Status
	}
	return ""
}

// status asks the agent how it is. A child that was just killed has no status.
func (s *site) status() (out agent.Status, err error) {
	answer, err := http.Get("http://" + s.cfg.Ops.Listen + "/v1/status")
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	return out, json.NewDecoder(answer.Body).Decode(&out)
}

// awaitStatus waits until the agent's status shows something.
func (s *site) awaitStatus(what string, look func(agent.Status) string) {
	s.t.Helper()
	until(s.t, s.name+": "+what, func() string {
		status, err := s.status()
		if err != nil {
			return err.Error()
		}
		return look(status)
	})
}

func (s *site) awaitLink(transport string) {
	s.t.Helper()
	s.awaitStatus("connected by "+transport, func(st agent.Status) string {
		if !st.Link.Connected || st.Link.Transport != transport {
			return fmt.Sprintf("connected %v by %q, %s", st.Link.Connected, st.Link.Transport, st.Link.LastError)
		}
		return ""
	})
}

// awaitIdle waits until the agent has nothing to send and nothing to deliver.
func (s *site) awaitIdle() {
	s.t.Helper()
	s.awaitStatus("idle", func(st agent.Status) string {
		if st.Queue.Outgoing > 0 {
			return fmt.Sprintf("%d events to send", st.Queue.Outgoing)
		}
		for _, y := range st.Systems {
			if y.Pending > 0 || y.Parked > 0 || y.InFlight > 0 {
				return fmt.Sprintf("%s: %d pending, %d parked, %d in flight, %s %s", y.System, y.Pending, y.Parked, y.InFlight, y.State, y.LastError)
			}
		}
		return ""
	})
}

// journal notes what the agent's journal holds.
func (s *site) journal(h *history.History) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.cfg.Ops.Listen+"/v1/queue/export", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	token := read(s.t, filepath.Join(s.cfg.Data, "ops.token"))
	request.Header.Set("Authorization", "Bearer "+token[:len(token)-1])
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		s.t.Fatalf("export of %s: %s %s", s.name, answer.Status, text)
	}
	damaged := 0
	in := bufio.NewScanner(answer.Body)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var one agent.Exported
		var event struct{ ID, Source, Type string }
		if err := json.Unmarshal(in.Bytes(), &one); err != nil {
			s.t.Fatal(err)
		}
		if one.Damaged != "" {
			if damaged++; damaged > s.damage {
				s.t.Errorf("the journal of %s is damaged at %d: %s", s.name, one.Position, one.Damaged)
			}
			continue
		}
		if err := json.Unmarshal(one.Event, &event); err != nil {
			s.t.Fatal(err)
		}
		if event.Type == orderCaptured {
			h.Add(history.Line{Kind: history.Held, Agent: s.name, From: cmp.Or(one.Source, s.name), Source: event.Source, ID: event.ID, Position: s.held(one.Position)})
		}
	}
	if err := in.Err(); err != nil {
		s.t.Fatal(err)
	}
}
