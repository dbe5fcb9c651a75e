package documents

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/crossdock/crossdock/agent/fulldisk"
	"github.com/crossdock/crossdock/protocol/atomicfile"
)

// A document's file begins with a header of a fixed size, so that its size tells the
// document's; the rest is the document as it was put.
const (
	headerSize = 512
	headerMark = "crossdock document 1 "
	touchEvery = time.Hour // that a file notes its document to be named
)

// Below the store's directory.
const (
	wholeDir   = "whole"
	partDir    = "parts"
	freshDir   = "fresh"   // being written
	damagedDir = "damaged" // set aside for people
)

// header is what a file says of its document.
type header struct {
	Type   string    `json:"type"`
	Size   int64     `json:"size"`
	From   string    `json:"from,omitempty"` // agent that sent it; empty: it was put here
	Stored time.Time `json:"stored"`
}

func (h *header) encode() ([]byte, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) > headerSize-len(headerMark)-len("12345678 ")-1 {
		return nil, fmt.Errorf("%w: the media type and the name of the sender are too long", ErrInvalid)
	}
	line := headerMark + sumOf(string(text)) + " " + string(text)
	return []byte(line + strings.Repeat(" ", headerSize-1-len(line)) + "\n"), nil
}

// sumOf is the checksum of a header, which the document's sha256 does not cover.
func sumOf(text string) string {
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
}

func readHeader(r io.Reader) (h header, err error) {
	text := make([]byte, headerSize)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, fmt.Errorf("%w: the header is cut short", ErrDamaged)
	}
	line, ok := strings.CutPrefix(strings.TrimRight(string(text), " \n"), headerMark)
	sum, line, _ := strings.Cut(line, " ")
	if !ok || sum != sumOf(line) || json.Unmarshal([]byte(line), &h) != nil {
		return h, fmt.Errorf("%w: the header is not one", ErrDamaged)
	}
	return h, nil
}

// Open opens the store and starts nothing. What a crash left half written is removed.
func Open(cfg Config) (*Store, error) {
	if err := cfg.withDefaults(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, wake: make(chan struct{}, 1), held: map[string]*held{}, parts: map[partKey]*part{},
		sent: map[sending]time.Time{}, wanted: map[string]*want{}, cursor: max(cfg.Cursor, 1)}
	s.Limit(cfg.Quota, cfg.Retain)
	if err := os.RemoveAll(filepath.Join(cfg.Dir, freshDir)); err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	for _, dir := range []string{wholeDir, partDir, freshDir, damagedDir} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, fmt.Errorf("documents: %w", err)
		}
	}
	for _, dir := range []string{cfg.Dir, filepath.Dir(cfg.Dir)} {
		if err := atomicfile.SyncDir(dir); err != nil {
			return nil, fmt.Errorf("documents: %w", err)
		}
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	s.measure()
	return s, nil
}

func (s *Store) load() error {
	err := filepath.WalkDir(filepath.Join(s.cfg.Dir, wholeDir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil || !valid(d.Name()) {
			return err
		}
		s.held[d.Name()] = &held{size: info.Size(), named: info.ModTime(), noted: info.ModTime()}
		s.bytes += info.Size()
		return nil
	})
	if err != nil {
		return err
	}
	return s.loadParts()
}

func (s *Store) path(sum string) string {
	return filepath.Join(s.cfg.Dir, wholeDir, sum[:2], sum)
}

// touch notes that a document is named; s.mu is held. A file notes it now and then.
func (s *Store) touch(sum string, h *held) {
	now := s.cfg.Now()
	h.named, h.doomed = now, 0
	if now.Sub(h.noted) < touchEvery && now.After(h.noted) {
		return
	}
	h.noted = now
	if err := os.Chtimes(s.path(sum), now, now); err != nil {
		s.cfg.Logger.Warn("a document's file does not take its time", "sha256", sum, "err", err)
	}
}

// Put keeps a document. It returns when the file and its name are on disk. One that is here
// already stays as it is, with its type, unless it is damaged.
func (s *Store) Put(ctx context.Context, mediaType string, r io.Reader) (Reference, error) {
	kind, err := mediaTypeOf(mediaType)
	if err != nil {
		return Reference{}, err
	}
	if err := s.room(0, PutLevel); err != nil {
		return Reference{}, s.refuse(err)
	}
	ref, err := s.write(ctx, "", header{Type: kind}, r, PutLevel)
	switch {
	case err == nil:
		s.cfg.Metrics.put.Inc()
	case errors.Is(err, ErrFull):
		return ref, s.refuse(err)
	}
	return ref, err
}

// refuse counts what was not taken for want of room, and has people told once a day.
func (s *Store) refuse(err error) error {
	s.cfg.Metrics.refused.Inc()
	s.cfg.Alarm("documents-full", "put/"+s.cfg.Now().UTC().Format(time.DateOnly), fmt.Sprintf("agent %s takes no documents of its site: %v", s.cfg.Agent, err))
	return err
}

