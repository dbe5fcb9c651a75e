package systemtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/agent/numbers"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/state"
	"github.com/crossdock/crossdock/protocol/policy"
)

// lending is the state machine of a control plane and the stores of its agents, without what
// lies between: what may happen to either happens in any order.
type lending struct {
	*testing.T
	rnd *rand.Rand
	now time.Time
	set *policy.Set

	machine  *state.Machine
	log      []state.Entry
	backup   []state.Entry
	saved    time.Time // when it was made
	life     int
	requests uint64

	sites  []*borrower
	given  map[uint64]string // serial to site and reference
	leased uint64            // highest serial of all lives
	images int
	copies int    // times that an old copy gave nothing
	waits  int    // times that nothing was leased because an hour was full
	newest uint64 // generation that agents have seen
}

// borrower is an agent: what it has on disk, and what an image of its disk has.
type borrower struct {
	name      string
	disk      copied
	image     copied
	store     *numbers.Store
	connected bool
	had       map[string][]numbers.Number // by reference, since its data was put back
}

type copied struct {
	dir     string
	epoch   uint64
	session uint64
}

func (l *lending) must(cmd model.Command) any {
	l.Helper()
	value, err := l.do(cmd)
	if err != nil {
		l.Fatalf("%T: %v", cmd, err)
	}
	return value
}

func (l *lending) do(cmd model.Command) (any, *model.Error) {
	l.Helper()
	text, err := state.Encode(cmd)
	if err != nil {
		l.Fatal(err)
	}
	e := state.Entry{Index: uint64(len(l.log) + 1), Term: 1, Data: state.AppendToEntry(nil, text)}
	l.log = append(l.log, e)
	out, err := l.machine.Apply([]state.Entry{e})
	if err != nil {
		l.Fatal(err)
	}
	return out.Results[0][0].Value, out.Results[0][0].Err
}

func (l *lending) by() model.Asked { return model.Asked{By: "root", At: l.now} }

func (l *lending) open() {
	l.Helper()
	m, err := state.Open(state.Config{Dir: l.TempDir(), MaxSize: 64 << 20, NoSync: true})
	if err != nil {
		l.Fatal(err)
	}
	l.machine = m
}

const lendingPolicy = `apiVersion: crossdock/v1
kind: NumberRange
metadata: {name: pallets}
spec: {owner: logistics, format: sscc, companyPrefix: "0614141", extension: 3, from: 1, to: 999999999, sites: [eu, na, ho], block: 20, low: 8, hourly: 100}
`

func newLending(t *testing.T, seed uint64) *lending {
	l := &lending{T: t, rnd: rand.New(rand.NewPCG(seed, 9)), now: time.Unix(1_800_000_000, 0), given: map[uint64]string{}}
	text := lendingPolicy
	for _, name := range []string{"eu", "na", "ho"} {
		text += fmt.Sprintf("---\napiVersion: crossdock/v1\nkind: Site\nmetadata: {name: %s}\nspec: {owner: it, region: %s}\n", name, name)
	}
	set, problems := policy.Compile(policy.Bundle{"p.yaml": []byte(text)})
	if set == nil {
		t.Fatal(problems.Error())
	}
	l.set = set
	l.open()
	t.Cleanup(func() { _ = l.machine.Close() })
	l.must(&model.Bootstrap{Asked: l.by(), Cluster: model.Cluster{ID: "c", Incarnation: "life 0", Approvals: model.ApprovalsSingle},
		Admin: model.Principal{Name: "root", Roles: []model.Role{model.Operator, model.Author, model.Approver, model.Admin}, TokenHash: [32]byte{1}}})
	r := set.Ranges["pallets"]
	proposed := l.must(&model.Propose{Asked: l.by(), Bundle: []byte(text), Digest: set.Digest, Sites: []string{"eu", "na", "ho"},
		Ranges: []model.NumberRange{{Name: r.Name, Span: r.Span, Sites: r.Sites, Block: r.Block, Low: r.Low, Hourly: r.Hourly}}}).(*model.Revision)
	l.must(&model.Approve{Asked: l.by(), Number: proposed.ID.Number, Digest: set.Digest})
	for _, name := range r.Sites {
		l.must(&model.CreateJoinToken{Asked: l.by(), Token: model.JoinToken{ID: name, Hash: [32]byte{2}, Site: name, Expires: l.now.Add(time.Hour)}})
		l.must(&model.Enroll{At: l.now, Token: name, Secret: [32]byte{2}, Key: [32]byte{3}})
		b := &borrower{name: name, disk: copied{dir: t.TempDir(), epoch: 1}, had: map[string][]numbers.Number{}}
		l.sites = append(l.sites, b)
		l.start(b)
		t.Cleanup(func() { _ = b.store.Close() })
	}
	l.backup, l.saved = slices.Clone(l.log), l.now
	return l
}

