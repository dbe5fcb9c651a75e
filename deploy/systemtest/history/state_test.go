package history

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func only(t *testing.T, faults []Fault, want Property) {
	t.Helper()
	if want == "" && len(faults) > 0 {
		t.Errorf("found %v, all is well", faults)
	}
	if want != "" && !slices.ContainsFunc(faults, func(f Fault) bool { return f.Property == want }) {
		t.Errorf("found %v, want a breach of %q", faults, want)
	}
}

func TestRevisionsAtAgents(t *testing.T) {
	known := []Revision{{Generation: 1, Number: 1, Digest: "a", State: "superseded", Approver: "bob"}, {Generation: 1, Number: 2, Digest: "b", State: "proposed"},
		{Generation: 1, Number: 3, Digest: "c", State: "active", Approver: "bob"}}
	at := func(began bool, number uint64) Applied {
		return Applied{Agent: "eu", Began: began, Generation: 1, Number: number}
	}
	holds := func(number uint64, digest string) Applied {
		return Applied{Agent: "eu", Generation: 1, Number: number, Digest: digest}
	}
	for name, c := range map[string]struct {
		applied []Applied
		breaks  Property
	}{
		"good":                            {[]Applied{at(false, 1), at(true, 1), holds(1, "a"), at(false, 3), {Agent: "hq", Generation: 1, Number: 1}, holds(3, "c"), at(true, 3)}, ""},
		"applied twice":                   {[]Applied{at(false, 1), at(false, 1)}, Rising},
		"an older one applied":            {[]Applied{at(false, 3), at(false, 1)}, Rising},
		"begun with an older one":         {[]Applied{at(false, 1), at(false, 3), at(true, 1)}, Rising},
		"begun with one just stored":      {[]Applied{at(false, 1), at(true, 3)}, ""},
		"begun with one not approved":     {[]Applied{at(false, 1), at(true, 2)}, Rising},
		"one that nobody approved":        {[]Applied{at(false, 2)}, Rising},
		"one that does not exist":         {[]Applied{at(false, 7)}, Rising},
		"other documents than were given": {[]Applied{at(false, 1), holds(1, "c")}, Rising},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) { only(t, CheckRevisions(c.applied, known), c.breaks) })
	}
}

func TestBounds(t *testing.T) {
	limits := func(string) Limits {
		return Limits{Memory: 100, Disk: 100, Files: 100, Routines: 100, MoreMemory: 10, MoreFiles: 10, MoreRun: 10}
	}
	for name, c := range map[string]struct {
		change func(busy, rest *Usage)
		breaks Property
	}{
		"good":              {func(_, _ *Usage) {}, ""},
		"memory":            {func(busy, _ *Usage) { busy.Memory = 101 }, Bounded},
		"disk":              {func(busy, _ *Usage) { busy.Disk = 101 }, Bounded},
		"files":             {func(busy, _ *Usage) { busy.Files = 101 }, Bounded},
		"goroutines":        {func(busy, _ *Usage) { busy.Routines = 101 }, Bounded},
		"queue":             {func(busy, _ *Usage) { busy.Queue = 51 }, Bounded},
		"memory stays":      {func(_, rest *Usage) { rest.Memory = 51 }, Bounded},
		"files stay":        {func(_, rest *Usage) { rest.Files = 51 }, Bounded},
		"goroutines stay":   {func(_, rest *Usage) { rest.Routines = 51 }, Bounded},
		"never at rest":     {func(_, rest *Usage) { rest.Who, rest.Rest = "other", false }, Wellformed},
		"disk may stay":     {func(_, rest *Usage) { rest.Disk = 90 }, ""},
		"busy may be above": {func(busy, _ *Usage) { busy.Memory, busy.Files, busy.Routines = 99, 99, 99 }, ""},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			one := Usage{Who: "eu", Rest: true, Memory: 40, Disk: 40, Files: 40, Routines: 40, Queue: 40, Quota: 50}
			busy, rest := one, one
			busy.Rest = false
			c.change(&busy, &rest)
			only(t, CheckBounds([]Usage{one, busy, rest}, limits), c.breaks)
		})
	}
}

func TestRecovery(t *testing.T) {
	good := Recovery{Leader: time.Second, Connected: 2 * time.Second, Empty: time.Second}
	only(t, CheckRecovery(good, time.Minute), "")
	for _, change := range []func(*Recovery){
		func(r *Recovery) { r.Leader = 2 * time.Minute }, func(r *Recovery) { r.Connected = -1 }, func(r *Recovery) { r.Empty = -1 },
	} {
		bad := good
		change(&bad)
		only(t, CheckRecovery(bad, time.Minute), Alive)
	}
}

func TestSecrets(t *testing.T) {
	const secret = "a-word-that-nobody-may-read"
	secrets := map[string]string{"the word": secret}
	home := func(file string) bool { return file == "data/secrets/word" }
	edge := append(bytes.Repeat([]byte{'x'}, scanned+3), secret...) // over the end of a piece
	for name, c := range map[string]struct {
		files  fstest.MapFS
		breaks Property
	}{
		"good":          {fstest.MapFS{"data/secrets/word": {Data: []byte(secret)}, "log": {Data: []byte(secret[1:])}}, ""},
		"in a log":      {fstest.MapFS{"log": {Data: []byte("it is " + secret + "!")}}, Silent},
		"far in a file": {fstest.MapFS{"data/state": {Data: edge}}, Silent},
		"at the end":    {fstest.MapFS{"data/state": {Data: edge[3:]}}, Silent},
		"in two pieces": {fstest.MapFS{"data/state": {Data: edge[len(secret)/2:]}}, Silent},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			faults, err := CheckSecrets(c.files, "here", secrets, home)
			if err != nil {
				t.Fatal(err)
			}
			only(t, faults, c.breaks)
		})
	}
}

func TestOperationsAreReadAsTheyWereWritten(t *testing.T) {
	o := NewOperations()
	want := []Operation{{Verb: Begin, Object: Policy, Outcome: Done, Revision: 3}, {Verb: Read, Object: "ann", Invoked: 2, Returned: 3, Outcome: Done, State: Enabled}}
	for _, one := range want {
		o.Add(one)
	}
	file := filepath.Join(t.TempDir(), "operations.jsonl")
	if err := SaveOperations(file, o.From(0)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := ReadOperations(f); err != nil || !slices.Equal(got, want) || !slices.Equal(o.From(1), want[1:]) {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
	if _, err := ReadOperations(strings.NewReader(`{"Verb":"read","Colour":1}`)); err == nil {
		t.Error("an unknown field is read")
	}
}
