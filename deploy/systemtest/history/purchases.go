package history

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// What is kept of purchases at a provider.
const (
	BoughtOnce  Property = "bought once"  // a reference is bought at most once, whatever happens in between
	AnswerHolds Property = "answer holds" // what was answered as bought was bought, under that number
	FoundAgain  Property = "found again"  // what was answered is answered again, and found by its reference
	EventOnce   Property = "event once"   // a purchase that was answered has one event, which reaches its system; no other purchase has one
)

// Deed is what was seen of a purchase.
type Deed string

// The deeds.
const (
	Sold    Deed = "sold"    // the provider has charged for it
	Told    Deed = "told"    // a system was answered that it is bought
	Again   Deed = "again"   // the same, asked at the end of a round
	Found   Deed = "found"   // the carrier was asked for the reference at the end of a round
	Learned Deed = "learned" // its event was taken by the system that it goes to
)

// Purchase is one thing that was seen of a reference at a site.
type Purchase struct {
	Deed            Deed
	Site, Reference string
	Number          string // the provider's; empty: it was not found, or there is none
	Event           string // of Learned: id of the event
	Key             string // of Learned: its idempotency key
}

// Purchases is a growing list of them. It is safe for concurrent use.
type Purchases struct {
	mu   sync.Mutex // guards all
	list []Purchase
}

// Add notes what was seen.
func (p *Purchases) Add(one Purchase) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, one)
}

// List gives a copy of what was noted so far.
func (p *Purchases) List() []Purchase {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

// item is what is known of one reference at one site.
type item struct {
	site, reference          string
	sold, told, again, found []string                   // numbers
	events                   map[string]map[string]bool // idempotency keys, by id
	learned                  []string                   // numbers
}

// CheckPurchases judges them when all has come to rest. repeats is how often in all an event
// may have come again to a system that had taken it.
func CheckPurchases(list []Purchase, repeats int) (faults []Fault) {
	items, events := map[[2]string]*item{}, map[string]*item{}
	of := func(p Purchase) *item {
		name := [2]string{p.Site, p.Reference}
		if items[name] == nil {
			items[name] = &item{site: p.Site, reference: p.Reference, events: map[string]map[string]bool{}}
		}
		return items[name]
	}
	for _, p := range list {
		i := of(p)
		switch p.Deed {
		case Sold:
			i.sold = append(i.sold, p.Number)
		case Told:
			i.told = append(i.told, p.Number)
		case Again:
			i.again = append(i.again, p.Number)
		case Found:
			i.found = append(i.found, p.Number)
		case Learned:
			if i.events[p.Event] == nil {
				i.events[p.Event] = map[string]bool{}
			}
			i.events[p.Event][p.Key] = true
			i.learned = append(i.learned, p.Number)
			if other := events[p.Event]; other != nil && other != i {
				faults = append(faults, Fault{EventOnce, fmt.Sprintf("event %s is of %s at %s, and of %s at %s", p.Event, i.reference, i.site, other.reference, other.site)})
			}
			events[p.Event] = i
		default:
			faults = append(faults, Fault{Wellformed, fmt.Sprintf("%q is seen of %s", p.Deed, p.Reference)})
		}
	}
	again := 0
	for _, name := range slices.SortedFunc(maps.Keys(items), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		i := items[name]
		faults = append(faults, i.check()...)
		again += max(0, len(i.learned)-len(i.events))
	}
	if again > repeats {
		faults = append(faults, Fault{EventOnce, fmt.Sprintf("%d events came again to a system that had taken them, %d are explained", again, repeats)})
	}
	return faults
}

func (i *item) check() (faults []Fault) {
	fault := func(p Property, format string, args ...any) {
		faults = append(faults, Fault{p, fmt.Sprintf("%s at %s: ", i.reference, i.site) + fmt.Sprintf(format, args...)})
	}
	if len(i.sold) > 1 {
		fault(BoughtOnce, "bought %d times, as %q", len(i.sold), i.sold)
	}
	for _, number := range i.told {
		if !slices.Contains(i.sold, number) {
			fault(AnswerHolds, "answered as %q, sold was %q", number, i.sold)
		}
	}
	if len(i.told) > 0 {
		if len(i.again) == 0 || len(i.found) == 0 {
			fault(FoundAgain, "nobody has asked for it at the end")
		}
		for _, number := range slices.Concat(i.told[1:], i.again, i.found) {
			if number != i.told[0] {
				fault(FoundAgain, "answered as %q first, and as %q later", i.told[0], number)
			}
		}
	}
	switch {
	case len(i.told) > 0 && len(i.events) == 0:
		fault(EventOnce, "its event came to nobody")
	case len(i.events) > 1:
		fault(EventOnce, "it has %d events", len(i.events))
	case len(i.events) > 0 && len(i.sold) == 0:
		fault(EventOnce, "it has an event, and was not bought")
	}
	for id, keys := range i.events {
		if len(keys) > 1 {
			fault(EventOnce, "event %s came with %d idempotency keys", id, len(keys))
		}
	}
	for _, number := range i.learned {
		if len(i.sold) > 0 && !slices.Contains(i.sold, number) {
			fault(EventOnce, "its event names %q, sold was %q", number, i.sold)
		}
	}
	return faults
}
