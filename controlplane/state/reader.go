package state

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/crossdock/crossdock/controlplane/model"
	"github.com/crossdock/crossdock/protocol/block"
)

// read runs one short transaction. A closed file reads as empty; a damaged row ends the
// process, as it would in Apply.
func (r *Reader) read(fn func(v view)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	err := catch(func() error {
		return r.db.View(func(b *bolt.Tx) error { fn(view{b}); return nil })
	})
	if err != nil && !errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		r.fatal(fmt.Errorf("%w: read: %w", ErrFatal, err))
	}
}

// one reads a row by its key.
func one[T any](r *Reader, table, k []byte) (row T, ok bool) {
	r.read(func(v view) {
		if found := get[T](v, table, k); found != nil {
			row, ok = *found, true
		}
	})
	return row, ok
}

// all reads the rows whose keys begin with prefix.
func all[T any](r *Reader, table, prefix []byte) (rows []T) {
	r.read(func(v view) {
		v.each(table, prefix, nil, func(k, value []byte) bool {
			rows = append(rows, *parse[T](table, k, value))
			return true
		})
	})
	return rows
}

// newest lists the rows of a numbered table below a number, the newest first; 0 begins with
// the newest.
func newest[T any](r *Reader, table []byte, before uint64, limit int) (rows []T) {
	if before == 0 {
		before = math.MaxUint64
	}
	limit = page(limit)
	r.read(func(v view) {
		v.eachBack(table, nil, key(before), func(k, value []byte) bool {
			rows = append(rows, *parse[T](table, k, value))
			return len(rows) < limit
		})
	})
	return rows
}

// AppliedIndex is the index of the newest entry applied.
func (r *Reader) AppliedIndex() (index uint64) {
	r.read(func(v view) { index = v.applied().Index })
	return index
}

// StateHash is the hash over all entries applied.
func (r *Reader) StateHash() (hash [32]byte) {
	r.read(func(v view) { hash = v.applied().Hash })
	return hash
}

// Size is the length of the file in bytes. It never shrinks; what is free in it is used again.
func (r *Reader) Size() (size int64) {
	r.read(func(v view) { size = v.bolt.Size() })
	return size
}

// MaxSize is the length that the file cannot pass. A write that needs more ends the node.
func (r *Reader) MaxSize() int64 { return int64(r.maxSize) }

// What is kept free in the file, one part in so many, for what empties it again:
// acknowledgements, policy, removals. A changed page is a new page before the old one is
// free. At the end of the file there is room in one piece; what is free further in is in
// pieces, and a block needs one that is long enough, so there it has to be more.
const (
	reservedEnd  = 8
	reservedFree = 2
)

// Full says that the file is so full that no more mail should be taken. It does not count
// as free what a snapshot under way still holds.
func (r *Reader) Full() (full bool) {
	r.read(func(v view) {
		db := v.bolt.DB()
		limit := r.MaxSize() - int64(db.AllocSize) // it never grows by less
		free := int64(db.Stats().FreePageN) * int64(db.Info().PageSize)
		full = v.bolt.Size() > limit-limit/reservedEnd && free < limit/reservedFree
	})
	return full
}

// Cluster gives what was fixed at bootstrap; false before it.
func (r *Reader) Cluster() (model.Cluster, bool) {
	return one[model.Cluster](r, tableMeta, keyCluster)
}

// Principal finds a principal by the hash of its token. It may be disabled.
func (r *Reader) Principal(tokenHash [32]byte) (p model.Principal, ok bool) {
	r.read(func(v view) {
		name := v.raw(tablePrincipalHash, tokenHash[:])
		if name == nil {
			return
		}
		if found := get[model.Principal](v, tablePrincipals, name); found != nil && found.TokenHash == tokenHash {
			p, ok = *found, true
		}
	})
	return p, ok
}

// Principals lists the principals by name.
func (r *Reader) Principals() []model.Principal { return all[model.Principal](r, tablePrincipals, nil) }

// Agents lists the agents by name.
func (r *Reader) Agents() []model.Agent { return all[model.Agent](r, tableAgents, nil) }

// Agent finds an agent.
func (r *Reader) Agent(name string) (model.Agent, bool) {
	return one[model.Agent](r, tableAgents, []byte(name))
}

