package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/scripts/bench/load"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/peer"
	"github.com/crossdock/crossdock/scripts/bench/report"
)

// The arms.
const (
	ours        = "crossdock"
	rawFile     = "raw file"
	natsAlways  = "nats always"  // fsync before every acknowledgement
	natsDefault = "nats default" // fsync every two minutes
)

// nobody is an address at which nobody listens, where nothing is to be delivered.
const nobody = "127.0.0.1:9"

// callers is one way to call: so many at once, so many events each time.
type callers struct{ clients, batch int }

func (c callers) String() string {
	if c.batch == 1 {
		return fmt.Sprint(c.clients, " clients")
	}
	return fmt.Sprintf("%d clients, batches of %d", c.clients, c.batch)
}

var intakeLoads = []callers{{1, 1}, {16, 1}, {128, 1}, {16, 64}}

// intakeSection compares journals under one handler: HTTP, authentication, validation and
// routing are ours in all arms, and the answer goes out after the fsync.
//
// JetStream is reached as a service would reach it: a server of its own beside the handler,
// one connection, every event published and acknowledged; those of a batch are all under
// way before the first acknowledgement is awaited.
func intakeSection() section {
	return section{Section: report.Section{Name: "intake", Title: "events accepted over HTTP, with validation, routing and fsync before the answer",
		Arms:    []string{ours, rawFile, natsAlways},
		Targets: []report.Target{{Cell: callers{128, 1}.String(), Peer: rawFile, Least: 0.5}}}, measure: measureIntake}
}

func measureIntake(ctx context.Context, r *run) error {
	for i, l := range intakeLoads {
		rate, err := r.intakeRate(ctx, filepath.Join(r.dir, fmt.Sprint(i)), l)
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		r.note(l.String(), "events/s", rate)
	}
	return nil
}

func (r *run) intakeRate(ctx context.Context, dir string, l callers) (rate float64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	journal, stop, err := r.openJournal(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	set, err := material.Policy(filepath.Join(dir, "policy"), nobody)
	if err != nil {
		return 0, err
	}
	service, err := peer.Intake(set, journal, intake.Config{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	server := httptest.NewServer(service.Handler())
	defer server.Close()
	poster := load.NewPoster(strings.TrimPrefix(server.URL, "http://"), r.orders)
	defer poster.Close()
	accepted, took, err := poster.For(ctx, l.clients, l.batch, 0, r.lasts/5)
	return float64(accepted) / took.Seconds(), err
}

// openJournal opens the arm's, and says how to end it.
func (r *run) openJournal(ctx context.Context, dir string) (journal intake.Journal, stop func() error, err error) {
	var s store
	switch r.arm {
	case ours:
		s, err = openAgentStore(ctx, filepath.Join(dir, "journal"))
	case rawFile:
		s, err = openFileStore(filepath.Join(dir, "file"))
	case natsAlways:
		server, err := peer.StartServer(ctx, r.programs, dir, peer.Always)
		if err != nil {
			return nil, nil, err
		}
		j, err := peer.OpenJournal(server.URL())
		if err != nil {
			server.Process.Kill()
			return nil, nil, err
		}
		return j, func() error { defer server.Process.Kill(); return j.Close() }, nil
	default:
		return nil, nil, fmt.Errorf("no arm %q", r.arm)
	}
	if err != nil {
		return nil, nil, err
	}
	return s, s.Close, nil
}
