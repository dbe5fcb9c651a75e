package queue

import "io"

// windowBytes is what is read of a file at once where it is gone over page by page.
const windowBytes = 64 << 10

// window reads a file in large pieces for who asks for small ones, mostly in order. It is
// not safe for concurrent use.
type window struct {
	file io.ReaderAt
	at   int64
	held []byte // from at on
	room []byte
}

// ReadAt is io.ReaderAt's. A piece that cannot be read whole does not keep from what can.
func (w *window) ReadAt(p []byte, off int64) (int, error) {
	if w.holds(p, off) {
		return copy(p, w.held[off-w.at:]), nil
	}
	start := off - off%windowBytes
	if off < 0 || off+int64(len(p)) > start+windowBytes {
		return w.file.ReadAt(p, off)
	}
	if w.room == nil {
		w.room = make([]byte, windowBytes)
	}
	n, err := w.file.ReadAt(w.room, start)
	w.at, w.held = start, w.room[:n]
	if err != nil && !w.holds(p, off) {
		return w.file.ReadAt(p, off)
	}
	return copy(p, w.held[off-w.at:]), nil
}

func (w *window) holds(p []byte, off int64) bool {
	return off >= w.at && off+int64(len(p)) <= w.at+int64(len(w.held))
}
