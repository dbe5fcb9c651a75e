package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// CheckPages reports whether bbolt can be trusted with a file that nobody writes to
// meanwhile: ErrDamage if not.
func CheckPages(path string) error { return checkPages(path, true) }

// SalvagePages calls found for every key and value that can still be reached in a file that
// is damaged, in no order. Whether they are what was written, the caller has to prove.
func SalvagePages(path string, found func(key, value []byte)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	c := &pageCheck{seen: map[uint64]bool{}, found: func(key []byte, at int64, size int) {
		value := make([]byte, size)
		if _, err := f.ReadAt(value, at); err == nil {
			found(key, value)
		}
	}}
	if err := c.run(path); err != nil && !errors.Is(err, ErrDamage) {
		return err
	}
	return nil
}

// Lock keeps every other process away from a log's directory until release. ErrInUse if one
// is there.
func Lock(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("queue: data directory: %w", err)
	}
	db, err := openBolt(filepath.Join(dir, cursorFile), false)
	if errors.Is(err, ErrDamage) { // whoever opens the log next moves it aside
		return func() error { return nil }, nil
	} else if err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	return db.Close, nil
}
