package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/sealing"
)

// announces has an agent report the key to which its secrets are to be sealed.
func (f *fixture) announces(agent, recipient string) {
	f.Helper()
	text, err := json.Marshal(model.AgentStatus{Sealing: sealing.Announcement{Recipient: recipient}})
	if err != nil {
		f.Fatal(err)
	}
	a, _ := f.Agent(agent)
	f.must(&model.Ack{At: f.now, Agent: agent, Epoch: a.Epoch, Status: text})
}

func (f *fixture) secretOf(agent, name string, version uint64, text string) *model.SetSecret {
	return &model.SetSecret{Asked: f.by("op"), Agent: agent, Name: name, Version: version, Recipient: "key-" + agent, Sealed: []byte(text)}
}

func secretsFixture(t *testing.T) *fixture {
	t.Helper()
	f := openMachine(t)
	f.begin(model.ApprovalsDual, model.Limits{})
	f.principal("op", model.Operator)
	f.join("eu", "us")
	f.announces("eu", "key-eu")
	f.announces("us", "key-us")
	return f
}

func (f *fixture) secret(agent, name string) model.Secret {
	f.Helper()
	for _, s := range f.SecretsOf(agent) {
		if s.Name == name {
			return s
		}
	}
	f.Fatalf("agent %s has no secret %s", agent, name)
	return model.Secret{}
}

func TestSecrets(t *testing.T) {
	f := secretsFixture(t)
	f.must(f.secretOf("eu", "shop/token", 1, "sealed-one"))
	f.must(f.secretOf("us", "erp/token", 4, "sealed-us"))
	kept := f.secretOf("eu", "shop/token", 2, "sealed-two")
	kept.KeepFormer, kept.FormerUntil = true, f.now.Add(time.Hour)
	f.must(kept)
	got := f.secret("eu", "shop/token")
	if got.Version != 2 || string(got.Sealed) != "sealed-two" || string(got.Former) != "sealed-one" || got.FormerKey != "key-eu" || !got.FormerUntil.Equal(kept.FormerUntil) || got.By != "op" {
		t.Errorf("got %+v", got)
	}
	f.reopen()
	if len(f.SecretsOf("eu")) != 1 || len(f.SecretsOf("us")) != 1 || len(f.SecretsOf("e")) != 0 {
		t.Errorf("got %+v", f.SecretMarks(""))
	}
	f.must(&model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "shop/token", Former: true})
	if got := f.secret("eu", "shop/token"); got.Version != 3 || len(got.Former) > 0 || string(got.Sealed) != "sealed-two" {
		t.Errorf("got %+v", got)
	}
	f.refused(model.Conflict, &model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "shop/token", Former: true})
	f.must(&model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "shop/token"})
	if got := f.secret("eu", "shop/token"); got.Version != 4 || got.Bytes() != 0 {
		t.Errorf("got %+v", got)
	}
	f.refused(model.NotFound, &model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "shop/token"})
	first := f.secretOf("eu", "shop/token", 5, "sealed-five")
	first.KeepFormer = true // there is none to keep
	f.must(first)
	if got := f.secret("eu", "shop/token"); len(got.Former) > 0 {
		t.Errorf("a dropped value came back: %+v", got)
	}
	if err := f.VerifyAudit(); err != nil {
		t.Error(err)
	}
	for _, e := range f.Audit(0, model.MaxPage) {
		if bytes.Contains(e.Detail, []byte("sealed-")) {
			t.Errorf("the record holds what is sealed: %s", e.Detail)
		}
	}
}

// holds has an agent report which version of a secret it has.
func (f *fixture) holds(agent, name string, version uint64) {
	f.Helper()
	text, err := json.Marshal(model.AgentStatus{Sealing: sealing.Announcement{Recipient: "key-" + agent}, Secrets: []model.AgentSecret{{Name: name, Version: version}}})
	if err != nil {
		f.Fatal(err)
	}
	a, _ := f.Agent(agent)
	f.must(&model.Ack{At: f.now, Agent: agent, Epoch: a.Epoch, Status: text})
}

