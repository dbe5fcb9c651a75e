package pluginhost

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// A program comes from the site's directory or from what was shipped: the hash decides.
func TestShippedProgramsAreFound(t *testing.T) {
	sum := func(text string) string {
		h := sha256.Sum256([]byte(text))
		return hex.EncodeToString(h[:])
	}
	for _, c := range []struct {
		name, site, shipped string // what stands in each; "" nothing
		refusal             string // "" it is found
	}{
		{"shipped", "", "right", ""},
		{"of the site", "right", "", ""},
		{"the site has another version", "older", "right", ""},
		{"what is shipped is another version", "right", "newer", ""},
		{"nowhere", "", "", "put the plugin's program there"},
		{"shipped, and another", "", "newer", "shipped/carrier is not the program that policy names"},
		{"both are others", "older", "newer", "site/carrier is not the program that policy names"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := &store{programs: filepath.Join(dir, "site"), shipped: filepath.Join(dir, "shipped"), dir: filepath.Join(dir, "own"), log: slog.New(slog.DiscardHandler)}
			if err := os.Mkdir(s.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for where, text := range map[string]string{s.programs: c.site, s.shipped: c.shipped} {
				if text == "" {
					continue // nor is the directory there
				}
				if err := os.Mkdir(where, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(where, "carrier"), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			config := Config{Programs: s.programs, Shipped: s.shipped, Dir: s.dir, Log: s.log, Kinds: Kinds()}
			examined := config.Examine(Spec{Name: "one", Kind: carrier.Kind, Program: "carrier", SHA256: sum("right")})
			f, opened := s.open("carrier", sum("right"))
			if opened == nil {
				f.Close()
			}
			for what, err := range map[string]error{"examined": examined, "opened": opened} {
				if (err == nil) != (c.refusal == "") || err != nil && !strings.Contains(filepath.ToSlash(err.Error()), c.refusal) {
					t.Errorf("%s: %v, want %q", what, err, c.refusal)
				}
			}
		})
	}
}
