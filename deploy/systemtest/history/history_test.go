package history

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func owed(agent string) []string {
	if agent == "eu" {
		return []string{"erp", "crm"}
	}
	return []string{"erp"}
}

func idempotency(id, system string) string { return Hash([]byte(id + "/" + system)) }

// good makes a history in which all is well: two agents, a few keys, failures on the way,
// two systems, journals at the end.
func good(seed uint64) []Line {
	r := rand.New(rand.NewPCG(seed, 7))
	h := &History{}
	type one struct {
		line  Line
		steps []string // systems that have not taken it
	}
	queues := map[string][]*one{} // by agent and key
	position := map[string]uint64{}
	var names []string
	for i := range 30 {
		agent := []string{"eu", "na"}[r.IntN(2)]
		key := fmt.Sprint("k", r.IntN(3))
		l := Line{Kind: Offered, Agent: agent, Source: "/shop/" + agent, ID: fmt.Sprint("e", i), Key: key, Data: Hash(fmt.Append(nil, i))}
		h.Add(l)
		if r.IntN(4) == 0 {
			h.Add(l) // its answer was lost; it is offered again
		}
		position[agent] += 1 + r.Uint64N(2)
		l.Kind, l.Position = Accepted, position[agent]
		h.Add(l)
		name := agent + "/" + key
		if queues[name] == nil {
			names = append(names, name)
		}
		queues[name] = append(queues[name], &one{l, owed(agent)})
	}
	for len(names) > 0 {
		n := r.IntN(len(names))
		q := queues[names[n]]
		if len(q) == 0 {
			names = slices.Delete(names, n, n+1)
			continue
		}
		head := q[0]
		system := head.steps[0]
		l := head.line
		l.System, l.Position = system, 0
		l.Idempotency, l.Body = idempotency(l.ID, system), Hash([]byte("body "+l.ID))
		done := r.IntN(4) > 0
		h.Begin(l)(done)
		if !done {
			continue
		}
		if head.steps = head.steps[1:]; len(head.steps) == 0 {
			queues[names[n]] = q[1:]
		}
	}
	return append(h.Lines(), journals(h.Lines())...)
}

// journals lists what the agents hold at the end; the systems stand at agent hq.
func journals(lines []Line) []Line {
	var out []Line
	hq := uint64(0)
	for _, l := range lines {
		if l.Kind != Accepted {
			continue
		}
		hq++
		out = append(out, Line{Kind: Held, Agent: l.Agent, From: l.Agent, Source: l.Source, ID: l.ID, Position: l.Position},
			Line{Kind: Held, Agent: "hq", From: l.Agent, Source: l.Source, ID: l.ID, Position: hq})
	}
	return out
}

func rules() Rules {
	return Rules{Owed: owed, Kept: []string{"eu", "na"}, Stands: map[string]string{"erp": "hq", "crm": "hq"}}
}

func TestGoodHistoriesPass(t *testing.T) {
	for seed := range uint64(200) {
		if faults := Check(good(seed), rules()); len(faults) > 0 {
			t.Fatalf("seed %d: %v", seed, faults)
		}
	}
}

// pick gives the index of a random line that fits.
func pick(r *rand.Rand, lines []Line, fits func(Line) bool) int {
	var at []int
	for i, l := range lines {
		if fits(l) {
			at = append(at, i)
		}
	}
	return at[r.IntN(len(at))]
}

func success(l Line) bool { return l.Kind == Ended && l.Done }

// without removes an attempt.
func without(lines []Line, attempt int) []Line {
	return slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return l.Attempt == attempt && attempt != 0 })
}

// twoOfOneKey finds the successful attempts of two events that follow each other.
func twoOfOneKey(r *rand.Rand, lines []Line) (first, second int) {
	last := map[string]int{}
	var pairs [][2]int
	for i, l := range lines {
		if !success(l) {
			continue
		}
		q := l.Source + l.Key + l.System
		if before, ok := last[q]; ok {
			pairs = append(pairs, [2]int{before, i})
		}
		last[q] = i
	}
	p := pairs[r.IntN(len(pairs))]
	return p[0], p[1]
}