// JoinTokens lists the join tokens by id.
func (r *Reader) JoinTokens() []model.JoinToken { return all[model.JoinToken](r, tableTokens, nil) }

// JoinToken finds a join token.
func (r *Reader) JoinToken(id string) (model.JoinToken, bool) {
	return one[model.JoinToken](r, tableTokens, []byte(id))
}

// Lanes lists the lanes from an agent in one epoch, by destination.
func (r *Reader) Lanes(source string, epoch uint64) (lanes []model.Lane) {
	prefix := key(source, epoch)
	r.read(func(v view) {
		v.each(tableLanes, prefix, nil, func(k, value []byte) bool {
			lanes = append(lanes, parse[laneRow](tableLanes, k, value).lane(source, epoch, string(k[len(prefix):])))
			return true
		})
	})
	return lanes
}

// readBlock copies a block out. One that is not as it came is not for the process to end
// with, as a damaged row is: its source can send it again.
func readBlock(v view, id uint64) (text []byte, damaged string) {
	stored := v.raw(tableBlocks, key(id))
	if stored == nil {
		return nil, "it is not there"
	}
	if _, err := block.ParseEnvelope(stored); err != nil {
		return nil, err.Error()
	}
	return bytes.Clone(stored), ""
}

// Mail lists an agent's mail beyond a position, up to so many bytes, but at least one.
func (r *Reader) Mail(agent string, after uint64, maxBytes int) (mail []model.Mail) {
	if after == math.MaxUint64 {
		return nil
	}
	r.read(func(v view) {
		size := 0
		v.each(tableMail, key(agent), key(agent, after+1), func(k, value []byte) bool {
			row := parse[mailRow](tableMail, k, value)
			size += int(row.Bytes)
			if len(mail) > 0 && (size > maxBytes || len(mail) >= model.MaxPage) {
				return false
			}
			m := model.Mail{Position: last8(k), Relayed: row.Relayed, Gap: row.Gap}
			if row.Gap == nil {
				m.Block, m.Damaged = readBlock(v, row.Block)
			}
			mail = append(mail, m)
			return true
		})
	})
	return mail
}

func (b *boxRow) mailbox(agent string) model.Mailbox {
	return model.Mailbox{Agent: agent, First: b.Acked + 1, Next: b.Last + 1, Bytes: b.Bytes, Events: b.Events}
}

// Mailbox says what an agent has waiting.
func (r *Reader) Mailbox(agent string) model.Mailbox {
	row, _ := one[boxRow](r, tableBoxes, []byte(agent))
	return row.mailbox(agent)
}

// Mailboxes lists what all agents have waiting.
func (r *Reader) Mailboxes() (boxes []model.Mailbox) {
	r.read(func(v view) {
		v.each(tableBoxes, nil, nil, func(k, value []byte) bool {
			boxes = append(boxes, parse[boxRow](tableBoxes, k, value).mailbox(string(k)))
			return true
		})
	})
	return boxes
}

// Relay says what the relay holds in all.
func (r *Reader) Relay() (relay model.Relay) {
	r.read(func(v view) {
		n := v.counters()
		relay = model.Relay{Bytes: n.RelayBytes, Blocks: n.Blocks}
		if c := v.cluster(); c != nil {
			relay.Limit = c.Limits.RelayBytes
		}
	})
	return relay
}

// ActiveRevision gives the revision in force and its bundle.
func (r *Reader) ActiveRevision() (revision model.Revision, bundle []byte, ok bool) {
	r.read(func(v view) {
		number := v.counters().Active
		row, text := get[model.Revision](v, tableRevisions, key(number)), get[bytesRow](v, tableBundles, key(number))
		if row != nil && text != nil {
			revision, bundle, ok = *row, text.Bytes, true
		}
	})
	return revision, bundle, ok
}

// Active gives the revision in force without its bundle.
func (r *Reader) Active() (revision model.Revision, ok bool) {
	r.read(func(v view) {
		if row := v.active(); row != nil {
			revision, ok = *row, true
		}
	})
	return revision, ok
}

// Revisions lists the revisions below a number, the newest first; 0 begins with the newest.
func (r *Reader) Revisions(before uint64, limit int) []model.Revision {
	return newest[model.Revision](r, tableRevisions, before, limit)
}

