package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/crossdock/crossdock/agent/documents"
	"github.com/crossdock/crossdock/agent/intake"
	"github.com/crossdock/crossdock/agent/journal"
	"github.com/crossdock/crossdock/protocol/block"
	"github.com/crossdock/crossdock/protocol/event"
)

const (
	// documentsDir holds documents, in the data directory.
	documentsDir = "documents"
	// documentsCursor is up to where in the journal what came for documents is stored.
	documentsCursor = "documents/received"
	// documentsPage is how many internal events are read at once.
	documentsPage = 64
)

func (a *Agent) openDocuments() (err error) {
	a.documents, err = documents.Open(documents.Config{
		Dir: filepath.Join(a.cfg.Data, documentsDir), Agent: a.identity.Agent, Quota: int64(a.cfg.Documents.Quota), Retain: a.cfg.Documents.Retain,
		Lanes: internalLanes{a.journal}, Source: internalSource{a.journal},
		Cursor: a.queue.Cursor(documentsCursor), Save: func(cursor uint64) { a.queue.SaveCursor(documentsCursor, cursor) },
		Position: a.journal.Next, Needed: a.eventsNeeded, Waiting: func(fn func([]byte)) error { return a.delivery.Waiting(fn) },
		Free:    func() int64 { return a.queue.Usage().Free },
		Changed: func() { a.delivery.Arrived() }, Alarm: a.alarms.raise, Logger: a.log, Metrics: documents.NewMetrics(a.registry),
		Tuning: a.cfg.Tuning.Documents, Hook: a.cfg.Hook,
	})
	return err
}

// eventsNeeded is the lowest position that is still to be taken by the relay, or to be read
// for a system.
func (a *Agent) eventsNeeded() (uint64, error) {
	needed, err := a.outbox.needed()
	return min(needed, a.delivery.MinCursor()), err
}

// lacking says which documents of an event are not here.
func (a *Agent) lacking(e *event.Event, from string) string {
	value := e.Extensions[documents.Attribute]
	if value == "" {
		return ""
	}
	return a.documents.Lacking(value, from)
}

// internalLanes puts what documents send into the journal.
type internalLanes struct{ journal *journal.Journal }

var _ documents.Lanes = internalLanes{}

func (l internalLanes) Send(ctx context.Context, events []documents.Outgoing) error {
	in := make([]journal.Admitted, len(events))
	for i, e := range events {
		in[i] = journal.Admitted{Event: e.Event}
		for _, agent := range e.To {
			in[i].Targets = append(in[i].Targets, block.Target{Agent: agent})
		}
	}
	receipts, err := l.journal.Submit(ctx, in)
	if err != nil {
		return err
	}
	for _, r := range receipts {
		err = errors.Join(err, r.Err)
	}
	return err
}

// internalSource gives documents what came for them.
type internalSource struct{ journal *journal.Journal }

var _ documents.Source = internalSource{}

func (s internalSource) Read(from uint64) ([]documents.Arrived, uint64, error) {
	items, next, err := s.journal.ReadInternal(from, documentsPage)
	out := make([]documents.Arrived, len(items))
	for i, item := range items {
		out[i] = documents.Arrived{Pos: item.Pos, From: item.Source, Event: item.Event}
	}
	return out, next, err
}

func (s internalSource) Wait(ctx context.Context, pos uint64) error {
	return s.journal.Wait(ctx, pos)
}

// carry sends the documents that events name ahead of them, to where the events go.
func (s submitter) carry(ctx context.Context, events []intake.Admitted) error {
	for _, e := range events {
		value := e.Event.Extensions[documents.Attribute]
		if value == "" || s.documents == nil || e.RepeatOnly {
			continue
		}
		var to []string
		for _, t := range e.Targets {
			if t.Agent != s.agent && !slices.Contains(to, t.Agent) {
				to = append(to, t.Agent)
			}
		}
		if err := s.documents.Send(ctx, value, to); err != nil {
			return fmt.Errorf("the documents of event %s: %w", e.Event.ID, err)
		}
	}
	return nil
}

// shelf lets the site's systems put and get documents.
type shelf struct{ store *documents.Store }

var _ intake.Documents = shelf{}

func (s shelf) Put(ctx context.Context, mediaType string, content io.Reader) (intake.Reference, error) {
	ref, err := s.store.Put(ctx, mediaType, content)
	return intake.Reference(ref), intakeDocumentError(err)
}

func (s shelf) Get(sum string) (*intake.Document, error) {
	d, err := s.store.Get(sum)
	if err != nil {
		return nil, intakeDocumentError(err)
	}
	return &intake.Document{Reference: intake.Reference(d.Reference), Stored: d.Stored, Content: d, Close: d.Close}, nil
}

func (s shelf) Named(value string) error {
	names, err := documents.Names(value)
	if err != nil {
		return intakeDocumentError(err)
	}
	for _, sum := range names {
		if !s.store.Has(sum) {
			return fmt.Errorf("%w: %s", intake.ErrNoDocument, sum)
		}
	}
	return nil
}

func intakeDocumentError(err error) error {
	for of, as := range map[error]error{documents.ErrUnknown: intake.ErrNoDocument, documents.ErrDamaged: intake.ErrDocumentDamaged,
		documents.ErrFull: intake.ErrDocumentsFull, documents.ErrTooLarge: intake.ErrDocumentLarge, documents.ErrInvalid: intake.ErrDocument} {
		if errors.Is(err, of) {
			return fmt.Errorf("%w: %w", as, err)
		}
	}
	return err
}

// DocumentsReport is what the documents command shows.
type DocumentsReport struct {
	documents.Status
	OnTheirWay []DocumentOnItsWay `json:"onTheirWay"`
	Documents  []documents.Listed `json:"documents"` // those that were named last
}

// DocumentOnItsWay is a document of which the relay has not taken all.
type DocumentOnItsWay struct {
	SHA256 string    `json:"sha256"`
	To     []string  `json:"to"`
	Since  time.Time `json:"since"`
}

// documentsReport looks at what is in the journal for other agents, for it is only asked by people.
func (a *Agent) documentsReport(ctx context.Context) (DocumentsReport, error) {
	out := DocumentsReport{Status: a.documents.Status(), OnTheirWay: []DocumentOnItsWay{}, Documents: a.documents.List()}
	needed, err := a.outbox.needed()
	if err != nil {
		return out, err
	}
	at := map[string]int{}
	err = a.journal.ScanInternal(ctx, needed, func(item journal.ScanItem) {
		to, sum := a.outbox.waits(item.Numbers), documents.SumOf(item.Event)
		if len(to) == 0 || sum == "" {
			return
		}
		i, ok := at[sum]
		if !ok {
			i = len(out.OnTheirWay)
			at[sum] = i
			out.OnTheirWay = append(out.OnTheirWay, DocumentOnItsWay{SHA256: sum, Since: item.Received})
		}
		for _, agent := range to {
			if !slices.Contains(out.OnTheirWay[i].To, agent) {
				out.OnTheirWay[i].To = append(out.OnTheirWay[i].To, agent)
			}
		}
	})
	return out, err
}
