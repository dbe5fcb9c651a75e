// Command bench measures the durable path side by side with the least that could do the
// same: the same HTTP handler, the same validation and routing, over one file to which a
// goroutine appends what has come and calls fsync once for all.
//
// Rounds alternate between the two, so that both see the same machine; it prints medians
// and their ratio. It asserts nothing: speed is for people to judge.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/agent/queue"
	"github.com/crossdock/crossdock/agent/routing"
	"github.com/crossdock/crossdock/deploy/demo/northwind"
	demo "github.com/crossdock/crossdock/deploy/demo/policy"
	"github.com/crossdock/crossdock/protocol/policy"
)

func main() {
	rounds := flag.Int("rounds", 5, "rounds of each arm")
	lasts := flag.Duration("lasts", time.Second, "of one measurement")
	flag.Parse()
	if err := run(os.Stdout, *rounds, *lasts); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// load is one way to call: so many clients, so many events a request.
type load struct{ clients, batch int }

func run(out io.Writer, rounds int, lasts time.Duration) error {
	set, bodies, err := material()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "crossdock-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	arms := map[string]func(dir string) (intake.Journal, error){
		"journal": func(dir string) (intake.Journal, error) { return openJournal(ctx, dir) },
		"file":    func(dir string) (intake.Journal, error) { return openFile(ctx, dir) },
	}
	fmt.Fprintf(out, "intake over HTTP with validation, routing and fsync before the answer; events/s, median of %d rounds\n", rounds)
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "clients\tevents a request\tagent\tsame handler over a raw file\tratio\t")
	for _, l := range []load{{1, 1}, {16, 1}, {128, 1}, {16, 64}} {
		rates := map[string][]float64{}
		for round := range rounds {
			for _, name := range []string{"journal", "file"} {
				rate, err := measure(set, bodies, l, lasts, func() (intake.Journal, error) {
					return arms[name](filepath.Join(dir, fmt.Sprintf("%s-%d-%d-%d", name, l.clients, l.batch, round)))
				})
				if err != nil {
					return err
				}
				rates[name] = append(rates[name], rate)
			}
		}
		ours, raw := median(rates["journal"]), median(rates["file"])
		fmt.Fprintf(t, "%d\t%d\t%.0f\t%.0f\t%.2f\t\n", l.clients, l.batch, ours, raw, ours/raw)
	}
	return t.Flush()
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// material is the demo's policy and its orders as event bodies with a place for the id.
func material() (*policy.Set, [][]byte, error) {
	company, err := northwind.Load()
	if err != nil {
		return nil, nil, err
	}
	var bodies [][]byte
	for i := range company.Orders {
		bodies = append(bodies, northwind.JSON(company.Orders[i].Captured()))
	}
	files, err := fs.Sub(demo.Files, ".")
	if err != nil {
		return nil, nil, err
	}
	bundle, err := policy.ReadBundle(files)
	if err != nil {
		return nil, nil, err
	}
	set, problems := policy.Compile(bundle)
	if set == nil {
		return nil, nil, problems
	}
	shop := set.Systems["shop-eu"]
	shop.Intake.Rate, shop.Intake.Burst = 1e9, 1e9 // the rate limit is not what is measured
	return set, bodies, nil
}

type fixed struct{ set *policy.Set }

func (f fixed) Policy() *policy.Set                { return f.set }
func (f fixed) Resolve(ref string) ([]byte, error) { return []byte(ref), nil } // a token is its own reference

func measure(set *policy.Set, bodies [][]byte, l load, lasts time.Duration, open func() (intake.Journal, error)) (float64, error) {
	store, err := open()
	if err != nil {
		return 0, err
	}
	if c, ok := store.(io.Closer); ok {
		defer c.Close()
	}
	p := fixed{set}
	service, err := intake.New(intake.Config{Site: "eu"}, intake.Parts{Policy: p, Journal: store, Secrets: p, Logger: slog.New(slog.DiscardHandler),
		NewRouter: func(set *policy.Set) intake.Router { return routing.New(set, "eu") }})
	if err != nil {
		return 0, err
	}
	server := httptest.NewServer(service.Handler())
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: l.clients}}
	var serial, done atomic.Uint64
	var failed atomic.Value
	begun := time.Now()
	var group sync.WaitGroup
	for range l.clients {
		group.Go(func() {
			for time.Since(begun) < lasts && failed.Load() == nil {
				if err := post(client, server.URL, bodies, &serial, l.batch); err != nil {
					failed.Store(err)
					return
				}
				done.Add(uint64(l.batch))
			}
		})
	}
	group.Wait()
	if err, ok := failed.Load().(error); ok {
		return 0, err
	}
	return float64(done.Load()) / time.Since(begun).Seconds(), nil
}

