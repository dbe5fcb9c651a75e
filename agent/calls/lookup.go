package calls

import (
	"encoding/base64"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// maxLooked bounds the finished calls that are looked at for one page of a list.
const maxLooked = 5 * MaxList

// known are the calls that a request may be about.
type known struct {
	byKey, byRef *record  // nil: there is none
	damaged      []string // those that had the key or the reference and cannot be read any more
}

// find gives the call that has a key, and the one that has a reference. One that cannot be read
// is none: what it bought is looked for.
func (s *store) find(system, key, plugin, reference string) (out known, err error) {
	err = s.view(func(tx *bolt.Tx) (err error) {
		if out.byKey, err = out.named(tx, bucketKeys, keyName(system, key)); err != nil || reference == "" {
			return err
		}
		out.byRef, err = out.named(tx, bucketRefs, refName(plugin, reference))
		return err
	})
	return out, err
}

func (k *known) named(tx *bolt.Tx, bucket, name []byte) (*record, error) {
	id := tx.Bucket(bucket).Get(name)
	if id == nil {
		return nil, nil
	}
	r, err := get(tx, string(id))
	if errors.Is(err, errDamaged) {
		k.damaged = append(k.damaged, string(id))
		return nil, nil
	}
	return r, err
}

// read gives a call, nil if there is none.
func (s *store) read(id string) (r *record, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		if tx.Bucket(bucketCalls).Get([]byte(id)) == nil {
			return nil
		}
		r, err = get(tx, id)
		return err
	})
	return r, err
}

// finished lists finished calls that are wanted, the newest first, from behind a cursor on. It
// gives a cursor where there may be more. What cannot be read is left out.
func (s *store) finished(cursor string, most int, wanted func(*record) bool) (out []record, next string, err error) {
	at, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return nil, "", refuse(Invalid, "%q is no cursor of a list of calls", cursor)
	}
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketEnded).Cursor()
		k, _ := c.Last()
		if len(at) > 0 {
			if k, _ = c.Seek(at); k != nil {
				k, _ = c.Prev()
			} else {
				k, _ = c.Last()
			}
		}
		for looked := 0; k != nil; k, _ = c.Prev() {
			if looked == maxLooked || len(out) == most {
				next = base64.RawURLEncoding.EncodeToString(at)
				return nil
			}
			looked++
			at = append(at[:0], k...)
			r, err := get(tx, string(k[8:]))
			if errors.Is(err, errDamaged) {
				continue
			} else if err != nil {
				return err
			}
			if wanted(r) {
				out = append(out, r.light())
			}
		}
		return nil
	})
	return out, next, err
}

// tellDamaged tells people of finished calls that cannot be read any more, once for each.
func (s *Service) tellDamaged(ids []string) {
	for _, id := range ids {
		s.mu.Lock()
		before := s.told[alarmDamaged+id]
		s.told[alarmDamaged+id] = true
		s.mu.Unlock()
		if before {
			continue
		}
		text := fmt.Sprintf("call %s to a carrier or tax engine cannot be read any more: whoever asks again for what it bought has it looked for at the carrier", id)
		s.log.Error(text)
		s.cfg.Alarm(alarmDamaged, id, text)
	}
}
