package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/agent/identity"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// ErrOtherAgent says that the data directory holds what belongs to different agents.
var ErrOtherAgent = errors.New("the journal is another agent's")

// ownerFile stands beside the journal's files and names the agent whose journal it is. Its
// records do not say so, and an identity may be lost without it.
const ownerFile = "agent"

// claim notes whose journal this is, or finds that it is another agent's: its events would
// go out under the wrong name.
func claim(dir, agent string) error {
	owner, err := ownerOf(dir)
	switch {
	case err != nil:
		return err
	case owner == agent:
		return nil
	case owner != "":
		return fmt.Errorf("%s belongs to agent %s, and this is agent %s: %w; put back the one that belongs to it, or give each agent a data directory of its own",
			dir, owner, agent, ErrOtherAgent)
	}
	return atomicfile.Write(filepath.Join(dir, ownerFile), []byte(agent+"\n"), 0o600)
}

func ownerOf(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, ownerFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("whose journal is it: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// holder names the agent whose identity or journal the data directory holds, "" if neither
// is there.
func holder(cfg Config) (string, error) {
	granted, err := identity.Held(cfg.IdentityDir())
	if err != nil {
		return "", err
	}
	owner, err := ownerOf(cfg.JournalDir())
	switch {
	case err != nil:
		return "", err
	case owner != "" && granted.Agent != "" && owner != granted.Agent:
		return "", fmt.Errorf("%s holds the identity of agent %s and the journal of agent %s: %w; move one of the two directories away",
			cfg.Data, granted.Agent, owner, ErrOtherAgent)
	case granted.Agent == "":
		return owner, nil
	}
	return granted.Agent, nil
}
