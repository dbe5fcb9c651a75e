package documents

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/crossdock/crossdock/protocol/atomicfile"
	"github.com/crossdock/crossdock/protocol/event"
)

// The types of the internal events.
const (
	chunkType = "crossdock.document-chunk.v1" // a piece of a document
	askType   = "crossdock.document-ask.v1"   // the one that sent the document is to send it again
)

// Attributes of a chunk.
const (
	attributeSum    = "docsha256"
	attributeSize   = "docsize"
	attributeOffset = "docoffset"
	attributeType   = "doctype"
)

// chunk is a piece of a document.
type chunk struct {
	sum    string
	kind   string
	size   int64
	offset int64
	data   []byte
}

func (c *chunk) event(agent string, now time.Time) *event.Event {
	return &event.Event{
		ID: uuid.NewString(), Source: "/agents/" + agent, Type: chunkType, Time: now, DataContentType: "application/octet-stream", Binary: true, Data: c.data,
		Extensions: map[string]string{attributeSum: c.sum, attributeSize: strconv.FormatInt(c.size, 10),
			attributeOffset: strconv.FormatInt(c.offset, 10), attributeType: c.kind},
	}
}

// chunkOf undoes event.
func chunkOf(e *event.Event) (c chunk, err error) {
	c = chunk{sum: e.Extensions[attributeSum], kind: e.Extensions[attributeType], data: e.Data}
	size, err1 := strconv.ParseInt(e.Extensions[attributeSize], 10, 64)
	offset, err2 := strconv.ParseInt(e.Extensions[attributeOffset], 10, 64)
	c.size, c.offset = size, offset
	kind, err3 := mediaTypeOf(c.kind)
	switch {
	case errors.Join(err1, err2, err3) != nil, !valid(c.sum), kind != c.kind:
		return c, fmt.Errorf("%w: attributes of a piece of a document", ErrInvalid)
	case size < 0 || size > MaxDocument || offset < 0 || offset > size || offset%ChunkSize != 0:
		return c, fmt.Errorf("%w: a piece at %d of a document of %d bytes", ErrInvalid, offset, size)
	case int64(len(c.data)) != min(ChunkSize, size-offset):
		return c, fmt.Errorf("%w: a piece of %d bytes at %d of a document of %d", ErrInvalid, len(c.data), offset, size)
	}
	return c, nil
}

// asked is what askType carries.
type asked struct {
	SHA256 string `json:"sha256"`
}

// Send has documents go to agents ahead of an event that names them: it returns when all
// that is still to go is durable in the lanes. What has gone to an agent lately does not go
// again: there it is kept as long as here, and if it is not there all the same, it is asked for.
func (s *Store) Send(ctx context.Context, value string, to []string) error {
	names, err := Names(value)
	if err != nil {
		return err
	}
	for _, sum := range names {
		if !s.Has(sum) {
			return fmt.Errorf("%w: %s", ErrUnknown, sum)
		}
		if lacking := s.unsent(sum, to); len(lacking) > 0 {
			if err := s.send(ctx, sum, lacking); err != nil {
				return err
			}
		}
	}
	return nil
}

// unsent lists the agents to which a document has not gone lately.
func (s *Store) unsent(sum string, to []string) (out []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, agent := range to {
		at, ok := s.sent[sending{sum, agent}]
		if !ok || s.cfg.Now().Sub(at) > s.retain()/2 {
			out = append(out, agent)
		}
	}
	return out
}

// send puts all pieces of a document into the lanes.
func (s *Store) send(ctx context.Context, sum string, to []string) error {
	d, err := s.Get(sum)
	if err != nil {
		return err
	}
	defer d.Close() // opened for reading
	var events []Outgoing
	for offset := int64(0); ; {
		c := chunk{sum: sum, kind: d.Type, size: d.Size(), offset: offset, data: make([]byte, min(ChunkSize, d.Size()-offset))}
		if _, err := d.ReadAt(c.data, offset); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("document %s: %w", sum, err)
		}
		events = append(events, Outgoing{Event: c.event(s.cfg.Agent, s.cfg.Now()), To: to})
		offset += int64(len(c.data))
		last := offset >= d.Size()
		if last || len(events) == submitChunks {
			if err := s.cfg.Lanes.Send(ctx, events); err != nil {
				return fmt.Errorf("document %s: %w", sum, err)
			}
			s.cfg.Metrics.chunksSent.Add(float64(len(events)))
			s.cfg.Hook("document-sent")
			events = nil
		}
		if last {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, agent := range to {
		if len(s.sent) >= maxSent {
			clear(s.sent) // some go once more than they need to
		}
		s.sent[sending{sum, agent}] = s.cfg.Now()
	}
	return nil
}

// partKey is a document that is being put together. What one agent sends cannot spoil what
// another does.
type partKey struct{ sum, from string }

// part is what of it is here: a file for each piece.
type part struct {
	kind  string
	size  int64
	have  map[int64]int64 // offset -> bytes
	bytes int64
	last  time.Time
}

func (p *part) whole() bool { return p.bytes == p.size && len(p.have) > 0 }

// dir is the directory of a part. The sender's name may hold anything, so it is hashed.
func (s *Store) dir(k partKey) string {
	from := sha256.Sum256([]byte(k.from))
	return filepath.Join(s.cfg.Dir, partDir, k.sum+"."+hex.EncodeToString(from[:8]))
}

// partFile describes a part in its directory.
const partFile = "part.json"

type partNote struct {
	From string `json:"from"`
	Type string `json:"type"`
	Size int64  `json:"size"`
}

// loadParts finds what had come when the process ended.
func (s *Store) loadParts() error {
	root := filepath.Join(s.cfg.Dir, partDir)
	dirs, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		sum, _, _ := strings.Cut(d.Name(), ".")
		var note partNote
		text, err := os.ReadFile(filepath.Join(root, d.Name(), partFile))
		if err != nil || json.Unmarshal(text, &note) != nil || !valid(sum) || s.held[sum] != nil { // the whole is here, or nothing to go by
			if err := os.RemoveAll(filepath.Join(root, d.Name())); err != nil {
				return err
			}
			continue
		}
		files, err := os.ReadDir(filepath.Join(root, d.Name()))
		if err != nil {
			return err
		}
		p := &part{kind: note.Type, size: note.Size, have: map[int64]int64{}}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return err
			}
			if offset, err := strconv.ParseInt(f.Name(), 10, 64); err == nil {
				p.have[offset] = info.Size()
				p.bytes += info.Size()
			}
			if info.ModTime().After(p.last) {
				p.last = info.ModTime()
			}
		}
		s.parts[partKey{sum, note.From}] = p
		s.bytes += p.bytes
	}
	return nil
}

