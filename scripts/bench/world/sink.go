package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/scripts/bench/material"
)

// maxSerial bounds the numbers of one world's events.
const maxSerial = 1 << 20

// maxBody bounds one request, which may carry many events.
const maxBody = 4 << 20

// BatchType is the content type of many events in one request.
const BatchType = "application/cloudevents-batch+json"

// Sink is the system at the end: it answers every event at once, and notes when each came
// for the first time. It stores nothing.
type Sink struct {
	Address string
	server  *http.Server
	arrived []atomic.Int64 // unix ns by serial number
	repeats atomic.Int64
	bytes   atomic.Int64 // of bodies
	away    atomic.Bool

	mu    sync.Mutex // guards what follows
	count int
	last  time.Time     // of the newest first arrival
	grown chan struct{} // closed at the next one, if somebody waits
	fault error         // the first request that was no event
}

// OpenSink listens.
func OpenSink() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{Address: l.Addr().String(), arrived: make([]atomic.Int64, maxSerial)}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.Serve(l) }() // ends with Close
	return s, nil
}

// Leave has the system answer from now on that it is away, and take nothing.
func (s *Sink) Leave() { s.away.Store(true) }

// Close stops listening.
func (s *Sink) Close() { _ = s.server.Close() }

func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(r)
	if s.away.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if err == nil {
		var serials []int
		if serials, err = serialsOf(r.Header.Get("Content-Type"), body); err == nil {
			s.bytes.Add(int64(len(body)))
			err = s.take(serials)
		}
	}
	if err != nil {
		s.mu.Lock()
		s.fault = errors.Join(s.fault, err)
		s.mu.Unlock()
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// readBody reads a request of known length in one piece.
func readBody(r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		return nil, fmt.Errorf("a request of %d bytes; each says how long it is, at most %d", r.ContentLength, maxBody)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

func serialsOf(contentType string, body []byte) ([]int, error) {
	if strings.HasPrefix(contentType, BatchType) {
		return material.Serials(body)
	}
	serial, err := material.Serial(body)
	return []int{serial}, err
}

// take notes events that came together.
func (s *Sink) take(serials []int) error {
	now := time.Now()
	first := 0
	for _, serial := range serials {
		if serial < 0 || serial >= maxSerial {
			return fmt.Errorf("event %d is beyond the limit of %d", serial, maxSerial)
		}
		if s.arrived[serial].CompareAndSwap(0, now.UnixNano()) {
			first++
		}
	}
	s.repeats.Add(int64(len(serials) - first))
	if first == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count += first
	s.last = now
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	return nil
}

// Arrived says when an event came; zero: not yet.
func (s *Sink) Arrived(serial int) (at time.Time, ok bool) {
	ns := s.arrived[serial].Load()
	return time.Unix(0, ns), ns != 0
}

// Count is how many different events came, and when the newest did.
func (s *Sink) Count() (n int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.last
}

// Repeats is how often an event came again.
func (s *Sink) Repeats() int { return int(s.repeats.Load()) }

// Await waits until n different events have come in all, and says when the last of them did.
func (s *Sink) Await(ctx context.Context, n int) (time.Time, error) {
	for {
		s.mu.Lock()
		if s.fault != nil || s.count >= n {
			defer s.mu.Unlock()
			return s.last, s.fault
		}
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown, have := s.grown, s.count
		s.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("the sink has %d of %d events: %w", have, n, context.Cause(ctx))
		}
	}
}
