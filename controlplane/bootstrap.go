package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/controlplane/pki"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// adminName is the first principal. It is there to make the others.
const adminName = "admin"

// bootstrap begins the cluster on the first start of its first node.
func (c *ControlPlane) bootstrap(ctx context.Context) error {
	if _, begun := c.store.Cluster(); begun {
		return nil
	}
	files := FilesIn(c.config.Data)
	if c.id.Joined {
		return fmt.Errorf("node %s has joined cluster %s but was sent a state without a cluster", c.id.Node, c.id.Cluster)
	}
	token, err := adminToken(files.AdminToken)
	if err != nil {
		return err
	}
	if c.peers != nil {
		c.log.Warn("this node begins a cluster of its own; if it is to be one more node of another, stop it, empty its data directory, "+
			"and run: crossdock cluster join ADDRESS --token TOKEN --config FILE; or crossdock cluster restore, if it is to go on from a backup", "node", c.id.Node, "data", c.config.Data)
	}
	now := time.Now().UTC()
	if _, err := pki.OpenSeal(files.pki); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	first, err := pki.First(files.pki, c.id.Cluster, now)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	cluster := model.Cluster{
		ID: c.id.Cluster, Generation: 1, Incarnation: c.id.Incarnation, Approvals: c.config.Approvals, Created: now,
		Limits: model.Limits{MailboxBytes: c.config.Limits.MailboxBytes, RelayBytes: c.config.Limits.RelayBytes},
	}
	if cluster.Approvals == "" {
		cluster.Approvals = model.ApprovalsDual
	}
	node := c.row()
	node.Joined = now
	_, err = c.store.Apply(ctx, &model.Bootstrap{
		Asked: model.Asked{At: now}, Cluster: cluster, Node: node, Authority: first,
		Admin: model.Principal{Name: adminName, Roles: adminRoles(cluster.Approvals), TokenHash: api.HashPrincipalToken(token), Created: now},
	})
	if err != nil {
		return fmt.Errorf("begin the cluster: %w", err)
	}
	c.log.Info("a new cluster has begun", "cluster", cluster.ID, "approvals", cluster.Approvals, "adminToken", files.AdminToken)
	return nil
}

// checkState makes sure that directory, configuration and state speak of the same cluster.
func (c *ControlPlane) checkState() error {
	cluster, begun := c.store.Cluster()
	switch asked := c.config.Approvals; {
	case !begun:
		return errors.New("the state holds no cluster")
	case asked != "" && asked != cluster.Approvals:
		return fmt.Errorf("%w: approvals: %s is asked for, but this cluster was begun with %s, and that is never changed; if it is new and nothing is in it yet, empty %s to begin anew",
			ErrConfig, asked, cluster.Approvals, c.config.Data)
	case cluster.ID != c.id.Cluster || cluster.Incarnation != c.id.Incarnation:
		return fmt.Errorf("%s: node.json speaks of cluster %s (%s), the state of %s (%s): bring back both from the same place",
			c.config.Data, c.id.Cluster, c.id.Incarnation, cluster.ID, cluster.Incarnation)
	}
	if err := c.authority.Check(); err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	return nil
}

// adminRoles: where two must agree, the administrator makes people and enrols sites but
// neither writes nor approves policy. Where there is one person only, it is this one.
func adminRoles(approvals model.Approvals) []model.Role {
	roles := []model.Role{model.Admin, model.Operator, model.Viewer}
	if approvals == model.ApprovalsSingle {
		roles = append(roles, model.Author, model.Approver)
	}
	return roles
}

// adminToken leaves the first administrator's token in a file before the state knows it,
// so that no crash can lose it; a file left by such a crash is used again.
func adminToken(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(text))) > 0 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	token, _ := api.MintPrincipalToken()
	if err := atomicfile.Write(file, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	return token, nil
}
