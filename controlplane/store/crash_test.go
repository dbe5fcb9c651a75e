package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/controlplane/model"
)

const childDir = "CROSSDOCK_STORE_TEST_DIR"

// TestMain runs the store that is to be killed when it is told where.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir, os.Getenv(childDir+"_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// child answers commands until it is killed, and says which it has answered.
func child(dir, round string) error {
	cfg := testConfig(dir)
	cfg.Fatal = func(err error) { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	s, err := New(cfg)
	if err != nil {
		return err
	}
	end := make(chan error, 1)
	go func() { end <- s.Run(context.Background()) }()
	if err := s.WaitReady(context.Background()); err != nil {
		return err
	}
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("r%s-%d-%d", round, g, i)
				if _, err := s.Apply(context.Background(), tokenOf(id)); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString(id + "\n") // one write: whole lines only
			}
		}()
	}
	return <-end
}

// Everything answered is there after kill -9, however often.
func TestKilledStoreKeepsWhatItAnswered(t *testing.T) {
	dir := t.TempDir()
	s := open(t, testConfig(dir))
	begin(s)
	s.end()
	var answered []string
	for round, count := range []int{60, 150, 20} {
		answered = append(answered, killAfter(t, dir, round, count)...)
	}
	s = open(t, testConfig(dir))
	defer s.end()
	for _, id := range answered {
		if _, ok := s.JoinToken(id); !ok {
			t.Errorf("%s was answered and is gone", id)
		}
	}
	if tokens, entries := len(s.JoinTokens()), len(s.Audit(0, model.MaxPage)); tokens < len(answered) || entries != min(tokens+1, model.MaxPage) {
		t.Errorf("%d answered, %d tokens, %d audited", len(answered), tokens, entries)
	}
	if err := s.VerifyAudit(); err != nil {
		t.Error(err)
	}
}

func killAfter(t *testing.T, dir string, round, count int) (answered []string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir, fmt.Sprintf("%s_ROUND=%d", childDir, round))
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if answered = append(answered, lines.Text()); len(answered) == count {
			cmd.Process.Kill()
		}
	}
	cmd.Wait() // it was killed
	if len(answered) < count {
		t.Fatalf("it ended by itself after %d: %s", len(answered), errors.String())
	}
	return answered
}