// Revision finds a revision by number.
func (r *Reader) Revision(number uint64) (model.Revision, bool) {
	return one[model.Revision](r, tableRevisions, key(number))
}

// RevisionBundle gives the documents of a revision; those of old ones are not kept.
func (r *Reader) RevisionBundle(number uint64) ([]byte, bool) {
	row, ok := one[bytesRow](r, tableBundles, key(number))
	return row.Bytes, ok
}

// Commands lists what waits for an agent, the oldest first.
func (r *Reader) Commands(agent string) []model.AgentCommand {
	return all[model.AgentCommand](r, tableCommands, key(agent))
}

func page(limit int) int {
	if limit <= 0 {
		return model.DefaultPage
	}
	return min(limit, model.MaxPage)
}

// maxScanned bounds the rows that one page looks at; a page may then be short, and its
// cursor still goes on.
const maxScanned = 20_000

// DeadLetters lists dead letters without their events, the newest first, and the cursor of
// the next page.
func (r *Reader) DeadLetters(f model.DeadLetterFilter) (letters []model.DeadLetter, next uint64) {
	table, prefix := tableLetterOrder, []byte(nil)
	switch {
	case f.Key != "":
		table, prefix = tableLetterIndex, letterIndex("key", f.Key)
	case f.System != "":
		table, prefix = tableLetterIndex, letterIndex("system", f.System)
	case f.State != "":
		table, prefix = tableLetterIndex, letterIndex("state", string(f.State))
	}
	below := f.Before
	if below == 0 {
		below = math.MaxUint64
	}
	limit, scanned := page(f.Limit), 0
	r.read(func(v view) {
		v.eachBack(table, prefix, key(prefix, below), func(k, id []byte) bool {
			if len(letters) == limit || scanned == maxScanned {
				return false
			}
			scanned++
			next = last8(k)
			if row := get[letterRow](v, tableLetters, id); row != nil && matches(&row.Letter, f) {
				letters = append(letters, row.Letter)
			}
			return true
		})
	})
	if len(letters) < limit && scanned < maxScanned {
		next = 0
	}
	return letters, next
}

func matches(l *model.DeadLetter, f model.DeadLetterFilter) bool {
	return (f.Agent == "" || l.Agent == f.Agent) && (f.System == "" || l.System == f.System) &&
		(f.State == "" || l.State == f.State) && (f.Key == "" || l.Key == f.Key)
}

// DeadLetter finds a dead letter, with its event.
func (r *Reader) DeadLetter(id string) (letter model.DeadLetter, ok bool) {
	r.read(func(v view) {
		row := get[letterRow](v, tableLetters, []byte(id))
		if row == nil {
			return
		}
		letter, ok = row.Letter, true
		if content := get[bytesRow](v, tableLetterEvents, []byte(id)); content != nil {
			letter.Event = content.Bytes
		}
	})
	return letter, ok
}

// Exceptions lists exceptions, those that nobody has resolved first, the newest first.
func (r *Reader) Exceptions(limit int) (list []model.Exception) {
	limit = page(limit)
	r.read(func(v view) {
		for _, state := range []string{openException, resolvedException} {
			v.eachBack(tableExceptionOrder, key(state), key(state, uint64(math.MaxUint64)), func(_, id []byte) bool {
				if len(list) == limit {
					return false
				}
				if row := get[exceptionRow](v, tableExceptions, id); row != nil {
					list = append(list, row.Exception)
				}
				return true
			})
		}
	})
	return list
}

// Audit lists the record beyond a number, the oldest first.
func (r *Reader) Audit(after uint64, limit int) (entries []model.AuditEntry) {
	limit = page(limit)
	if after == math.MaxUint64 {
		return nil
	}
	r.read(func(v view) {
		v.each(tableAudit, nil, key(after+1), func(k, value []byte) bool {
			entries = append(entries, *parse[model.AuditEntry](tableAudit, k, value))
			return len(entries) < limit
		})
	})
	return entries
}

// AuditBefore lists entries of the record with numbers below one, the newest first; 0: from
// the newest on.
func (r *Reader) AuditBefore(before uint64, limit int) []model.AuditEntry {
	return newest[model.AuditEntry](r, tableAudit, before, limit)
}
