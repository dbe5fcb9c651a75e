package systems

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

func TestBelow(t *testing.T) {
	top := t.TempDir()
	data, other := filepath.Join(top, "data"), filepath.Join(top, "other")
	secrets := filepath.Join(data, "secrets")
	for _, dir := range []string{secrets, filepath.Join(data, "identity"), filepath.Join(other, "deep")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	key := filepath.Join(data, "identity", "key")
	if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		top: "", other: "", filepath.Join(top, "database"): "", filepath.Join(top, "none", "at", "all"): "",
		data: data, key: data, secrets: secrets, filepath.Join(secrets, "a", "b"): secrets,
		other + "/deep/../../data/identity/key": data, secrets + "/../identity": data,
	}
	if runtime.GOOS == "linux" {
		for name, to := range map[string]string{"in": filepath.Join(data, "identity"), "deep/in": data} {
			if err := os.Symlink(to, filepath.Join(other, name)); err != nil {
				t.Fatal(err)
			}
		}
		cases[other+"/in/key"], cases[other+"/in/none"], cases[other+"/deep/in/identity"] = data, data, data
		cases[other+"/in/../identity"] = data // the system goes up from where the link leads
		cases["/proc/self/root"+key] = data
	}
	for path, want := range cases {
		if got, err := Below(path, data, secrets, filepath.Join(top, "missing")); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
	}
}
