package numbers

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crossdock/crossdock/protocol/policy"
)

const killDir = "NUMBERS_TEST_KILL_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killDir); dir != "" {
		if err := takeForever(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// leaseForever answers what is wanted from a file beside the store, as a control plane that
// never forgets.
func leaseForever(s *Store, dir string) error {
	wanted, err := s.Wanted()
	if err != nil {
		return err
	}
	for _, w := range wanted {
		answers := filepath.Join(dir, fmt.Sprintf("answer-%x", w.ID))
		var first uint64
		if text, err := os.ReadFile(answers); err == nil {
			if _, err := fmt.Sscan(string(text), &first); err != nil {
				return err
			}
		} else { // each answer is given once, and to that request only
			names, err := filepath.Glob(filepath.Join(dir, "answer-*"))
			if err != nil {
				return err
			}
			first = uint64(len(names))*w.Want + 1
			if err := os.WriteFile(answers+".new", fmt.Append(nil, first), 0o600); err != nil {
				return err
			}
			if err := os.Rename(answers+".new", answers); err != nil {
				return err
			}
		}
		if err := s.Leased(w.Range, w.ID, first, first+w.Want-1); err != nil {
			return err
		}
	}
	return nil
}

func openIn(dir string) (*Store, error) {
	set, err := compile(10)
	if err != nil {
		return nil, err
	}
	return Open(Config{Path: filepath.Join(dir, "numbers.db"), Site: "eu", Epoch: 1, Policy: func() *policy.Set { return set }})
}

// takeForever is the child: it takes numbers for references of its own and of lives before,
// and says on stdout what it got.
func takeForever(dir string) error {
	s, err := openIn(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		reference := fmt.Sprintf("%d-%d", os.Getpid(), i)
		count := 1 + i%5
		given, err := s.Take("a", reference, count)
		if errors.Is(err, ErrUsedUp) {
			if err := leaseForever(s, dir); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range given {
			if _, err := fmt.Println(reference, n.Serial); err != nil {
				return err
			}
		}
	}
}

func TestKillAndReopen(t *testing.T) {
	dir, seed := t.TempDir(), rand.Uint64()
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	given := map[uint64]string{} // serial to reference
	of := map[string][]uint64{}  // reference to serials
	for round := range 8 {
		for _, line := range runAndKill(t, dir, rnd) {
			var reference string
			var serial uint64
			if _, err := fmt.Sscan(line, &reference, &serial); err != nil {
				t.Fatal(err)
			}
			if before, twice := given[serial]; twice {
				t.Fatalf("round %d: serial %d is given for %s, and was for %s", round, serial, reference, before)
			}
			given[serial] = reference
			of[reference] = append(of[reference], serial)
		}
		s, err := openIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		for reference, serials := range of { // what was seen before the kill is the reference's for good
			if asked++; asked > 50 {
				break
			}
			i := 0
			if _, err := fmt.Sscanf(reference[strings.Index(reference, "-")+1:], "%d", &i); err != nil {
				t.Fatal(err)
			}
			again, err := s.Take("a", reference, 1+i%5)
			if err != nil {
				t.Fatalf("round %d: %s: %v", round, reference, err)
			}
			for j, n := range serials { // the last one's lines may have been cut
				if again[j].Serial != n {
					t.Fatalf("round %d: %s had %v, then %v", round, reference, serials, again)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(given) < 100 {
		t.Fatalf("only %d numbers were ever given", len(given))
	}
}

// runAndKill gives the lines that the child wrote before it was killed.
func runAndKill(t *testing.T, dir string, rnd *rand.Rand) (lines []string) {
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
	scanner := bufio.NewScanner(out)
	wait, pause := rnd.IntN(60), time.Duration(rnd.IntN(3000))*time.Microsecond
	for n := 0; scanner.Scan(); n++ {
		lines = append(lines, scanner.Text())
		if n == wait { // somewhere between two commits, or within the next
			time.AfterFunc(pause, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // killed
	if n := len(lines); n > 0 && strings.Count(lines[n-1], " ") == 0 {
		lines = lines[:n-1] // cut within a line
	}
	return lines
}