// take keeps a piece, and puts the document together with the last.
func (s *Store) take(ctx context.Context, from string, c *chunk) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	k := partKey{c.sum, from}
	s.mu.Lock()
	h, p := s.held[c.sum], s.parts[k]
	if h != nil && p == nil { // it is here; nothing of it is needed
		s.touch(c.sum, h)
		s.mu.Unlock()
		return nil
	}
	err := s.roomLocked(int64(len(c.data)), 1)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if p != nil && (p.size != c.size || p.kind != c.kind) {
		if err := s.drop(k); err != nil {
			return err
		}
		p = nil
	}
	if p == nil {
		if p, err = s.begin(k, c); err != nil {
			return err
		}
	}
	if err := atomicfile.Write(filepath.Join(s.dir(k), strconv.FormatInt(c.offset, 10)), c.data, 0o600); err != nil {
		return writing(err)
	}
	s.cfg.Hook("chunk-stored")
	s.mu.Lock()
	grown := int64(len(c.data)) - p.have[c.offset]
	p.have[c.offset] = int64(len(c.data))
	p.bytes += grown
	p.last = s.cfg.Now()
	s.bytes += grown
	s.measureLocked()
	whole := p.whole()
	s.mu.Unlock()
	if !whole {
		return nil
	}
	return s.assemble(ctx, k, p)
}

func (s *Store) begin(k partKey, c *chunk) (*part, error) {
	text, err := json.Marshal(partNote{From: k.from, Type: c.kind, Size: c.size})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir(k), 0o700); err != nil {
		return nil, writing(err)
	}
	if err := atomicfile.SyncDir(filepath.Dir(s.dir(k))); err != nil {
		return nil, writing(err)
	}
	if err := atomicfile.Write(filepath.Join(s.dir(k), partFile), text, 0o600); err != nil {
		return nil, writing(err)
	}
	p := &part{kind: c.kind, size: c.size, have: map[int64]int64{}, last: s.cfg.Now()}
	s.mu.Lock()
	s.parts[k] = p
	s.mu.Unlock()
	return p, nil
}

// assemble makes a document of its pieces. If it is not what it was said to be, it is asked
// for again.
func (s *Store) assemble(ctx context.Context, k partKey, p *part) error {
	var pieces []io.Reader
	for offset := int64(0); offset < p.size || offset == 0; offset += ChunkSize {
		text, err := os.ReadFile(filepath.Join(s.dir(k), strconv.FormatInt(offset, 10)))
		if err != nil { // the disk does not give it back, and all that comes would wait for it
			return s.spoilt(k, err)
		}
		pieces = append(pieces, bytes.NewReader(text))
	}
	// The pieces count until the whole is there; it may then be above the quota for a moment.
	_, err := s.write(ctx, k.sum, header{Type: p.kind, From: k.from}, io.MultiReader(pieces...), 2)
	if errors.Is(err, ErrDamaged) {
		return s.spoilt(k, err)
	}
	if err != nil {
		return err
	}
	s.cfg.Metrics.received.Inc()
	s.cfg.Hook("document-received")
	return s.drop(k)
}

// spoilt gives up a part, and tells people.
func (s *Store) spoilt(k partKey, err error) error {
	s.cfg.Metrics.damaged.Inc()
	s.cfg.Alarm("document-damaged", k.sum, fmt.Sprintf("document %s cannot be put together at agent %s of what agent %s sent: %v; it is asked for again if an event names it",
		k.sum, s.cfg.Agent, k.from, err))
	return s.drop(k)
}

// drop forgets a part. Its note goes first: what a crash leaves is no part any more.
func (s *Store) drop(k partKey) error {
	if err := os.Remove(filepath.Join(s.dir(k), partFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("documents: %w", err)
	}
	if err := os.RemoveAll(s.dir(k)); err != nil {
		return fmt.Errorf("documents: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.parts[k]; p != nil {
		s.bytes -= p.bytes
		delete(s.parts, k)
	}
	s.measureLocked()
	return nil
}
