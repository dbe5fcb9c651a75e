package queue

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"
)

const killDir = "QUEUE_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := appendForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	// Each step of the model costs an fsync; -rapid.checks on the command line has the last word.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// appendForever is the child: it writes records that name their position, and says on
// stdout what was acknowledged.
func appendForever(dir string) error {
	l, err := Open(Config{Dir: dir, SegmentBytes: 256 << 10, Quota: 1 << 30})
	if err != nil {
		return err
	}
	for {
		next := l.Next()
		var batch [][]byte
		for i := range 1 + rand.Uint64N(50) {
			batch = append(batch, fmt.Appendf(nil, "%d%*s", next+i, int(rand.Uint32N(300)), ""))
		}
		last := next + uint64(len(batch)) - 1
		if _, err := l.Append(batch, map[string]uint64{"last": last}); err != nil {
			return err
		}
		if _, err := fmt.Println(last); err != nil {
			return err
		}
		l.SaveCursor("c", last)
	}
}

func TestKillAndReopen(t *testing.T) {
	dir := t.TempDir()
	acked := uint64(0)
	for round := range 8 {
		acked = max(acked, runAndKill(t, dir))
		l, err := Open(Config{Dir: dir, SegmentBytes: 256 << 10, Quota: 1 << 30})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if l.Next() <= acked || l.Mark("last") != l.Next()-1 || l.MarksStale() {
			t.Fatalf("round %d: acknowledged up to %d, next is %d, mark %d", round, acked, l.Next(), l.Mark("last"))
		}
		at := uint64(1)
		for _, r := range all(t, l) {
			var named uint64
			if _, err := fmt.Sscan(string(r.Data), &named); err != nil || r.Err != nil || r.Pos != at || named != at {
				t.Fatalf("round %d: record %d names %d (%v %v), want %d", round, r.Pos, named, r.Err, err, at)
			}
			at++
		}
		if at != l.Next() {
			t.Fatalf("round %d: records up to %d, next is %d", round, at, l.Next())
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked < 100 {
		t.Fatalf("only %d records were ever acknowledged", acked)
	}
}

// runAndKill gives the last position that the child acknowledged before it was killed.
func runAndKill(t *testing.T, dir string) (acked uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	wait := rand.IntN(60)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &acked); err != nil {
			t.Fatal(err)
		}
		if n == wait { // somewhere between two commits, or within the next
			time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // killed
	return acked
}
