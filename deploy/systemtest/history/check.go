package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Property is what a fault breaks.
type Property string

// The properties.
const (
	NoLoss      Property = "no loss"       // accepted: delivered everywhere, or a dead letter, or named as lost
	NoFalseLoss Property = "no false loss" // named as lost: was not delivered
	NoInvention Property = "no invention"  // delivered: offered, with this data, and owed to this system
	OnceAHop    Property = "once a hop"    // a journal holds an event once; a system gets it again only after a crash
	OneIdentity Property = "one identity"  // one idempotency key and one body for an event and a system
	InOrder     Property = "in order"      // of acceptance, for each agent, system and key
	OneByOne    Property = "one by one"    // attempts of a key do not overlap
	OneEnd      Property = "one end"       // an event ends at a system in one way: taken, or a dead letter, or lost
	Authority   Property = "authority"     // an event is the agent's that accepted it; one that is put out reaches nobody else
	Wellformed  Property = "well formed"   // the history itself makes sense
)

// Fault is one breach.
type Fault struct {
	Property Property
	Text     string
}

func (f Fault) String() string { return string(f.Property) + ": " + f.Text }

// Rules say what a history is judged by.
type Rules struct {
	// Owed names the systems that an event accepted by an agent must reach. It is the
	// test's own reading of the policy.
	Owed func(agent string) []string
	// Repeats is how often in all a system may get an event again that it had taken: each
	// crash of an agent allows as many as its deliveries under way.
	Repeats int
	// Skips names systems where later events of a key may go on past a dead letter.
	Skips map[string]bool
	// Partial says that the history was cut before everything came to rest: then nothing
	// is missed.
	Partial bool
	// Kept names agents whose journals still hold everything that they accepted.
	Kept []string
	// Pressed names those of them whose disk was full for a while. They may have let go of
	// what was delivered, but only of the oldest, up to one position.
	Pressed []string
	// Stands names the agent of a system. It is needed where an agent is put out.
	Stands map[string]string
}

type eventID struct{ source, id string }

type pair struct {
	event  eventID
	system string
}

type queue struct{ agent, system, key string }

// delivery is what became of one event at one system.
type delivery struct {
	idempotency, body string
	open              int // attempt under way
	firstBegun        int // line of the first attempt, from 1
	firstDone         int // line of the first success
	dones             int
	doneLast          bool // the last attempt that ended was a success
	dead              bool // or lost: nobody waits for it
	lost              bool
}

type record struct {
	agent    string
	key      string
	position uint64
	data     string
	accepted bool
	held     bool // in the journal of agent
	out      bool // its agent was put out before anybody offered it
}

// checker walks over the lines once and keeps what later lines are judged by.
type checker struct {
	rules      Rules
	faults     []Fault
	events     map[eventID]*record
	deliveries map[pair]*delivery
	keys       map[string]pair // idempotency keys
	busy       map[queue]int   // attempt under way
	held       map[Line]bool
	oldest     map[string]uint64 // position in an agent's journal of what it accepted and still holds
	out        map[string]bool   // agents
	repeats    int
}

// Check gives everything that is wrong.
func Check(lines []Line, rules Rules) []Fault {
	c := &checker{rules: rules, events: map[eventID]*record{}, deliveries: map[pair]*delivery{},
		keys: map[string]pair{}, busy: map[queue]int{}, held: map[Line]bool{}, oldest: map[string]uint64{}, out: map[string]bool{}}
	for i, l := range lines {
		at := i + 1
		switch l.Kind {
		case Offered:
			c.offered(l)
		case Accepted:
			c.accepted(l)
		case Begun:
			c.begun(at, l)
		case Ended:
			c.ended(at, l)
		case Held:
			c.holds(l)
		case Dead:
			c.delivery(l).dead = true
		case Lost:
			d := c.delivery(l)
			d.dead, d.lost = true, true
		case Out:
			c.out[l.Agent] = true
		default:
			c.fault(Wellformed, "line %d is %q", at, l.Kind)
		}
	}
	if c.repeats > rules.Repeats {
		c.fault(OnceAHop, "%d deliveries of what a system had taken already, %d are explained", c.repeats, rules.Repeats)
	}
	c.completeness()
	c.order()
	return c.faults
}

