package history

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Record is what the audit record of a control plane keeps: it only grows, and has one
// entry for each change.
const Record Property = "append-only record"

// Entry is one line of the audit record, as the API shows it.
type Entry struct {
	Number   uint64
	At       time.Time
	By       string
	Action   string
	Object   string
	Detail   json.RawMessage
	Previous string // sha256:HEX
	Hash     string
}

// Head is how far the record had come when a node was asked.
type Head struct {
	Node    string
	Entries uint64
	Head    string
}

// hash computes an entry's hash anew, from what is said of the record and not with the code
// that writes it.
func (e *Entry) hash() string {
	sum := sha256.New()
	previous, err := hex.DecodeString(strings.TrimPrefix(e.Previous, "sha256:"))
	if err != nil {
		return "previous is no hash"
	}
	sum.Write(previous)
	number := func(n uint64) { sum.Write(binary.BigEndian.AppendUint64(nil, n)) }
	number(e.Number)
	number(uint64(e.At.Unix()))
	number(uint64(e.At.Nanosecond()))
	for _, text := range []string{e.By, e.Action, e.Object, string(e.Detail)} {
		number(uint64(len(text)))
		sum.Write([]byte(text))
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}

// CheckRecord judges the whole record: that it is dense and chained from its first entry
// on, and that every head that was seen earlier is one of it.
func CheckRecord(entries []Entry, heads []Head) (faults []Fault) {
	fault := func(format string, args ...any) {
		faults = append(faults, Fault{Record, fmt.Sprintf(format, args...)})
	}
	previous := "sha256:" + strings.Repeat("0", 2*sha256.Size)
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Number != uint64(i)+1:
			fault("entry %d stands at place %d", e.Number, i+1)
			return faults
		case e.Previous != previous:
			fault("entry %d follows %s, the one before is %s", e.Number, e.Previous, previous)
		case e.Hash != e.hash():
			fault("entry %d (%s of %s by %s) has the hash %s, its content %s", e.Number, e.Action, e.Object, e.By, e.Hash, e.hash())
		}
		previous = e.Hash
	}
	for _, h := range heads {
		if h.Entries > uint64(len(entries)) || h.Entries > 0 && entries[h.Entries-1].Hash != h.Head {
			fault("%s showed %d entries with the head %s, which is no beginning of the %d that there are now", h.Node, h.Entries, h.Head, len(entries))
		}
	}
	return faults
}

// change is what one operation, or several alike, write into the record.
type change struct {
	action, object string
	disabled       bool
}

func (e *Entry) change() (c change, ok bool) {
	c = change{action: e.Action, object: e.Object}
	switch e.Action {
	case "principal.put":
		var detail struct{ Disabled bool }
		if json.Unmarshal(e.Detail, &detail) != nil {
			return c, false
		}
		c.disabled = detail.Disabled
	case "policy.propose", "policy.approve":
		c.object = strconv.FormatUint(numberOf(e.Object), 10)
	default:
		return c, false
	}
	return c, true
}

// numberOf takes the number from generation.number.
func numberOf(revision string) uint64 {
	_, text, _ := strings.Cut(revision, ".")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (o *Operation) change() (c change, ok bool) {
	switch o.Verb {
	case Create:
		return change{action: "principal.put", object: o.Object}, true
	case Disable:
		return change{action: "principal.put", object: o.Object, disabled: true}, true
	case Propose:
		return change{action: "policy.propose", object: strconv.FormatUint(o.Revision, 10)}, true
	case Approve:
		return change{action: "policy.approve", object: strconv.FormatUint(o.Revision, 10)}, true
	}
	return c, false
}

// CheckOnce joins operations with the record: one that was done has exactly one entry, a
// refused or failed one none, and one of unknown outcome at most one. Proposals of unknown outcome
// have no number yet: their author may have that many entries more.
func CheckOnce(entries []Entry, operations []Operation) (faults []Fault) {
	done, unknown, written := map[change]int{}, map[change]int{}, map[change]int{}
	asked, proposed := map[string]int{}, map[string]int{} // by author: at most, entries
	for i := range operations {
		o := &operations[i]
		c, changes := o.change()
		if !changes {
			continue
		}
		if (o.Outcome == Done || o.Outcome == Unknown) && o.Verb == Propose {
			asked[o.By]++
		}
		switch o.Outcome {
		case Done:
			done[c]++
		case Unknown:
			unknown[c]++
		default:
			done[c] += 0 // it is looked at: nothing is to be found
		}
	}
	for i := range entries {
		if c, ok := entries[i].change(); ok {
			written[c]++
		}
		if entries[i].Action == "policy.propose" {
			proposed[entries[i].By]++
		}
	}
	for c := range unknown {
		done[c] += 0 // so is this
	}
	for c, least := range done {
		if c.action == "policy.propose" && c.object == "0" {
			continue // they are counted by their author
		}
		if n := written[c]; n < least || n > least+unknown[c] {
			faults = append(faults, Fault{Record, fmt.Sprintf("%s of %s (disabled %v) was done %d times and perhaps %d more, the record has %d entries",
				c.action, c.object, c.disabled, least, unknown[c], n)})
		}
	}
	for by, most := range asked {
		if proposed[by] > most {
			faults = append(faults, Fault{Record, fmt.Sprintf("%s has proposed at most %d revisions, the record has %d", by, most, proposed[by])})
		}
	}
	return faults
}