func post(client *http.Client, url string, bodies [][]byte, serial *atomic.Uint64, batch int) error {
	var body bytes.Buffer
	for i := range batch {
		n := serial.Add(1)
		body.WriteByte("[,"[min(i, 1)])
		fmt.Fprintf(&body, `{"specversion":"1.0","id":"%d","source":"/shop-eu","type":"order.captured.v1","datacontenttype":"application/json","data":%s}`, n, bodies[n%uint64(len(bodies))])
	}
	body.WriteByte(']')
	request, err := http.NewRequest(http.MethodPost, url+"/v1/events", &body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/cloudevents-batch+json")
	request.Header.Set("Authorization", "Bearer file:shop-eu.token")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", answer.Status, text)
	}
	return err
}

// agentStore is intake's journal as the agent has it.
type agentStore struct {
	*journal.Journal
	log *queue.Log
}

func openJournal(ctx context.Context, dir string) (intake.Journal, error) {
	log, err := queue.Open(queue.Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Config{Log: log, Self: "eu", Epoch: 1, Clock: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	go func() { _ = j.Run(ctx) }() // a failure shows as an error of Submit
	return &agentStore{j, log}, nil
}

func (s *agentStore) Close() error { return s.log.Close() }

func (s *agentStore) Submit(ctx context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	in := make([]journal.Admitted, len(events))
	for i, e := range events {
		in[i] = journal.Admitted{Event: e.Event, Encoded: e.Data, Key: e.Key, System: e.System, Revision: e.Revision, Targets: e.Targets}
	}
	receipts, err := s.Journal.Submit(ctx, in)
	out := make([]intake.Receipt, len(receipts))
	for i, r := range receipts {
		out[i] = intake.Receipt(r)
	}
	return out, err
}

// fileStore is the least that keeps the promise of a 202: append, fsync, answer.
type fileStore struct {
	file     *os.File
	requests chan fileRequest
	next     uint64
}

type fileRequest struct {
	events []intake.Admitted
	done   chan uint64
}

func openFile(ctx context.Context, dir string) (intake.Journal, error) {
	f, err := os.Create(dir)
	if err != nil {
		return nil, err
	}
	s := &fileStore{file: f, requests: make(chan fileRequest, 256)}
	go s.run(ctx)
	return s, nil
}

func (s *fileStore) Close() error { return s.file.Close() }

func (s *fileStore) run(ctx context.Context) {
	for {
		var group []fileRequest
		select {
		case r := <-s.requests:
			group = append(group, r)
		case <-ctx.Done():
			return
		}
		for more := true; more && len(group) < 4096; {
			select {
			case r := <-s.requests:
				group = append(group, r)
			default:
				more = false
			}
		}
		var text []byte
		for _, r := range group {
			for _, e := range r.events {
				text = append(text, e.Data...)
			}
		}
		if _, err := s.file.Write(text); err != nil {
			panic(err) // a measurement without the write is none
		}
		if err := s.file.Sync(); err != nil {
			panic(err)
		}
		for _, r := range group {
			r.done <- s.next
			s.next += uint64(len(r.events))
		}
	}
}

func (s *fileStore) Submit(_ context.Context, events []intake.Admitted) ([]intake.Receipt, error) {
	r := fileRequest{events: events, done: make(chan uint64, 1)}
	s.requests <- r
	first := <-r.done
	out := make([]intake.Receipt, len(events))
	for i := range out {
		out[i].Pos = first + uint64(i)
	}
	return out, nil
}