func (l *lending) start(b *borrower) {
	l.Helper()
	s, err := numbers.Open(numbers.Config{Path: filepath.Join(b.disk.dir, "numbers.db"), Site: b.name, Epoch: b.disk.epoch,
		Policy: func() *policy.Set { return l.set }, Now: func() time.Time { return l.now }})
	if err != nil {
		l.Fatal(err)
	}
	b.store = s
}

// stop ends the process; what it had written is on disk.
func (l *lending) stop(b *borrower) {
	l.Helper()
	b.connected = false
	if err := b.store.Close(); err != nil {
		l.Fatal(err)
	}
}

func (l *lending) copyOf(d copied) copied {
	l.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "numbers.db"))
	if err != nil {
		l.Fatal(err)
	}
	d.dir = l.TempDir()
	if err := os.WriteFile(filepath.Join(d.dir, "numbers.db"), text, 0o600); err != nil {
		l.Fatal(err)
	}
	return d
}

func (l *lending) id() (id [16]byte) {
	l.requests++
	binary.BigEndian.PutUint64(id[:], l.requests)
	return id
}

// connect opens a session as the uplink does, with a new epoch where this is an old copy.
func (l *lending) connect(b *borrower) {
	l.Helper()
	for range 2 {
		b.disk.session++
		marks, ok := b.store.Marks()
		cmd := &model.Greet{At: l.now, Agent: b.name, Epoch: b.disk.epoch, Session: b.disk.session, Nonce: l.id(), Told: ok}
		for _, m := range marks {
			cmd.Numbers = append(cmd.Numbers, model.NumberMark{Range: m.Range, Highest: m.Highest, Form: m.Form, Used: m.Used, Counted: true})
		}
		value, refusal := l.do(cmd)
		if refusal != nil {
			l.Fatalf("%s greets: %v", b.name, refusal)
		}
		answer := value.(*model.GreetResult)
		if answer.Epoch > b.disk.epoch { // fenced by a copy that was lost: an operator lets it in
			l.must(&model.AllowAgent{Asked: l.by(), Agent: b.name})
		} else if !answer.Stale {
			if err := b.store.Agreed(); err != nil {
				l.Fatal(err)
			}
			b.connected = true
			return
		}
		granted := l.must(&model.NewEpoch{At: l.now, Agent: b.name, Epoch: b.disk.epoch, Nonce: l.id(), Why: "old copy"}).(*model.NewEpochResult)
		if err := b.store.Begin(granted.Epoch); err != nil {
			l.Fatal(err)
		}
		b.disk.epoch = granted.Epoch
	}
	l.Fatalf("%s comes to no session", b.name)
}

// fill leases what a site wants, if nothing comes between.
func (l *lending) fill(b *borrower) {
	l.Helper()
	wanted, err := b.store.Wanted()
	if errors.Is(err, numbers.ErrCopy) {
		b.connected = false // as the uplink does
	} else if err != nil {
		l.Fatal(err)
	}
	for _, w := range wanted {
		value, refusal := l.do(&model.LeaseNumbers{At: l.now, Agent: b.name, Epoch: b.disk.epoch, Range: w.Range, Request: w.ID, Have: w.Have, Want: w.Want, Highest: w.Highest})
		if refusal != nil {
			if refusal.Code != model.Conflict || !strings.Contains(refusal.Text, "hourly") {
				l.Fatalf("%s leases: %v", b.name, refusal)
			}
			l.waits++
			continue
		}
		block := value.(*model.NumberBlock)
		l.leased = max(l.leased, block.Last)
		if l.rnd.IntN(4) == 0 { // the answer is lost, and with it the session
			b.connected = false
			return
		}
		if err := b.store.Leased(w.Range, w.ID, block.First, block.Last); err != nil {
			l.Fatal(err)
		}
	}
}

