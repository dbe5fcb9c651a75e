package delivery

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Damage says what became of a delivery file that could not be used any more.
type Damage struct {
	Cause    error
	MovedTo  string
	From     uint64 // deliveries begin again at this journal position, with the idempotency keys that they had
	Salvaged int    // open dead letters that were taken over
}

// openWhole opens the file, or one in its place if it is damaged. bbolt would not notice,
// or panic where nobody can catch it; so the pages are checked before it gets the file.
func (e *Engine) openWhole() error {
	err := e.openOnce()
	if !errors.Is(err, errDamaged) {
		return err
	}
	d := Damage{Cause: err, From: max(e.cfg.Floor, 1)}
	if d.MovedTo, d.Salvaged, err = e.replaceFile(d.From); err != nil {
		return errors.Join(fmt.Errorf("delivery: %s is damaged and cannot be replaced: %w", e.cfg.Path, err), d.Cause)
	}
	e.cfg.Logger.Error("the delivery file is damaged and was moved aside; deliveries begin again with the same idempotency keys",
		"file", d.MovedTo, "from", d.From, "deadLetters", d.Salvaged, "error", d.Cause)
	if e.cfg.OnDamage != nil {
		e.cfg.OnDamage(d)
	}
	return e.openOnce()
}

func (e *Engine) openOnce() error {
	if err := checkFile(&e.cfg); err != nil {
		return err
	}
	db, err := openStore(e.cfg.Path, e.cfg.Journal)
	if err != nil {
		return err
	}
	e.reset(db)
	if err := db.View(e.load); err != nil {
		return errors.Join(fmt.Errorf("delivery: reading %s: %w", e.cfg.Path, err), db.Close())
	}
	return nil
}

// checkFile has the pages of a file checked that is there, under its lock: while another
// process writes it may look damaged.
func checkFile(cfg *Config) error {
	info, err := os.Stat(cfg.Path)
	if cfg.Check == nil || err != nil || info.Size() == 0 {
		return nil // what is wrong, openStore says
	}
	db, err := bolt.Open(cfg.Path, 0o600, &bolt.Options{Timeout: lockTimeout, ReadOnly: true})
	if err != nil {
		return openError(cfg.Path, err)
	}
	if err := cfg.Check(cfg.Path); err != nil {
		return errors.Join(fmt.Errorf("delivery: %w: %w", errDamaged, err), db.Close())
	}
	return db.Close()
}

func openError(path string, err error) error {
	for _, bad := range []error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, bad) {
			return fmt.Errorf("delivery: opening %s: %w: %w", path, errDamaged, err)
		}
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("delivery: %s is in use by another process, most likely a running agent; stop it first: %w", path, err)
	}
	return fmt.Errorf("delivery: opening %s: %w", path, err)
}

// replaceFile writes a new file that begins at a position and has the open dead letters
// that can still be read, moves the damaged one aside, and puts the new one in its place.
func (e *Engine) replaceFile(from uint64) (movedTo string, salvaged int, err error) {
	path := e.cfg.Path
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", 0, err
	}
	db, err := openStore(fresh, e.cfg.Journal)
	if err != nil {
		return "", 0, err
	}
	letters := e.salvage()
	err = db.Update(func(tx *bolt.Tx) error {
		if err := tx.Bucket(metaBucket).Put(scoutKey, binary.BigEndian.AppendUint64(nil, from)); err != nil {
			return err
		}
		for _, l := range letters {
			if err := l.store(tx, from); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return "", 0, err
	}
	movedTo = path + ".damaged"
	if _, err := os.Stat(movedTo); err == nil {
		movedTo += "-" + strconv.FormatInt(time.Now().UnixNano(), 10)
	}
	// A second name first, then one atomic step: whoever is killed between them finds the
	// damaged file again and begins anew.
	if err := os.Link(path, movedTo); err != nil {
		return "", 0, err
	}
	return movedTo, len(letters), os.Rename(fresh, path)
}

// salvaged is a dead letter that was found in a damaged file.
type salvaged struct {
	rec   *deadRecord
	event []byte
}

// salvage looks for the open dead letters of a damaged file, each proven by its checksum.
// Everything else can be had from the journal again.
func (e *Engine) salvage() []salvaged {
	if e.cfg.Salvage == nil {
		return nil
	}
	var out []salvaged
	err := e.cfg.Salvage(e.cfg.Path, func(key, value []byte) {
		if !bytes.HasPrefix(key, []byte(e.cfg.Agent+"/")) || strings.Count(string(key), "/") != 2 {
			return
		}
		rec := &deadRecord{}
		event, err := unseal(value, rec)
		if err == nil && rec.ID == string(key) && rec.System != "" && (rec.State == DeadLetterOpen || rec.State == DeadLetterReplaying) {
			out = append(out, salvaged{rec, event})
		}
	})
	if err != nil {
		e.cfg.Logger.Error("the damaged delivery file could not be read for its dead letters", "error", err)
	}
	return out
}

// store puts a dead letter into a new file as it stood: its event is not delivered again,
// and later ones of its key wait behind it.
func (s *salvaged) store(tx *bolt.Tx, from uint64) error {
	if tx.Bucket(systemsBucket).Get([]byte(s.rec.System)) == nil {
		if err := putRow(tx, s.rec.System, row{Cursor: from}); err != nil {
			return err
		}
	}
	r := receipt{state: StateDead, at: s.rec.At, attempts: s.rec.Attempts, status: s.rec.Status}
	if err := putReceipt(tx, s.rec.System, s.rec.Job.slot(), r); err != nil {
		return err
	}
	return putDead(tx, s.rec, s.event)
}
