package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/crossdock/crossdock/controlplane/api"
	"github.com/crossdock/crossdock/controlplane/model"
)

// adminName is the first principal. It is there to make the others.
const adminName = "admin"

// bootstrap begins the cluster on the first start, and on every later one checks that the
// configuration does not ask for another way to approve than the one that was chosen.
func (c *ControlPlane) bootstrap(ctx context.Context) (model.Cluster, error) {
	if cluster, begun := c.store.Cluster(); begun {
		if asked := c.config.Approvals; asked != "" && asked != cluster.Approvals {
			return cluster, fmt.Errorf("%w: approvals: %s is asked for, but this cluster was begun with %s, and that is never changed",
				ErrConfig, asked, cluster.Approvals)
		}
		return cluster, nil
	}
	token, err := adminToken(FilesIn(c.config.Data).AdminToken)
	if err != nil {
		return model.Cluster{}, err
	}
	now := time.Now().UTC()
	cluster := model.Cluster{
		ID: newClusterID(), Generation: 1, Approvals: c.config.Approvals, Created: now,
		Limits: model.Limits{MailboxBytes: c.config.Limits.MailboxBytes, RelayBytes: c.config.Limits.RelayBytes},
	}
	if cluster.Approvals == "" {
		cluster.Approvals = model.ApprovalsDual
	}
	_, err = c.store.Apply(ctx, &model.Bootstrap{
		Asked: model.Asked{At: now}, Cluster: cluster,
		Admin: model.Principal{Name: adminName, Roles: adminRoles(cluster.Approvals), TokenHash: api.HashPrincipalToken(token), Created: now},
	})
	if err != nil {
		return cluster, fmt.Errorf("begin the cluster: %w", err)
	}
	c.log.Info("a new cluster has begun", "cluster", cluster.ID, "approvals", cluster.Approvals,
		"adminToken", FilesIn(c.config.Data).AdminToken)
	cluster, _ = c.store.Cluster()
	return cluster, nil
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

// newClusterID makes a name that can stand in a SPIFFE id.
func newClusterID() string {
	var id [8]byte
	rand.Read(id[:]) // never fails: the process ends when the system has no randomness
	return "xd-" + hex.EncodeToString(id[:])
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
	if err := writeFile(file, token+"\n", 0o600); err != nil {
		return "", fmt.Errorf("administrator's token: %w", err)
	}
	return token, nil
}

// writeFile puts a whole file in place or none, and makes it outlive a power loss.
func writeFile(file, text string, mode os.FileMode) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		temp.Close()
		if err != nil {
			os.Remove(temp.Name())
		}
	}()
	if err = temp.Chmod(mode); err != nil {
		return err
	}
	if _, err = temp.WriteString(text); err != nil {
		return err
	}
	if err = temp.Sync(); err != nil {
		return err
	}
	if err = temp.Close(); err != nil {
		return err
	}
	if err = os.Rename(temp.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// syncDir makes a rename last. Windows has no such call and needs none.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	return d.Sync()
}
