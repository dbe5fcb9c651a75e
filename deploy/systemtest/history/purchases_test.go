package history

import (
	"slices"
	"testing"
)

// goodPurchases has one that went through, one whose answer was lost and that was bought all
// the same, one that nobody bought, and one of that reference at another site.
func goodPurchases() []Purchase {
	return []Purchase{
		{Deed: Sold, Site: "eu", Reference: "a", Number: "1"}, {Deed: Told, Site: "eu", Reference: "a", Number: "1"},
		{Deed: Told, Site: "eu", Reference: "a", Number: "1"}, {Deed: Learned, Site: "eu", Reference: "a", Number: "1", Event: "x", Key: "kx"},
		{Deed: Sold, Site: "eu", Reference: "b", Number: "2"},
		{Deed: Sold, Site: "hq", Reference: "a", Number: "3"}, {Deed: Learned, Site: "hq", Reference: "a", Number: "3", Event: "y", Key: "ky"},
		{Deed: Told, Site: "hq", Reference: "a", Number: "3"},
		{Deed: Again, Site: "eu", Reference: "a", Number: "1"}, {Deed: Found, Site: "eu", Reference: "a", Number: "1"},
		{Deed: Again, Site: "hq", Reference: "a", Number: "3"}, {Deed: Found, Site: "hq", Reference: "a", Number: "3"},
		{Deed: Found, Site: "eu", Reference: "b", Number: "2"},
	}
}

// TestPurchasesAreJudged breaks a good list in every way that there is a property for.
func TestPurchasesAreJudged(t *testing.T) {
	if faults := CheckPurchases(goodPurchases(), 0); len(faults) > 0 {
		t.Fatalf("a good list is faulty: %v", faults)
	}
	add := func(p ...Purchase) func([]Purchase) []Purchase {
		return func(list []Purchase) []Purchase { return append(list, p...) }
	}
	drop := func(i int) func([]Purchase) []Purchase {
		return func(list []Purchase) []Purchase { return slices.Delete(list, i, i+1) }
	}
	change := func(i int, change func(*Purchase)) func([]Purchase) []Purchase {
		return func(list []Purchase) []Purchase { change(&list[i]); return list }
	}
	for _, c := range []struct {
		name   string
		mutate func([]Purchase) []Purchase
		want   Property
	}{
		{"a second charge", add(Purchase{Deed: Sold, Site: "eu", Reference: "a", Number: "4"}), BoughtOnce},
		{"a second charge that nobody heard of", add(Purchase{Deed: Sold, Site: "eu", Reference: "b", Number: "4"}), BoughtOnce},
		{"the charge is not there", drop(0), AnswerHolds},
		{"another number was answered", change(1, func(p *Purchase) { p.Number = "9" }), AnswerHolds},
		{"the second answer differs", change(2, func(p *Purchase) { p.Number = "9" }), FoundAgain},
		{"the last answer differs", change(8, func(p *Purchase) { p.Number = "9" }), FoundAgain},
		{"there is no last answer", drop(8), FoundAgain},
		{"it is not found", change(9, func(p *Purchase) { p.Number = "" }), FoundAgain},
		{"nobody looked for it", drop(9), FoundAgain},
		{"the event is lost", drop(3), EventOnce},
		{"a second event", add(Purchase{Deed: Learned, Site: "eu", Reference: "a", Number: "1", Event: "z", Key: "kz"}), EventOnce},
		{"another key", add(Purchase{Deed: Learned, Site: "eu", Reference: "a", Number: "1", Event: "x", Key: "other"}), EventOnce},
		{"a repeat that is not explained", add(Purchase{Deed: Learned, Site: "eu", Reference: "a", Number: "1", Event: "x", Key: "kx"}), EventOnce},
		{"an event of nothing", add(Purchase{Deed: Learned, Site: "eu", Reference: "c", Number: "5", Event: "v", Key: "kv"}), EventOnce},
		{"the event of another", change(6, func(p *Purchase) { p.Event = "x" }), EventOnce},
		{"the event names another number", change(3, func(p *Purchase) { p.Number = "9" }), EventOnce},
		{"an unknown deed", add(Purchase{Deed: "stolen", Site: "eu", Reference: "a"}), Wellformed},
	} {
		faults := CheckPurchases(c.mutate(goodPurchases()), 0)
		if !slices.ContainsFunc(faults, func(f Fault) bool { return f.Property == c.want }) {
			t.Errorf("%s: found %v, want %s", c.name, faults, c.want)
		}
	}
	repeated := add(Purchase{Deed: Learned, Site: "eu", Reference: "a", Number: "1", Event: "x", Key: "kx"})(goodPurchases())
	if faults := CheckPurchases(repeated, 1); len(faults) > 0 {
		t.Errorf("a repeat that is explained: %v", faults)
	}
}
