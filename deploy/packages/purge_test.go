package packages_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A purge takes what is the package's, and not the configuration and the data of an agent that
// was installed from a bundle; removal does not stop that one.
func TestPurgeLeavesABundlesAgent(t *testing.T) {
	shell := tool(t, "sh", "dash")
	tool(t, "flock", "util-linux")
	const (
		unit, record = "/etc/systemd/system/crossdock-agent.service", "/etc/crossdock-agent/installed.json"
		config, data = "/etc/crossdock-agent/agent.yaml", "/var/lib/crossdock-agent/journal/1"
		wants        = "/etc/systemd/system/multi-user.target.wants/crossdock-agent.service"
	)
	for _, tt := range []struct {
		name    string
		also    map[string]string
		stopped bool
		stays   bool
	}{
		{"the package's alone", nil, true, false},
		{"a bundle's service", map[string]string{unit: "[Service]\nExecStart=/usr/local/bin/crossdock-agent run\n"}, false, true},
		{"a bundle's record", map[string]string{record: "{}"}, true, true},
		{"the package's with the administrator's own unit", map[string]string{unit: "[Service]\nExecStart=/usr/bin/crossdock-agent run\n"}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			put := func(path, text string, mode os.FileMode) {
				file := filepath.Join(root, path)
				if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode)); err != nil {
					t.Fatal(err)
				}
			}
			put("/bin/systemctl", "#!/bin/sh\necho \"$@\" >>"+root+"/calls\n", 0o755)
			put("/run/systemd/system/.here", "", 0o644)
			for path, text := range map[string]string{config: "mine", data: "kept", wants: ""} {
				put(path, text, 0o640)
			}
			for path, text := range tt.also {
				put(path, text, 0o644)
			}

			put("/usr/bin/crossdock-agent", "#!/bin/sh\necho nothing\n", 0o755)
			maintain(t, shell, root, "deb-prerm", "remove")
			maintain(t, shell, root, "deb-postrm", "remove")
			if err := os.Remove(filepath.Join(root, config)); err != nil { // as dpkg does with its own
				t.Fatal(err)
			}
			said := maintain(t, shell, root, "deb-postrm", "purge")
			if stays := strings.Contains(said, "crossdock-agent stay"); stays != tt.stays {
				t.Errorf("it says %q", said)
			}
			for path, want := range map[string]string{config: "mine", data: "kept", wants: ""} {
				text, err := os.ReadFile(filepath.Join(root, path))
				if got := err == nil && string(text) == want; got != tt.stays {
					t.Errorf("%s holds %q, %v", path, text, err)
				}
			}
			if left, err := filepath.Glob(filepath.Join(root, config+".*")); err != nil || len(left) > 0 {
				t.Errorf("left are %v, %v", left, err)
			}
			calls, err := os.ReadFile(filepath.Join(root, "calls"))
			if stopped := strings.Contains(string(calls), "stop crossdock-agent.service"); err != nil || stopped != tt.stopped {
				t.Errorf("systemctl was told %q, %v", calls, err)
			}
		})
	}
}

// lockOfData is the file by whose lock an agent holds its data.
const lockOfData = "/var/lib/crossdock-agent/journal/cursors.db"