func (c *checker) fault(p Property, format string, args ...any) {
	c.faults = append(c.faults, Fault{p, fmt.Sprintf(format, args...)})
}

func (c *checker) delivery(l Line) *delivery {
	at := pair{eventID{l.Source, l.ID}, l.System}
	d := c.deliveries[at]
	if d == nil {
		d = &delivery{}
		c.deliveries[at] = d
	}
	return d
}

func (c *checker) offered(l Line) {
	id := eventID{l.Source, l.ID}
	if e := c.events[id]; e == nil {
		c.events[id] = &record{agent: l.Agent, key: l.Key, data: l.Data, out: c.out[l.Agent]}
	} else if e.data != l.Data || e.agent != l.Agent || e.key != l.Key {
		c.fault(Wellformed, "event %v was offered in two forms", id)
	}
}

func (c *checker) accepted(l Line) {
	id := eventID{l.Source, l.ID}
	e := c.events[id]
	switch {
	case e == nil:
		c.fault(NoInvention, "event %v was accepted and never offered", id)
		return
	case e.agent != l.Agent || l.Position == 0:
		c.fault(Wellformed, "event %v was accepted by %q at position %d, offered to %q", id, l.Agent, l.Position, e.agent)
	case e.accepted && e.position != l.Position:
		c.fault(OnceAHop, "event %v was accepted at position %d and again at %d", id, e.position, l.Position)
	}
	e.accepted, e.position = true, l.Position
}

func (c *checker) begun(at int, l Line) {
	id := eventID{l.Source, l.ID}
	e := c.events[id]
	if e == nil || e.data != l.Data || e.key != l.Key {
		c.fault(NoInvention, "%s got event %v of key %q with data %s, which nobody offered so", l.System, id, l.Key, l.Data)
		return
	}
	if !slices.Contains(c.rules.Owed(e.agent), l.System) {
		c.fault(NoInvention, "%s got event %v, which is not meant for it", l.System, id)
	}
	if e.out && c.rules.Stands[l.System] != e.agent {
		c.fault(Authority, "%s got event %v of %s, which had been put out before that was offered", l.System, id, e.agent)
	}
	d := c.delivery(l)
	if d.firstBegun == 0 {
		d.firstBegun, d.idempotency, d.body = at, l.Idempotency, l.Body
	}
	if d.idempotency != l.Idempotency || d.body != l.Body || l.Idempotency == "" {
		c.fault(OneIdentity, "%s got event %v under key %q with body %s, and before under %q with %s", l.System, id, l.Idempotency, l.Body, d.idempotency, d.body)
	}
	me := pair{id, l.System}
	if other, known := c.keys[l.Idempotency]; known && other != me {
		c.fault(OneIdentity, "%v and %v share the idempotency key %s", other, me, l.Idempotency)
	}
	c.keys[l.Idempotency] = me
	at0 := queue{e.agent, l.System, e.key}
	if other := c.busy[at0]; other != 0 {
		c.fault(OneByOne, "attempt %d of %v began while attempt %d of the same key was under way", l.Attempt, me, other)
	}
	c.busy[at0], d.open = l.Attempt, l.Attempt
}

func (c *checker) ended(at int, l Line) {
	id := eventID{l.Source, l.ID}
	e, d := c.events[id], c.delivery(l)
	if e == nil || d.open != l.Attempt {
		c.fault(Wellformed, "attempt %d at %s ended and did not begin", l.Attempt, l.System)
		return
	}
	d.open, d.doneLast = 0, l.Done
	if at0 := (queue{e.agent, l.System, e.key}); c.busy[at0] == l.Attempt {
		delete(c.busy, at0)
	}
	if !l.Done {
		return
	}
	if d.dones++; d.dones == 1 {
		d.firstDone = at
	} else {
		c.repeats++
	}
}

