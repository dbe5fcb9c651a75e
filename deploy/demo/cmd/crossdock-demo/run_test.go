package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be done is refused before the directory of the demo before is emptied.
func TestWrongWordsAreRefusedBeforeAnythingStarts(t *testing.T) {
	dir := t.TempDir()
	kept := filepath.Join(dir, "kept")
	if err := os.WriteFile(kept, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ args, want string }{
		{"", "needs a command"},
		{"dance", "unknown command"},
		{"run --outage mars:20s", "there are hq, eu, na, latam"},
		{"run --outage eu", "like eu:20s"},
		{"run --outage eu:-1s", "like eu:20s"},
		{"run --nodes 3 --kill foo", "leader, or one of node-1, node-2, node-3"},
		{"run --nodes 3 --kill node-4", "there is no such node"},
		{"run --kill leader", "add --nodes 3"},
		{"run --nodes 2", "1 or 3 nodes"},
		{"run --until never", "it is done"},
	} {
		args := strings.Fields(test.args)
		if len(args) > 0 && args[0] == "run" {
			args = append(args, "--dir", dir)
		}
		var out, said bytes.Buffer
		err := run(context.Background(), args, &out, &said)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("crossdock-demo %s: %v, want %q", test.args, err, test.want)
		}
		if _, err := os.Stat(kept); err != nil {
			t.Fatalf("crossdock-demo %s: %v", test.args, err)
		}
	}
}