func (l *lending) take(b *borrower) {
	l.Helper()
	if len(b.had) > 0 && l.rnd.IntN(5) == 0 { // once more
		for reference, before := range b.had {
			if again, err := b.store.Take("pallets", reference, len(before)); err != nil || !slices.Equal(again, before) {
				l.Fatalf("%s of %s had %v, then %v, %v", reference, b.name, before, again, err)
			}
			break
		}
	}
	reference, count := fmt.Sprint("shipment ", l.rnd.Uint64()), 1+l.rnd.IntN(4)
	got, err := b.store.Take("pallets", reference, count)
	if errors.Is(err, numbers.ErrCopy) {
		l.copies++
	}
	if err != nil {
		if !errors.Is(err, numbers.ErrUsedUp) && !errors.Is(err, numbers.ErrCopy) {
			l.Fatal(err)
		}
		return
	}
	b.had[reference] = got
	for _, n := range got {
		if before, twice := l.given[n.Serial]; twice {
			l.Fatalf("%s is printed for %s of %s, and was for %s", n.Text, reference, b.name, before)
		}
		l.given[n.Serial] = reference + " of " + b.name
	}
}

// putBack runs a site on an image of its disk, some time after it was made.
func (l *lending) putBack(b *borrower) {
	l.Helper()
	if b.image.dir == "" {
		return
	}
	l.stop(b)
	l.now = l.now.Add(20 * time.Minute)
	b.disk = l.copyOf(b.image)
	b.had = map[string][]numbers.Number{}
	l.images++
	l.start(b)
}

// restore begins another life of the control plane from its backup. The lines are cut by it.
func (l *lending) restore() {
	l.Helper()
	if err := l.machine.Close(); err != nil {
		l.Fatal(err)
	}
	l.open()
	l.log = slices.Clone(l.backup)
	if _, err := l.machine.Apply(l.log); err != nil {
		l.Fatal(err)
	}
	l.life++
	l.must(&model.Rebuild{At: l.now, Incarnation: fmt.Sprint("life ", l.life), Rebuilt: model.Rebuilt{At: l.now, From: l.saved, Node: "n1"}})
	if cluster, _ := l.machine.Cluster(); cluster.Generation <= l.newest { // agents tell of lives that this one does not come from
		l.must(&model.RaiseGeneration{At: l.now, Above: l.newest, Agent: "eu"})
		l.vouch()
	}
	cluster, _ := l.machine.Cluster()
	l.newest = cluster.Generation
	for _, b := range l.sites {
		b.connected = false
	}
}

func (l *lending) step() {
	b := l.sites[l.rnd.IntN(len(l.sites))]
	switch n := l.rnd.IntN(40); {
	case n < 14:
		l.take(b)
	case n < 24:
		if !b.connected {
			l.connect(b)
		}
		l.fill(b)
	case n < 28:
		b.connected = false
	case n < 31:
		l.stop(b)
		l.start(b)
	case n == 31:
		l.stop(b)
		b.image = l.copyOf(b.disk)
		l.start(b)
	case n == 32:
		l.putBack(b)
	case n == 33:
		l.backup, l.saved = slices.Clone(l.log), l.now
	case n == 34 && l.rnd.IntN(2) == 0:
		l.restore()
	case n == 35: // an operator, who has read the records of what was printed
		if l.rnd.IntN(3) == 0 {
			l.vouch()
		}
	default:
		l.now = l.now.Add(time.Duration(l.rnd.IntN(300)) * time.Second)
	}
}

// vouch takes back what was passed over, down to what was leased in all lives.
func (l *lending) vouch() {
	l.Helper()
	r := l.machine.Ranges()[0]
	l.must(&model.ReleaseRange{Asked: l.by(), Range: r.Name, Next: max(r.Sure, l.leased+1)})
}

// Leases, outages, restarts, restores of the control plane and of sites in any order: no number
// is printed twice, and a shipment that asks again gets what it had.
func TestNoNumberIsPrintedTwice(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			l := newLending(t, seed)
			for range 1200 {
				l.step()
			}
			t.Logf("%d numbers, %d lives of the control plane, %d images put back, %d times an old copy gave nothing, %d times an hour was full",
				len(l.given), l.life+1, l.images, l.copies, l.waits)
			if len(l.given) < 200 || l.life < 3 || l.images < 3 || l.waits == 0 {
				t.Error("the test has lost its point")
			}
		})
	}
}