// installed is a machine's root with the package, data and a secret. Its program is a script, in
// which $DATA is the directory of the data.
func installed(t *testing.T, program string) (root string, there func(path string) bool) {
	t.Helper()
	root = t.TempDir()
	program = strings.ReplaceAll(program, "$DATA", root+"/var/lib/crossdock-agent")
	for path, text := range map[string]string{"/usr/bin/crossdock-agent": program, lockOfData: "", "/etc/crossdock-agent/secrets/shop": ""} {
		file := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return root, func(path string) bool { _, err := os.Stat(filepath.Join(root, path)); return err == nil }
}

// Data in which events wait outlives a purge, and so does data that a process holds, which no
// manager of services has to have started.
func TestPurgeKeepsWhatWasAccepted(t *testing.T) {
	shell := tool(t, "sh", "dash")
	tool(t, "flock", "util-linux")
	const waiting = "#!/bin/sh\n[ \"$*\" = \"queue left --data $DATA\" ] || exit 2\necho 3 to be sent\nexit 6\n"
	t.Run("events wait", func(t *testing.T) {
		root, there := installed(t, waiting)
		for _, said := range []string{maintain(t, shell, root, "deb-prerm", "remove"), maintain(t, shell, root, "deb-postrm", "purge")} {
			if !strings.Contains(said, "3 to be sent") || !strings.Contains(said, "stay") {
				t.Errorf("it says %q", said)
			}
		}
		if !there(lockOfData) || !there("/etc/crossdock-agent/secrets/shop") || there("/var/lib/crossdock-agent.waiting") {
			t.Error("the purge should leave the data with its configuration, and nothing else")
		}
	})
	t.Run("events waited at an earlier removal", func(t *testing.T) {
		root, there := installed(t, waiting)
		maintain(t, shell, root, "deb-prerm", "remove")
		if err := os.WriteFile(filepath.Join(root, "/usr/bin/crossdock-agent"), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		maintain(t, shell, root, "deb-prerm", "remove")
		if said := maintain(t, shell, root, "deb-postrm", "purge"); there(lockOfData) || there("/etc/crossdock-agent") || said != "" {
			t.Errorf("nothing waits any more, and it says %q", said)
		}
	})
	t.Run("a process holds it", func(t *testing.T) {
		root, there := installed(t, "#!/bin/sh\n")
		release := hold(t, filepath.Join(root, lockOfData), "--exclusive")
		defer release()
		if said, err := maintained(t, shell, root, "deb-prerm", "remove"); err == nil || !strings.Contains(said, "Stop it first") {
			t.Errorf("removed: %v, %q", err, said)
		}
		if said := maintain(t, shell, root, "deb-postrm", "purge"); !there(lockOfData) || !strings.Contains(said, "a process holds it") {
			t.Errorf("purged: %q", said)
		}
	})
}

// Data that is not as a removal has counted it outlives a purge: what runs beside the package may
// have accepted events.
func TestPurgeKeepsWhatNobodyCounted(t *testing.T) {
	shell := tool(t, "sh", "dash")
	tool(t, "flock", "util-linux")
	for name, since := range map[string]func(t *testing.T, root string){
		"events were accepted after the removal": func(t *testing.T, root string) {
			maintain(t, shell, root, "deb-prerm", "remove")
			if err := os.WriteFile(filepath.Join(root, filepath.Dir(lockOfData), "1.log"), []byte("an event"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a file of an earlier time was put back after the removal": func(t *testing.T, root string) {
			maintain(t, shell, root, "deb-prerm", "remove")
			file, old := filepath.Join(root, filepath.Dir(lockOfData), "1.log"), time.Unix(1_500_000_000, 0)
			if err := errors.Join(os.WriteFile(file, []byte("an event"), 0o600), os.Chtimes(file, old, old)); err != nil {
				t.Fatal(err)
			}
		},
		"no removal has counted": func(*testing.T, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			root, there := installed(t, "#!/bin/sh\n")
			since(t, root)
			said := maintain(t, shell, root, "deb-postrm", "purge")
			if !there(lockOfData) || !there("/etc/crossdock-agent/secrets/shop") || !strings.Contains(said, "events may wait") {
				t.Errorf("purged: %q", said)
			}
			if there("/var/lib/crossdock-agent.passed-on") {
				t.Error("a note is left")
			}
		})
	}
}

// A removal that is refused has stopped the service before it sees the reason, and dpkg has the
// package take it back.
func TestRefusedRemovalStartsTheServiceAgain(t *testing.T) {
	shell := tool(t, "sh", "dash")
	tool(t, "flock", "util-linux")
	const stop, asked, start = "stop crossdock-agent.service\n", "is-enabled --quiet crossdock-agent.service\n", "start --no-block crossdock-agent.service\n"
	for _, tt := range []struct {
		name, manager, told string
	}{
		{"enabled", "exit 0", stop + asked + start},
		{"disabled", "[ $1 != is-enabled ]", stop + asked},
		{"no systemd", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, _ := installed(t, "#!/bin/sh\n")
			err := os.MkdirAll(filepath.Join(root, "bin"), 0o755)
			if tt.manager != "" {
				err = errors.Join(err, os.MkdirAll(filepath.Join(root, "run/systemd/system"), 0o755))
			}
			systemctl := "#!/bin/sh\necho \"$@\" >>" + root + "/calls\n" + tt.manager + "\n"
			err = errors.Join(err, os.WriteFile(filepath.Join(root, "calls"), nil, 0o644), os.WriteFile(filepath.Join(root, "bin/systemctl"), []byte(systemctl), 0o755))
			if err != nil {
				t.Fatal(err)
			}
			release := hold(t, filepath.Join(root, lockOfData), "--shared")
			defer release()
			if said, err := maintained(t, shell, root, "deb-prerm", "remove"); err == nil || !strings.Contains(said, "a command that reads") {
				t.Errorf("removed: %v, %q", err, said)
			}
			maintain(t, shell, root, "deb-postinst", "abort-remove")
			if told, err := os.ReadFile(filepath.Join(root, "calls")); err != nil || string(told) != tt.told {
				t.Errorf("systemctl was told %q, %v; want %q", told, err, tt.told)
			}
		})
	}
}

// hold has another process hold the lock of some data, until it is released.
func hold(t *testing.T, lock, how string) (release func()) {
	t.Helper()
	holder := exec.Command("flock", how, lock, "sh", "-c", "echo held; read line || :")
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return func() {
		if err := errors.Join(in.Close(), holder.Wait()); err != nil {
			t.Errorf("the holder ended with %v", err)
		}
	}
}

// maintain runs a script of the package as dpkg does, in a folder that stands for the machine's
// root.
func maintain(t *testing.T, shell, root, name, what string) string {
	t.Helper()
	said, err := maintained(t, shell, root, name, what)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, what, err, said)
	}
	return said
}

func maintained(t *testing.T, shell, root, name, what string) (said string, err error) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("scripts", name))
	if err != nil {
		t.Fatal(err)
	}
	here := strings.ReplaceAll(string(text), "@NAME@", "crossdock-agent")
	here = strings.ReplaceAll(here, "/usr/bin/", root+"/usr/bin/")
	for _, top := range []string{"/etc/", "/var/lib/", "/run/"} {
		here = strings.ReplaceAll(here, " "+top, " "+root+top)
		if strings.Count(here, top) != strings.Count(here, root+top) {
			t.Fatalf("%s names %s in a way that would reach this machine's own", name, top)
		}
	}
	cmd := exec.Command(shell, "-c", here, name, what)
	cmd.Env = []string{"PATH=" + filepath.Join(root, "bin") + ":" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