func (c *checker) holds(l Line) {
	at, from := l.Position, l.From
	l.Position, l.From = 0, ""
	if c.held[l] {
		c.fault(OnceAHop, "the journal of %s holds event %s %s twice", l.Agent, l.Source, l.ID)
	}
	c.held[l] = true
	e := c.events[eventID{l.Source, l.ID}]
	if e != nil && e.agent == l.Agent {
		e.held = true
		if before, ok := c.oldest[l.Agent]; !ok || at < before {
			c.oldest[l.Agent] = at
		}
	}
	if e != nil && from != "" && from != e.agent {
		c.fault(Authority, "the journal of %s holds event %s %s as accepted by %s, it was offered to %s", l.Agent, l.Source, l.ID, from, e.agent)
	}
	switch {
	case e == nil:
		c.fault(NoInvention, "the journal of %s holds event %s %s, which nobody offered", l.Agent, l.Source, l.ID)
	case e.agent == l.Agent && e.accepted && e.position != at:
		c.fault(OnceAHop, "event %s %s stands at position %d of %s, its answer said %d", l.Source, l.ID, at, l.Agent, e.position)
	}
}

// completeness looks both ways: at what was owed, and at what was given up.
func (c *checker) completeness() {
	for at, d := range c.deliveries {
		if d.lost && d.dones > 0 {
			c.fault(NoFalseLoss, "event %v is named as lost for %s, which has taken it", at.event, at.system)
		}
		if d.dead && !d.lost && d.doneLast {
			c.fault(OneEnd, "event %v is a dead letter for %s, which has taken it", at.event, at.system)
		}
	}
	if c.rules.Partial {
		return
	}
	for id, e := range c.events {
		if !e.accepted {
			continue // whoever offers in vain offers again; the outcome of one try is unknown
		}
		if !e.held && slices.Contains(c.rules.Kept, e.agent) && !c.letGo(e) {
			c.fault(NoLoss, "event %v, accepted by %s at %d, is not in its journal", id, e.agent, e.position)
		}
		for _, system := range c.rules.Owed(e.agent) {
			if d := c.deliveries[pair{id, system}]; d == nil || d.dones == 0 && !d.dead {
				c.fault(NoLoss, "event %v, accepted by %s at %d, did not reach %s", id, e.agent, e.position, system)
			}
		}
	}
}

// letGo says whether an event is of the oldest that an agent gave up to have room.
func (c *checker) letGo(e *record) bool {
	oldest, holds := c.oldest[e.agent]
	return holds && e.position < oldest && slices.Contains(c.rules.Pressed, e.agent)
}

// order looks at each key of each agent and system: successes in the order of positions,
// and nothing tried before what stands before it was taken.
func (c *checker) order() {
	type turn struct {
		event    eventID
		position uint64
		*delivery
	}
	turns := map[queue][]turn{}
	for at, d := range c.deliveries {
		if e := c.events[at.event]; e != nil && e.accepted && d.firstBegun > 0 {
			q := queue{e.agent, at.system, e.key}
			turns[q] = append(turns[q], turn{at.event, e.position, d})
		}
	}
	for q := range maps.Keys(turns) {
		all := turns[q]
		slices.SortFunc(all, func(a, b turn) int { return cmp.Compare(a.position, b.position) })
		for i := 1; i < len(all); i++ {
			before, after := all[i-1], all[i]
			switch {
			case before.position == after.position:
				c.fault(Wellformed, "events %v and %v have one position", before.event, after.event)
			case before.dead && c.rules.Skips[q.system]:
			case before.firstDone == 0 && before.dead: // later ones may go on once it is discarded
			case before.firstDone == 0 && c.rules.Partial && after.firstDone == 0:
			case before.firstDone == 0 || after.firstBegun < before.firstDone:
				c.fault(InOrder, "%s got %v of key %q before %v, which %s accepted earlier", q.system, after.event, q.key, before.event, q.agent)
			}
		}
	}
}