// mutations break one property each.
var mutations = []struct {
	name   string
	breaks Property
	change func(r *rand.Rand, lines []Line) []Line
}{
	{"a delivery removed", NoLoss, func(r *rand.Rand, lines []Line) []Line {
		return without(lines, lines[pick(r, lines, success)].Attempt)
	}},
	{"a delivery named as lost", NoFalseLoss, func(r *rand.Rand, lines []Line) []Line {
		l := lines[pick(r, lines, success)]
		return append(slices.Clone(lines), Line{Kind: Lost, System: l.System, Source: l.Source, ID: l.ID, Key: l.Key})
	}},
	{"an event gone from the journal that accepted it", NoLoss, func(r *rand.Rand, lines []Line) []Line {
		at := pick(r, lines, func(l Line) bool { return l.Kind == Held && l.Agent != "hq" })
		return slices.Delete(slices.Clone(lines), at, at+1)
	}},
	{"an event removed everywhere but at its acceptance", NoLoss, func(r *rand.Rand, lines []Line) []Line {
		gone := lines[pick(r, lines, success)]
		return slices.DeleteFunc(slices.Clone(lines), func(l Line) bool {
			return l.ID == gone.ID && l.Kind != Offered && l.Kind != Accepted
		})
	}},
	{"a success that was none", NoLoss, func(r *rand.Rand, lines []Line) []Line {
		lines = slices.Clone(lines)
		lines[pick(r, lines, success)].Done = false
		return lines
	}},
	{"an event that nobody offered", NoInvention, func(r *rand.Rand, lines []Line) []Line {
		gone := lines[pick(r, lines, success)]
		return slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return l.ID == gone.ID && l.Kind == Offered })
	}},
	{"a delivery doubled", OnceAHop, func(r *rand.Rand, lines []Line) []Line {
		again := lines[pick(r, lines, success)]
		again.Attempt = 1_000_000
		begun := again
		begun.Kind, begun.Done = Begun, false
		return append(slices.Clone(lines), begun, again)
	}},
	{"an event doubled in a journal", OnceAHop, func(r *rand.Rand, lines []Line) []Line {
		again := lines[pick(r, lines, func(l Line) bool { return l.Kind == Held })]
		again.Position += 1000
		return append(slices.Clone(lines), again)
	}},
	{"an event accepted at two positions", OnceAHop, func(r *rand.Rand, lines []Line) []Line {
		at := pick(r, lines, func(l Line) bool { return l.Kind == Accepted })
		again := lines[at]
		again.Position += 1000
		return slices.Insert(slices.Clone(lines), at+1, again)
	}},
	{"two deliveries swapped", InOrder, func(r *rand.Rand, lines []Line) []Line {
		first, second := twoOfOneKey(r, lines)
		a, b := lines[first], lines[second]
		moved := []Line{begunOf(lines, a), a}
		at := slices.Index(lines, b)
		lines = slices.Insert(slices.Clone(lines), at+1, moved...)
		return slices.Concat(without(lines[:at], a.Attempt), lines[at:])
	}},
	{"two acceptances swapped", InOrder, func(r *rand.Rand, lines []Line) []Line {
		first, second := twoOfOneKey(r, lines)
		a, b := lines[first], lines[second]
		lines = slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return l.Kind == Held })
		x := slices.IndexFunc(lines, func(l Line) bool { return l.Kind == Accepted && l.ID == a.ID })
		y := slices.IndexFunc(lines, func(l Line) bool { return l.Kind == Accepted && l.ID == b.ID })
		lines[x].Position, lines[y].Position = lines[y].Position, lines[x].Position
		return lines
	}},
	{"data changed", NoInvention, func(r *rand.Rand, lines []Line) []Line {
		lines = slices.Clone(lines)
		lines[pick(r, lines, func(l Line) bool { return l.Kind == Begun })].Data = "other"
		return lines
	}},
	{"a body changed", OneIdentity, func(r *rand.Rand, lines []Line) []Line {
		return changeRepeat(r, lines, func(l *Line) { l.Body = "other" })
	}},
	{"an idempotency key changed", OneIdentity, func(r *rand.Rand, lines []Line) []Line {
		return changeRepeat(r, lines, func(l *Line) { l.Idempotency = "other" })
	}},
	{"an idempotency key shared", OneIdentity, func(r *rand.Rand, lines []Line) []Line {
		first, second := twoOfOneKey(r, lines)
		lines = slices.Clone(lines)
		for i := range lines {
			if lines[i].Attempt > 0 && lines[i].ID == lines[second].ID && lines[i].System == lines[second].System {
				lines[i].Idempotency = lines[first].Idempotency
			}
		}
		return lines
	}},
	{"two attempts of a key at a time", OneByOne, func(r *rand.Rand, lines []Line) []Line {
		first, second := twoOfOneKey(r, lines)
		end := lines[first]
		begun := slices.Index(lines, begunOf(lines, lines[second]))
		lines = slices.Insert(slices.Clone(lines), begun+1, end) // ends only after the next has begun
		return slices.Delete(lines, first, first+1)
	}},
	{"a dead letter of what was taken", OneEnd, func(r *rand.Rand, lines []Line) []Line {
		l := lines[pick(r, lines, success)]
		return append(slices.Clone(lines), Line{Kind: Dead, System: l.System, Source: l.Source, ID: l.ID, Key: l.Key})
	}},
	{"an event held in another's name", Authority, func(r *rand.Rand, lines []Line) []Line {
		lines = slices.Clone(lines)
		lines[pick(r, lines, func(l Line) bool { return l.Kind == Held && l.Agent == "hq" })].From = "other"
		return lines
	}},
	{"an agent put out before it accepted", Authority, func(r *rand.Rand, lines []Line) []Line {
		return slices.Insert(slices.Clone(lines), 0, Line{Kind: Out, Agent: lines[pick(r, lines, success)].Source[len("/shop/"):]})
	}},
	{"a delivery to a system that it is not meant for", NoInvention, func(r *rand.Rand, lines []Line) []Line {
		lines = slices.Clone(lines)
		at := pick(r, lines, success)
		for i := range lines {
			if lines[i].Attempt == lines[at].Attempt {
				lines[i].System = "wms"
			}
		}
		return lines
	}},
}

