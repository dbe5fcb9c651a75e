package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/crossdock/crossdock/protocol/sealing"
)

// sealingFile is the key to which secrets for this site are sealed, in the text form of age.
const sealingFile = "sealing.key"

// MakeSealing makes the key to which secrets for this agent are sealed, if there is none. It
// goes with the identity: renewals keep it, an enrolment makes a new one, and then the
// secrets have to be set anew.
func (id *Identity) MakeSealing() error {
	if _, err := os.Stat(filepath.Join(id.dir, sealingFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key, err := sealing.NewKey()
	if err != nil {
		return err
	}
	return write(id.dir, sealingFile, []byte(key+"\n"))
}

// Sealing gives the key to which secrets for this agent are sealed, and its announcement.
func (id *Identity) Sealing() (key string, said sealing.Announcement, err error) {
	path := filepath.Join(id.dir, sealingFile)
	text, err := os.ReadFile(path)
	if err != nil {
		return "", said, fmt.Errorf("the key to which secrets are sealed: %w", err)
	}
	recipient, err := sealing.RecipientOf(string(text))
	if err != nil {
		return "", said, fmt.Errorf("%s: %w; remove the file, start the agent, and set the secrets of this site anew", path, err)
	}
	id.mu.RLock()
	defer id.mu.RUnlock()
	said, err = sealing.Announce(id.Cluster, id.Agent, recipient, id.key)
	return string(text), said, err
}
