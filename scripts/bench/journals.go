package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/scripts/bench/material"
)

// store is a journal as intake sees it, that can be closed.
type store interface {
	intake.Journal
	io.Closer
}

// agentStore is our own journal, wired as the agent wires it.
type agentStore struct {
	*journal.Journal
	log  *queue.Log
	stop func()
}

func openAgentStore(ctx context.Context, dir string) (*agentStore, error) {
	log, err := queue.Open(queue.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Config{Log: log, Self: material.ShopSite, Epoch: 1, Clock: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = j.Run(ctx) // a failure shows as an error of Submit
	}()
	return &agentStore{j, log, func() { cancel(); <-ended }}, nil
}

// Close ends the journal before what it writes to.
func (s *agentStore) Close() error {
	s.stop()
	return s.log.Close()
}

// Submit is intake's, in the journal's words.
func (s *agentStore) Submit(ctx context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	receipts, err := s.Journal.Submit(ctx, toJournal(events))
	out := make([]intake.Receipt, len(receipts))
	for i, r := range receipts {
		out[i] = intake.Receipt(r)
	}
	return out, err
}

func toJournal(events []intake.Admitted) []journal.Admitted {
	out := make([]journal.Admitted, len(events))
	for i, e := range events {
		out[i] = journal.Admitted{Event: e.Event, Encoded: e.Data, Key: e.Key, System: e.System, Revision: e.Revision, Targets: e.Targets}
	}
	return out
}

// fileStore is the least that keeps the promise of a 202: one goroutine appends to one file
// what many have brought, calls fsync once for all, and answers.
type fileStore struct {
	file     *os.File
	requests chan fileRequest
	next     uint64
	ended    chan struct{}
}

type fileRequest struct {
	events []intake.Admitted
	done   chan fileAnswer
}

type fileAnswer struct {
	first uint64
	err   error
}

// maxGroup is how many requests one fsync serves at most.
const maxGroup = 4096

func openFileStore(path string) (*fileStore, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s := &fileStore{file: f, requests: make(chan fileRequest, 256), ended: make(chan struct{})}
	go s.run()
	return s, nil
}

// Close ends it, when nobody submits any more.
func (s *fileStore) Close() error {
	close(s.requests)
	<-s.ended
	return s.file.Close()
}

func (s *fileStore) run() {
	defer close(s.ended)
	var text []byte
	for r := range s.requests {
		group := append([]fileRequest(nil), r)
		for more := true; more && len(group) < maxGroup; {
			select {
			case r, ok := <-s.requests:
				if more = ok; ok {
					group = append(group, r)
				}
			default:
				more = false
			}
		}
		text = text[:0]
		for _, r := range group {
			for _, e := range r.events {
				text = append(text, e.Data...)
			}
		}
		_, err := s.file.Write(text)
		if err == nil {
			err = s.file.Sync()
		}
		for _, r := range group {
			r.done <- fileAnswer{s.next, err}
			s.next += uint64(len(r.events))
		}
	}
}

// Submit returns when the events are on disk.
func (s *fileStore) Submit(_ context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	r := fileRequest{events: events, done: make(chan fileAnswer, 1)}
	s.requests <- r
	answer := <-r.done
	out := make([]intake.Receipt, len(events))
	for i := range out {
		out[i].Pos = answer.first + uint64(i)
	}
	return out, answer.err
}
