//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/crossdock/crossdock/agent"
	"github.com/crossdock/crossdock/agent/doctor"
)

// Who may not look at the agent's data hears so once, whether the agent runs or not, and what
// was not looked at is said to be not tested.
func TestDoctorOfAnotherUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	top := t.TempDir()
	if err := os.Chmod(filepath.Dir(top), 0o711); err != nil { // #nosec G302 -- the other user has to get through
		t.Fatal(err)
	}
	program, data := filepath.Join(top, "crossdock-agent"), filepath.Join(top, "data")
	install(t, program)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	door := openOps(t, data, agent.Status{Agent: "home", Site: "home"})
	for _, address := range []string{door.Addr(), "127.0.0.1:0"} {
		text, err := os.ReadFile(configFor(t, data, address))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(top, "agent.yaml")
		if err := os.WriteFile(file, text, 0o644); err != nil { // #nosec G306 -- for the other user
			t.Fatal(err)
		}
		var out, said bytes.Buffer
		c := exec.CommandContext(t.Context(), program, "doctor", "-c", file, "--json") // #nosec G204 -- this very program
		c.Dir, c.Stdout, c.Stderr = top, &out, &said
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 23456, Gid: 23456}}
		err = c.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
			t.Fatalf("%v: %s", err, said.String())
		}
		var r doctor.Report
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, out.String())
		}
		var failed []string
		for _, f := range r.Findings {
			if f.Level == doctor.Fail && f.ID != "intake-port" { // of the agent of this test nobody listens there
				failed = append(failed, f.ID)
			}
			if strings.HasPrefix(f.ID, "disk-") || strings.HasPrefix(f.ID, "data-") || f.ID == "certificate" || f.ID == "secrets" {
				t.Errorf("it cannot have been looked at: %+v", f)
			}
		}
		if !slices.Equal(failed, []string{"user"}) || !strings.Contains(r.Findings[0].Todo, "as root") {
			t.Errorf("at %s: %+v", address, r.Findings)
		}
		if len(r.NotTested) != len(doctor.Unseen())+len(doctor.NotTested()) {
			t.Errorf("%q", r.NotTested)
		}
	}
}

// The agent's own user gets the advice that root does, and reads the secret after it.
func TestDoctorOfTheAgentsUser(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	const user, group = 12345, 12346
	top := t.TempDir()
	program, data, secrets := filepath.Join(top, "crossdock-agent"), filepath.Join(top, "data"), filepath.Join(top, "secrets")
	install(t, program)
	file, secret := filepath.Join(top, "agent.yaml"), filepath.Join(secrets, "shop.token")
	text := "data: " + data + "\nsecrets: " + secrets + "\ncontrolplane: {addresses: [\"127.0.0.1:1\"]}\nintake: {listen: \"127.0.0.1:0\"}\nops: {listen: \"127.0.0.1:0\"}\n"
	if err := errors.Join(os.Chmod(filepath.Dir(top), 0o711), os.Mkdir(data, 0o700), os.Chown(data, user, group), // #nosec G302 -- the user has to get through
		os.Mkdir(secrets, 0o750), os.Chown(secrets, 0, group), os.WriteFile(secret, []byte("hush"), 0o600), // #nosec G301 -- as the packages make it
		os.WriteFile(file, []byte(text), 0o644)); err != nil { // #nosec G306 -- for that user
		t.Fatal(err)
	}
	look := func() doctor.Finding {
		c := exec.CommandContext(t.Context(), program, "doctor", "-c", file, "--json") // #nosec G204 -- this very program
		c.Dir, c.SysProcAttr = top, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: group}}
		out, err := c.Output() // it is not enrolled, and fails at that
		var r doctor.Report
		if json.Unmarshal(out, &r) != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, f := range r.Findings {
			if f.ID == "secrets" {
				return f
			}
		}
		t.Fatalf("%+v", r.Findings)
		return doctor.Finding{}
	}
	for mode, want := range map[os.FileMode]doctor.Level{0o600: doctor.Fail, 0o644: doctor.Warn} {
		if err := errors.Join(os.Chown(secret, 0, 0), os.Chmod(secret, mode)); err != nil {
			t.Fatal(err)
		}
		f := look()
		if f.Level != want {
			t.Errorf("%04o: %+v", mode, f)
		}
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", f.Todo).CombinedOutput(); err != nil { // #nosec G204 -- the advice itself is what is tried
			t.Fatalf("%s: %v: %s", f.Todo, err, out)
		}
		if f := look(); f.Level != doctor.OK {
			t.Errorf("%04o, mended: %+v", mode, f)
		}
	}
}

// install puts this program where everybody may run it.
func install(t *testing.T, to string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755) // #nosec G302 -- see above
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, from); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
