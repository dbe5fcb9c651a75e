// Package queue owns a durable log of opaque records: a row of bbolt files on one disk,
// appended to at the end, read from anywhere, dropped file by file at the front.
//
// It refuses to know what a record means, who reads it and what a network is. Its
// invariant: what Append acknowledged is on disk under a position that nothing else ever
// gets, and a read gives either exactly those bytes or an error for that position.
package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Limits and defaults.
const (
	DefaultSegmentBytes = 64 << 20
	DefaultQuota        = 10 << 30
	MaxRecordBytes      = 16 << 20
	minSegment          = 256 << 10
	MaxAppendBytes      = 64 << 20
	MaxMarkName         = 1 << 10
	minSegmentBytes     = 16 << 10
	positionJump        = 1 << 20 // positions left unused behind a newest file that was lost
)

// condition is a sentinel error that tells a caller who may not import this package what
// it may do about it, through methods as net.Error does.
type condition struct {
	text        string
	full, fatal bool
}

func (c *condition) Error() string { return c.text }
func (c *condition) Full() bool    { return c.full }  // space is missing; nothing was written, try again later
func (c *condition) Fatal() bool   { return c.fatal } // the state on disk is unknown; end the process

// The conditions that callers tell apart with errors.Is.
var (
	ErrFull   error = &condition{text: "queue is full", full: true}
	ErrFatal  error = &condition{text: "queue cannot be trusted to write any more, restart the agent", fatal: true}
	ErrInUse  error = &condition{text: "data directory is in use by another process"}
	ErrClosed error = &condition{text: "queue is closed"}
	ErrDamage error = &condition{text: "damaged"}
	ErrLimit  error = &condition{text: "beyond the limits of the queue"}
	ErrGone   error = &condition{text: "data directory was removed or replaced by another"}
)

// Config says where a log lives and how large it may become.
type Config struct {
	Dir          string
	SegmentBytes int64 // a file that passed this is closed to appends; at most Quota/8
	Quota        int64
	Logger       *slog.Logger
	Now          func() time.Time // stamps files for Trim
	// OnDamage is told of positions first..last that were lost. Called by Open, not under a lock.
	OnDamage func(first, last uint64, err error)
}

func (c *Config) complete() error {
	if c.Dir == "" {
		return errors.New("queue: Dir is empty; name the data directory")
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = DefaultSegmentBytes
	}
	if c.Quota == 0 {
		c.Quota = DefaultQuota
	}
	// Space comes back file by file, so a small quota needs small files.
	c.SegmentBytes = min(c.SegmentBytes, c.Quota/8)
	if c.SegmentBytes < minSegmentBytes {
		return fmt.Errorf("queue: SegmentBytes %d (at most an eighth of Quota %d) is less than %d", c.SegmentBytes, c.Quota, minSegmentBytes)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Record is one record as read. With Err set it stands for all positions Pos..Last, and
// Data is nil.
type Record struct {
	Pos  uint64
	Last uint64 // == Pos unless Err spans several positions
	Data []byte
	Err  error
}

// Usage is what a log takes and may take, in bytes on disk.
type Usage struct {
	Bytes   int64
	Quota   int64 // the configured one, or less where the disk has less
	Free    int64 // on the disk
	Records uint64
}

// Level is the used part of the quota, 0 to 1 and beyond.
func (u Usage) Level() float64 {
	if u.Quota <= 0 {
		return 1
	}
	return float64(u.Bytes) / float64(u.Quota)
}

// Report describes a log's files.
type Report struct {
	Dir     string            `json:"dir"`
	First   uint64            `json:"first"`
	Next    uint64            `json:"next"`
	Records uint64            `json:"records"`
	Bytes   int64             `json:"bytes"`
	Files   []File            `json:"files"`
	Marks   map[string]uint64 `json:"marks"`
	Cursors map[string]uint64 `json:"cursors"`
}

// File is one file of the row.
type File struct {
	Name    string    `json:"name"`
	First   uint64    `json:"first"`
	Next    uint64    `json:"next"`
	Records uint64    `json:"records"`
	Payload int64     `json:"payload"` // bytes of records
	Size    int64     `json:"size"`    // bytes on disk
	Written time.Time `json:"written"` // last append
	Error   string    `json:"error,omitempty"`
}

// Damage names positions whose record cannot be read.
type Damage struct {
	File  string `json:"file"`
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	Cause string `json:"cause"`
}
