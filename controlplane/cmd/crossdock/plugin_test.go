package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/crossdock/crossdock/plugins/sdk"
	"github.com/crossdock/crossdock/plugins/sdk/carrier"
)

// toyCarrier says what it is, and shows what it sees of its environment.
type toyCarrier struct{ carrier.Carrier }

func (*toyCarrier) Describe(context.Context) (*carrier.Description, error) {
	return &carrier.Description{Description: sdk.Description{
		Name: "toy", Version: "0.1 home=" + os.Getenv("HOME"), Operations: []sdk.Operation{{Name: carrier.OpShip}},
		Config: []sdk.Setting{{Name: "account", Required: true, Help: "the number of the account"}, {Name: "pin", Secret: true, Help: "of the account"}},
	}}, nil
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestPluginVerify(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, other := filepath.Join(dir, "toy.exe"), filepath.Join(dir, "other")
	writeFile(t, program, text)
	writeFile(t, other, []byte("no program"))
	here, sum := runtime.GOOS+"/"+runtime.GOARCH, fmt.Sprintf("%x", sha256.Sum256(text))
	policyDir := func(spec string) string {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, "policy.yaml"), fmt.Appendf(nil, "apiVersion: crossdock/v1\nkind: Site\nmetadata: {name: hq}\nspec: {region: hq}\n---\n"+
			"apiVersion: crossdock/v1\nkind: Plugin\nmetadata: {name: toys}\nspec: {owner: it, sites: [hq], program: toy, %s}\n", spec))
		return dir
	}
	wrong := strings.Repeat("0", 64)
	for what, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"alone": {[]string{program}, exitOK, []string{"sha256   " + here + ": " + sum, "is       carrier toy, version 0.1 home=\n", "can      ship",
			"setting  account, required: the number of the account", "setting  pin, secret: of the account"}},
		"as policy says": {[]string{program, "--policy", policyDir("kind: carrier, sha256: {" + here + ": " + sum + "}, settings: {account: 7}, secrets: {pin: 'file:pin'}")},
			exitOK, []string{"policy   plugin toys"}},
		"another hash and kind": {[]string{program, "--policy", policyDir("kind: tax, sha256: {" + here + ": " + wrong + "}, settings: {account: 7}")},
			exitFailed, []string{"policy.yaml:6: plugin toys: its hash for " + here + " is " + wrong + ", the program's is " + sum, "it is of kind tax, the program is of kind carrier"}},
		"settings": {[]string{program, "--policy", policyDir("kind: carrier, sha256: {" + here + ": " + sum + "}, settings: {pin: 7, colour: red}, secrets: {user: 'file:user'}")},
			exitFailed, []string{"setting account is missing: the number", "setting pin is a secret", "knows no setting colour", "knows no setting user, which"}},
		"no hash for it": {[]string{program, "--policy", policyDir("kind: carrier, sha256: {darwin/arm64: " + wrong + "}, settings: {account: 7}")},
			exitFailed, []string{"it has no hash for " + here + "; write " + here + ": " + sum}},
		"not in policy": {[]string{other, "--policy", policyDir("kind: carrier, sha256: {" + here + ": " + sum + "}")},
			exitFailed, []string{"no plugin of the policy has program other", "FAULT"}},
		"no program":  {[]string{program, other}, exitFailed, []string{"does not start as a plugin", "carrier toy"}},
		"no file":     {[]string{filepath.Join(dir, "none")}, exitFailed, []string{"none: no such file"}},
		"no argument": {nil, exitUsage, nil},
		"bad policy":  {[]string{program, "--policy", policyDir("kind: boat")}, exitFailed, nil},
		"no policy":   {[]string{program, "--policy", filepath.Join(dir, "none")}, exitUsage, nil},
	} {
		t.Run(what, func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := run(t.Context(), append([]string{"plugin", "verify"}, c.args...), nil, &out, &errOut); code != c.code {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, &out, &errOut)
			}
			for _, part := range c.want {
				if !strings.Contains(out.String(), part) {
					t.Errorf("no %q in:\n%s", part, &out)
				}
			}
			if c.code == exitOK && strings.Contains(out.String(), "FAULT") {
				t.Errorf("faults in:\n%s", &out)
			}
		})
	}
	var out, errOut bytes.Buffer
	var list []verified
	if code := run(t.Context(), []string{"plugin", "verify", "-o", "json", program}, nil, &out, &errOut); code != exitOK {
		t.Errorf("as JSON: exit code %d, %s", code, &errOut)
	}
	if err := json.Unmarshal(out.Bytes(), &list); err != nil || len(list) != 1 || list[0].SHA256 != sum || list[0].Kind != "carrier" || len(list[0].Settings) != 2 {
		t.Errorf("as JSON: %+v, %v", list, err)
	}
}
