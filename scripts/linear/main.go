// Command linear judges recorded operations at a control plane: whether each of them can
// have happened at one moment between its call and its answer. It prints one line of JSON
// for each object whose operations cannot, and ends with status 1 then.
//
// It is a module of its own for the library that searches for those moments. It refuses to
// know where the record comes from. Its invariant: what it could not decide in time it
// names like a breach, never passes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/crossdock/crossdock/deploy/systemtest/history"
)

func main() {
	broken, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "linear:", err)
		os.Exit(2)
	}
	if broken {
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) (broken bool, err error) {
	flags := flag.NewFlagSet("linear", flag.ContinueOnError)
	within := flags.Duration("within", time.Minute, "for the search, for each object")
	pictures := flags.String("pictures", "", "directory for a page that shows each breach; empty: none")
	if err := flags.Parse(args); err != nil {
		return false, err
	}
	if flags.NArg() != 1 {
		return false, fmt.Errorf("name one file of recorded operations, not %d", flags.NArg())
	}
	f, err := os.Open(flags.Arg(0))
	if err != nil {
		return false, err
	}
	defer f.Close() // opened for reading
	operations, err := history.ReadOperations(f)
	if err != nil {
		return false, fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	if len(operations) == 0 {
		return false, fmt.Errorf("%s has no operations: there is nothing to judge", flags.Arg(0))
	}
	faults, err := check(operations, *within, *pictures)
	encoder := json.NewEncoder(out)
	for i := range faults {
		if err := encoder.Encode(&faults[i]); err != nil {
			return true, err
		}
	}
	return len(faults) > 0, err
}

// check judges each object for itself.
func check(operations []history.Operation, within time.Duration, pictures string) (faults []history.Fault, err error) {
	objects := map[string][]porcupine.Operation{}
	for _, o := range operations {
		if o.Outcome == history.Failed {
			continue // it is said that nothing was done: were it not so, others would not fit
		}
		back := o.Returned
		if o.Outcome == history.Unknown {
			back = math.MaxInt64 // it may happen yet
		}
		objects[o.Object] = append(objects[o.Object], porcupine.Operation{Input: o, Call: int64(o.Invoked), Output: o, Return: int64(back)})
	}
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		model := principal
		if name == history.Policy {
			model = policy
		}
		result, info := porcupine.CheckOperationsVerbose(model, objects[name], within)
		if result == porcupine.Ok {
			continue
		}
		text := fmt.Sprintf("%s: its %d operations cannot each have happened at one moment", name, len(objects[name]))
		if result == porcupine.Unknown {
			text = fmt.Sprintf("%s: not decided for %d operations within %s", name, len(objects[name]), within)
		}
		if pictures != "" {
			page, err := os.CreateTemp(pictures, "linear-*.html")
			if err != nil {
				return faults, err
			}
			if err := porcupine.Visualize(model, info, page); err != nil {
				return faults, err
			}
			if err := page.Close(); err != nil {
				return faults, err
			}
			text += "; see " + page.Name()
		}
		faults = append(faults, history.Fault{Property: history.Linear, Text: text})
	}
	return faults, nil
}
