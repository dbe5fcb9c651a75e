// Package systems is the demo's business: a shop and a warehouse in each region, an ERP and
// a CRM at head office. They are ordinary HTTP applications that know one thing of
// Crossdock: the address and the token with which their site's agent takes CloudEvents.
//
// Each keeps a ledger of what it sent and took. The invariant: a system writes down what it
// does when it does it, and recognises an event that it has acted on by its idempotency key.
package systems

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/crossdock/crossdock/deploy/demo/ledger"
)

// Address says where a system is and how it and its agent know each other.
type Address struct {
	Name         string // such as wms-eu
	Listen       string
	Agent        string // URL of the site's agent
	IntakeToken  string // that the system shows to the agent
	DeliverToken string // that the agent shows to the system
}

// Event is a CloudEvent in the JSON format, as far as these systems need it.
type Event struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        time.Time       `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Data        json.RawMessage `json:"data"`
}

// laterError has an event offered again: what it takes is not to be had now.
type laterError struct{ error }

const (
	maxBody  = 1 << 20
	maxBatch = 100
)

// System is what the four kinds have in common: an endpoint, an outbox and a ledger.
type System struct {
	Address
	log    *slog.Logger
	ledger *ledger.Ledger
	// act does what the system does with an event; it runs under mu, one event at a time.
	act func(Event) (ledger.Entry, error)
	// snapshot gives the system's records of a contract.
	snapshot func(contract string) (any, bool)

	mu     sync.Mutex      // guards what the kinds keep, and seen
	seen   map[string]bool // idempotency keys acted on
	server *http.Server    // nil while the system is down

	outMu  sync.Mutex // guards outbox
	outbox []Event
	more   chan struct{}

	failed chan error    // one slot: why the system cannot go on
	slots  chan struct{} // one for each call to a carrier or a tax engine at a time
}

func newSystem(a Address, l *ledger.Ledger, log *slog.Logger) *System {
	return &System{Address: a, ledger: l, log: log.With("system", a.Name), seen: map[string]bool{}, more: make(chan struct{}, 1),
		failed: make(chan error, 1), slots: make(chan struct{}, callers),
		snapshot: func(string) (any, bool) { return nil, false }}
}

// Start opens the system's port.
func (s *System) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", s.Listen)
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", s.take)
	mux.HandleFunc("GET /snapshot/{contract}", s.serveSnapshot)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s.server = server
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("endpoint ended", "err", err)
		}
	}()
	return nil
}

// Stop closes the system's port: to the agent it is down. Its records stay.
func (s *System) Stop() error {
	s.mu.Lock()
	server := s.server
	s.server = nil
	s.mu.Unlock()
	if server == nil {
		return nil
	}
	return server.Close()
}

func (s *System) authorised(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") == "Bearer "+s.DeliverToken {
		return true
	}
	http.Error(w, "who are you?", http.StatusUnauthorized)
	return false
}

// take acts on one delivery.
func (s *System) take(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(w, r) {
		return
	}
	var e Event
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&e); err != nil || e.ID == "" {
		http.Error(w, "a CloudEvent is expected", http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		key = e.Source + " " + e.ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[key] {
		s.write(ledger.Entry{Act: ledger.Repeat, ID: e.ID, Source: e.Source, Type: e.Type})
		w.WriteHeader(http.StatusOK)
		return
	}
	entry, err := s.act(e)
	var again *laterError
	if errors.As(err, &again) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.seen[key] = true
	entry.Act, entry.ID, entry.Source, entry.Type = ledger.Taken, e.ID, e.Source, e.Type
	s.write(entry)
	w.WriteHeader(http.StatusAccepted)
}

func (s *System) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(w, r) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	records, ok := s.snapshot(r.PathValue("contract"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(records) // the client is gone if this fails
}

func (s *System) write(e ledger.Entry) {
	e.At = time.Now().UTC()
	if err := s.ledger.Write(e); err != nil {
		s.log.Error("the ledger cannot be written", "err", err)
	}
}

// send writes an event down as sent, and has it delivered to the agent.
func (s *System) send(e Event, entry ledger.Entry) {
	e.SpecVersion, e.ContentType, e.Source = "1.0", "application/json", "/"+s.Name
	entry.Act, entry.ID, entry.Source, entry.Type = ledger.Sent, e.ID, e.Source, e.Type
	s.outMu.Lock()
	s.write(entry)
	s.outbox = append(s.outbox, e)
	s.outMu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// Waiting is how many events the agent has not taken yet.
func (s *System) Waiting() int {
	s.outMu.Lock()
	defer s.outMu.Unlock()
	return len(s.outbox)
}

// Run hands the outbox to the agent, in order, until ctx ends. An event leaves the outbox
// when the agent has answered for it.
func (s *System) Run(ctx context.Context) error {
	for {
		s.outMu.Lock()
		batch := append([]Event(nil), s.outbox[:min(len(s.outbox), maxBatch)]...)
		s.outMu.Unlock()
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case err := <-s.failed:
				return err
			case <-s.more:
			}
			continue
		}
		retry := backoff.WithContext(backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond),
			backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0)), ctx)
		if err := backoff.Retry(func() error { return s.post(ctx, batch) }, retry); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		s.outMu.Lock()
		s.outbox = s.outbox[len(batch):]
		s.outMu.Unlock()
	}
}

func (s *System) post(ctx context.Context, batch []Event) error {
	body, err := json.Marshal(batch)
	if err != nil {
		return backoff.Permanent(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Agent+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return backoff.Permanent(err)
	}
	request.Header.Set("Content-Type", "application/cloudevents-batch+json")
	request.Header.Set("Authorization", "Bearer "+s.IntakeToken)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxBody)) // only for the error below
	switch {
	case answer.StatusCode == http.StatusAccepted:
		return nil
	case answer.StatusCode == http.StatusTooManyRequests, answer.StatusCode >= 500:
		return fmt.Errorf("the agent answers %s", answer.Status)
	}
	return backoff.Permanent(fmt.Errorf("the agent refuses a batch of %d from %s: %s %s", len(batch), batch[0].ID, answer.Status, text))
}
