package filedriver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"

	"github.com/crossdock/crossdock/agent/systems"
)

const fileMode = 0o640

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// Deliver is systems.Deliverer: one file for each delivery, a CloudEvent in JSON, named by
// the idempotency key, so that a repeat writes over itself.
func (d *Driver) Deliver(ctx context.Context, del systems.Delivery) (systems.Answer, error) {
	if d.spec.Deliver == nil {
		return systems.Answer{}, systems.NotOffered(systems.OpDeliver)
	}
	text, err := del.Mapped().Marshal()
	if err != nil {
		return systems.Answer{}, systems.Rejectedf("the event cannot be written: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return systems.Answer{}, &systems.Error{Class: systems.Unavailable, Err: err}
	}
	root, err := d.open()
	if err != nil {
		return systems.Answer{}, err
	}
	defer root.Close()
	if err := root.MkdirAll(filepath.FromSlash(d.out), folderMode); err != nil {
		return systems.Answer{}, coded("folder "+d.out, err)
	}
	name := path.Join(d.out, deliveryName(del.IdempotencyKey))
	if err := replace(ctx, root, name, append(text, '\n')); err != nil {
		return systems.Answer{}, err
	}
	d.afterEffect()
	return systems.Answer{Detail: "wrote " + name}, nil
}

// deliveryName makes a file name of a key; one that could be more than a name is hashed.
func deliveryName(key string) string {
	if !plainKey.MatchString(key) {
		sum := sha256.Sum256([]byte(key))
		key = hex.EncodeToString(sum[:])
	}
	return key + ".json"
}

// replace puts content under a name in one step: a reader sees the old file, the new one, or
// none, never a part.
func replace(ctx context.Context, root *os.Root, name string, content []byte) error {
	temp := path.Join(path.Dir(name), "."+path.Base(name)+".tmp")
	// What an attempt left behind is in the way, and may be a link that somebody put there.
	if err := root.Remove(filepath.FromSlash(temp)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return coded(temp, err)
	}
	if err := write(root, temp, content); err != nil {
		_ = root.Remove(filepath.FromSlash(temp)) // the first error counts
		return coded(temp, err)
	}
	if err := ctx.Err(); err != nil {
		_ = root.Remove(filepath.FromSlash(temp))
		return &systems.Error{Class: systems.Unavailable, Err: err}
	}
	if err := root.Rename(filepath.FromSlash(temp), filepath.FromSlash(name)); err != nil {
		_ = root.Remove(filepath.FromSlash(temp))
		return coded(name, err)
	}
	syncFolder(root, path.Dir(name))
	return nil
}

func write(root *os.Root, name string, content []byte) error {
	file, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return err
	}
	if _, err := file.Write(content); err != nil {
		file.Close()
		return err
	}
	if err := file.Sync(); err != nil {
		file.Close()
		return err
	}
	return file.Close()
}
