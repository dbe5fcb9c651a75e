package identity

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	sessionFile  = "session"       // number of the newest session
	epochFile    = "epoch.json"    // a request for a new epoch that was not granted yet
	baselineFile = "baseline.json" // numbers given before the agent began without a session
	knownFile    = "known.json"    // of the control plane

	maxNodes = 64
)

// epochRequest is a request for a new epoch that waits for its answer.
type epochRequest struct {
	Epoch uint64   `json:"epoch"` // in which it was made
	Nonce [16]byte `json:"nonce"`
	Why   string   `json:"why"`
}

// known is what the agent remembers of the control plane.
type known struct {
	Generation  uint64   `json:"generation"`
	Incarnation string   `json:"incarnation"`
	Nodes       []string `json:"nodes,omitempty"`
}

// Epoch is the one in force.
func (id *Identity) Epoch() uint64 {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.Granted.Epoch
}

// SetEpoch makes an epoch that was granted the one in force. It answers the request for it.
func (id *Identity) SetEpoch(epoch uint64) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if epoch < id.Granted.Epoch {
		return fmt.Errorf("epoch %d is granted, and %d is in force: epochs only rise", epoch, id.Granted.Epoch)
	}
	granted := id.Granted
	granted.Epoch = epoch
	if err := writeJSON(id.dir, agentFile, granted); err != nil {
		return err
	}
	id.Granted.Epoch = epoch
	// What remains here after a crash is of the epoch before, and is not looked at.
	if err := os.Remove(filepath.Join(id.dir, epochFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// PendingEpoch gives the request for a new epoch that was made and not granted yet.
func (id *Identity) PendingEpoch() (nonce [16]byte, why string, ok bool) {
	var waiting epochRequest
	if ok, err := readJSON(id.dir, epochFile, &waiting); err != nil || !ok || waiting.Epoch != id.Epoch() {
		return nonce, "", false
	}
	return waiting.Nonce, waiting.Why, true
}

// RequestEpoch notes that this agent needs a new epoch, before it is asked for: the answer
// may be lost after the control plane has granted it, and it knows the repeat by its nonce.
// A request that waits already stays.
func (id *Identity) RequestEpoch(why string) (nonce [16]byte, err error) {
	if nonce, _, ok := id.PendingEpoch(); ok {
		return nonce, nil
	}
	rand.Read(nonce[:]) // never fails
	return nonce, writeJSON(id.dir, epochFile, epochRequest{Epoch: id.Epoch(), Nonce: nonce, Why: why})
}

// NextSession gives the number of the next session: one more than the last, on disk before
// it is used. A copy of the directory that is put back therefore shows by numbers that were
// used before. Where the number is lost it begins anew with the seconds since 1970, which is
// above every number given so far as long as there was no more than a session a second.
func (id *Identity) NextSession() (uint64, error) {
	id.mu.Lock()
	defer id.mu.Unlock()
	path := filepath.Join(id.dir, sessionFile)
	if id.session == 0 {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		id.session, err = strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 63)
		if err != nil || id.session == 0 {
			id.session = uint64(time.Now().Unix())
		}
	}
	next := id.session + 1
	if err := write(id.dir, sessionFile, strconv.AppendUint(nil, next, 10)); err != nil {
		return 0, err
	}
	id.session = next
	keepSpare(id.dir)
	return next, nil
}

// Baseline keeps the numbers that the agent had given on its lanes when it last began
// without having agreed with the control plane since. Of what the relay holds beyond them
// and beyond what was sent since, this copy of the agent knows nothing: another one sent it.
func (id *Identity) Baseline(given map[string]uint64) (map[string]uint64, error) {
	var kept map[string]uint64
	ok, err := readJSON(id.dir, baselineFile, &kept)
	if err != nil {
		return nil, err
	}
	if ok && kept != nil {
		return kept, nil
	}
	given = maps.Clone(given)
	if given == nil {
		given = map[string]uint64{}
	}
	return given, writeJSON(id.dir, baselineFile, given)
}

// Agreed forgets the baseline: the control plane holds nothing that this copy has not given.
func (id *Identity) Agreed() error {
	if err := os.Remove(filepath.Join(id.dir, baselineFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Known gives the generation and the incarnation of the control plane as last heard of.
func (id *Identity) Known() (generation uint64, incarnation string) {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.known.Generation, id.known.Incarnation
}

// Nodes gives the addresses of the control plane's nodes as last heard of.
func (id *Identity) Nodes() []string {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return slices.Clone(id.known.Nodes)
}

// Remember keeps what was heard of the control plane. An empty list of nodes leaves the one
// that is known.
func (id *Identity) Remember(generation uint64, incarnation string, nodes []string) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	if len(nodes) == 0 {
		nodes = id.known.Nodes
	}
	heard := known{Generation: generation, Incarnation: incarnation, Nodes: slices.Clone(nodes[:min(len(nodes), maxNodes)])}
	if heard.Generation == id.known.Generation && heard.Incarnation == id.known.Incarnation && slices.Equal(heard.Nodes, id.known.Nodes) {
		return nil
	}
	if err := writeJSON(id.dir, knownFile, heard); err != nil {
		return err
	}
	id.known = heard
	return nil
}
