package calls

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	bolt "go.etcd.io/bbolt"
)

// LeftIn counts in the file of a Service that does not run the calls that are open and the
// events that wait to leave, and changes nothing there. Without the file there was never a
// call. check is Config.Check.
func LeftIn(path string, check func(path string) error) (left uint64, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if check != nil {
		if err := check(path); err != nil {
			return 0, fmt.Errorf("calls: %s: %w", path, err)
		}
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("calls: %s (is another process using it?): %w", path, err)
	}
	defer db.Close()
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketOpen, bucketLeave} {
			bucket := tx.Bucket(name)
			if bucket == nil {
				return errors.New("it is no file of calls, or of one that was never begun")
			}
			if err := bucket.ForEach(func(_, _ []byte) error {
				left++
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("calls: %s: %w", path, err)
	}
	return left, nil
}