// TestDropOfWhatIsNewerAtTheAgent: where the state is of an older backup, a drop reaches the
// agent all the same, also when the agent had not told yet what it holds.
func TestDropOfWhatIsNewerAtTheAgent(t *testing.T) {
	f := secretsFixture(t)
	set := f.secretOf("eu", "shop/token", 2, "sealed-two")
	f.must(f.secretOf("eu", "shop/token", 1, "sealed-one"))
	set.KeepFormer = true
	f.must(set)
	drop := func(former bool) *model.DropSecret {
		return &model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "shop/token", Former: former}
	}
	f.holds("eu", "shop/token", 5)
	if err := f.refused(model.Conflict, drop(true)); !strings.Contains(err.Text, "version 5") {
		t.Errorf("it does not name the version: %v", err)
	}
	f.must(drop(false))
	if got := f.secret("eu", "shop/token"); got.Version != 6 || got.Bytes() != 0 {
		t.Errorf("got %+v", got)
	}
	f.refused(model.NotFound, drop(false))
	f.holds("eu", "shop/token", 8)
	f.must(drop(false))
	if got := f.secret("eu", "shop/token"); got.Version != 9 {
		t.Errorf("got %+v", got)
	}
	f.holds("eu", "shop/token", 9)
	f.refused(model.NotFound, drop(false))
	f.holds("eu", "shop/token", math.MaxUint64) // which nothing is above
	f.refused(model.NotFound, drop(false))
}

func TestWhoMaySetSecrets(t *testing.T) {
	f := secretsFixture(t)
	f.must(f.secretOf("eu", "shop/token", 3, "x"))
	for _, role := range []model.Role{model.Viewer, model.Author, model.Approver, model.Admin} {
		f.principal("other", role)
		c := f.secretOf("eu", "shop/token", 4, "y")
		c.By = "other"
		f.refused(model.Forbidden, c)
		f.refused(model.Forbidden, &model.DropSecret{Asked: f.by("other"), Agent: "eu", Name: "shop/token"})
	}
	for what, change := range map[string]func(*model.SetSecret){
		"the same version": func(c *model.SetSecret) { c.Version = 3 }, "an older version": func(c *model.SetSecret) { c.Version = 1 },
		"another agent's key": func(c *model.SetSecret) { c.Recipient = "key-us" }, "no key": func(c *model.SetSecret) { c.Recipient = "" },
		"no name": func(c *model.SetSecret) { c.Name = "" }, "a long name": func(c *model.SetSecret) { c.Name = strings.Repeat("x", maxName+1) },
		"nothing sealed": func(c *model.SetSecret) { c.Sealed = nil }, "too much": func(c *model.SetSecret) { c.Sealed = make([]byte, model.MaxSealed+1) },
		"no agent": func(c *model.SetSecret) { c.Agent = "nobody" },
	} {
		c := f.secretOf("eu", "shop/token", 4, "y")
		change(c)
		if r := f.do(c); r.Err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	f.join("eu") // enrolled anew: the key of before is not its key any more, once it says so
	f.announces("eu", "key-new")
	f.refused(model.Conflict, f.secretOf("eu", "shop/token", 4, "y"))
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "us"})
	f.refused(model.Conflict, f.secretOf("us", "shop/token", 4, "y"))
	if got := f.secret("eu", "shop/token"); got.Version != 3 || string(got.Sealed) != "x" || len(f.SecretsOf("us")) != 0 {
		t.Errorf("a refusal changed something: %+v", got)
	}
	if model.MaxSealed < sealing.MaxSealed {
		t.Errorf("what may be sealed has %d bytes, what is taken %d", sealing.MaxSealed, model.MaxSealed)
	}
}

