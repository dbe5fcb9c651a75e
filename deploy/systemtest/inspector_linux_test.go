package systemtest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/deploy/systemtest/history"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/policy"
)

// What a node or an agent may take in these runs. They are small: three shops, blocks of a
// few events, a state of some thousand rows. Memory counts what is mapped of the files.
var declared = history.Limits{
	Memory: 512 << 20, Disk: 1 << 30, Files: 256, Routines: 1000,
	MoreMemory: 256 << 20, MoreFiles: 64, MoreRun: 100,
}

// inspector looks at everything but the events while faults happen, and judges it.
type inspector struct {
	x      *trouble
	office *office
	rounds int
	began  time.Time
	client http.Client

	faultless time.Time // of this round: after the last fault
	idle      time.Time // of this round: after the last order
	recovery  history.Recovery
	endDesks  func()
	endLooks  func()

	mu    sync.Mutex // guards what follows
	usage []history.Usage
	heads []history.Head
	held  []history.Applied
}

// newInspector takes what processes need before anything has happened to them.
func newInspector(x *trouble) *inspector {
	i := &inspector{x: x, office: newOffice(x.world), began: time.Now(), client: http.Client{Timeout: time.Second}}
	until(x.t, "each process tells what it takes", func() string {
		usage := i.take(true)
		if len(usage) < len(i.targets()) {
			return fmt.Sprint(usage)
		}
		i.usage = usage
		return ""
	})
	return i
}

// target is a process that is looked at.
type target struct {
	name, ops, data string
	agent           *site // nil: a node
}

func (i *inspector) targets() (out []target) {
	for _, n := range i.x.c.nodes {
		out = append(out, target{n.name, n.op, n.data, nil})
	}
	for _, s := range i.x.sites {
		out = append(out, target{"agent " + s.name, s.cfg.Ops.Listen, s.cfg.Data, s})
	}
	return out
}

// begin opens a round.
func (i *inspector) begin() {
	i.rounds++
	i.endDesks = i.office.open(i.rounds, i.x.r, 2)
	stop, done := make(chan struct{}), make(chan struct{})
	r := rand.New(rand.NewPCG(i.x.r.Uint64(), 6))
	go func() {
		defer close(done)
		for {
			usage := i.take(false)
			i.mu.Lock()
			i.usage = append(i.usage, usage...)
			i.mu.Unlock()
			i.look(r)
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	i.endLooks = sync.OnceFunc(func() { close(stop); <-done })
	i.x.t.Cleanup(i.endLooks)
	i.more(5)
}

// take asks each process what it takes. One that is paused, or dead, says nothing.
func (i *inspector) take(rest bool) (out []history.Usage) {
	var all sync.WaitGroup
	var mu sync.Mutex // guards out
	for _, to := range i.targets() {
		all.Go(func() {
			u := history.Usage{At: time.Since(i.began), Who: to.name, Rest: rest}
			metrics, err := i.metrics(to.ops)
			if err != nil {
				return
			}
			u.Memory, u.Files, u.Routines = int64(metrics["process_resident_memory_bytes"]), int(metrics["process_open_fds"]), int(metrics["go_goroutines"])
			u.Disk = onDisk(to.data)
			if to.agent != nil {
				var s agent.Status
				if err := i.get("http://"+to.ops+"/v1/status", &s); err != nil {
					return
				}
				u.Queue, u.Quota = s.Queue.Bytes, s.Queue.Quota
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, u)
		})
	}
	all.Wait()
	return out
}

func (i *inspector) get(url string, out any) error {
	answer, err := i.client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	return json.NewDecoder(answer.Body).Decode(out)
}

// metrics reads the samples without labels.
func (i *inspector) metrics(ops string) (map[string]float64, error) {
	answer, err := i.client.Get("http://" + ops + "/metrics")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	out := map[string]float64{}
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		var name string
		var value float64
		if n, err := fmt.Sscan(lines.Text(), &name, &value); err == nil && n == 2 {
			out[name] = value
		}
	}
	return out, lines.Err()
}

// onDisk is what the files below a directory occupy.
func onDisk(dir string) (size int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // files come and go
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				size += stat.Blocks * 512
			}
		}
		return nil
	})
	return size
}

