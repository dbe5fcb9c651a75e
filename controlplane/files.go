package controlplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// Files are what the node leaves for commands on the same machine.
type Files struct {
	Address    string // of the API, as a URL
	Others     string // of the APIs of the other nodes, one URL a line
	AdminToken string // of the first administrator, readable by the node's user only
	Authority  string // certificates of the internal CA, PEM
	pki        string
	store      string
	node       string
	rebuilding string
	lock       string
	rescue     string // what a command of this machine asks
	rescued    string // and the answer
}

// FilesIn tells where they are.
func FilesIn(data string) Files {
	return Files{
		Address:    filepath.Join(data, "api.addr"),
		Others:     filepath.Join(data, "api.others"),
		AdminToken: filepath.Join(data, "admin.token"),
		Authority:  filepath.Join(data, "pki", "ca.pem"),
		pki:        filepath.Join(data, "pki"),
		store:      data,
		node:       filepath.Join(data, "node.json"),
		rebuilding: filepath.Join(data, "rebuilding.json"),
		lock:       filepath.Join(data, "lock"),
		rescue:     filepath.Join(data, "rescue.json"),
		rescued:    filepath.Join(data, "rescued.json"),
	}
}

// What may be wrong with a data directory.
var (
	// ErrInUse marks a data directory, or an address, that another process uses.
	ErrInUse = errors.New("in use by another process")
	// ErrNotEmpty marks a data directory that holds something where none may be.
	ErrNotEmpty = errors.New("the data directory is not empty")
)

// nodeFile says which node of which life of which cluster a data directory is. Without it
// a directory holds no node: it is written before the first thing of a new node, and after
// the last of one that joins or is restored.
type nodeFile struct {
	Cluster     string            `json:"cluster"`
	Incarnation string            `json:"incarnation"`
	Node        string            `json:"node"`
	Joined      bool              `json:"joined,omitempty"` // waits for the leader to add it; else it began the cluster
	Seeds       map[string]string `json:"seeds,omitempty"`  // where other nodes listen, until the state tells
}

// rebuildFile marks a restore or recovery. While its incarnation is not that of the node's
// file, the directory is not complete; then it waits for the node to lead.
type rebuildFile struct {
	Incarnation string        `json:"incarnation"`
	Rebuilt     model.Rebuilt `json:"rebuilt"`
}

const maxJSON = 1 << 20

func readJSON[T any](file string) (out T, err error) {
	info, err := os.Stat(file)
	if err != nil {
		return out, err
	}
	if info.Size() > maxJSON {
		return out, fmt.Errorf("%s has %d bytes, the limit is %d", file, info.Size(), maxJSON)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return out, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

func writeJSON(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(file, append(text, '\n'), 0o600)
}

// readNode reads which node a data directory holds; found is false for one that is empty
// or does not exist.
func readNode(files Files) (id nodeFile, found bool, err error) {
	id, err = readJSON[nodeFile](files.node)
	if err == nil && (id.Cluster == "" || id.Incarnation == "" || !nodeName.MatchString(id.Node)) {
		err = fmt.Errorf("%s names no node: bring it back as it was", files.node)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return id, err == nil, err
	}
	if _, err := os.Stat(files.rebuilding); err == nil {
		return id, false, fmt.Errorf("%w: a restore into %s was cut short: run it again", ErrNotEmpty, files.store)
	}
	if names := foreign(files.store); len(names) > 0 {
		return id, false, fmt.Errorf("%w: %s holds %s but no node.json: it is not that of a node, or was damaged",
			ErrNotEmpty, files.store, names[0])
	}
	return id, false, nil
}

// foreign lists what is in a data directory beside what a first start may leave that was
// cut short before it knew who it is.
func foreign(dir string) (names []string) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil // it does not exist; or the next step says what is wrong with it
	}
	for _, e := range list {
		// What begins with a dot is a file that had not got its name yet.
		if name := e.Name(); name != "lock" && name != "lost+found" && !strings.HasPrefix(name, ".") {
			names = append(names, name)
		}
	}
	return names
}

// lockData keeps other processes out of a data directory. Without create, a directory that
// has no lock yet is left as it is, and nil is given.
func lockData(files Files, create bool) (*os.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
		if err := os.MkdirAll(files.store, 0o700); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	f, err := os.OpenFile(files.lock, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("data directory: %w: it is another user's, or what is in it; start the server as that one, or give all of it to this one%s", err, giveAll(files.store))
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s: %w (%w): is another server running on it?", files.store, ErrInUse, err)
	}
	// Whoever held it may have removed it: then the lock is on a file that nobody else sees.
	held, err := f.Stat()
	if named, other := os.Stat(files.lock); err != nil || other != nil || !os.SameFile(held, named) {
		f.Close()
		return nil, fmt.Errorf("data directory %s: %w: another command has just ended there; try again", files.store, ErrInUse)
	}
	return f, nil
}

// sweep removes what an earlier run has left of files that never got their names.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(dir, spoolPattern))
	if err != nil {
		return err
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return nil
}