func TestSecretsAreLimited(t *testing.T) {
	f := secretsFixture(t)
	for i := range model.MaxSecrets {
		f.must(f.secretOf("eu", fmt.Sprintf("s%d/token", i), 1, "x"))
	}
	f.refused(model.TooLarge, f.secretOf("eu", "more/token", 1, "x"))
	f.must(f.secretOf("us", "more/token", 1, "x"))
	f.must(&model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "s7/token"})
	f.must(f.secretOf("eu", "more/token", 1, "x"))
	if n := len(f.SecretsOf("eu")); n != model.MaxSecrets {
		t.Errorf("%d rows", n)
	}
	counted := func() int64 {
		row, _ := one[countersRow](f.Reader, tableMeta, keyCounters)
		return row.SecretBytes
	}
	if got := counted(); got != model.MaxSecrets+1 {
		t.Errorf("%d bytes are counted", got)
	}
	err := f.db.Update(func(b *bolt.Tx) error {
		w := &tx{view: view{b}}
		n := w.counters()
		n.SecretBytes = model.MaxSecretBytes - 1
		put(w, tableMeta, keyCounters, &n)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	f.refused(model.TooLarge, f.secretOf("us", "more/token", 2, "xxx"))
	f.must(f.secretOf("us", "more/token", 2, "xx"))
	f.must(&model.Revoke{Asked: f.by("root"), Agent: "eu"})
	f.must(&model.ForgetAgent{Asked: f.by("root"), Agent: "eu"})
	if got := counted(); len(f.SecretsOf("eu")) != 0 || got != model.MaxSecretBytes-model.MaxSecrets {
		t.Errorf("%d bytes are counted, %d secrets of a forgotten agent are kept", got, len(f.SecretsOf("eu")))
	}
}

// TestSecretMarks: they come in parts, and none is missing or comes twice at their borders.
func TestSecretMarks(t *testing.T) {
	f := secretsFixture(t)
	for i := range secretsAtOnce {
		f.must(f.secretOf("eu", fmt.Sprintf("s%03d/token", i), 1, "x"))
	}
	check := func(agent string, want int) []model.SecretMark {
		t.Helper()
		marks := f.SecretMarks(agent)
		for i := 1; i < len(marks); i++ {
			if a, b := marks[i-1], marks[i]; a.Agent+"/"+a.Name >= b.Agent+"/"+b.Name {
				t.Errorf("%s of %s comes after %s of %s", b.Name, b.Agent, a.Name, a.Agent)
			}
		}
		if len(marks) != want {
			t.Errorf("%d of %q, want %d", len(marks), agent, want)
		}
		return marks
	}
	check("", secretsAtOnce) // one part, to its end
	kept := f.secretOf("eu", "s001/token", 2, "y")
	kept.KeepFormer, kept.FormerUntil = true, f.now.Add(time.Hour)
	f.must(kept)
	f.must(f.secretOf("eu", "t/token", 1, "x"))
	f.must(f.secretOf("us", "t/token", 1, "x"))
	f.must(&model.DropSecret{Asked: f.by("op"), Agent: "eu", Name: "s000/token"})
	check("eu", secretsAtOnce+1)
	check("us", 1)
	check("e", 0)
	all := check("", secretsAtOnce+2)
	if m := all[0]; !m.Dropped || m.Version != 2 || m.Former || m.Recipient != "" {
		t.Errorf("got %+v", m)
	}
	if m := all[1]; m.Dropped || m.Version != 2 || !m.Former || !m.FormerUntil.Equal(kept.FormerUntil) || m.Recipient != "key-eu" || m.By != "op" || m.Agent != "eu" {
		t.Errorf("got %+v", m)
	}
}

func TestSecretsStandInSnapshots(t *testing.T) {
	f := secretsFixture(t)
	f.must(f.secretOf("eu", "shop/token", 1, "sealed-one"))
	var copied bytes.Buffer
	snapshot, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := snapshot.WriteTo(&copied); err != nil {
		t.Fatal(err)
	}
	snapshot.Release()
	other := openMachine(t)
	if err := other.Restore(&copied); err != nil {
		t.Fatal(err)
	}
	if got := other.secret("eu", "shop/token"); string(got.Sealed) != "sealed-one" {
		t.Errorf("got %+v", got)
	}
}
