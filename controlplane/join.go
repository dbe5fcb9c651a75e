package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/crossdock/crossdock/controlplane/peer"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/transport"
)

// Join makes an empty data directory that of a new node of a cluster, with a token for it
// and the address of any of its nodes. Run then has the node added. A join that was cut
// short is repeated with the same token.
func Join(ctx context.Context, config Config, token, peerAddress string, log *slog.Logger) (err error) {
	if err := config.Validate(); err != nil {
		return err
	}
	if config.Cluster.Listen == "" {
		return fmt.Errorf("%w: cluster.listen: a node that joins others must be reachable by them", ErrConfig)
	}
	address, err := config.advertised()
	if err != nil {
		return err
	}
	parsed, err := transport.ParseToken(token)
	if err != nil {
		return err
	}
	files := FilesIn(config.Data)
	undo := untouched(files)
	lock, err := lockEmpty(files, "a node joins with an empty one")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			undo()
		}
		lock.Close()
	}()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return err
	}
	answer, err := peer.Join(ctx, peerAddress, parsed, &peer.JoinRequest{Token: token, Node: config.Node, Peer: address, Request: request})
	if err != nil {
		return fmt.Errorf("join the cluster at %s: %w", peerAddress, err)
	}
	if len(answer.Seal) != len(pki.Seal{}) || answer.Cluster == "" || answer.Incarnation == "" || answer.Node != config.Node {
		return fmt.Errorf("join the cluster at %s: its answer is not complete", peerAddress)
	}
	err = pki.WriteJoined(files.pki, pki.Joined{
		Seal: pki.Seal(answer.Seal), Key: key, Chain: answer.Chain, Authorities: answer.Authorities,
	})
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	id := nodeFile{Cluster: answer.Cluster, Incarnation: answer.Incarnation, Node: config.Node, Joined: true, Seeds: map[string]string{}}
	for _, node := range answer.Nodes {
		if node.ID != config.Node && node.Peer != "" {
			id.Seeds[node.ID] = node.Peer
		}
	}
	// Written last: a directory without it is not that of a node yet.
	if err := writeJSON(files.node, id); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if log != nil {
		log.Info("this node has joined; it takes part when it is started", "node", config.Node, "cluster", answer.Cluster, "address", address)
	}
	return nil
}

// untouched gives what takes away again what a join leaves that comes to nothing: the lock
// of a directory, and the directory, if they were not there. The lock is still held then.
func untouched(files Files) (undo func()) {
	_, noDir := os.Lstat(files.store)
	_, noLock := os.Lstat(files.lock)
	return func() {
		// What cannot be removed, or holds something by now, stays: it does no harm.
		if errors.Is(noLock, fs.ErrNotExist) {
			os.Remove(files.lock)
		}
		if errors.Is(noDir, fs.ErrNotExist) {
			os.Remove(files.store)
		}
	}
}

// lockEmpty takes a data directory that holds no node. What a join leaves that was cut
// short is no node.
func lockEmpty(files Files, why string) (*os.File, error) {
	if err := ofNoNode(files, why); err != nil { // which says more than that a server runs there
		return nil, err
	}
	lock, err := lockData(files, true)
	if err != nil {
		return nil, err
	}
	if err := ofNoNode(files, why); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// ofNoNode refuses a data directory that holds anything but a join that was cut short.
func ofNoNode(files Files, why string) error {
	if _, err := os.Stat(files.node); err == nil {
		return fmt.Errorf("%w: %s is the directory of %s: %s", ErrNotEmpty, files.store, whose(files), why)
	}
	for _, name := range foreign(files.store) {
		if name != "pki" {
			return fmt.Errorf("%w: %s holds %s: %s", ErrNotEmpty, files.store, name, why)
		}
	}
	for _, name := range pki.Foreign(files.pki) {
		return fmt.Errorf("%w: %s holds pki/%s: %s", ErrNotEmpty, files.store, name, why)
	}
	return nil
}

// whose says which node a directory is of, and of which cluster.
func whose(files Files) string {
	id, found, err := readNode(files)
	switch {
	case err != nil || !found:
		return "a node"
	case id.Joined:
		return fmt.Sprintf("node %s of cluster %s, which it has joined already", id.Node, id.Cluster)
	}
	return fmt.Sprintf("node %s, which leads a life of its own there: its server began cluster %s, or was restored or recovered. "+
		"If nothing in it is needed, stop that server and empty the directory", id.Node, id.Cluster)
}
