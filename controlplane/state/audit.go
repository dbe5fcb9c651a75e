package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/crossdock/crossdock/controlplane/model"
)

// ErrAudit marks an audit record that is not as it was written.
var ErrAudit = errors.New("the audit record has been changed")

// audit writes one line into the record, in the transaction of the change itself.
func (t *tx) audit(at time.Time, by, action, object string, detail any) {
	text, err := json.Marshal(detail)
	if err != nil {
		panic(fault{fmt.Errorf("audit %s of %s: %w", action, object, err)})
	}
	e := model.AuditEntry{
		Number: t.n.Audit + 1, At: at.UTC(), By: by, Action: action, Object: object,
		Detail: text, Previous: t.n.AuditHash,
	}
	e.Hash = auditHash(&e)
	t.n.Audit, t.n.AuditHash = e.Number, e.Hash
	put(t, tableAudit, key(e.Number), &e)
}

// auditHash covers every field and the hash before. Each text stands behind its length, so
// that no two entries have the same bytes.
func auditHash(e *model.AuditEntry) [32]byte {
	h := sha256.New()
	h.Write(e.Previous[:])
	hashNumber(h, e.Number)
	hashNumber(h, uint64(e.At.Unix()))
	hashNumber(h, uint64(e.At.Nanosecond()))
	for _, text := range []string{e.By, e.Action, e.Object, string(e.Detail)} {
		hashNumber(h, uint64(len(text)))
		h.Write([]byte(text))
	}
	return [32]byte(h.Sum(nil))
}

func hashNumber(h hash.Hash, n uint64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n)
	h.Write(b[:])
}

// VerifyAudit recomputes the chain from the first entry to the last that was written. It
// reads in pages, so that it never holds a transaction for long.
func (r *Reader) VerifyAudit() error {
	var want countersRow
	r.read(func(v view) { want = v.counters() })
	var last model.AuditEntry
	for last.Number < want.Audit {
		entries := r.Audit(last.Number, model.MaxPage)
		if len(entries) == 0 {
			return fmt.Errorf("%w: it ends with entry %d, written were %d", ErrAudit, last.Number, want.Audit)
		}
		for _, e := range entries {
			if e.Number > want.Audit {
				return verifyHead(last, want)
			}
			if e.Number != last.Number+1 || e.Previous != last.Hash || e.Hash != auditHash(&e) {
				return fmt.Errorf("%w: entry %d does not follow entry %d", ErrAudit, e.Number, last.Number)
			}
			last = e
		}
	}
	return verifyHead(last, want)
}

func verifyHead(last model.AuditEntry, want countersRow) error {
	if last.Number != want.Audit || last.Hash != want.AuditHash {
		return fmt.Errorf("%w: its newest entry %d is not the one written", ErrAudit, last.Number)
	}
	return nil
}