func begunOf(lines []Line, end Line) Line {
	return lines[slices.IndexFunc(lines, func(l Line) bool { return l.Kind == Begun && l.Attempt == end.Attempt })]
}

// changeRepeat changes the last of several attempts to deliver one event.
func changeRepeat(r *rand.Rand, lines []Line, change func(*Line)) []Line {
	lines = slices.Clone(lines)
	seen := map[string]bool{}
	var repeats []int
	for i, l := range lines {
		if l.Kind != Begun {
			continue
		}
		if seen[l.ID+"/"+l.System] {
			repeats = append(repeats, l.Attempt)
		}
		seen[l.ID+"/"+l.System] = true
		_ = i
	}
	attempt := repeats[r.IntN(len(repeats))]
	for i := range lines {
		if lines[i].Attempt == attempt {
			change(&lines[i])
		}
	}
	return lines
}

func TestEachMutationIsFound(t *testing.T) {
	for _, m := range mutations {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			for seed := range uint64(50) {
				faults := Check(m.change(rand.New(rand.NewPCG(seed, 9)), good(seed)), rules())
				if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Property == m.breaks }) {
					t.Fatalf("seed %d: found %v, want a breach of %q", seed, faults, m.breaks)
				}
			}
		})
	}
}

// TestWhatWasLetGo: an agent whose disk was full may have let go of its oldest events, of no
// other, and of no delivery.
func TestWhatWasLetGo(t *testing.T) {
	pressed := rules()
	pressed.Pressed = []string{"eu"}
	for seed := range uint64(50) {
		r, lines := rand.New(rand.NewPCG(seed, 3)), good(seed)
		var own []Line
		for _, l := range lines {
			if l.Kind == Held && l.Agent == "eu" {
				own = append(own, l)
			}
		}
		slices.SortFunc(own, func(a, b Line) int { return cmp.Compare(a.Position, b.Position) })
		cut := 1 + r.IntN(len(own)-1)
		rest := func(gone ...Line) []Line {
			return slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return slices.Contains(gone, l) })
		}
		if faults := Check(rest(own[:cut]...), pressed); len(faults) > 0 {
			t.Fatalf("seed %d: the oldest %d were let go: %v", seed, cut, faults)
		}
		for name, broken := range map[string]struct {
			lines []Line
			rules Rules
		}{
			"by one that had room":   {rest(own[:cut]...), rules()},
			"one that is not oldest": {rest(own[cut]), pressed},
			"all":                    {rest(own...), pressed},
			"one that was not delivered": {slices.DeleteFunc(rest(own[:cut]...), func(l Line) bool {
				return l.ID == own[0].ID && (l.Kind == Begun || l.Kind == Ended)
			}), pressed},
		} {
			if faults := Check(broken.lines, broken.rules); !slices.ContainsFunc(faults, func(f Fault) bool { return f.Property == NoLoss }) {
				t.Fatalf("seed %d: let go %s: found %v", seed, name, faults)
			}
		}
	}
}