func mediaTypeOf(text string) (string, error) {
	if text == "" {
		text = "application/octet-stream"
	}
	kind, parameters, err := mime.ParseMediaType(text)
	if err == nil {
		text = mime.FormatMediaType(kind, parameters)
	}
	if err != nil || text == "" || len(text) > MaxMediaType || !strings.Contains(kind, "/") {
		return "", fmt.Errorf("%w: a media type such as application/pdf, of at most %d bytes, is expected", ErrInvalid, MaxMediaType)
	}
	return text, nil
}

// room refuses what would go beyond a part of the quota.
func (s *Store) room(size int64, level float64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomLocked(size, level)
}

func (s *Store) roomLocked(size int64, level float64) error {
	if s.cfg.Free != nil {
		if free := s.cfg.Free(); free-size < MinFree {
			return fmt.Errorf("%w: %d bytes of the disk are free, and %d are left for the journal", ErrFull, free, int64(MinFree))
		}
	}
	return s.fitsLocked(size, level)
}

func (s *Store) fitsLocked(size int64, level float64) error {
	if float64(s.bytes+s.fresh+size) < level*float64(s.quota.Load()) {
		return nil
	}
	return fmt.Errorf("%w: %d bytes of the quota of %d are used, this is refused from %.0f %% on; what is older than %s goes by itself, or raise documents.quota",
		ErrFull, s.bytes+s.fresh, s.quota.Load(), level*100, s.retain())
}

