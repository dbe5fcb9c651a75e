package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/crossdock/crossdock/controlplane/model"
)

// The tables. Keys of several parts are joined so that a prefix lists what belongs
// together: names end with a zero byte, numbers are 8 bytes, big end first.
var (
	tableMeta           = []byte("meta")
	tablePrincipals     = []byte("principals")      // name -> principalRow
	tablePrincipalHash  = []byte("principal-hash")  // token hash -> name
	tableTokens         = []byte("tokens")          // id -> model.JoinToken
	tableAgents         = []byte("agents")          // name -> model.Agent
	tableRevisions      = []byte("revisions")       // number -> model.Revision
	tableBundles        = []byte("bundles")         // number -> bytesRow
	tableLanes          = []byte("lanes")           // source, epoch, destination -> laneRow
	tableBlocks         = []byte("blocks")          // id -> the block as it came
	tableBlockRefs      = []byte("block-refs")      // id -> refsRow
	tableMail           = []byte("mail")            // agent, position -> mailRow
	tableSpare          = []byte("spare")           // destination, source, epoch, first -> mailRow that stands in if its source cannot send it again
	tableBoxes          = []byte("boxes")           // agent -> boxRow
	tableCommands       = []byte("commands")        // agent, number -> model.AgentCommand
	tableLetters        = []byte("letters")         // id -> letterRow
	tableLetterOrder    = []byte("letter-order")    // number -> id
	tableLetterIndex    = []byte("letter-index")    // kind, value, number -> id
	tableLetterEvents   = []byte("letter-events")   // id -> bytesRow
	tableExceptions     = []byte("exceptions")      // id -> exceptionRow
	tableExceptionOrder = []byte("exception-order") // resolved or not, number -> id
	tableAnswers        = []byte("answers")         // principal, request id -> answerRow
	tableAnswerTimes    = []byte("answer-times")    // time, number -> key in answers
	tableAudit          = []byte("audit")           // number -> model.AuditEntry
	tableInbound        = []byte("inbound")         // destination, source, epoch -> nothing: the lanes by where they go
	tableNodes          = []byte("nodes")           // id -> model.Node
	tableBeacons        = []byte("beacons")         // entry -> beaconRow; not in the hash
	tableAuthorities    = []byte("authorities")     // id -> model.Authority
	tableMoves          = []byte("moves")           // system -> model.MoveStatus
	tableRanges         = []byte("ranges")          // name -> rangeRow, for ever
	tableLeases         = []byte("leases")          // range, agent -> leaseRow
	tableReleases       = []byte("releases")        // version -> model.Release
	tableReleaseTexts   = []byte("release-texts")   // version -> releaseText
	tableReleaseFiles   = []byte("release-files")   // sha256 -> releaseFileRow
	tableReleasePieces  = []byte("release-pieces")  // sha256, number -> bytesRow
	tableSecrets        = []byte("secrets")         // agent, name -> model.Secret
)

var tables = [][]byte{
	tableMeta, tablePrincipals, tablePrincipalHash, tableTokens, tableAgents, tableRevisions, tableBundles,
	tableLanes, tableBlocks, tableBlockRefs, tableMail, tableBoxes, tableCommands, tableLetters, tableLetterOrder,
	tableLetterIndex, tableLetterEvents, tableExceptions, tableExceptionOrder, tableAnswers, tableAnswerTimes, tableAudit,
	tableInbound, tableNodes, tableBeacons, tableAuthorities, tableMoves, tableSpare,
	tableRanges, tableLeases, tableReleases, tableReleaseTexts, tableReleaseFiles, tableReleasePieces, tableSecrets,
}

// unsealed are the tables of bare values, without a checksum. They only show the way to rows.
var unsealed = map[string]bool{
	string(tablePrincipalHash): true, string(tableLetterOrder): true, string(tableLetterIndex): true,
	string(tableExceptionOrder): true, string(tableAnswerTimes): true, string(tableInbound): true,
}

var (
	keyApplied  = []byte("applied")
	keyCluster  = []byte("cluster")
	keyCounters = []byte("counters")
	keyVerdict  = []byte("verdict") // verdictRow; not in the hash
)

// appliedRow is where the machine stands in the log, and the hash over all that it has applied.
type appliedRow struct {
	Index uint64
	Term  uint64
	Hash  [32]byte
}

// countersRow holds the numbers given out and the sums that would cost a walk to find.
type countersRow struct {
	Block      uint64 // last id given
	Revision   uint64
	Active     uint64 // number of the active revision
	Canary     uint64 // number of the revision that canary sites have; 0: none
	Command    uint64
	Letter     uint64
	Exception  uint64
	Answer     uint64
	Letters    uint64 // rows held
	Exceptions uint64
	Dropped    uint64 // exceptions lost for want of room
	Blocks     uint64
	RelayBytes int64

	LetterBytes int64 // of the events that dead letters keep
	SecretBytes int64 `cbor:",omitempty"` // of sealed secrets

	Audit     uint64
	AuditHash [32]byte
}