// look notes the head of the record at a node, and what each agent holds.
func (i *inspector) look(r *rand.Rand) {
	if nodes := i.x.plane.nodes(); len(nodes) > 0 {
		at := nodes[r.IntN(len(nodes))]
		var list struct{ Items []history.Entry }
		status, text, _, err := i.x.plane.askAs(i.x.plane.token, at.API, http.MethodGet, "/audit?newest=true&limit=1", "", nil)
		if err == nil && status == http.StatusOK && json.Unmarshal(text, &list) == nil && len(list.Items) == 1 {
			i.mu.Lock()
			i.heads = append(i.heads, history.Head{Node: at.API, Entries: list.Items[0].Number, Head: list.Items[0].Hash})
			i.mu.Unlock()
		}
	}
	for _, s := range i.x.sites {
		held, err := s.shelf()
		if errors.Is(err, syscall.EIO) || errors.Is(err, fs.ErrNotExist) {
			continue // its disk has no power
		}
		if err != nil {
			i.x.t.Errorf("the revision that %s holds: %v", s.name, err)
			continue
		}
		i.mu.Lock()
		i.held = append(i.held, held)
		i.mu.Unlock()
	}
}

// shelf reads the revision that the agent has on disk, and computes the digest of its
// documents.
func (s *site) shelf() (out history.Applied, err error) {
	text, err := os.ReadFile(filepath.Join(s.cfg.Data, "policy", "revision"))
	if err != nil {
		return out, err
	}
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	var head struct{ Revision block.Revision }
	if err := json.Unmarshal(first, &head); err != nil {
		return out, err
	}
	bundle, err := policy.DecodeBundle(rest)
	if err != nil {
		return out, err
	}
	digest := bundle.Digest()
	return history.Applied{Agent: s.name, Generation: head.Revision.Generation, Number: head.Revision.Number, Digest: "sha256:" + hex.EncodeToString(digest[:])}, nil
}

// applied reads from an agent's log what it has applied, and what it began with.
func (s *site) applied() (out []history.Applied) {
	s.t.Helper()
	for line := range strings.Lines(read(s.t, s.log+".child")) {
		began := strings.Contains(line, `msg="ready to accept events"`)
		if !began && !strings.Contains(line, `msg="policy revision in force"`) {
			continue
		}
		a := history.Applied{Agent: s.name, Began: began}
		_, text, _ := strings.Cut(line, " revision=")
		if _, err := fmt.Sscanf(text, "%d.%d", &a.Generation, &a.Number); err != nil {
			s.t.Errorf("%v in %s", err, line)
		}
		out = append(out, a)
	}
	return out
}

// cameBack waits, after the last fault of a round, until a node leads and all agents are
// connected.
func (i *inspector) cameBack() {
	i.faultless = time.Now()
	i.recovery.Leader = i.awaited(i.faultless, func() bool {
		for _, d := range i.x.plane.nodes() {
			var v view
			status, text, _, err := i.x.plane.askAs(i.x.plane.token, d.API, http.MethodGet, "/cluster", "", nil)
			if err == nil && status == http.StatusOK && json.Unmarshal(text, &v) == nil && v.LeaderNode != "" {
				return true
			}
		}
		return false
	})
	i.recovery.Connected = i.awaited(i.faultless, func() bool {
		for _, s := range i.x.sites {
			if st, err := s.status(); err != nil || !st.Link.Connected {
				return false
			}
		}
		return true
	})
	i.more(5)
}

// more waits until so many further changes were answered.
func (i *inspector) more(n int) {
	i.x.t.Helper()
	want := i.x.ops.Changes() + n
	until(i.x.t, "changes are made", func() string {
		if got := i.x.ops.Changes(); got < want {
			return fmt.Sprintf("%d, want %d", got, want)
		}
		return ""
	})
}

// awaited tells how long it took from a moment until something was so; a negative time says
// that it never was.
func (i *inspector) awaited(from time.Time, so func() bool) time.Duration {
	for time.Since(from) < patience {
		if so() {
			return time.Since(from)
		}
		time.Sleep(4 * look)
	}
	return -1
}

// lastOrder ends what the office does; what is under way comes to its end.
func (i *inspector) lastOrder() {
	i.endDesks()
	i.idle = time.Now()
}

