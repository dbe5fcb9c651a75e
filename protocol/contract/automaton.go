package contract

import "encoding/binary"

// An automaton matches a simple pattern in one step for each byte. It stands for the
// pattern engine where both mean the same: pattern.go says for which patterns, and it
// knows nothing of text beyond ASCII, for which the engine has to be asked.
type automaton struct {
	class [asciiEnd]uint8 // of each byte: bytes of one class are told apart nowhere
	width int             // how many classes
	next  []uint16        // by state and class
	ends  []bool          // by state: the text may end here
}

const asciiEnd = 0x80

// Two states of every automaton: from the first no text matches any more, in the second
// every text does.
const (
	lost  = 0
	won   = 1
	begun = 2 // where a text begins
)

// Limits of one automaton, and of the work for all of a schema: some patterns unfold to
// more states than could ever be held. Beyond them the engine matches.
const (
	maxParts     = 1024
	maxStates    = 512
	maxBuildWork = 4_000_000
)

// finds says that the pattern is found in a text. In one that goes beyond ASCII it may be
// all the same.
func (a *automaton) finds(text string) bool {
	state := begun
	for i := range len(text) {
		c := text[i]
		if c >= asciiEnd {
			return false
		}
		state = int(a.next[state*a.width+int(a.class[c])])
		if state <= won {
			return state == won
		}
	}
	return a.ends[state]
}

// builder makes an automaton of the parts of a pattern: the sets of parts that may come
// next are its states.
type builder struct {
	parts   []part
	first   int
	work    *int // what is left of it
	out     *automaton
	sets    [][]int // of each state, the parts that wait for a byte or the end
	byParts map[string]int
	seen    []int // when a part was last met
	round   int
}

// part is a step of a pattern: it takes a byte of a set, or none and goes on to out and
// other.
type part struct {
	kind       partKind
	set        set
	out, other int
}

type partKind uint8

const (
	takes  partKind = iota // a byte of set
	splits                 // goes on to both
	begins                 // only where the text begins
	ends                   // only where it ends
	found
)

// newAutomaton gives nil where a pattern is beyond the limits.
func newAutomaton(parts []part, first int, work *int) *automaton {
	b := &builder{parts: parts, first: first, work: work, out: &automaton{}, byParts: map[string]int{}, seen: make([]int, len(parts))}
	representatives := b.classify()
	b.out.width = len(representatives)
	for range begun {
		b.add(nil, false)
	}
	for c := range representatives {
		b.out.next[won*b.out.width+c] = won
	}
	b.round++
	waiting, hit := b.follow(nil, first, true, false)
	b.add(waiting, true)
	if hit { // at the beginning of every text
		for c := range representatives {
			b.out.next[begun*b.out.width+c] = won
		}
		b.out.ends[begun] = true
		return b.out
	}
	for state := begun; state < len(b.sets); state++ {
		for c, example := range representatives {
			to := b.step(b.sets[state], example)
			if *b.work < 0 || len(b.sets) > maxStates {
				return nil
			}
			b.out.next[state*b.out.width+c] = uint16(to)
		}
	}
	return b.out
}

// classify puts bytes together that are in the same sets, and gives one of each class.
func (b *builder) classify() (representatives []byte) {
	var sets []set
	distinct := map[set]bool{}
	for i := range b.parts {
		if p := &b.parts[i]; p.kind == takes && !distinct[p.set] {
			distinct[p.set] = true
			sets = append(sets, p.set)
		}
	}
	classes := map[string]int{}
	for c := range asciiEnd {
		in := make([]byte, len(sets))
		for i, s := range sets {
			if s.has(byte(c)) {
				in[i] = 1
			}
		}
		class, known := classes[string(in)]
		if !known {
			class = len(representatives)
			classes[string(in)] = class
			representatives = append(representatives, byte(c))
		}
		b.out.class[c] = uint8(class)
		*b.work -= len(sets)
	}
	return representatives
}

// add makes a state.
func (b *builder) add(waiting []int, atBegin bool) int {
	state := len(b.sets)
	b.sets = append(b.sets, waiting)
	b.out.next = append(b.out.next, make([]uint16, b.out.width)...)
	b.out.ends = append(b.out.ends, state == won || b.mayEnd(waiting, atBegin))
	return state
}

// step gives the state after a byte: what was waiting goes on, and the pattern may begin
// anew, since it may be found anywhere.
func (b *builder) step(waiting []int, c byte) int {
	b.round++
	var next []int
	hit := false
	for _, i := range waiting {
		if p := &b.parts[i]; p.kind == takes && p.set.has(c) {
			var h bool
			next, h = b.follow(next, p.out, false, false)
			hit = hit || h
		}
	}
	next, h := b.follow(next, b.first, false, false)
	switch {
	case hit || h:
		return won
	case len(next) == 0:
		return lost
	}
	var key []byte
	for _, i := range next {
		key = binary.AppendUvarint(key, uint64(i))
	}
	state, known := b.byParts[string(key)]
	if !known {
		state = b.add(next, false)
		b.byParts[string(key)] = state
	}
	return state
}

// follow adds to waiting what can be reached from a part without a byte, and says whether
// the end of the pattern can be.
func (b *builder) follow(waiting []int, i int, atBegin, atEnd bool) (all []int, hit bool) {
	if b.seen[i] == b.round {
		return waiting, false
	}
	b.seen[i] = b.round
	*b.work--
	switch p := &b.parts[i]; p.kind {
	case takes:
		return append(waiting, i), false
	case splits:
		waiting, first := b.follow(waiting, p.out, atBegin, atEnd)
		waiting, second := b.follow(waiting, p.other, atBegin, atEnd)
		return waiting, first || second
	case begins:
		if atBegin {
			return b.follow(waiting, p.out, atBegin, atEnd)
		}
	case ends:
		if atEnd {
			return b.follow(waiting, p.out, atBegin, atEnd)
		}
		return append(waiting, i), false
	case found:
		return waiting, true
	}
	return waiting, false
}

// mayEnd says whether the pattern is found if the text ends where these parts wait.
func (b *builder) mayEnd(waiting []int, atBegin bool) bool {
	b.round++
	for _, i := range waiting {
		if b.parts[i].kind == ends {
			if _, hit := b.follow(nil, i, atBegin, true); hit {
				return true
			}
		}
	}
	return false
}
