package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
	"github.com/crossdock/crossdock/scripts/bench/material"
	"github.com/crossdock/crossdock/scripts/bench/report"
)

// queueLoads with how many events each takes: about a second's worth.
var queueLoads = []struct {
	callers
	events int
}{{callers{1, 1}, 3_000}, {callers{16, 1}, 20_000}, {callers{128, 1}, 50_000}, {callers{16, 64}, 100_000}}

// queueSection is the journal alone: events that were decoded, validated and routed before.
func queueSection() section {
	s := &queueBench{}
	return section{Section: report.Section{Name: "queue", Title: "events appended with fsync, made ready before",
		Arms: []string{ours, rawFile}}, measure: s.measure}
}

type queueBench struct{ ready []intake.Admitted } // made once; every journal is new, so none is a repeat

func (q *queueBench) measure(ctx context.Context, r *run) error {
	if q.ready == nil {
		q.ready = admitted(r.orders, queueLoads[len(queueLoads)-1].events)
	}
	for i, l := range queueLoads {
		rate, err := q.rate(ctx, r, filepath.Join(r.dir, fmt.Sprint(i)), l.callers, q.ready[:l.events])
		if err != nil {
			return fmt.Errorf("%s: %w", l, err)
		}
		r.note(l.String(), "events/s", rate)
	}
	return nil
}

func (q *queueBench) rate(ctx context.Context, r *run, dir string, l callers, events []intake.Admitted) (rate float64, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, err
	}
	journal, stop, err := r.openJournal(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var group sync.WaitGroup
	begun := time.Now()
	for range l.clients {
		group.Go(func() {
			for ctx.Err() == nil {
				to := int(next.Add(int64(l.batch)))
				from := to - l.batch
				if from >= len(events) {
					return
				}
				receipts, err := journal.Submit(ctx, events[from:min(to, len(events))])
				if err == nil && (receipts[0].Err != nil || receipts[0].Repeat) {
					err = fmt.Errorf("event %d was not taken as new: %+v", from, receipts[0])
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	group.Wait()
	return float64(len(events)) / time.Since(begun).Seconds(), context.Cause(ctx)
}

// admitted makes events as intake hands them to a journal.
func admitted(orders *material.Orders, n int) []intake.Admitted {
	out := make([]intake.Admitted, n)
	for i := range out {
		text := orders.Append(nil, i)
		id := fmt.Sprintf("evt-%09d", i)
		out[i] = intake.Admitted{
			Event: &event.Event{ID: id, Source: "/shop", Type: material.Type, DataContentType: event.JSONType, Data: text[strings.Index(string(text), `"data":`)+len(`"data":`) : len(text)-1]},
			Key:   fmt.Sprintf("O-%09d", i), System: material.Shop, Contract: "order.captured", Revision: block.Revision{Generation: 1, Number: 1},
			Targets: []block.Target{{Agent: material.ERPSite, System: material.ERP, Route: "orders-to-erp"}}, Data: text,
		}
	}
	return out
}
