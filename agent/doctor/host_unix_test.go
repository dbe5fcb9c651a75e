//go:build unix

package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestServiceAndPermissions(t *testing.T) {
	service := func(says string, code int, running bool) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			return one(Service(t.Context(), systemctl(t, says, code), "crossdock-agent", running))
		}
	}
	data := func(change func(dir string) error) func(t *testing.T) []Finding {
		return func(t *testing.T) []Finding {
			dir := filepath.Join(t.TempDir(), "data")
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, "identity"), 0o700), os.WriteFile(filepath.Join(dir, "identity", "key.pem"), nil, 0o600),
				os.WriteFile(filepath.Join(dir, "ops.token"), nil, 0o600), change(dir)); err != nil {
				t.Fatal(err)
			}
			return append(Private(dir), Secrets(filepath.Join(dir, "secrets"), dir))
		}
	}
	secret := func(mode os.FileMode) func(t *testing.T) []Finding {
		return data(func(dir string) error {
			path := filepath.Join(dir, "secrets", "erp")
			return errors.Join(os.Mkdir(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, mode))
		})
	}
	const well = "LoadState=loaded\\nUnitFileState=enabled\\nRestart=always\\n"
	conditions := []condition{
		{"kept", service(well, 0, true), "service", OK, nil},
		{"not enabled", service("LoadState=loaded\\nUnitFileState=disabled\\nRestart=always\\n", 0, true), "service", Fail, []string{"enable"}},
		{"not restarted", service("LoadState=loaded\\nUnitFileState=enabled\\nRestart=no\\n", 0, true), "service", Warn, []string{"Restart=always"}},
		{"runs without a unit", service("LoadState=not-found\\nUnitFileState=\\nRestart=no\\n", 0, true), "service", Warn, []string{"service install"}},
		{"is not there", service("LoadState=not-found\\nUnitFileState=\\nRestart=no\\n", 0, false), "service", Warn, []string{"after enrolment"}},
		{"systemctl fails", service("", 1, true), "service", Warn, []string{"systemctl"}},
		{"no systemd", func(t *testing.T) []Finding { return one(Service(t.Context(), t.TempDir(), "crossdock-agent", true)) }, "service", Warn, []string{"not looked at"}},
		{"private", data(func(string) error { return nil }), "data-permissions", OK, nil},
		{"one owner", data(func(string) error { return nil }), "data-owner", OK, nil},
		{"open directory", data(func(dir string) error { return os.Chmod(dir, 0o755) }), "data-permissions", Warn, []string{"chmod 700"}},                                       // #nosec G302
		{"open key", data(func(dir string) error { return os.Chmod(filepath.Join(dir, "identity", "key.pem"), 0o640) }), "data-permissions", Fail, []string{"key.pem", "0640"}}, // #nosec G302
		{"open token", data(func(dir string) error { return os.Chmod(filepath.Join(dir, "ops.token"), 0o644) }), "data-permissions", Fail, []string{"ops.token"}},               // #nosec G302
		{"not there", func(t *testing.T) []Finding { return Private(filepath.Join(t.TempDir(), "none")) }, "data-permissions", Fail, nil},
		{"no secrets", data(func(string) error { return nil }), "secrets", OK, []string{"no secrets are kept"}},
		{"private secrets", secret(0o600), "secrets", OK, []string{"1 in "}},
		{"open secrets", secret(0o644), "secrets", Warn, []string{"chmod 600"}},
	}
	if os.Getuid() == 0 {
		conditions = append(conditions, condition{"two owners", data(func(dir string) error { return os.Chown(filepath.Join(dir, "identity", "key.pem"), 12345, -1) }),
			"data-owner", Fail, []string{"12345", "chown"}})
	} else {
		t.Log("two owners: not tried, only root can give a file away")
		conditions = append(conditions, condition{"closed secrets", secret(0), "secrets", Fail, nil})
	}
	run(t, conditions)
}

func TestSecretsThatAreNoDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, Secrets(file, t.TempDir()), Fail)
}
