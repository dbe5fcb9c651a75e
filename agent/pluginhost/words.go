package pluginhost

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/time/rate"
)

// Limits of what is listened to.
const (
	maxLine    = 1 << 10 // bytes; what is longer is cut
	lastLines  = 40      // that are kept for an exception
	lineRate   = 20      // that are logged, each second
	lineBurst  = 200
	outputRate = 4 << 20 // bytes that are read each second; the plugin waits for the rest to be taken
	outputPart = 256 << 10
)

// words are what a plugin writes. They are logged as one attribute, whatever they look like:
// nobody can know who wrote them, or why.
type words struct {
	log     *slog.Logger
	dropped func()

	mu    sync.Mutex
	lines *rate.Limiter
	last  []string // the newest at the end
	lost  int      // lines since the last that was logged
}

func newWords(log *slog.Logger, dropped func()) *words {
	return &words{log: log, dropped: dropped, lines: rate.NewLimiter(lineRate, lineBurst)}
}

// tail gives the last lines.
func (w *words) tail() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]string, len(w.last))
	for i, line := range w.last {
		out[i] = shown(line)
	}
	return out
}

func (w *words) say(stream, line string) {
	if len(w.last) == lastLines {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, line)
	if !w.lines.Allow() {
		w.lost++
		w.dropped()
		return
	}
	if w.lost > 0 {
		w.log.Warn("lines of a plugin were dropped: it writes more than is logged", "lines", w.lost)
		w.lost = 0
	}
	w.log.Info("a plugin says", "stream", stream, "words", shown(line))
}

// shown makes text fit to be shown.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

// bounded makes text of a plugin fit for an error.
func bounded(text string) string {
	text = shown(text)
	if len(text) > maxLine {
		text = strings.ToValidUTF8(text[:maxLine], "") + " ..."
	}
	return text
}

// stream is one of a plugin's outputs.
type stream struct {
	words *words
	name  string
	ctx   context.Context // of the process: nobody waits for the output of one that is gone
	flow  *rate.Limiter   // of all outputs of the process

	mu   sync.Mutex
	line []byte
	long bool // line is cut
}

func (s *stream) Write(b []byte) (int, error) {
	for part := range slices.Chunk(b, outputPart) {
		_ = s.flow.WaitN(s.ctx, len(part)) // it is taken at once when the process is gone
		s.take(part)
	}
	return len(b), nil
}

func (s *stream) take(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(b) > 0 {
		end := bytes.IndexByte(b, '\n')
		text := b
		if end >= 0 {
			text, b = b[:end], b[end+1:]
		} else {
			b = nil
		}
		room := maxLine - len(s.line)
		s.long = s.long || len(text) > room
		s.line = append(s.line, text[:min(room, len(text))]...)
		if end >= 0 {
			s.flush()
		}
	}
}

// flush passes on what is there of a line.
func (s *stream) flush() {
	line := strings.TrimRight(string(s.line), "\r")
	if s.long {
		line += " ..."
	}
	s.line, s.long = s.line[:0], false
	if line == "" {
		return
	}
	s.words.mu.Lock()
	defer s.words.mu.Unlock()
	s.words.say(s.name, line)
}

// close passes on a last line that was not ended.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}
