package stage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/crossdock/crossdock/deploy/demo/policy"
	"github.com/crossdock/crossdock/deploy/demo/tariffs"
)

// Programs of the plugins that the sites of the regions run.
const (
	carrierProgram = "carrier-zone"
	taxProgram     = "tax-table"
)

// What plugins.yaml has in place of what only a run knows.
const (
	carrierSum   = "0000000000000000000000000000000000000000000000000000000000000000"
	taxSum       = "1111111111111111111111111111111111111111111111111111111111111111"
	platform     = "linux/amd64"
	directory    = "/srv/crossdock/demo"
	pluginPolicy = "plugins.yaml"
)

// plugin is the file of a plugin's program.
func (s *Stage) plugin(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return s.program(name)
}

// writePolicy puts the policy's files where a person proposes them from, with the hashes of the
// programs that were built, and the carriers' tariffs where the policy says they are.
func (s *Stage) writePolicy() error {
	if err := errors.Join(os.CopyFS(s.path("policy"), policy.Files), os.CopyFS(s.path("tariffs"), tariffs.Files)); err != nil {
		return err
	}
	dir, err := filepath.Abs(s.cfg.Dir)
	if err != nil {
		return err
	}
	place := []string{directory, strings.Trim(quote(dir), `"`), platform, runtime.GOOS + "/" + runtime.GOARCH}
	for name, sum := range map[string]string{carrierProgram: carrierSum, taxProgram: taxSum} {
		program, err := os.ReadFile(s.plugin(name))
		if err != nil {
			return fmt.Errorf("the program of a plugin is missing, make build builds it: %w", err)
		}
		place = append(place, sum, fmt.Sprintf("%x", sha256.Sum256(program)))
	}
	text, err := policy.Files.ReadFile(pluginPolicy)
	if err != nil {
		return err
	}
	file := s.path("policy", pluginPolicy)
	if err := os.Remove(file); err != nil { // it is as read-only as what was embedded
		return err
	}
	return os.WriteFile(file, []byte(strings.NewReplacer(place...).Replace(string(text))), 0o600)
}

// installPlugins puts the programs beside an agent that runs them.
func (s *Stage) installPlugins(site *Site) error {
	if !hasPlugins(site.Name) {
		return nil
	}
	dir := filepath.Join(site.dir, "plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{carrierProgram, taxProgram} {
		program, err := os.ReadFile(s.plugin(name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(s.plugin(name))), program, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// hasPlugins: head office runs none.
func hasPlugins(site string) bool { return site != SiteNames()[0] }

// awaitPlugins waits until each region can tax, and label without its line.
func (s *Stage) awaitPlugins(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for _, site := range s.Sites {
		for hasPlugins(site.Name) {
			err := equipped(ctx, site)
			if err == nil {
				break
			}
			if ended := site.agent.running(); ended != nil {
				return ended
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("agent %s: %w", site.Name, err)
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	return nil
}

// equipped says what a site lacks.
func equipped(ctx context.Context, site *Site) error {
	var status struct {
		Numbers []struct{ Left uint64 }
		Plugins []struct{ Plugin, State, LastError string }
	}
	if err := ask(ctx, site, &status); err != nil {
		return err
	}
	for _, p := range status.Plugins {
		if p.State != "running" {
			return fmt.Errorf("plugin %s is %s %s", p.Plugin, p.State, p.LastError)
		}
	}
	if len(status.Plugins) != 2 {
		return fmt.Errorf("it has %d plugins, and should have 2", len(status.Plugins))
	}
	if !slices.ContainsFunc(status.Numbers, func(n struct{ Left uint64 }) bool { return n.Left > 0 }) {
		return errors.New("it holds no numbers for labels yet")
	}
	return nil
}

// ask reads an agent's status.
func ask(ctx context.Context, site *Site, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+site.Ops+"/v1/status", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return json.NewDecoder(answer.Body).Decode(into)
}
