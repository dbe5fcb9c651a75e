package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/crossdock/crossdock/protocol/transport"
)

func TestEnrolmentThatMayHaveBeenGranted(t *testing.T) {
	why := errors.New("because")
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{connect.NewWireError(connect.CodePermissionDenied, why), false},
		{connect.NewWireError(connect.CodeUnauthenticated, why), false},
		{connect.NewWireError(connect.CodeResourceExhausted, why), false},
		{connect.NewWireError(connect.CodeInvalidArgument, why), false},
		{connect.NewWireError(connect.CodeUnavailable, why), true},
		{connect.NewError(connect.CodePermissionDenied, why), true}, // nobody has said so
		{transport.ErrUnreachable, false},
		{transport.ErrForeignIssuer, true}, // of the answer
		{ErrOtherAgent, false},
		{context.DeadlineExceeded, true},
	} {
		if got := mayBeGranted(fmt.Errorf("enrol: %w", tt.err)); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// Only what an enrolment has made goes, and nothing in which somebody else is at work.
func TestSweep(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	one, more, deep := filepath.Join(data, "one"), filepath.Join(data, "more"), filepath.Join(data, "deep")
	dirs := []string{one, more, deep, filepath.Join(data, "none"), data}
	if got := absent(dirs...); len(got) != len(dirs) {
		t.Errorf("absent: %v", got)
	}
	for _, dir := range []string{one, more, filepath.Join(deep, "inner")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{filepath.Join(one, "key"), filepath.Join(more, "key"), filepath.Join(more, "other")} {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sweep(dirs)
	var left []string
	err := filepath.WalkDir(data, func(path string, _ fs.DirEntry, err error) error {
		left = append(left, strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(data)))
		return err
	})
	if want := "[ /deep /deep/inner /more /more/key /more/other]"; err != nil || fmt.Sprint(left) != want {
		t.Errorf("left %v, want %s (%v)", left, want, err)
	}
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(one, 0o700); err != nil {
		t.Fatal(err)
	}
	sweep(dirs)
	if got := absent(data); len(got) != 1 {
		t.Error("an empty data directory stays")
	}
}

func TestPortInUse(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = net.Listen("tcp", first.Addr().String())
	if err := listening("ops.listen", err); !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), "set another ops.listen") {
		t.Errorf("%v", err)
	}
	_, err = net.Listen("tcp", "192.0.2.1:1")                          // no address of this machine
	if got := listening("ops.listen", err); got != err || err == nil { //nolint:errorlint // the very same
		t.Errorf("%v", got)
	}
	if err := listening("ops.listen", nil); err != nil {
		t.Errorf("%v", err)
	}
}

// Who may not write the data directory is told that, and not to stop an agent.
func TestEnrollAsSomebodyElse(t *testing.T) {
	if os.Getuid() <= 0 {
		t.Skip("root writes everywhere, and Windows has no such modes: nothing can be closed here")
	}
	cfg := DefaultConfig()
	cfg.Data = t.TempDir()
	if err := os.Chmod(cfg.Data, 0o500); err != nil { // #nosec G302
		t.Fatal(err)
	}
	_, err := Enroll(t.Context(), cfg, "xd1.id.secret.0", [32]byte{})
	if err == nil || !strings.Contains(err.Error(), "enrol as root") || strings.Contains(err.Error(), "stopped") {
		t.Errorf("%v", err)
	}
}

// A token of another site is explained by the data that is here; one that was used is not.
func TestTokenOfAnotherSite(t *testing.T) {
	denied := func(text string) error { return connect.NewWireError(connect.CodePermissionDenied, errors.New(text)) }
	for text, want := range map[string]bool{
		"the join token is for site us, whose agent has that name":           true,
		"the join token was used at 2026-05-04T10:00:00Z; ask for a new one": false,
		"the join token expired at 2026-05-04T10:00:00Z; ask for a new one":  false,
		"the join token is for node node-2, not for an agent":                false,
	} {
		if got := ofAnotherSite(denied(text), "eu", "/data").Error(); strings.Contains(got, "a directory of its own") != want || !strings.Contains(got, text) {
			t.Errorf("got %s", got)
		}
	}
	if got := ofAnotherSite(denied("the join token is for site us, whose agent has that name"), "", "/data").Error(); strings.Contains(got, "directory") {
		t.Errorf("nothing is here: %s", got)
	}
}

// A token that this very agent was enrolled with is no alarm.
func TestTokenThatWasUsedHere(t *testing.T) {
	used := connect.NewWireError(connect.CodePermissionDenied, errors.New("the join token was used at 2026-05-04T10:00:00Z by agent eu, and is good for one machine only"))
	for _, tt := range []struct {
		held string
		err  error
		want bool
	}{
		{"eu", used, true},
		{"eu-2", used, false},
		{"", used, false}, // nothing is here, or a journal alone
		{"eu", connect.NewWireError(connect.CodePermissionDenied, errors.New("the join token expired")), false},
	} {
		cfg := DefaultConfig()
		cfg.Data = t.TempDir()
		if tt.held != "" {
			if err := errors.Join(os.Mkdir(cfg.IdentityDir(), 0o700),
				os.WriteFile(filepath.Join(cfg.IdentityDir(), "agent.json"), []byte(`{"agent":"`+tt.held+`"}`), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		got := usedHere(tt.err, cfg)
		if strings.Contains(got.Error(), "enrolled with it already") != tt.want || !errors.Is(got, tt.err) {
			t.Errorf("%q holds: %v", tt.held, got)
		}
	}
}
