package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

// What the hash of state covers. It is a chain: for each entry its index, term, type and
// data, and the digest of what the entry has written: table, key and CRC-32C of the value
// of every row put or removed, and the counters. So it tells apart nodes that were given
// other entries, and nodes that made something else of the same entries.
//
// It does not read rows. A row that differs on one node alone, because of a bit that
// turned or a hand that changed it, shows with the first entry that writes the row anew,
// or that writes something else because of what it read there; until then the hashes are
// equal. What is written once per batch, and what each node keeps of its own, is left out:
// batches differ from node to node.
const (
	wrotePut byte = 1 + iota
	wroteRemove
)

// note counts one write of the entry under way.
func (t *tx) note(what byte, table, k, value []byte) {
	if t.hash == nil || ownRow(table, k) {
		return
	}
	head := make([]byte, 0, 64)
	head = append(head, what)
	head = append(binary.AppendUvarint(head, uint64(len(table))), table...)
	head = append(binary.AppendUvarint(head, uint64(len(k))), k...)
	t.hash.Write(binary.BigEndian.AppendUint32(head, crc32.Checksum(value, castagnoli)))
}

// ownRow tells rows that are not in the hash.
func ownRow(table, k []byte) bool {
	switch {
	case bytes.Equal(table, tableBeacons):
		return true
	case bytes.Equal(table, tableMeta):
		return !bytes.Equal(k, keyCluster)
	}
	return false
}

// noteCounters counts the counters after each entry, though they are written once per batch.
func (t *tx) noteCounters(before countersRow) {
	if t.n == before {
		return
	}
	value, err := appendRow(keyCounters, &t.n)
	if err != nil {
		panic(fault{err})
	}
	t.hash.Write(value)
}

// chain hashes all that has been applied and what came of it, so that nodes can tell that
// they are of one mind.
func chain(previous [32]byte, e Entry, writes []byte) [32]byte {
	h := sha256.New()
	h.Write(previous[:])
	var head [25]byte
	binary.BigEndian.PutUint64(head[:], e.Index)
	binary.BigEndian.PutUint64(head[8:], e.Term)
	head[16] = e.Type
	binary.BigEndian.PutUint64(head[17:], uint64(len(e.Data)))
	h.Write(head[:])
	h.Write(e.Data)
	h.Write(writes)
	return [32]byte(h.Sum(nil))
}