// write makes a whole document of r, which must be sum unless that is empty.
func (s *Store) write(ctx context.Context, sum string, h header, r io.Reader, level float64) (ref Reference, err error) {
	f, err := os.CreateTemp(filepath.Join(s.cfg.Dir, freshDir), "*")
	if err != nil {
		return ref, writing(err)
	}
	in := &filling{s: s, ctx: ctx, r: r, level: level}
	defer func() {
		s.mu.Lock()
		in.emptyLocked()
		s.mu.Unlock()
		f.Close()           // closed already unless there is an error to tell
		os.Remove(f.Name()) // likewise renamed
	}()
	digest := sha256.New()
	if _, err := f.Seek(headerSize, io.SeekStart); err != nil {
		return ref, writing(err)
	}
	h.Size, err = io.Copy(io.MultiWriter(f, digest), io.LimitReader(in, MaxDocument+1))
	if err != nil {
		return ref, writing(err)
	}
	if h.Size > MaxDocument {
		return ref, fmt.Errorf("%w: a document has at most %d bytes", ErrTooLarge, MaxDocument)
	}
	got := hex.EncodeToString(digest.Sum(nil))
	if sum != "" && got != sum {
		return ref, fmt.Errorf("%w: its sha256 is %s", ErrDamaged, got)
	}
	h.Stored = s.cfg.Now().UTC()
	text, err := h.encode()
	if err != nil {
		return ref, err
	}
	if _, err := f.WriteAt(text, 0); err != nil {
		return ref, writing(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return ref, writing(err)
	}
	s.cfg.Hook("document-written")
	if s.whole(got) {
		return Reference{SHA256: got, Size: h.Size, Type: h.Type}, nil
	}
	if err := s.name(got, f.Name(), in); err != nil {
		return ref, err
	}
	s.cfg.Hook("document-stored")
	s.cfg.Changed()
	return Reference{SHA256: got, Size: h.Size, Type: h.Type}, nil
}

// whole reports whether a document is here and not damaged, and keeps it so.
func (s *Store) whole(sum string) bool {
	if !s.Has(sum) {
		return false
	}
	d, err := s.Get(sum)
	if err != nil {
		return false
	}
	return d.Close() == nil
}

// name gives a written file its place, durably. The lock is held so that the same document
// is not removed meanwhile.
func (s *Store) name(sum, fresh string, in *filling) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	size, before := in.emptyLocked()+headerSize, int64(0)
	if h := s.held[sum]; h != nil {
		before = h.size
	}
	if err := s.roomLocked(size-before, in.level); err != nil {
		return err
	}
	path := s.path(sum)
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o700); err == nil {
		if err := atomicfile.SyncDir(filepath.Dir(dir)); err != nil {
			return writing(err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return writing(err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return writing(err)
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		return writing(err)
	}
	now := s.cfg.Now()
	s.bytes += size - before
	s.held[sum] = &held{size: size, named: now, noted: now}
	delete(s.wanted, sum)
	s.measureLocked()
	return nil
}

func writing(err error) error {
	if fulldisk.Is(err) {
		return fmt.Errorf("%w: the disk is full: %w", ErrFull, err)
	}
	return fmt.Errorf("documents: %w", err)
}

// filling reads what is written as a document, and ends with its context. What has been read
// counts against the quota, so that many that come at once do not go beyond it together.
type filling struct {
	s     *Store
	ctx   context.Context
	r     io.Reader
	level float64
	size  int64 // guarded by the store's lock, as part of its fresh
}

func (f *filling) Read(p []byte) (int, error) {
	if f.ctx.Err() != nil {
		return 0, context.Cause(f.ctx)
	}
	n, err := f.r.Read(p)
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if err := f.s.fitsLocked(int64(n), f.level); err != nil {
		return 0, err
	}
	f.size += int64(n)
	f.s.fresh += int64(n)
	return n, err
}

// emptyLocked ends the counting, and gives the size.
func (f *filling) emptyLocked() (size int64) {
	size, f.size = f.size, 0
	f.s.fresh -= size
	return size
}

// Document is an open document, found whole. Close it.
type Document struct {
	Reference
	Stored time.Time
	from   string
	file   *os.File
	*io.SectionReader
}

// Close closes the file.
func (d *Document) Close() error { return d.file.Close() }

// Size is that of the document. It stands here since both that are embedded have one.
func (d *Document) Size() int64 { return d.Reference.Size }

// Get opens a document after a look at all of it: ErrUnknown, ErrDamaged. A damaged file is
// set aside, told, and asked for from where it came.
func (s *Store) Get(sum string) (*Document, error) {
	if !valid(sum) {
		return nil, fmt.Errorf("%w: %q is not a sha256 in lower hex", ErrUnknown, sum)
	}
	f, err := os.Open(s.path(sum))
	if errors.Is(err, fs.ErrNotExist) {
		s.lost(sum)
		return nil, fmt.Errorf("%w: %s", ErrUnknown, sum)
	}
	if err != nil {
		return nil, fmt.Errorf("documents: %w", err)
	}
	h, err := check(f, sum)
	if err != nil {
		was, _ := f.Stat() // nil, and it is set aside whatever it is
		f.Close()          // opened for reading, and to be closed before it can be set aside
		if errors.Is(err, ErrDamaged) {
			s.damaged(sum, h.From, was, err)
		}
		return nil, fmt.Errorf("document %s: %w", sum, err)
	}
	return &Document{Reference: Reference{SHA256: sum, Size: h.Size, Type: h.Type}, Stored: h.Stored, from: h.From,
		file: f, SectionReader: io.NewSectionReader(f, headerSize, h.Size)}, nil
}

// lost forgets a document whose file somebody has taken away.
func (s *Store) lost(sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[sum]
	if h == nil {
		return
	}
	if _, err := os.Stat(s.path(sum)); !errors.Is(err, fs.ErrNotExist) {
		return // it has come meanwhile
	}
	s.cfg.Logger.Error("the file of a document is gone", "sha256", sum)
	s.bytes -= h.size
	delete(s.held, sum)
	s.measureLocked()
}

// check reads a whole file. A read that fails is damage too: the disk does not give it back.
func check(f *os.File, sum string) (h header, err error) {
	if h, err = readHeader(f); err != nil {
		return h, err
	}
	digest := sha256.New()
	n, err := io.Copy(digest, f)
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if got := hex.EncodeToString(digest.Sum(nil)); got != sum || n != h.Size {
		return h, fmt.Errorf("%w: its %d bytes have the sha256 %s", ErrDamaged, n, got)
	}
	return h, nil
}

// damaged sets a file aside, so that the document is missing from now on, unless another has
// taken its place since it was opened.
func (s *Store) damaged(sum, from string, was fs.FileInfo, cause error) {
	s.mu.Lock()
	if is, err := os.Stat(s.path(sum)); err == nil && was != nil && !os.SameFile(was, is) {
		s.mu.Unlock()
		return
	}
	if h := s.held[sum]; h != nil {
		aside := filepath.Join(s.cfg.Dir, damagedDir, sum)
		now := s.cfg.Now() // from when on it is kept for people
		if err := errors.Join(os.Rename(s.path(sum), aside), os.Chtimes(aside, now, now)); err != nil {
			s.cfg.Logger.Error("a damaged document cannot be set aside", "sha256", sum, "err", err)
		}
		s.bytes -= h.size
		delete(s.held, sum)
		s.measureLocked()
	}
	s.mu.Unlock()
	s.cfg.Metrics.damaged.Inc()
	s.cfg.Logger.Error("a document is damaged and was set aside", "sha256", sum, "from", from, "err", cause)
	then := "it was put at this site: put it again"
	if from != "" {
		then = "it is asked for from agent " + from + " again"
		s.want(sum, from)
	}
	s.cfg.Alarm("document-damaged", sum, fmt.Sprintf("document %s at agent %s is damaged (%v) and was set aside in %s; %s",
		sum, s.cfg.Agent, cause, filepath.Join(s.cfg.Dir, damagedDir), then))
}