func TestWhatIsExplainedIsNoFault(t *testing.T) {
	lines := good(1)
	again := lines[pick(rand.New(rand.NewPCG(1, 1)), lines, success)]
	again.Attempt = 1_000_000
	begun := again
	begun.Kind, begun.Done = Begun, false
	lines = append(lines, begun, again)
	explained := rules()
	explained.Repeats = 1
	if faults := Check(lines, explained); len(faults) > 0 {
		t.Errorf("a repeat after a crash: %v", faults)
	}

	// Who is put out afterwards has done nothing wrong before.
	if faults := Check(append(good(1), Line{Kind: Out, Agent: "eu"}), rules()); len(faults) > 0 {
		t.Errorf("put out at the end: %v", faults)
	}

	// A dead letter stands for a delivery, and so does what is named as lost; what is offered
	// in vain is owed to nobody.
	for _, kind := range []Kind{Dead, Lost} {
		lines = good(2)
		last := lines[pick(rand.New(rand.NewPCG(1, 1)), lines, success)]
		lines = slices.DeleteFunc(lines, func(l Line) bool { return success(l) && l.ID == last.ID && l.System == last.System })
		last.Kind, last.Done, last.Attempt = kind, false, 0
		lines = append(lines, last, Line{Kind: Offered, Agent: "eu", Source: "/shop/eu", ID: "never", Key: "k0"})
		lines = slices.DeleteFunc(lines, func(l Line) bool { return l.ID == last.ID && l.Kind == Begun && l.System == last.System })
		lines = slices.DeleteFunc(lines, func(l Line) bool { return l.ID == last.ID && l.Kind == Ended && l.System == last.System })
		if faults := Check(lines, rules()); len(faults) > 0 {
			t.Errorf("%s: %v", kind, faults)
		}
	}
}

func TestSaveWritesEveryLine(t *testing.T) {
	h := &History{}
	for _, l := range good(3) {
		h.Add(l)
	}
	file := filepath.Join(t.TempDir(), "history.jsonl")
	if err := h.Save(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(text), "\n"), len(h.Lines()); got != want {
		t.Errorf("%d lines in the file, want %d", got, want)
	}
}