// judge is called when all is at rest, and gives what is wrong.
func (i *inspector) judge() {
	i.x.t.Helper()
	began := time.Now()
	i.recovery.Empty = began.Sub(i.idle)
	i.endLooks()
	i.atRest()
	faults := i.x.linear()
	operations := i.x.ops.From(0)
	entries, revisions := whole[history.Entry](i.x.plane, "/audit"), whole[history.Revision](i.x.plane, "/revisions")
	applied := i.held
	for _, s := range i.x.sites {
		applied = append(applied, s.applied()...)
	}
	for _, more := range [][]history.Fault{
		history.CheckRecord(entries, i.heads), history.CheckOnce(entries, operations), history.CheckDuties(entries, revisions),
		history.CheckRevisions(applied, revisions),
		history.CheckBounds(i.usage, func(string) history.Limits { return declared }), history.CheckRecovery(i.recovery, patience),
		i.secrets(entries),
	} {
		faults = append(faults, more...)
	}
	for n, f := range faults {
		i.x.broken[string(f.Property)]++
		if n < 10 {
			i.x.t.Error(f)
		} else if n == 10 {
			i.x.t.Errorf("and %d more", len(faults)-n)
		}
	}
	i.x.t.Logf("%d operations so far, %d entries, %d revisions, %d samples; a leader after %.1fs, all connected after %.1fs, idle %.1fs after the last order; judged in %.1fs; %s",
		len(operations), len(entries), len(revisions), len(i.usage), i.recovery.Leader.Seconds(), i.recovery.Connected.Seconds(), i.recovery.Empty.Seconds(), time.Since(began).Seconds(), i.most())
}

// atRest takes what processes need now. They have a while to give back what they took.
func (i *inspector) atRest() {
	i.x.t.Helper()
	var usage []history.Usage
	i.awaited(time.Now(), func() bool {
		if usage = i.take(true); len(usage) < len(i.targets()) {
			return false
		}
		for _, u := range usage {
			for _, first := range i.usage[:len(usage)] {
				if u.Who == first.Who && declared.Grown(first, u) != "" {
					return false
				}
			}
		}
		return true
	})
	i.usage = append(i.usage, usage...)
}

// most tells the most that any process took.
func (i *inspector) most() string {
	var m history.Usage
	for _, u := range i.usage {
		m.Memory, m.Disk = max(m.Memory, u.Memory), max(m.Disk, u.Disk)
		m.Files, m.Routines = max(m.Files, u.Files), max(m.Routines, u.Routines)
	}
	return fmt.Sprintf("at most %d MB of memory, %d MB on disk, %d files, %d goroutines", m.Memory>>20, m.Disk>>20, m.Files, m.Routines)
}

// whole reads all pages of a list.
func whole[T any](p *plane, path string) (out []T) {
	p.t.Helper()
	const page = "?limit=500"
	for query := page; ; {
		var list struct {
			Items      []T
			NextCursor string
		}
		p.mustCurrent(path+query, &list)
		if out = append(out, list.Items...); list.NextCursor == "" {
			return out
		}
		query = page + "&cursor=" + list.NextCursor
	}
}

// secrets looks for what nobody may read in everything that the run has left behind: the
// logs and data of nodes and agents, and the record.
func (i *inspector) secrets(entries []history.Entry) (faults []history.Fault) {
	i.x.t.Helper()
	words := map[string]string{"the token of a shop": shopToken}
	for what, token := range i.x.plane.tokens {
		words[what] = secretOf(token)
	}
	for _, s := range i.x.sites {
		words["the key of "+s.name] = s.keyLine()
	}
	scan := func(dir, where string, home func(file string) bool) {
		found, err := history.CheckSecrets(os.DirFS(dir), where, words, home)
		if err != nil {
			i.x.t.Errorf("%s cannot be searched: %v", dir, err)
		}
		faults = append(faults, found...)
	}
	for _, n := range i.x.c.nodes {
		scan(n.data, "data of "+n.name, func(file string) bool { return file == "admin.token" })
		scan(filepath.Dir(n.log), "log of "+n.name, func(string) bool { return false })
	}
	for _, s := range i.x.sites {
		scan(s.cfg.Data, "data of "+s.name, func(file string) bool { return strings.HasPrefix(file, "secrets/") || file == "identity/"+keyFile })
		scan(filepath.Dir(s.log), "log of "+s.name, func(string) bool { return false })
	}
	text, err := json.Marshal(entries)
	if err != nil {
		i.x.t.Fatal(err)
	}
	for what, word := range words {
		if len(word) < 16 {
			i.x.t.Errorf("%s is not known well enough to look for it: %q", what, word)
		} else if bytes.Contains(text, []byte(word)) {
			faults = append(faults, history.Fault{Property: history.Silent, Text: what + " stands in the audit record"})
		}
	}
	return faults
}

// secretOf is the part of a token that nobody may know.
func secretOf(token string) string {
	if parts := strings.Split(token, "."); len(parts) == 4 {
		return parts[2]
	}
	return token[strings.LastIndex(token, "_")+1:]
}

// keyFile holds an agent's key, and nothing else does.
const keyFile = "key.pem"

// keyLine is a line of the agent's private key.
func (s *site) keyLine() string {
	s.t.Helper()
	lines := strings.Split(read(s.t, filepath.Join(s.cfg.IdentityDir(), keyFile)), "\n")
	return lines[len(lines)/2]
}
