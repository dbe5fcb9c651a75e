package state

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

var start = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// fixture is a machine and the log that it is fed with.
type fixture struct {
	testing.TB
	*Machine
	dir string
	log []Entry
	now time.Time
}

func testConfig(dir string) Config { return Config{Dir: dir, MaxSize: 256 << 20, NoSync: true} }

func openMachine(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{TB: t, dir: t.TempDir(), now: start}
	f.reopen()
	t.Cleanup(func() { f.Close() })
	return f
}

func (f *fixture) reopen() {
	f.Helper()
	if f.Machine != nil {
		f.Close()
	}
	m, err := Open(testConfig(f.dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Machine = m
}

func encode(t testing.TB, cmds ...model.Command) []byte {
	t.Helper()
	var entry []byte
	for _, c := range cmds {
		text, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		entry = AppendToEntry(entry, text)
	}
	return entry
}

// do applies one command as one entry.
func (f *fixture) do(cmd model.Command) Result {
	f.Helper()
	e := Entry{Index: uint64(len(f.log) + 1), Term: 1, Data: encode(f, cmd)}
	f.log = append(f.log, e)
	out, err := f.Apply([]Entry{e})
	if err != nil {
		f.Fatal(err)
	}
	return out.Results[0][0]
}

func (f *fixture) must(cmd model.Command) any {
	f.Helper()
	r := f.do(cmd)
	if r.Err != nil {
		f.Fatalf("%T: %v", cmd, r.Err)
	}
	return r.Value
}

// refused applies a command that has to be refused with a code.
func (f *fixture) refused(code model.Code, cmd model.Command) *model.Error {
	f.Helper()
	r := f.do(cmd)
	if r.Err == nil || r.Err.Code != code {
		f.Fatalf("%T: got %v, want a refusal with code %s", cmd, r.Err, code)
	}
	return r.Err
}

func (f *fixture) by(name string) model.Asked {
	f.now = f.now.Add(time.Second)
	return model.Asked{By: name, At: f.now}
}

func hashOf(s string) [32]byte { return sha256.Sum256([]byte(s)) }

var everyRole = []model.Role{model.Viewer, model.Operator, model.Author, model.Approver, model.Admin}

// begin bootstraps a cluster with root, who has all roles.
func (f *fixture) begin(approvals model.Approvals, limits model.Limits) {
	f.Helper()
	f.must(&model.Bootstrap{Asked: f.by(""), Cluster: model.Cluster{ID: "test", Approvals: approvals, Limits: limits},
		Admin: model.Principal{Name: "root", Roles: everyRole, TokenHash: hashOf("root")}})
}

func (f *fixture) principal(name string, roles ...model.Role) {
	f.Helper()
	f.must(&model.PutPrincipal{Asked: f.by("root"), Principal: model.Principal{Name: name, Roles: roles, TokenHash: hashOf(name)}})
}

// join enrols agents with a token each.
func (f *fixture) join(names ...string) {
	f.Helper()
	for _, name := range names {
		id := fmt.Sprintf("t%d", len(f.log))
		f.must(&model.CreateJoinToken{Asked: f.by("root"), Token: model.JoinToken{ID: id, Hash: hashOf(id), Site: name, Expires: f.now.Add(time.Hour)}})
		f.must(&model.Enroll{At: f.now, Token: id, Secret: hashOf(id), Key: hashOf(name)})
	}
}

// activate puts a revision with these sites in force.
func (f *fixture) activate(sites ...string) model.Revision {
	f.Helper()
	r := f.must(&model.Propose{Asked: f.by("root"), Bundle: []byte(strings.Join(sites, ",")), Digest: hashOf(fmt.Sprint(sites)), Sites: sites}).(*model.Revision)
	f.principal("second", model.Approver)
	return *f.must(&model.Approve{Asked: f.by("second"), Number: r.ID.Number, Digest: r.Digest}).(*model.Revision)
}

func cut(t testing.TB, agent string, epoch uint64, to []block.Lane, bodies ...[]byte) []byte {
	t.Helper()
	items := make([]block.Item, len(bodies))
	for i, b := range bodies {
		items[i] = block.Item{Head: block.Head{Type: model.FactType, System: "s", Occurred: start, Received: start}, Body: b}
	}
	text, err := block.Cut(block.Origin{Agent: agent, Epoch: epoch}, to, items)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// plain makes bodies of events whose content nobody looks at.
func plain(count, size int) [][]byte {
	bodies := make([][]byte, count)
	for i := range bodies {
		sum := sha256.Sum256([]byte{byte(i), byte(size)})
		for len(bodies[i]) < size { // does not compress
			bodies[i] = append(bodies[i], sum[:]...)
			sum = sha256.Sum256(sum[:])
		}
		bodies[i] = bodies[i][:size]
	}
	return bodies
}

func factBody(t testing.TB, fact any) []byte {
	t.Helper()
	data, err := json.Marshal(fact)
	if err != nil {
		t.Fatal(err)
	}
	e := event.Event{ID: "1", Source: "/test", Type: model.FactType, Data: data}
	text, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return block.AppendBody(nil, "", text)
}

// report sends facts of an agent to the control plane, next in line.
func (f *fixture) report(agent string, bodies ...[]byte) model.LaneAnswer {
	f.Helper()
	a, _ := f.Agent(agent)
	first := uint64(1)
	for _, l := range f.Lanes(agent, a.Epoch) {
		if l.Destination == block.Control {
			first = l.Highwater + 1
		}
	}
	text := cut(f, agent, a.Epoch, []block.Lane{{Agent: block.Control, First: first}}, bodies...)
	r := f.must(&model.Push{At: f.now, Agent: agent, Epoch: a.Epoch, Blocks: [][]byte{text}}).(*model.PushResult)
	return r.Lanes[0]
}

// dump shows every row of every table.
func (f *fixture) dump() string {
	f.Helper()
	var b strings.Builder
	err := f.db.View(func(tx *bolt.Tx) error {
		for _, table := range tables {
			fmt.Fprintf(&b, "%s:\n", table)
			c := tx.Bucket(table).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				fmt.Fprintf(&b, "  %q = %x\n", k, sha256.Sum256(v))
			}
		}
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	return b.String()
}

func (f *fixture) rows(table []byte) (count int) {
	f.read(func(v view) {
		v.each(table, nil, nil, func(_, _ []byte) bool { count++; return true })
	})
	return count
}
