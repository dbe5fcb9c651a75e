package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// The limits of a rescue.
const (
	rescueTaken  = 5 * time.Second  // until a node that runs has seen that it is asked
	rescueWait   = 30 * time.Second // of the node, for the cluster
	rescueAnswer = 45 * time.Second // of the command, for the node
	rescuePoll   = 50 * time.Millisecond
	nextToken    = ".next" // of a token that the state may not know yet
)

// ErrNotRunning marks a data directory on which no server runs.
var ErrNotRunning = errors.New("no server runs on this data directory")

var errNoFile = errors.New("it is not a file of its own")

// RescueInfo says whose token lies in a node's data directory.
type RescueInfo struct {
	Node      string `json:"node"`
	Principal string `json:"principal"`
	TokenFile string `json:"tokenFile"`
	Kept      bool   `json:"kept"` // it was there before, and is good
}

// rescueRequest is a file that a person leaves in the data directory of a node that runs.
// That it is there, and whose it is, is the proof: who may write there as the node's user
// has the keys of the whole cluster anyway. It counts once.
type rescueRequest struct {
	Nonce string `json:"nonce"`
}

// rescueReply is the node's answer, beside it.
type rescueReply struct {
	To    string     `json:"to"` // the nonce
	Info  RescueInfo `json:"info"`
	Code  model.Code `json:"code,omitempty"`
	Error string     `json:"error,omitempty"`
}

// Rescue asks the node that runs on a data directory to leave an administrator's token
// there, and waits for it.
func Rescue(ctx context.Context, data string) (RescueInfo, error) {
	files := FilesIn(data)
	if _, found, err := readNode(files); err != nil {
		return RescueInfo{}, err
	} else if !found {
		return RescueInfo{}, fmt.Errorf("%w: data: %s is not the directory of a node", ErrConfig, data)
	}
	request := rescueRequest{Nonce: rand.Text()}
	text, err := json.Marshal(request)
	if err != nil {
		return RescueInfo{}, err
	}
	// Nothing in it is secret, and the node's user has to read what root has written.
	if err := atomicfile.Write(files.rescue, []byte(string(text)+"\n"), 0o644); err != nil {
		return RescueInfo{}, fmt.Errorf("ask the node in %s (as the user whose server it is, or as root): %w", data, err)
	}
	ctx, cancel := context.WithTimeout(ctx, rescueAnswer)
	defer cancel()
	taken := time.After(rescueTaken)
	for {
		reply, err := readJSON[rescueReply](files.rescued)
		if err == nil && reply.To == request.Nonce {
			if err := atomicfile.Remove(files.rescued); err != nil {
				return RescueInfo{}, err
			}
			if reply.Error != "" {
				return RescueInfo{}, &model.Error{Code: reply.Code, Text: reply.Error}
			}
			return reply.Info, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return RescueInfo{}, fmt.Errorf("the answer of the node: %w", err)
		}
		select {
		case <-time.After(rescuePoll):
		case <-taken:
			// Whoever removes it first decides whether it counts.
			if os.Remove(files.rescue) == nil {
				return RescueInfo{}, fmt.Errorf("%s: %w: start it and ask again", data, ErrNotRunning)
			}
		case <-ctx.Done():
			os.Remove(files.rescue) // if nobody has taken it: it must not count some other day
			return RescueInfo{}, errors.Join(fmt.Errorf("the node in %s has not answered: its log says why", data), ctx.Err())
		}
	}
}

// answerRescue looks whether somebody asks, and does it.
func (c *ControlPlane) answerRescue(ctx context.Context) {
	files := FilesIn(c.config.Data)
	request, err := takeRescue(files)
	if err != nil {
		c.log.Warn("a request for an administrator's token is refused", "file", files.rescue, "error", err)
		return
	}
	if request == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, rescueWait)
	defer cancel()
	reply := rescueReply{To: request.Nonce}
	if reply.Info, err = c.rescueAdmin(ctx); err != nil {
		reply.Code, reply.Error = model.CodeOf(err), err.Error()
	}
	if err := writeJSON(files.rescued, reply); err != nil {
		c.log.Warn("a request for an administrator's token cannot be answered", "file", files.rescued, "error", err)
	}
}

// takeRescue takes a request away, so that it counts once; nil: there is none.
func takeRescue(files Files) (*rescueRequest, error) {
	request, err := readRescue(files.rescue)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	switch removed := os.Remove(files.rescue); {
	case err != nil:
		return nil, err // it was looked at once
	case errors.Is(removed, fs.ErrNotExist):
		return nil, nil // taken back at the last moment
	case removed != nil:
		return nil, removed
	}
	return &request, nil
}

// readRescue reads a request. A file that is not of the node's user, or that lies somewhere
// else, is no proof.
func readRescue(file string) (request rescueRequest, err error) {
	at, err := os.Lstat(file)
	if err != nil {
		return request, err
	}
	if !at.Mode().IsRegular() { // to open a pipe would take as long as nobody writes to it
		return request, errNoFile
	}
	f, err := os.Open(file)
	if err != nil {
		return request, err
	}
	defer f.Close() // opened for reading
	if info, err := f.Stat(); err != nil || !os.SameFile(at, info) {
		return request, errors.Join(errNoFile, err)
	}
	if err := ownFile(f); err != nil {
		return request, err
	}
	if err := json.NewDecoder(io.LimitReader(f, maxJSON)).Decode(&request); err != nil {
		return request, err
	}
	if request.Nonce == "" {
		return request, errors.New("it asks nothing")
	}
	return request, nil
}

// rescueAdmin sees to it that the token of an administrator lies in the data directory. One
// that is there and good stays. Otherwise this node's own administrator gets a new one;
// nobody else's token changes.
func (c *ControlPlane) rescueAdmin(ctx context.Context) (RescueInfo, error) {
	files := FilesIn(c.config.Data)
	info := RescueInfo{Node: c.id.Node, TokenFile: files.AdminToken}
	if text, err := os.ReadFile(files.AdminToken); err == nil {
		if p, known := c.store.Principal(api.HashPrincipalToken(strings.TrimSpace(string(text)))); known && !p.Disabled && p.Has(model.Admin) {
			info.Principal, info.Kept = p.Name, true
			return info, nil
		}
	}
	cluster, _ := c.store.Cluster()
	token, hash := api.MintPrincipalToken()
	if err := atomicfile.Write(files.AdminToken+nextToken, []byte(token+"\n"), 0o600); err != nil {
		return info, fmt.Errorf("administrator's token: %w", err)
	}
	info.Principal = model.NodeAdmin(c.id.Node)
	cmd := &model.RescueAdmin{At: time.Now().UTC(), Node: c.id.Node, Roles: adminRoles(cluster.Approvals), TokenHash: hash}
	if err := c.insist(ctx, cmd); err != nil {
		return info, errors.Join(err, atomicfile.Remove(files.AdminToken+nextToken))
	}
	if err := os.Rename(files.AdminToken+nextToken, files.AdminToken); err != nil {
		return info, fmt.Errorf("administrator's token: %w", err)
	}
	c.log.Warn("this node's administrator has a new token", "principal", info.Principal, "file", files.AdminToken)
	return info, atomicfile.SyncDir(c.config.Data)
}

// insist repeats a command, of which a repeat does no harm, until its fate is known.
func (c *ControlPlane) insist(ctx context.Context, cmd model.Command) error {
	for {
		_, err := c.store.Apply(ctx, cmd)
		if code := model.CodeOf(err); err == nil || code != model.Unavailable && code != model.Unknown {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(leaderRetry):
		}
	}
}