type (
	bytesRow struct{ Bytes []byte }
	laneRow  struct {
		Highwater uint64
		Acked     uint64
		Settled   uint64
		Peak      uint64 // the highest that Highwater ever was: below it the source sends again
		Dropped   uint64 // events taken and not kept, because the destination is forgotten
		Unsure    uint64 // events that it had acknowledged, and not settled when it was forgotten
	}
	refsRow struct {
		Refs  uint64
		Bytes int64
	}
	mailRow struct {
		Block   uint64 // 0: a gap
		Gap     *model.Gap
		Relayed time.Time
		Bytes   int64 // that it counts for
		Events  uint64

		Source string // of its lane, with the epoch
		Epoch  uint64
		First  uint64 // numbers on the lane
		Last   uint64
	}
	boxRow struct {
		Acked  uint64
		Last   uint64
		Bytes  int64
		Events uint64
	}
	letterRow struct {
		Number uint64
		Letter model.DeadLetter // but for its event
		Asked  uint64           // number of the agent's command that is under way

		EventBytes int64 // of the event that is kept
	}
	exceptionRow struct {
		Number    uint64
		Exception model.Exception
	}
	answerRow struct {
		Hash      [32]byte
		At        time.Time
		Revision  *model.Revision
		Authority *model.Authority
		Error     *model.Error
	}
)

func key(parts ...any) []byte {
	var k []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			k = append(append(k, p...), 0)
		case []byte:
			k = append(k, p...)
		case uint64:
			k = binary.BigEndian.AppendUint64(k, p)
		default:
			panic(fmt.Sprintf("key part %T", p))
		}
	}
	return k
}

// last8 reads the number that a key ends with.
func last8(k []byte) uint64 {
	if len(k) < 8 {
		panic(fault{fmt.Errorf("a key of %d bytes", len(k))})
	}
	return binary.BigEndian.Uint64(k[len(k)-8:])
}

// fault is panicked by the table functions and caught at the package's doors, since there
// is nothing that a rule could do about a damaged row or a failed write.
type fault struct{ err error }

// view is one bbolt transaction, for reading.
type view struct{ bolt *bolt.Tx }

func (v view) raw(table, k []byte) []byte { return v.bolt.Bucket(table).Get(k) }

// get reads a row; nil if there is none.
func get[T any](v view, table, k []byte) *T {
	value := v.raw(table, k)
	if value == nil {
		return nil
	}
	return parse[T](table, k, value)
}

func parse[T any](table, k, value []byte) *T {
	row := new(T)
	if err := parseRow(k, value, row); err != nil {
		panic(fault{fmt.Errorf("table %s, row %q is damaged: %w; restore this node from another or from a backup", table, k, err)})
	}
	return row
}

// each walks the keys that begin with prefix, from there on, until fn says stop. What fn
// gets is valid for the transaction only; it must not change the table.
func (v view) each(table, prefix, from []byte, fn func(k, value []byte) bool) {
	c := v.bolt.Bucket(table).Cursor()
	if from == nil {
		from = prefix
	}
	for k, value := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, value = c.Next() {
		if !fn(k, value) {
			return
		}
	}
}

// eachBack walks the keys that begin with prefix and are below the given one, backwards.
func (v view) eachBack(table, prefix, below []byte, fn func(k, value []byte) bool) {
	c := v.bolt.Bucket(table).Cursor()
	back := c.Prev
	if k, _ := c.Seek(below); k == nil {
		back = c.Last
	}
	k, value := back()
	for ; k != nil && bytes.HasPrefix(k, prefix); k, value = c.Prev() {
		if !fn(k, value) {
			return
		}
	}
}

func (v view) cluster() *model.Cluster { return get[model.Cluster](v, tableMeta, keyCluster) }

func (v view) counters() countersRow {
	if row := get[countersRow](v, tableMeta, keyCounters); row != nil {
		return *row
	}
	return countersRow{}
}

func (v view) applied() appliedRow {
	if row := get[appliedRow](v, tableMeta, keyApplied); row != nil {
		return *row
	}
	return appliedRow{}
}

// tx is the one writing transaction of a batch.
type tx struct {
	view
	n      countersRow // written back at the end of the batch
	topics map[string]struct{}
	sites  map[string]bool // of the revisions in force; nil until asked for
	hash   hash.Hash       // over the writes of the entry under way; nil: nobody counts
	halted *string         // why only few commands pass; nil until asked for

	entryAt uint64 // index of the entry under way
	beacons bool   // it holds a beacon: this node's own hash is to be noted
}

func (t *tx) putRaw(table, k, value []byte) {
	t.note(wrotePut, table, k, value)
	if err := t.bolt.Bucket(table).Put(k, value); err != nil {
		panic(fault{fmt.Errorf("write to table %s: %w", table, err)})
	}
}

func put[T any](t *tx, table, k []byte, row *T) {
	value, err := appendRow(k, row)
	if err != nil {
		panic(fault{fmt.Errorf("encode a row of table %s: %w", table, err)})
	}
	t.putRaw(table, k, value)
}

func (t *tx) remove(table, k []byte) {
	t.note(wroteRemove, table, k, nil)
	if err := t.bolt.Bucket(table).Delete(k); err != nil {
		panic(fault{fmt.Errorf("delete from table %s: %w", table, err)})
	}
}

func (t *tx) changed(topic string) { t.topics[topic] = struct{}{} }
