package intake

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"github.com/crossdock/crossdock/deploy/handbook/reference"
	"github.com/crossdock/crossdock/protocol/event"
)

//go:generate go test -run ^TestReferenceIsCurrent . -update
var update = flag.Bool("update", false, "write the tables of the reference instead of comparing them")

// Some part of each kind, so that all routes are there.
type (
	someNumbers   struct{ Numbers }
	calls         = Calls // has a method of its own name
	someCalls     struct{ calls }
	someDocuments struct{ Documents }
)

var callHeading = regexp.MustCompile(`(?m)^### ((?:GET|HEAD|POST|PUT|DELETE) .*)$`)

// The reference describes the calls that the router knows, and its tables are the code's.
func TestReferenceIsCurrent(t *testing.T) {
	text := reference.Fill(t, "API.md", map[string]string{"limits": limitTable(), "problems": problemTable()}, *update)
	s := &Service{log: slog.New(slog.NewTextHandler(io.Discard, nil)), parts: Parts{Numbers: someNumbers{}, Calls: someCalls{}, Documents: someDocuments{}}}
	var known, described []string
	for _, r := range s.routes().(*echo.Echo).Routes() {
		known = append(known, r.Method+" "+regexp.MustCompile(`:(\w+)`).ReplaceAllString(r.Path, "{$1}"))
	}
	for _, m := range callHeading.FindAllStringSubmatch(text, -1) {
		described = append(described, m[1])
	}
	slices.Sort(known)
	slices.Sort(described)
	if len(known) < 10 || !slices.Equal(known, described) {
		t.Errorf("API.md describes\n%s\nand the router knows\n%s", strings.Join(described, "\n"), strings.Join(known, "\n"))
	}
}

func problemTable() string {
	codes := slices.SortedFunc(maps.Keys(kinds), func(a, b Code) int {
		return cmp.Or(kinds[a].status-kinds[b].status, cmp.Compare(a, b))
	})
	table := "| status | code | title | the same again |\n|---|---|---|---|\n"
	for _, code := range codes {
		again := "is refused again"
		if kinds[code].retry {
			again = "may be taken"
		}
		table += fmt.Sprintf("| %d | `%s` | %s | %s |\n", kinds[code].status, code, kinds[code].title, again)
	}
	return table
}

func limitTable() string {
	table := "| what | limit |\n|---|---|\n"
	for _, l := range []struct {
		what  string
		limit int
		unit  string
	}{
		{"one event, in its canonical encoding", event.MaxSize >> 10, "KB"},
		{"nesting of its data", event.MaxDepth, "levels"},
		{"one attribute's value", event.MaxAttribute, "bytes"},
		{"extension attributes", event.MaxExtension, ""},
		{"an extension attribute's name", event.MaxNameLen, "bytes"},
		{"an ordering key", maxKey, "bytes"},
		{"events in a batch", MaxBatchEvents, ""},
		{"a batch, and the body of any other call but a document", MaxBatchBytes >> 20, "MB"},
		{"headers of a request", MaxHeaderBytes >> 10, "KB"},
		{"entries of `errors` in one answer", MaxErrors, ""},
		{"a request for numbers", maxNumbersBody >> 10, "KB"},
		{"its reference", maxReference, "bytes"},
		{"its numbers", maxNumbersAtOnce, ""},
		{"events a second of a system, where policy says nothing", defaultRate, ""},
		{"of them at once", defaultBurst, ""},
	} {
		table += strings.TrimRight(fmt.Sprintf("| %s | %d %s", l.what, l.limit, l.unit), " ") + " |\n"
	}
	return table
}
